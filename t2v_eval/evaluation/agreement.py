"""How well scores that already exist agree with people: a table's columns, and no model.

One row is one judged thing. Columns hold numbers: true and yes count as 1, false and no as 0, 85 %
as 0.85, and what is empty, NaN, NA, None or null is missing. A list of numbers, also as text such
as "[4, 5]", stands for its mean, and so do several human columns: the ratings of several people may
lie side by side. `scores.clip` is the column, or what the objects of a column `scores` call `clip`.

| metric | where |
|---|---|
| pearson, spearman, tau_b, tau_c, acc23, acc_strict, acc_ignore | always, of all rows together |
| auroc, average_precision | where the human column holds 0 and 1 only |
| accuracy | where the score holds 0 and 1 only, too: the share of rows that agree |
| ..._per_group | where there are groups: the mean over them of the metric within each |

Formulas are in `stats.metrics`. Intervals are 95 %, from resamples of groups where there are
any and of rows otherwise.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from t2v_eval.errors import InputError, TableError
from t2v_eval.inputs.tables import Row
from t2v_eval.stats import metrics
from t2v_eval.stats.bootstrap import (
    METRICS,
    IntArray,
    Interval,
    Statistic,
    agreement_statistic,
    bootstrap_interval,
    each_row,
)
from t2v_eval.stats.metrics import FloatArray
from t2v_eval.utils.arrays import mean_of_known

ALL = "all"  # what the whole table is called beside its tags
POOLED = ("pearson", "spearman", "tau_b", "tau_c", "acc23", "acc_strict", "acc_ignore")
LABELLED = ("auroc", "average_precision")
PER_GROUP = ("pearson", "spearman", "tau_b", "tau_c", "acc23", "acc_ignore")

_MISSING = {"", "nan", "-nan", "na", "n/a", "<na>", "#na", "#n/a", "null", "none", "-"}
_WORDS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")  # 1,234 may be either
_MOST_CELLS = 1 << 26  # groups x the size of the largest: half a gigabyte of float64


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows, those with both a score and a judgement, and the units that intervals resample."""

    rows: int
    used: int
    units: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """For each score column and each tag (`ALL` first), metrics with intervals, and counts."""

    n: int
    unit: str
    scores: Mapping[str, Mapping[str, Mapping[str, Interval]]]
    counts: Mapping[str, Mapping[str, Counts]]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers for JSON; what is undefined is None."""
        return {
            "n": self.n,
            "unit": self.unit,
            "scores": {
                column: {
                    tag: {name: _plain(interval) for name, interval in found.items()}
                    for tag, found in by_tag.items()
                }
                for column, by_tag in self.scores.items()
            },
            "counts": {
                column: {
                    tag: {"rows": c.rows, "used": c.used, "units": c.units}
                    for tag, c in by_tag.items()
                }
                for column, by_tag in self.counts.items()
            },
        }


def agreement(
    rows: Sequence[Row],
    human: str | Sequence[str],
    scores: Iterable[str],
    *,
    group: str | None = None,
    tags: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[str, str], None] | None = None,
) -> Agreement:
    """Agreement of each column of `scores` with the column `human`, overall and for each tag.

    Args:
        rows: as `read_table` gives them.
        human: a column, or several, of which each row's mean is taken.
        group: a column; rows with the same value, say one prompt's pictures, are one unit.
        tags: a column of names separated by ``;``, or of lists of names; one that is called as the
            whole table is, becomes "all (tag)".
        progress: called before each column and tag.

    Raises:
        TableError: a column that no row has, a value that is no number, an empty group.
        InputError: no rows, no score columns, or one twice.

    >>> rows = [{"human": 1, "a": 0.1}, {"human": 2, "a": 0.4}, {"human": 3, "a": 0.3}]
    >>> round(agreement(rows, "human", ["a"], resamples=10).scores["a"]["all"]["tau_b"].value, 3)
    0.333
    """
    columns = list(scores)
    if not rows or not columns:
        raise InputError("agreement needs rows and at least one column of scores")
    for column in columns:
        if columns.count(column) > 1:
            raise InputError(f"the score column {column!r} is named twice")
    judged = _judged(rows, [human] if isinstance(human, str) else human)
    units = None if group is None else _groups(rows, group)
    chosen = {ALL: np.arange(len(rows))} | _by_tag(rows, tags)
    found: dict[str, dict[str, Mapping[str, Interval]]] = {}
    counts: dict[str, dict[str, Counts]] = {}
    binary = _is_binary(judged)
    for column in columns:
        given = numbers(rows, column)
        names = (*POOLED, *(LABELLED if binary else ()))
        names = (*names, "accuracy") if binary and _is_binary(given) else names
        found[column], counts[column] = {}, {}
        for tag, index in chosen.items():
            if progress is not None:
                progress(column, tag)
            s, h = given[index], judged[index]
            of, units_used = _statistic(s, h, None if units is None else units[index], names)
            found[column][tag] = bootstrap_interval(of, units_used, resamples=resamples, seed=seed)
            counts[column][tag] = Counts(len(index), metrics.count_valid(s, h), units_used)
    return Agreement(len(rows), "row" if group is None else group, found, counts)


def numbers(rows: Sequence[Row], column: str) -> FloatArray:
    """A column as float64; NaN where a row has no value.

    Raises:
        TableError: no row has the column, or a value is no number.
    """
    return np.array([number(v, column, n) for n, v in _values(rows, column)], dtype=np.float64)


def number(value: Any, column: str, row: int) -> float:
    """A cell of a table as a number: NaN if empty, the mean if a list; see the top of the module.

    Raises:
        TableError: it is no finite number; the message names the row, counted from 1.
    """
    text = str(value).strip().lower()
    if text.startswith("[") and isinstance(value, str):
        value = _listed(text)
    if isinstance(value, (list, tuple)):
        given = [number(one, column, row) for one in value]
        given = [one for one in given if not math.isnan(one)]
        return sum(given) / len(given) if given else math.nan
    if value is None or text in _MISSING:
        return math.nan
    try:
        if isinstance(value, str):
            found = _WORDS[text] if text in _WORDS else _written(text)
        else:
            found = float(value)
    except (TypeError, ValueError, OverflowError):
        raise TableError(
            f"row {row}: {column!r} is {_short(value)}, not a number; leave it empty where one is "
            "missing"
        ) from None
    if math.isinf(found):
        raise TableError(f"row {row}: {column!r} is infinite; leave it empty where one is missing")
    return found


def split_tags(value: Any) -> tuple[str, ...]:
    """The tags of a cell: names separated by ``;``, or a list of names; each once.

    >>> split_tags("counting; colour;")
    ('counting', 'colour')
    """
    if is_empty(value):
        return ()
    listed = value if isinstance(value, (list, tuple)) else str(value).split(";")
    return tuple(dict.fromkeys(name for one in listed if (name := str(one).strip())))


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN or no text.

    >>> [is_empty(value) for value in (None, float("nan"), " ", 0, "0")]
    [True, True, True, False, False]
    """
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _judged(rows: Sequence[Row], columns: Sequence[str]) -> FloatArray:
    """The mean of the columns in each row, of those that hold a number there."""
    if not columns:
        raise InputError("agreement needs a column of human judgements")
    given = np.stack([numbers(rows, column) for column in columns])
    there = ~np.isnan(given)
    count = there.sum(axis=0)
    total = np.where(there, given, 0.0).sum(axis=0)
    mean: FloatArray = np.divide(total, count, out=np.full(len(rows), np.nan), where=count > 0)
    return mean


