"""Bradley-Terry ratings: P(i wins against j) = 1 / (1 + exp(r_j - r_i)).

Ratings are natural logarithms of strengths with mean 0; `to_points` gives them the scale of Elo,
where 400 points are odds of 10 to 1. A tie counts half a win of each model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from scipy.sparse import csgraph

from t2v_eval.errors import InputError
from t2v_eval.stats.ratings.battles import Battles, IntArray, components
from t2v_eval.utils.arrays import FloatArray

POINTS = 400 / math.log(10)
"""Points of the Elo scale for 1 of natural log odds."""

Function: TypeAlias = Callable[[FloatArray], FloatArray]

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
    check_prior(prior)
    batch = np.asarray(wins, np.float64).reshape(-1, *wins.shape[-2:])
    ratings = np.full(batch.shape[:2], np.nan)
    finite = np.array([prior > 0 or len(components(matrix)) == 1 for matrix in batch], np.bool_)
    if finite.any():
        ratings[finite] = _fit_half_wins(batch[finite], prior)
    return ratings.reshape(wins.shape[:-1])


def check_prior(prior: float) -> None:
    """Raise InputError unless the penalty of a prior is a finite number of at least 0.

    >>> check_prior(0.5)
    """
    if not 0 <= prior < math.inf:
        raise InputError(f"`prior={prior!r}`: pass a number of at least 0")


def _fit_half_wins(wins: FloatArray, prior: float) -> FloatArray:
    """Maximise the log-likelihoods of B connected sets of battles, shape (B, K, K)."""
    size = wins.shape[-1]
    totals = wins + wins.swapaxes(1, 2)

    def value(ratings: FloatArray) -> FloatArray:
        gap = ratings[:, None, :] - ratings[:, :, None]
        likelihood = (wins * np.logaddexp(0, gap)).sum((1, 2))
        penalised: FloatArray = -likelihood - prior * (ratings**2).sum(1)
        return penalised

    def step(ratings: FloatArray) -> FloatArray:
        p = _win_probabilities(ratings)
        gradient = (wins - totals * p).sum(2) - 2 * prior * ratings
        curvature = _laplacian(totals * p * (1 - p)) + 2 * prior * np.eye(size)
        # Ratings are free up to a constant; the added matrix of ones fixes their sum.
        return _solve(curvature + np.ones((size, size)) / size, gradient)

    return _maximise(value, step, np.zeros(wins.shape[:2]))


def _maximise(value: Function, step: Function, start: FloatArray) -> FloatArray:
    """Maximise B concave functions at once with Newton's method and halved steps.

    Args:
        value: the function, from parameters of shape (B, P) to values of shape (B,).
        step: the Newton step, from parameters to shape (B, P).
        start: where to start, shape (B, P).
    """
    parameters = start
    current = value(parameters)
    for _ in range(_MAX_STEPS):
        change = step(parameters)
        length = np.ones((len(parameters), 1))
        for _ in range(40):
            proposed = parameters + length * change
            proposed_value = value(proposed)
            worse = proposed_value < current - 1e-12 * np.abs(current)
            if not worse.any():
                break
            length[worse] /= 2
        parameters, current = proposed, proposed_value
        if np.abs(length * change).max() < _TOLERANCE:
            break
    return parameters


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
    p = _first_wins(battles, ratings)
    residual = weight * (battles.score - p)
    unit = np.arange(len(battles)) if units is None else units
    gradients = np.zeros((int(unit.max()) + 1, size))
    np.add.at(gradients, (unit, battles.first), residual)
    np.add.at(gradients, (unit, battles.second), -residual)
    inverse = inverse_information(battles, ratings, weights=weights, ridge=ridge)
    covariance: FloatArray = inverse @ (gradients.T @ gradients) @ inverse
    return covariance


def inverse_information(
    battles: Battles,
    ratings: FloatArray,
    *,
    weights: FloatArray | None = None,
    ridge: float = 0.0,
) -> FloatArray:
    """Invert the Hessian of the negative log-likelihood: the covariance if the model is right.

    Args:
        battles: the n battles.
        ratings: `bradley_terry` of these, shape (K,).
        weights: the weight of each battle in the likelihood, shape (n,); by default 1.
        ridge: a number added to the diagonal of the Hessian, as twice the penalty of a prior.

    Returns:
        Shape (K, K), in natural logarithms squared, for ratings of mean 0.

    >>> battles = Battles.from_rows([("a", "b", "model_a")] * 3 + [("a", "b", "model_b")])
    >>> inverse_information(battles, bradley_terry(battles.wins())).round(3)
    array([[ 0.333, -0.333],
           [-0.333,  0.333]])
    """
    size = len(battles.models)
    p = _first_wins(battles, ratings)
    weight = np.ones(len(battles)) if weights is None else weights
    information = np.zeros((size, size))
    np.add.at(information, (battles.first, battles.second), weight * p * (1 - p))
    hessian = _laplacian(information + information.T)
    inverse = np.linalg.inv(hessian + ridge * np.eye(size)) if ridge else np.linalg.pinv(hessian)
    return np.asarray(inverse, np.float64)


def davidson(
    wins: FloatArray, ties: FloatArray, prior: float = 0.0
) -> tuple[FloatArray, FloatArray]:
    """Fit ratings and a tie parameter v: P(tie) is 2 v sqrt(s_i s_j) / (s_i + s_j + 2 v sqrt(...)).

    The strengths are s = exp(rating). The model is that of Davidson 1970, whose parameter is 2 v;
    v is that of Newman 2023, "Efficient computation of rankings from pairwise comparisons".

    Args:
        wins: `Battles.wins` with ``tie=0``, shape (K, K) or (B, K, K).
        ties: `Battles.ties`, of the same shape.
        prior: as for `bradley_terry`.

    Returns:
        Ratings of mean 0, shape (K,) or (B, K), and v, shape () or (B,). Ratings and v are NaN
        where `has_davidson_fit` is false and there is no prior; v is 0 without ties and infinite
        where all battles are ties.

    >>> wins, ties = np.array([[0, 3.0], [1, 0]]), np.array([[0, 1.0], [1, 0]])
    >>> ratings, v = davidson(wins, ties)
    >>> ratings.round(3), float(v.round(3))
    (array([ 0.549, -0.549]), 0.289)
    """
    check_prior(prior)
    shape = wins.shape[:-1]
    wins, ties = (a.reshape(-1, *a.shape[-2:]).astype(np.float64) for a in (wins, ties))
    finite = np.array(
        [prior > 0 or has_davidson_fit(w, t) for w, t in zip(wins, ties, strict=True)], np.bool_
    )
    ratings, v = np.full(wins.shape[:2], np.nan), np.full(len(wins), np.nan)
    if finite.any():
        ratings[finite], v[finite] = _fit_davidson(wins[finite], ties[finite], prior)
    return ratings.reshape(shape), v.reshape(shape[:-1])


def has_davidson_fit(wins: FloatArray, ties: FloatArray) -> bool:
    """Return whether finite ratings of `davidson` exist.

    Without ties, the win graph must be strongly connected. With ties, it must be so with each tie
    as an arc in both directions, and some cycle must have more wins than ties: otherwise the
    likelihood grows without bound along ratings u and a tie parameter e, with u_i - u_j >= 2 e for
    each win of i against j and |u_i - u_j| <= 2 e for each tie.

    Args:
        wins: `Battles.wins` with ``tie=0``, shape (K, K).
        ties: `Battles.ties`, shape (K, K).

    >>> one_tie = np.array([[0, 1.0], [1, 0]])
    >>> has_davidson_fit(np.array([[0, 3.0], [0, 0]]), one_tie)
    False
    >>> has_davidson_fit(np.array([[0, 3.0], [1, 0]]), one_tie)
    True
    """
    if len(components(wins + ties)) > 1:
        return False
    if not wins.any() or not ties.any():
        return True
    length = np.where(wins > 0, -1.0, np.where(ties > 0, 1.0, 0.0))  # 0 is no arc
    try:
        csgraph.bellman_ford(length, indices=0)
    except csgraph.NegativeCycleError:
        return True
    return False


def _fit_davidson(
    wins: FloatArray, ties: FloatArray, prior: float
) -> tuple[FloatArray, FloatArray]:
    """Maximise log-likelihoods of B sets with finite fits, wins and ties of shape (B, K, K)."""
    size = wins.shape[-1]
    totals, tied = wins + wins.swapaxes(1, 2) + ties, ties.sum((1, 2)) / 2
    decided = wins.any((1, 2))
    free = (tied > 0) & decided  # whether v is neither 0 nor infinite

    def logits(parameters: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        ratings = parameters[:, :size]
        half = (ratings[:, :, None] - ratings[:, None, :]) / 2
        tie = (parameters[:, size] + math.log(2))[:, None, None]
        return half, tie, np.logaddexp(np.logaddexp(half, -half), tie)

    def value(parameters: FloatArray) -> FloatArray:
        half, tie, norm = logits(parameters)
        likelihood = (wins * half - totals * norm / 2).sum((1, 2)) + tied * tie[:, 0, 0]
        penalised: FloatArray = likelihood - prior * (parameters[:, :size] ** 2).sum(1)
        return penalised

    def step(parameters: FloatArray) -> FloatArray:
        half, tie, norm = logits(parameters)
        won, lost, draw = (np.exp(x - norm) for x in (half, -half, tie))
        mean = (won - lost) / 2
        gradient = (wins - wins.swapaxes(1, 2)) / 2 - totals * mean
        gradient = gradient.sum(2) - 2 * prior * parameters[:, :size]
        of_ties = np.where(free, tied - (totals * draw).sum((1, 2)) / 2, 0)
        curvature = np.zeros((len(wins), size + 1, size + 1))
        curvature[:, :size, :size] = _laplacian(totals * ((won + lost) / 4 - mean**2))
        curvature[:, :size, :size] += 2 * prior * np.eye(size) + 1 / size
        mixed = np.where(free[:, None], -(totals * mean * draw).sum(2), 0)
        curvature[:, :size, size] = curvature[:, size, :size] = mixed
        variance = (totals * draw * (1 - draw)).sum((1, 2)) / 2
        curvature[:, size, size] = np.where(free, variance, 1)
        return _solve(curvature, np.column_stack([gradient, of_ties]))

    start = np.zeros((len(wins), size + 1))
    start[tied == 0, size] = -50.0  # exp(-50) of v stands for 0
    fit = _maximise(value, step, start)
    v = np.where(free, np.exp(fit[:, size]), np.where(decided, 0.0, math.inf))
    return fit[:, :size] - fit[:, :size].mean(1, keepdims=True), v


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


def _first_wins(battles: Battles, ratings: FloatArray) -> FloatArray:
    """Return the probability that the first model wins, of each battle, shape (n,)."""
    p: FloatArray = 1 / (1 + np.exp(ratings[battles.second] - ratings[battles.first]))
    return p


def _win_probabilities(ratings: FloatArray) -> FloatArray:
    gap = ratings[:, None, :] - ratings[:, :, None]
    return 1 / (1 + np.exp(np.clip(gap, -700, 700)))


def _solve(matrix: FloatArray, vector: FloatArray) -> FloatArray:
    """Solve linear systems, matrices of shape (B, P, P) and vectors of shape (B, P)."""
    solution = np.linalg.solve(matrix, vector[..., None])
    return np.asarray(solution[..., 0], np.float64)


def _laplacian(weights: FloatArray) -> FloatArray:
    """Return the graph Laplacian of symmetric weights, shape (..., K, K)."""
    laplacian: FloatArray = np.eye(weights.shape[-1]) * weights.sum(-1)[..., None, :] - weights
    return laplacian
