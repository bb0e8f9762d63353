"""Shares of battles, such as win rates, with intervals for units that repeat."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri, stdtrit

from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.ratings.battles import IntArray
from t2v_eval.utils.arrays import FloatArray


def share_interval(
    values: FloatArray, units: IntArray | None = None, confidence: float = 0.95
) -> Interval:
    """Compute a mean of values from 0 to 1 with Wilson's interval for an effective sample size.

    The effective size is p (1 - p) / variance, with the variance between units (Korn and Graubard
    1998, with Wilson's interval in the place of Clopper and Pearson's). Where all units agree it is
    the number of units, so that 0 of n and n of n have an interval too. Without repeated units and
    without ties it is n, and the interval Wilson's own. Repeated units have t quantiles.

    Args:
        values: shape (n,): 1 for a win, 0.5 for a tie, 0 for a loss.
        units: the number of the unit of each value, shape (n,), where values depend on each other;
            by default each is a unit.
        confidence: the coverage of the interval, between 0 and 1.

    Returns:
        The mean and its limits, from 0 to 1; NaN without values.

    >>> print(*(round(x, 3) for x in share_interval(np.array([1.0, 1, 1, 1]))))
    1.0 0.51 1.0
    """
    n = len(values)
    if not n:
        return Interval(math.nan, math.nan, math.nan)
    p = float(values.mean())
    position = (
        np.arange(n) if units is None else np.unique(units, return_inverse=True)[1].reshape(-1)
    )
    count = int(position.max()) + 1
    residuals = np.bincount(position, values - p)
    repeated = count < n
    correction = count / max(1, count - 1) if repeated else 1.0
    variance = float((residuals**2).sum()) / n**2 * correction
    size = p * (1 - p) / variance if variance > 1e-15 else float(count)
    tail = (1 + confidence) / 2
    z = float(stdtrit(max(1, count - 1), tail) if repeated else ndtri(tail))
    return Interval(p, *_wilson(p, size, z))


def _wilson(p: float, size: float, z: float) -> tuple[float, float]:
    """Return the limits of Wilson 1927 for a share p of `size` values."""
    scale = 1 + z**2 / size
    centre = (p + z**2 / (2 * size)) / scale
    width = z / scale * math.sqrt(p * (1 - p) / size + (z / (2 * size)) ** 2)
    return max(0.0, min(p, centre - width)), min(1.0, max(p, centre + width))
