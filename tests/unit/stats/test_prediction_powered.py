"""Prediction-powered inference, against ppi_py, closed forms and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from t2v_eval.errors import InputError
from t2v_eval.stats.prediction_powered import (
    MIN_RATED,
    prediction_powered_difference,
    prediction_powered_mean,
)

# fmt: off
SCORES = [0.704, 0.453, 0.364, 0.161, 0.547, 0.787, 0.605, 0.677, 0.753, 0.468, 0.998, 0.468,
          0.656, 1.011, 0.583, 0.617, 0.523, 0.65, 0.281, 0.503, 0.854, 0.632, 0.564, 0.656,
          0.662, 0.623, 0.687, 0.351, 0.689, 0.499, 0.718, 0.597]
# fmt: on
RATED = [3.0, 3.0, 2.0, 2.0, 3.0, 5.0, 3.0, 5.0, 4.0, 4.0, 5.0, 2.0]
RATINGS = RATED + [None] * (len(SCORES) - len(RATED))

# ppi-python 0.2.3 on these numbers: lambda, ppi_mean_pointestimate, ppi_mean_ci(alpha=0.05).
PPI_PY = [
    (0.0, 3.4166666666666665, (2.785850612620948, 4.0474827207123845)),
    (0.4, 3.430953333333333, (2.836736466430374, 4.025170200236293)),
    (1.0, 3.452383333333333, (2.9073112004308626, 3.9974554662358037)),
    (3.0, 3.5238166666666664, (3.067658042267934, 3.979975291065399)),
]


def variance(weight, ddof):
    """Return the variance of the estimate: of the rated and of the other items."""
    y, f, others = np.array(RATED), np.array(SCORES[:12]), np.array(SCORES[12:])
    residuals = (y - weight * f).var(ddof=ddof) / len(y)
    return residuals + weight**2 * others.var(ddof=ddof) / len(others)


@pytest.mark.parametrize(("weight", "value", "limits"), PPI_PY)
def test_with_a_given_weight_it_is_ppi_py_but_for_degrees_of_freedom(weight, value, limits):
    estimate = prediction_powered_mean(RATINGS, SCORES, weight=weight)
    assert estimate.interval.value == pytest.approx(value, abs=1e-12)
    # ppi_py divides by n and has limits of the normal distribution.
    half = stats.norm.isf(0.025) * math.sqrt(variance(weight, ddof=0))
    assert limits == pytest.approx((value - half, value + half), abs=1e-9)
    error = math.sqrt(variance(weight, ddof=1))
    assert estimate.error == pytest.approx(error, rel=1e-12)
    low, high = stats.t.interval(0.95, 11, loc=value, scale=error)
    assert estimate.interval[1:] == pytest.approx((low, high), rel=1e-12)
    assert estimate.p == pytest.approx(2 * stats.t.sf(value / error, 11), rel=1e-9)


def test_the_tuned_weight_has_the_smallest_variance():
    weight = prediction_powered_mean(RATINGS, SCORES).weight
    around = np.linspace(weight - 1, weight + 1, 2001)
    best = around[np.argmin([variance(w, ddof=0) for w in around])]
    assert weight == pytest.approx(best, abs=2e-3)


def test_a_tuned_weight_costs_a_degree_of_freedom():
    estimate = prediction_powered_mean(RATINGS, SCORES)
    y, f, others = np.array(RATED), np.array(SCORES[:12]), np.array(SCORES[12:])
    residuals = y - y.mean() - estimate.weight * (f - f.mean())
    rated = (residuals**2).sum() / (12 * 10)
    error = math.sqrt(rated + estimate.weight**2 * others.var(ddof=1) / 20)
    assert estimate.error == pytest.approx(error, rel=1e-9)
    low, high = stats.t.interval(0.95, 10, loc=estimate.interval.value, scale=error)
    assert estimate.interval[1:] == pytest.approx((low, high), rel=1e-9)


def test_the_tuned_estimate_is_near_that_of_ppi_py_on_a_large_sample():
    rng = np.random.default_rng(7)
    scores = rng.normal(3, 1, 3300)
    ratings = np.append(0.7 * scores[:300] + rng.normal(0, 0.5, 300), np.full(3000, np.nan))
    estimate = prediction_powered_mean(ratings, scores)
    # ppi_py: cov(Y, F) / ((1 + n / N) var(F)), the variance over all items.
    covariance = np.cov(ratings[:300], scores[:300], ddof=0)[0, 1]
    weight = covariance / (1.1 * scores.var(ddof=1))
    assert estimate.weight == pytest.approx(weight, rel=0.2)
    weighted = prediction_powered_mean(ratings, scores, weight=weight)
    assert estimate.interval.value == pytest.approx(
        weighted.interval.value, abs=0.5 * weighted.error
    )
    assert estimate.error == pytest.approx(weighted.error, rel=0.02)
    assert estimate.error < 0.8 * stats.sem(ratings[:300])


def test_without_scores_of_others_it_is_the_paired_t_test():
    rng = np.random.default_rng(1)
    ratings = rng.integers(1, 6, (40, 2)).astype(float)
    estimate = prediction_powered_difference(ratings, rng.normal(size=(40, 2)))
    differences = ratings[:, 0] - ratings[:, 1]
    low, high = stats.t.interval(0.95, 39, differences.mean(), stats.sem(differences))
    assert estimate.interval == pytest.approx((differences.mean(), low, high))
    assert estimate.interval == estimate.ratings_alone and estimate.weight == 0
    assert estimate.p == pytest.approx(stats.ttest_rel(*ratings.T).pvalue)
    assert (estimate.rated, estimate.scored, estimate.worth) == (40, 40, 40)


def test_a_difference_is_the_mean_of_the_differences_of_prompts():
    rng = np.random.default_rng(2)
    quality = rng.normal(size=(200, 1)) + rng.normal([0.5, 0], 1, (200, 2))
    ratings = quality + rng.normal(0, 0.3, (200, 2))
    ratings[50:] = np.nan
    scores = 10 * quality + rng.normal(0, 4, (200, 2))
    pair = prediction_powered_difference(ratings, scores)
    one = prediction_powered_mean(ratings[:, 0] - ratings[:, 1], scores[:, 0] - scores[:, 1])
    assert pair.interval == pytest.approx(one.interval)
    assert (pair.p, pair.weight) == pytest.approx((one.p, one.weight))
    swapped = prediction_powered_difference(ratings[:, ::-1], scores[:, ::-1])
    value, low, high = swapped.interval
    assert pair.interval == pytest.approx((-value, -high, -low))


def test_units_of_scores_do_not_matter_and_those_of_ratings_scale_the_result():
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(90, 2))
    ratings = np.round(3 + scores + rng.normal(0, 0.5, (90, 2)))
    ratings[30:] = np.nan
    plain = prediction_powered_difference(ratings, scores)
    scaled = prediction_powered_difference(10 * ratings, 100 - 50 * scores)
    assert scaled.interval == pytest.approx([10 * x for x in plain.interval])
    assert scaled.p == pytest.approx(plain.p)


def test_rows_of_a_group_count_as_one():
    rng = np.random.default_rng(4)
    scores = rng.normal(size=60)
    ratings = np.where(np.arange(60) < 20, scores + rng.normal(0, 1, 60), np.nan)
    twice = prediction_powered_mean(
        np.repeat(ratings, 2), np.repeat(scores, 2), groups=list(np.repeat(np.arange(60), 2))
    )
    once = prediction_powered_mean(ratings, scores)
    assert twice.interval == pytest.approx(once.interval)
    assert (twice.rated, twice.scored) == (once.rated, once.scored) == (20, 60)


def test_generators_may_be_rated_on_different_prompts():
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(100, 2))
    ratings = scores + rng.normal([1, 0], 0.5, (100, 2))
    ratings[:70, 0] = np.nan
    ratings[30:, 1] = np.nan
    estimate = prediction_powered_difference(ratings, scores, weight=0)
    first, second = ratings[70:, 0], ratings[:30, 1]
    assert estimate.interval.value == pytest.approx(first.mean() - second.mean())
    # The variance of independent samples, with the factor of 60 independent prompts.
    expected = (first.var() + second.var()) / 30 * 60 / 59
    assert estimate.error**2 == pytest.approx(expected)
    assert prediction_powered_difference(ratings, scores).error < estimate.error


def test_useless_and_constant_scores_leave_the_ratings():
    ratings = np.append(np.random.default_rng(6).normal(size=30), np.full(200, np.nan))
    constant = prediction_powered_mean(ratings, np.full(230, 0.1))
    assert constant.interval == constant.ratings_alone and constant.worth == 30
    missing = prediction_powered_mean(ratings, np.where(np.arange(230) < 30, 0.5, np.nan))
    assert missing.interval == constant.interval and missing.scored == 30


def test_few_or_equal_ratings_have_no_interval():
    scores = np.linspace(0, 1, 20)
    ratings = np.where(np.arange(20) < MIN_RATED - 1, scores, np.nan)
    few = prediction_powered_mean(ratings, scores)
    assert math.isnan(few.interval.low) and math.isnan(few.p) and few.worth is None
    assert few.ratings_alone.value == pytest.approx(np.nanmean(ratings))
    equal = prediction_powered_mean([3.0] * 10 + [None] * 10, scores, weight=0)
    assert equal.interval.value == 3 and math.isnan(equal.interval.high)


def test_intervals_hold_the_true_difference():
    """Ratings of 1 to 5 and a saturated scorer; the target is the mean over a large population."""
    rng = np.random.default_rng(8)

    def draw(n):
        quality = rng.normal(0, 1, (n, 1)) + rng.normal([0.3, 0.0], 0.7, (n, 2))
        ratings = np.clip(np.round(3 + quality + rng.normal(0, 0.5, (n, 2))), 1, 5)
        return ratings, 1 / (1 + np.exp(-4 * quality - 4))

    population, _ = draw(100_000)
    truth = float((population[:, 0] - population[:, 1]).mean())
    for rated in (30, 100):
        held = 0
        for _ in range(600):
            ratings, scores = draw(300)
            ratings[rated:] = np.nan
            interval = prediction_powered_difference(ratings, scores).interval
            held += interval.low <= truth <= interval.high
        assert held / 600 >= 0.93


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prediction_powered_mean([1, 2], [1.0]), r"shape \(2, 1\)"),
        (lambda: prediction_powered_mean([[1, 2]], [[1.0, 2]]), "one rating for each item"),
        (lambda: prediction_powered_mean([None, 2], [1.0, None]), "both a rating and a score"),
        (lambda: prediction_powered_mean([1, math.inf], [1.0, 2]), "infinite"),
        (lambda: prediction_powered_mean([1, 2], [1.0, 2], groups=["a"]), "1 groups for 2"),
        (lambda: prediction_powered_difference([1, 2], [1.0, 2]), "two columns"),
        (
            lambda: prediction_powered_difference([[1, None]] * 3, [[1.0, 2]] * 3),
            "both a rating and a score",
        ),
    ],
)
def test_what_cannot_be_estimated_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
