"""Agreement of existing scores with human ratings: columns of a table, without a model.

A row is one rated sample. Columns hold numbers: true and yes count as 1, false and no as 0, 85 % as
0.85; an empty cell, NaN, NA, None and null are missing. A list of numbers, also as text such as
"[4, 5]", counts as its mean. Several human columns, one for each rater, are averaged too. The
column name `scores.clip` stands for that column, or for the key `clip` of objects in a column
`scores`.

| metric | where |
|---|---|
| pearson, spearman, tau_b, tau_c, acc23, acc_strict, acc_ignore | always, of all rows together |
| auroc, average_precision | where the human column holds 0 and 1 only |
| accuracy | where the score holds 0 and 1 only, too: the share of rows that agree |
| ..._per_group | where there are groups: the mean over them of the metric within each |

Formulas are in `stats.metrics`; the metrics are those of `stats.agreement_metrics`, so that one
added there appears here. Intervals are 95 %, from resamples of groups where there are any, else of
rows.
"""

from __future__ import annotations

import difflib
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
from t2v_eval.stats.agreement_metrics import METRICS
from t2v_eval.stats.bootstrap import (
    IntArray,
    Interval,
    Statistic,
    agreement_statistic,
    bootstrap_interval,
)
from t2v_eval.stats.metrics import FloatArray
from t2v_eval.stats.paired import paired_agreement_statistic, standardize
from t2v_eval.utils.arguments import wrong_type
from t2v_eval.utils.arrays import mean_of_known

ALL = "all"  # the name of the whole table beside its tags

_MISSING = {"", "nan", "-nan", "na", "n/a", "<na>", "#na", "#n/a", "null", "none", "-"}
_WORDS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")  # 1,234 may be either
_PERCENTAGE = re.compile(r"[+-]?[\d.,]+\s*%")
_PLAIN = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.IGNORECASE)
_MAX_CELLS = 1 << 26  # groups x the size of the largest: half a gigabyte of float64


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of rows behind a figure.

    Attributes:
        rows: all rows.
        used: rows with both a score and a rating.
        units: what the bootstrap resamples: groups, or else used rows.

    >>> Counts(rows=10, used=9, units=3).used
    9
    """

    rows: int
    used: int
    units: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """Metrics with intervals, and counts, for each score column and each tag (`ALL` first).

    Attributes:
        n: the number of rows of the table.
        unit: what intervals resample: "row", or the name of the group column.
        scores: the interval of each metric, by score column and tag.
        counts: the counts, by score column and tag.

    >>> rows = [{"human": 1, "a": 0.1}, {"human": 2, "a": None}]
    >>> agreement(rows, "human", ["a"], resamples=5).counts["a"]["all"].used
    1
    """

    n: int
    unit: str
    scores: Mapping[str, Mapping[str, Mapping[str, Interval]]]
    counts: Mapping[str, Mapping[str, Counts]]

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers for JSON; undefined values are None."""
        return {
            "n": self.n,
            "unit": self.unit,
            "scores": {
                column: {
                    tag: {name: _to_json(interval) for name, interval in intervals.items()}
                    for tag, intervals in by_tag.items()
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
    scores: str | Iterable[str],
    *,
    group: str | None = None,
    tags: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[str, str], None] | None = None,
) -> Agreement:
    """Compute the agreement of each score column with the human ratings, overall and by tag.

    Args:
        rows: the rows of a table, as `read_table` returns them.
        human: columns of ratings, of which each row's mean is taken.
        scores: columns of scores.
        group: a column; rows with the same value, such as one prompt, are resampled together.
        tags: a column of names separated by ``;``, or of lists of names.
        resamples: the number of bootstrap resamples, 1 or more.
        seed: their random seed.
        progress: called with each column and tag before it is computed.

    Raises:
        TableError: a column is in no row, a value is not a number, or a group is empty.
        InputError: there are no rows or no score columns, or a score column is named twice.

    >>> rows = [{"human": h, "a": a} for h, a in ((1, 0.1), (2, 0.4), (3, 0.3))]
    >>> round(agreement(rows, "human", ["a"], resamples=10).scores["a"]["all"]["tau_b"].value, 3)
    0.333
    """
    for argument, column in (("group", group), ("tags", tags)):
        if not isinstance(column, str | None):
            raise wrong_type(argument, column, "the name of a column")
    columns = _checked_columns(rows, scores)
    ratings = mean_ratings(rows, [human] if isinstance(human, str) else human)
    units = None if group is None else _groups(rows, group)
    by_tag = {ALL: np.arange(len(rows))} | _by_tag(rows, tags)
    intervals: dict[str, dict[str, Mapping[str, Interval]]] = {name: {} for name in columns}
    counts: dict[str, dict[str, Counts]] = {name: {} for name in columns}
    for column in columns:
        values = numbers(rows, column)
        names = metric_names(values, ratings)
        for tag, index in by_tag.items():
            if progress is not None:
                progress(column, tag)
            s, h = values[index], ratings[index]
            statistic, n = _statistic(s, h, None if units is None else units[index], names)
            counts[column][tag] = Counts(len(index), metrics.count_valid(s, h), n)
            intervals[column][tag] = bootstrap_interval(
                statistic, n, resamples=resamples, seed=seed
            )
    return Agreement(len(rows), "row" if group is None else group, intervals, counts)


def numbers(rows: Sequence[Row], column: str) -> FloatArray:
    """Return a column as float64; NaN where a row has no value.

    Raises:
        TableError: no row has the column, a value is not a number, or some are percentages.

    >>> numbers([{"x": "85 %"}, {"x": None}], "x")
    array([0.85,  nan])
    """
    values = _values(rows, column)
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
        value = _parse_list(text)
    if isinstance(value, (list, tuple)):
        parts = [number(part, column, row) for part in value]
        parts = [part for part in parts if not math.isnan(part)]
        return sum(parts) / len(parts) if parts else math.nan
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


def _checked_columns(rows: Sequence[Row], scores: str | Iterable[str]) -> list[str]:
    columns = [scores] if isinstance(scores, str) else list(scores)
    is_table = isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows)
    if not is_table:
        raise wrong_type("rows", rows, "a list of dicts, as read_table returns it")
    if not rows or not columns:
        raise InputError("agreement needs rows and at least one column of scores")
    for column in columns:
        if columns.count(column) > 1:
            raise InputError(f"the score column {column!r} is named twice")
    return columns


