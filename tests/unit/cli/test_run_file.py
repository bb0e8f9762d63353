"""`t2v-eval run`: options in a TOML file, and the command of a report again."""

import json
from pathlib import Path

import pytest
from helpers.toy import draw_image
from typer.testing import CliRunner

from t2v_eval.cli.main import app

CONFIG = """
model = ["tiny-clip", "tiny-negclip"]
benchmark = "scenes"
resamples = 5
no-store = true
limit = 3
out = "report"
[benchmark-option]
n = 8
"""


def call(*arguments, code=0):
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == code, done.output
    return done


def test_a_file_is_the_command_with_these_options(tmp_path):
    (tmp_path / "deep").mkdir()
    config = tmp_path / "deep" / "c.toml"
    config.write_text(CONFIG)
    call("run", config)
    report = json.loads((tmp_path / "deep" / "report" / "report.json").read_text())
    assert [run["scorer"]["name"] for run in report["runs"]] == ["tiny-clip", "tiny-negclip"]
    assert report["runs"][0]["benchmark"]["items"] == 3
    assert report["command"][0] == "eval" and "--resamples" in report["command"]
    call("run", config, "--out", tmp_path / "other", "-q")
    again = json.loads((tmp_path / "other" / "report.json").read_text())
    assert [run["metrics"] for run in again["runs"]] == [run["metrics"] for run in report["runs"]]


def test_a_report_is_repeated_and_not_overwritten(tmp_path):
    out, few = tmp_path / "out", ("--benchmark-option", "n=4", "--resamples", 5, "--no-store")
    call("eval", "-m", "tiny-clip", "-b", "scenes", *few, "--seed", 2, "--out", out)
    report = (out / "report.json").read_text()
    call("run", out / "report.json")
    assert (out / "report.json").read_text() == report
    call("run", out / "report.json", "--out", tmp_path / "again")
    first, second = (
        json.loads(text) for text in (report, (tmp_path / "again" / "report.json").read_text())
    )
    assert [run["metrics"] for run in second["runs"]] == [run["metrics"] for run in first["runs"]]
    assert second["runs"][0]["benchmark"]["seed"] == 2


def test_paths_and_columns_start_at_the_file(tmp_path, monkeypatch):
    draw_image(0).resize((48, 48)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("file,caption,one,two\na.png,x,1,2\n")
    (tmp_path / "c.toml").write_text(
        'model = "tiny-clip"\nbenchmark = "t.csv"\nno-store = true\nresamples = 5\n'
        '[column]\nimage = "file"\ntext = "caption"\nhuman = ["one", "two"]\n'
    )
    (tmp_path / "s.toml").write_text(
        'command = "score"\nmodel = "tiny-clip"\nimages = ["*.png"]\ntext = "x"\nno-store = true\n'
        'out = "scores.csv"\n'
    )
    monkeypatch.chdir("/")
    assert "1 items" in call("run", tmp_path / "c.toml").stdout
    call("run", tmp_path / "s.toml")
    assert "a.png" in (tmp_path / "scores.csv").read_text()


@pytest.mark.parametrize("images", [["b.png", "b.png", "a.png"], ["[b]*", "[b]*", "[a]*"]])
def test_images_to_compare_start_at_the_file(tmp_path, monkeypatch, images):
    for name in ("a.png", "b.png"):
        draw_image(0).save(tmp_path / name)
    source, second, first = images

    def error_with(image_a):
        lines = [f'source = "{source}"', f'image-b = "{second}"', f'image-a = "{image_a}"']
        head = 'command = "prefer"\ntext = "x"\nmodel = "tiny-clip"\n'
        (tmp_path / "p.toml").write_text(head + "\n".join(lines))
        return call("run", tmp_path / "p.toml", code=2).stderr

    monkeypatch.chdir("/")
    assert "compares no pairs" in error_with(first), "the files are found, then it is refused"
    assert f"error: {tmp_path / 'gone.png'}" in error_with("gone.png"), "not image_b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle = 'tiny-clip'", "no key of eval called 'modle'. Did you mean 'model'"),
        ("command = 'evall'", "no command called 'evall'. Did you mean 'eval'"),
        ("command = 'run'", "no command called 'run'"),
        ("model = 'tiny-clip'", "Missing option '--benchmark'"),
        ("model = 'tiny-clip'\nbenchmark = 'scenes'\nseed = [1, 2]", "seed is a list of 2"),
        ("model = 'tiny-clip'\nbenchmark = 'scenes'\nno-store = 'yes'", "write true or false"),
        ("model = 'tiny-clip'\nbenchmark = 'scenes'\nseed = true", "it takes a value"),
        ("model = 'tiny-clip'\nbenchmark = 'scenes'\nseed = -1", "--seed -1"),
        ("model = ", "c.toml"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, text, message):
    (tmp_path / "c.toml").write_text(text)
    done = call("run", tmp_path / "c.toml", code=2)
    assert message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_a_report_without_a_command_and_one_with_a_secret(tmp_path):
    call("run", tmp_path / "no.toml", code=2)
    report = {"schema_version": 2, "runs": [], "differences": []}
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    assert "made in Python" in call("run", path, code=2).stderr
    path.write_text(json.dumps({**report, "command": ["eval", "--root", "https://***@x"]}))
    assert "no report holds" in call("run", path, code=2).stderr


def test_a_folder_is_its_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call("run", tmp_path, code=2)
    assert "a folder without report.json" in done.stderr
    few = ("-b", "scenes", "--benchmark-option", "n=4", "--resamples", 5, "--no-store")
    call("eval", "-m", "tiny-clip", *few, "--out", "r")
    call("run", "r", "--out", "again")
    first, second = (json.loads(Path(f, "report.json").read_text()) for f in ("r", "again"))
    assert first["runs"][0]["metrics"] == second["runs"][0]["metrics"]
