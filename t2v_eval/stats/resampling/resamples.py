"""Agreement metrics of many resamples of one sample, whose sums are computed together."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from t2v_eval.stats.metrics import FloatArray
from t2v_eval.stats.pairwise import IntArray
from t2v_eval.stats.resampled_metrics import Resample, SortedSample
from t2v_eval.stats.resampling.products import EXACT, CopiesTable, Floats, Runs, dot


class Resamples:
    """Many resamples of a `SortedSample`, whose sums are computed together (`products`).

    Sums equal those of a `Resample`: to the last bit for whole numbers up to 2^53, and up to
    rounding for `moments`, which sums real numbers in another order.

    Args:
        sample: the whole sample.
        copies: shape (items, resamples), how many times each resample holds each item.

    >>> sample = SortedSample(np.array([0.1, 0.4, 0.3]), np.array([1.0, 2.0, 2.0]))
    >>> resamples = Resamples(sample, np.array([[2, 1], [1, 1], [0, 1]], np.uint8))
    >>> [(resample.n, resample.alike) for resample in resamples]
    [(3.0, 2.0), (3.0, 2.0)]
    """

    def __init__(self, sample: SortedSample, copies: NDArray[np.integer]) -> None:
        self.sample, self.table = sample, CopiesTable(copies)

    def __iter__(self) -> Iterator[Resample]:
        """Yield each resample."""
        return (_OfMany(self, k) for k in range(self.table.resamples))

    @cached_property
    def of_scores(self) -> _Sums:
        """Return sums over the numbers of items of each distinct score."""
        return _Sums.of(self.table, self.sample.score_runs)

    @cached_property
    def of_classes(self) -> _Sums:
        """Return the same for each distinct rating."""
        return _Sums.of(self.table, self.sample.class_runs)

    @cached_property
    def of_items(self) -> _Sums:
        """Return the same for each item."""
        runs = self.sample.score_runs
        return self.of_scores if self.sample.untied else _Sums.of(self.table, runs.singly())

    @cached_property
    def tied(self) -> FloatArray:
        """Return the number of pairs that are tied in both."""
        runs = self.sample.tied_runs
        sums, items = _Sums.of(self.table, runs), _Sums.of(self.table, runs.singly())
        return (sums.squares - items.squares) / 2

    @cached_property
    def alike(self) -> FloatArray:
        """Return the number of pairs that are ordered alike in both."""
        return self.sample.ordered_pairs[0].count(self.table)

    @cached_property
    def right(self) -> FloatArray:
        """Return the number of pairs that are tied or ordered alike, at the threshold."""
        if len(self.sample.ordered_pairs) == 1:  # the threshold is 0
            return self.tied + self.alike
        same = (self.of_classes.squares - self.of_items.squares) / 2
        return self.sample.ordered_pairs[1].count(self.table) + same

    @cached_property
    def rank_product(self) -> FloatArray:
        """Return the sum of products of ranks, as deviations from their mean."""
        sample, table, middle = self.sample, self.table, (self.of_classes.n + 1) / 2
        human = np.concatenate(
            [ranks for _, ranks in _centred_ranks(table, sample.class_runs, middle)]
        )
        product = np.zeros(table.resamples)
        dtype = table.dtype_of(table.most * table.largest)
        for first, ranks in _centred_ranks(table, sample.score_runs, middle):
            start, stop = np.searchsorted(sample.score_index, (first, first + len(ranks)))
            for place, rows in table.blocks(sample.items[start:stop]):
                block = slice(start + place, start + place + len(rows))
                weighted = rows.astype(dtype) * ranks.take(
                    sample.score_index[block] - first, axis=0
                )
                product += dot(weighted, human.take(sample.class_index[block], axis=0))
        return product

    @cached_property
    def moments(self) -> FloatArray:
        """Return the sums of `SortedSample.moments`, shape (5, resamples)."""
        moments = self.sample.moments
        sums = np.zeros((len(moments), self.table.resamples))
        for start, rows in self.table.blocks(self.sample.items):
            sums += moments[:, start : start + len(rows)] @ rows.astype(np.float64)
        return sums


class _OfMany(Resample):
    """One of many resamples, whose sums were computed together."""

    def __init__(self, many: Resamples, number: int) -> None:
        super().__init__(many.sample, many.table.copies[:, number])
        self._many, self._number = many, number

    @property
    def n(self) -> float:
        return float(self._many.of_classes.n[self._number])

    @property
    def repeats(self) -> bool:
        return bool(self._many.of_items.most[self._number] > 1)

    @property
    def classes(self) -> int:
        sides = self._many.of_scores, self._many.of_classes
        return min(int(side.distinct[self._number]) for side in sides)

    @property
    def pairs(self) -> float:
        return self._untied(self._many.of_items)

    @property
    def untied_scores(self) -> float:
        return self._untied(self._many.of_scores)

    @property
    def untied_human(self) -> float:
        return self._untied(self._many.of_classes)

    def _untied(self, sums: _Sums) -> float:
        return float(self.n**2 - sums.squares[self._number]) / 2

    @property
    def tied(self) -> float:
        return float(self._many.tied[self._number])

    @property
    def alike(self) -> float:
        return float(self._many.alike[self._number])

    @property
    def right(self) -> float:
        return float(self._many.right[self._number])

    @property
    def rank_product(self) -> float:
        return float(self._many.rank_product[self._number])

    @property
    def rank_squares(self) -> tuple[float, float]:
        first, second = (
            float(self.n**3 - sums.cubes[self._number]) / 12
            for sums in (self._many.of_scores, self._many.of_classes)
        )
        return first, second

    @property
    def moments(self) -> FloatArray:
        return self._many.moments[:, self._number]


class _Sums(NamedTuple):
    """Sums over runs of items, such as those of one score, for each resample.

    Attributes:
        n: of the numbers of items c of the runs.
        squares: of c^2.
        cubes: of c^3.
        distinct: the number of runs with items.
        most: the largest c.
    """

    n: FloatArray
    squares: FloatArray
    cubes: FloatArray
    distinct: IntArray
    most: FloatArray

    @classmethod
    def of(cls, table: CopiesTable, runs: Runs) -> Self:
        n, squares, cubes, most = np.zeros((4, table.resamples))
        distinct = np.zeros(table.resamples, np.int64)
        for _, counts in table.sums(runs):
            largest = counts.max(axis=0)
            bound = len(counts) * float(largest.max()) ** 3
            square = counts * counts if bound < EXACT else counts.astype(np.float64) ** 2
            n += counts.sum(axis=0)
            squares += square.sum(axis=0)
            cubes += dot(square, counts.astype(square.dtype), bound)
            distinct += np.count_nonzero(counts, axis=0)
            np.maximum(most, largest, out=most)
        return cls(n, squares, cubes, distinct, most)


def _centred_ranks(
    table: CopiesTable, runs: Runs, middle: FloatArray
) -> Iterator[tuple[int, Floats]]:
    """Yield the mean ranks of the items of a few runs at a time, minus the middle of all ranks."""
    below = -middle.astype(table.dtype)
    for first, counts in table.sums(runs):
        upto = np.cumsum(counts, axis=0) + below
        below = upto[-1]
        yield first, upto - (counts - 1) / 2
