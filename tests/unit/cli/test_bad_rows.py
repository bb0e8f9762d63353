"""One bad row of a table: named before a model is loaded, or left out and counted."""

from __future__ import annotations

import csv
import io
import json
import math
import os

import pyarrow
import pytest
from helpers.benchmarks import toy_benchmark
from helpers.toy import draw_image, expected
from pyarrow import parquet
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.errors import TableError
from t2v_eval.inputs.tables import read_rows, read_table

toy_benchmark.register()


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def images(tmp_path):
    for seed in range(4):
        draw_image(seed).save(tmp_path / f"{seed}.png")
    return tmp_path


CSV = b"image,text,note\n0.png,a cat,x\n1.png,a dog,x\n%s\n2.png,a fish,x\n3.png,a bird,x\n"
LINES = [
    json.dumps({"image": f"{n}.png", "text": text, "note": "x"})
    for n, text in enumerate(["a cat", "a dog", "a fish", "a bird"])
]


def jsonl(row: bytes) -> bytes:
    first, last = "\n".join(LINES[:2]), "\n".join(LINES[2:])
    return first.encode() + b"\n" + row + b"\n" + last.encode()


BAD = {
    "empty text": ("t.csv", CSV % b"0.png,,x", "'text' is empty"),
    "no image": ("t.csv", CSV % b",a cat,x", "'image' is empty"),
    "a path that is not there": ("t.csv", CSV % b"gone.png,a cat,x", "gone.png"),
    "a folder": ("t.csv", CSV % b".,a cat,x", "directory"),
    "a long name": ("t.csv", CSV % (b"x" * 5000 + b",a cat,x"), "name too long"),
    "too few values": ("t.csv", CSV % b"0.png,a cat", "has 2 values"),
    "too many values": ("t.csv", CSV % b"0.png,a, cat,x", "has 4 values"),
    "no utf-8": ("t.csv", CSV % b"0.png,caf\xe9,x", "not UTF-8"),
    "an open quote": ("t.csv", CSV % b'0.png,"a cat,x', "quotation mark"),
    "a quote within": ("t.csv", CSV % b'0.png,"a" cat,x', "quotation mark"),
    "no json": ("t.jsonl", jsonl(b"{oops"), "is not JSON"),
    "a list": ("t.jsonl", jsonl(b"[1]"), "is list, not a JSON object"),
    "a number as text": ("t.jsonl", jsonl(b'{"image": "0.png", "text": 5}'), "is int, not"),
    "a number as image": ("t.jsonl", jsonl(b'{"image": 5, "text": "x"}'), "int is not an image"),
    "null": ("t.jsonl", jsonl(b'{"image": "0.png", "text": null}'), "'text' is empty"),
    "NaN": ("t.jsonl", jsonl(b'{"image": "0.png", "text": NaN}'), "'text' is empty"),
    "no column": ("t.jsonl", jsonl(b'{"image": "0.png"}'), "there is no column 'text'"),
    "half a character": ("t.jsonl", jsonl(b'{"image": "0.png", "text": "\\udc80"}'), "no encoding"),
    "bytes": ("t.jsonl", jsonl(b'{"image": "0.png", "text": "caf\xe9"}'), "not UTF-8"),
    "deep": ("t.jsonl", jsonl(b"[" * 100_000), "is not JSON"),
    "no image at all": ("t.csv", CSV % b"t.csv,a cat,x", "not an image"),
}


@pytest.mark.parametrize("case", BAD)
def test_with_skip_one_bad_row_fails_and_the_others_are_scored(images, case):
    name, content, message = BAD[case]
    (images / name).write_bytes(content)
    out = images / "out.jsonl"
    common = ("score", "-m", "toy-colours", "--pairs", images / name, "--no-store", "--out", out)
    done = call(*common, "--on-error", "skip")
    rows = read_table(out)
    assert len(rows) == 5
    valid = [rows[n] for n in (0, 1, 3, 4)]
    scores = [
        expected(draw_image(n), t) for n, t in enumerate(["a cat", "a dog", "a fish", "a bird"])
    ]
    assert [row["score"] for row in valid] == pytest.approx(scores, abs=1e-6)
    assert [row["note"] for row in valid] == ["x"] * 4 and not any(row["error"] for row in valid)
    assert rows[2]["score"] is None
    assert rows[2]["error"].startswith("row 3") and message in rows[2]["error"].replace(
        "File", "file"
    )
    assert "1 of 5 scores failed" in done.stderr