def metric_names(scores: FloatArray, ratings: FloatArray) -> list[str]:
    """Return the metrics that scores and ratings of these values allow.

    >>> "auroc" in metric_names(np.array([0.1, 0.2]), np.array([0.0, 1.0]))
    True
    """
    labelled = _is_binary(ratings)
    names = [name for name, metric in METRICS.items() if labelled or not metric.needs_labels]
    return [*names, "accuracy"] if labelled and _is_binary(scores) else names


def mean_ratings(rows: Sequence[Row], columns: Sequence[str]) -> FloatArray:
    """Return each row's mean over the columns that hold a number there; NaN where none does.

    Raises:
        TableError: as `numbers`.
        InputError: there are no columns.

    >>> mean_ratings([{"one": 4, "two": 5}, {"one": None, "two": None}], ["one", "two"])
    array([4.5, nan])
    """
    if not columns:
        raise InputError("agreement needs a column of human ratings")
    ratings = np.stack([numbers(rows, column) for column in columns])
    present = ~np.isnan(ratings)
    count = present.sum(axis=0)
    total = np.where(present, ratings, 0.0).sum(axis=0)
    mean: FloatArray = np.divide(total, count, out=np.full(len(rows), np.nan), where=count > 0)
    return mean


def _values(rows: Sequence[Row], column: str) -> list[tuple[int, Any]]:
    """Return the number of each row, from 1, and its value of a column, or of a dotted path."""
    if any(column in row for row in rows):
        return [(n, row.get(column)) for n, row in enumerate(rows, 1)]
    outer, dot, inner = column.partition(".")
    if dot and any(isinstance(row.get(outer), dict) for row in rows):
        nested = [row[outer] if isinstance(row.get(outer), dict) else {} for row in rows]
        return _values(nested, inner)
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


def _parse_list(text: str) -> Any:
    """Parse a list as other programs write it into a CSV file; return other text as it is."""
    try:
        return json.loads(re.sub(r"\b(none|nan)\b", "null", text))
    except ValueError:
        return text


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _groups(rows: Sequence[Row], column: str) -> IntArray:
    """Return the number of each row's group."""
    numbers_by_name: dict[str, int] = {}
    groups = []
    for n, value in _values(rows, column):
        if is_empty(value):
            raise TableError(f"row {n}: the group {column!r} is empty; every row needs one")
        groups.append(numbers_by_name.setdefault(str(value), len(numbers_by_name)))
    return np.array(groups, dtype=np.int64)


def _by_tag(rows: Sequence[Row], column: str | None) -> dict[str, IntArray]:
    """Return the row indices of each tag; a tag called "all" is "all (tag)"."""
    indices: dict[str, list[int]] = {}
    if column is not None:
        for n, value in _values(rows, column):
            for tag in split_tags(value):
                name = f"{ALL} (tag)" if tag == ALL else tag
                indices.setdefault(name, []).append(n - 1)
    return {tag: np.array(index, dtype=np.int64) for tag, index in indices.items()}


def _statistic(
    s: FloatArray, h: FloatArray, unit: IntArray | None, names: Sequence[str]
) -> tuple[Statistic, int]:
    """Return the metrics of resampled units, and the number of units."""
    present = ~(np.isnan(s) | np.isnan(h))
    s, h = s[present], h[present]
    if unit is None:
        return unit_statistic(s, h, None, names), len(s)
    units, position = np.unique(unit[present], return_inverse=True)
    return unit_statistic(s, h, position, names), len(units)


