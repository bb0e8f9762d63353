"""How many values of a range of positions are greater than a value, or equal to it."""

from __future__ import annotations

from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

IntArray: TypeAlias = NDArray[np.int64]

_TABLE_VALUES = 64
_TABLE_SIZE = 1 << 24  # 64 MB
_FEW = 4  # places of a value, which are compared one by one


class RangeCounts(Protocol):
    """Counts of the values of ranges that exceed a value or equal it.

    >>> counts: RangeCounts = range_counts(np.array([2, 0, 1, 2]))
    >>> counts.greater(np.array([1]), np.array([4]), np.array([1]))
    array([1])
    >>> counts.equal(np.array([1]), np.array([4]), np.array([1]))
    array([1])
    """

    def greater(self, start: IntArray, stop: IntArray, value: IntArray) -> IntArray:
        """Return for each query the number of positions in [start, stop) that exceed value."""
        ...

    def equal(self, start: IntArray, stop: IntArray, value: IntArray) -> IntArray:
        """Return for each query the number of positions in [start, stop) that hold value."""
        ...


def range_counts(values: IntArray) -> RangeCounts:
    """Return what counts fastest: a table of few distinct values, else a wavelet matrix.

    Args:
        values: whole numbers from 0, shape (n,).

    >>> counts = range_counts(np.array([2, 0, 1, 2]))
    >>> counts.greater(np.array([0]), np.array([3]), np.array([0]))
    array([2])
    """
    numbers = int(values.max(initial=0)) + 1
    if numbers <= _TABLE_VALUES and numbers * (len(values) + 1) <= _TABLE_SIZE:
        return CumulativeCounts(values)
    return WaveletMatrix(values)


class CumulativeCounts:
    """Counts by a table of how many values are at least as large, with a row for each value.

    Args:
        values: whole numbers from 0, shape (n,).

    >>> counts = CumulativeCounts(np.array([2, 0, 1, 2]))
    >>> counts.greater(np.array([0, 1]), np.array([4, 3]), np.array([1, 0]))
    array([2, 1])
    """

    def __init__(self, values: IntArray) -> None:
        self._columns = len(values) + 1
        at_least = np.zeros((int(values.max(initial=0)) + 2, self._columns), np.int32)
        for value, row in enumerate(at_least[:-1]):  # nothing exceeds the largest
            np.cumsum(values >= value, out=row[1:], dtype=np.int32)
        self._at_least = at_least.ravel()

    def greater(self, start: IntArray, stop: IntArray, value: IntArray) -> IntArray:
        """Return for each query the number of positions in [start, stop) that exceed value."""
        return self._from(start, stop, value + 1)

    def equal(self, start: IntArray, stop: IntArray, value: IntArray) -> IntArray:
        """Return for each query the number of positions in [start, stop) that hold value."""
        return self._from(start, stop, value) - self._from(start, stop, value + 1)

    def _from(self, start: IntArray, stop: IntArray, value: IntArray) -> IntArray:
        """Return the number of positions in [start, stop) with at least value."""
        row = value * self._columns
        counts = self._at_least.take(row + stop) - self._at_least.take(row + start)
        return counts.astype(np.int64)


class WaveletMatrix:
    """Counts in time that grows with the logarithm of the number of values.

    See Claude, Navarro and Ordóñez (2015), "The wavelet matrix".

    Args:
        values: whole numbers from 0, shape (n,).

    >>> counts = WaveletMatrix(np.array([2, 0, 1, 2]))
    >>> counts.greater(np.array([0, 1]), np.array([4, 3]), np.array([1, 0]))
    array([2, 1])
    """

    def __init__(self, values: IntArray) -> None:
        # The places of each value, one value after the other, and where those of a value begin.
        self._places = np.argsort(values, kind="stable")
        self._count = np.bincount(values)
        self._first = np.cumsum(self._count) - self._count
        self._base = len(values) + 1
        self._keys = values[self._places] * self._base + self._places
        values = values.astype(np.int32)
        self._levels: list[tuple[int, NDArray[np.int32], int]] = []
        largest = int(values.max(initial=0))
        for bit in reversed(range(largest.bit_length())):
            ones = (values >> bit & 1).astype(bool)
            zeros_before = np.concatenate(([0], np.cumsum(~ones))).astype(np.int32)
            self._levels.append((bit, zeros_before, int(zeros_before[-1])))
            values = np.concatenate((values[~ones], values[ones]))

    def greater(self, start: IntArray, stop: IntArray, value: IntArray) -> IntArray:
        """Return for each query the number of positions in [start, stop) that exceed value."""
        # 32 bits take half of the time.
        first, last, bits = (side.astype(np.int32) for side in (start, stop, value))
        total = np.zeros(len(value), dtype=np.int32)
        for bit, zeros_before, zeros in self._levels:
            has_bit = (bits >> bit & 1).astype(bool)
            zero_first, zero_last = zeros_before.take(first), zeros_before.take(last)
            one_first, one_last = first - zero_first, last - zero_last
            total += np.where(has_bit, 0, one_last - one_first)
            first = np.where(has_bit, one_first + np.int32(zeros), zero_first)
            last = np.where(has_bit, one_last + np.int32(zeros), zero_last)
        return total.astype(np.int64)

    def equal(self, start: IntArray, stop: IntArray, value: IntArray) -> IntArray:
        """Return for each query the number of positions in [start, stop) that hold value."""
        most = int(self._count.max(initial=0))
        if most > _FEW:
            first = value * self._base
            before, until = (np.searchsorted(self._keys, first + end) for end in (start, stop))
            return until - before
        total = np.zeros(len(value), dtype=np.int64)
        for k in range(most):  # the k-th place of each value, if there are as many
            place = self._places.take(self._first.take(value) + k, mode="clip")
            total += (k < self._count.take(value)) & (start <= place) & (place < stop)
        return total