def _values(rows: Sequence[Row], column: str) -> list[tuple[int, Any]]:
    if any(column in row for row in rows):
        return [(n, row.get(column)) for n, row in enumerate(rows, 1)]
    outer, dot, inner = column.partition(".")
    if dot and any(isinstance(row.get(outer), dict) for row in rows):
        within = [row[outer] if isinstance(row.get(outer), dict) else {} for row in rows]
        return _values(within, inner)
    there = ", ".join(map(repr, dict.fromkeys(key for row in rows for key in row)))
    raise TableError(f"there is no column {column!r}; the columns are {there}")


def _written(text: str) -> float:
    """What a person writes as a number."""
    if text.endswith("%"):
        return _written(text[:-1].rstrip()) / 100
    if _DECIMAL_COMMA.fullmatch(text) and not _THOUSANDS.fullmatch(text):
        text = text.replace(",", ".")
    return float(text)


def _listed(text: str) -> Any:
    """The list that a text holds, as other programs write lists into a CSV, or the text."""
    try:
        return json.loads(re.sub(r"\b(none|nan)\b", "null", text))
    except ValueError:
        return text


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _groups(rows: Sequence[Row], column: str) -> IntArray:
    names: dict[str, int] = {}
    found = []
    for n, value in _values(rows, column):
        if is_empty(value):
            raise TableError(f"row {n}: the group {column!r} is empty; every row belongs to one")
        found.append(names.setdefault(str(value), len(names)))
    return np.array(found, dtype=np.int64)


