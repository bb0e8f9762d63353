"""EqBen-mini: pairs of images and captions that differ in little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.benchmarks.example import TWICE, Example, duplicate_json_row, json_with
from helpers.benchmarks.expected_metrics import pairs_right_but_the_last
from helpers.benchmarks.small_files import draw, write_json

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

SUBSETS = ["eqbensd", "eqbenkubric_cnt", "eqbenkubric_attr", "eqbenyoucook2"]


def write(root: Path) -> None:
    rows = [
        {f"image{k}": f"{subset}/{n}/{k}.png" for k in (0, 1)}
        | {f"caption{k}": f"{subset} caption {k}" for k in (0, 1)}
        for n, subset in enumerate(SUBSETS)
    ]
    write_json(root / "all_select.json", rows)
    for n, row in enumerate(rows):
        for k in (0, 1):
            draw(root / "images" / row[f"image{k}"], 2 * n + k)


EXAMPLES = {
    "eqben-mini": Example(
        write=write,
        items=4,
        images=8,
        texts=8,
        tags={"eqbensd": 1, "eqbenk": 2, "eqbeny": 1},
        metric=pairs_right_but_the_last,
        duplicate=duplicate_json_row("all_select.json"),
        duplicate_message=TWICE,
        malformed=json_with("all_select.json", lambda c: c[2].pop("caption0")),
        malformed_message="row 3: there is no 'caption0'",
    )
}

RIGHT, TEXT_ALONE = ([[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.95, 0.96]])


def test_eqben_mini(tmp_path):
    write(tmp_path)
    benchmark = benchmarks.create("eqben-mini", root=tmp_path)
    items = benchmark.items()
    assert [item.tags for item in items] == [("eqbensd",), ("eqbenk",), ("eqbenk",), ("eqbeny",)]
    assert items[3].texts == ["eqbenyoucook2 caption 0", "eqbenyoucook2 caption 1"]
    assert items[3].images[1].endswith("images/eqbenyoucook2/3/1.png")
    scores = [np.array(entry, np.float32) for entry in (RIGHT, RIGHT, TEXT_ALONE, TEXT_ALONE)]
    assert benchmark.metrics(items, scores) == {"text": 1.0, "image": 0.5, "group": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image0": "new/1.png"}, "is of none of the sub"),
        ({"caption1": 3}, "row 1: 'caption1' is 3, not str"),
    ],
)
def test_eqben_mini_malformed(tmp_path, change, message):
    write(tmp_path)
    json_with("all_select.json", lambda rows: rows[0].update(change))(tmp_path)
    with pytest.raises(BenchmarkDataError, match=message):
        benchmarks.create("eqben-mini", root=tmp_path).items()
