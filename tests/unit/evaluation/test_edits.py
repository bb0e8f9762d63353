"""Edits in tables, in sets of prompts and in reports."""

from __future__ import annotations

import base64
import csv
import io
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from helpers.toy import draw_image
from PIL import Image
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import T2VError, TableError
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.report.thumbnails import name, thumbnail
from t2v_eval.scoring.shard import Shard

CLIP = {"clip": "tiny-clip", "device": "cpu"}
TEXTS = ["a red circle -> a blue circle", "two squares -> a green square", "a cat -> a dog"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three sources, the results of two generators, and tables that name them."""
    monkeypatch.chdir(tmp_path)
    for place, seeds in (("before", (0, 1, 2)), ("new", (3, 4, 5)), ("old", (6, 7, 8))):
        (tmp_path / place).mkdir()
        for n, seed in enumerate(seeds):
            draw_image(seed, (48, 48)).save(tmp_path / place / f"{n}.png")
    write(
        "edits.csv",
        ["image", "source", "text", "note"],
        [[f"new/{n}.png", f"before/{n}.png", text, "x"] for n, text in enumerate(TEXTS)],
    )
    write(
        "prompts.csv",
        ["id", "prompt", "before"],
        [[n, text, f"before/{n}.png"] for n, text in enumerate(TEXTS)],
    )
    write(
        "rated.csv",
        ["image", "before", "text", "human"],
        [
            [f"{place}/{n}.png", f"before/{n}.png", TEXTS[n], (n + len(place)) % 4]
            for place in ("new", "old")
            for n in range(3)
        ],
    )
    return tmp_path


def write(path, header, rows):
    with Path(path).open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def score(*arguments, model="clip-directional", code=0):
    flags = ["--option", "clip=tiny-clip"] if model.startswith("clip-") else []
    table = ["score", "--pairs", "edits.csv", "-m", model, "--device", "cpu", "--no-store", *flags]
    return run(*table, *arguments, code=code)


def expected(place):
    edits = [t2v_eval.Edit(f"before/{n}.png", f"{place}/{n}.png") for n in range(3)]
    return t2v_eval.load("clip-directional", **CLIP).score_pairs(edits, TEXTS).numpy()


def test_rows_of_a_table_are_edits_where_a_source_column_is_named(folder):
    result = score("--source-column", "source")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    np.testing.assert_allclose([float(row["score"]) for row in rows], expected("new"), atol=1e-6)
    assert rows[0]["image"].endswith("new/0.png") and rows[0]["source"] == "before/0.png"
    assert rows[0]["note"] == "x"
    alone = csv.DictReader(io.StringIO(score(model="tiny-clip").stdout))
    assert len(list(alone)) == 3  # the results, with a scorer of images


def test_wrong_edits_are_named(folder):
    assert "scores edits, and" in score(code=2).stderr
    named = score("--source-column", "source", model="tiny-clip", code=2)
    assert "scores single images" in named.stderr
    assert "no column 'befor'" in score("--source-column", "befor", code=2).stderr
    assert "--source-column names another" in score("--source-column", "befor", code=2).stderr
    (folder / "before" / "1.png").unlink()
    missing = score("--source-column", "source", code=2).stderr
    assert "row 2" in missing and "before/1.png: no such file" in missing
    flags = ["-m", "clip-directional", "-t", TEXTS[0], "--source-column", "source", "--no-store"]
    assert "with --pairs" in run("score", "new/0.png", *flags, code=2).stderr


def test_prompts_with_sources_are_edits(folder):
    benchmark = open_benchmark("prompts.csv", images=["new", "old"], columns={"source": "before"})
    items = benchmark.items()
    assert [len(item.images) for item in items] == [2, 2, 2]
    scorer = t2v_eval.load("clip-directional", **CLIP)
    values = np.array([scorer(item.images, item.texts)[:, 0].tolist() for item in items])
    np.testing.assert_allclose(values, np.stack([expected("new"), expected("old")], 1), atol=1e-6)
    write("prompts.csv", ["id", "prompt", "before"], [[0, TEXTS[0], ""], [1, TEXTS[1], "b.png"]])
    with pytest.raises(TableError, match="row 1: 'before' is ''"):
        open_benchmark("prompts.csv", images="new", columns={"source": "before"}).items()


def test_a_missing_source_is_found_before_anything_is_scored(folder):
    (folder / "before" / "0.png").unlink()
    for file, options in (("rated.csv", {}), ("prompts.csv", {"images": "new"})):
        benchmark = open_benchmark(file, columns={"source": "before"}, **options)
        with pytest.raises(T2VError, match=r"before/0\.png"):
            t2v_eval.compare(t2v_eval.load("clip-directional", **CLIP), benchmark, resamples=5)


def test_rated_edits_have_agreement_and_a_report(folder):
    scorer = t2v_eval.load("clip-directional", **CLIP)
    benchmark = open_benchmark("rated.csv", columns={"source": "before"})
    report = t2v_eval.compare(scorer, benchmark, resamples=5)
    report.write(folder / "report")
    table = (folder / "report" / "scores.csv").read_text(encoding="utf-8")
    values = {row["image_name"]: float(row["score"]) for row in csv.DictReader(io.StringIO(table))}
    assert len(values) == 6
    for place in ("new", "old"):
        for n, value in enumerate(expected(place)):
            (name_,) = [name for name in values if name.endswith(f"{place}/{n}.png")]
            assert "before" in name_ and values[name_] == pytest.approx(float(value), abs=1e-6)
    page = (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert "0.png -&gt; 0.png" in page or "0.png -> 0.png" in page


def test_before_and_after_are_side_by_side(folder):
    Image.new("RGB", (64, 32), "red").save("red.png")
    Image.new("RGB", (64, 32), "blue").save("blue.png")
    edit = t2v_eval.Edit("red.png", "blue.png")
    assert name(edit) == "red.png -> blue.png"
    picture = Image.open(io.BytesIO(base64.b64decode(thumbnail(edit, 64).partition(",")[2])))
    left, right = (picture.convert("RGB").getpixel((x, 8)) for x in (8, picture.width - 9))
    assert left[0] > 200 > 60 > left[2] and right[2] > 200 > 60 > right[0]


def test_shards_are_cut_by_the_result(folder):
    results = [f"new/{n}.png" for n in range(3)]
    shard = Shard(1, 2)
    edits = [t2v_eval.Edit("before/0.png", result) for result in results]
    assert [shard.holds(edit) for edit in edits] == [shard.holds(result) for result in results]


def test_the_accents_of_a_source_may_be_composed_otherwise_on_disk(folder):
    decomposed = folder / "before" / unicodedata.normalize("NFD", "café.png")
    (folder / "before" / "0.png").rename(decomposed)
    composed = "before/" + unicodedata.normalize("NFC", "café.png")
    write("accents.csv", ["prompt", "before"], [[TEXTS[0], composed]])
    (folder / "mine").mkdir()
    (folder / "new/0.png").rename(folder / "mine/0.png")
    benchmark = open_benchmark("accents.csv", images="mine", columns={"source": "before"})
    assert [item.images[0].source for item in benchmark.items()] == [f"before/{decomposed.name}"]
