"""SeeTRUE: labels of whether a text is true of an image, from several sources."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from helpers.benchmarks.example import Example, duplicate_line, line_with
from helpers.benchmarks.expected_metrics import Expected, Scores, per_item
from helpers.benchmarks.small_files import copy, draw, read_csv

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")


def write(root: Path) -> None:
    copy(root, "seetrue/SeeTRUE.csv")
    for seed, row in enumerate(read_csv(root / "SeeTRUE.csv")):
        draw(root / "images" / row["image"], seed)


def two_sources(items: list[Item], root: Path) -> tuple[Scores, Expected]:
    """Scores are one more than the labels in coco_t2i, and all alike elsewhere."""
    with (root / "SeeTRUE.csv").open(newline="") as stream:
        labels = [(row["dataset_source"], int(row["label"])) for row in csv.DictReader(stream)]
    scores = per_item(
        items,
        lambda n: [
            label + 1 if items[n].tags == ("coco_t2i",) else 1 for label in items[n].labels["human"]
        ],
    )
    right = [value for source, value in labels if source == "coco_t2i"]
    other = [value for source, value in labels if source != "coco_t2i"]
    # A pair of another score is right, one of equal scores half so; only coco's matches have 2.
    wins = sum(right) * (len(right) - sum(right) + len(other) - sum(other))
    ties = sum(other) * (len(right) - sum(right) + len(other) - sum(other))
    every = (sum(right) + sum(other)) * (len(labels) - sum(right) - sum(other))
    # DrawBench's excerpt has labels of one sort only, so that its part is undefined.
    return scores, {"auroc": (wins + ties / 2) / every, "mean_auroc": (1 + 0.5) / 2}


EXAMPLES = {
    "seetrue": Example(
        write=write,
        items=9,
        images=28,
        texts=9,
        tags={"drawbench": 3, "coco_t2i": 3, "editbench": 3},
        metric=two_sources,
        duplicate=duplicate_line("SeeTRUE.csv"),
        duplicate_message="row 29: .* occurs twice with",
        malformed=line_with("SeeTRUE.csv", 2, "a.png,text,yes,1,drawbench"),
        malformed_message="row 2: 'label' is 'yes'",
    )
}


def test_seetrue(tmp_path):
    write(tmp_path)
    benchmark = benchmarks.create("seetrue", root=tmp_path)
    items = benchmark.items()
    assert sum(len(item.images) for item in items) == 28
    by_source = {}
    for item in items:
        by_source.setdefault(item.tags[0], []).append(item)
    assert {source: len(actual) for source, actual in by_source.items()} == {
        "drawbench": 3, "coco_t2i": 3, "editbench": 3
    }  # fmt: skip
    cats = next(item for item in items if item.texts[0].startswith("a few cats"))
    assert cats.labels == {"human": [0, 1, 1, 0]}
    # Scores that are the labels in two sources and reversed in the third.
    scores = [
        np.array(item.labels["human"], np.float32)[:, None]
        * (-1 if item.tags[0] == "editbench" else 1)
        for item in items
    ]
    actual = benchmark.metrics(items, scores)
    # No text of DrawBench here is labelled 1, so that its AUROC is undefined and not counted.
    assert actual["mean_auroc"] == pytest.approx((1 + 0) / 2)
    labels = np.concatenate([item.labels["human"] for item in items])
    flat = np.concatenate([entry.ravel() for entry in scores])
    wins = [(a > b) + (a == b) / 2 for a in flat[labels == 1] for b in flat[labels == 0]]
    assert actual["auroc"] == pytest.approx(np.mean(wins))


def test_seetrue_missing_scores_keep_their_rows(tmp_path):
    write(tmp_path)
    benchmark = benchmarks.create("seetrue", root=tmp_path)
    items = benchmark.items()
    scores = [np.array(item.labels["human"], np.float32)[:, None] for item in items]
    for entry in scores:
        entry[0] = np.nan
    assert benchmark.metrics(items, scores)["auroc"] == 1, "no label moves to another row"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.png,text,2,1,drawbench", "'label' is '2', not 0 or 1"),
        ("a.png,text,,1,drawbench", "'label' is empty"),
        ("a.png,text", "2 values and the header names 5"),
        (None, "occurs twice with"),
    ],
)
def test_seetrue_malformed(tmp_path, line, message):
    write(tmp_path)
    path = tmp_path / "SeeTRUE.csv"
    content = path.read_text()
    path.write_text(content + (line or content.splitlines()[1]) + "\n")
    with pytest.raises(BenchmarkDataError, match=f"row 29.*{message}"):
        benchmarks.create("seetrue", root=tmp_path).items()
