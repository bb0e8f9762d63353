"""Limits against those of scipy and formulas written out; they enclose the value."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from t2v_eval.stats.agreement_metrics import METRICS
from t2v_eval.stats.bootstrap import agreement_statistic, bootstrap_difference, bootstrap_interval
from t2v_eval.stats.intervals import Estimate, limits, of_clusters, percentile, share_of, wilson


@pytest.mark.parametrize("right", range(0, 31, 5))
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_against_scipy(right: int, confidence: float) -> None:
    expected = stats.binomtest(right, 30).proportion_ci(confidence, "wilson")
    assert wilson(right / 30, 30, confidence) == pytest.approx(tuple(expected))
    actual = limits(right / 30, np.zeros(9), 30, confidence, kind="share", trials=30)
    assert actual == pytest.approx(tuple(expected))


@pytest.mark.parametrize("n", [2, 7, 400])
def test_clusters_that_are_all_alike(n: int) -> None:
    for value in (0.0, 1.0):
        expected = stats.binomtest(round(value * n), n).proportion_ci(0.95, "exact")
        actual = limits(value, np.full(9, value), n, kind="share")
        assert actual == pytest.approx(tuple(expected))


@pytest.mark.parametrize("n", [5, 30])
def test_expanded_percentiles_of_a_mean_are_a_t_interval(n: int) -> None:
    values = stats.norm.ppf((np.arange(n) + 0.5) / n)
    interval = bootstrap_interval(lambda i: {"mean": float(values[i].mean())}, n, resamples=20_000)[
        "mean"
    ]
    half = stats.t.ppf(0.975, n - 1) * stats.sem(values)
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.1 if n == 5 else 0.03)
    plain = percentile(np.arange(1001.0), n, expanded=False)
    assert plain == pytest.approx((25, 975))


def test_correlations_are_intervals_of_z() -> None:
    z = np.random.default_rng(1).normal(np.arctanh(0.6), 0.1, 100_000)
    low, high = limits(0.6, np.tanh(z), 30, kind="correlation")
    half = 0.1 * stats.t.ppf(0.975, 29) * math.sqrt(30 / 29)
    assert [low, high] == pytest.approx(
        np.tanh(np.arctanh(0.6) + np.array([-half, half])), abs=0.003
    )
    # Where z has no bounds, quantiles have.
    for value, resampled in ((1.0, np.ones(99)), (0.9, np.repeat([0.7, 1.0], 50))):
        low, high = limits(value, resampled, 4, kind="correlation")
        assert (low, high) == (resampled.min(), resampled.max())


@settings(max_examples=200, deadline=None)
@given(
    st.floats(-1, 1),
    st.lists(st.floats(-1, 1), min_size=1, max_size=20),
    st.integers(2, 50),
    st.sampled_from(["percentile", "pairs", "correlation", "share"]),
    st.integers(0, 50),
)
def test_limits_enclose_the_value(value, resampled, n, kind, trials) -> None:
    value = abs(value) if kind == "share" else value
    low, high = limits(value, np.array(resampled), n, kind=kind, trials=trials)
    assert low <= value <= high


def test_scores_that_are_ratings_or_their_opposite() -> None:
    # Counted as pairs, copies would be tied in both: from 0.02 on where no pair is right.
    human = np.random.default_rng(3).normal(size=30)
    labels = (human > 0).astype(float)
    for sign in (1, -1):
        of = {name: labels if m.needs_labels else human for name, m in METRICS.items()}
        for name, rated in of.items():
            scores = sign * rated + 1e-9 * human * METRICS[name].needs_labels
            statistic = agreement_statistic(scores, rated, [name])
            interval = bootstrap_interval(statistic, 30)[name]
            assert interval.low <= interval.value <= interval.high, name
            if name.startswith(("tau", "acc")):
                assert interval.low == interval.high == pytest.approx(interval.value), name


@pytest.mark.parametrize("n", [2, 3, 5, 12])
def test_small_samples_enclose_their_values(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(20):
        human, scores = rng.integers(0, 2, n).astype(float), rng.integers(0, 3, (2, n))
        pair = [agreement_statistic(side, human, METRICS) for side in scores]
        intervals = [*bootstrap_interval(pair[0], n, resamples=40).items()]
        intervals += bootstrap_difference(*pair, n, resamples=40).items()
        for name, (value, low, high) in intervals:
            assert math.isnan(value + low) or low <= value <= high, name


def test_kinds() -> None:
    right = share_of(np.array([1.0, 0.0, np.nan, 1.0]))
    assert (right, right.kind, right.trials) == (2 / 3, "share", 3)
    assert share_of(np.array([1.0, 0.5])).trials == 0, "a trial is right or wrong"
    assert math.isnan(share_of(np.full(2, np.nan)))
    clusters = of_clusters({"a": right, "b": Estimate(0.1, "pairs"), "c": 0.5})
    assert [clusters["a"].trials, clusters["b"].kind, type(clusters["c"])] == [
        0, "percentile", float,
    ]  # fmt: skip
