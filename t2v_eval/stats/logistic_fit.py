"""Correlation after a logistic fit, as papers on the quality of images and videos report it.

Scores and ratings may be related by a curve. Before Pearson's correlation (PLCC) and the root mean
square error (RMSE) are computed, a monotone curve from scores to ratings is fitted by least squares
on the same data. Two curves are in use, and give different figures:

| parameters | f(x) | source |
|---|---|---|
| 4 | b2 + (b1 - b2) / (1 + exp(-(x - b3) / abs(b4))) | VQEG 2000, final report of phase I |
| 5 | b1 (1/2 - 1 / (1 + exp(b2 (x - b3)))) + b4 x + b5 | Sheikh, Sabir and Bovik 2006, eq. 1 |

Both are fitted by `scipy.optimize.curve_fit` to standardised scores and ratings, from rising and
falling curves; the best fit counts.
"""

from __future__ import annotations

import math
import warnings
from typing import Literal, TypeAlias

import numpy as np

from t2v_eval.errors import InputError
from t2v_eval.stats.metrics import pearson
from t2v_eval.stats.paired import standardize
from t2v_eval.utils.arrays import FloatArray, Values, as_rows

Parameters: TypeAlias = Literal[4, 5]

_MAX_CALLS = 2_000
_FITTED = 1e-12  # a share of the variance of the ratings


def fit_logistic(scores: Values, human: Values, parameters: Parameters = 4) -> FloatArray:
    """Fit a logistic curve to ratings and return its values at the scores.

    Args:
        scores: shape (items,); None and NaN are missing.
        human: ratings, in the same shape.
        parameters: 4 or 5; see the table above.

    Returns:
        The fitted ratings, shape (items,), on the scale of the ratings; NaN where an item lacks
        either, and everywhere where the fit is undefined: fewer items than parameters and one
        more, a constant side, or no convergence.

    Raises:
        InputError: another number of parameters, or as `metrics.pearson`.

    >>> x = np.linspace(-1, 1, 9)
    >>> fitted = fit_logistic(x, 1 / (1 + np.exp(-5 * x)))
    >>> bool(np.allclose(fitted, 1 / (1 + np.exp(-5 * x)), atol=1e-6))
    True
    """
    if parameters not in (4, 5):
        raise InputError(f"`parameters={parameters!r}`: a logistic curve has 4 or 5")
    s, h = (side.ravel() for side in as_rows(scores, human))
    present = ~np.isnan(s)
    x, y = s[present], h[present]
    fitted = np.full(len(s), np.nan)
    if len(x) <= parameters or math.isnan(pearson(x, y)):
        return fitted
    best = _best_fit(standardize(x), standardize(y), parameters)
    if best is not None:
        fitted[present] = y.mean() + y.std() * best
    return fitted


def plcc_after_fit(scores: Values, human: Values, parameters: Parameters = 4) -> float:
    """Compute Pearson's correlation of the ratings with the fitted curve (PLCC), from -1 to 1.

    Args:
        scores: as in `fit_logistic`.
        human: ratings, in the same shape.
        parameters: 4 or 5.

    Returns:
        The correlation; NaN where the fit is undefined.

    Raises:
        InputError: as `fit_logistic`.

    >>> round(plcc_after_fit([0.1, 0.2, 0.4, 0.5, 0.8, 0.9], [1, 1, 2, 4, 5, 5]), 2)
    1.0
    """
    return pearson(fit_logistic(scores, human, parameters), np.ravel(np.asarray(human, np.float64)))


def rmse_after_fit(scores: Values, human: Values, parameters: Parameters = 4) -> float:
    """Compute the root mean square error of the fitted curve, on the scale of the ratings.

    Args:
        scores: as in `fit_logistic`.
        human: ratings, in the same shape.
        parameters: 4 or 5.

    Returns:
        sqrt(mean((f(x) - h)^2)), 0 or more, lower is better; NaN where the fit is undefined.

    Raises:
        InputError: as `fit_logistic`.

    >>> rmse_after_fit([0.1, 0.2, 0.4, 0.5, 0.8, 0.9], [1, 1, 2, 4, 5, 5]) < 0.1
    True
    """
    error = fit_logistic(scores, human, parameters) - np.ravel(np.asarray(human, np.float64))
    error = error[~np.isnan(error)]
    return float(np.sqrt(np.mean(error**2))) if len(error) else math.nan


def _best_fit(x: FloatArray, y: FloatArray, parameters: Parameters) -> FloatArray | None:
    """Return the values of the curve with the smallest squared error; None if no fit converges."""
    from scipy.optimize import curve_fit

    curve, starts = (_four, _STARTS_OF_FOUR) if parameters == 4 else (_five, _STARTS_OF_FIVE)
    best, smallest_error = None, math.inf
    for start in starts:
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                coefficients, _ = curve_fit(
                    curve, x, y, start, maxfev=_MAX_CALLS, ftol=1e-12, xtol=1e-12
                )
                values = curve(x, *coefficients)
        except (RuntimeError, TypeError, ValueError):
            continue
        error = float(((values - y) ** 2).sum())
        if error < smallest_error:
            best, smallest_error = values, error
        if smallest_error < _FITTED * len(y):
            break
    return best


_STARTS_OF_FOUR = ((2.0, -2.0, 0.0, 1.0), (-2.0, 2.0, 0.0, 1.0))
_STARTS_OF_FIVE = tuple(
    (height, slope, 0.0, line, 0.0)
    for slope in (1.0, 6.0)
    for height, line in ((2.0, 0.0), (-2.0, 0.0), (0.5, 0.5), (-0.5, -0.5))
)


def _four(x: FloatArray, b1: float, b2: float, b3: float, b4: float) -> FloatArray:
    from scipy.special import expit

    values: FloatArray = b2 + (b1 - b2) * expit((x - b3) / abs(b4))
    return values


def _five(x: FloatArray, b1: float, b2: float, b3: float, b4: float, b5: float) -> FloatArray:
    from scipy.special import expit

    # 1 - 1 / (1 + exp(t)) is expit(t), which does not overflow.
    values: FloatArray = b1 * (expit(b2 * (x - b3)) - 0.5) + b4 * x + b5
    return values
