"""Prompts with texts to write: layouts of their authors, and their published figures."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.benchmarks.example import (
    Example,
    cell_with,
    duplicate_json_row,
    duplicate_line,
    json_with,
    line_with,
)
from helpers.benchmarks.expected_metrics import Expected, Scores, per_item
from helpers.benchmarks.small_files import draw, write_json, write_lines
from PIL import Image

import t2v_eval
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.evaluation.run import evaluate
from t2v_eval.local.function import from_function

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

EN = [["OPEN, EVERY DAY", "7 to 9"], ["Sale!"]]
ZH = [["每日营业，始于1998"], ["前方有停车场", "右转"]]
CVTG = [("CVTG", 2, "a 'RED' and a 'Blue Cup'"), ("CVTG-Style", 3, "'A' in gold, 'B c', 'D'")]


def write_longtext(root: Path, texts: list[list[str]] = EN, name: str = "text_prompts") -> None:
    rows = [
        {
            "category": "sign",
            "length": ("short", "long")[n],
            "prompt": f"a sign with {listed}",
            "text": listed,
            "text_length": 9,
            "prompt_id": 3 * n,
        }
        for n, listed in enumerate(texts)
    ]
    write_lines(root / f"{name}.jsonl", rows)
    for seed in range(2):
        draw(root / "images" / f"{3 * seed}.png", seed)


def write_longtext_zh(root: Path) -> None:
    write_longtext(root, ZH, "text_prompts_zh")


def write_cvtg(root: Path) -> None:
    for part in ("CVTG", "CVTG-Style"):
        for number in (2, 3, 4, 5):
            listed = [text for where, count, text in CVTG if (where, count) == (part, number)]
            rows = [{"index": n, "prompt": text} for n, text in enumerate(listed)]
            write_json(root / part / f"{number}.json", {"data_list": rows})
    for seed, (part, number, _) in enumerate(CVTG):
        draw(root / "images" / part / str(number) / "0.png", seed)


def write_oneig(root: Path, end: str = "") -> None:
    """The texts of a prompt as Python writes a list, one with a line break."""
    texts = [r"['OPEN, daily', 'line\nbreak']", '["7 o\'clock"]']
    if end:
        texts = ["['每日营业', '5G']", "['右转']"]
    column = "prompt_cn" if end else "prompt_en"
    path = root / "scripts" / "text" / f"text_content{end}.csv"
    path.parent.mkdir(parents=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = [["", "id", column, "text_content"]]
        rows += [[n, f"00{n}", f"a sign {n}", text] for n, text in enumerate(texts)]
        csv.writer(stream).writerows(rows)
    for n, colours in enumerate((["red", "yellow"], ["white", "black"])):
        image = Image.new("RGB", (16, 16))  # four, of which black ones are none
        for k, colour in enumerate(colours):
            image.paste(colour, (8 * k, 0, 8 * k + 8, 8))
        (root / "images" / "text").mkdir(parents=True, exist_ok=True)
        image.save(root / "images" / "text" / f"00{n}.png")


def of_three_images(words: int, other: int) -> Any:
    """Scores 0 of two images of the first prompt and 1 of the only one of the second."""

    def metric(items: list[Item], _: Path) -> tuple[Scores, Expected]:
        scores = per_item(items, lambda n: [float(n)] * len(items[n].images))
        overall = other / (2 * words + other)
        return scores, {"score": 0.5, "overall": overall, "image_mean": 1 / 3}

    return metric


def weighted(*words: int) -> Any:
    """Scores 0 and 1 of two images, whose prompts have so many words."""

    def metric(items: list[Item], _: Path) -> tuple[Scores, Expected]:
        scores = per_item(items, lambda n: [float(n)] * len(items[n].images))
        return scores, {"score": 0.5, "overall": words[1] / sum(words)}

    return metric


def example(**fields: Any) -> Example:
    return Example(**{"items": 2, "images": 2, "texts": 2, **fields})


LONGTEXT = {
    "tags": {"sign": 2, "short": 1, "long": 1},
    "duplicate_message": "1 of 3 prompts have no image",  # as two rows have its number
}
EXAMPLES = {
    "longtext-bench": example(
        **LONGTEXT,
        write=write_longtext,
        metric=weighted(6, 1),
        duplicate=duplicate_line("text_prompts.jsonl", 0),
        malformed=line_with("text_prompts.jsonl", 1, '{"prompt_id": 3, "prompt": "a sign"}'),
        malformed_message="row 2.*'text'",
    ),
    "longtext-bench-zh": example(
        **LONGTEXT,
        write=write_longtext_zh,
        metric=weighted(10, 8),
        duplicate=duplicate_line("text_prompts_zh.jsonl", 0),
        malformed=line_with("text_prompts_zh.jsonl", 1, '{"prompt_id": 3, "prompt": "a sign"}'),
        malformed_message="row 2.*'text'",
    ),
    "oneig-text": example(
        write=write_oneig,
        images=3,
        tags={},
        metric=of_three_images(3, 2),  # words: OPEN daily linenbreak, 7 oclock
        duplicate=duplicate_line("scripts/text/text_content.csv"),
        duplicate_message="the id text_000 occurs twice",
        malformed=cell_with("scripts/text/text_content.csv", "text_content", "OPEN"),
        malformed_message="text_content.csv, row 1: 'text_content' is 'OPEN', not a list of texts",
    ),
    "oneig-text-zh": example(
        write=lambda root: write_oneig(root, "_zh"),
        images=3,
        tags={},
        metric=of_three_images(6, 2),  # characters
        duplicate=duplicate_line("scripts/text/text_content_zh.csv"),
        duplicate_message="the id text_zh_000 occurs twice",
        malformed=cell_with("scripts/text/text_content_zh.csv", "text_content", "[]"),
        malformed_message=r"row 1: 'text_content' is '\[\]', not a list of texts",
    ),
    "cvtg-2k": example(
        write=write_cvtg,
        tags={"CVTG": 1, "CVTG-Style": 1, "2 texts": 1, "3 texts": 1},
        metric=weighted(3, 4),
        duplicate=duplicate_json_row("CVTG/2.json", "data_list"),
        duplicate_message="the id CVTG/2/0 occurs twice",
        malformed=json_with("CVTG-Style/3.json", lambda c: c["data_list"][0].update(prompt="A")),
        malformed_message=r"CVTG-Style/3\.json, row 1: 'prompt' has no text in quotes",
    ),
}


def published_longtext(targets: list[list[str]], read: list[str]) -> float:
    """Matched words of all words, as LongText-Bench's summary counts English ones."""
    right = total = 0
    for texts, reading in zip(targets, read, strict=True):
        listed = re.sub(r"[^a-z0-9\s]", "", " ".join(texts).lower()).split()
        others = re.sub(r"[^a-z0-9\s]", "", reading.lower()).split()
        right += sum(min(listed.count(word), others.count(word)) for word in {*listed})
        total += len(listed)
    return right / total