@pytest.mark.parametrize("case", BAD)
def test_without_skip_the_row_is_named_before_a_model_is_loaded(images, case, monkeypatch):
    name, content, _ = BAD[case]
    (images / name).write_bytes(content)
    if case not in ("a folder", "no image at all"):  # known only when images are opened
        monkeypatch.setattr("t2v_eval.api.load", lambda *_, **__: pytest.fail("it was loaded"))
    common = ("score", "-m", "toy-colours", "--pairs", images / name, "--no-store")
    done = call(*common, code=2)
    assert not done.stdout
    if case == "no utf-8":  # the decoder knows no rows
        assert "t.csv is not UTF-8 text in line 4" in done.stderr
    elif case == "an open quote":
        assert "row 3" in done.stderr
    elif case not in ("a folder", "no image at all", "bytes"):
        assert "row 3" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_an_open_quote_takes_no_rows_after_it(tmp_path):
    text = 'image,text\na,b\nc,"d\ne,"f"\ng,"h\ni"\nj,k\n'
    (tmp_path / "t.csv").write_text(text)
    rows, bad = read_rows(tmp_path / "t.csv", ["image", "text"], skip=True)
    assert [row.get("image") for n, row in enumerate(rows, 1) if n not in bad] == list("aegj")
    assert [*bad] == [2] and rows[3]["text"] == "h\ni"
    with pytest.raises(TableError, match="row 2"):
        read_table(tmp_path / "t.csv")


def test_a_table_of_bad_rows_alone_and_a_column_that_is_not_there(images):
    (images / "t.csv").write_text("image,text\n0.png,\n,a\n")
    common = ("score", "-m", "toy-colours", "--no-store", "--on-error", "skip", "--pairs")
    assert (
        "no row can be used: row 1: 'text' is empty"
        in call(*common, images / "t.csv", code=2).stderr
    )
    (images / "u.csv").write_text("picture,text\n0.png,a\n")
    assert "no column 'image'" in call(*common, images / "u.csv", code=2).stderr


def test_parquet_rows(images):
    content = [(images / f"{n}.png").read_bytes() for n in range(2)]
    rows = [{"image": {"bytes": c, "path": f"{n}.png"}, "text": "a"} for n, c in enumerate(content)]
    rows += [{"image": {"bytes": None, "path": None}, "text": "a"}, {"image": None, "text": "a"}]
    rows += [{"image": rows[0]["image"], "text": None}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), images / "t.parquet")
    out = images / "o.jsonl"
    call("score", "-m", "toy-colours", "--pairs", images / "t.parquet", "--no-store",
         "--on-error", "skip", "--out", out)  # fmt: skip
    result = read_table(out)
    assert [row["score"] is None for row in result] == [False, False, True, True, True]
    assert [row["image"] for row in result][:2] == ["0.png", "1.png"]
    assert all(row["error"].startswith(f"row {n}") for n, row in enumerate(result, 1) if n > 2)


@pytest.mark.parametrize("case", [c for c in BAD if c not in ("no image at all", "a folder")])
def test_a_table_of_ones_own_as_a_benchmark(images, case):
    name, content, _ = BAD[case]
    if not content.startswith(b"{"):
        content = content.replace(b"note", b"human")
    content = content.replace(b'"note"', b'"human"').replace(b",x", b",1").replace(b'"x"}', b'"1"}')
    (images / name).write_bytes(content)
    common = ("eval", "-m", "toy-colours", "-b", images / name, "--no-store")
    done = call(*common, "--on-error", "skip", "--out", images / "r")
    report = json.loads((images / "r" / "report.json").read_text())["runs"][0]
    assert report["counts"]["used"] == 4
    assert "row 3" in done.stderr or "gone.png" in done.stderr or "xxxx" in done.stderr
    assert math.isfinite(report["seconds"])
    call(*common, code=2)


def test_captions_are_read_before_a_model_is_loaded(images, monkeypatch):
    monkeypatch.setattr("t2v_eval.api.load", lambda *_, **__: pytest.fail("it was loaded"))
    common = ("caption", "-m", "toy-colours", "--no-store")
    assert "no such file" in call(*common, images / "nope.json", images, code=2).stderr
    captions = {"0": "a cat", "1": 5, "2": "a fish", "3": "a bird"}
    (images / "c.json").write_text(json.dumps(captions))
    assert "'1' has '5'" in call(*common, images / "c.json", images, code=2).stderr
    (images / "c.json").write_text(json.dumps({"0": "a cat"}))
    output = call(*common, images / "c.json", images, code=2).stderr
    assert "3 images have no caption in" in output and "'1', '2', '3'" in output
    (images / "c.json").write_text("[" * 100_000)
    assert "is not JSON" in call(*common, images / "c.json", images, code=2).stderr


