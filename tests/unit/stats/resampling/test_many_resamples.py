"""Metrics of many resamples together: by scipy, of items written out, and by all pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from t2v_eval.evaluation.rating_tables.observations import Averaging, Observations
from t2v_eval.evaluation.rating_tables.statistic import statistic_of
from t2v_eval.stats.agreement_metrics import WeightedAgreement
from t2v_eval.stats.bootstrap import BootstrapSamples, TogetherStatistic
from t2v_eval.stats.intervals import limits
from t2v_eval.stats.paired import paired_agreement_statistic
from t2v_eval.stats.permutation import paired_permutation
from t2v_eval.stats.resampling import draws
from t2v_eval.stats.resampling.products import CopiesTable

NAMES = ["pearson", "spearman", "tau_b", "tau_c", "acc23", "acc_strict", "acc_ignore"]


def by_all_pairs(s: np.ndarray, h: np.ndarray, copies: np.ndarray, threshold: float) -> dict:
    """Compute the metrics from a matrix of all pairs and from items written out."""
    present = ~np.isnan(s + h)
    s, h, weight = s[present], h[present], copies[present].astype(np.int64)
    pair = np.triu(np.outer(weight, weight), 1)
    near = np.abs(s[:, None] - s) <= threshold
    score, human = (np.sign(side[:, None] - side) for side in (s, h))
    total, product = pair.sum(), (pair * score * human).sum()
    untied = [(pair * (side != 0)).sum() for side in (score, human)]
    classes = min(len(np.unique(side)) for side in (s, h))
    repeated = np.repeat(s, weight), np.repeat(h, weight)
    n = len(repeated[0])
    return {
        "pearson": np.corrcoef(*repeated)[0, 1],
        "spearman": stats.spearmanr(*repeated)[0],
        "tau_b": product / math.sqrt(float(untied[0]) * float(untied[1])),
        "tau_c": product * (n - 1) * classes / (total * n * (classes - 1)),
        "acc23": (pair * np.where(near, human == 0, score * human == 1)).sum() / total,
        "acc_strict": (pair * (score == human)).sum() / total,
        "acc_ignore": (pair * (score * human == 1)).sum() / untied[1],
    }


# Of 64 rows a product, and of 64 values a digit of a rank: one and several of each. Of scores and
# of ratings, all, many, few or none are tied.
@pytest.mark.parametrize("n", [40, 129, 500])
@pytest.mark.parametrize(
    ("levels", "digits"),
    [(5, 9), (5, 1), (64, 9), (65, 2), (0, 9), (0, 1), (0, 2), (450, 9), (450, 2)],
)
@pytest.mark.parametrize("threshold", [0.0, 0.25, 9.0])
def test_they_are_those_of_all_pairs(n: int, levels: int, digits: int, threshold: float) -> None:
    rng = np.random.default_rng([n, levels, digits])
    h = rng.normal(size=n)
    s = (h + rng.normal(size=n)).round(digits)
    if levels:
        h = np.argsort(np.argsort(h)) * levels // n / 1.0
    s[rng.random(n) < 0.05] = np.nan
    copies = np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(3)], axis=1)
    copies[:, 2] *= 9
    metrics_of = WeightedAgreement(s, h, NAMES, threshold)
    actual = metrics_of.together(copies.astype(np.uint8))
    for k, of_resample in enumerate(copies.T):
        expected = by_all_pairs(s, h, of_resample, threshold)
        assert {name: actual[name][k] for name in expected} == pytest.approx(expected, abs=1e-11)
        alone = metrics_of(of_resample)
        # Sums of real numbers alone have another order.
        assert {name: actual[name][k] for name in NAMES[1:]} == {n: alone[n] for n in NAMES[1:]}
        assert actual["pearson"][k] == pytest.approx(alone["pearson"], abs=1e-14)


def test_more_copies_than_float32_counts_are_exact() -> None:
    h = np.arange(500) % 3.0
    s = np.random.default_rng(0).permutation(500) * 1.0
    copies = np.full((500, 1), 60_000)
    assert CopiesTable(copies).dtype == np.float64
    names = ["tau_b", "spearman", "acc_strict"]
    many = WeightedAgreement(s, h, names).together(copies)
    once = WeightedAgreement(s, h, names)(np.ones(500))
    expected = {name: pytest.approx(once[name], rel=1e-9) for name in names[:2]}
    assert {name: many[name][0] for name in expected} == expected
    assert many["acc_strict"][0] == pytest.approx(once["acc_strict"], rel=1e-12)


def test_resamples_without_pairs_are_undefined() -> None:
    s, h = np.array([0.1, 0.2, math.nan, 0.3]), np.array([1.0, 1.0, 2.0, 0.0])
    copies = np.array([[0, 1, 2], [0, 0, 2], [4, 2, 0], [0, 1, 0]], np.uint8)
    values = WeightedAgreement(s, h, ["tau_b"]).together(copies)["tau_b"]
    assert math.isnan(values[0]) and values[1] == -1 and math.isnan(values[2])


def test_draws_are_those_of_one_resample_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "_TOGETHER", 1)
    monkeypatch.setattr(draws, "_LEAST_TOGETHER", 4)
    copies = np.concatenate(draws.drawn_copies(7, 10, 3), axis=1)
    rng = np.random.default_rng(3)
    assert copies.T.tolist() == [
        np.bincount(rng.integers(0, 7, 7), minlength=7).tolist() for _ in range(10)
    ]


def test_only_the_last_draws_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = draws._CopiesCache()
    monkeypatch.setattr(draws, "_CACHE_BYTES", 250)
    first = cache.get(10, 10, 0)
    cache.get(10, 10, 1)
    assert cache.get(10, 10, 0) is first
    other = cache.get(10, 10, 2)
    assert cache.get(10, 10, 0) is first and cache.get(10, 10, 2) is other
    assert len(cache.get(100, 10, 0)[0]) == 100 and cache.get(10, 10, 0) is not first


@pytest.mark.parametrize("constant", ["skip", "zero"])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("levels", [5, 2])
def test_tables_are_resampled_together_as_one_by_one(
    levels: int, grouped: bool, constant: str
) -> None:
    rng = np.random.default_rng(levels)
    h = rng.integers(0, levels, (60, 2)).astype(float)
    s = np.where(rng.random(60) < 0.1, np.nan, h[:, 0] + rng.integers(0, 4, 60))
    tags = {"x": rng.random(60) < 0.6, "y": rng.random(60) < 0.6}
    group = rng.permutation(60) // 4 if grouped else None
    rows = Observations.of_rows(s, h, group, rng.integers(0, 3, 60), None, tags)
    names = ["srcc", "pearson", "tau_c", "acc23", "accuracy"]
    statistic = statistic_of(rows, names, Averaging(constant_groups=constant))
    assert isinstance(statistic, TogetherStatistic)
    together, alone = (
        BootstrapSamples.compute(of, rows.units, 12, 0)
        for of in (statistic, lambda i: statistic(i))
    )
    assert [*together.value] == [*alone.value]
    for name, values in alone.resampled.items():
        np.testing.assert_allclose(together.resampled[name], values, atol=1e-12)
    # A fit depends on the order of its items.
    assert not isinstance(statistic_of(rows, ["plcc_logistic4"]), TogetherStatistic)


@pytest.mark.parametrize("n", [8, 600])
def test_swaps_are_made_together_as_one_by_one(n: int) -> None:
    rng = np.random.default_rng(n)
    h = rng.integers(0, 5, (n, 2)).astype(float)
    first, second = (h + rng.integers(0, 3, h.shape) for _ in range(2))
    statistic = paired_agreement_statistic(first, second, h, NAMES[:4], pooled=True)
    assert isinstance(statistic, TogetherStatistic) and not hasattr(statistic, "differences")
    alone = paired_permutation(lambda i: statistic(i), n, permutations=150)
    assert paired_permutation(statistic, n, permutations=150) == pytest.approx(alone, abs=1e-12)


def test_a_correlation_of_one_up_to_rounding_has_the_limits_of_one() -> None:
    resampled = np.repeat([1 / 3, 0.5, 1.0], 20)
    rounded = np.where(resampled == 1, np.nextafter(1.0, 0.0), resampled)
    exact, near = (limits(0.5, of, 4, kind="correlation") for of in (resampled, rounded))
    assert near == pytest.approx(exact, abs=1e-12)
