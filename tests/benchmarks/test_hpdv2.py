"""HPDv2's test set: rankings of the images of a prompt."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.benchmarks.example import Example, duplicate_json_row, json_with
from helpers.benchmarks.expected_metrics import column, ranked
from helpers.benchmarks.small_files import draw, write_json

from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

ROWS = [
    {"prompt": "a cat in the rain", "image_path": ["0.jpg", "1.jpg", "2.jpg"], "rank": [1, 3, 2]},
    {"prompt": "a tram", "image_path": ["3.jpg", "4.jpg", "5.jpg"], "rank": [1.5, 1.5, 3]},
]


def write(root: Path) -> None:
    write_json(root / "test.json", ROWS)
    for n in range(6):
        draw(root / "test" / f"{n}.jpg", n)


EXAMPLES = {
    "hpdv2-test": Example(
        write=write,
        items=2,
        images=6,
        texts=2,
        tags={},
        metric=ranked((2, 1, 0), (2, 0, 1)),  # ranks 1 3 2 and 1.5 1.5 3
        duplicate=duplicate_json_row("test.json"),
        duplicate_message="warns: 1 of 3 items occur twice",
        malformed=json_with("test.json", lambda c: c[1].update(rank=[1, 2, "x"])),
        malformed_message="row 2: a rank is 'x', not a number",
    )
}


def test_hpdv2(tmp_path):
    write(tmp_path)
    benchmark = benchmarks.create("hpdv2-test", root=tmp_path)
    items = benchmark.items()
    assert items[0].labels["human"] == [-1, -3, -2]
    # Ranks 1 3 2: two of three pairs right. Ranks 1.5 1.5 3: the untied two right.
    actual = benchmark.metrics(items, [column(3, 2, 1), column(5, 4, 1)])
    assert actual == {"accuracy": pytest.approx(4 / 5), "ranking": pytest.approx((2 / 3 + 1) / 2)}
    assert benchmark.headline == "ranking"
