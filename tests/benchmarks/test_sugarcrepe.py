"""SugarCrepe: a caption and one with a changed, added or swapped word."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.benchmarks.example import Example, duplicate_key, json_with
from helpers.benchmarks.expected_metrics import true_but_the_first
from helpers.benchmarks.small_files import FIXTURES, copy, draw, write_json

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")


def write(root: Path) -> None:
    for path in sorted((FIXTURES / "sugarcrepe").glob("*.json")):
        copy(root, f"sugarcrepe/{path.name}")
        for row in json.loads(path.read_text(encoding="utf-8")).values():
            draw(root / "val2017" / row["filename"], int(row["filename"][:-4]) % 97)


EXAMPLES = {
    "sugarcrepe": Example(
        write=write,
        items=14,
        images=14,
        texts=28,
        tags={
            "add_att": 2,
            "add_obj": 2,
            "replace_att": 2,
            "replace_obj": 2,
            "replace_rel": 2,
            "swap_att": 2,
            "swap_obj": 2,
            "add": 4,
            "replace": 6,
            "swap": 4,
        },
        metric=true_but_the_first(*[2] * 7),
        duplicate=duplicate_key("swap_att.json"),
        duplicate_message="swap_att.json: the key '0' occurs twice",
        malformed=json_with("add_obj.json", lambda c: c["1"].update(negative_caption=None)),
        malformed_message="add_obj.json, '1': 'negative_caption' is None",
    )
}


@pytest.fixture
def benchmark(tmp_path):
    write(tmp_path)
    return benchmarks.create("sugarcrepe", root=tmp_path)


def test_sugarcrepe(benchmark):
    items = benchmark.items()
    assert [item.id for item in items][:3] == ["add_att/0", "add_att/1", "add_obj/0"]
    assert items[0].texts == [
        "A drawing of a young woman with many facial piercings.",
        "A drawing of a tattooed young woman with many facial piercings.",
    ]
    assert items[0].images[0].endswith("val2017/000000085329.jpg")
    assert items[0].tags == ("add_att", "add") and items[-1].tags == ("swap_obj", "swap")
    tags = [tag for item in items for tag in item.tags]
    assert tags.count("replace") == 6 and tags.count("add") == tags.count("swap") == 4


def test_a_tie_is_wrong_and_parts_count_alike(benchmark):
    items = benchmark.items()
    scores = [np.array([[0.9, 0.1]], np.float32) for _ in items]
    scores[0] = np.array([[0.5, 0.5]], np.float32)
    scores[2] = np.array([[0.1, 0.5]], np.float32)
    assert benchmark.metrics(items, scores) == {
        "macro": pytest.approx(6 / 7),
        "accuracy": pytest.approx(12 / 14),
    }
    # Without three of the last part's and the one before's items, the parts still count alike.
    actual = benchmark.statistic(items, scores)(np.array([0, 1, 2, 2, 3, 4, 5]))
    assert actual["accuracy"] == pytest.approx(4 / 7)
    assert actual["macro"] == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)
    scores[0][:] = np.nan
    assert benchmark.metrics(items, scores)["accuracy"] == pytest.approx(12 / 13)
    nothing = [np.full((1, 2), np.nan, np.float32)] * len(items)
    assert all(np.isnan(value) for value in benchmark.metrics(items, nothing).values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"caption": " "}, "'0': 'caption' is ' ', not str"),
        ({"filename": None}, "'0': 'filename' is None, not str"),
    ],
)
def test_sugarcrepe_malformed(tmp_path, change, message):
    write(tmp_path)
    content = json.loads((tmp_path / "swap_obj.json").read_text(encoding="utf-8"))
    content["0"] |= change
    write_json(tmp_path / "swap_obj.json", content)
    with pytest.raises(BenchmarkDataError, match=message):
        benchmarks.create("sugarcrepe", root=tmp_path).items()
