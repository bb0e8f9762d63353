"""Intervals against an analytic case, direct recomputation and bad input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers.resamples import OF_PAIRS, of_resample

from t2v_eval.errors import InputError
from t2v_eval.stats import bootstrap, metrics
from t2v_eval.stats.agreement_metrics import METRICS
from t2v_eval.stats.bootstrap import (
    BootstrapSamples,
    CrossValidated,
    agreement_statistic,
    bootstrap_difference,
    bootstrap_interval,
    cross_validated_accuracy,
)

pytestmark = pytest.mark.filterwarnings("error")


def mean_of(values: np.ndarray) -> Any:
    return lambda indices: {"mean": float(values[indices].mean())}


def test_interval_of_a_mean_is_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(size=400)
    result = bootstrap_interval(mean_of(values), 400, resamples=4000)["mean"]
    half = 1.96 * values.std() / 20
    assert result.value == values.mean()
    assert result.low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert result.high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_coverage() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        interval = bootstrap_interval(
            mean_of(rng.normal(size=60)), 60, resamples=200, confidence=0.9, seed=seed
        )["mean"]
        covered += interval.low <= 0 <= interval.high
    # Binomial(200, 0.9) lies within these limits with 99.9 %.
    assert 165 <= covered <= 194


@pytest.mark.parametrize("n", [2, 3, 10])
def test_a_resample_draws_every_unit_equally_often(n: int) -> None:
    draws: list[np.ndarray] = []
    bootstrap_interval(lambda i: draws.append(i) or {"n": len(i)}, n, resamples=2000)
    whole, *resamples = draws
    assert whole.tolist() == list(range(n)) and {len(r) for r in resamples} == {n}
    counts = np.bincount(np.concatenate(resamples), minlength=n)
    assert len(counts) == n
    # Each count is binomial; five deviations are reached once in a million.
    deviation = math.sqrt(2000 * n * (1 / n) * (1 - 1 / n))
    assert np.abs(counts - 2000).max() < 5 * deviation


def test_seed_decides() -> None:
    values = np.random.default_rng(2).normal(size=30)
    run = [bootstrap_interval(mean_of(values), 30, seed=seed) for seed in (3, 3, 4)]
    assert run[0] == run[1] != run[2]


def test_undefined_resamples_are_left_out() -> None:
    def statistic(indices: np.ndarray) -> dict[str, float]:
        rare = math.nan if (indices != 0).all() else 1.0
        common = math.nan if (indices == 0).all() else 2.0
        often = 3.0 if len(set(indices)) == len(indices) else math.nan
        return {"rare": rare, "common": common, "often": often, "never": math.nan}

    result = bootstrap_interval(statistic, 5)
    assert result["rare"] == (1.0, 1.0, 1.0)
    assert result["common"] == (2.0, 2.0, 2.0)
    # Defined on one resample in 26: too few to speak of an interval.
    assert result["often"].value == 3.0
    assert math.isnan(result["often"].low) and math.isnan(result["often"].high)
    assert all(map(math.isnan, result["never"]))


@pytest.mark.parametrize("n", [0, 1])
def test_no_interval_without_two_units(n: int) -> None:
    result = bootstrap_interval(lambda indices: {"n": float(len(indices))}, n)["n"]
    assert result.value == n
    assert math.isnan(result.low) and math.isnan(result.high)


def test_difference_is_paired() -> None:
    rng = np.random.default_rng(3)
    hard = rng.normal(size=100)
    first, other = hard + 0.1 + 0.01 * rng.normal(size=100), hard
    difference = bootstrap_difference(mean_of(first), mean_of(other), 100)["mean"]
    assert difference.value == pytest.approx((first - other).mean())
    assert 0.09 < difference.low < difference.value < difference.high < 0.11
    alone = [bootstrap_interval(mean_of(v), 100)["mean"] for v in (first, other)]
    assert alone[0].low < alone[1].high


def test_difference_of_a_scorer_with_itself_is_nothing() -> None:
    rng = np.random.default_rng(4)
    statistic = agreement_statistic(rng.normal(size=40), rng.integers(1, 6, 40))
    result = bootstrap_difference(statistic, statistic, 40, resamples=50)
    assert result.keys() == {"pearson", "spearman", "tau_b", "tau_c", "acc23"}
    assert all(interval == (0.0, 0.0, 0.0) for interval in result.values())


def sample(rows: int, items: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows * items)
    human = rng.integers(0, 2, (rows, items)).astype(float)
    scores = (human + rng.normal(size=human.shape)).round(1)
    scores[rng.random(scores.shape) < 0.1] = np.nan
    return scores, human


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("shape", ["items", "groups", "pooled"])
def test_agreement_statistic_recomputes_the_metrics(
    shape: str, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if held:
        monkeypatch.setattr(bootstrap, "_MAX_RECALIBRATED", 0)
    scores, human = sample(30, 4)
    if shape == "items":
        scores, human = scores.ravel(), human.ravel()
    statistic = agreement_statistic(scores, human, METRICS, pooled=shape == "pooled")

    def take(values: np.ndarray, indices: np.ndarray) -> np.ndarray:
        return values[indices].ravel() if shape == "pooled" else values[indices]

    rng = np.random.default_rng(0)
    everything = np.arange(len(scores))
    fitted = metrics.pairwise_accuracy(take(scores, everything), take(human, everything)).threshold
    draws = [everything] + [rng.integers(0, len(scores), len(scores)) for _ in range(20)]
    for indices in draws:
        s, h = take(scores, indices), take(human, indices)
        expected = {name: metric.compute(s, h) for name, metric in METRICS.items()}
        if held:
            expected["acc23"] = metrics.pairwise_accuracy(s, h, threshold=fitted).value
        if shape != "groups":
            copies = np.bincount(indices, minlength=len(scores)).repeat(scores[0].size)
            sides = scores.ravel(), human.ravel(), copies
            threshold = fitted if held else None
            expected |= {name: of_resample(name, *sides, threshold) for name in OF_PAIRS}
        assert statistic(indices) == pytest.approx(expected, abs=1e-12)


def test_agreement_statistic_of_nothing_is_nan() -> None:
    for scores, human in (([], []), ([None, 0.5], [1, None]), ([[0.1], [0.2]], [[1], [2]])):
        result = bootstrap_interval(agreement_statistic(scores, human, ["acc23"]), len(scores))
        assert all(map(math.isnan, result["acc23"]))


def test_a_held_threshold_gives_nearly_the_same_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    human = rng.integers(1, 6, 600).astype(float)
    scores = human + rng.normal(scale=2, size=600)
    intervals = []
    for limit in (1 << 20, 0):
        monkeypatch.setattr(bootstrap, "_MAX_RECALIBRATED", limit)
        statistic = agreement_statistic(scores, human, ["acc23"])
        intervals.append(bootstrap_interval(statistic, 600, resamples=300)["acc23"])
    width = intervals[0].high - intervals[0].low
    assert np.abs(np.subtract(*intervals)).max() < 0.1 * width


def test_bad_input() -> None:
    statistic = mean_of(np.arange(3.0))
    for options in ({"n": -1}, {"n": 2.5}, {"n": True}, {"n": 3, "resamples": 0}):
        with pytest.raises(InputError, match="whole number"):
            bootstrap_interval(statistic, **options)  # type: ignore[arg-type]
    for confidence in (0, 1, 95, math.nan):
        with pytest.raises(InputError, match=r"as 0\.95"):
            bootstrap_interval(statistic, 3, confidence=confidence)
    with pytest.raises(InputError, match="the same names"):
        bootstrap_interval(lambda i: {f"m{i[0]}": 1.0}, 3)
    with pytest.raises(InputError, match="compare the same ones"):
        bootstrap_difference(statistic, lambda i: {"other": 1.0}, 3)
    with pytest.raises(InputError, match="'tau': use pearson, spearman, tau_b"):
        agreement_statistic([1, 2], [1, 2], ["tau"])
    with pytest.raises(InputError, match=r"\(2,\)"):
        agreement_statistic([1, 2], [1, 2, 3])


def test_draws_of_other_samples_are_not_subtracted() -> None:
    values = np.random.default_rng(8).normal(size=6)
    samples = BootstrapSamples.compute(mean_of(values), 6, 20, 0)
    again = BootstrapSamples.compute(mean_of(values), 6, 20, 0).difference(samples)
    assert again.value == {"mean": 0.0} and not again.resampled["mean"].any()
    for n, resamples, seed in ((5, 20, 0), (6, 19, 0), (6, 20, 1)):
        with pytest.raises(InputError, match="one sample with one seed"):
            samples.difference(BootstrapSamples.compute(mean_of(values), n, resamples, seed))
    with pytest.raises(InputError, match="`resamples=0`: pass a whole number"):
        BootstrapSamples.compute(mean_of(values), 6, 0, 0)


def test_cross_validation_judges_with_thresholds_of_other_items() -> None:
    rng = np.random.default_rng(12)
    human = rng.integers(1, 5, 23).astype(float)
    scores = human + rng.normal(size=23)
    scores[4] = np.nan
    parts = CrossValidated(scores, human)._parts
    items = np.concatenate([own for own, _ in parts])
    assert sorted(items) == [n for n in range(23) if n != 4] and len(parts) == 5
    right = pairs = 0.0
    for own, _ in parts:
        others = np.setdiff1d(items, own)
        fitted = metrics.pairwise_accuracy(scores[others], human[others]).threshold
        judged = metrics.pairwise_accuracy(scores[own], human[own], threshold=fitted).value
        size = len(own) * (len(own) - 1) / 2
        right, pairs = right + judged * size, pairs + size
    assert cross_validated_accuracy(scores, human) == pytest.approx(right / pairs)
    # A resample that holds every item twice has the same pairs, and none of copies.
    assert CrossValidated(scores, human)(np.tile(np.arange(23), 2)) == pytest.approx(right / pairs)
    assert math.isnan(cross_validated_accuracy([1, 2, 3], [1, 2, 3]))


def test_fitted_thresholds_flatter_and_cross_validated_ones_do_not() -> None:
    rng = np.random.default_rng(13)
    fitted, validated, other = [], [], []
    for _ in range(150):
        human = rng.integers(1, 4, 120).astype(float)
        scores = human + 2 * rng.normal(size=120)
        few = metrics.pairwise_accuracy(scores[:20], human[:20])
        fitted.append(few.value)
        validated.append(cross_validated_accuracy(scores[:20], human[:20]))
        unseen = metrics.pairwise_accuracy(scores[20:], human[20:], threshold=few.threshold)
        other.append(unseen.value)
    error = np.std(np.subtract(validated, other)) / np.sqrt(150)
    assert np.mean(fitted) - np.mean(other) > 3 * error, "few items fit their own noise"
    assert abs(np.mean(validated) - np.mean(other)) < 3 * error
