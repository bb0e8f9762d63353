"""Upper bounds on agreeing pairs, for all thresholds of ties at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_TABLE_BINS, _LEAST_BINS = 1 << 15, 64  # a bin for two to four items in between


class Bounds:
    """Upper bounds on the number of agreeing pairs, for thresholds in equal steps.

    Scores are put in equal bins. The number of pairs k bins apart, for all k at once, is a
    correlation of histograms, and their score differences are known to within a bin.

    Args:
        x: scores, sorted; shape (n,).
        rank: the rank of the rating of each among all distinct ratings, from 0.
        values: the number of distinct ratings.
        widest: the largest score difference, finite and greater than 0.

    >>> bounds = Bounds(np.array([1.0, 3.0, 4.0]), np.array([0, 1, 1]), 2, 3.0)
    >>> bounds.bound(0.0, 3.0) >= 3
    True
    """

    def __init__(self, x: FloatArray, rank: IntArray, values: int, widest: float) -> None:
        bins = min(_TABLE_BINS, max(_LEAST_BINS, 1 << max(0, len(x).bit_length() - 2)))
        self._step = widest / (bins - 1)
        place = ((x - x[0]) / self._step).astype(np.int64)
        size = 2 * bins
        tied = np.zeros(bins + 1, dtype=np.complex128)
        ordered = np.zeros_like(tied)
        above = np.zeros_like(tied)
        for value in reversed(range(values)):
            histogram = np.bincount(place[rank == value], minlength=bins)
            spectrum = np.fft.rfft(histogram, size)
            ordered += above * spectrum.conj()
            tied += spectrum * spectrum.conj()
            above += spectrum
        tied_at = np.rint(np.fft.irfft(tied, size)[:bins])
        # A correlation of a histogram with itself counts each item with itself and, in one bin,
        # each pair twice; between histograms, one bin holds pairs of both orders.
        tied_at[0] = (tied_at[0] - len(x)) / 2
        ordered_at = np.rint(np.fft.irfft(ordered, size)[:bins])
        within = np.cumsum(tied_at)
        beyond = np.cumsum(ordered_at[::-1])[::-1]
        # Two bins on either side cover the rounding of the bins and of the differences.
        at = np.arange(bins)
        self._bound = within[np.minimum(at + 2, bins - 1)] + beyond[np.maximum(at - 2, 0)]

    @property
    def most(self) -> float:
        """Return the threshold whose bound is the highest."""
        return float(self._bound.argmax() * self._step)

    def intervals(self, best: int, widest: float) -> list[tuple[float, float]]:
        """Return the intervals of thresholds where as many pairs as `best` may agree.

        They are a bin wider on each side, for the rounding of the limits of bins.

        Args:
            best: a number of pairs that agree at some threshold.
            widest: the largest threshold.
        """
        reaches = np.concatenate(([False], self._bound >= best, [False]))
        changes = np.flatnonzero(reaches[1:] != reaches[:-1]).reshape(-1, 2).tolist()
        return [
            (max(0.0, (first - 1) * self._step), min(widest, (stop + 1) * self._step))
            for first, stop in changes
        ]

    def bound(self, lo: float, hi: float) -> int:
        """Return an upper bound on the pairs that agree at any threshold in (lo, hi].

        Args:
            lo: the lower limit, 0 or more.
            hi: the upper limit.
        """
        first, last = (min(int(e / self._step), len(self._bound) - 1) for e in (lo, hi))
        return int(self._bound[first : last + 1].max())
