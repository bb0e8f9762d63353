"""Shares of battles with intervals: Wilson's own, and with units that repeat."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binomtest, t

from t2v_eval.stats.ratings.shares import share_interval


@pytest.mark.parametrize(("won", "n"), [(0, 1), (1, 1), (0, 7), (7, 7), (3, 10), (40, 90)])
def test_single_battles_without_ties_have_the_interval_of_wilson(won, n):
    share = share_interval(np.repeat([1.0, 0.0], [won, n - won]))
    expected = binomtest(won, n).proportion_ci(method="wilson")
    np.testing.assert_allclose(share, [won / n, expected.low, expected.high], atol=1e-12)


def test_copies_of_a_value_in_a_unit_say_nothing_more():
    values = np.repeat([1.0, 0.0], [12, 18])
    units = np.arange(30)
    share = share_interval(np.repeat(values, 5), np.repeat(units, 5) * 7)
    size, z = 29, t.ppf(0.975, 29)  # the variance of a mean of 30 units, with its correction

    def off(limit):
        return abs(0.4 - limit) - z * math.sqrt(limit * (1 - limit) / size)

    assert share.low == pytest.approx(brentq(off, 1e-9, 0.4))
    assert share.high == pytest.approx(brentq(off, 0.4, 1 - 1e-9))


def test_ties_narrow_it_and_values_that_agree_do_not_close_it():
    n = 50
    decided = share_interval(np.repeat([1.0, 0.0], n // 2))
    half_tied = share_interval(
        np.concatenate([np.full(n // 2, 0.5), np.repeat([1.0, 0.0], n // 4)])
    )
    assert half_tied.high - half_tied.low < decided.high - decided.low
    all_tied = share_interval(np.full(n, 0.5))
    assert all_tied.low < 0.5 < all_tied.high
    unanimous = share_interval(np.ones(40), np.repeat(np.arange(4), 10))
    assert unanimous.high == 1 and unanimous.low < 0.4, "four units, not forty"


def test_no_values_have_no_share():
    assert all(math.isnan(x) for x in share_interval(np.array([])))


@pytest.mark.parametrize("seed", range(5))
def test_it_holds_its_value_and_stays_within_0_and_1(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 30))
    share = share_interval(rng.choice([0, 0.5, 1], n), rng.integers(0, 5, n))
    assert 0 <= share.low <= share.value <= share.high <= 1
