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
from t2v_eval.stats.resampling.products import EXACT, CopiesTable, Floats, Runs, dot, ranks_of


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
    def of_items(self) -> _Sums:
        """Return sums over the numbers of copies of each item."""
        return _Sums.of(self.table, self.sample.score_runs.singly())

    @cached_property
    def of_scores(self) -> _Sums:
        """Return the same over the numbers of items of each distinct score."""
        return self._of_runs(self.sample.score_runs)

    @cached_property
    def of_classes(self) -> _Sums:
        """Return the same for each distinct rating."""
        return self._of_runs(self.sample.class_runs)

    def _of_runs(self, runs: Runs) -> _Sums:
        several = runs.several()
        if 2 * len(several.items) > len(runs.items):
            return _Sums.of(self.table, runs)
        # Most runs are of one item, and their sums are known.
        together, alone = (_Sums.of(self.table, each) for each in (several, several.singly()))
        sums = zip(self.of_items, together, alone, strict=True)
        return _Sums(*(of_items + whole - parts for of_items, whole, parts in sums))

    @cached_property
    def distinct(self) -> tuple[IntArray, IntArray]:
        """Return the number of distinct scores, and of distinct ratings."""
        sides = np.zeros((2, self.table.resamples), np.int64)
        for number, runs in zip(
            sides, (self.sample.score_runs, self.sample.class_runs), strict=True
        ):
            for _, counts in self.table.sums(runs):
                number += np.count_nonzero(counts, axis=0)
        return sides[0], sides[1]

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
        sample, table = self.sample, self.table
        human = np.empty((len(sample.class_starts), table.resamples), table.dtype)
        for first, ranks in self._centred_ranks(sample.class_runs):
            human[first : first + len(ranks)] = ranks
        product = np.zeros(table.resamples)
        dtype = table.dtype_of(table.most * table.largest)
        for first, ranks in self._centred_ranks(sample.score_runs):
            start, stop = np.searchsorted(sample.score_index, (first, first + len(ranks)))
            for place, rows in table.blocks(sample.items[start:stop]):
                block = slice(start + place, start + place + len(rows))
                weighted = rows.astype(dtype, copy=False)
                weighted *= human.take(sample.class_index[block], axis=0)
                if len(ranks) < stop - start:
                    of_items = ranks.take(sample.score_index[block] - first, axis=0)
                else:
                    of_items = ranks
                product += dot(weighted, of_items.astype(dtype, copy=False))
        return product

    def _centred_ranks(self, runs: Runs) -> Iterator[tuple[int, Floats]]:
        """Yield the mean ranks of a few runs at a time, minus the mean of all ranks."""
        below = (-self.of_items.n / 2).astype(self.table.dtype)
        for first, counts in self.table.sums(runs):
            ranks, below = ranks_of(counts, below)
            yield first, ranks

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

    @cached_property
    def n(self) -> float:
        return float(self._many.of_items.n[self._number])

    @property
    def repeats(self) -> bool:
        return bool(self._many.of_items.squares[self._number] > self.n)

    @property
    def varies(self) -> bool:
        sides = self._many.of_scores, self._many.of_classes
        return all(bool(side.squares[self._number] < self.n**2) for side in sides)

    @property
    def classes(self) -> int:
        return min(int(distinct[self._number]) for distinct in self._many.distinct)

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
    """

    n: FloatArray
    squares: FloatArray
    cubes: FloatArray

    @classmethod
    def of(cls, table: CopiesTable, runs: Runs) -> Self:
        n, squares, cubes = np.zeros((3, table.resamples))
        for _, counts in table.sums(runs):
            bound = len(counts) * float(counts.max()) ** 3
            square = counts * counts if bound < EXACT else counts.astype(np.float64) ** 2
            n += counts.sum(axis=0)
            squares += square.sum(axis=0)
            cubes += dot(square, counts.astype(square.dtype, copy=False), bound)
        return cls(n, squares, cubes)
