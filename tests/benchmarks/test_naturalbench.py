"""NaturalBench's pairs for retrieval."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.benchmarks.example import Example, duplicate_json_row, json_with
from helpers.benchmarks.expected_metrics import pairs_right_but_the_last
from helpers.benchmarks.small_files import draw, write_json

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")


def write(root: Path) -> None:
    rows = [
        {"index": n, "caption_0": f"one {n}", "caption_1": f"other {n}"}
        | {f"image_{k}": f"{n}_{k}.jpg" for k in (0, 1)}
        for n in range(3)
    ]
    write_json(root / "metadata.json", rows)
    for row in rows:
        for k in (0, 1):
            draw(root / "images" / row[f"image_{k}"], 2 * row["index"] + k)


EXAMPLES = {
    "naturalbench-retrieval": Example(
        write=write,
        items=3,
        images=6,
        texts=6,
        tags={},
        metric=pairs_right_but_the_last,
        duplicate=duplicate_json_row("metadata.json"),
        duplicate_message="the id 0 occurs twice",
        malformed=json_with("metadata.json", lambda c: c[2].update(index="two")),
        malformed_message="row 3: 'index' is 'two', not int",
    )
}

RIGHT, TEXT_ALONE = ([[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.95, 0.96]])


def test_naturalbench(tmp_path):
    write(tmp_path)
    benchmark = benchmarks.create("naturalbench-retrieval", root=tmp_path)
    items = benchmark.items()
    assert [item.id for item in items] == ["0", "1", "2"]
    assert items[2].texts == ["one 2", "other 2"]
    scores = [np.array(entry, np.float32) for entry in (RIGHT, RIGHT, TEXT_ALONE)]
    assert benchmark.metrics(items, scores)["group"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": 1}, "id 1 occurs twice"),
        ({"image_0": ""}, "'image_0' is empty"),
    ],
)
def test_naturalbench_malformed(tmp_path, change, message):
    write(tmp_path)
    json_with("metadata.json", lambda rows: rows[0].update(change))(tmp_path)
    with pytest.raises(BenchmarkDataError, match=message):
        benchmarks.create("naturalbench-retrieval", root=tmp_path).items()