def unit_statistic(
    s: FloatArray, h: FloatArray, position: IntArray | None, names: Sequence[str]
) -> Statistic:
    """Return a function from indices of units to the metrics of their rows.

    Args:
        s: (n,) scores; NaN where a row lacks a score or a rating.
        h: (n,) ratings; NaN where the score is.
        position: (n,) the unit of each row; None where each row is one, without groups.
        names: the metrics.

    >>> values = np.array([0.1, 0.4, 0.3])
    >>> round(unit_statistic(values, np.arange(3.0), None, ["tau_b"])(np.arange(3))["tau_b"], 3)
    0.333
    """
    if position is None:
        return _pooled(s[:, None], h[:, None], names)
    s, h = _as_rows(s, position), _as_rows(h, position)
    pooled, within = _pooled(s, h, names), _within_groups(s, h, names)
    return lambda index: {**pooled(index), **within(index)}


def paired_unit_statistic(
    first: FloatArray,
    second: FloatArray,
    h: FloatArray,
    position: IntArray | None,
    names: Sequence[str],
) -> Statistic:
    """Return a function from indices into 2n units to the metrics of their rows.

    Unit k has the first scores, unit k + n the second ones, for `permutation.paired_permutation`;
    `stats.paired` says what they exchange.

    Args:
        first: (n,) scores; NaN where a row lacks either score, or a rating.
        second: (n,) the scores of the other scorer, likewise.
        h: (n,) ratings; NaN where the scores are.
        position: (n,) the unit of each row; None where each row is one, without groups.
        names: the metrics.

    >>> human = np.arange(3.0)
    >>> statistic = paired_unit_statistic(human, -human, human, None, ["tau_b"])
    >>> statistic(np.arange(3)), statistic(np.arange(3) + 3)
    ({'tau_b': 1.0}, {'tau_b': -1.0})
    """
    grouped = position is not None
    if position is None:
        s, t, h = first[:, None], second[:, None], h[:, None]
    else:
        s, t, h = (_as_rows(side, position) for side in (first, second, h))
    registered = [name for name in names if name in METRICS]
    agreement_of = paired_agreement_statistic(s, t, h, registered, pooled=True)
    twice = np.concatenate([h, h])
    pooled = _with_accuracy(agreement_of, np.concatenate([s, t]), twice, names)
    if not grouped:
        return pooled
    within = _within_groups(np.concatenate([standardize(s), standardize(t)]), twice, names)
    return lambda index: {**pooled(index), **within(index)}


def _pooled(s: FloatArray, h: FloatArray, names: Sequence[str]) -> Statistic:
    """Return the metrics of the rows of the resampled units as one sample."""
    registered = [name for name in names if name in METRICS]
    return _with_accuracy(agreement_statistic(s, h, registered, pooled=True), s, h, names)


def _with_accuracy(
    agreement_of: Statistic, s: FloatArray, h: FloatArray, names: Sequence[str]
) -> Statistic:
    """Add the share of rows whose score equals the rating, where `names` has it."""
    correct = np.where(np.isnan(s), 0.0, s == h).sum(axis=1)
    size = (~np.isnan(s)).sum(axis=1)

    def with_accuracy(index: IntArray) -> Mapping[str, float]:
        if "accuracy" not in names:
            return agreement_of(index)
        total = int(size[index].sum())
        accuracy = float(correct[index].sum()) / total if total else math.nan
        return {**agreement_of(index), "accuracy": accuracy}

    return with_accuracy


def _within_groups(s: FloatArray, h: FloatArray, names: Sequence[str]) -> Statistic:
    """Return means over the resampled groups of the metric within each."""
    grouped = [name for name in names if name in METRICS and METRICS[name].in_groups]
    # acc23 calibrates one threshold for all groups; metrics that average rows are such means.
    means = agreement_statistic(s, h, [name for name in grouped if METRICS[name].averages_rows])
    rows = {
        name: METRICS[name].per_row(s, h) for name in grouped if not METRICS[name].averages_rows
    }

    def group_means(index: IntArray) -> Mapping[str, float]:
        values = {name: mean_of_known(of_rows[index]) for name, of_rows in rows.items()}
        values |= dict(means(index))
        return {f"{name}_per_group": values[name] for name in grouped}

    return group_means


def _as_rows(values: FloatArray, position: IntArray) -> FloatArray:
    """Arrange values as (groups, items) with NaN as padding.

    Args:
        values: (n,) numbers.
        position: `position[k]` is the group of `values[k]`.
    """
    if not len(values):
        return np.empty((0, 1))
    size = np.bincount(position)
    if len(size) * int(size.max()) > _MAX_CELLS:
        raise InputError(
            f"{len(size)} groups of up to {int(size.max())} rows are too unequal to resample; "
            "leave `group=` out, or name a column whose groups are of similar size"
        )
    order = np.argsort(position, kind="stable")
    column = np.arange(len(values)) - np.repeat(np.cumsum(size) - size, size)
    rows = np.full((len(size), int(size.max())), np.nan)
    rows[position[order], column] = values[order]
    return rows


def _is_binary(values: FloatArray) -> bool:
    present = values[~np.isnan(values)]
    return bool(len(present)) and bool(np.isin(present, (0.0, 1.0)).all())


def _to_json(interval: Interval) -> dict[str, float | None]:
    return {k: v if math.isfinite(v) else None for k, v in interval._asdict().items()}
