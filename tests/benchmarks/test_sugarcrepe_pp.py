"""SugarCrepe++; the tests of all benchmarks take its example from here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.benchmarks.example import Example, duplicate_json_row, json_with
from helpers.benchmarks.expected_metrics import true_but_the_first
from helpers.benchmarks.small_files import draw, write_json

from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

PARTS = {"replace_att": 2, "replace_obj": 2, "replace_rel": 2, "swap_att": 2, "swap_obj": 2}


def write(root: Path) -> None:
    for k, part in enumerate(("replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")):
        rows = [
            {"id": n, "filename": f"00000000000{k}.jpg", "caption": f"{part} {n} is so"}
            | {"caption2": f"so is {part} {n}", "negative_caption": f"{part} {n} is not so"}
            for n in range(2)
        ]
        write_json(root / f"{part}.json", rows)
        draw(root / "val2017" / f"00000000000{k}.jpg", k)


EXAMPLES = {
    "sugarcrepe-pp": Example(
        write=write,
        items=10,
        images=10,
        texts=30,
        tags=PARTS | {"replace": 6, "swap": 4},
        metric=true_but_the_first(*[2] * 5),
        duplicate=duplicate_json_row("swap_obj.json"),
        duplicate_message="the id swap_obj/0 occurs twice",
        malformed=json_with("swap_obj.json", lambda c: c[1].pop("caption2")),
        malformed_message="swap_obj.json, row 2: there is no 'caption2'",
    )
}


def test_sugarcrepe_pp_wants_both_true_captions_above_the_false_one(tmp_path):
    write(tmp_path)
    benchmark = benchmarks.create("sugarcrepe-pp", root=tmp_path)
    items = benchmark.items()
    assert items[0].id == "replace_att/0" and items[-1].tags == ("swap_obj", "swap")
    assert items[0].texts == [
        "replace_att 0 is so",
        "so is replace_att 0",
        "replace_att 0 is not so",
    ]
    scores = [np.array([[0.9, 0.5, 0.1]], np.float32) for _ in items]
    scores[0][:] = [[0.9, 0.1, 0.5]]  # one of the two is below
    scores[2][:] = [[0.9, 0.5, 0.5]]  # a tie
    actual = benchmark.metrics(items, scores)
    assert actual == {"macro": pytest.approx(4 / 5), "accuracy": pytest.approx(8 / 10)}
    # Of the six orders of three scores, two have the false caption's last.
    assert benchmark.chance["accuracy"] == pytest.approx(2 / 6)
