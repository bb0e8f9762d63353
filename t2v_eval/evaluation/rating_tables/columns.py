"""Columns of a table as numbers: scores, ratings, groups and tags.

Columns hold numbers: true and yes count as 1, false and no as 0, 85 % as 0.85; an empty cell, NaN,
NA, None and null are missing. A list of numbers, also as text such as "[4, 5]", counts as its mean.
The column name `scores.clip` stands for that column, or for the key `clip` of objects in a column
`scores`.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from t2v_eval.errors import TableError
from t2v_eval.inputs.tables import Row
from t2v_eval.stats.metrics import FloatArray

_MISSING = {"", "nan", "-nan", "na", "n/a", "<na>", "#na", "#n/a", "null", "none", "-"}
_WORDS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")  # 1,234 may be either
_PERCENTAGE = re.compile(r"[+-]?[\d.,]+\s*%")
_PLAIN = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.IGNORECASE)


def numbers(rows: Sequence[Row], column: str) -> FloatArray:
    """Return a column as float64; NaN where a row has no value.

    Raises:
        TableError: no row has the column, a value is not a number, or some are percentages.

    >>> numbers([{"x": "85 %"}, {"x": None}], "x")
    array([0.85,  nan])
    """
    values = cells(rows, column)
    check_percentages(values, column)
    return np.array([number(v, column, n) for n, v in values], dtype=np.float64)


def check_percentages(values: Sequence[tuple[int, Any]], column: str) -> None:
    """Check that a column with a percentage holds no number above 1 without a percent sign.

    Args:
        values: the number of each row, from 1, and its cell.
        column: the name of the column, for messages.

    Raises:
        TableError: "85%", which is 0.85, beside 90, which is 90 or 0.9.

    >>> check_percentages([(1, "85%"), (2, "90%"), (3, "0")], "human")
    """
    cells = [(n, str(value).strip()) for n, value in values if isinstance(value, (str, int, float))]
    signed = next(((n, text) for n, text in cells if _PERCENTAGE.fullmatch(text)), None)
    if signed is None:
        return
    for n, text in cells:
        if _PLAIN.fullmatch(text) and abs(float(text.replace(",", "."))) > 1:
            raise TableError(
                f"row {n}: {column!r} is {text}, but {signed[1]} in row {signed[0]}, which is a "
                "percentage: write a percent sign in every row, or in none"
            )


def number(value: Any, column: str, row: int) -> float:
    """Return a table cell as a number: NaN if empty, the mean if a list; see the module's text.

    Args:
        value: the cell.
        column: the name of its column, for messages.
        row: the number of its row, from 1, for messages.

    Raises:
        TableError: it is not a finite number.

    >>> number("[4, 5]", "rating", 1)
    4.5
    """
    text = str(value).strip().lower()
    if text.startswith("[") and isinstance(value, str):
        value = parse_list(text)
    if isinstance(value, (list, tuple)):
        parts = [number(part, column, row) for part in value]
        parts = [part for part in parts if not math.isnan(part)]
        return math.fsum(parts) / len(parts) if parts else math.nan
    if value is None or text in _MISSING:
        return math.nan
    try:
        if isinstance(value, str):
            result = _WORDS[text] if text in _WORDS else _parse_number(text)
        else:
            result = float(value)
    except (TypeError, ValueError, OverflowError):
        raise TableError(
            f"row {row}: {column!r} is {_short(value)}, not a number; leave the cell empty where a "
            "value is missing"
        ) from None
    if math.isinf(result):
        raise TableError(
            f"row {row}: {column!r} is infinite; leave the cell empty where a value is missing"
        )
    return result


def split_tags(value: Any) -> tuple[str, ...]:
    """Return the tags of a cell, each once: names separated by ``;``, or a list of names.

    >>> split_tags("counting; colour;")
    ('counting', 'colour')
    """
    if is_empty(value):
        return ()
    parts = value if isinstance(value, (list, tuple)) else str(value).split(";")
    return tuple(dict.fromkeys(name for part in parts if (name := str(part).strip())))


def is_empty(value: Any) -> bool:
    """Return whether a cell is empty: None, NaN or blank text.

    >>> [is_empty(value) for value in (None, float("nan"), " ", 0, "0")]
    [True, True, True, False, False]
    """
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def cells(rows: Sequence[Row], column: str) -> list[tuple[int, Any]]:
    """Return the number of each row, from 1, and its value of a column, or of a dotted path.

    Raises:
        TableError: no row has the column.

    >>> cells([{"scores": {"clip": 0.3}}], "scores.clip")
    [(1, 0.3)]
    """
    if any(column in row for row in rows):
        return [(n, row.get(column)) for n, row in enumerate(rows, 1)]
    outer, dot, inner = column.partition(".")
    if dot and any(isinstance(row.get(outer), dict) for row in rows):
        nested = [row[outer] if isinstance(row.get(outer), dict) else {} for row in rows]
        return cells(nested, inner)
    columns = dict.fromkeys(key for row in rows for key in row)
    close = difflib.get_close_matches(column, columns, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise TableError(
        f"there is no column {column!r}; {hint}the columns are {', '.join(map(repr, columns))}"
    )


def _parse_number(text: str) -> float:
    """Parse a number as people write it: with a percent sign, or a decimal comma."""
    if text.endswith("%"):
        return _parse_number(text[:-1].rstrip()) / 100
    if _DECIMAL_COMMA.fullmatch(text) and not _THOUSANDS.fullmatch(text):
        text = text.replace(",", ".")
    return float(text)


def parse_list(text: str) -> Any:
    """Parse a list as other programs write it into a CSV file; return other text as it is.

    >>> parse_list("[4, None, 5]"), parse_list("[4")
    ([4, None, 5], '[4')
    """
    try:
        return json.loads(re.sub(r"\b(none|nan)\b", "null", text.lower()))
    except ValueError:
        return text


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
