"""Files of benchmarks: what is needed, what is there, and archives that must not be trusted."""

import hashlib
import http.server
import io
import os
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.benchmarks.examples import EXAMPLES
from helpers.services.hub_server import hub, point_at, serving  # noqa: F401
from typer.testing import CliRunner

from t2v_eval.cards import BenchmarkCard
from t2v_eval.cli.main import app
from t2v_eval.errors import BenchmarkDataError, OutputError, T2VWarning
from t2v_eval.evaluation import download as data
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.registry import benchmarks

ROOT = Path(__file__).parents[3]
OURS = BenchmarkCard("ours", "Ours", "ours", hub="someone/ours", files=("a.csv", "b/c.txt"))
OURS = replace(OURS, page="https://example.org/ours", obtain="agree there and download a.csv")


def call(*arguments, code=0):
    result = CliRunner().invoke(app, ["data", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def archive(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as stream:
        for name, content in files.items():
            stream.writestr(name, content)
    return path


@pytest.fixture
def small(monkeypatch):
    """The card of SeeTRUE without the content of its whole table."""
    card = benchmarks.card("seetrue")
    monkeypatch.setitem(benchmarks.__dict__["_files"], "seetrue", replace(card, sha256={}))


def test_it_says_what_is_needed_and_touches_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = call("winoground", code=2).stdout + call("seetrue", code=2).stdout
    card = benchmarks.card("seetrue")
    assert card.page in text and card.obtain in text and card.size in text
    assert "yonatanbitton/SeeTRUE: SeeTRUE.csv, images.zip" in text
    assert not list(tmp_path.iterdir())
    assert "Did you mean 'seetrue'" in call("seetru", code=2).stderr


def test_it_checks_a_folder(tmp_path, small):
    EXAMPLES["seetrue"].write(tmp_path)
    text = call("seetrue", "--root", tmp_path).stderr
    assert "found 9 items with 28 images and 9 texts" in text
    assert "9 items and seetrue has 602" in text
    shutil.rmtree(tmp_path / "images")
    text = call("seetrue", "--root", tmp_path, code=2).stderr
    assert "28 of 28 images are missing" in text and "Traceback" not in text
    assert "drawn" in call("scenes").stdout or "600 items" in call("scenes").stderr


def test_a_file_that_is_not_the_published_one_is_named(tmp_path):
    EXAMPLES["seetrue"].write(tmp_path)
    text = call("seetrue", "--root", tmp_path, code=2).stderr
    assert "SeeTRUE.csv is not the published file" in text.replace("\n", "")


def test_cards_that_can_be_fetched_know_what_their_files_are():
    for card in benchmarks.cards.values():
        assert not card.url or set(card.sha256) == set(card.files), card.name
        assert all(len(digest) == 64 for digest in card.sha256.values())
        assert bool(card.files) == bool(card.hub or card.url), card.name


def test_the_prompts_of_a_set_need_no_images(tmp_path):
    rows = ["Prompts,Category", "A red car.,Colors", "Two dogs.,Counting"]
    (tmp_path / "drawbench.csv").write_text("\n".join(rows))
    assert "found 2 prompts" in call("drawbench", "--root", tmp_path).stderr
    (tmp_path / "drawbench.csv").unlink()
    assert "holds no drawbench.csv" in call("drawbench", "--root", tmp_path, code=2).stderr


def published(tmp_path):
    """What the hub has of SeeTRUE, as the fixture in its layout has it."""
    EXAMPLES["seetrue"].write(tmp_path / "published")
    images = {
        f"images/{path.name}": path.read_bytes()
        for path in (tmp_path / "published" / "images").iterdir()
    }
    archive(tmp_path / "published" / "images.zip", images)
    return {
        name: (tmp_path / "published" / name).read_bytes() for name in ("SeeTRUE.csv", "images.zip")
    }


def test_it_fetches_unpacks_and_checks(tmp_path, hub, small):  # noqa: F811
    hub.files["yonatanbitton/SeeTRUE"] = published(tmp_path)
    text = call("seetrue", "--root", tmp_path / "mine", "--fetch").stderr
    assert {name for _, name, _ in hub.asked if name} == {"SeeTRUE.csv", "images.zip"}
    assert "28 images" in text
    assert (tmp_path / "mine" / "SeeTRUE.csv").read_bytes() == hub.files["yonatanbitton/SeeTRUE"][
        "SeeTRUE.csv"
    ]


def test_without_a_folder_it_has_one_of_its_own(tmp_path, hub, small, monkeypatch):  # noqa: F811
    monkeypatch.setattr(data, "default_root", lambda name: tmp_path / "cache" / name)
    hub.files["yonatanbitton/SeeTRUE"] = published(tmp_path)
    assert (
        "not downloaded yet" in call("seetrue", code=2).stdout and not (tmp_path / "cache").exists()
    )
    assert "28 images" in call("seetrue", "--fetch").stderr
    assert "28 images" in call("seetrue").stderr, "the next call finds it"
    with pytest.warns(T2VWarning, match="9 items"):
        assert len(open_benchmark("seetrue").items()) == 9, "and so does an evaluation"


def test_the_program_reads_hf_endpoint(tmp_path):
    with serving() as server:
        told = {"HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "t2v_eval", "data", "seetrue", "--fetch", "--root", tmp_path],
            capture_output=True, text=True, env=os.environ | told, cwd=ROOT,
        )  # fmt: skip
    assert done.returncode == 2 and server.asked, done.stderr
    assert "is no longer on the Hugging Face hub" in done.stderr


def test_a_download_goes_on_where_it_stopped(tmp_path, hub):  # noqa: F811
    content = os.urandom(300_000)
    hub.files[OURS.hub] = {"a.csv": content, "b/c.txt": b"text"}
    hub.cuts["a.csv"] = [100_000, 50_000]
    result = data.fetch(OURS, tmp_path)
    assert [path.read_bytes() for path in result] == [content, b"text"]
    starts = [asked for method, name, asked in hub.asked if (method, name) == ("GET", "a.csv")]
    assert starts == ["", "bytes=100000-", "bytes=150000-"]


def test_a_file_that_never_comes_whole_is_an_error(tmp_path, hub):  # noqa: F811
    hub.files[OURS.hub] = {"a.csv": b"x" * 1000, "b/c.txt": b"text"}
    hub.cuts["a.csv"] = [0] * 50
    with pytest.raises(BenchmarkDataError, match="a.csv cannot be fetched: the data set someone/o"):
        data.fetch(OURS, tmp_path)
    assert not (tmp_path / "a.csv").exists()
    hub.cuts.clear()
    assert data.fetch(OURS, tmp_path)[0].read_bytes() == b"x" * 1000


def test_what_the_card_knows_of_the_content_is_checked(tmp_path, hub):  # noqa: F811
    digest = hashlib.sha256(b"good").hexdigest()
    card = replace(OURS, sha256={"a.csv": digest})
    hub.files[OURS.hub] = {"a.csv": b"evil", "b/c.txt": b"text"}
    with pytest.raises(BenchmarkDataError, match=f"SHA-256 is .*, not {digest}; by hand") as caught:
        data.fetch(card, tmp_path)
    assert OURS.page in str(caught.value) and not (tmp_path / "a.csv").exists()
    hub.files[OURS.hub]["a.csv"] = b"good"
    data.fetch(card, tmp_path)
    assert data.check_known(card, tmp_path) == ["a.csv"]
    hub.asked.clear()
    data.fetch(card, tmp_path)
    assert not any(name == "a.csv" for _, name, _ in hub.asked), "it is known to be right"
    (tmp_path / "a.csv").write_bytes(b"edited")
    with pytest.raises(BenchmarkDataError, match="a.csv is not the published file"):
        data.check_known(card, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (
            "gated",
            "someone/ours is gated: accept its conditions on its page, run `hf auth login",
        ),
        ("moved", "someone/ours is no longer on the Hugging Face hub"),
        ("renamed", "someone/ours no longer has a.csv"),
        ("refused", "someone/ours cannot be reached;"),
        ("off", "someone/ours cannot be reached while HF_HUB_OFFLINE is set"),
    ],
)
def test_what_the_hub_does_not_give(tmp_path, hub, monkeypatch, wrong, why):  # noqa: F811
    if wrong != "moved":
        hub.files[OURS.hub] = {"b/c.txt": b"text"}
    if wrong == "gated":
        hub.gated.add(OURS.hub)
    if wrong == "refused":
        point_at("http://127.0.0.1:9", monkeypatch)
    if wrong == "off":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BenchmarkDataError) as caught:
        data.fetch(OURS, tmp_path)
    message = str(caught.value)
    assert why in message and "\n" not in message
    for remedy in (OURS.page, OURS.obtain, str(tmp_path)):
        assert remedy in message


def test_what_cannot_be_fetched_says_what_to_do(tmp_path):
    card = benchmarks.card("drawbench")
    text = call("drawbench", "--root", tmp_path, "--fetch", code=2).stderr
    assert "cannot be fetched" in text and card.page in text.replace("\n", "")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        data.fetch(benchmarks.card("seetrue"), tmp_path / "file")


@pytest.fixture
def web(tmp_path):
    """A folder of the web."""
    (tmp_path / "web" / "b").mkdir(parents=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=tmp_path / "web")

        def log_message(self, *_):
            pass

        def copyfile(self, source, target):
            super().copyfile(io.BytesIO(source.read()[: self.server.most]), target)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    server.most = 1 << 20
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_folder_of_the_web(tmp_path, web):
    card = replace(OURS, hub="", url=f"http://127.0.0.1:{web.server_port}")
    with pytest.raises(BenchmarkDataError, match="a.csv cannot be fetched: .*404.*; by hand"):
        data.fetch(card, tmp_path / "mine")
    (tmp_path / "web" / "a.csv").write_text("a" * 1000)
    (tmp_path / "web" / "b" / "c.txt").write_text("c")
    assert [path.read_text() for path in data.fetch(card, tmp_path / "mine")] == ["a" * 1000, "c"]
    web.most = 10
    with pytest.raises(BenchmarkDataError, match="bytes are missing"):
        data.fetch(card, tmp_path / "other")
    assert not list((tmp_path / "other").iterdir())


@pytest.mark.parametrize(
    "name",
    ["../out.txt", "/out.txt", "a/../../out.txt", "..\\out.txt", "C:/out.txt", "\\\\a\\b", "."],
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
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as stream:
        stream.writestr(link, "/etc/passwd")
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


def test_half_an_archive_leaves_nothing(tmp_path):
    path = archive(tmp_path / "a.zip", {"one.txt": "one" * 1000, "two.txt": "two" * 1000})
    content = bytearray(path.read_bytes())
    content[content.rindex(b"two.txt") - 200] ^= 255  # in the middle of what is packed
    content[content.index(b"two.txt") + 9] ^= 255
    path.write_bytes(content)
    (tmp_path / "in").mkdir()
    with pytest.raises(BenchmarkDataError, match="an incomplete one"):
        data.unpack(path, tmp_path / "in")
    assert not list((tmp_path / "in").iterdir()), "neither the good file nor a part"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BenchmarkDataError, match="is not a zip file"):
        data.unpack(path, tmp_path / "in")


def test_what_is_packed_in_secret_is_refused(tmp_path):
    path = archive(tmp_path / "a.zip", {"one.txt": "one"})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag of a password, in both headers
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(BenchmarkDataError, match="cannot be unpacked: .*password"):
        data.unpack(path, tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["a.zip"]


def test_unpacking_again_keeps_what_is_there(tmp_path):
    path = archive(tmp_path / "a.zip", {"d/one.txt": "one", "d/two.txt": "two"})
    files = data.unpack(path, tmp_path / "in")
    assert [item.read_text() for item in files] == ["one", "two"]
    before = files[0].stat().st_mtime_ns
    files[1].write_text("cut")
    files[1].write_text("c")
    assert data.unpack(path, tmp_path / "in") == files
    assert files[0].stat().st_mtime_ns == before and files[1].read_text() == "two"
    assert sorted(p.name for p in (tmp_path / "in" / "d").iterdir()) == ["one.txt", "two.txt"]


@pytest.mark.parametrize("link", ["d", "d/e"])
def test_nothing_is_written_through_a_link_that_lies_there(tmp_path, link):
    path = archive(tmp_path / "a.zip", {"first.txt": "x", "d/e/f.txt": "x"})
    outside, inside = tmp_path / "outside", tmp_path / "in"
    outside.mkdir()
    (inside / link).parent.mkdir(parents=True)
    (inside / link).symlink_to(outside)
    with pytest.raises(BenchmarkDataError, match=rf"a\.zip.*through .*{link}, which is a link to"):
        data.unpack(path, inside)
    assert not list(outside.iterdir()) and not (inside / "first.txt").exists()


def test_the_folder_itself_may_be_a_link_and_a_link_is_replaced_not_followed(tmp_path):
    path = archive(tmp_path / "a.zip", {"d/f.txt": "new"})
    (tmp_path / "disk").mkdir()
    (tmp_path / "in").symlink_to("disk")
    (tmp_path / "disk" / "d").mkdir()
    (tmp_path / "theirs").write_text("other")
    (tmp_path / "disk" / "d" / "f.txt").symlink_to(tmp_path / "theirs")
    data.unpack(path, tmp_path / "in")
    assert (tmp_path / "disk" / "d" / "f.txt").read_text() == "new"
    assert (tmp_path / "theirs").read_text() == "other"


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_an_archive_of_special_files_is_refused(tmp_path, kind):
    member = zipfile.ZipInfo("odd")
    member.external_attr = (kind | 0o644) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as stream:
        stream.writestr(member, "")
    with pytest.raises(BenchmarkDataError, match="'odd', which is not a regular file"):
        data.unpack(tmp_path / "a.zip", tmp_path / "in")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("first", "second"),
    [("a.txt", "a.txt"), ("a.txt", "A.TXT"), ("d/x", "D/x"), ("é", "e\u0301"), ("a\\b", "a/b")],
)
def test_names_that_may_be_one_file_are_refused(tmp_path, first, second):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as stream:
        stream.writestr(first, "1")
        stream.writestr(second, "2")
    with pytest.raises(BenchmarkDataError, match="which may be one file"):
        data.unpack(tmp_path / "a.zip", tmp_path / "in")
    assert not list((tmp_path / "in").iterdir())


def test_a_file_that_is_a_folder_too_is_refused(tmp_path):
    path = archive(tmp_path / "a.zip", {"a": "1", "a/b": "2"})
    with pytest.raises(BenchmarkDataError, match="'a' as a file and 'a/b' below it"):
        data.unpack(path, tmp_path / "in")
