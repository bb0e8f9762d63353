"""Permutation tests against scipy's and full enumeration; Holm's correction by its definition."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from t2v_eval.errors import InputError
from t2v_eval.stats import permutation
from t2v_eval.stats.bootstrap import agreement_statistic
from t2v_eval.stats.permutation import corrected, holm, paired_permutation, sign_flip


def mean_of(values):
    return lambda index: {"mean": float(values[index].mean())}


@pytest.mark.parametrize("n", [5, 9, 40])
def test_means_against_scipy(n):
    rng = np.random.default_rng(n)
    first, other = rng.normal(0.5, 1, n), rng.normal(0, 1, n)
    actual = paired_permutation(mean_of(np.append(first, other)), n, permutations=2000)["mean"]
    expected = stats.permutation_test(
        (first, other), lambda a, b: a.mean() - b.mean(), permutation_type="samples",
        n_resamples=10_000, rng=np.random.default_rng(0),
    ).pvalue  # fmt: skip
    assert actual == pytest.approx(expected, abs=1e-9 if n < 10 else 0.03)


def test_a_correlation_against_every_exchange():
    rng = np.random.default_rng(7)
    human = rng.normal(size=8)
    one, other = human + 0.5 * rng.normal(size=8), rng.normal(size=8)
    statistic = agreement_statistic(np.append(one, other), np.append(human, human), ["spearman"])

    def apart(swap):
        first, second = np.where(swap, other, one), np.where(swap, one, other)
        rho = [stats.spearmanr(s, human).statistic for s in (first, second)]
        return abs(rho[0] - rho[1])

    every = [apart(np.array(swap)) for swap in itertools.product((False, True), repeat=8)]
    expected = np.mean(np.array(every) >= every[0] - 1e-12)
    assert paired_permutation(statistic, 8)["spearman"] == pytest.approx(expected)


def test_no_difference_is_1_and_a_seed_decides():
    values = np.random.default_rng(1).normal(size=50)
    assert paired_permutation(mean_of(np.append(values, values)), 50) == {"mean": 1.0}
    shifted = np.append(values, values[::-1] + 0.2)
    runs = [paired_permutation(mean_of(shifted), 50, seed=seed)["mean"] for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("n", [6, 60])
def test_signs_against_scipy(n):
    rng = np.random.default_rng(n)
    sample = rng.normal(0.25, 1, n).round(1)
    missing = np.append(sample, np.nan)
    expected = stats.permutation_test(
        (sample,), lambda x, axis: x.mean(axis), permutation_type="samples", vectorized=True,
        n_resamples=20_000, rng=np.random.default_rng(0),
    ).pvalue  # fmt: skip
    assert sign_flip(missing) == pytest.approx(expected, abs=1e-9 if n < 10 else 0.02)
    assert sign_flip(np.zeros(n)) == 1 and math.isnan(sign_flip(np.array([np.nan])))


def test_signs_are_an_exchange_of_pairs():
    rng = np.random.default_rng(8)
    first, other = rng.normal(size=8), rng.normal(size=8)
    exchanged = paired_permutation(mean_of(np.append(first, other)), 8)["mean"]
    assert sign_flip(first - other) == pytest.approx(exchanged)


def test_level_is_kept_where_nothing_differs():
    rng = np.random.default_rng(2)
    result = [
        paired_permutation(mean_of(rng.normal(size=60)), 30, permutations=99, seed=seed)["mean"]
        for seed in range(300)
    ]
    # Binomial(300, 0.05) lies within these limits with 99.9 %.
    assert 4 <= sum(p <= 0.05 for p in result) <= 29
    assert sum(p <= 0.005 for p in result) <= 8, "nor do tails say more than they may"


def test_small_values_are_tails_and_not_too_small():
    rng = np.random.default_rng(11)
    signs = np.array([[1 if k >> b & 1 else -1 for b in range(16)] for k in range(1 << 16)])
    for effect in (0.4, 0.7, 1.0, 3.0):
        differences = rng.normal(effect, 1, 16)
        exact = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9)
        result = paired_permutation(mean_of(np.append(differences, np.zeros(16))), 16)["mean"]
        # The normal tail is wider than that of sums of bounded terms.
        assert exact / 2 - 1e-9 <= result <= max(1.5 * exact + 0.02, 1 / 1001)
    assert result == pytest.approx(2 / 2**16) or result > 2 / 2**16
    far = rng.normal(2, 1, 300)
    p = paired_permutation(mean_of(np.append(far, np.zeros(300))), 300, permutations=200)["mean"]
    assert 0 < p < 1e-12


def test_p_is_never_0():
    # No pattern of 40 signs drawn at random brings the mean as far from 0 again.
    assert sign_flip(np.full(40, 0.5), permutations=99) == pytest.approx(1 / 100)
    assert sign_flip(np.full(3, 0.5), permutations=99) == 2 / 8


def test_a_tail_has_two_sides():
    noise = np.random.default_rng(4).normal(size=100)
    differences = (noise - noise.mean()) / noise.std() + 0.435
    values = np.append(differences, np.zeros(100))
    p = paired_permutation(mean_of(values), 100, permutations=10_000)["mean"]
    # Under random signs the mean is normal with this deviation.
    z = differences.mean() / (np.sqrt((differences**2).sum()) / 100)
    assert 3.9 < z < 4.1, "so that fewer than ten of the swaps reach it"
    assert p == pytest.approx(2 * stats.norm.sf(z), rel=0.3)


@pytest.mark.parametrize("seed", range(5))
def test_p_is_not_below_what_all_swaps_could_show(seed):
    # Of 2^11 swaps only two reach the difference, and the normal tail is below their share.
    assert 2 * stats.norm.sf(math.sqrt(11)) < 2 / 2**11
    ones = np.append(np.ones(11), np.zeros(11))
    assert paired_permutation(mean_of(ones), 11, seed=seed)["mean"] >= 2 / 2**11


def test_what_is_plain_is_not_looked_at_further():
    rng = np.random.default_rng(5)
    noise = rng.normal(size=200)

    def asked(differences, metrics=("mean",)):
        calls = []
        values = {
            "mean": np.append(differences, np.zeros(200)),
            "noise": np.append(noise[::-1], noise),
        }

        def statistic(index):
            calls.append(len(index))
            return {name: float(values[name][index].mean()) for name in metrics}

        result = paired_permutation(statistic, 200)
        return result, len(calls) // 2 - 1  # without the scorers as they are

    centred = noise - noise.mean()
    (p, minimum), (q, maximum) = asked(centred + 0.01), asked(centred + 0.16)
    assert minimum == 100 and p["mean"] > 0.15
    assert maximum == 1000 and q["mean"] < 0.1, "what is neither takes all that were asked for"
    far, few = asked(noise + 3, ("mean", "noise"))
    assert few == 100 and far["mean"] < 1e-12 and far["noise"] > 0.15
    for shift in (0.01, 0.16):
        sample = centred + shift
        exact = stats.permutation_test(
            (sample,), lambda x, axis: x.mean(axis), permutation_type="samples", vectorized=True,
            n_resamples=20_000, rng=np.random.default_rng(0),
        ).pvalue  # fmt: skip
        assert asked(sample)[0]["mean"] == pytest.approx(exact, abs=0.1 if shift < 0.1 else 0.02)


def test_undefined_differences_have_no_p():
    statistic = agreement_statistic([1.0] * 4, [1, 2, 1, 2], ["tau_b"])
    assert math.isnan(paired_permutation(statistic, 2)["tau_b"])
    with pytest.raises(InputError, match="at least 1"):
        paired_permutation(statistic, 0)


def test_holm():
    # Holm 1979: the smallest times m, the next times m - 1, ..., and never decreasing.
    assert holm([0.01, 0.02, 0.03, 0.005]) == pytest.approx([0.03, 0.04, 0.04, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == [] and holm([0.2]) == [0.2]
    result = holm([0.01, math.nan, 0.03])
    assert result[0] == pytest.approx(0.02) and math.isnan(result[1]) and result[2] == 0.03


def test_undefined_is_not_told_apart():
    tests = corrected({"a": 0.001, "b": math.nan, "c": 0.04})
    assert tests["a"] == (0.001, 0.002) and tests["a"].significant and tests["c"].significant
    assert not tests["b"].significant


def test_holm_rejects_what_the_steps_reject():
    rng = np.random.default_rng(3)
    for _ in range(100):
        p = rng.random(6) ** 3
        rejected = set()
        for rank, k in enumerate(np.argsort(p)):
            if p[k] > 0.05 / (6 - rank):
                break
            rejected.add(int(k))
        assert {k for k, value in enumerate(holm(p.tolist())) if value <= 0.05} == rejected


@pytest.mark.parametrize(("part", "kept"), [(8, 1000), (16, 3), (1 << 16, 1000)])
def test_swaps_that_are_kept_are_those_drawn_one_by_one(monkeypatch, part, kept):
    monkeypatch.setattr(permutation, "_PART", part)
    monkeypatch.setattr(permutation, "_MAX_PARTS", kept)
    tosses = permutation._Tosses(5)
    for n, count in ((19, 3), (19, 7), (3, 40), (50, 2), (16, 4), (1, 9), (19, 7)):
        rng = np.random.default_rng(5)
        expected = [rng.integers(0, 2, n) for _ in range(count)]
        assert np.array_equal(list(tosses.swaps(n, count)), expected)


def test_tests_of_other_numbers_of_items_draw_no_more(monkeypatch):
    drawn = []
    whole = permutation._draw
    monkeypatch.setattr(permutation, "_draw", lambda rng: drawn.append(1) or whole(rng))
    permutation._tosses.cache_clear()
    differences = np.random.default_rng(3).normal(size=2000)
    for n in (2000, 1999, 1990, 200):
        sign_flip(differences[:n], permutations=500)
        paired_permutation(mean_of(np.append(differences, differences)[: 2 * n]), n, permutations=9)
    assert len(drawn) == -(-2000 * 500 // permutation._PART)


def test_a_swap_with_an_infinite_metric_leaves_other_differences_as_they_are():
    first, second = np.array([np.inf, 0.5, np.nan]), np.array([0.25, 0.25, 0.25])
    np.testing.assert_array_equal(permutation.subtract(first, second), [np.inf, 0.25, np.nan])
