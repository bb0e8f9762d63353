"""EvalMi-50K: two mean opinion scores and yes or no in a workbook, prompts in lines."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers.benchmarks.example import Example
from helpers.benchmarks.expected_metrics import Expected, Scores, agreement, column
from helpers.benchmarks.small_files import draw
from openpyxl import Workbook

from t2v_eval.errors import BenchmarkDataError, MissingPackageError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.evaluation.options import open_benchmark

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

BOOK = "MOS&QA/AIGI2025_MOS_yn.xlsx"
HEAD = ("ImageName", "MOS1", "MOS2", "Y/N", "YN_1")
ROWS = [  # generators one after the other, as in the file
    ("ELLA/001.png", 66.5, 64.25, 1, 1),
    ("ELLA/0002.png", 50, 41.5, 0, ""),
    ("hart/001.png", 31.25, 64, 1, 0),
    ("hart/0002.png", 45.5, 39, 1, ""),
]
# The published file has keys that occur twice in an object.
LINES = '{"tag": "counting", "color": 1, "color": 2, "prompt": "two cups"}\n' + (
    '{"tag": "view", "prompt": "a cup\u2028from above"}\n'
)


def write_book(path: Path, rows) -> None:
    book = Workbook()
    for row in rows:
        book.active.append([None if value == "" else value for value in row])
    path.parent.mkdir(exist_ok=True)
    book.save(path)


def with_rows(*rows):
    return lambda root: write_book(root / BOOK, rows)


def write(root: Path) -> None:
    write_book(root / BOOK, [HEAD, *ROWS])
    (root / "prompts").mkdir()
    (root / "prompts/prompt_tasks.jsonl").write_text(LINES, encoding="utf-8")
    for n, (name, *_) in enumerate(ROWS):
        draw(root / name, n)


def values(n):
    """The labels of the first prompt's images, then those of the second's."""
    return lambda _: [ROWS[k][n] for k in (0, 2, 1, 3)]


def answers(_: list[Item], __: Path) -> tuple[Scores, Expected]:
    """The image that fails scores above one of the three others, and below two."""
    return [column(1, 4), column(2, 3)], {"auroc": 2 / 3}


def example(metric) -> Example:
    wrong = ("hart/0003.png", 1, 1, 1, "")
    return Example(
        write=write,
        items=2,
        images=4,
        texts=2,
        tags={"counting": 1, "view": 1},
        metric=metric,
        duplicate=with_rows(HEAD, *ROWS, ROWS[0]),
        duplicate_message="AIGI2025_MOS_yn.xlsx, row 6: ELLA/001.png occurs twice",
        malformed=with_rows(HEAD, ROWS[0], wrong),
        malformed_message="row 3: the image is 'hart/0003.png', not GENERATOR/NUMBER.png.*2 lines",
    )


EXAMPLES = {
    "evalmi-50k": example(agreement(values(2), "spearman", "pearson", "tau_b")),
    "evalmi-50k-perception": example(agreement(values(1), "spearman", "pearson", "tau_b")),
    "evalmi-50k-answers": example(answers),
}


def test_evalmi50k(tmp_path):
    write(tmp_path)
    items = open_benchmark("evalmi-50k", tmp_path).items()
    assert [item.texts for item in items] == [["two cups"], ["a cup\u2028from above"]]
    assert items[1].labels == {"human": [41.5, 39.0], "generator": ["ELLA", "hart"]}
    assert [Path(str(image)).name for image in items[1].images] == ["0002.png"] * 2
    for change, message in (
        (with_rows(HEAD, ("ELLA/001.png", 50, "", 1, 1)), "row 2: 'MOS2' is None, not a number"),
        (with_rows(HEAD, ("ELLA/001.png", 50, 101, 1, 1)), "not from 0 to 100"),
        (lambda root: (root / BOOK).write_text("MOS1"), "is no workbook that can be read"),
    ):
        change(tmp_path)
        with pytest.raises(BenchmarkDataError, match=message):
            open_benchmark("evalmi-50k", tmp_path).items()


def test_a_workbook_without_its_reader_names_the_package(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingPackageError, match=r"t2v-eval\[xlsx\]"):
        open_benchmark("evalmi-50k", tmp_path).items()
