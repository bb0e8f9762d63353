"""Ratings that are updated battle by battle: Elo and TrueSkill.

They depend on the order of the battles. `elo_spread` shows how much; `bradley_terry` does not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from t2v_eval.errors import InputError
from t2v_eval.stats.ratings.battles import Battles
from t2v_eval.utils.arrays import FloatArray

_BLOCK = 10_000  # battles whose rows are copied at once


def elo(
    battles: Battles, k: float = 4.0, *, scale: float = 400.0, initial: float = 1000.0
) -> FloatArray:
    """Compute Elo ratings in the order of the battles.

    After each battle the first model gains ``k * (score - expected)`` and the second loses it,
    where expected is 1 / (1 + 10^((r_second - r_first) / scale)). k = 4 is that of FastChat.

    Returns:
        Ratings in points, shape (K,); their mean stays `initial`.

    >>> elo(Battles.from_rows([("a", "b", "model_a"), ("b", "a", "tie")]), k=32).round(2)
    array([1014.53,  985.47])
    """
    order = np.arange(len(battles))[None]
    ratings: FloatArray = _elo_in_orders(battles, order, k, scale, initial)[0]
    return ratings


def elo_spread(
    battles: Battles,
    k: float = 4.0,
    *,
    orders: int = 100,
    seed: int = 0,
    scale: float = 400.0,
    initial: float = 1000.0,
) -> FloatArray:
    """Compute Elo ratings in random orders of the battles.

    Returns:
        Ratings in points, shape (orders, K). Their spread is what the order alone decides; it is
        not a confidence interval.

    >>> elo_spread(Battles.from_rows([("a", "b", "model_a"), ("b", "a", "tie")]), orders=3).shape
    (3, 2)
    """
    rng = np.random.default_rng(seed)
    shuffled = np.array([rng.permutation(len(battles)).astype(np.int32) for _ in range(orders)])
    return _elo_in_orders(battles, shuffled, k, scale, initial)


def _elo_in_orders(
    battles: Battles, orders: np.ndarray, k: float, scale: float, initial: float
) -> FloatArray:
    if k <= 0:
        raise InputError(f"`k={k!r}`: pass a number above 0")
    ratings = np.full((len(orders), len(battles.models)), float(initial))
    rows = np.arange(len(orders))
    rate = math.log(10) / scale
    for start in range(0, len(battles), _BLOCK):
        block = orders[:, start : start + _BLOCK].T
        for a, b, score in zip(
            battles.first[block], battles.second[block], battles.score[block], strict=True
        ):
            change = k * (score - 1 / (1 + np.exp(rate * (ratings[rows, b] - ratings[rows, a]))))
            ratings[rows, a] += change
            ratings[rows, b] -= change
    return ratings


class Skill(NamedTuple):
    """A TrueSkill rating: a normal distribution.

    >>> Skill(25.0, 8.0).sigma
    8.0
    """

    mu: float
    sigma: float


def trueskill(
    battles: Battles,
    *,
    draw_probability: float | None = None,
    mu: float = 25.0,
    sigma: float = 25 / 3,
    beta: float = 25 / 6,
    tau: float = 25 / 300,
) -> list[Skill]:
    """Compute TrueSkill ratings of two-player battles (Herbrich, Minka and Graepel 2006).

    Args:
        battles: the battles, in their order.
        draw_probability: the probability of a tie between equal models; by default the share of
            ties among the battles.
        mu: the mean of the rating of a model before its first battle.
        sigma: the standard deviation of that rating.
        beta: the standard deviation of a performance.
        tau: the standard deviation that is added to every rating before each of its battles.

    >>> win = Battles.from_rows([("a", "b", "model_a")])
    >>> [round(skill.mu, 3) for skill in trueskill(win, draw_probability=0.1)]
    [29.396, 20.604]
    """
    ties = float((battles.score == 0.5).mean()) if draw_probability is None else draw_probability
    margin = float(norm.ppf((ties + 1) / 2)) * math.sqrt(2) * beta
    skills = [Skill(mu, sigma)] * len(battles.models)
    for a, b, score in zip(battles.first, battles.second, battles.score, strict=True):
        winner, loser = (b, a) if score == 0 else (a, b)
        variances = skills[winner].sigma ** 2 + tau**2, skills[loser].sigma ** 2 + tau**2
        c = math.sqrt(2 * beta**2 + sum(variances))
        gap, width = (skills[winner].mu - skills[loser].mu) / c, margin / c
        v, w = _tie_update(gap, width) if score == 0.5 else _win_update(gap - width)
        for model, sign, variance in ((winner, 1, variances[0]), (loser, -1, variances[1])):
            skills[model] = Skill(
                skills[model].mu + sign * variance / c * v,
                math.sqrt(variance * (1 - variance / c**2 * w)),
            )
    return skills


def _win_update(x: float) -> tuple[float, float]:
    """Return the corrections of mean and variance where the gap exceeds the margin by x."""
    probability = norm.cdf(x)
    v = float(norm.pdf(x) / probability) if probability > 1e-300 else -x
    return v, v * (v + x)


def _tie_update(gap: float, width: float) -> tuple[float, float]:
    """Return the corrections of mean and variance where the gap is within +-width."""
    low, high = -width - gap, width - gap
    probability = float(norm.cdf(high) - norm.cdf(low))
    if probability < 1e-300:  # far outside of the margin, or a margin of 0
        return (-gap - math.copysign(width, -gap)), 1.0
    density_low, density_high = float(norm.pdf(low)), float(norm.pdf(high))
    v = (density_low - density_high) / probability
    return v, v**2 + (high * density_high - low * density_low) / probability
