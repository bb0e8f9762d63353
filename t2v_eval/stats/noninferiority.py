"""Non-inferiority: is a new version worse than its baseline by no more than a margin?

The null hypothesis is "the new version is worse by the margin or more". It is rejected, so that the
new version passes, where p is below alpha; then the lower limit of the one-sided interval of
1 - alpha lies above -margin (Wellek 2010, chapter 2). A sample that is too small to show this does
not pass. With a margin of 0, only a version passes that is shown to be better: versions without any
difference do not, since their difference lies on the limit.

The t test holds its level for symmetric differences. Where a few items lose much and most gain a
little, as with a negative exponential distribution, a version passes that is worse by the margin in
8 % of samples of 60 items and 7 % of 200, at alpha 0.05.

Where all of several comparisons must pass, none needs a correction: the probability that a version
passes which is worse in any of them is at most alpha (Berger 1982).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple

import numpy as np
from scipy import special

from t2v_eval.errors import InputError
from t2v_eval.stats.bootstrap import BootstrapSamples, Interval
from t2v_eval.utils.arrays import Values, as_floats

ROUNDING = 1e-9
"""Of the margin or the difference: what is less apart than this is equal but for rounding."""


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """The result of a test.

    Attributes:
        difference: the new value minus the baseline's, with its two-sided 95 % interval.
        bound: the lower limit of the one-sided interval of 1 - alpha.
        p: of "worse by the margin or more".
        margin: how much worse passes, if it is less; with 0, only what is better passes.
        alpha: the probability that a version passes that is worse by the margin.
        units: the number of independent units.

    >>> NonInferiority(Interval(0.1, 0.0, 0.2), 0.02, 0.001, 0.01, alpha=0.05, units=9).passed
    True
    """

    difference: Interval
    bound: float
    p: float
    margin: float
    alpha: float
    units: int

    @property
    def passed(self) -> bool:
        """Return whether "worse by the margin or more" is rejected."""
        return self.p < self.alpha


def paired_non_inferiority(
    differences: Values, margin: float, alpha: float = 0.05, units: Sequence[Hashable] | None = None
) -> NonInferiority:
    """Test the mean of paired differences with Student's t, by items or clusters of items.

    Args:
        differences: shape (n,), new minus baseline of each item.
        margin: how much worse still passes; 0 or more.
        alpha: the level, between 0 and 1.
        units: shape (n,), the cluster of each item; by default each is independent. Residuals are
            summed within clusters (Liang and Zeger 1986, with the factor U / (U - 1)).

    Raises:
        InputError: fewer than two units, a missing difference, or a wrong margin or alpha.

    >>> result = paired_non_inferiority([0.02, -0.01, 0.01, 0.0, 0.01], margin=0.02)
    >>> result.passed, round(result.p, 4), round(result.bound, 4)
    (True, 0.0035, -0.0049)
    """
    check_level(margin, alpha)
    mean, error, count = clustered_mean(differences, units)
    excess = mean + margin
    if error <= ROUNDING * max(abs(mean), margin):  # all items differ by the same
        p = 0.0 if excess > ROUNDING * max(abs(mean), margin) else 1.0
    else:
        p = float(special.stdtr(count - 1, -excess / error))
    half = error * float(special.stdtrit(count - 1, 0.975))
    bound = mean - error * float(special.stdtrit(count - 1, 1 - alpha))
    return NonInferiority(Interval(mean, mean - half, mean + half), bound, p, margin, alpha, count)


class ClusteredMean(NamedTuple):
    """A mean with its standard error, of independent items or clusters of items.

    >>> ClusteredMean(0.02, error=0.01, units=30).units
    30
    """

    mean: float
    error: float
    units: int


def clustered_mean(differences: Values, units: Sequence[Hashable] | None = None) -> ClusteredMean:
    """Return the mean of paired differences with its standard error.

    Args:
        differences: shape (n,), of each item.
        units: shape (n,), the cluster of each item; by default each is independent. Residuals are
            summed within clusters (Liang and Zeger 1986, with the factor U / (U - 1)).

    Raises:
        InputError: fewer than two units, or a missing difference.

    >>> clustered_mean([0.0, 2.0, 0.0, 2.0])
    ClusteredMean(mean=1.0, error=0.5773502691896257, units=4)
    """
    values = as_floats("differences", differences).ravel()
    if np.isnan(values).any():
        raise InputError("differences has missing values: leave these items out")
    number: dict[Hashable, int] = {}
    clusters = [number.setdefault(u, len(number)) for u in units or range(len(values))]
    count = len(number)
    if count < 2:
        raise InputError(
            f"{count} independent item(s): a difference needs two or more to be tested"
        )
    mean = float(values.mean())
    residuals = np.bincount(clusters, weights=values - mean)
    error = math.sqrt(count / (count - 1) * float(residuals @ residuals)) / len(values)
    return ClusteredMean(mean, error, count)


def bootstrap_non_inferiority(
    new: BootstrapSamples,
    baseline: BootstrapSamples,
    metric: str,
    margin: float,
    alpha: float = 0.05,
) -> NonInferiority:
    """Test the difference of a metric on the same resamples of the same items.

    p is the share of resamples whose difference is -margin or less; one is added to both counts, so
    that it is never 0 (Davison and Hinkley 1997, section 4.2).

    Args:
        new: the samples of the new version.
        baseline: samples of the same units with the same seed.
        metric: the name of the metric.
        margin: how much worse still passes; 0 or more.
        alpha: the level, between 0 and 1.

    Raises:
        InputError: the samples are not paired or too few for alpha, the metric is undefined, or a
            wrong margin or alpha.

    >>> right, wrong = np.array([1, 1, 1, 0, 1, 1]), np.array([1, 1, 0, 0, 1, 1])
    >>> samples = [BootstrapSamples.compute(lambda i, x=x: {"accuracy": x[i].mean()}, 6, 200, 0)
    ...            for x in (right, wrong)]
    >>> bootstrap_non_inferiority(*samples, "accuracy", margin=0.01).passed
    True
    """
    check_level(margin, alpha)
    paired = new.difference(baseline)
    interval = paired.intervals()[metric]
    values = np.sort(paired.resampled[metric][~np.isnan(paired.resampled[metric])])
    if math.isnan(interval.value) or 2 * len(values) < paired.resamples:
        raise InputError(f"{metric} is undefined, on all items or on most resamples of them")
    # So many resamples may lie at -margin or below.
    position = math.ceil(alpha * (1 + len(values)) - 1) - 1
    if position < 0:
        raise InputError(
            f"{len(values)} resamples cannot show a p below `alpha={alpha:g}`: evaluate both with "
            f"{math.ceil(1 / alpha)} resamples or more"
        )
    limit = -margin + ROUNDING * max(margin, abs(interval.value))
    below = int((values <= limit).sum())
    p = (1 + below) / (1 + len(values))
    return NonInferiority(interval, float(values[position]), p, margin, alpha, paired.n)


def check_level(margin: float, alpha: float) -> None:
    """Check a margin and a level.

    Raises:
        InputError: the margin is below 0, or alpha is not between 0 and 1.

    >>> check_level(margin=0.01, alpha=0.05)
    """
    if not isinstance(margin, Real) or not 0 <= margin < math.inf:
        raise InputError(
            f"`margin={margin!r}`: pass how much worse still passes, 0 or more, as 0.01"
        )
    if not isinstance(alpha, Real) or not 0 < alpha < 1:
        raise InputError(f"`alpha={alpha!r}`: pass a number between 0 and 1, as 0.05")
