"""Edits in tables, in sets of prompts, on the command line and in reports."""

from __future__ import annotations

import base64
import csv
import io
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from helpers.judges import asked, shown, written_reply
from helpers.services.loopback import Reply, Server
from helpers.toy import draw_image
from PIL import Image
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, MediaError, T2VError, TableError
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
    for column in ("image", "text"):  # whose images would be edits of themselves
        assert (
            f"--source-column {column} has the" in score("--source-column", column, code=2).stderr
        )
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


def test_the_source_of_a_prompt_may_be_at_an_address(folder):
    content = Path("before/0.png").read_bytes()
    with Server(lambda request: Reply(content)) as server:
        address = f"{server.address}/a.png"
        write("prompts.csv", ["prompt", "before"], [[TEXTS[0], address]])
        options = {"images": "new", "columns": {"source": "before"}}
        with pytest.raises(MediaError, match=r"images\[0\].source .* is a URL; pass `allow_urls"):
            t2v_eval.evaluate(
                t2v_eval.load("clip-directional", **CLIP), open_benchmark("prompts.csv", **options)
            )
        scorer = t2v_eval.load("clip-directional", **CLIP, allow_urls="private")
        run = t2v_eval.evaluate(scorer, open_benchmark("prompts.csv", **options))
    assert run.scores[0] == pytest.approx(expected("new")[:1, None], abs=1e-5)


def test_the_results_of_edits_are_not_their_sources(folder):
    with pytest.raises(InputError, match="'source' is 'image', which has the images after"):
        open_benchmark("rated.csv", columns={"source": "image"})


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


class Judging:
    """A judge of edits behind a server, which finds the images of `new` better.

    Attributes:
        server: the server.
        shown: the images of each request, in order, as paths.
    """

    def __init__(self, folder):
        self.server, self.shown = Server(self.answer), []
        self.names = {
            Image.open(path).convert("RGB").tobytes(): f"{path.parent.name}/{path.name}"
            for path in folder.glob("*/*.png")
        }

    def answer(self, request):
        assert "make it red" in asked(request)
        images = [Image.open(io.BytesIO(base64.b64decode(u.partition(",")[2]))) for u in
                  shown(request)]  # fmt: skip
        self.shown.append([self.names[image.convert("RGB").tobytes()] for image in images])
        better = "A" if self.shown[-1][-2].startswith("new") else "B"
        return written_reply(json.dumps({"reasoning": "red", "better_response": better}))

    def flags(self, model="mmrb2-edit-judge"):
        options = {"base_url": self.server.url, "api_key": "k"}
        if not model.startswith("openai"):
            options |= {"vlm": "openai-compatible:m", "wording": "ours"}
        pairs = [word for pair in options.items() for word in ("--option", "=".join(pair))]
        return ["-m", model, *pairs, "--no-store"]


@pytest.fixture
def judging(folder):
    judge = Judging(folder)
    with judge.server:
        yield judge


def test_prefer_compares_two_edits_of_a_source_in_both_orders(judging):
    result = run("prefer", "old/0.png", "new/0.png", "make it red", "--source", "before/0.png",
                 *judging.flags())  # fmt: skip
    assert json.loads(result.stdout) == {
        **{"image_a": "old/0.png", "image_b": "new/0.png", "source": "before/0.png"},
        **{"text": "make it red", "value": 0.0, "consistent": True, "reason": ""},
        **{"shown_first": 0.0, "shown_second": 0.0},
    }
    assert sorted(judging.shown) == [
        ["before/0.png", "new/0.png", "old/0.png"],
        ["before/0.png", "old/0.png", "new/0.png"],
    ]


@pytest.mark.parametrize("source", ["before", "before/2.png"])
def test_prefer_compares_folders_of_edits(judging, source):
    """Each pair has the source of its place, or the one that all have."""
    result = run("prefer", "new", "old", "make it red", "--json", "--source", source,
                 *judging.flags())  # fmt: skip
    sources = [source if source.endswith("png") else f"before/{n}.png" for n in range(3)]
    rows = json.loads(result.stdout)
    assert [(row["source"], row["value"]) for row in rows] == [(s, 1.0) for s in sources]
    wanted = [(s, f"new/{n}.png", f"old/{n}.png") for n, s in enumerate(sources)]
    both = {*wanted, *((s, b, a) for s, a, b in wanted)}
    assert len(judging.shown) == 6 and {*map(tuple, judging.shown)} == both


def test_a_pair_without_its_source_is_skipped_or_named(folder, judging):
    (folder / "before" / "1.png").write_text("no image")
    words = ["prefer", "new", "old", "make it red", "--source", "before", *judging.flags()]
    error = run(*words, code=2).stderr
    assert "(before/1.png): not an image that Pillow can read" in error
    rows = [json.loads(line) for line in run(*words, "--on-error", "skip").stdout.splitlines()]
    assert [row["value"] for row in rows] == [1.0, None, 1.0]
    assert rows[1]["consistent"] is None and "(before/1.png)" in rows[1]["reason"]
    judging.shown.clear()
    words[5] = "gone.png"
    error = run(*words, code=2).stderr
    assert "--source gone.png: no such file; --on-error skip leaves its pair out" in error
    words[5] = "https://example.com/a.png"
    assert "pass --allow-urls" in run(*words, code=2).stderr and not judging.shown


def test_prefer_needs_a_judge_that_takes_what_it_is_given(judging):
    pair, source = ["prefer", "new/0.png", "old/0.png", "make it red"], ["--source", "before/0.png"]
    assert "--source IMAGE" in run(*pair, *judging.flags(), code=2).stderr
    of_images = judging.flags("openai-compatible-preference:m")
    error = run(*pair, *source, *of_images, code=2).stderr
    assert "edits need a judge that sees their source" in error and "--kind judge" in error
    for single in (["-m", "tiny-clip"], ["-m", "clip-directional", "--option", "clip=tiny-clip"]):
        error = run(*pair, *source, *single, "--no-store", code=2).stderr
        assert "compares no pairs" in error and "--kind judge" in error
    assert not judging.shown


def test_battles_of_two_editing_models_name_their_results(judging):
    write("instructions.csv", ["prompt", "before"], [["make it red", "before/0.png"]])
    images = ["--images", "new", "--images", "old", "-b", "instructions.csv"]
    error = run("judge", *images, *judging.flags(), code=2).stderr
    assert "--column source=NAME" in error and not judging.shown
    result = run("judge", *images, "--column", "source=before", *judging.flags())
    [row] = csv.DictReader(io.StringIO(result.stdout))
    assert (row["model_a"], row["winner"]) == ("new", "model_a")
    assert (row["image_a"], row["image_b"]) == ("new/0.png", "old/0.png")
    assert [images[0] for images in judging.shown] == ["before/0.png"] * 2


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
