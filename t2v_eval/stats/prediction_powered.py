"""What people would say of all items, from ratings of some of them and scores of all.

Prediction-powered inference (Angelopoulos et al. 2023, Science 382) estimates a mean rating from
few ratings Y and many scores F: the mean of Y over the rated items, less lambda times the
difference of the mean of F over the rated items and over the others. Scores may be biased and on
any scale: the rated items correct them. With lambda chosen so that the variance is smallest (PPI++,
Angelopoulos, Duchi and Zrnic 2023, arXiv 2311.01453) the estimate is never less precise than that
of the ratings alone but for the estimation of lambda, and useless scores get a lambda near 0.

The rated items must be a random part of all. Two generators are compared by the differences of
items, so that what both share cancels; lambda is the same for both. Here lambda minimises the
estimated variance itself, which is that of the reference `ppi_py` up to the order of 1 / n, and is
not restricted to 0 to 1, as scores are not on the scale of ratings. Variances of the rated items
are divided by n - 2 and limits are those of Student's t with n - 2 degrees of freedom, without
which intervals of 30 ratings are too short (`tests/performance/simulate_prediction_powered.py`).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from t2v_eval.errors import InputError
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.utils.arrays import FloatArray, Values, as_floats

MIN_RATED = 6
"""Rated items below which there is no interval: even if all agree, a sign test has p >= 0.0625."""


@dataclass(frozen=True, slots=True)
class PredictionPowered:
    """A mean rating, or the difference of two, estimated from ratings and scores.

    Attributes:
        interval: the estimate with its two-sided 95 % interval, in units of the ratings; without
            limits for fewer than `MIN_RATED` rated items, or where nothing varies.
        error: the standard error of the estimate; NaN where the interval has no limits.
        p: the two-sided p-value of the estimate being 0; NaN where the interval has no limits.
        ratings_alone: the same from the ratings without the scores.
        weight: lambda, in units of ratings for each unit of scores; 0 does not use the scores.
        rated: the number of independent items with ratings.
        scored: the number of independent items with scores, the rated among them.

    >>> powered, alone = Interval(1.0, 0.5, 1.5), Interval(1.0, 0.0, 2.0)
    >>> PredictionPowered(powered, 0.25, 0.01, alone, weight=0.5, rated=30, scored=99).worth
    120
    """

    interval: Interval
    error: float
    p: float
    ratings_alone: Interval
    weight: float
    rated: int
    scored: int

    @property
    def worth(self) -> int | None:
        """Return how many ratings alone give an interval as short; None without an interval."""
        widths = [i.high - i.low for i in (self.interval, self.ratings_alone)]
        if not all(math.isfinite(width) and width > 0 for width in widths):
            return None
        return round(self.rated * (widths[1] / widths[0]) ** 2)


def prediction_powered_mean(
    ratings: Values,
    scores: Values,
    *,
    groups: Sequence[Hashable] | None = None,
    weight: float | None = None,
) -> PredictionPowered:
    """Estimate the mean rating of all items.

    Args:
        ratings: shape (n,), of the items; NaN is unrated. The rated are a random part.
        scores: shape (n,), of the same items on any scale; NaN is missing, and leaves an item out.
        groups: shape (n,), the group of each item; by default each is independent.
        weight: lambda; by default the one with the smallest variance.

    Raises:
        InputError: shapes differ, a value is infinite, or no item has both a rating and a score.

    >>> ratings = [4, 2, 5, 3, 4, 1, 5, 2] + [None] * 8
    >>> scores = [0.8, 0.4, 1.0, 0.5, 0.7, 0.3, 0.9, 0.4] + [0.2, 0.3, 0.4, 0.5] * 2
    >>> estimate = prediction_powered_mean(ratings, scores)
    >>> round(estimate.ratings_alone.value, 2), round(estimate.interval.value, 2)
    (3.25, 1.98)
    """
    columns = as_floats("ratings", ratings), as_floats("scores", scores)
    if columns[0].ndim != 1:
        raise InputError(f"ratings has shape {columns[0].shape}: pass one rating for each item")
    return _estimate(columns[0][:, None], columns[1][:, None], (1.0,), groups, weight)


def prediction_powered_difference(
    ratings: Values,
    scores: Values,
    *,
    groups: Sequence[Hashable] | None = None,
    weight: float | None = None,
) -> PredictionPowered:
    """Estimate by how much people would rate the first of two generators higher than the second.

    Args:
        ratings: shape (n, 2), a row for each prompt and a column for each generator; NaN is
            unrated. Of a prompt both may be rated, or one.
        scores: shape (n, 2), of the same; NaN is missing, and leaves a cell out.
        groups: shape (n,), the group of each prompt; by default each is independent.
        weight: lambda; by default the one with the smallest variance.

    Raises:
        InputError: shapes differ, a value is infinite, or a generator has no cell with both a
            rating and a score.

    >>> ratings = [[4, 3], [2, 2], [5, 3], [3, 3], [4, 2], [1, 1]] + [[None, None]] * 2
    >>> scores = [[0.8, 0.6], [0.4, 0.4], [1, 0.5], [0.5, 0.6], [0.7, 0.4], [0.3, 0.2]]
    >>> estimate = prediction_powered_difference(ratings, scores + [[0.5, 0.4], [0.6, 0.6]])
    >>> estimate.rated, estimate.scored, round(estimate.interval.value, 2)
    (6, 8, 0.43)
    """
    pair = as_floats("ratings", ratings), as_floats("scores", scores)
    if pair[0].ndim != 2 or pair[0].shape[1] != 2:
        raise InputError(f"ratings has shape {pair[0].shape}: pass two columns, one a generator")
    return _estimate(*pair, (1.0, -1.0), groups, weight)


class _Parts(NamedTuple):
    """The estimate is `rated_mean` - lambda x `shift`; each item's part in the error of both.

    Errors of the items have the mean 0, and their squares sum up to the variance. Those of the
    rated and of the other items are apart, as their degrees of freedom differ.
    """

    rated_mean: float
    shift: float
    of_ratings: FloatArray  # shape (n,)
    of_rated_scores: FloatArray
    of_other_scores: FloatArray
    groups: NDArray[np.int64]  # shape (n,)
    rated: int
    scored: int


def _estimate(
    ratings: FloatArray,
    scores: FloatArray,
    signs: tuple[float, ...],
    groups: Sequence[Hashable] | None,
    weight: float | None,
) -> PredictionPowered:
    """Estimate the sum of the columns' means with these signs."""
    if ratings.shape != scores.shape:
        raise InputError(
            f"ratings has shape {ratings.shape} but scores has shape {scores.shape}: pass a score "
            "for each rating, with NaN for an item that people did not rate"
        )
    if groups is not None and len(groups) != len(ratings):
        raise InputError(f"{len(groups)} groups for {len(ratings)} items: pass one for each item")
    parts = _parts(ratings, scores, signs, groups)
    alone = _interval(parts, 0.0, tuned=False)
    if weight is not None:
        powered = _interval(parts, weight, tuned=False)
    else:
        weight = _tuned_weight(parts)
        powered = _interval(parts, weight, tuned=True) if weight else alone
    return PredictionPowered(*powered, alone[0], float(weight), parts.rated, parts.scored)


