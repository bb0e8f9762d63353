"""Pascal-50S: two captions of an image, of which people prefer one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.benchmarks.example import Example, duplicate_json_row, json_with
from helpers.benchmarks.expected_metrics import true_but_the_first
from helpers.benchmarks.small_files import draw, write_json

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")


def write(root: Path) -> None:
    content = {
        kind: [
            {"image": f"{kind}_{n}.jpg", "captions": ["first", "second"], "label": (n + k) % 2}
            | {"references": ["a reference", "another"]}
            for n in range(2)
        ]
        for k, kind in enumerate(("HC", "HI", "HM", "MM"))
    }
    write_json(root / "pascal_50s.json", content)
    for seed, name in enumerate(row["image"] for rows in content.values() for row in rows):
        draw(root / "images" / name, seed)


EXAMPLES = {
    "pascal-50s": Example(
        write=write,
        items=8,
        images=8,
        texts=16,
        tags={"HC": 2, "HI": 2, "HM": 2, "MM": 2},
        metric=true_but_the_first(*[2] * 4),
        duplicate=duplicate_json_row("pascal_50s.json", "HI"),
        duplicate_message="warns: 1 of 9 items occur twice",
        malformed=json_with("pascal_50s.json", lambda c: c.pop("MM")),
        malformed_message="pascal_50s.json: there is no 'MM'",
    )
}


def test_pascal_50s(tmp_path):
    write(tmp_path)
    benchmark = benchmarks.create("pascal-50s", root=tmp_path)
    items = benchmark.items()
    assert [item.texts[0] for item in items] == ["first", "second", "second", "first"] * 2
    assert items[0].references == [["a reference", "another"]]
    assert [item.tags for item in items][::2] == [("HC",), ("HI",), ("HM",), ("MM",)]
    scores = [np.array([[0.9, 0.1]], np.float32) for _ in items]
    scores[7][:] = 0.5
    assert benchmark.metrics(items, scores) == {
        "macro": pytest.approx((1 + 1 + 1 + 0.5) / 4),
        "accuracy": pytest.approx(7 / 8),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 2}, "HC, row 1: there are 2 captions and the label 2"),
        ({"captions": ["one"]}, "there are 1 captions"),
        ({"references": "none"}, "'references' is 'none', not list"),
    ],
)
def test_pascal_50s_malformed(tmp_path, change, message):
    write(tmp_path)
    content = json.loads((tmp_path / "pascal_50s.json").read_text())
    content["HC"][0] |= change
    write_json(tmp_path / "pascal_50s.json", content)
    with pytest.raises(BenchmarkDataError, match=message):
        benchmarks.create("pascal-50s", root=tmp_path).items()
