"""--json: valid JSON alone on stdout, for every command that prints a table."""

import csv
import json
import math
from pathlib import Path

import pytest
from helpers.toy import draw_image
from typer.testing import CliRunner

from t2v_eval.cli import console
from t2v_eval.cli.main import app
from t2v_eval.registry import benchmarks, models


def call(*arguments, code=0):
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == code, done.output
    return done


def json_of(*arguments, code=0, plain=True):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(
        call(*arguments, *["--json"] * plain, code=code).stdout, parse_constant=refuse
    )


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a.png"
    draw_image(0).resize((48, 48)).save(path)
    return path


def test_score(image, tmp_path):
    store = ("--store", tmp_path / "s.sqlite")
    (tmp_path / "bad.png").write_text("x")
    common = ("score", "-m", "tiny-clip", "-t", "one", *store, "--on-error", "skip")
    first, second = json_of(*common, image, tmp_path / "bad.png")
    (row,) = csv.DictReader(call(*common, image).stdout.splitlines())
    assert first["score"] == float(row["score"]) and first["error"] is None
    assert second["score"] is None and "bad.png" in second["error"]
    assert json_of(*common, image, "--out", tmp_path / "t.csv") == [first]
    (stats, *_) = [s for s in json_of("store", "stats", *store) if s["scores"]]
    assert (stats["scores"], stats["failed"]) == (2, 1) and "tiny-clip" in stats["scorer"]
    assert {row["text"] for row in json_of("store", "export", *store)} == {"one"}
    assert json_of("store", "prune", "tiny-clip", *store)["deleted"] > 0


def test_eval_prints_what_the_report_holds(tmp_path):
    few = ("-b", "scenes", "--benchmark-option", "n=4", "--resamples", 5, "--no-store")
    printed = json_of("compare", "-m", "tiny-clip", "-m", "tiny-negclip", *few, "--out", tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(printed) <= set(report) and len(printed["runs"]) == 2
    for mine, theirs in zip(printed["runs"], report["runs"], strict=True):
        assert mine["metrics"] == theirs["metrics"] and mine["benchmark"] == theirs["benchmark"]


def test_list_of_each_kind_and_of_one_name():
    for what, registry in (("models", models), ("benchmarks", benchmarks)):
        names = {entry["name"] for entry in json_of("list", what)}
        assert {name for name in names if "*" not in name} == set(registry.cards)
        assert any(name.startswith("*.") for name in names), "files of one's own"
    assert json_of("list", "templates", "vqascore")[0]["question"]
    card = json_of("list", "models", "tiny-clip")
    assert card["name"] == "tiny-clip" and card["kind"] == "clip"
    assert json_of("list", "models", "no-such-*") == []


def test_pages_over_reports_and_exports(tmp_path):
    few = ("-b", "scenes", "--benchmark-option", "n=4", "--resamples", 5, "--no-store")
    json_of("eval", "-m", "tiny-clip", *few, "--out", tmp_path / "r")
    page = tmp_path / "index.html"
    index = json_of("reports", "index", tmp_path, "--out", page)
    assert index == {"reports": 1, "left_out": [], "page": str(page)} and page.is_file()
    exported = json_of("report", "export", tmp_path / "r", "--to", "eee", "--out", tmp_path / "e")
    (file,) = exported["files"]
    assert json.loads(Path(file).read_text())
    gate = json_of("gate", tmp_path / "r", "--window", "0:1", "--json", "-", plain=False)
    assert gate["passed"] and not Path("-").exists()


def test_data_caption_and_agree(image, tmp_path):
    assert json_of("data", "scenes")["found"].startswith("600 items")
    assert json_of("data", "winoground", "--root", tmp_path / "none", code=2)["found"] is None
    (tmp_path / "folder").mkdir()
    image.rename(tmp_path / "folder" / "a.png")
    (tmp_path / "c.json").write_text('{"a": "a red square"}')
    captions = json_of(
        "caption", tmp_path / "c.json", tmp_path / "folder", "-m", "tiny-clip", "--no-store"
    )
    assert captions["means"]["tiny-clip"] == captions["scores"]["a"]["tiny-clip"]
    (tmp_path / "t.csv").write_text("h,s\n1,1\n2,1\n3,1\n")
    agreement = json_of("agree", tmp_path / "t.csv", "--human", "h", "--scores", "s")
    assert agreement["scores"]["s"]["all"]["pearson"]["value"] is None, "no spread, so undefined"


def test_a_dry_run(image, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    name = "gpt-4o"
    common = ("-m", name, "--dry-run", "--no-store")
    (row,) = json_of("score", image, "-t", "x", *common)
    assert row["model"] == name and row["requests"] >= 1
    (row,) = json_of("eval", "-b", "scenes", "--benchmark-option", "n=2", *common)
    assert row["benchmark"] == "scenes" and row["cells"] == 8


def test_odd_numbers_and_texts_stay_json(capsys):
    console.print_json({"a": [math.nan, (math.inf, 1.5)], "b": "\x1b[2J\u202e\udce9é"})
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\u202e" not in out and "é" in out
    assert json.loads(out) == {"a": [None, [None, 1.5]], "b": "\x1b[2J\u202e\udce9é"}
