"""ImageReward's test set: rankings of the images of a prompt."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.benchmarks.example import Example, duplicate_json_row, json_with
from helpers.benchmarks.expected_metrics import column, ranked
from helpers.benchmarks.small_files import copy, draw, write_json

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")


def write(root: Path) -> None:
    copy(root, "imagereward/test.json")
    names = [
        name for row in json.loads((root / "test.json").read_text()) for name in row["generations"]
    ]
    for seed, name in enumerate(names):
        draw(root / name, seed)


EXAMPLES = {
    "imagereward-test": Example(
        write=write,
        items=3,
        images=15,
        texts=3,
        tags={},
        # Ranks 1 2 5 3, 3 2 3 2 5 and 1 2 1 4 3 4, images in falling order.
        metric=ranked((5, 1, 0), (5, 3, 2), (11, 2, 2)),
        duplicate=duplicate_json_row("test.json"),
        duplicate_message="the id 005658-0040 occurs twice",
        malformed=json_with("test.json", lambda c: c[1].update(generations=["a.webp"])),
        malformed_message="row 2: 1 images have 5 ranks",
    )
}


def test_imagereward(tmp_path):
    write(tmp_path)
    benchmark = benchmarks.create("imagereward-test", root=tmp_path)
    items = benchmark.items()
    assert items[0].id == "005658-0040" and items[0].labels["human"] == [-1, -2, -5, -3]
    assert [len(item.images) for item in items] == [4, 5, 6]
    # Ranks 3 2 3 2 5 have two tied pairs of ten, ranks 1 2 1 4 3 4 two of fifteen.
    scores = [column(4, 3, 1, 2), column(1, 1, 1, 1, 1), column(6, 5, 6, 2, 3, 1)]
    # All six right; none of eight; all thirteen.
    actual = benchmark.metrics(items, scores)
    assert actual["accuracy"] == pytest.approx((6 + 0 + 13) / (6 + 8 + 13))
    assert actual["ranking"] == pytest.approx((1 + 2 / 10 + 1) / 3)
    scores[0][0] = np.nan
    actual = benchmark.metrics(items, scores)
    assert actual["accuracy"] == pytest.approx((3 + 0 + 13) / (3 + 8 + 13))
    twice = benchmark.statistic(items, scores)(np.array([2, 2, 1]))
    assert twice["accuracy"] == pytest.approx(26 / 34)
    nothing = [np.full_like(entry, np.nan) for entry in scores]
    assert all(np.isnan(value) for value in benchmark.metrics(items, nothing).values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ranking": [1, 2]}, "row 1: 4 images have 2 ranks"),
        ({"ranking": [1, 2, 3, "x"]}, "row 1: a rank is 'x', not a number"),
        ({"ranking": None}, "row 1: 'ranking' is None, not list"),
        ({"prompt": ""}, "row 1: 'prompt' is empty"),
        ({"id": "005805-0034"}, None),
    ],
)
def test_imagereward_malformed(tmp_path, change, message):
    write(tmp_path)
    rows = json.loads((tmp_path / "test.json").read_text())
    if message is None:
        change, message = {"id": rows[1]["id"]}, "occurs twice"
    write_json(tmp_path / "test.json", [rows[0] | change, *rows[1:]])
    with pytest.raises(BenchmarkDataError, match=message):
        benchmarks.create("imagereward-test", root=tmp_path).items()
