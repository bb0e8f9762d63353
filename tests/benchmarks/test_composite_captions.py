"""The Composite set of judged captions, from a converted file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.benchmarks.example import Example, duplicate_json_row, json_with
from helpers.benchmarks.expected_metrics import agreement, row
from helpers.benchmarks.small_files import draw, write_json
from scipy import stats

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

RATED = {  # part: image, caption, rating
    "flickr8k": [("a.jpg", "a dog", 5), ("a.jpg", "a  cat", 1), ("b.jpg", "two men", 3)],
    "coco": [("c.jpg", "a tram", 4), ("c.jpg", "a bus", 3)],
}


def write(root: Path) -> None:
    content = {
        part: [
            {"image": image, "caption": caption, "human": human, "references": [f"of {image}"]}
            for image, caption, human in rows
        ]
        for part, rows in RATED.items()
    }
    write_json(root / "composite.json", content)
    for seed, name in enumerate("abc"):
        draw(root / "images" / f"{name}.jpg", seed)


EXAMPLES = {
    "composite-captions": Example(
        write=write,
        items=3,
        images=3,
        texts=5,
        tags={"flickr8k": 2, "coco": 1},
        metric=agreement(lambda root: [5, 1, 3, 4, 3], "tau_c", "pearson"),
        duplicate=duplicate_json_row("composite.json", "coco"),
        duplicate_message="counts: 3, as two systems may write one caption",
        malformed=json_with("composite.json", lambda c: c["coco"][1].update(human="good")),
        malformed_message="coco, row 2: 'human' is 'good', not a number",
    )
}


def test_composite(tmp_path):
    write(tmp_path)
    benchmark = benchmarks.create("composite-captions", root=tmp_path)
    items = benchmark.items()
    assert [item.id for item in items] == ["flickr8k/a.jpg", "flickr8k/b.jpg", "coco/c.jpg"]
    assert items[0].texts == ["a dog", "a cat"] and items[0].labels == {"human": [5, 1]}
    assert items[2].references == [["of c.jpg"]] and items[2].tags == ("coco",)
    actual = benchmark.metrics(items, [row(0.9, 0.2), row(0.8), row(0.5, 0.6)])
    expected = stats.kendalltau([0.9, 0.2, 0.8, 0.5, 0.6], [5, 1, 3, 4, 3], variant="c").statistic
    assert next(iter(actual)) == "tau_c" and actual["tau_c"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"human": 6}, "flickr8k, row 1: 'human' is 6, not from 0 to 5"),
        ({"human": None}, "'human' is None, not a number"),
        ({"caption": ""}, "row 1: 'caption' is empty"),
        ({"references": ["other"]}, "the captions of a.jpg have different references"),
    ],
)
def test_composite_malformed(tmp_path, change, message):
    write(tmp_path)
    content = json.loads((tmp_path / "composite.json").read_text())
    content["flickr8k"][0] |= change
    write_json(tmp_path / "composite.json", content)
    with pytest.raises(BenchmarkDataError, match=message):
        benchmarks.create("composite-captions", root=tmp_path).items()
