"""What a paired test exchanges: every exchange with scipy, and scales that do not matter."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from t2v_eval.errors import InputError
from t2v_eval.stats.agreement_metrics import METRICS
from t2v_eval.stats.bootstrap import agreement_statistic
from t2v_eval.stats.paired import (
    is_by_order,
    mean_ranks,
    paired_agreement_statistic,
    standardize,
)
from t2v_eval.stats.permutation import paired_permutation

UNRESTRICTED = ("pearson", "spearman", "tau_b", "tau_c", "acc23", "acc_strict", "acc_ignore")
BY_ORDER = [name for name, metric in METRICS.items() if metric.by_order]


def rated(n, seed, labels=False):
    rng = np.random.default_rng(seed)
    human = rng.integers(0, 2 if labels else 5, n).astype(float)
    first = human + rng.normal(size=n)
    second = (human + 2 * rng.normal(size=n)).round(1)
    return first, second, human


def p_values(first, second, human, names, **options):
    n = len(human)
    statistic = paired_agreement_statistic(first, second, human, names, **options)
    return paired_permutation(statistic, n, permutations=300)


ORACLES = {
    "spearman": lambda s, h: stats.spearmanr(s, h).statistic,
    "tau_b": lambda s, h: stats.kendalltau(s, h).statistic,
    "tau_c": lambda s, h: stats.kendalltau(s, h, variant="c").statistic,
    "auroc": lambda s, h: roc_auc_score(h, s),
    "average_precision": lambda s, h: average_precision_score(h, s),
}


@pytest.mark.parametrize("name", ORACLES)
def test_ranks_against_every_exchange(name):
    first, second, human = rated(8, 3, labels=name in ("auroc", "average_precision"))
    ranks, others = stats.rankdata(first), stats.rankdata(second)

    def apart(swap):
        sides = np.where(swap, others, ranks), np.where(swap, ranks, others)
        return abs(ORACLES[name](sides[0], human) - ORACLES[name](sides[1], human))

    every = np.array([apart(np.array(s)) for s in itertools.product((False, True), repeat=8)])
    expected = np.mean(every >= every[0] - 1e-9)
    assert p_values(first, second, human, [name])[name] == pytest.approx(expected)


def test_pearson_exchanges_standardised_scores():
    first, second, human = rated(8, 4)
    zscores, others = stats.zscore(first), stats.zscore(second)

    def apart(swap):
        sides = np.where(swap, others, zscores), np.where(swap, zscores, others)
        return abs(np.subtract(*(stats.pearsonr(side, human).statistic for side in sides)))

    every = np.array([apart(np.array(s)) for s in itertools.product((False, True), repeat=8)])
    expected = np.mean(every >= every[0] - 1e-9)
    assert p_values(first, second, human, ["pearson"])["pearson"] == pytest.approx(expected)


@pytest.mark.parametrize(
    "transform", [np.exp, np.cbrt, lambda x: stats.norm.cdf(x / 2), lambda x: 3 * x - 7]
)
@pytest.mark.parametrize("shape", ["items", "groups", "pooled"])
def test_no_increasing_transformation_changes_p(transform, shape):
    first, second, human = rated(60, 5, labels=True)
    names = BY_ORDER
    if shape != "items":
        first, second, human = (side.reshape(15, 4) for side in (first, second, human))
    options = {"pooled": shape == "pooled"}
    once = p_values(first, second, human, names, **options)
    assert once == p_values(transform(first), second, human, names, **options)
    assert once == p_values(first, transform(second), human, names, **options)
    assert all(0 < p <= 1 for p in once.values()) and min(once.values()) < 0.5


def test_tie_calibration_is_of_order_where_people_tie_nothing():
    rng = np.random.default_rng(6)
    human = rng.permutation(40).astype(float)
    first, second = human + 9 * rng.normal(size=40), human + 20 * rng.normal(size=40)
    once = p_values(first, second, human, ["acc23", "acc_strict"])
    assert once == p_values(np.exp(first / 9), second, human, ["acc23", "acc_strict"])
    assert once["acc23"] == once["acc_strict"], "its threshold is 0"
    # With ties of people the threshold is a distance, which a linear transformation keeps.
    human = human // 8
    once = p_values(first, second, human, ["acc23"])["acc23"]
    assert once == pytest.approx(p_values(4 * first + 1, second, human, ["acc23"])["acc23"])


def test_ties_of_other_groups_do_not_matter():
    rows = np.array([[1.0, 2.0], [1.0, np.nan]])
    assert is_by_order("acc23", rows, pooled=False) and not is_by_order("acc23", rows, pooled=True)
    assert not is_by_order("pearson", rows, pooled=True)
    assert not is_by_order("of a user", rows, pooled=True)


def test_values_are_those_of_the_scores():
    first, second, human = rated(50, 7, labels=True)
    first[3], second[9] = np.nan, np.nan
    both = ~np.isnan(first + second)
    statistic = paired_agreement_statistic(first, second, human, METRICS)
    for start, side in ((0, first), (50, second)):
        values = statistic(np.arange(50) + start)
        for name in ORACLES:
            assert values[name] == pytest.approx(ORACLES[name](side[both], human[both])), name
        # Equal differences of scores may differ by their rounding once they are standardised.
        expected = METRICS["acc23"].compute(side[both], human[both])
        assert values["acc23"] == pytest.approx(expected, abs=0.01)


def test_ranks_and_standard_scores_of_odd_samples():
    values = np.array([[3.0, np.nan], [1.0, 3.0]])
    assert mean_ranks(values)[~np.isnan(values)].tolist() == [2.5, 1.0, 2.5]
    assert stats.zscore([1.0, 4.0, 4.0]) == pytest.approx(standardize(np.array([1.0, 4.0, 4.0])))
    for odd in (np.empty((0, 2)), np.full(3, np.nan)):
        assert mean_ranks(odd).shape == standardize(odd).shape == odd.shape
    assert not standardize(np.full(3, 7.0)).any()
    with pytest.raises(InputError, match="one score for each"):
        paired_agreement_statistic([1, 2], [1, 2, 3], [1, 2, 3])


def test_a_constant_scorer_has_no_correlation():
    first, _, human = rated(20, 8)
    p = p_values(first, np.full(20, 0.5), human, ["tau_b", "acc_strict"])
    assert math.isnan(p["tau_b"]) and 0 < p["acc_strict"] <= 1


@pytest.mark.parametrize("digits", [0, 1, 9], ids=["most tied", "some tied", "none tied"])
@pytest.mark.parametrize("n", [6, 40, 700])
def test_scorers_with_equal_scores_do_not_differ(n, digits):
    """However swaps are computed, the order of sums is no difference."""
    rng = np.random.default_rng(n)
    human = rng.normal(size=n).round(digits)
    scores = (human + rng.normal(size=n)).round(digits)
    assert set(p_values(scores, scores, human, UNRESTRICTED).values()) == {1.0}
    twice = np.append(scores, scores), np.append(human, human)
    of_scores = agreement_statistic(*twice, UNRESTRICTED)
    assert set(paired_permutation(of_scores, n, permutations=300).values()) == {1.0}


@pytest.mark.parametrize("transform", [lambda x: 3 * x + 1, lambda x: x / 10, lambda x: x * 1e200])
@pytest.mark.parametrize("n", [6, 40, 513, 700])
def test_scorers_on_two_scales_do_not_differ(n, transform):
    """However swaps are computed, the rounding of standardised scores is no difference."""
    rng = np.random.default_rng(n)
    for _ in range(8):
        scores = rng.normal(size=n)
        human = scores + rng.normal(size=n)
        assert p_values(scores, transform(scores), human, ["pearson"]) == {"pearson": 1.0}


def test_scorers_that_hardly_differ_against_every_exchange():
    """Swaps that bring the same difference are counted as such, however little it is."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        human, grid = rng.integers(0, 3, (2, 7)).astype(float)
        scores = 1 + grid
        others = scores + 1e-4 * rng.integers(0, 2, 7)
        zscores = stats.zscore(scores), stats.zscore(others)
        every = []
        for swap in itertools.product((False, True), repeat=7):
            sides = np.where(swap, *zscores), np.where(swap, *zscores[::-1])
            every.append(np.subtract(*(stats.pearsonr(s, human).statistic for s in sides)))
        expected = np.mean(np.abs(every) >= abs(every[0]) - 1e-11)
        assert p_values(scores, others, human, ["pearson"])["pearson"] == expected
