"""Fit Bradley-Terry ratings to battles, with intervals and ranks, or say why there are none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from t2v_eval.errors import InputError
from t2v_eval.evaluation.ratings.results import PRIORS, RatingOptions, Ties
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.ratings.battles import Battles, IntArray, components, groups_that_met
from t2v_eval.stats.ratings.bradley_terry import (
    bradley_terry,
    davidson,
    has_davidson_fit,
    inverse_information,
    sandwich_covariance,
    standard_errors,
    to_points,
)
from t2v_eval.stats.ratings.ranks import rank_intervals
from t2v_eval.stats.ratings.resampling import resampled_counts
from t2v_eval.utils.arrays import FloatArray


class Fit(NamedTuple):
    """Ratings of K models.

    Attributes:
        ratings: in points, with 95 % intervals.
        ranks: 1 for the best, with 95 % intervals.
        connected: whether maximum likelihood has finite ratings.
        tie_parameter: v of `davidson`; NaN with ties as half wins.
        warnings: what a reader of the ratings should know.

    >>> Fit([], [], True, math.nan, []).connected
    True
    """

    ratings: list[Interval]
    ranks: list[Interval]
    connected: bool
    tie_parameter: float
    warnings: list[str]


def fit_ratings(
    battles: Battles, units: IntArray, options: RatingOptions, anchor: int | None = None
) -> Fit:
    """Fit ratings, and resample them.

    Args:
        battles: the n battles of K models.
        units: the number of the unit of each battle, shape (n,), from 0.
        options: how to fit.
        anchor: the index of the model of ``options.anchor``.

    Raises:
        InputError: no finite ratings exist, and there is no prior.

    >>> battles = Battles.from_rows([("a", "b", "model_a"), ("b", "a", "model_a")])
    >>> [rating.value for rating in fit_ratings(battles, np.arange(2), RatingOptions()).ratings]
    [1000.0, 1000.0]
    """
    wins, ties = battles.wins(tie=0), battles.ties()
    reason = why_not_finite(battles, options.ties)
    if reason and options.prior is None:
        raise InputError(
            f"no finite Bradley-Terry ratings exist: {reason}. Add battles, or pass "
            "`prior='normal'`, which shrinks ratings towards their mean"
        )
    penalty = 0.0 if options.prior is None else PRIORS[options.prior]

    def rate(wins: FloatArray, ties: FloatArray) -> FloatArray:
        if options.ties == "davidson":
            return davidson(wins, ties, penalty)[0]
        return bradley_terry(wins + ties / 2, penalty)

    ratings = rate(wins, ties)
    resampled = np.concatenate(
        [
            rate(*counts)
            for counts in resampled_counts(battles, units, options.resamples, options.seed)
        ]
    )
    minimum_errors = None
    if penalty:  # battles that one model always won have no variance of their own
        minimum_errors = _errors_of_differences(
            inverse_information(battles, ratings, ridge=2 * penalty)
        )
    return Fit(
        _in_points(battles, ratings, resampled, units, options, anchor),
        rank_intervals(ratings, resampled, least=minimum_errors),
        not reason,
        float(davidson(wins, ties, penalty)[1]) if options.ties == "davidson" else math.nan,
        _fit_warnings(reason, resampled, battles, options),
    )


def _in_points(
    battles: Battles,
    ratings: FloatArray,
    resampled: FloatArray,
    units: IntArray,
    options: RatingOptions,
    anchor: int | None,
) -> list[Interval]:
    """Return ratings in points with 95 % intervals; with a prior, no narrower than its own."""
    points = 1000.0 if options.anchor is None else options.anchor[1]
    penalty = 0.0 if options.prior is None else PRIORS[options.prior]
    values = to_points(ratings, anchor, points)
    if options.ties == "davidson":
        low, high = _percentiles(to_points(resampled, anchor, points))
    else:
        errors = _sandwich_errors(battles, ratings, units, penalty, anchor)
        low, high = values - errors, values + errors
    if penalty:
        covariance = inverse_information(battles, ratings, ridge=2 * penalty)
        errors = ndtri(0.975) * standard_errors(covariance, anchor)
        low, high = np.fmin(low, values - errors), np.fmax(high, values + errors)
    return [Interval(*map(float, row)) for row in zip(values, low, high, strict=True)]


def _errors_of_differences(covariance: FloatArray) -> FloatArray:
    """Return the standard errors of differences of ratings, shape (K, K)."""
    variance = np.diag(covariance)
    errors: FloatArray = np.sqrt(np.maximum(np.add.outer(variance, variance) - 2 * covariance, 0))
    return errors


def _fit_warnings(
    reason: str, resampled: FloatArray, battles: Battles, options: RatingOptions
) -> list[str]:
    warnings = []
    if reason:
        warnings.append(f"no finite ratings exist without a prior: {reason}")
    if options.prior is not None:
        warnings.append(
            f"the prior {options.prior!r} shrinks ratings towards their mean; intervals do not "
            "correct for that"
        )
    undefined = int(np.isnan(resampled).any(1).sum())
    if undefined:
        warnings.append(
            f"{undefined} of {len(resampled)} resamples have no finite ratings and are left out of "
            "the intervals of ranks, which may be too narrow"
        )
    if (battles.score == 0.5).all():
        warnings.append("all battles are ties, which say nothing about the precision of ratings")
    return warnings


def why_not_finite(battles: Battles, ties: Ties = "half") -> str:
    """Return why maximum likelihood gives no finite ratings, or "" where it does.

    >>> why_not_finite(Battles.from_rows([("a", "b", "model_a"), ("a", "b", "model_a")]))
    "'a' won every battle against 'b'"
    """
    wins, draws = battles.wins(tie=0), battles.ties()
    graph = wins + draws
    groups = groups_that_met(graph)
    if len(groups) > 1:
        named = sorted(groups, key=len)
        return (
            f"{_names(battles, named[0])} never met "
            f"{_names(battles, [m for group in named[1:] for m in group])}"
        )
    strong = components(graph)
    if len(strong) > 1:
        inside = [m for m in strong if not graph[:, m][_others(m, len(graph))].any()]
        best = min(inside, key=len)
        others = _others(best, len(graph))
        return f"{_names(battles, best)} won every battle against {_names(battles, others)}"
    if ties == "davidson" and not has_davidson_fit(wins, draws):
        return "no cycle of battles has more wins than ties, as `ties='davidson'` needs"
    return ""


def _others(members: Sequence[int], size: int) -> list[int]:
    return [m for m in range(size) if m not in set(members)]


def _names(battles: Battles, members: Sequence[int], limit: int = 3) -> str:
    names = [repr(battles.models[m]) for m in members[:limit]]
    if len(members) > limit:
        names.append(f"{len(members) - limit} more")
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _sandwich_errors(
    battles: Battles, ratings: FloatArray, units: IntArray, penalty: float, anchor: int | None
) -> FloatArray:
    """Return half the widths of 95 % intervals in points, shape (K,)."""
    count = int(units.max()) + 1
    covariance = sandwich_covariance(battles, ratings, units=units, ridge=2 * penalty)
    repeated = count < len(battles)
    quantile = stdtrit(max(1, count - 1), 0.975) if repeated else ndtri(0.975)
    errors = standard_errors(covariance, anchor) * math.sqrt(count / max(1, count - 1))
    errors[errors < 1e-6] = np.nan  # too few units, or ties alone
    if anchor is not None:
        errors[anchor] = 0.0
    half: FloatArray = quantile * errors
    return half


def _percentiles(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the 2.5 and 97.5 % quantiles of resampled values (B, K) that are defined."""
    defined = points[~np.isnan(points).any(1)]
    if 2 * len(defined) < len(points) or len(defined) < 2:
        return np.full(points.shape[1], np.nan), np.full(points.shape[1], np.nan)
    low, high = np.quantile(defined, [0.025, 0.975], axis=0)
    return low, high
