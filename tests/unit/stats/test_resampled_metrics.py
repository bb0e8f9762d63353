"""Metrics of resamples: those of the items written out, by scipy, or of their pairs, listed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.resamples import of_resample
from hypothesis import given, settings
from hypothesis import strategies as st

from t2v_eval.errors import InputError
from t2v_eval.stats import metrics
from t2v_eval.stats.agreement_metrics import METRICS, WeightedAgreement

ORDINAL = sorted(METRICS.keys() - {"acc23", "auroc", "average_precision"})
# Of numbers so small that their squares are 0, a sample may hold nothing else.
FLOATS = st.floats(-5, 5).map(lambda x: round(x, 9))
SCORES = st.one_of(st.just(math.nan), st.integers(-3, 3).map(lambda k: k * 0.1), FLOATS)
HUMAN = st.one_of(st.just(math.nan), st.integers(1, 5).map(float), FLOATS)


@st.composite
def samples(draw: st.DrawFn, human: st.SearchStrategy[float]) -> tuple[np.ndarray, ...]:
    n = draw(st.integers(2, 14))
    sides = [np.array(draw(st.lists(of, min_size=n, max_size=n))) for of in (SCORES, human)]
    copies = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    return (*sides, np.array(copies))


def written_out(s: np.ndarray, h: np.ndarray, copies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(s, copies), np.repeat(h, copies)


def is_whole(s: np.ndarray, h: np.ndarray) -> bool:
    """Whether the sample that items are drawn from has any pair at all."""
    return int((~np.isnan(s + h)).sum()) >= 2


@settings(max_examples=100, deadline=None)
@given(samples(HUMAN), st.floats(0, 2))
def test_they_are_the_metrics_of_the_copies(sample: tuple, threshold: float) -> None:
    s, h, copies = sample
    if not is_whole(s, h):
        return
    actual = WeightedAgreement(s, h, [*ORDINAL, "acc23"], threshold)(copies.astype(float))
    if np.nansum(copies[~np.isnan(s + h)]) < 2:
        assert all(map(math.isnan, actual.values()))
        return
    expected = {name: of_resample(name, s, h, copies, threshold) for name in [*ORDINAL, "acc23"]}
    assert actual == pytest.approx(expected, abs=1e-9, nan_ok=True)


@settings(max_examples=100, deadline=None)
@given(samples(st.sampled_from([0.0, 1.0, math.nan])))
def test_labels(sample: tuple) -> None:
    s, h, copies = sample
    if not is_whole(s, h):
        return
    result = WeightedAgreement(s, h, ["auroc", "average_precision"])(copies.astype(float))
    drawn = written_out(s, h, copies)
    assert result["auroc"] == pytest.approx(metrics.auroc(*drawn), abs=1e-9, nan_ok=True)
    precision = metrics.average_precision(*drawn)
    assert result["average_precision"] == pytest.approx(precision, abs=1e-9, nan_ok=True)


def test_thousands_of_items_with_many_human_values() -> None:
    rng = np.random.default_rng(0)
    h = rng.normal(size=3000)
    s = np.exp(h + rng.normal(size=3000)).round(2)
    of = WeightedAgreement(s, h, [*ORDINAL, "acc23"], 0.05)
    for _ in range(2):
        copies = np.bincount(rng.integers(0, 3000, 3000), minlength=3000)
        sample = written_out(s, h, copies)
        expected = {name: METRICS[name].compute(*sample) for name in ORDINAL}
        expected["acc23"] = metrics.pairwise_accuracy(*sample, threshold=0.05).value
        # Of these, the pairs of copies, which are tied in both, are left out.
        every, same = 3000 * 2999, float(copies @ (copies - 1))
        for name in ("acc23", "acc_strict"):
            expected[name] = (expected[name] * every - same) / (every - same)
        seen, classes = (min(len(np.unique(x)) for x in sides) for sides in (sample, (s, h)))
        as_seen = expected["tau_c"] * (seen - 1) / seen
        expected["tau_c"] = as_seen * classes / (classes - 1) * every / (every - same)
        assert of(copies.astype(float)) == pytest.approx(expected, abs=1e-9)


def test_perfect_is_one_and_extremes_are_numbers() -> None:
    h = np.array([1.0, 2.0, 2.0, 7.0, 3.0])
    once = WeightedAgreement(h, h, ORDINAL)(np.ones(5))
    assert {once[name] for name in ("pearson", "spearman", "tau_b", "acc_ignore")} == {1.0}
    huge = WeightedAgreement(np.array([-1.7e308, 1e-320, 1.7e308]), h[[0, 1, 4]], ORDINAL)(
        np.ones(3)
    )
    assert huge["pearson"] == pytest.approx(1) and huge["tau_b"] == 1
    flat = WeightedAgreement(np.full(3, 0.3), h[:3], ORDINAL)(np.ones(3))
    assert all(math.isnan(flat[name]) for name in ("pearson", "spearman", "tau_b", "tau_c"))
    with pytest.raises(InputError, match="labels 0 and 1"):
        WeightedAgreement(h, h, ["auroc"])


@pytest.mark.filterwarnings("ignore:An input array is nearly constant")
@pytest.mark.parametrize(("spread", "rounding"), [(1e-9, 1e-6), (1e-14, 1e-3)])
def test_pearson_of_scores_that_hardly_vary(spread: float, rounding: float) -> None:
    """As `metrics.pearson`, which takes what varies by its rounding alone for constant."""
    rng = np.random.default_rng(0)
    human = rng.integers(1, 6, 300).astype(float)
    scores = 0.7 + spread * (human + rng.normal(size=300))
    copies = rng.integers(0, 3, 300)
    actual = WeightedAgreement(scores, human, ["pearson"])(copies)
    assert actual["pearson"] == pytest.approx(
        metrics.pearson(*written_out(scores, human, copies)), abs=rounding, nan_ok=True
    )


def test_pearson_of_a_resample_that_varies_less_than_its_sample() -> None:
    human = np.append(np.arange(40.0), 0.0)
    scores = np.append(1e-6 * np.sin(np.arange(40.0)), 1e6)
    copies = np.append(np.ones(40, int), 0)
    actual = WeightedAgreement(scores, human, ["pearson"])(copies)
    assert actual["pearson"] == pytest.approx(metrics.pearson(scores[:-1], human[:-1]), abs=1e-6)
