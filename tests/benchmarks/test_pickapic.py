"""Pick-a-Pic: preferences between two images, of 100 prompts and of the test set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from helpers.benchmarks.example import (
    TWICE,
    Example,
    duplicate_json_row,
    duplicate_table_row,
    json_with,
    table_with,
)
from helpers.benchmarks.expected_metrics import Expected, Metric, Scores, column, per_item
from helpers.benchmarks.small_files import draw, jpeg, write_json
from pyarrow import parquet

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

PICKED = [  # id, label_0, label_1; the third is none of the chosen ones
    (1, 1, 0), (9, 0, 1), (2, 1, 0), (385, 0.5, 0.5)
]  # fmt: skip


def write_100(root: Path) -> None:
    rows = [
        {"id": i, "caption": f"caption {i}", "label_0": first, "label_1": second}
        | {f"image_{k}": f"images/{i}_{k}.jpg" for k in (0, 1)}
        for i, first, second in PICKED
    ]
    write_json(root / "test_captions.json", rows)
    for i, _, _ in PICKED:
        for k in (0, 1):
            draw(root / "images" / f"{i}_{k}.jpg", 2 * i + k)


def write_test(root: Path) -> None:
    rows = [
        {"caption": f"caption {i}", "jpg_0": jpeg(2 * i), "jpg_1": jpeg(2 * i + 1)}
        | {"label_0": float(first), "label_1": float(second), "ranking_id": i}
        for i, first, second in PICKED
    ]
    (root / "data").mkdir()
    for part, subset in enumerate((rows[:3], rows[3:])):
        path = root / "data" / f"test_unique-0000{part}-of-00002.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(subset), path)
    other = pyarrow.Table.from_pylist(rows[:1])
    parquet.write_table(other, root / "data" / "test-00000-of-00001.parquet")


def first_image_wins(preference: float, accuracy: float) -> Metric:
    def case(items: list[Item], _: Path) -> tuple[Scores, Expected]:
        expected = {"preference": preference, "accuracy": accuracy}
        return per_item(items, lambda n: [1, 0]), expected

    return case


EXAMPLES = {
    "pickapic-100": Example(
        write=write_100,
        items=3,
        images=6,
        texts=3,
        tags={},
        # Of the chosen pairs people prefer the first, the second, and neither.
        metric=first_image_wins((1 + 0 + 0.5) / 3, 1 / 2),
        duplicate=duplicate_json_row("test_captions.json"),
        duplicate_message="row 5: the id 1 occurs twice",
        malformed=json_with("test_captions.json", lambda c: c[1].update(label_1=2)),
        malformed_message="id 9: the labels are 0 and 2",
    ),
    "pickapic-test": Example(
        write=write_test,
        items=4,
        images=8,
        texts=4,
        tags={},
        # The first, the second, the first, and neither.
        metric=first_image_wins((1 + 0 + 1 + 0.5) / 4, 2 / 3),
        duplicate=duplicate_table_row("data/test_unique-00000-of-00002.parquet"),
        duplicate_message=TWICE,
        malformed=table_with("data/test_unique-00000-of-00002.parquet", "label_0", 0.2),
        malformed_message="row 1: the labels are 0.2 and 0",
    ),
}


def test_pickapic(tmp_path):
    write_100(tmp_path)
    benchmark = benchmarks.create("pickapic-100", root=tmp_path)
    items = benchmark.items()
    assert [item.id for item in items] == ["1", "9", "385"], "in the authors' order, 2 not chosen"
    assert items[1].labels["human"] == [0, 1] and items[2].labels["human"] == [0.5, 0.5]
    # Right, a tie of scores for a preference, and a preference for the user's tie.
    actual = benchmark.metrics(items, [column(2, 1), column(1, 1), column(1, 2)])
    assert actual == {"preference": pytest.approx((1 + 0.5 + 0.5) / 3), "accuracy": 0.5}
    assert benchmark.metrics(items, [column(2, 1), column(1, np.nan), column(1, 1)]) == {
        "preference": 1.0, "accuracy": 1.0
    }  # fmt: skip


def test_pickapic_test_reads_the_parquet_of_the_right_split(tmp_path):
    write_test(tmp_path)
    benchmark = benchmarks.create("pickapic-test", root=tmp_path)
    items = benchmark.items()
    assert [item.labels["human"] for item in items] == [[1, 0], [0, 1], [1, 0], [0.5, 0.5]]
    assert all(isinstance(image, bytes) for item in items for image in item.images)
    for path in (tmp_path / "data").glob("test_unique*"):
        path.unlink()
    assert len(benchmark.items()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_0": 0.3}, "id 1: the labels are 0.3 and 0"),
        ({"label_0": 1, "label_1": 1}, "the labels are 1 and 1"),
        ({"label_0": None}, "'label_0' is None, not float"),
        ({"id": 9}, "row 2: the id 9 occurs twice"),
        ({"image_1": 3}, "'image_1' is 3, not str"),
    ],
)
def test_pickapic_malformed(tmp_path, change, message):
    write_100(tmp_path)
    rows = json.loads((tmp_path / "test_captions.json").read_text())
    write_json(tmp_path / "test_captions.json", [rows[0] | change, *rows[1:]])
    with pytest.raises(BenchmarkDataError, match=message):
        benchmarks.create("pickapic-100", root=tmp_path).items()
