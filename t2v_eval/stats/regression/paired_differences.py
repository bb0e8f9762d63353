"""How much of a mean paired difference goes with differences of covariates.

Two generators draw the same prompts. Of each prompt, d is the difference of the scores and x_j the
difference of covariate j, such as saturation. With d = a + sum_j b_j x_j + e by least squares, the
mean of d is a + sum_j b_j mean(x_j): a is the difference at equal covariates, and b_j mean(x_j) is
what covariate j accounts for (analysis of covariance on differences; Cohen, Cohen, West and Aiken
2003, chapter 8; the same decomposition as Oaxaca 1973).

A covariate accounts for a difference only if the generators differ in it *and* scores follow it.
Both are tested, and the larger of the two p-values counts (the joint significance test of MacKinnon
et al. 2002, A comparison of methods to test mediation), so that two equal generators are seldom
suspected. Regression sees what goes together, not what causes what.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from t2v_eval.errors import InputError
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.utils.arrays import FloatArray, Values, as_floats

MIN_ROWS = 10
"""Complete rows for each coefficient, below which a regression is refused (Harrell 2015, 4.4)."""
_TOLERANCE = 1e-8  # of the smallest singular value, relative to the largest
_BYTES_AT_ONCE = 1 << 26  # of the counts of resamples


@dataclass(frozen=True, slots=True)
class CovariateEffect:
    """A covariate in the regression of paired differences.

    Attributes:
        name: of the covariate.
        difference: the mean paired difference in standard deviations of that difference, with its
            interval.
        slope: change of the score difference, in its standard deviations, for a change of one
            standard deviation of the covariate's difference.
        accounts_for: what the covariate accounts for of the mean difference, in its unit.
        p: of the joint test that the covariate differs and that scores follow it, 0 to 1, without
            correction for several covariates.

    >>> same = Interval(0.0, -1.0, 1.0)
    >>> CovariateEffect("sharpness", same, same, same, p=0.8).name
    'sharpness'
    """

    name: str
    difference: Interval
    slope: Interval
    accounts_for: Interval
    p: float


@dataclass(frozen=True, slots=True)
class AdjustedDifference:
    """A mean paired difference before and after adjustment for covariates.

    Attributes:
        n: complete rows.
        mean: the mean difference.
        adjusted: the difference at equal covariates, the constant of the regression.
        effects: of each covariate.

    >>> rng = np.random.default_rng(0)
    >>> brighter = 1 + rng.normal(size=200)
    >>> adjust_difference(0.5 * brighter, brighter[:, None], ["brightness"]).effects[0].name
    'brightness'
    """

    n: int
    mean: Interval
    adjusted: Interval
    effects: Sequence[CovariateEffect]


def adjust_difference(
    differences: Values,
    covariates: Values,
    names: Sequence[str],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> AdjustedDifference:
    """Adjust a mean paired difference for differences of covariates.

    Intervals have the bootstrap's standard deviation over rows and quantiles of Student's t.

    Args:
        differences: shape (n,), of the scores of each prompt; NaN is missing.
        covariates: shape (n, k), the same of each covariate. Rows with a missing value are left
            out.
        names: of the k covariates.
        resamples: of the bootstrap.
        confidence: the coverage of intervals, between 0 and 1.
        seed: of the bootstrap.

    Raises:
        InputError: the shapes do not fit together; fewer than `MIN_ROWS` complete rows for each
            coefficient; a covariate is constant or is a linear function of the others.

    >>> rng = np.random.default_rng(0)
    >>> brighter, sharper = 1 + rng.normal(size=200), rng.normal(size=200)
    >>> score = 0.5 * brighter + 0.1 * rng.normal(size=200)
    >>> result = adjust_difference(
    ...     score, np.column_stack([brighter, sharper]), ["brightness", "sharpness"]
    ... )
    >>> [effect.name for effect in result.effects if effect.p < 0.01]
    ['brightness']
    """
    d, x = _complete(differences, covariates, names)
    n, k = x.shape
    whole, mean = (rows[0] for rows in _fit(d, x, np.ones((1, n))))
    fits, means = _resampled_fits(d, x, resamples, seed)
    fit_sd = fits.std(axis=0, ddof=1)
    part_sd = (fits * means)[:, 1:].std(axis=0, ddof=1)
    sd = np.column_stack([d, x]).std(axis=0, ddof=1)
    mean_sd = sd / math.sqrt(n)
    t = float(special.stdtrit(n - k - 1, 0.5 + confidence / 2))
    effects = []
    for j, name in enumerate(names, 1):
        p_differs = _p_value(mean[j], mean_sd[j], n - 1)
        p_follows = _p_value(whole[j], fit_sd[j], n - k - 1)
        effect = CovariateEffect(
            name,
            difference=_around(mean[j] / sd[j], t * mean_sd[j] / sd[j]),
            slope=_around(whole[j] * sd[j] / sd[0], t * fit_sd[j] * sd[j] / sd[0]),
            accounts_for=_around(whole[j] * mean[j], t * part_sd[j - 1]),
            p=max(p_differs, p_follows),
        )
        effects.append(effect)
    unadjusted = _around(mean[0], t * mean_sd[0])
    return AdjustedDifference(n, unadjusted, _around(whole[0], t * fit_sd[0]), effects)


def _complete(
    differences: Values, covariates: Values, names: Sequence[str]
) -> tuple[FloatArray, FloatArray]:
    """Return the complete rows, and check that a regression of them is defined."""
    d, x = as_floats("differences", differences), as_floats("covariates", covariates)
    if d.ndim != 1 or x.shape != (len(d), len(names)) or not names:
        raise InputError(
            f"differences has shape {d.shape} and covariates {x.shape}: pass n differences, and a "
            f"column of n for each of the names {list(names)}"
        )
    present = ~(np.isnan(d) | np.isnan(x).any(axis=1))
    d, x = d[present], x[present]
    needed = MIN_ROWS * (1 + len(names))
    if len(d) < needed:
        raise InputError(
            f"{len(d)} rows have all differences, and a regression on {len(names)} covariates "
            f"needs {needed} or more"
        )
    constant = [name for name, flat in zip(names, np.ptp(x, axis=0) == 0, strict=True) if flat]
    if constant or np.ptp(d) == 0:
        what = "the score" if not constant else constant[0]
        raise InputError(f"the difference of {what} is the same in every row: leave it out")
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    singular = np.linalg.svd(scaled, compute_uv=False)
    if singular[-1] < _TOLERANCE * singular[0]:
        raise InputError(
            f"one of the covariates {', '.join(names)} follows from the others: leave it out"
        )
    return d, x


def _fit(d: FloatArray, x: FloatArray, copies: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fit the regression to resamples given as counts of rows.

    Args:
        d: shape (n,).
        x: shape (n, k).
        copies: shape (b, n), how often each resample has each row.

    Returns:
        Coefficients (b, 1 + k), the constant first, and means (b, 1 + k) of d and x.
    """
    scale = x.std(axis=0)
    design = np.column_stack([np.ones(len(d)), (x - x.mean(axis=0)) / scale])
    products = np.einsum("bn,ni,nj->bij", copies, design, design, optimize=True)
    right = copies @ (design * d[:, None])
    # A resample of few rows may be singular: its least-squares solution is the shortest.
    standard = np.einsum("bij,bj->bi", np.linalg.pinv(products, hermitian=True), right)
    slopes = standard[:, 1:] / scale
    constant = standard[:, 0] - slopes @ x.mean(axis=0)
    means = copies @ np.column_stack([d, x]) / copies.sum(axis=1, keepdims=True)
    return np.column_stack([constant, slopes]), means


def _resampled_fits(
    d: FloatArray, x: FloatArray, resamples: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Return coefficients and means of resamples of rows, each of shape (resamples, 1 + k)."""
    rng = np.random.default_rng(seed)
    n = len(d)
    at_once = max(1, _BYTES_AT_ONCE // (8 * n))
    fits, means = [], []
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        copies = rng.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
        fit, mean = _fit(d, x, copies)
        fits.append(fit)
        means.append(mean)
    return np.concatenate(fits), np.concatenate(means)


def _around(value: float, half: float) -> Interval:
    return Interval(float(value), float(value - half), float(value + half))


def _p_value(value: float, deviation: float, freedom: int) -> float:
    """Return the two-sided p of a value being 0, by Student's t."""
    if not deviation:
        return float(value == 0)
    return float(2 * special.stdtr(freedom, -abs(value) / deviation))
