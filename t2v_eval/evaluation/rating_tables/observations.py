"""Observations of a table: a score beside a rating, and what they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from t2v_eval.stats.averages import Average
from t2v_eval.stats.bootstrap import IntArray
from t2v_eval.stats.metrics import FloatArray
from t2v_eval.stats.paired import mean_ranks, standardize

Constant: TypeAlias = Literal["skip", "zero"]
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Averaging:
    """How a metric is averaged over groups and over tags.

    Attributes:
        mean: the average; "fisher-z" and "tanh" concern correlations, others are averaged plainly.
        constant_groups: what a correlation is within a group of equal scores or ratings: left out
            ("skip"), or 0 ("zero").

    >>> Averaging().mean
    'plain'
    """

    mean: Average = "plain"
    constant_groups: Constant = "skip"


@dataclass(frozen=True, slots=True)
class Observations:
    """The n observations of one column of scores.

    Attributes:
        scores: shape (n,); NaN is missing.
        ratings: shape (n,); NaN is missing. Where rows are pairs, 1, 0 or -1; where ratings are
            classes, their numbers.
        unit: shape (n,), the number of the unit that is resampled: a group, or a row.
        units: the number of units.
        grouped: whether units are groups, within which metrics are computed too.
        systems: shape (n,), the number of the generator of each observation, -1 where it is not
            known; None without a system level.
        nodes: n labels of nodes; None without them.
        by_class: shape (n, classes), the score of each class, where scores are of classes and not
            their names.
        classes: the number of classes, where ratings are classes; else 0.
        tags: shape (n,) for each tag that metrics are averaged over: whether it has the tag.
        side: shape (n,), in a paired test the number of the column of each score, 0 or 1.

    >>> rows = Observations.of_rows(np.array([0.1, 0.4]), np.array([[1.0, 2.0], [3.0, np.nan]]))
    >>> rows.scores, rows.unit, rows.used
    (array([0.1, 0.1, 0.4, nan]), array([0, 0, 1, 1]), 3)
    """

    scores: FloatArray
    ratings: FloatArray
    unit: IntArray
    units: int
    grouped: bool = False
    systems: IntArray | None = None
    nodes: Sequence[str] | None = None
    by_class: FloatArray | None = None
    classes: int = 0
    tags: Mapping[str, Mask] = field(default_factory=dict)
    side: IntArray | None = None

    @classmethod
    def paired(cls, first: Self, second: Self) -> Self:
        """Return the observations of two columns for a paired test of them.

        Unit k has the scores of the first column, and unit k + units those of the second.

        Args:
            first: the observations of the first column.
            second: those of the second, of the same rows and units.

        >>> column = Observations.of_rows(np.array([0.1, 0.4]), np.array([[1.0], [2.0]]))
        >>> Observations.paired(column, column).unit
        array([0, 1, 2, 3])
        """
        missing = ~(first.known & second.known)
        scores, ratings = (
            np.where(np.tile(missing, 2), np.nan, np.concatenate(sides))
            for sides in ((first.scores, second.scores), (first.ratings, second.ratings))
        )
        return replace(
            first,
            scores=scores,
            ratings=ratings,
            unit=np.concatenate((first.unit, second.unit + first.units)),
            units=2 * first.units,
            systems=None if first.systems is None else np.tile(first.systems, 2),
            nodes=None if first.nodes is None else [*first.nodes, *first.nodes],
            by_class=None,
            tags={tag: np.tile(mask, 2) for tag, mask in first.tags.items()},
            side=np.repeat((0, 1), len(first.scores)),
        )

    @classmethod
    def of_rows(
        cls,
        scores: FloatArray,
        ratings: FloatArray,
        group: IntArray | None = None,
        systems: IntArray | None = None,
        nodes: Sequence[str] | None = None,
        tags: Mapping[str, Mask] | None = None,
        classes: int = 0,
    ) -> Self:
        """Make an observation of each score with each of its ratings.

        Args:
            scores: shape (rows,).
            ratings: shape (rows, ratings); NaN is missing.
            group: shape (rows,), numbers of groups from 0; None makes each row a unit.
            systems: shape (rows,).
            nodes: labels of the rows.
            tags: masks of shape (rows,).
            classes: the number of classes.
        """
        each = ratings.shape[1]
        row = np.repeat(np.arange(len(scores)), each)
        unit = (np.arange(len(scores)) if group is None else group)[row]
        flat = np.repeat(scores, each), ratings.ravel()
        missing = np.isnan(flat[0]) | np.isnan(flat[1])
        s, h = (np.where(missing, np.nan, side) for side in flat)
        return cls(
            s,
            h,
            unit,
            int(unit.max(initial=-1)) + 1,
            group is not None,
            None if systems is None else systems[row],
            None if nodes is None else [nodes[n] for n in row.tolist()],
            None,
            classes,
            {tag: mask[row] for tag, mask in (tags or {}).items()},
        )

    @property
    def known(self) -> Mask:
        """Return which observations have both a score and a rating, shape (n,)."""
        return ~np.isnan(self.scores)

    @property
    def used(self) -> int:
        """Return the number of observations with both a score and a rating."""
        return int(self.known.sum())

    def exchanged(self, by_order: bool) -> FloatArray:
        """Return the scores that a metric is computed of, shape (n,).

        Args:
            by_order: whether the metric depends on the order of scores alone. In a paired test,
                columns then exchange ranks, and else standardised scores (`stats.paired`).
        """
        if self.side is None:
            return self.scores
        transform = mean_ranks if by_order else standardize
        exchanged = np.empty(len(self.scores))
        for number in (0, 1):
            exchanged[self.side == number] = transform(self.scores[self.side == number])
        return exchanged

    def within(self, mask: Mask) -> Self:
        """Return the observations of `mask` that are not missing, of the same units."""
        return replace(self._at(mask & self.known), systems=None, tags={})

    def present(self) -> Self:
        """Return the observations that are not missing, with units numbered anew."""
        present = self._at(self.known)
        units, unit = np.unique(present.unit, return_inverse=True)
        return replace(present, unit=unit.astype(np.int64), units=len(units))

    def _at(self, chosen: Mask) -> Self:
        """Return some observations, of the same units."""
        nodes = self.nodes
        return replace(
            self,
            scores=self.scores[chosen],
            ratings=self.ratings[chosen],
            unit=self.unit[chosen],
            systems=None if self.systems is None else self.systems[chosen],
            nodes=None if nodes is None else [nodes[n] for n in np.flatnonzero(chosen).tolist()],
            by_class=None if self.by_class is None else self.by_class[chosen],
            tags={tag: mask[chosen] for tag, mask in self.tags.items()},
            side=None if self.side is None else self.side[chosen],
        )


class Members:
    """The observations of each unit, to resample units of any sizes without padding.

    Args:
        unit: shape (n,), the unit of each observation.
        units: the number of units.

    >>> Members(np.array([1, 0, 1]), 2).of(np.array([1, 1, 0]))
    array([0, 2, 0, 2, 1])
    """

    def __init__(self, unit: IntArray, units: int) -> None:
        self._order = np.argsort(unit, kind="stable")
        self.size = np.bincount(unit, minlength=units)
        self._start = np.cumsum(self.size) - self.size
        self._single = bool((self.size == 1).all()) and bool((unit == np.arange(len(unit))).all())

    def of(self, index: IntArray) -> IntArray:
        """Return the observations of these units, unit by unit."""
        if self._single:
            return index
        size = self.size[index]
        place = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size)
        members: IntArray = self._order[np.repeat(self._start[index], size) + place]
        return members
