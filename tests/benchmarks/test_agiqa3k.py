"""AGIQA-3K: an item is a prompt, with all its images."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.benchmarks.example import Example, cell_with, duplicate_line
from helpers.benchmarks.expected_metrics import agreement
from helpers.benchmarks.small_files import copy, draw, read_csv

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")


def write(root: Path) -> None:
    copy(root, "agiqa3k/data.csv")
    for seed, row in enumerate(read_csv(root / "data.csv")):
        draw(root / row["name"], seed)


def ratings(name: str) -> Callable[[Path], list[float]]:
    def read(root: Path) -> list[float]:
        with (root / "data.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        order = list(dict.fromkeys(row["prompt"] for row in rows))
        rows.sort(key=lambda row: order.index(row["prompt"]))
        return [float(row[name]) for row in rows]

    return read


def example(name: str) -> Example:
    return Example(
        write=write,
        items=3,
        images=30,
        texts=3,
        tags={"anime style": 1, "sci-fi style": 1},
        metric=agreement(ratings(name)),
        duplicate=duplicate_line("data.csv"),
        duplicate_message="row 31: .* occurs twice",
        malformed=cell_with("data.csv", name, "good"),
        malformed_message=f"data.csv, row 1: '{name}' is 'good', not a number",
    )


EXAMPLES = {"agiqa-3k": example("mos_align"), "agiqa-3k-quality": example("mos_quality")}


def test_agiqa(tmp_path):
    write(tmp_path)
    items = benchmarks.create("agiqa-3k", root=tmp_path).items()
    assert items[0].id == "statue of a man"
    assert [len(item.images) for item in items] == [10, 10, 10]
    assert [item.tags for item in items] == [(), ("anime style",), ("sci-fi style",)]
    assert items[0].labels["human"][:2] == [0.40889324, 3.481534167]
    items = benchmarks.create("agiqa-3k-quality", root=tmp_path).items()
    assert items[0].labels["human"][:2] == [0.965602553, 3.058757207]
    content = (tmp_path / "data.csv").read_text()
    (tmp_path / "data.csv").write_text(content + content.splitlines()[1] + "\n")
    with pytest.raises(BenchmarkDataError, match="row 31: AttnGAN_normal_000.jpg occurs twice"):
        benchmarks.create("agiqa-3k", root=tmp_path).items()