def reading(read: dict[int, str]) -> Any:
    """A scorer that reads drawn images, by the sum of their pixels."""

    def reads(images: list[Any], prompts: list[str]) -> list[str]:
        return [read[int(np.asarray(image, np.int64).sum())] for image in images]

    return from_function(reads, "drawn", version="1")


def pixels(path: Path) -> int:
    return int(np.asarray(Image.open(path).convert("RGB"), np.int64).sum())


def test_overall_is_the_published_figure_of_texts_that_the_set_says(tmp_path):
    """Quotes of these prompts are others: the texts are those of the files."""
    write_longtext(tmp_path)
    draw(tmp_path / "images" / "0003_4.png", 5)  # as the authors' script names images
    files = sorted((tmp_path / "images").iterdir())
    read = dict(zip(map(pixels, files), ["open every night", "SALE", "7"], strict=True))
    scorer = t2v_eval.load("text-rendering", reader=reading(read))
    benchmark = open_benchmark("longtext-bench", root=tmp_path, images=tmp_path / "images")
    run = evaluate(scorer, benchmark, resamples=5)
    expected = published_longtext([EN[0], EN[1], EN[1]], [*read.values()])
    assert run.metrics["overall"].value == pytest.approx(expected)
    assert run.metrics["score"].value == pytest.approx((2 / 6 + 1 / 2) / 2)
    assert "target=quotes" not in run.scorer.id and scorer.needs_target_texts


def test_word_accuracy_by_the_number_of_texts(tmp_path):
    write_cvtg(tmp_path)
    files = [tmp_path / "images" / part / str(n) / "0.png" for part, n, _ in CVTG]
    read = dict(zip(map(pixels, files), ["red cup", "a c b"], strict=True))
    options = {"measure": "word-accuracy", "reader": reading(read)}
    benchmark = open_benchmark("cvtg-2k", root=tmp_path, images=tmp_path / "images")
    run = evaluate(t2v_eval.load("text-rendering", **options), benchmark, resamples=5)
    assert run.metrics["overall"].value == pytest.approx(5 / 7)
    assert run.by_tag["2 texts"]["overall"].value == pytest.approx(2 / 3)
    assert run.by_tag["3 texts"]["overall"].value == pytest.approx(3 / 4)
    assert "2 images in CVTG-2K's layout" in " ".join(benchmark.selection.remarks)
    (tmp_path / "images" / "CVTG" / "2" / "7.png").write_bytes(files[0].read_bytes())
    benchmark.items()
    assert "of no prompt of CVTG/2" in " ".join(benchmark.selection.remarks)


def test_overall_of_two_folders_and_of_missing_scores(tmp_path):
    write_longtext(tmp_path)
    draw(tmp_path / "other" / "0.png")
    draw(tmp_path / "other" / "3.png", 1)
    folders = [tmp_path / "images", tmp_path / "other"]
    benchmark = open_benchmark("longtext-bench", root=tmp_path, images=folders)
    items = benchmark.items()
    scores = [np.array([[1.0], [np.nan]]), np.array([[0.0], [0.5]])]
    metrics = benchmark.metrics(items, scores)
    assert metrics["overall_images"] == pytest.approx(6 / 7)
    assert metrics["overall_other"] == pytest.approx(0.5)


def test_the_figures_of_oneig_are_those_of_its_script(tmp_path):
    """Of three images; the line break of a text is a letter n there, as for its authors."""
    write_oneig(tmp_path)
    colours = {"red": "OPEN daily linenbreak", "yellow": "open daily", "white": "7 oclock now"}
    read = {int(np.sum(Image.new("RGB", (8, 8), c))): text for c, text in colours.items()}
    figures = {}
    for measure in ("cased-word-recall", "exact", "edit-distance"):
        scorer = t2v_eval.load("text-rendering", reader=reading(read), measure=measure)
        benchmark = open_benchmark("oneig-text", root=tmp_path, images=tmp_path / "images")
        run = evaluate(scorer, benchmark, resamples=5)
        figures[measure] = run.metrics["overall"].value, run.metrics["image_mean"].value
    assert figures["cased-word-recall"][0] == pytest.approx((3 + 1 + 2) / (3 + 3 + 2))
    assert figures["exact"][1] == pytest.approx(1 / 3)
    assert figures["edit-distance"][1] == pytest.approx(-(0 + 4 + 11 + 4) / 3)
