"""Confidence limits of a metric from its value and its bootstrap resamples.

| value | interval |
|---|---|
| share of single items | Wilson (1927), without resamples |
| share of items in clusters | expanded percentile; at 0 and 1 Clopper and Pearson (1934) |
| Pearson's r, Spearman's rho | normal on Fisher's z, with the spread of the resamples |
| tau-b, tau-c, pair accuracy of single items | percentile (Efron and Tibshirani 1993, 13.3) |
| others, and all differences | expanded percentile (Hesterberg 2015, 3.3) |

A percentile interval of n units is as narrow as a normal one whose variance is divided by n instead
of n - 1. Expanded, its levels are those of Student's t with n - 1 degrees of freedom. Statistics of
pairs of single items need none of that: squared noise of the pairs widens their resamples by more.

`tests/performance/simulate_inference.py` measures coverage, which docs/statistics.md lists.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np

from t2v_eval.utils.arrays import FloatArray

Kind: TypeAlias = Literal["percentile", "pairs", "correlation", "share"]

_ONE_DEVIATION = 0.15865525393145707  # the normal probability below -1
_PERFECT = 1 - 1e-12  # a correlation of 1 up to its rounding


class Estimate(float):
    """A value of a metric with what its interval depends on; a float in every other respect.

    Args:
        value: the value.
        kind: "share" for a share of trials, or a mean of such shares; "correlation" for Pearson's
            r of scores or ranks; "pairs" for a statistic of pairs of single items; else
            "percentile".
        trials: the number of trials of a share, if each is 0 or 1 and a unit of its own; 0 where
            units are clusters of trials.

    >>> accuracy = Estimate(0.75, "share", trials=8)
    >>> accuracy + 0.25, accuracy.trials
    (1.0, 8)
    """

    kind: Kind
    trials: int

    def __new__(cls, value: float, kind: Kind, trials: int = 0) -> Estimate:
        """Make a float with two attributes."""
        estimate = super().__new__(cls, value)
        estimate.kind, estimate.trials = kind, trials
        return estimate

    def __getnewargs__(self) -> tuple[float, Kind, int]:  # type: ignore[override]
        """Return the arguments that a copy or a pickle is made with."""
        return float(self), self.kind, self.trials


def of_clusters(values: Mapping[str, float]) -> dict[str, float]:
    """Return values whose units are clusters of what was a unit of its own.

    >>> of_clusters({"accuracy": Estimate(0.75, "share", trials=8)})["accuracy"].trials
    0
    """
    return {
        name: Estimate(value, "percentile" if value.kind == "pairs" else value.kind)
        if isinstance(value, Estimate)
        else value
        for name, value in values.items()
    }


def share_of(correct: FloatArray) -> Estimate:
    """Return the share of items that are correct, each the only one of its unit.

    Args:
        correct: shape (items,), from 0 to 1; NaN is missing.

    Returns:
        The mean; NaN without items. Where items count half it has no trials, since Wilson's
        interval supposes 0 and 1.

    >>> share_of(np.array([1.0, 0.0, np.nan, 1.0])).trials
    3
    """
    present = correct[~np.isnan(correct)]
    if not len(present):
        return Estimate(math.nan, "share")
    whole = bool(np.isin(present, (0.0, 1.0)).all())
    return Estimate(float(present.mean()), "share", len(present) if whole else 0)


def limits(
    value: float,
    resampled: FloatArray,
    n: int,
    confidence: float = 0.95,
    *,
    kind: Kind = "percentile",
    trials: int = 0,
) -> tuple[float, float]:
    """Return the limits of the interval of a value; they always enclose the value.

    Args:
        value: of the whole sample.
        resampled: shape (resamples,), its values on resamples; NaN where it is undefined.
        n: the number of units, 2 or more.
        confidence: the coverage of the interval, between 0 and 1.
        kind: as in `Estimate`.
        trials: as in `Estimate`.

    Returns:
        The lower and the upper limit; NaN where the value or more than half of the resamples are.

    >>> limits(0.0, np.zeros(100), 30, kind="share", trials=30)
    (0.0, 0.11351339317396876)
    """
    defined = resampled[~np.isnan(resampled)]
    if math.isnan(value) or 2 * len(defined) < len(resampled):
        return math.nan, math.nan
    if kind == "share" and trials:
        low, high = wilson(value, trials, confidence)
    elif kind == "share" and value in (0, 1):
        low, high = _all_alike(value, n, confidence)
    elif kind == "correlation":
        low, high = _fisher(value, defined, n, confidence)
    else:
        low, high = percentile(defined, n, confidence, expanded=kind != "pairs")
    return min(low, value), max(high, value)


def wilson(share: float, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a share (Wilson 1927), from 0 to 1.

    Args:
        share: from 0 to 1.
        trials: the number of independent trials, 1 or more.
        confidence: the coverage, between 0 and 1.

    >>> low, high = wilson(0.75, 8)
    >>> round(low, 3), round(high, 3)
    (0.409, 0.929)
    """
    from scipy import special

    z = float(special.ndtri(0.5 + confidence / 2))
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    return max(0.0, centre - half), min(1.0, centre + half)


