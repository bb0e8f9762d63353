"""How many values of a range of positions are greater than a value."""

from __future__ import annotations

from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

IntArray: TypeAlias = NDArray[np.int64]

_TABLE_VALUES = 64
_TABLE_SIZE = 1 << 24  # 64 MB


class RangeCounts(Protocol):
    """Counts of the values of ranges that exceed a value.

    >>> counts: RangeCounts = range_counts(np.array([2, 0, 1, 2]))
    >>> counts.greater(np.array([1]), np.array([4]), np.array([1]))
    array([1])
    """

    def greater(self, start: IntArray, stop: IntArray, value: IntArray) -> IntArray:
        """Return for each query the number of positions in [start, stop) that exceed value."""
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
    """Counts by a table with a row for each value, in two look-ups.

    Args:
        values: whole numbers from 0, shape (n,).

    >>> counts = CumulativeCounts(np.array([2, 0, 1, 2]))
    >>> counts.greater(np.array([0, 1]), np.array([4, 3]), np.array([1, 0]))
    array([2, 1])
    """

    def __init__(self, values: IntArray) -> None:
        self._columns = len(values) + 1
        above = np.zeros((int(values.max(initial=0)) + 1, self._columns), np.int32)
        for value, row in enumerate(above[:-1]):  # nothing exceeds the largest
            np.cumsum(values > value, out=row[1:], dtype=np.int32)
        self._above = above.ravel()

    def greater(self, start: IntArray, stop: IntArray, value: IntArray) -> IntArray:
        """Return for each query the number of positions in [start, stop) that exceed value."""
        row = value * self._columns
        counts = self._above.take(row + stop) - self._above.take(row + start)
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
