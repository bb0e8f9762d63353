"""What the tests of all benchmarks need of each: a small copy, counts, metrics, faults.

A module of tests, `tests/benchmarks/test_MODULE.py`, where MODULE is the benchmark's module, holds
them as `EXAMPLES: dict[str, Example]` by the benchmark's name.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
from helpers.benchmarks.expected_metrics import Metric
from helpers.benchmarks.small_files import draw
from pyarrow import parquet


class Example(NamedTuple):
    """A small copy of a benchmark's files, and what they hold.

    Attributes:
        write: writes the files, in their authors' layout, into a folder.
        items, images, texts: how many there are.
        tags: how many items have each tag.
        metric: returns scores for the items, and the metrics of these scores computed by hand.
        duplicate: changes the files so that a row is there twice.
        duplicate_message: the error then; or "warns: " and the warning; or "counts: ", how many
            items there are then, and why that is right.
        malformed: changes the files so that a row is malformed.
        malformed_message: the error then, which names the file and the row.
    """

    write: Callable[[Path], None]
    items: int
    images: int
    texts: int
    tags: dict[str, int]
    metric: Metric
    duplicate: Callable[[Path], None]
    duplicate_message: str
    malformed: Callable[[Path], None]
    malformed_message: str


def rating_faults(file: str) -> dict[str, Any]:
    """What rows do in a file of {name: {"prompt", "models": {generator: ratings}}}."""
    return {
        "duplicate": duplicate_key(file),
        "duplicate_message": "the key '.*' occurs twice",
        "malformed": json_with(
            file, lambda c: next(iter(c.values()))["models"].update(DALLE_3=[9])
        ),
        "malformed_message": f"{file}, '.*DALLE_3",
    }


COUNTS = "warns: items and .* has"  # rows without an id that belong to other images
TWICE = "warns: 1 of . items occur twice and count twice"


# Rows twice: the same row once more.


def duplicate_json_row(file: str, *keys: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        content = json.loads((root / file).read_text())
        rows = content
        for key in keys:
            rows = rows[key]
        rows.append(rows[0])
        (root / file).write_text(json.dumps(content))

    return change


def duplicate_key(file: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        content = json.loads((root / file).read_text())
        key, value = next(iter(content.items()))
        text = json.dumps(content)
        (root / file).write_text(f"{text[:-1]}, {json.dumps(key)}: {json.dumps(value)}}}")

    return change


def duplicate_line(file: str, line: int = 1) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        lines = (root / file).read_text(encoding="utf-8").splitlines()
        (root / file).write_text("\n".join([*lines, lines[line]]) + "\n", encoding="utf-8")

    return change


def duplicate_table_row(file: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        rows = parquet.read_table(root / file).to_pylist()
        parquet.write_table(pyarrow.Table.from_pylist([*rows, rows[0]]), root / file)

    return change


def with_an_image(change: Callable[[Path], None], name: str = "2") -> Callable[[Path], None]:
    def both(root: Path) -> None:
        change(root)
        draw(root / "images" / f"{name}.png")

    return both


# Malformed rows.


def json_with(file: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def both(root: Path) -> None:
        content = json.loads((root / file).read_text())
        change(content)
        (root / file).write_text(json.dumps(content))

    return both


def line_with(file: str, line: int, content: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        lines = (root / file).read_text(encoding="utf-8").splitlines()
        lines[line] = content
        (root / file).write_text("\n".join(lines) + "\n", encoding="utf-8")

    return change


def cell_with(file: str, column: str, value: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        with (root / file).open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        rows[0][column] = value
        with (root / file).open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    return change


def table_with(file: str, column: str, value: Any) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        rows = parquet.read_table(root / file).to_pylist()
        table = pyarrow.Table.from_pylist([rows[0] | {column: value}, *rows[1:]])
        parquet.write_table(table, root / file)

    return change