def clopper_pearson(count: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share (Clopper and Pearson 1934), from 0 to 1.

    It contains the true share with at least this probability, whatever that share is, also where
    the outcome never occurred: then the upper limit is 1 - ((1 - confidence) / 2) ** (1 / trials).

    Args:
        count: how many of the trials had the outcome, 0 to `trials`.
        trials: the number of independent trials; without any, nothing is known.
        confidence: the coverage, between 0 and 1.

    >>> low, high = clopper_pearson(0, 50)
    >>> low, round(high, 3)
    (0.0, 0.071)
    """
    from scipy import special

    beyond = (1 - confidence) / 2
    low = float(special.betaincinv(count, trials - count + 1, beyond)) if count else 0.0
    high = (
        float(special.betaincinv(count + 1, trials - count, 1 - beyond)) if count < trials else 1.0
    )
    return low, high


def percentile(
    resampled: FloatArray, n: int, confidence: float = 0.95, *, expanded: bool = True
) -> tuple[float, float]:
    """Return the quantiles of resampled values that are the limits of a percentile interval.

    Args:
        resampled: shape (resamples,), without NaN.
        n: the number of units, 2 or more.
        confidence: the coverage, between 0 and 1.
        expanded: whether levels are widened for n (Hesterberg 2015, section 3.3): to the normal
            probability of sqrt(n / (n - 1)) times the quantile of Student's t.

    >>> values = np.linspace(0, 1, 1001)
    >>> [round(limit, 3) for limit in percentile(values, 10, expanded=False)]
    [0.025, 0.975]
    >>> [round(limit, 3) for limit in percentile(values, 10)]
    [0.009, 0.991]
    """
    tail = (1 - confidence) / 2
    if expanded:
        from scipy import special

        tail = float(special.ndtr(-_t_quantile(n, confidence)))
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def _fisher(value: float, resampled: FloatArray, n: int, confidence: float) -> tuple[float, float]:
    """Return a normal interval on Fisher's z = atanh(r); a percentile one at -1 and 1.

    The standard deviation of z is half the distance of two quantiles, since resamples near -1 and 1
    have z without bounds.
    """
    below, above = np.quantile(resampled, [_ONE_DEVIATION, 1 - _ONE_DEVIATION])
    if max(abs(value), abs(below), abs(above)) >= _PERFECT:
        return percentile(resampled, n, confidence)
    half = _t_quantile(n, confidence) * (math.atanh(above) - math.atanh(below)) / 2
    z = math.atanh(value)
    return math.tanh(z - half), math.tanh(z + half)


def _t_quantile(n: int, confidence: float) -> float:
    """Return the quantile of Student's t for n units, times sqrt(n / (n - 1))."""
    from scipy import special

    return math.sqrt(n / (n - 1)) * float(special.stdtrit(n - 1, 0.5 + confidence / 2))


def _all_alike(value: float, n: int, confidence: float) -> tuple[float, float]:
    """Return Clopper and Pearson's interval of n clusters that all are 0 or all are 1."""
    reach = 1 - ((1 - confidence) / 2) ** (1 / n)
    return (0.0, reach) if value == 0 else (1 - reach, 1.0)