@pytest.mark.parametrize("bad", [5, None, [], "\udc80", {"a": "b"}, "absent"])
def test_with_skip_a_bad_caption_fails_its_image_alone(images, bad):
    captions = {"0": "a cat", "1": bad, "2": "a fish", "3": "a bird"}
    if bad == "absent":
        del captions["1"]
    (images / "c.json").write_text(json.dumps(captions))
    done = call("caption", "-m", "toy-colours", "--no-store", "--on-error", "skip", "--out",
                images / "o.json", images / "c.json", images)  # fmt: skip
    scores = json.loads((images / "o.json").read_text())
    wanted = {n: expected(draw_image(int(n)), t) for n, t in captions.items() if n != "1"}
    for name, score in wanted.items():
        assert [*scores[name].values()] == [pytest.approx(score, abs=1e-6)]
    assert [*scores["1"].values()] == [None]
    assert "1 of 4 scores failed" in done.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone.png", "no such file"),
        ("empty.png", "is empty"),
        ("pipe.png", "named pipe"),
        ("/dev/null", "device"),
        ("x" * 5000, "name too long"),
    ],
)
def test_image_files_are_checked_before_a_model_is_loaded(images, monkeypatch, name, said):
    monkeypatch.setattr("t2v_eval.api.load", lambda *_, **__: pytest.fail("it was loaded"))
    monkeypatch.chdir(images)
    (images / "empty.png").touch()
    os.mkfifo(images / "pipe.png")
    common = ("score", "-m", "toy-colours", "--no-store")
    assert said in call(*common, name, "-t", "a cat", code=2).stderr
    (images / "t.csv").write_bytes(CSV % f"{name},a cat,x".encode())
    message = call(*common, "--pairs", images / "t.csv", code=2).stderr
    assert said in message and "row 3" in message
    prefer = ("prefer", "-m", "toy-colours", "--no-store")
    assert said in call(*prefer, "0.png", name, "a cat", code=2).stderr
    message = call(*prefer, "0.png", "1.png", "a cat", "--source", name, code=2).stderr
    assert "--source" in message and said in message


def test_an_image_that_cannot_be_decoded_is_named_by_its_row(images, monkeypatch):
    monkeypatch.chdir(images)
    (images / "text.png").write_text("no image")
    (images / "t.csv").write_bytes(CSV % b"text.png,a cat,x\ntext.png,a dog,x")
    (images / "one.csv").write_text("image,text\ntext.png,a cat\n")
    common = ("score", "-m", "toy-colours", "--no-store", "--pairs")
    assert "error: row 3 (text.png): not an image" in call(*common, "t.csv", code=2).stderr
    assert "error: row 1 (text.png): not an image" in call(*common, "one.csv", code=2).stderr
    done = call(*common, "t.csv", "--on-error", "skip")
    errors = [row["error"] for row in csv.DictReader(io.StringIO(done.stdout))]
    assert [error.partition(":")[0] for error in errors] == [
        *("", "", "row 3 (text.png)", "row 4 (text.png)", "", ""),
    ]
    assert "2 x row 3 (text.png): not an image" in done.stderr


@pytest.mark.parametrize("cell", [{"bytes": b"", "path": ""}, {"bytes": None, "path": ""}, b""])
def test_an_embedded_image_without_content_is_no_folder(images, monkeypatch, cell):
    table = images / "t.parquet"
    parquet.write_table(pyarrow.table({"image": [cell], "text": ["a cat"]}), table)
    with_skip = call(
        "score", "-m", "toy-colours", "--pairs", table, "--no-store", "--on-error", "skip",
        code=2 if isinstance(cell, dict) else 1,
    )  # fmt: skip
    assert "directory" not in with_skip.stderr and "row 1" in with_skip.stderr
    monkeypatch.setattr("t2v_eval.api.load", lambda *_, **__: pytest.fail("it was loaded"))
    assert "row 1" in call("score", "-m", "toy-colours", "--pairs", table, code=2).stderr
