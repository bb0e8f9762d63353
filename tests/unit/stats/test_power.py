"""Sample sizes, against SciPy's noncentral t, published tables, closed forms and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from t2v_eval.errors import InputError
from t2v_eval.stats.bootstrap import BootstrapSamples
from t2v_eval.stats.power import (
    paired_effect,
    paired_items,
    paired_power,
    rate_limit,
    scaled_effect,
    scaled_items,
    share_effect,
    share_items,
)


@pytest.mark.parametrize("n", [2, 5, 30, 500, 100_000])
@pytest.mark.parametrize("size", [0.0, 0.01, 0.1, 1.0, 3.0])
@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.001])
def test_power_is_that_of_the_noncentral_t_distribution(n, size, alpha):
    limit = stats.t.isf(alpha / 2, n - 1)
    shift = size * math.sqrt(n)
    # SciPy returns NaN in place of the smallest probabilities.
    power = stats.nct.sf(limit, n - 1, shift) + np.nan_to_num(stats.nct.cdf(-limit, n - 1, shift))
    assert paired_power(n, 2 * size, sd=2, alpha=alpha) == pytest.approx(power, abs=1e-9)
    assert paired_power(n, -size, alpha=alpha) == pytest.approx(power, abs=1e-9)


# statsmodels 0.15, TTestPower().solve_power(effect_size=..., alpha=..., power=...), rounded up.
@pytest.mark.parametrize(
    ("size", "power", "alpha", "n"),
    [
        (0.01, 0.8, 0.05, 78491),
        (0.05, 0.8, 0.05, 3142),
        (0.1, 0.8, 0.05, 787),
        (0.125, 0.8, 0.05, 505),
        (0.5, 0.8, 0.05, 34),
        (2.0, 0.8, 0.05, 5),
    ],
)
def test_numbers_of_items_are_those_of_statsmodels(size, power, alpha, n):
    assert paired_items(size, power=power, alpha=alpha) == n
    assert paired_items(-3 * size, sd=3, power=power, alpha=alpha) == n


def test_items_and_effect_invert_the_power():
    for n in (2, 7, 80, 3000):
        effect = paired_effect(n, sd=0.3, power=0.9, alpha=0.01)
        assert paired_power(n, effect, sd=0.3, alpha=0.01) == pytest.approx(0.9, abs=1e-9)
        assert paired_items(effect * (1 + 1e-9), sd=0.3, power=0.9, alpha=0.01) == n


def test_facts_that_a_protocol_quotes():
    assert paired_effect(500) == pytest.approx(0.125, abs=6e-4)
    assert scaled_effect(1 / math.sqrt(500)) == pytest.approx(0.1253, abs=1e-4)
    assert [round(100 * share_effect(n), 1) for n in (200, 2000)] == [59.9, 53.1]
    assert [round(100 * rate_limit(n), 2) for n in (50, 500)] == [7.11, 0.74]
    assert all(share_items(share_effect(n)) == n for n in (200, 2000))


@pytest.mark.parametrize(("n", "seen"), [(50, 0), (500, 0), (30, 4), (10, 10), (10, 9)])
def test_the_limit_of_a_rate_is_that_of_the_exact_binomial_interval(n, seen):
    high = stats.binomtest(seen, n).proportion_ci(0.95, method="exact").high
    assert rate_limit(n, seen) == pytest.approx(high, rel=1e-9)
    if not seen:
        assert rate_limit(n) == pytest.approx(1 - 0.025 ** (1 / n), rel=1e-9)


def test_simulated_paired_tests_have_the_power():
    rng = np.random.default_rng(3)
    n = paired_items(0.4, power=0.8)
    differences = rng.normal(0.4, 1, (4000, n))
    rate = (stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05).mean()
    assert rate == pytest.approx(0.8, abs=0.02)


def test_simulated_blind_pairs_have_the_power():
    n = 200
    wins = np.random.default_rng(4).binomial(n, share_effect(n), 20_000)
    z = np.abs(wins / n - 0.5) / (0.5 / math.sqrt(n))
    assert (z > stats.norm.isf(0.025)).mean() == pytest.approx(0.8, abs=0.03)


def test_items_from_a_bootstrap_find_a_difference_of_correlations():
    """Two scorers see the quality with more and with less noise; a pilot of 150 plans the test."""
    rng = np.random.default_rng(5)

    def draw(n):
        quality = rng.normal(size=n)
        return quality, quality + rng.normal(0, 1, n), quality + rng.normal(0, 1.4, n)

    def difference(quality, a, b):
        return np.corrcoef(quality, a)[0, 1] - np.corrcoef(quality, b)[0, 1]

    truth = 1 / math.sqrt(2) - 1 / math.sqrt(1 + 1.4**2)
    errors = []
    for _ in range(20):
        pilot = draw(150)
        samples = BootstrapSamples.compute(
            lambda i, p=pilot: {"r": difference(*(x[i] for x in p))}, 150, 200, 0
        )
        errors.append(samples.resampled["r"].std(ddof=1))
    n = scaled_items(truth, float(np.sqrt(np.mean(np.square(errors)))), 150)
    values = np.array([difference(*draw(n)) for _ in range(1500)])
    rate = (np.abs(values) / values.std() > stats.norm.isf(0.025)).mean()
    assert rate == pytest.approx(0.8, abs=0.05)


def test_what_cannot_be_planned_is_none():
    assert paired_items(0.0) is None and paired_items(1e-9) is None
    assert share_items(0.5) is None and scaled_items(0.0, 0.1, 10) is None
    assert scaled_items(1e-12, 0.1, 10) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_power(1, 0.5), "n=1"),
        (lambda: paired_items(0.5, sd=0), "sd=0"),
        (lambda: paired_items(math.nan), "effect=nan"),
        (lambda: paired_items(0.5, power=1.0), "power=1.0"),
        (lambda: paired_items(0.5, power=0.04), "above alpha"),
        (lambda: paired_effect(10, alpha=0), "alpha=0"),
        (lambda: share_items(1.5), "share=1.5"),
        (lambda: scaled_effect(math.inf), "sd=inf"),
        (lambda: rate_limit(10, 11), "seen=11"),
        (lambda: rate_limit(0), "n=0"),
        (lambda: rate_limit(10, confidence=1), "confidence=1"),
    ],
)
def test_numbers_outside_their_range_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
