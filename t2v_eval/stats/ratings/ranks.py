"""Ranks of models, with intervals from resampled ratings."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from t2v_eval.stats.bootstrap import Interval
from t2v_eval.utils.arrays import FloatArray


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
    unknown = len(defined) < 2 or 2 * len(defined) < len(resampled) or np.isnan(ratings).any()
    single = float(ndtri((1 + confidence) / 2))  # the least that a test of several can need
    intervals = []
    for k, rating in enumerate(ratings):
        rank = 1.0 + float((ratings > rating).sum())
        if unknown:
            value = float("nan") if np.isnan(rating) else rank
            intervals.append(Interval(value, float("nan"), float("nan")))
            continue
        gap = rating - ratings
        deviation = defined[:, k, None] - defined - gap
        error = deviation.std(0, ddof=1)
        error[error < 1e-9 * (1 + np.abs(gap))] = 0.0  # rounding alone
        error = error if least is None else np.maximum(error, least[k])
        ratio = np.divide(np.abs(deviation), error, out=np.zeros_like(deviation), where=error > 0)
        critical = max(float(np.quantile(ratio.max(1), confidence)), single)
        bound = np.where(error > 0, critical * error, np.inf)
        better, worse = int((gap < -bound).sum()), int((gap > bound).sum())
        intervals.append(Interval(rank, 1.0 + better, float(len(ratings) - worse)))
    return intervals
