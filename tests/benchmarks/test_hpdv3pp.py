"""HPDv3++: pairs of images, of which the first is preferred."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.benchmarks.example import Example, duplicate_json_row, json_with
from helpers.benchmarks.expected_metrics import Expected, Scores, column
from helpers.benchmarks.small_files import draw, write_json

from t2v_eval.evaluation.benchmark import Item

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")


def write(root: Path, aspect: str) -> None:
    rows = [
        {f"path{k}": f"images/qwen_image/{n}_{k}.jpg" for k in (1, 2)} | {"prompt": f"prompt {n}"}
        for n in range(4)
    ]
    write_json(root / "test" / f"test_{aspect}.json", rows)
    for n, row in enumerate(rows):
        for k in (1, 2):
            draw(root / row[f"path{k}"], 2 * n + k)


def right_wrong_tied(_: list[Item], __: Path) -> tuple[Scores, Expected]:
    scores = [column(2, 1), column(1, 2), column(1, 1), column(1, 0)]
    return scores, {"accuracy": 2 / 4, "preference": 2.5 / 4}


def example(aspect: str) -> Example:
    file = f"test/test_{aspect}.json"
    return Example(
        write=lambda root: write(root, aspect),
        items=4,
        images=8,
        texts=4,
        tags={},
        metric=right_wrong_tied,
        duplicate=duplicate_json_row(file),
        duplicate_message="warns: 1 of . items occur twice and count twice",
        malformed=json_with(file, lambda content: content[1].pop("path2")),
        malformed_message=f"test_{aspect}.json, row 2: there is no 'path2'",
    )


EXAMPLES = {"hpdv3pp-text": example("tf"), "hpdv3pp-aesthetic": example("aes")}
