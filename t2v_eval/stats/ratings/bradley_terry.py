"""Bradley-Terry ratings: P(i wins against j) = 1 / (1 + exp(r_j - r_i)).

Ratings are natural logarithms of strengths with mean 0; `to_points` gives them the scale of Elo,
where 400 points are odds of 10 to 1. A tie counts half a win of each model.
"""

from __future__ import annotations

import math

import numpy as np

from t2v_eval.errors import InputError
from t2v_eval.stats.ratings.battles import Battles, IntArray, components
from t2v_eval.utils.arrays import FloatArray

POINTS = 400 / math.log(10)
"""Points of the Elo scale for 1 of natural log odds."""

_MAX_STEPS = 200
_TOLERANCE = 1e-10


def bradley_terry(wins: FloatArray, prior: float = 0.0) -> FloatArray:
    """Fit ratings by maximum likelihood, with Newton's method.

    Args:
        wins: `Battles.wins`, shape (K, K), or (B, K, K) for B sets of battles at once.
        prior: the penalty ``prior * sum(ratings ** 2)`` that is subtracted from the log-likelihood:
            a normal prior of variance 1 / (2 prior). It keeps ratings finite where a model only won
            or only lost.

    Returns:
        Ratings of mean 0, shape (K,) or (B, K). Without a prior they are NaN for sets whose win
        graph is not strongly connected, which have no finite ratings.

    >>> bradley_terry(np.array([[0, 3.0], [1, 0]])).round(4)
    array([ 0.5493, -0.5493])
    >>> bradley_terry(np.array([[0, 3.0], [0, 0]]))
    array([nan, nan])
    """
    if prior < 0:
        raise InputError(f"`prior={prior!r}`: pass a number of at least 0")
    batch = np.asarray(wins, np.float64).reshape(-1, *wins.shape[-2:])
    ratings = np.full(batch.shape[:2], np.nan)
    finite = np.array([prior > 0 or len(components(matrix)) == 1 for matrix in batch], np.bool_)
    if finite.any():
        ratings[finite] = _newton(batch[finite], prior)
    return ratings.reshape(wins.shape[:-1])


def _newton(wins: FloatArray, prior: float) -> FloatArray:
    """Maximise the log-likelihoods of B connected sets of battles, shape (B, K, K)."""
    size = wins.shape[-1]
    totals = wins + wins.swapaxes(1, 2)
    ratings = np.zeros(wins.shape[:2])
    value = _log_likelihood(wins, ratings, prior)
    for _ in range(_MAX_STEPS):
        p = _win_probabilities(ratings)
        gradient = (wins - totals * p).sum(2) - 2 * prior * ratings
        curvature = _laplacian(totals * p * (1 - p)) + 2 * prior * np.eye(size)
        # Ratings are free up to a constant; the added matrix of ones fixes their sum.
        step = np.linalg.solve(curvature + np.ones((size, size)) / size, gradient[..., None])[
            ..., 0
        ]
        length = np.ones((len(wins), 1))
        for _ in range(40):
            proposed = ratings + length * step
            proposed -= proposed.mean(1, keepdims=True)
            proposed_value = _log_likelihood(wins, proposed, prior)
            worse = proposed_value < value - 1e-12 * np.abs(value)
            if not worse.any():
                break
            length[worse] /= 2
        ratings, value = proposed, proposed_value
        if np.abs(length * step).max() < _TOLERANCE:
            break
    return ratings


def sandwich_covariance(
    battles: Battles,
    ratings: FloatArray,
    *,
    units: IntArray | None = None,
    weights: FloatArray | None = None,
    ridge: float = 0.0,
) -> FloatArray:
    """Estimate the covariance of ratings by H^-1 G H^-1, which is robust to a wrong model.

    H is the Hessian of the negative log-likelihood and G the sum of outer products of the
    gradients of the units (Huber 1967; White 1982). arena-rank's default is this with one unit a
    battle and a ridge of 1e-5 times the number of battles.

    Args:
        battles: the n battles.
        ratings: `bradley_terry` of these, shape (K,).
        units: the number of the unit of each battle, shape (n,), where battles depend on each
            other: those of the same prompt or the same judge. By default every battle is a unit.
        weights: the weight of each battle in the likelihood, shape (n,); by default 1.
        ridge: a number added to the diagonal of H.

    Returns:
        Shape (K, K), in natural logarithms squared, for ratings of mean 0; NaN where ratings are.

    >>> battles = Battles.from_rows([("a", "b", "model_a")] * 3 + [("a", "b", "model_b")])
    >>> sandwich_covariance(battles, bradley_terry(battles.wins())).round(3)
    array([[ 0.333, -0.333],
           [-0.333,  0.333]])
    """
    size = len(battles.models)
    if np.isnan(ratings).any():
        return np.full((size, size), np.nan)
    weight = np.ones(len(battles)) if weights is None else weights
    p = 1 / (1 + np.exp(ratings[battles.second] - ratings[battles.first]))
    residual = weight * (battles.score - p)
    unit = np.arange(len(battles)) if units is None else units
    gradients = np.zeros((int(unit.max()) + 1, size))
    np.add.at(gradients, (unit, battles.first), residual)
    np.add.at(gradients, (unit, battles.second), -residual)
    information = np.zeros((size, size))
    np.add.at(information, (battles.first, battles.second), weight * p * (1 - p))
    hessian = _laplacian(information + information.T)
    inverse = np.linalg.inv(hessian + ridge * np.eye(size)) if ridge else np.linalg.pinv(hessian)
    covariance: FloatArray = inverse @ (gradients.T @ gradients) @ inverse
    return covariance


