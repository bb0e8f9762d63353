"""Sums over the items of many resamples at once, as products of matrices.

A resample is how many copies it holds of each item, and many of them are a table with a row for
each item. What a metric sums over items, runs of equal items or pairs of items is then a product of
a matrix of zeros and ones, which is the same for all resamples, and rows of that table.

All sums are of whole numbers and exact: in float32 where no partial sum can exceed 2^24, and else
in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.floating]
"""Whole numbers in float32 or float64."""

EXACT = 1 << 24
"""Whole numbers up to here are exact in float32."""
_ROWS = 64  # of a product: more cost more multiplications, fewer more calls
_RANKED = 32  # of those whose ranks are a product
_BELOW = np.tri(_RANKED) - np.eye(_RANKED) / 2  # all below, and half of its own
_DIGITS = 64  # that ranks are cut into


class Runs(NamedTuple):
    """Items in an order in which those that are equal, as items of one score, are neighbours.

    Attributes:
        items: shape (items,), indices of rows of a `CopiesTable`.
        number: shape (items,), the number of the run of each, from 0 without gaps.

    >>> Runs(np.array([2, 0, 1]), np.array([0, 0, 1])).singly().number
    array([0, 1, 2])
    """

    items: IntArray
    number: IntArray

    def singly(self) -> Runs:
        """Return each of the items as a run of its own."""
        return Runs(self.items, np.arange(len(self.items)))

    def several(self) -> Runs:
        """Return the runs of two items or more."""
        chosen = np.bincount(self.number)[self.number] > 1
        number = self.number[chosen]
        return Runs(self.items[chosen], np.cumsum(np.diff(number, prepend=number[:1]) > 0))


class CopiesTable:
    """How many copies of each item many resamples hold.

    Args:
        copies: shape (items, resamples), whole numbers from 0.

    Attributes:
        copies: the same.
        most: the largest number of copies of one item.
        largest: the largest number of items of a resample.
        dtype: of rows and sums of them.

    >>> table = CopiesTable(np.array([[1, 0], [2, 1], [0, 2]], np.uint8))
    >>> table.rows(np.array([1, 0])).tolist()
    [[2.0, 1.0], [1.0, 0.0]]
    >>> runs = Runs(np.array([2, 0, 1]), np.array([0, 0, 1]))
    >>> [(first, counts.tolist()) for first, counts in table.sums(runs)]
    [(0, [[1.0, 2.0], [2.0, 1.0]])]
    """

    def __init__(self, copies: NDArray[np.integer]) -> None:
        self.copies, self.most = copies, int(copies.max(initial=0))
        self.largest = int(copies.sum(axis=0, dtype=np.int64).max(initial=0))
        self.dtype = self.dtype_of(self.largest)

    @property
    def resamples(self) -> int:
        """Return the number of resamples."""
        number: int = self.copies.shape[1]
        return number

    @staticmethod
    def dtype_of(largest: int) -> type[np.floating]:
        """Return the type that holds whole numbers, and halves of them, up to the largest."""
        return np.float32 if 2 * largest < EXACT else np.float64

    def rows(self, items: IntArray) -> Floats:
        """Return the copies of some items, shape (items, resamples)."""
        return self.copies.take(items, axis=0).astype(self.dtype)

    def blocks(self, items: IntArray) -> Iterator[tuple[int, Floats]]:
        """Yield the copies of a few items at a time, with the place of the first of them."""
        for start in range(0, len(items), _ROWS):
            yield start, self.rows(items[start : start + _ROWS])

    def sums(self, runs: Runs) -> Iterator[tuple[int, Floats]]:
        """Yield the copies in a few runs at a time, with the number of the first of them.

        Args:
            runs: the items.
        """
        starts = np.flatnonzero(np.diff(runs.number, prepend=-1))
        ends = np.append(starts[1:], len(runs.items))
        first = 0
        while first < len(starts):
            # Runs that are together no longer than a block, or a single one.
            stop = int(np.searchsorted(ends, starts[first] + _ROWS, side="right"))
            stop = max(stop, first + 1)
            items = runs.items[starts[first] : ends[stop - 1]]
            if len(items) == stop - first:
                yield first, self.rows(items)
            else:
                number = runs.number[starts[first] : ends[stop - 1]] - first
                yield first, self._added(items, number, stop - first)
            first = stop

    def _added(self, items: IntArray, number: IntArray, count: int) -> Floats:
        sums = np.zeros((count, self.resamples), self.dtype)
        every = np.arange(count)[:, None]
        for start, rows in self.blocks(items):
            sums += (number[start : start + len(rows)] == every).astype(self.dtype) @ rows
        return sums


class OrderedPairs:
    """Counts pairs of items, of which the second is beyond the reach of the first and ranks above.

    Ranks are cut into digits of at most 64 values. A pair is ordered by the first digit where its
    ranks differ, so that items with the same digits before that are counted as a group. The pairs
    of a block of a group with items that lie beyond the reach of the whole block depend on digits
    alone; only those near the block are compared one by one, in a matrix.

    Args:
        items: shape (n,), indices of rows of a `CopiesTable`, in the order of scores.
        rank: shape (n,), the rank of each, from 0.
        beyond: shape (n,), the first place beyond the reach of each item, never decreasing, after
            the item's own.
        equal: whether pairs of equal ranks count -1.

    >>> table = CopiesTable(np.array([[1], [2], [1]], np.uint8))
    >>> pairs = OrderedPairs(np.arange(3), np.array([0, 1, 1]), np.arange(1, 4))
    >>> pairs.count(table)
    array([3.])
    """

    def __init__(
        self, items: IntArray, rank: IntArray, beyond: IntArray, *, equal: bool = False
    ) -> None:
        n, ranks = len(items), int(rank.max(initial=0)) + 1
        levels = next(k for k in range(1, 64) if _DIGITS**k >= ranks)
        digits = next(k for k in range(1, _DIGITS + 1) if k**levels >= ranks)
        self._digits = digits
        self._levels: list[_Level] = []
        for level in reversed(range(levels)):
            prefix, digit = np.divmod(rank // digits**level, digits)
            order = np.argsort(prefix, kind="stable")
            keys = prefix[order] * (n + 1)
            begin = np.searchsorted(keys + order, keys + beyond[order])
            self._levels.append(
                _Level(items[order], prefix[order], digit[order], begin, equal and level == 0)
            )

    def count(self, table: CopiesTable) -> FloatArray:
        """Return the number of pairs in each resample, shape (resamples,).

        Copies of one item are no pair.

        Args:
            table: the resamples.
        """
        total = np.zeros(table.resamples)
        for level in self._levels:
            for start, stop in level.groups():
                total += self._of_group(level, start, stop, table)
        return total

    def _of_group(self, level: _Level, start: int, stop: int, table: CopiesTable) -> FloatArray:
        """Return the pairs of the items from `start` to `stop`, which have one prefix."""
        total = np.zeros(table.resamples)
        values = np.arange(self._digits)
        above = level.compare(values, values, table.dtype)
        beyond = np.zeros((self._digits, table.resamples), table.dtype)
        of_digit, counted = beyond, slice(stop, stop)  # the copies of each digit in a block
        last = stop
        for first in reversed(range(start, stop, _ROWS)):
            block = slice(first, min(first + _ROWS, stop))
            digit, begin = level.digit[block], level.begin[block]
            rows = table.rows(level.items[block])
            near = slice(int(begin[0]), int(begin[-1]))
            if near.stop < last:  # of each digit, what counts beyond the reach of the whole block
                far = slice(near.stop, last)
                if far == counted:
                    beyond += above @ of_digit
                else:
                    beyond += level.compare(values, level.digit[far], table.dtype) @ table.rows(
                        level.items[far]
                    )
                last = near.stop
            if last < stop or start < first:
                of_digit, counted = (digit == values[:, None]).astype(table.dtype) @ rows, block
            if last < stop:
                total += dot(of_digit, beyond)
            if near.start < near.stop:
                counts = level.compare(digit, level.digit[near], table.dtype)
                counts *= np.arange(near.start, near.stop) >= begin[:, None]
                bound = table.most**2 * counts.size
                if near.stop <= block.stop:
                    others = rows[near.start - first : near.stop - first]
                else:
                    others = table.rows(level.items[near])
                total += dot(counts @ others, rows, bound)
        return total


class _Level(NamedTuple):
    """Items in the order of the digits before one digit of their ranks, then of scores."""

    items: IntArray
    prefix: IntArray
    digit: IntArray
    begin: IntArray
    equal: bool

    def groups(self) -> list[tuple[int, int]]:
        """Return where groups of several items with one prefix start and end."""
        starts = np.flatnonzero(np.diff(self.prefix, prepend=-1))
        ends = np.append(starts[1:], len(self.prefix))
        several = ends - starts > 1
        return list(zip(starts[several].tolist(), ends[several].tolist(), strict=True))

    def compare(self, first: IntArray, second: IntArray, dtype: type[np.floating]) -> Floats:
        """Return what pairs of digits count, shape (first, second)."""
        counts = (first[:, None] < second).astype(dtype)
        if self.equal:
            counts -= first[:, None] == second
        return counts


def dot(first: Floats, second: Floats, bound: float = np.inf) -> FloatArray:
    """Return the sum of products of each column.

    Args:
        first: shape (rows, columns), whole numbers.
        second: in the same shape.
        bound: what no partial sum exceeds.

    >>> dot(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 1.0], [2.0, 0.0]]))
    array([7., 2.])
    """
    dtype = first.dtype if bound < EXACT else np.float64
    sums: Floats = np.einsum("ij,ij->j", first, second, dtype=dtype)
    return sums.astype(np.float64)


def ranks_of(counts: Floats, below: Floats) -> tuple[Floats, Floats]:
    """Return the mean ranks of the items of each value, less a half.

    Args:
        counts: the numbers of items of each value, from the lowest; shape (values, resamples).
        below: the numbers of items of all lower values, shape (resamples,).

    Returns:
        The ranks, in the shape of `counts`, and the numbers of items up to the last value.

    >>> ranks, upto = ranks_of(np.array([[1.0], [2.0], [1.0]]), np.zeros(1))
    >>> ranks.ravel() + 0.5, upto
    (array([1. , 2.5, 4. ]), array([4.]))
    """
    ranks = np.empty_like(counts)
    for start in range(0, len(counts), _RANKED):
        rows, part = counts[start : start + _RANKED], ranks[start : start + _RANKED]
        np.matmul(_BELOW[: len(rows), : len(rows)].astype(counts.dtype), rows, out=part)
        part += below
        below = part[-1] + rows[-1] / 2
    return ranks, below
