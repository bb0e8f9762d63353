"""Ranks of models, with intervals from resampled ratings."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri

from t2v_eval.stats.bootstrap import Interval
from t2v_eval.utils.arrays import FloatArray

_ROUNDING = 1e-9  # relative: ratings of equal models differ by the rounding of their computation


def rank_intervals(
    ratings: FloatArray,
    resampled: FloatArray,
    confidence: float = 0.95,
    least: FloatArray | None = None,
) -> list[Interval]:
    """Rank models, 1 for the highest rating, with the ranks that the data do not rule out.

    A model's best rank is one more than the number of models that are significantly better than
    it, its worst rank the number of models less those that are significantly worse. Differences
    of a model from all others are tested together: by the largest studentised difference in
    resamples (Mogstad, Romano, Shaikh and Wilhelm 2024, "Inference for ranks", section 3). A
    difference that never varies in resamples is not significant, as they say nothing about it.

    Ratings that differ by rounding alone share a rank.

    Args:
        ratings: shape (K,).
        resampled: of each resample, shape (B, K); NaN where a resample has none.
        confidence: the probability that the interval of a model holds its rank.
        least: the least standard errors of differences, shape (K, K); by default 0.

    Returns:
        Of each model its rank, and the best and worst; NaN where fewer than half of the resamples
        have ratings.

    >>> noise = np.random.default_rng(0).normal(size=(500, 3))
    >>> for rank in rank_intervals(np.array([9.0, 0.1, 0.0]), np.array([9.0, 0.1, 0]) + noise):
    ...     print(*map(int, rank))
    1 1 1
    2 2 3
    3 2 3
    """
    defined = resampled[~np.isnan(resampled).any(1)]
    floors = np.zeros((len(ratings),) * 2) if least is None else least
    higher = ratings - ratings[:, None] > _ROUNDING * (1 + np.abs(ratings))
    ranks = np.where(np.isnan(ratings), np.nan, 1.0 + higher.sum(1))
    if len(defined) < 2 or 2 * len(defined) < len(resampled) or np.isnan(ratings).any():
        return [Interval(float(rank), math.nan, math.nan) for rank in ranks]
    intervals = []
    for k, rank in enumerate(ranks.tolist()):
        gap = ratings[k] - ratings
        bound = _significant(gap, defined[:, k, None] - defined, floors[k], confidence)
        better, worse = int((gap < -bound).sum()), int((gap > bound).sum())
        intervals.append(Interval(rank, 1.0 + better, float(len(ratings) - worse)))
    return intervals


def _significant(
    gap: FloatArray, resampled: FloatArray, floor: FloatArray, confidence: float
) -> FloatArray:
    """Return how large differences of a model from all others must be, shape (K,).

    Args:
        gap: the differences, shape (K,).
        resampled: those of each resample, shape (B, K).
        floor: their least standard errors, shape (K,).
        confidence: the probability that none is significant where all are 0.
    """
    deviation = resampled - gap
    error = deviation.std(0, ddof=1)
    error[error < _ROUNDING * (1 + np.abs(gap))] = 0.0
    error = np.maximum(error, floor)
    ratio = np.divide(np.abs(deviation), error, out=np.zeros_like(deviation), where=error > 0)
    # A test of several differences needs no less than a test of one.
    critical = max(float(np.quantile(ratio.max(1), confidence)), float(ndtri((1 + confidence) / 2)))
    return np.where(error > 0, critical * error, np.inf)
