"""How many values of a range of positions are greater than a value, or equal to it."""

from __future__ import annotations

from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

IntArray: TypeAlias = NDArray[np.int64]

_TABLE_VALUES = 64
_TABLE_SIZE = 1 << 24  # 64 MB


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
        self._base = len(values) + 1
        self._places = np.sort(values * self._base + np.arange(len(values)))
        self._levels: list[tuple[int, IntArray, int]] = []
        largest = int(values.max(initial=0))
        for bit in reversed(range(largest.bit_length())):
            ones = (values >> bit & 1).astype(bool)
            zeros_before = np.concatenate(([0], np.cumsum(~ones)))
            self._levels.append((bit, zeros_before, int(zeros_before[-1])))
            values = np.concatenate((values[~ones], values[ones]))

    def greater(self, start: IntArray, stop: IntArray, value: IntArray) -> IntArray:
        """Return for each query the number of positions in [start, stop) that exceed value."""
        total = np.zeros(len(value), dtype=np.int64)
        for bit, zeros_before, zeros in self._levels:
            has_bit = (value >> bit & 1).astype(bool)
            zero_start, zero_stop = zeros_before[start], zeros_before[stop]
            one_start, one_stop = start - zero_start, stop - zero_stop
            total += np.where(has_bit, 0, one_stop - one_start)
            start = np.where(has_bit, one_start + zeros, zero_start)
            stop = np.where(has_bit, one_stop + zeros, zero_stop)
        return total

    def equal(self, start: IntArray, stop: IntArray, value: IntArray) -> IntArray:
        """Return for each query the number of positions in [start, stop) that hold value."""
        first = value * self._base
        before, until = (np.searchsorted(self._places, first + end) for end in (start, stop))
        return until - before
