"""A table of scores and ratings, read into numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Self, TypeAlias, get_args

import numpy as np

from t2v_eval.errors import InputError, TableError
from t2v_eval.evaluation.rating_tables import names
from t2v_eval.evaluation.rating_tables.columns import (
    cells,
    is_empty,
    number,
    numbers,
    parse_list,
    split_tags,
)
from t2v_eval.evaluation.rating_tables.observations import Averaging, Constant, Observations
from t2v_eval.inputs.tables import Row
from t2v_eval.stats.averages import Average
from t2v_eval.stats.bootstrap import IntArray
from t2v_eval.stats.metrics import FloatArray
from t2v_eval.stats.raters import Level, mean_ratings
from t2v_eval.utils.arguments import wrong_type

Ratings: TypeAlias = Literal["mean", "each"]
Kind: TypeAlias = Literal["ratings", "pairs", "classes"]

ALL = "all"  # the name of the whole table beside its tags
VERSUS = " - "
PREFERENCES = {
    **dict.fromkeys(("1", "1.0", "a", "first", "left", "model_a", "leftvote"), 1.0),
    **dict.fromkeys(("0", "0.0", "b", "second", "right", "model_b", "rightvote"), 0.0),
    **dict.fromkeys(("0.5", "tie", "tie (bothbad)", "both", "tievote", "bothbad_vote"), 0.5),
}
"""How much the first side of a pair is preferred, by what people write."""


@dataclass(frozen=True, slots=True)
class TableOptions:
    """How a table is read and its metrics are computed; see `evaluation.agreement.agreement`.

    >>> TableOptions(group="prompt").ratings
    'mean'
    """

    group: str | None = None
    tags: str | None = None
    system: str | None = None
    nodes: str | None = None
    versus: Sequence[str] = ()
    classes: bool = False
    ratings: Ratings = "mean"
    metrics: Sequence[str] = ()
    mean: Average = "plain"
    constant_groups: Constant = "skip"
    level: Level = "interval"
    resamples: int = 1000
    seed: int = 0

    def check(self) -> None:
        """Raise InputError for values that are none, and for options that exclude each other."""
        for name in ("group", "tags", "system", "nodes"):
            if not isinstance(getattr(self, name), str | None):
                raise wrong_type(name, getattr(self, name), "the name of a column")
        choices = {"ratings": Ratings, "mean": Average, "constant_groups": Constant, "level": Level}
        for name, choice in choices.items():
            if getattr(self, name) not in get_args(choice):
                allowed = ", ".join(map(repr, get_args(choice)))
                raise InputError(f"`{name}={getattr(self, name)!r}`: use one of {allowed}")
        if self.classes and self.versus:
            raise InputError("`classes=True` and `versus=` exclude each other: rows are not both")
        if self.kind == "ratings":
            return
        for name in ("system", "nodes", "metrics"):
            if getattr(self, name):
                raise InputError(
                    f"`{name}=` needs ratings that are numbers, not {self.kind}: leave it out"
                )

    @property
    def kind(self) -> Kind:
        """Return what the rows are."""
        return "classes" if self.classes else "pairs" if self.versus else "ratings"

    @property
    def averaging(self) -> Averaging:
        """Return how groups and tags are averaged."""
        return Averaging(self.mean, self.constant_groups)


@dataclass(frozen=True)
class RatedTable:
    """The columns of a table as numbers.

    Attributes:
        rows: the rows.
        options: how they are read.
        scores: shape (rows,) of each column; of pairs the difference of both sides, of classes
            their numbers. NaN is missing.
        by_class: shape (rows, classes) of columns that hold a score of each class.
        ratings: shape (rows, raters); NaN is missing.
        classes: the names of the classes.
        group: the number of each row's group, or None.
        systems: the number of each row's generator, -1 where it has none, or None.
        nodes: the label of each row's node, or None.
        tags: the row indices of each tag.

    >>> table = RatedTable.read([{"human": "[4, 5]", "a": 0.1}], "human", ["a"])
    >>> table.ratings, table.human
    (array([[4., 5.]]), array([4.5]))
    """

    rows: Sequence[Row]
    options: TableOptions
    scores: Mapping[str, FloatArray]
    ratings: FloatArray
    group: IntArray | None = None
    systems: IntArray | None = None
    nodes: Sequence[str] | None = None
    tags: Mapping[str, IntArray] = field(default_factory=dict)
    by_class: Mapping[str, FloatArray] = field(default_factory=dict)
    classes: Sequence[str] = ()

    @classmethod
    def read(
        cls,
        rows: Sequence[Row],
        human: str | Sequence[str],
        scores: str | Iterable[str],
        options: TableOptions | None = None,
    ) -> Self:
        """Read the columns.

        Raises:
            TableError: a column is in no row, a value cannot be read, or a group is empty.
            InputError: there are no rows or no columns, one is named twice, or options do not fit.
        """
        options = options or TableOptions()
        options.check()
        raters = [human] if isinstance(human, str) else list(human)
        columns = _checked_columns(rows, scores)
        if not raters:
            raise InputError("agreement needs a column of human ratings")
        if options.classes and options.ratings == "mean" and len(raters) > 1:
            raise InputError(
                "names of classes have no mean: `ratings='each'` compares with each rater"
            )
        by_class: dict[str, FloatArray] = {}
        classes: list[str] = []
        if options.classes:
            values, by_class, ratings, classes = _read_classes(rows, columns, raters)
        elif options.versus:
            values = _read_pairs(rows, columns, options.versus)
            ratings = _matrix([_preferences(rows, column) for column in raters])
        else:
            values = {column: numbers(rows, column) for column in columns}
            ratings = _matrix([_lists(rows, column) for column in raters])
        return cls(
            rows,
            options,
            values,
            ratings,
            None if options.group is None else _groups(rows, options.group),
            None if options.system is None else _numbered(_labels(rows, options.system)),
            None if options.nodes is None else _labels(rows, options.nodes),
            _by_tag(rows, options.tags),
            by_class,
            classes,
        )

    @property
    def unit(self) -> str:
        """Return what intervals resample: "row", or the name of the group column."""
        return self.options.group or "row"

    @cached_property
    def human(self) -> FloatArray:
        """Return the mean rating of each row, shape (rows,)."""
        return mean_ratings(self.ratings)

    @cached_property
    def observed_ratings(self) -> FloatArray:
        """Return the ratings that scores are compared with, shape (rows, 1 or raters)."""
        ratings = self.ratings if self.options.ratings == "each" else self.human[:, None]
        return np.sign(2 * ratings - 1) if self.options.kind == "pairs" else ratings

    def names(self, column: str) -> list[str]:
        """Return the metrics that the values of a column allow."""
        if self.options.kind == "pairs":
            return list(names.OF_PAIRS)
        if self.options.kind == "classes":
            return [n for n in names.OF_CLASSES if n != "auroc_macro" or column in self.by_class]
        ratings = self.observed_ratings
        return names.metric_names(self.scores[column], ratings, self.options.metrics)

    def observations(self, column: str, index: IntArray | None = None) -> Observations:
        """Return the observations of a column, of some rows or of all.

        Args:
            column: the name of a column of scores.
            index: the rows.
        """
        rows = np.arange(len(self.rows)) if index is None else index
        observed = self.observed(self.scores[column][rows], rows)
        by_class = self.by_class.get(column)
        if by_class is None:
            return observed
        each = self.observed_ratings.shape[1]
        return replace(observed, by_class=np.repeat(by_class[rows], each, axis=0))

    def observed(
        self, scores: FloatArray, rows: IntArray, unit: IntArray | None = None
    ) -> Observations:
        """Return the observations of scores of some rows.

        Args:
            scores: shape (n,).
            rows: shape (n,), the row of each score.
            unit: shape (n,), the numbers of the groups; by default those of the table.
        """
        whole = len(rows) == len(self.rows)
        nodes = self.nodes
        if unit is None and self.group is not None:
            unit = self.group[rows]
        return Observations.of_rows(
            scores,
            self.observed_ratings[rows],
            unit,
            None if self.systems is None else self.systems[rows],
            None if nodes is None else [nodes[n] for n in rows.tolist()],
            # Averages over tags are of the whole table alone, not of each tag.
            {tag: np.isin(rows, index) for tag, index in self.tags.items()} if whole else None,
            len(self.classes),
        )


def mean_of_raters(rows: Sequence[Row], columns: Sequence[str]) -> FloatArray:
    """Return each row's mean rating over columns, whose cells may be lists; NaN where none has any.

    Raises:
        TableError: as `RatedTable.read`.

    >>> mean_of_raters([{"one": 4, "two": 5}, {"one": None, "two": None}], ["one", "two"])
    array([4.5, nan])
    """
    return mean_ratings(_matrix([_lists(rows, column) for column in columns]))


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


def _lists(rows: Sequence[Row], column: str) -> list[list[float]]:
    """Return the ratings of each cell: several where it is a list."""
    values = cells(rows, column)
    numbers(rows, column)  # refuses what cannot be read
    return [[number(part, column, n) for part in _parts(value)] for n, value in values]


def _parts(value: Any) -> Sequence[Any]:
    """Return the entries of a cell that is a list, also as text; else the cell alone."""
    if isinstance(value, str) and value.strip().startswith("["):
        value = parse_list(value)
    return value if isinstance(value, (list, tuple)) else [value]


def _matrix(columns: Sequence[Sequence[Sequence[float]]]) -> FloatArray:
    """Put the ratings of all columns side by side, with NaN where a row has fewer."""
    blocks = []
    for column in columns:
        width = max(1, max(map(len, column)))
        blocks.append([[*row, *[math.nan] * (width - len(row))] for row in column])
    return np.concatenate([np.array(block, np.float64) for block in blocks], axis=1)


def _read_pairs(
    rows: Sequence[Row], first: Sequence[str], second: Sequence[str]
) -> dict[str, FloatArray]:
    if len(first) != len(second):
        raise InputError(
            f"`versus=` names {len(second)} columns beside {len(first)} of scores: name the score "
            "of the second side of each"
        )
    return {
        f"{a}{VERSUS}{b}": numbers(rows, a) - numbers(rows, b)
        for a, b in zip(first, second, strict=True)
    }


def _preferences(rows: Sequence[Row], column: str) -> list[list[float]]:
    preferences = []
    for n, value in cells(rows, column):
        text = str(value).strip().lower()
        if is_empty(value):
            preferences.append([math.nan])
        elif text in PREFERENCES:
            preferences.append([PREFERENCES[text]])
        else:
            raise TableError(
                f"row {n}: {column!r} is {value!r}, no preference: write "
                f"{', '.join(PREFERENCES)}, or leave the cell empty"
            )
    return preferences


def _read_classes(
    rows: Sequence[Row], columns: Sequence[str], raters: Sequence[str]
) -> tuple[dict[str, FloatArray], dict[str, FloatArray], FloatArray, list[str]]:
    """Return the classes of scores and ratings as numbers, and the scores of classes."""
    rated = {column: _class_names(rows, column) for column in raters}
    classes = list(dict.fromkeys(n for named in rated.values() for n in named if n is not None))
    if len(classes) < 2:
        raise TableError(f"{raters[0]!r} holds fewer than two classes, so that any answer is right")
    codes = {name: float(n) for n, name in enumerate(sorted(classes))}
    scores, by_class = {}, {}
    for column in columns:
        if any(isinstance(value, Mapping) for _, value in cells(rows, column)):
            by_class[column] = _class_scores(rows, column, list(codes))
            best = np.where(np.isnan(by_class[column]), -np.inf, by_class[column]).argmax(axis=1)
            missing = np.isnan(by_class[column]).any(axis=1)
            scores[column] = np.where(missing, np.nan, best)
        else:
            # A class that people never chose is wrong, and no missing score.
            named = _class_names(rows, column)
            class_codes = np.array([_code(name, codes) for name in named])
            present = [name for name in named if name is not None]
            if present and not (class_codes >= 0).any() and all(map(_is_number, present)):
                allowed = ", ".join(map(repr, codes))
                raise TableError(
                    f"{column!r} holds numbers, and no class of the ratings: {allowed}"
                )
            scores[column] = class_codes
    matrix = [[_code(name, codes) for name in named] for named in rated.values()]
    return scores, by_class, np.array(matrix, np.float64).T, list(codes)


def _code(name: str | None, codes: Mapping[str, float]) -> float:
    return math.nan if name is None else codes.get(name, -1.0)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _class_names(rows: Sequence[Row], column: str) -> list[str | None]:
    return [None if is_empty(value) else str(value).strip() for _, value in cells(rows, column)]


def _class_scores(rows: Sequence[Row], column: str, classes: Sequence[str]) -> FloatArray:
    matrix = np.full((len(rows), len(classes)), np.nan)
    for n, value in cells(rows, column):
        if not isinstance(value, Mapping):
            if is_empty(value):
                continue
            raise TableError(f"row {n}: {column!r} is {value!r}, no object of scores by class")
        unknown = sorted(map(str, value.keys() - set(classes)))
        if unknown:
            raise TableError(
                f"row {n}: {column!r} has the class {unknown[0]!r}, which no rating is; the "
                f"classes are {', '.join(map(repr, classes))}"
            )
        matrix[n - 1] = [number(value.get(name), column, n) for name in classes]
    return matrix


def _groups(rows: Sequence[Row], column: str) -> IntArray:
    """Return the number of each row's group."""
    for n, value in cells(rows, column):
        if is_empty(value):
            raise TableError(f"row {n}: the group {column!r} is empty; every row needs one")
    return _numbered([str(value) for _, value in cells(rows, column)])


def _labels(rows: Sequence[Row], column: str) -> list[str]:
    return ["" if is_empty(value) else str(value).strip() for _, value in cells(rows, column)]


def _numbered(labels: Sequence[str]) -> IntArray:
    """Return the number of each label, from 0 in the order of their first row; -1 if empty."""
    codes: dict[str, int] = {}
    indices = [codes.setdefault(name, len(codes)) if name else -1 for name in labels]
    return np.array(indices, dtype=np.int64)


def _by_tag(rows: Sequence[Row], column: str | None) -> dict[str, IntArray]:
    """Return the row indices of each tag; a tag called "all" is "all (tag)"."""
    indices: dict[str, list[int]] = {}
    if column is not None:
        for n, value in cells(rows, column):
            for tag in split_tags(value):
                name = f"{ALL} (tag)" if tag == ALL else tag
                indices.setdefault(name, []).append(n - 1)
    return {tag: np.array(index, dtype=np.int64) for tag, index in indices.items()}
