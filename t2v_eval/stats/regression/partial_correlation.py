"""Partial correlations: how two variables go together at equal values of others.

Both variables are regressed on the others by least squares, and the residuals are correlated
(Fisher 1924, The distribution of the partial correlation coefficient). On ranks, that is the
partial Spearman correlation, which needs no straight line.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special, stats

from t2v_eval.errors import InputError
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.metrics import pearson
from t2v_eval.utils.arrays import FloatArray, Values, as_floats

_RANK_VARIANCE = 1.06
"""The variance of Fisher's z of a rank correlation, relative to that of Pearson's (Fieller, Hartley
and Pearson 1957, Tests for rank correlation coefficients I)."""


def partial_correlation(
    x: Values,
    y: Values,
    controls: Values | None = None,
    *,
    ranks: bool = True,
    confidence: float = 0.95,
) -> Interval:
    """Correlate two variables at equal values of the controls.

    The interval is normal on Fisher's z with n - 3 - k degrees of freedom for k controls, whose
    variance is 1.06 times as large for ranks.

    Args:
        x: shape (n,); None and NaN are missing.
        y: shape (n,).
        controls: shape (n, k). Rows in which any variable is missing are left out, and so is a
            control that is constant. None for no controls.
        ranks: whether ranks are correlated (Spearman) and not the values (Pearson).
        confidence: the coverage of the interval, between 0 and 1.

    Returns:
        The correlation, -1 to 1, with its limits; NaN where a variable is constant or is a linear
        function of the controls, and limits of NaN where fewer than k + 4 rows are complete.

    Raises:
        InputError: the shapes differ, or a value is not a finite number.

    >>> words = [3, 4, 5, 6, 7, 8, 9, 10]
    >>> scores = [0.31, 0.35, 0.28, 0.30, 0.26, 0.27, 0.22, 0.20]
    >>> round(partial_correlation(words, scores).value, 3)
    -0.929
    """
    a, b, others = _complete(x, y, controls)
    if ranks:
        a, b = stats.rankdata(a), stats.rankdata(b)
        others = stats.rankdata(others, axis=0) if others.size else others
    others = others[:, np.ptp(others, axis=0) > 0] if len(others) else others
    n, k = others.shape
    if n < k + 3:
        return Interval(math.nan, math.nan, math.nan)
    value = pearson(residuals(a, others), residuals(b, others))
    freedom = n - 3 - k
    if math.isnan(value) or freedom < 1:
        return Interval(value, math.nan, math.nan)
    variance = (_RANK_VARIANCE if ranks else 1.0) / freedom
    half = float(special.ndtri(0.5 + confidence / 2)) * math.sqrt(variance)
    z = math.atanh(min(max(value, -1 + 1e-15), 1 - 1e-15))
    low, high = math.tanh(z - half), math.tanh(z + half)
    return Interval(value, min(low, value), max(high, value))


def residuals(values: FloatArray, controls: FloatArray) -> FloatArray:
    """Return what a regression on the controls, with a constant, leaves of the values.

    Args:
        values: shape (n,).
        controls: shape (n, k).

    Returns:
        Residuals (n,); exactly 0 where the controls account for all but rounding.

    >>> residuals(np.array([1.0, 2.0, 3.0]), np.array([[2.0], [4.0], [6.0]]))
    array([0., 0., 0.])
    """
    design = np.column_stack([np.ones(len(values)), controls - controls.mean(axis=0)])
    coefficients, *_ = np.linalg.lstsq(design, values, rcond=None)
    rest = values - design @ coefficients
    centred = values - values.mean()
    rounding = 1e-10 * float(np.abs(centred).max(initial=0.0))
    result: FloatArray = np.where(np.abs(rest) <= rounding, 0.0, rest)
    return result


def _complete(
    x: Values, y: Values, controls: Values | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the rows without missing values, controls in the shape (n, k)."""
    a, b = as_floats("x", x), as_floats("y", y)
    others = np.empty((len(a), 0)) if controls is None else as_floats("controls", controls)
    if a.ndim != 1 or a.shape != b.shape or others.ndim != 2 or len(others) != len(a):
        raise InputError(
            f"x has shape {a.shape}, y {b.shape} and controls {others.shape}: pass n values of x "
            "and of y, and controls of shape (n, k)"
        )
    present = ~(np.isnan(a) | np.isnan(b) | np.isnan(others).any(axis=1))
    return a[present], b[present], others[present]
