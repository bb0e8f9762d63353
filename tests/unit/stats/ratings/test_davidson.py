"""Davidson's model: the maximum of its likelihood, and when there is a finite one."""

import math

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from t2v_eval.errors import InputError
from t2v_eval.stats.ratings.bradley_terry import bradley_terry, davidson, has_davidson_fit


def random_counts(rng, size, most=5):
    wins = rng.integers(0, most, (size, size)).astype(float)
    np.fill_diagonal(wins, 0)
    ties = np.triu(rng.integers(0, most, (size, size)), 1).astype(float)
    return wins, ties + ties.T


def loss(parameters, wins, ties, prior=0.0):
    """The negative log-likelihood in strengths, as the paper writes it."""
    ratings, log_v = parameters[:-1], parameters[-1]
    s, v = np.exp(ratings), math.exp(log_v)
    root = np.sqrt(np.outer(s, s))
    total = s[:, None] + s[None, :] + 2 * v * root
    with np.errstate(divide="ignore"):
        value = (wins * np.log(s[:, None] / total)).sum()
        value += (np.triu(ties) * np.log(2 * v * root / total)).sum()
    return -value + prior * ((ratings - ratings.mean()) ** 2).sum()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("prior", [0.0, 0.5])
def test_a_fit_is_the_maximum_of_the_likelihood(seed, prior):
    rng = np.random.default_rng(seed)
    wins, ties = random_counts(rng, int(rng.integers(2, 7)))
    wins += 1 - np.eye(len(wins))
    ties[0, 1] = ties[1, 0] = 2
    best = minimize(
        loss, np.zeros(len(wins) + 1), (wins, ties, prior), method="BFGS", options={"gtol": 1e-8}
    ).x
    ratings, v = davidson(wins, ties, prior)
    np.testing.assert_allclose(ratings, best[:-1] - best[:-1].mean(), atol=1e-4)
    assert float(v) == pytest.approx(math.exp(best[-1]), rel=1e-4)


def is_finite_by_linear_programming(wins, ties):
    """Whether no direction of ratings and of log v never lowers the likelihood (but shifts)."""
    size = len(wins)
    rows = []
    for i in range(size):
        for j in range(size):
            gap = np.zeros(size + 1)
            gap[i], gap[j] = 0.5, -0.5
            tie = np.eye(size + 1)[size]
            if wins[i, j]:
                rows += [-2 * gap, tie - gap]
            if ties[i, j]:
                rows += [gap - tie, -gap - tie]
    fixed = np.ones((1, size + 1))
    fixed[0, size] = 0
    # Any direction in the cone, within a box: its distance from 0 along each axis.
    for axis in range(size + 1):
        for sign in (1, -1):
            cost = sign * np.eye(size + 1)[axis]
            solved = linprog(cost, np.array(rows), np.zeros(len(rows)), fixed, [0], (-1, 1))
            if solved.fun < -1e-7:
                return False
    return True


@pytest.mark.parametrize("seed", range(40))
def test_a_finite_fit_exists_where_no_direction_raises_the_likelihood_for_ever(seed):
    rng = np.random.default_rng(seed)
    wins, ties = random_counts(rng, int(rng.integers(2, 5)), most=2)
    wins *= rng.random(wins.shape) < 0.7
    if not wins.any() or not ties.any():
        wins[0, 1] = ties[0, 1] = ties[1, 0] = 1
    assert has_davidson_fit(wins, ties) == is_finite_by_linear_programming(wins, ties)


def test_a_single_tie_does_not_make_a_rating_finite():
    wins, tie = np.array([[0, 3.0], [0, 0]]), np.array([[0, 1.0], [1, 0]])
    assert not has_davidson_fit(wins, tie)
    ratings, v = davidson(wins, tie)
    assert np.isnan(ratings).all() and np.isnan(v)
    assert np.isfinite(davidson(wins, tie, prior=0.5)[0]).all()
    assert np.isfinite(bradley_terry(wins + tie / 2)).all(), "half a win is finite here"


def test_without_ties_it_is_bradley_terry_and_with_ties_alone_all_are_equal():
    wins, _ = random_counts(np.random.default_rng(3), 5)
    wins += 1 - np.eye(5)
    ratings, v = davidson(wins, np.zeros((5, 5)))
    np.testing.assert_allclose(ratings, bradley_terry(wins), atol=1e-8)
    assert v == 0
    ratings, v = davidson(np.zeros((3, 3)), np.ones((3, 3)) - np.eye(3))
    assert (ratings == 0).all() and math.isinf(v)


def test_many_sets_at_once_are_those_sets_one_by_one():
    rng = np.random.default_rng(5)
    counts = [random_counts(rng, 4, most=3) for _ in range(30)]
    counts.append((np.zeros((4, 4)), counts[0][1] + 1 - np.eye(4)))
    counts.append((counts[0][0] + 1 - np.eye(4), np.zeros((4, 4))))
    together = davidson(*(np.array(part) for part in zip(*counts, strict=True)))
    for k, (wins, ties) in enumerate(counts):
        ratings, v = davidson(wins, ties)
        np.testing.assert_allclose(together[0][k], ratings, atol=1e-7)
        np.testing.assert_allclose(together[1][k], v, rtol=1e-6)


def test_a_prior_out_of_range():
    with pytest.raises(InputError, match="prior=nan"):
        davidson(np.ones((2, 2)), np.ones((2, 2)), prior=math.nan)
