"""Regressions of paired differences against least squares of numpy and a loop of resamples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from t2v_eval.errors import InputError
from t2v_eval.stats.regression.paired_differences import adjust_difference

NAMES = ["saturation", "sharpness"]


def sample(seed=0, n=90, slopes=(0.6, 0.0), shift=(0.8, 0.3)):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2)) * [1.0, 5.0] + shift
    return 0.2 + x @ slopes + 0.5 * rng.normal(size=n), x


def coefficients(d, x):
    return np.linalg.lstsq(np.column_stack([np.ones(len(d)), x]), d, rcond=None)[0]


def test_equals_least_squares_of_numpy():
    d, x = sample()
    result = adjust_difference(d, x, NAMES, resamples=50)
    expected = coefficients(d, x)
    assert result.n == 90
    assert result.mean.value == pytest.approx(d.mean())
    assert result.adjusted.value == pytest.approx(expected[0])
    for k, effect in enumerate(result.effects):
        spread = x[:, k].std(ddof=1)
        assert effect.name == NAMES[k]
        assert effect.difference.value == pytest.approx(x[:, k].mean() / spread)
        assert effect.slope.value == pytest.approx(expected[1 + k] * spread / d.std(ddof=1))
        assert effect.accounts_for.value == pytest.approx(expected[1 + k] * x[:, k].mean())


def test_parts_add_up_to_the_difference():
    result = adjust_difference(*sample(), NAMES, resamples=50)
    parts = sum(effect.accounts_for.value for effect in result.effects)
    assert result.adjusted.value + parts == pytest.approx(result.mean.value)


def test_intervals_equal_a_loop_over_resampled_rows():
    d, x = sample()
    rng = np.random.default_rng(9)
    rows = [rng.integers(0, 90, 90) for _ in range(4000)]
    fits = np.array([coefficients(d[r], x[r]) for r in rows])
    parts = fits[:, 1:] * np.array([x[r].mean(axis=0) for r in rows])
    t = stats.t.ppf(0.975, 87)
    result = adjust_difference(d, x, NAMES, resamples=4000)
    half = result.adjusted.high - result.adjusted.value
    assert half == pytest.approx(t * fits[:, 0].std(), rel=0.06)
    for k, effect in enumerate(result.effects):
        part = effect.accounts_for
        assert part.high - part.value == pytest.approx(t * parts[:, k].std(), rel=0.06)


def test_the_covariate_that_scores_follow_is_named():
    first, second = adjust_difference(*sample(), NAMES).effects
    assert first.p < 0.001
    assert second.p > 0.05


def test_equal_generators_are_seldom_suspected():
    # Scores follow the covariate, and the generators do not differ in it: 5 % at most.
    suspected = 0
    for seed in range(200):
        d, x = sample(seed, n=60, shift=(0.0, 0.0))
        suspected += adjust_difference(d, x, NAMES, resamples=100).effects[0].p < 0.05
    assert suspected <= 19  # exceeded once in 375 such tests at 5 %


def test_missing_rows_are_left_out():
    d, x = sample()
    gaps, holes = d.copy(), x.copy()
    gaps[0], holes[1, 1] = np.nan, np.nan
    result = adjust_difference(gaps, holes, NAMES, resamples=20)
    assert result == adjust_difference(d[2:], x[2:], NAMES, resamples=20)


def test_scales_change_nothing_but_units():
    d, x = sample()
    result = adjust_difference(d, x, NAMES, resamples=50)
    scaled = adjust_difference(100 * d, x * [1e-6, 1e6], NAMES, resamples=50)
    for before, after in zip(result.effects, scaled.effects, strict=True):
        assert after.p == pytest.approx(before.p, rel=1e-6)
        assert after.slope == pytest.approx(before.slope, rel=1e-6)
        assert after.accounts_for.value == pytest.approx(100 * before.accounts_for.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, x: (d[:20], x[:20]), "20 rows have all differences"),
        (lambda d, x: (d, x * [1, 0]), "difference of sharpness is the same"),
        (lambda d, x: (d * 0, x), "difference of the score is the same"),
        (lambda d, x: (d, np.column_stack([x[:, 0], 3 * x[:, 0]])), "follows from the others"),
        (lambda d, x: (d, x[:, :1]), "a column of n for each of the names"),
        (lambda d, x: (d[:, None], x), "pass n differences"),
    ],
    ids=["few", "constant", "no difference", "collinear", "columns", "dimensions"],
)
def test_what_cannot_be_fitted_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        adjust_difference(*change(*sample()), NAMES)