def _parts(
    ratings: FloatArray,
    scores: FloatArray,
    signs: tuple[float, ...],
    groups: Sequence[Hashable] | None,
) -> _Parts:
    n = len(ratings)
    scored, rated = ~np.isnan(scores), ~np.isnan(scores) & ~np.isnan(ratings)
    if not rated.any(axis=0).all():
        raise InputError("no item has both a rating and a score: pass ratings of scored images")
    rated_mean = shift = 0.0
    errors = np.zeros((3, n))
    # Where no other item is scored, scores say nothing beyond the ratings.
    has_others = bool((scored & ~rated).any(axis=0).all())
    for k, sign in enumerate(signs):
        mine, others = rated[:, k], scored[:, k] & ~rated[:, k]
        # Less the first, equal scores are exactly 0, and their weight too.
        centred = scores[:, k] - scores[np.argmax(mine), k]
        y, f, g = ratings[mine, k], centred[mine], centred[others]
        rated_mean += sign * float(y.mean())
        errors[0, mine] += sign * (y - y.mean()) / len(y)
        if has_others:
            shift += sign * float(f.mean() - g.mean())
            errors[1, mine] += sign * (f - f.mean()) / len(f)
            errors[2, others] -= sign * (g - g.mean()) / len(g)
    number: dict[Hashable, int] = {}
    members = np.array([number.setdefault(g, len(number)) for g in groups or range(n)], np.int64)
    num_rated, num_known = (len(np.unique(members[m.any(axis=1)])) for m in (rated, scored))
    of_ratings, of_rated, of_others = errors
    return _Parts(rated_mean, shift, of_ratings, of_rated, of_others, members, num_rated, num_known)


def _tuned_weight(parts: _Parts) -> float:
    """Return the lambda with the smallest estimated variance."""
    ratings = _by_group(parts, parts.of_ratings)
    scores = _by_group(parts, parts.of_rated_scores + parts.of_other_scores)
    variance = float(scores @ scores)
    return float(ratings @ scores) / variance if variance > 0 else 0.0


def _interval(parts: _Parts, weight: float, tuned: bool) -> tuple[Interval, float, float]:
    """Return the estimate with its 95 % interval, its standard error, and p of its being 0."""
    value = parts.rated_mean - weight * parts.shift
    freedom = parts.rated - (2 if tuned else 1)
    others = parts.scored - parts.rated
    of_rated = parts.of_ratings - weight * parts.of_rated_scores
    of_others = -weight * parts.of_other_scores
    errors = math.sqrt(parts.rated / max(freedom, 1)) * of_rated
    errors = errors + math.sqrt(others / max(others - 1, 1)) * of_others
    error = math.sqrt(float(np.sum(_by_group(parts, errors) ** 2)))
    if parts.rated < MIN_RATED or error <= 1e-12 * abs(value):
        return Interval(value, math.nan, math.nan), math.nan, math.nan
    half = error * float(special.stdtrit(freedom, 0.975))
    p = 2 * float(special.stdtr(freedom, -abs(value) / error))
    return Interval(value, value - half, value + half), error, p


def _by_group(parts: _Parts, errors: FloatArray) -> FloatArray:
    return np.bincount(parts.groups, weights=errors).astype(np.float64)
