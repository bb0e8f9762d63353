"""Bootstrap intervals of distances: rows of both sets are resampled, as counts.

A row's count is how often a resample holds it, so that sums of all resamples are one matrix
product, and pairs of a row with its own copy can be left out. Limits are percentiles.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2v_eval.stats.bootstrap import Interval, check_count
from t2v_eval.utils.arrays import FloatArray

Counts = NDArray[np.integer[Any]]

_BLOCK = 4096
_CONFIDENCE = 0.95


def resample_counts(n: int, resamples: int, seed: int, stream: int = 0) -> Counts:
    """Draw how often each of n rows occurs in each resample.

    Args:
        n: the number of rows.
        resamples: the number B of resamples, 0 or more.
        seed: the random seed, 0 or more.
        stream: a number of the set, so that two sets are resampled independently.

    Returns:
        Shape (n, B); each column sums to n.

    Raises:
        InputError: `resamples` or `seed` is not a whole number of at least 0.

    >>> resample_counts(5, 3, seed=0).sum(axis=0)
    array([5, 5, 5], dtype=uint64)
    """
    check_count("resamples", resamples, 0)
    check_count("seed", seed, 0)
    rng = np.random.default_rng([seed, stream])
    counts = np.empty((n, resamples), np.uint8)  # more than 255 copies of a row have no chance
    for k in range(resamples):
        counts[:, k] = np.bincount(rng.integers(0, n, size=n), minlength=n)
    return counts


def weighted_sums(counts: Counts, terms: FloatArray) -> FloatArray:
    """Sum terms of rows in each resample.

    Args:
        counts: shape (n, B).
        terms: shape (n,) or (n, m).

    Returns:
        Shape (B,) or (B, m).

    >>> weighted_sums(np.array([[1, 0], [1, 2]]), np.array([1.0, 3.0]))
    array([4., 6.])
    """
    total = np.zeros((counts.shape[1], *terms.shape[1:]))
    for start in range(0, len(counts), _BLOCK):
        place = slice(start, start + _BLOCK)
        total += counts[place].astype(np.float64).T @ terms[place]
    return total


def interval(value: float, resampled: FloatArray) -> Interval:
    """Return a value with the percentiles 2.5 and 97.5 of its resamples, which enclose it.

    Args:
        value: the value of all rows.
        resampled: that of each resample; without any, the limits are NaN.

    >>> interval(0.5, np.array([0.25, 0.25, 0.75, 0.75]))
    Interval(value=0.5, low=0.25, high=0.75)
    """
    defined = resampled[np.isfinite(resampled)]
    if 2 * len(defined) < len(resampled) or not len(defined) or not math.isfinite(value):
        return Interval(float(value), math.nan, math.nan)
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    # Resamples that are all alike differ from the value by rounding.
    return Interval(float(value), float(min(low, value)), float(max(high, value)))


def mean_interval(terms: FloatArray, counts: Counts) -> Interval:
    """Return the mean of terms of rows, with its interval.

    Args:
        terms: shape (n,).
        counts: see `resample_counts`, shape (n, B).

    >>> mean_interval(np.ones(4), resample_counts(4, 10, seed=0))
    Interval(value=1.0, low=1.0, high=1.0)
    """
    return interval(float(terms.mean()), weighted_sums(counts, terms) / len(terms))