def davidson(battles: Battles, tolerance: float = 1e-12) -> tuple[FloatArray, float]:
    """Fit ratings and a tie parameter v: P(tie) is 2 v sqrt(s_i s_j) / (s_i + s_j + 2 v sqrt(...)).

    The strengths are s = exp(rating). The iteration is that of Newman 2023, "Efficient computation
    of rankings from pairwise comparisons", for the model of Davidson 1970.

    Args:
        battles: the battles.
        tolerance: the largest change of a strength after which the iteration stops.

    Returns:
        Ratings of mean 0, shape (K,), and v. Ratings are NaN where no finite ones exist.

    >>> rows = [("a", "b", "model_a")] * 3 + [("a", "b", "model_b"), ("a", "b", "tie")]
    >>> ratings, v = davidson(Battles.from_rows(rows))
    >>> ratings.round(3), round(v, 3)
    (array([ 0.549, -0.549]), 0.289)
    """
    wins, ties = battles.wins(tie=0), battles.ties()
    size = len(battles.models)
    if len(components(wins + ties)) > 1:
        return np.full(size, np.nan), math.nan
    half = wins + ties / 2
    strengths, v = np.ones(size), 0.5
    for _ in range(100_000):
        previous = strengths
        root = np.sqrt(np.outer(strengths, strengths))
        total = np.add.outer(strengths, strengths)
        denominator = total + 2 * v * root
        won = (half * (strengths + v * root) / denominator).sum(1)
        lost = (half.T * (1 + v * root / strengths[:, None]) / denominator).sum(1)
        strengths = won / lost
        decided = (wins * root / denominator).sum()
        v = (ties * total / denominator).sum() / 4 / decided if decided else math.inf
        if not np.abs(strengths - previous).max() > tolerance * strengths.max():
            break
    ratings = np.log(strengths)
    return ratings - ratings.mean(), float(v)


def to_points(ratings: FloatArray, anchor: int | None = None, points: float = 1000.0) -> FloatArray:
    """Convert ratings, shape (..., K), to the scale of Elo.

    Args:
        ratings: natural logarithms of strengths.
        anchor: the index of the model that has `points`; by default the mean has.
        points: the points of the anchor, or the mean.

    >>> to_points(np.array([math.log(10), 0.0]), anchor=1)
    array([1400., 1000.])
    """
    origin = ratings.mean(-1) if anchor is None else ratings[..., anchor]
    return points + POINTS * (ratings - origin[..., None])


def standard_errors(covariance: FloatArray, anchor: int | None = None) -> FloatArray:
    """Return the standard errors of ratings in points, shape (K,).

    Args:
        covariance: `sandwich_covariance`.
        anchor: the index of the model whose rating is fixed, and whose error is 0; by default the
            mean is fixed.

    >>> standard_errors(np.diag([0.01, 0.04]), anchor=1).round(1)
    array([38.8,  0. ])
    """
    variance = np.diag(covariance)
    if anchor is not None:
        variance = variance + variance[anchor] - 2 * covariance[anchor]
        variance = np.where(np.arange(len(variance)) == anchor, 0.0, variance)
    return POINTS * np.sqrt(np.maximum(variance, 0))


def _win_probabilities(ratings: FloatArray) -> FloatArray:
    gap = ratings[:, None, :] - ratings[:, :, None]
    return 1 / (1 + np.exp(np.clip(gap, -700, 700)))


def _log_likelihood(wins: FloatArray, ratings: FloatArray, prior: float) -> FloatArray:
    gap = ratings[:, None, :] - ratings[:, :, None]
    value: FloatArray = -(wins * np.logaddexp(0, gap)).sum((1, 2)) - prior * (ratings**2).sum(1)
    return value


def _laplacian(weights: FloatArray) -> FloatArray:
    """Return the graph Laplacian of symmetric weights, shape (..., K, K)."""
    laplacian: FloatArray = np.eye(weights.shape[-1]) * weights.sum(-1)[..., None, :] - weights
    return laplacian
