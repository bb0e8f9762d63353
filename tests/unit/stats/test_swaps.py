"""Differences after swaps that are computed together: those of the metrics of each swap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from t2v_eval.stats import paired, permutation
from t2v_eval.stats.metrics import FloatArray
from t2v_eval.stats.paired import paired_agreement_statistic
from t2v_eval.stats.permutation import paired_permutation

ORDINAL = ["pearson", "spearman", "tau_b", "tau_c", "acc23", "acc_strict", "acc_ignore"]


def scorers(n: int, digits: int, levels: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return scores of two scorers, rounded, and ratings of so many levels (0: none is tied)."""
    rng = np.random.default_rng(7)
    quality = rng.normal(size=n)
    a, b = ((quality + rng.normal(scale=s, size=n)).round(digits) for s in (1.0, 1.1))
    ratings = quality + rng.normal(scale=0.5, size=n)
    return a, b, np.digitize(ratings, np.linspace(-2, 2, levels - 1)) if levels else ratings


def one_by_one(statistic, swapped: np.ndarray) -> dict[str, np.ndarray]:
    """Return the differences after each swap from the metrics of the exchanged scores."""
    n = swapped.shape[1]
    first = np.arange(n)
    rows = []
    for swap in swapped:
        index = np.where(swap, first + n, first)
        a, b = statistic(index), statistic((index + n) % (2 * n))
        rows.append({name: a[name] - b[name] for name in a})
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize(("digits", "levels"), [(9, 5), (9, 0), (4, 13)])
def test_they_are_those_of_each_swap(digits, levels):
    a, b, human = scorers(600, digits, levels)
    statistic = paired_agreement_statistic(a, b, human, ORDINAL)
    swapped = np.random.default_rng(0).random((12, 600)) < 0.5
    expected = one_by_one(statistic, swapped)
    actual = statistic.differences(swapped)
    for name in ORDINAL:
        # Where scores are tied, tau-b and rho are exact up to a millionth of their spread.
        assert actual[name] == pytest.approx(expected[name], abs=1e-6 * expected[name].std())
    whole = one_by_one(statistic, np.zeros((1, 600), bool))
    assert statistic.observed() == pytest.approx({n: v[0] for n, v in whole.items()}, abs=1e-12)


def test_without_a_swap_they_are_the_differences_that_scipy_computes():
    a, b, human = scorers(600, 4, 5)
    observed = paired_agreement_statistic(a, b, human, ORDINAL).observed()
    expected = {
        "pearson": stats.pearsonr(a, human)[0] - stats.pearsonr(b, human)[0],
        "spearman": stats.spearmanr(a, human)[0] - stats.spearmanr(b, human)[0],
        "tau_b": stats.kendalltau(a, human)[0] - stats.kendalltau(b, human)[0],
        "tau_c": stats.kendalltau(a, human, variant="c")[0]
        - stats.kendalltau(b, human, variant="c")[0],
    }
    assert {name: observed[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_items_of_a_row_are_swapped_together_and_missing_ones_are_left_out():
    a, b, human = (side.reshape(-1, 3).astype(float) for side in scorers(1500, 9, 5))
    a[3, 1], b[7, 0], human[9, 2] = np.nan, np.nan, np.nan
    statistic = paired_agreement_statistic(a, b, human, ORDINAL, pooled=True)
    swapped = np.random.default_rng(0).random((6, 500)) < 0.5
    for name, expected in one_by_one(statistic, swapped).items():
        assert statistic.differences(swapped)[name] == pytest.approx(expected, abs=1e-12)


def test_labels():
    a, b, human = scorers(600, 9, 0)
    statistic = paired_agreement_statistic(a, b, (human > 0.3).astype(float), ["auroc"])
    swapped = np.random.default_rng(0).random((6, 600)) < 0.5
    expected = one_by_one(statistic, swapped)["auroc"]
    assert statistic.differences(swapped)["auroc"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("n", "digits", "names"),
    [(200, 9, ["tau_b"]), (600, 0, ["tau_b"]), (600, 9, ["average_precision"])],
    ids=["few items", "many ties", "a metric of another kind"],
)
def test_others_are_computed_swap_by_swap(n, digits, names):
    a, b, human = scorers(n, digits, 2)
    assert not hasattr(paired_agreement_statistic(a, b, human, names), "differences")


def test_p_values_are_those_of_a_test_swap_by_swap(monkeypatch):
    a, b, human = scorers(600, 9, 5)
    names = ["pearson", "spearman", "tau_b"]
    together = paired_permutation(paired_agreement_statistic(a, b, human, names), 600)
    monkeypatch.setattr(paired, "LEAST", 601)
    statistic = paired_agreement_statistic(a, b, human, names)
    assert not hasattr(statistic, "differences")
    assert together == pytest.approx(paired_permutation(statistic, 600), abs=1e-9)


def test_a_test_stops_early_after_the_same_number_of_swaps():
    assert permutation.EARLY_LOOK % permutation._BATCH == 0
    calls = []

    class Null:
        def observed(self):
            return {"m": 0.1}

        def differences(self, swapped):
            calls.append(len(swapped))
            return {"m": np.ones(len(swapped))}

    assert paired_permutation(Null(), 600)["m"] == 1.0
    assert sum(calls) == permutation.EARLY_LOOK
