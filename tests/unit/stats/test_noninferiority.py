"""Non-inferiority: the level holds, power is there, and p agrees with SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from t2v_eval.errors import InputError
from t2v_eval.stats.bootstrap import BootstrapSamples
from t2v_eval.stats.noninferiority import bootstrap_non_inferiority, paired_non_inferiority


@pytest.mark.parametrize("margin", [0.0, 0.01, 0.2])
def test_p_and_limits_are_those_of_a_t_test(margin):
    differences = np.random.default_rng(1).normal(-0.03, 0.2, 25)
    expected = stats.ttest_1samp(differences, -margin, alternative="greater")
    result = paired_non_inferiority(differences, margin, alpha=0.1)
    assert result.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert result.bound == pytest.approx(expected.confidence_interval(0.9).low, rel=1e-9)
    both = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert result.difference[1:] == (pytest.approx(both.low), pytest.approx(both.high))
    assert result.passed is (result.p < 0.1) is (result.bound > -margin)


def test_as_many_versions_pass_that_are_worse_by_the_margin_as_alpha_says():
    rng = np.random.default_rng(0)
    passed = {"normal": 0, "skewed": 0, "better": 0}
    for _ in range(2000):
        passed["normal"] += paired_non_inferiority(rng.normal(-0.1, 0.3, 30), 0.1).passed
        passed["skewed"] += paired_non_inferiority(-rng.exponential(0.1, 60), 0.1).passed
        passed["better"] += paired_non_inferiority(rng.normal(0.1, 0.3, 30), 0.1).passed
    assert 0.035 < passed["normal"] / 2000 < 0.065
    assert passed["skewed"] / 2000 < 0.1, "a few large losses among many small gains"
    assert passed["better"] / 2000 > 0.9


def test_clusters_are_kept_together():
    rng = np.random.default_rng(0)
    alone = clustered = 0
    units = np.repeat(np.arange(15), 4)
    for _ in range(1000):
        differences = np.repeat(rng.normal(-0.1, 0.3, 15), 4)  # four copies are one observation
        alone += paired_non_inferiority(differences, 0.1).passed
        clustered += paired_non_inferiority(differences, 0.1, units=units.tolist()).passed
    assert alone / 1000 > 0.12 and 0.03 < clustered / 1000 < 0.075
    once = rng.normal(0, 1, 15)
    one, four = (
        paired_non_inferiority(once, 0.1),
        paired_non_inferiority(np.repeat(once, 4), 0.1, units=units.tolist()),
    )
    assert four.p == pytest.approx(one.p) and four.units == one.units == 15


def test_what_does_not_vary_is_decided_by_its_value():
    assert paired_non_inferiority([0.0] * 5, 0.0).p == 1.0, "on the limit, as stats.ttest says"
    assert paired_non_inferiority([1e-3] * 5, 0.0).passed
    assert paired_non_inferiority([0.0] * 5, 0.01).p == 0.0, "the same images, scored again"
    assert not paired_non_inferiority([-0.01] * 3, 0.01).passed
    assert not paired_non_inferiority([0.1 - 0.3 + 0.1] * 3, 0.1).passed, "but for rounding"
    assert not paired_non_inferiority([-0.02] * 3, 0.01).passed


@pytest.mark.parametrize(
    ("values", "margin", "alpha", "message"),
    [
        ([0.1], 0.01, 0.05, "1 independent item"),
        ([0.1, math.nan], 0.01, 0.05, "missing values"),
        ([0.1, 0.2], -0.01, 0.05, "margin=-0.01"),
        ([0.1, 0.2], math.nan, 0.05, "margin=nan"),
        ([0.1, 0.2], 0.01, 5, "alpha=5"),
    ],
)
def test_what_cannot_be_tested_is_refused(values, margin, alpha, message):
    with pytest.raises(InputError, match=message):
        paired_non_inferiority(values, margin, alpha)


def samples_of(values, resamples=999):
    values = np.asarray(values, float)
    return BootstrapSamples.compute(lambda i: {"mean": values[i].mean()}, len(values), resamples, 0)


def test_the_bootstrap_agrees_with_the_t_test_of_a_mean():
    rng = np.random.default_rng(3)
    baseline = rng.normal(0, 1, 200)
    new = baseline + rng.normal(-0.02, 0.2, 200)
    result = bootstrap_non_inferiority(samples_of(new), samples_of(baseline), "mean", 0.04)
    expected = paired_non_inferiority(new - baseline, 0.04)
    assert result.difference.value == pytest.approx(expected.difference.value)
    assert result.p == pytest.approx(expected.p, abs=0.02)
    assert result.bound == pytest.approx(expected.bound, abs=0.003)
    assert result.units == 200


def test_bound_and_p_of_the_bootstrap_say_the_same():
    rng = np.random.default_rng(4)
    for _ in range(50):
        baseline = rng.normal(0, 1, 20)
        new = baseline + rng.normal(-0.1, 0.5, 20)
        margin = float(rng.uniform(0, 0.6))
        samples = samples_of(new, 99), samples_of(baseline, 99)
        result = bootstrap_non_inferiority(*samples, "mean", margin)
        assert result.passed is (result.bound > -margin)
    same = samples_of(baseline)
    assert bootstrap_non_inferiority(same, same, "mean", 0.01).p == pytest.approx(1 / 1000)


def test_what_lies_on_the_limit_does_not_pass_the_bootstrap():
    baseline = samples_of([0.2, 0.4, 0.9, 0.1])
    result = bootstrap_non_inferiority(baseline, baseline, "mean", 0.0)
    assert result.p == 1.0 and not result.passed
    lower = samples_of([0.1, 0.3, 0.8, 0.0])
    assert not bootstrap_non_inferiority(lower, baseline, "mean", 0.1).passed
    assert bootstrap_non_inferiority(lower, baseline, "mean", 0.11).passed


def test_resamples_that_cannot_show_alpha_are_refused():
    few = samples_of([0.1, 0.2, 0.3], 10)
    with pytest.raises(InputError, match="10 resamples cannot show .* 20 resamples or more"):
        bootstrap_non_inferiority(few, few, "mean", 0.1)
    nothing = samples_of([math.nan] * 3)
    with pytest.raises(InputError, match="mean is undefined"):
        bootstrap_non_inferiority(nothing, nothing, "mean", 0.1)
