"""Files of benchmarks: what is needed, what is there, and archives that must not be trusted."""

import shutil
import stat
import zipfile

import pytest
from published_layouts import seetrue
from typer.testing import CliRunner

from t2v_eval import data
from t2v_eval.cli import app
from t2v_eval.errors import BenchmarkDataError, OutputError
from t2v_eval.registry import benchmarks


def call(*arguments, code=0):
    result = CliRunner().invoke(app, ["data", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def archive(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


def test_it_says_what_is_needed_and_touches_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = call("winoground").stdout + call("seetrue").stdout
    card = benchmarks.card("seetrue")
    assert card.page in shown and card.obtain in shown and card.size in shown
    assert "yonatanbitton/SeeTRUE: SeeTRUE.csv, images.zip" in shown
    assert not list(tmp_path.iterdir())
    assert "Did you mean 'seetrue'" in call("seetru", code=2).stderr


def test_it_checks_a_folder(tmp_path):
    seetrue(tmp_path)
    shown = call("seetrue", "--root", tmp_path).stderr
    assert "9 items with 28 pictures and 9 texts are there" in shown
    assert "9 items and seetrue has 602" in shown
    shutil.rmtree(tmp_path / "images")
    shown = call("seetrue", "--root", tmp_path, code=2).stderr
    assert "28 of 28 pictures are missing" in shown and "Traceback" not in shown
    assert "drawn" in call("scenes").stdout or "600 items" in call("scenes").stderr


def test_the_prompts_of_a_set_need_no_pictures(tmp_path):
    rows = ["Prompts,Category", "A red car.,Colors", "Two dogs.,Counting"]
    (tmp_path / "drawbench.csv").write_text("\n".join(rows))
    assert "2 prompts are there" in call("drawbench", "--root", tmp_path).stderr
    (tmp_path / "drawbench.csv").unlink()
    assert "holds no drawbench.csv" in call("drawbench", "--root", tmp_path, code=2).stderr


def test_it_fetches_unpacks_and_checks(tmp_path, monkeypatch):
    seetrue(tmp_path / "published")
    pictures = {
        f"images/{path.name}": path.read_bytes()
        for path in (tmp_path / "published" / "images").iterdir()
    }
    archive(tmp_path / "published" / "images.zip", pictures)
    asked = []

    def download(hub, name, folder):
        asked.append((hub, name))
        return shutil.copy(tmp_path / "published" / name, folder / name) and folder / name

    monkeypatch.setattr(data, "_from_hub", download)
    shown = call("seetrue", "--root", tmp_path / "mine", "--fetch").stderr
    assert asked == [("yonatanbitton/SeeTRUE", n) for n in ("SeeTRUE.csv", "images.zip")]
    assert "28 pictures" in shown
    assert "--fetch needs the folder" in call("seetrue", "--fetch", code=2).stderr


def test_what_cannot_be_fetched_says_what_to_do(tmp_path, monkeypatch):
    card = benchmarks.card("sugarcrepe")
    shown = call("sugarcrepe", "--root", tmp_path, "--fetch", code=2).stderr
    assert "cannot be fetched" in shown and card.page in shown.replace("\n", "")

    def gated(*_):
        raise OSError("401: access is restricted")

    with pytest.raises(BenchmarkDataError, match="401: access is restricted. By hand: ") as caught:
        data.fetch(benchmarks.card("seetrue"), tmp_path, gated)
    assert "huggingface.co/datasets/yonatanbitton/SeeTRUE" in str(caught.value)
    with pytest.raises(OutputError):
        (tmp_path / "file").write_text("")
        data.fetch(benchmarks.card("seetrue"), tmp_path / "file", gated)


@pytest.mark.parametrize(
    "name", ["../out.txt", "/out.txt", "a/../../out.txt", "..\\out.txt", "C:/out.txt"]
)
def test_no_path_leads_out_of_the_folder(tmp_path, name):
    path = archive(tmp_path / "a.zip", {"good.txt": "x", name: "x"})
    (tmp_path / "in").mkdir()
    with pytest.raises(BenchmarkDataError, match="leads out of it"):
        data.unpack(path, tmp_path / "in")
    assert not list((tmp_path / "in").iterdir()), "not even the good file"
    assert not (tmp_path / "out.txt").exists()


def test_links_and_bombs_are_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as made:
        made.writestr(link, "/etc/passwd")
    with pytest.raises(BenchmarkDataError, match="'link', which is a link"):
        data.unpack(tmp_path / "link.zip", tmp_path)
    bomb = archive(tmp_path / "bomb.zip", {"zeros": bytes(1 << 27)})
    assert bomb.stat().st_size < 1 << 18
    with pytest.raises(BenchmarkDataError, match="would grow to 134217728"):
        data.unpack(bomb, tmp_path)
    assert not (tmp_path / "zeros").exists()
    (tmp_path / "no.zip").write_text("no")
    with pytest.raises(BenchmarkDataError, match="is not a zip file"):
        data.unpack(tmp_path / "no.zip", tmp_path)


def test_unpacking_again_keeps_what_is_there(tmp_path):
    path = archive(tmp_path / "a.zip", {"d/one.txt": "one", "d/two.txt": "two"})
    made = data.unpack(path, tmp_path / "in")
    assert [one.read_text() for one in made] == ["one", "two"]
    before = made[0].stat().st_mtime_ns
    made[1].write_text("cut")
    made[1].write_text("c")
    assert data.unpack(path, tmp_path / "in") == made
    assert made[0].stat().st_mtime_ns == before and made[1].read_text() == "two"
    assert sorted(p.name for p in (tmp_path / "in" / "d").iterdir()) == ["one.txt", "two.txt"]