def _by_tag(rows: Sequence[Row], column: str | None) -> dict[str, IntArray]:
    found: dict[str, list[int]] = {}
    if column is not None:
        for n, value in _values(rows, column):
            for tag in split_tags(value):
                name = f"{ALL} (tag)" if tag == ALL else tag
                found.setdefault(name, []).append(n - 1)
    return {tag: np.array(index, dtype=np.int64) for tag, index in found.items()}


def _statistic(
    s: FloatArray, h: FloatArray, unit: IntArray | None, names: Sequence[str]
) -> tuple[Statistic, int]:
    """The metrics of drawn units, and how many units there are."""
    present = ~(np.isnan(s) | np.isnan(h))
    s, h = s[present], h[present]
    if unit is None:
        return _pooled(s[:, None], h[:, None], names), len(s)
    _, position = np.unique(unit[present], return_inverse=True)
    s, h = _as_rows(s, position), _as_rows(h, position)
    pooled, within = _pooled(s, h, names), _within(s, h)
    return (lambda index: {**pooled(index), **within(index)}), len(s)


def _pooled(s: FloatArray, h: FloatArray, names: Sequence[str]) -> Statistic:
    """Metrics of the rows of the drawn units as one sample."""
    of = agreement_statistic(s, h, [name for name in names if name in METRICS], pooled=True)
    right = np.where(np.isnan(s), 0.0, s == h).sum(axis=1)
    size = (~np.isnan(s)).sum(axis=1)

    def all_of_them(index: IntArray) -> Mapping[str, float]:
        if "accuracy" not in names:
            return of(index)
        total = int(size[index].sum())
        accuracy = float(right[index].sum()) / total if total else math.nan
        return {**of(index), "accuracy": accuracy}

    return all_of_them


def _within(s: FloatArray, h: FloatArray) -> Statistic:
    """Means over the drawn groups of the metric within each."""
    of = agreement_statistic(s, h, [m for m in PER_GROUP if m not in ("pearson", "spearman")])
    rows = {m: each_row(m, s, h) for m in ("pearson", "spearman")}

    def means(index: IntArray) -> Mapping[str, float]:
        found = {m: mean_of_known(values[index]) for m, values in rows.items()} | dict(of(index))
        return {f"{m}_per_group": found[m] for m in PER_GROUP}

    return means


def _as_rows(values: FloatArray, position: IntArray) -> FloatArray:
    """Values as (groups, items), padded with NaN; `position[k]` is the group of `values[k]`."""
    if not len(values):
        return np.empty((0, 1))
    size = np.bincount(position)
    if len(size) * int(size.max()) > _MOST_CELLS:
        raise InputError(
            f"{len(size)} groups of up to {int(size.max())} rows are too unequal to resample; "
            "leave --group out, or name a column whose groups are of a size"
        )
    order = np.argsort(position, kind="stable")
    column = np.arange(len(values)) - np.repeat(np.cumsum(size) - size, size)
    rows = np.full((len(size), int(size.max())), np.nan)
    rows[position[order], column] = values[order]
    return rows


def _is_binary(values: FloatArray) -> bool:
    given = values[~np.isnan(values)]
    return bool(len(given)) and bool(np.isin(given, (0.0, 1.0)).all())


def _plain(interval: Interval) -> dict[str, float | None]:
    return {k: v if math.isfinite(v) else None for k, v in interval._asdict().items()}
