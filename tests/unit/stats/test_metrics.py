"""Statistics against recorded values, scipy, scikit-learn and plain enumeration of pairs."""

from __future__ import annotations

import itertools
import json
import math
import tracemalloc
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from t2v_eval.errors import InputError
from t2v_eval.stats import metrics as m
from t2v_eval.stats import pairwise
from t2v_eval.stats.agreement_metrics import METRICS
from t2v_eval.stats.counting import bounds

pytestmark = pytest.mark.filterwarnings("error")

CASES = json.loads((Path(__file__).parents[2] / "goldens" / "metrics.json").read_text())["cases"]
CORRELATION = [case for case in CASES if case["kind"] == "correlation"]
WINOGROUND = [case for case in CASES if case["kind"] == "winoground_2x2"]
FUNCTIONS = {
    "pearson": m.pearson,
    "spearman": m.spearman,
    "tau_b": m.kendall_tau_b,
    "tau_c": m.kendall_tau_c,
    "acc23_tie_opt": lambda s, h: m.pairwise_accuracy(s, h).value,
    "acc23_no_tie_opt": lambda s, h: m.pairwise_accuracy(s, h, "strict").value,
    "acc_ignore_tie": lambda s, h: m.pairwise_accuracy(s, h, "ignore").value,
    "threshold": lambda s, h: m.pairwise_accuracy(s, h).threshold,
    "n_valid": m.count_valid,
    "auroc": m.auroc,
}


def name(case: dict[str, Any]) -> str:
    return str(case["name"])


def close(value: float, expected: float | None) -> bool:
    if expected is None or math.isnan(expected):
        return math.isnan(value)
    return abs(value - expected) <= 1e-9


@pytest.mark.parametrize("case", CORRELATION, ids=name)
def test_correlation_goldens(case: dict[str, Any]) -> None:
    checked = case["expected"].keys() & FUNCTIONS.keys()
    assert len(checked) >= 9
    for key in checked:
        value = FUNCTIONS[key](case["metric"], case["human"])
        assert close(value, case["expected"][key]), (key, value, case["expected"][key])


@pytest.mark.parametrize("case", CORRELATION, ids=name)
def test_golden_rows(case: dict[str, Any]) -> None:
    s, h = m.as_rows(case["metric"], case["human"])
    rows = m.per_group(m.kendall_tau_b, s, h)
    # The record leaves out rows that hold fewer than two items.
    rows = rows[(~np.isnan(s)).sum(axis=1) >= 2]
    expected = case["expected"]["tau_b_per_row"]
    assert all(close(*pair) for pair in zip(rows, expected, strict=True))


@pytest.mark.parametrize("case", WINOGROUND, ids=name)
def test_winoground_goldens(case: dict[str, Any]) -> None:
    accuracy = m.winoground_accuracy(case["scores_image_by_text"])
    assert accuracy._asdict() == pytest.approx(case["expected"], abs=1e-9)


def brute(
    s: np.ndarray, h: np.ndarray, ties: str, threshold: float | None = None
) -> tuple[float, float]:
    """Every pair of every row, every candidate threshold, fractions."""
    rows = []
    for row_s, row_h in zip(*m.as_rows(s, h), strict=True):
        items = [
            (float(a), float(b)) for a, b in zip(row_s, row_h, strict=True) if not math.isnan(a)
        ]
        pairs = list(itertools.combinations(items, 2))
        if ties == "ignore":
            pairs = [p for p in pairs if p[0][1] != p[1][1]]
        if pairs:
            gap = np.array([abs(a - c) for (a, _), (c, _) in pairs])
            got = np.array([(a > c) - (a < c) for (a, _), (c, _) in pairs])
            want = np.array([(b > d) - (b < d) for (_, b), (_, d) in pairs])
            rows.append((gap, got, want))
    if not rows:
        return math.nan, math.nan

    def accuracy(limit: float) -> Fraction:
        total = Fraction()
        for gap, got, want in rows:
            total += Fraction(int((np.where(gap <= limit, 0, got) == want).sum()), len(gap))
        return total / len(rows)

    limits = {0.0}
    if threshold is not None:
        limits = {threshold}
    elif ties == "calibrated":
        limits |= {float(gap) for row in rows for gap in row[0]}
    best = max(limits, key=lambda limit: (accuracy(limit), -limit))
    return float(accuracy(best)), best


NUMBERS = st.one_of(
    st.none(),
    st.integers(-3, 3).map(float),
    st.integers(0, 12).map(lambda k: k * 0.1),
    st.floats(-10, 10).map(lambda x: round(x, 6)),  # the squares of smaller ones may be 0
)
RATINGS = st.one_of(st.none(), st.integers(1, 4).map(float), st.sampled_from([4 / 3, 5 / 3]))


@st.composite
def samples(draw: st.DrawFn, rows: int = 5, items: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Scores and ratings, one- or two-dimensional, with ties and missing values."""
    shape = (draw(st.integers(1, rows)), draw(st.integers(1, items)))
    flat = draw(st.booleans())
    n = shape[0] * shape[1]
    s, h = (
        np.array(draw(st.lists(values, min_size=n, max_size=n)), dtype=float)
        for values in (NUMBERS, RATINGS)
    )
    return (s, h) if flat else (s.reshape(shape), h.reshape(shape))


@settings(max_examples=150, deadline=None)
@given(samples(), st.sampled_from(["calibrated", "strict", "ignore"]))
def test_pairwise_accuracy_counts_every_pair(
    sample: tuple[np.ndarray, np.ndarray], ties: Any
) -> None:
    value, threshold = m.pairwise_accuracy(*sample, ties)
    expected, limit = brute(*sample, ties)
    assert close(value, expected)
    assert threshold == limit or (math.isnan(threshold) and math.isnan(limit))


@settings(max_examples=60, deadline=None)
@given(samples(rows=3, items=16))
def test_search_finds_the_smallest_maximiser(sample: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # Few listed pairs and a coarse table make small samples take every branch.
        patch.setattr(pairwise, "_MAX_LISTED", 3)
        patch.setattr(pairwise, "_SAMPLES", 5)
        patch.setattr(pairwise, "_TABLE_FROM", 0)
        patch.setattr(bounds, "_TABLE_BINS", 64)
        actual = m.pairwise_accuracy(*sample)
    expected = brute(*sample, "calibrated")
    assert close(actual.value, expected[0])
    assert actual.threshold == expected[1] or math.isnan(expected[1])


def test_of_thresholds_that_are_as_good_the_smallest_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Intervals of higher differences are often searched first.
    monkeypatch.setattr(pairwise, "_MAX_LISTED", 3)
    monkeypatch.setattr(pairwise, "_SAMPLES", 5)
    rng = np.random.default_rng(0)
    for _ in range(100):
        n = int(rng.integers(5, 12))
        for levels in (3, n, 2 * n):  # many, few and hardly any ratings are equal
            s, h = (rng.integers(0, top, (1, n)).astype(float) for top in (12, levels))
            assert pairwise.Pairs(s, h).calibrate() == pairwise.naive_threshold(s, h)


def test_few_pairs_that_people_tie_are_found_to_gain_less_than_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pairwise, "_MAX_LISTED", 12)
    rng = np.random.default_rng(1)
    thresholds = []
    for sign, noise in itertools.product((1, -1), (0, 1, 3, 9)):
        for _ in range(20):
            # Two scorers of the same items, whose ratings are all different.
            human = rng.permutation(12).astype(float)
            scores = [sign * human + rng.integers(0, noise + 1, 12) for _ in range(2)]
            s, h = np.concatenate(scores)[None], np.tile(human, 2)[None]
            thresholds.append(pairwise.Pairs(s, h).calibrate())
            assert thresholds[-1] == pairwise.naive_threshold(s, h)
    assert 0 < np.count_nonzero(thresholds) < len(thresholds)


@settings(max_examples=60, deadline=None)
@given(samples(rows=3, items=10), st.floats(0, 3))
def test_the_naive_twin_says_the_same(sample: tuple[np.ndarray, np.ndarray], e: float) -> None:
    s, h = m.as_rows(*sample)
    pairs = pairwise.Pairs(s, h)
    assert close(pairs.accuracy(e), pairwise.naive_accuracy(s, h, e))
    expected = pairwise.naive_threshold(s, h)
    assert pairs.calibrate() == expected or math.isnan(expected)


def test_search_and_listing_agree_on_thousands_of_items(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    for human in (rng.integers(0, 3, 1400), rng.normal(size=1400).round(1)):
        scores = np.exp(0.3 * human + rng.normal(size=1400))
        monkeypatch.undo()
        listed = m.pairwise_accuracy(scores, human)
        monkeypatch.setattr(pairwise, "_MAX_LISTED", 2000)
        searched = m.pairwise_accuracy(scores, human)
        monkeypatch.setattr(pairwise, "_TABLE_FROM", 0)
        assert listed == searched == m.pairwise_accuracy(scores, human)


@settings(max_examples=40, deadline=None)
@given(samples(), st.floats(0, 5))
def test_given_threshold(sample: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    value, used = m.pairwise_accuracy(*sample, threshold=threshold)
    expected, _ = brute(*sample, "calibrated", threshold)
    assert close(value, expected)
    assert used == threshold or math.isnan(expected)


def oracle(function: Any, s: np.ndarray, h: np.ndarray) -> float:
    present = ~(np.isnan(s) | np.isnan(h))
    s, h = s[present], h[present]
    if len(s) < 2 or len(set(s)) < 2 or len(set(h)) < 2:
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(function(s, h))


def mean_over_rows(function: Any, s: np.ndarray, h: np.ndarray) -> float:
    values = [oracle(function, *row) for row in zip(*m.as_rows(s, h), strict=True)]
    values = [value for value in values if not math.isnan(value)]
    return sum(values) / len(values) if values else math.nan


@settings(max_examples=100, deadline=None)
@given(samples())
def test_correlations_are_those_of_scipy(sample: tuple[np.ndarray, np.ndarray]) -> None:
    s, h = sample
    assert close(m.spearman(s, h), oracle(lambda a, b: stats.spearmanr(a, b)[0], s, h))
    value = m.pearson(s, h)
    if not math.isnan(value):
        assert close(value, oracle(lambda a, b: stats.pearsonr(a, b)[0], s, h))
    for variant, function in (("b", m.kendall_tau_b), ("c", m.kendall_tau_c)):

        def tau(a: np.ndarray, b: np.ndarray, variant: str = variant) -> float:
            return float(stats.kendalltau(a, b, variant=variant).statistic)

        assert close(function(s, h), mean_over_rows(tau, s, h))


@settings(max_examples=100, deadline=None)
@given(samples(rows=6))
def test_rows_at_once_are_rows_one_by_one(sample: tuple[np.ndarray, np.ndarray]) -> None:
    s, h = m.as_rows(*sample)
    functions = {"pearson": m.pearson, "spearman": m.spearman}
    functions |= {"tau_b": m.kendall_tau_b, "tau_c": m.kendall_tau_c}
    functions["acc_strict"] = lambda a, b: m.pairwise_accuracy(a, b, "strict").value
    functions["acc_ignore"] = lambda a, b: m.pairwise_accuracy(a, b, "ignore").value
    for key, function in functions.items():
        alone = m.per_group(function, s, h)
        together = METRICS[key].per_row(s, h)
        if key == "pearson":  # where rounding decides whether a side varies, either may
            unsure = np.isnan(alone) != np.isnan(together)
            spread = [np.nanmax(x[unsure], axis=1) - np.nanmin(x[unsure], axis=1) for x in (s, h)]
            assert (np.minimum(*spread) < 1e-9).all()
            together = np.where(unsure, alone, together)
        np.testing.assert_allclose(together, alone, atol=1e-9, err_msg=key)


def test_rows_of_any_scale() -> None:
    s = np.array([[1e-200, 2e-200, 4e-200], [1e200, 2e200, 4e200], [1e-320, 2e-320, 4e-320]])
    h = np.array([[1.0, 2.0, 4.0]] * 3)
    assert m.pearson_rows(s, h) == pytest.approx([1, 1, 1], abs=1e-3)


def test_kendall_of_long_rows_is_that_of_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    s, h = rng.normal(size=(40, 8)).round(1), rng.integers(1, 4, (40, 8)).astype(float)
    s[rng.random(s.shape) < 0.2] = np.nan
    short = m.kendall_tau_b(s, h), m.kendall_tau_c(s, h)
    ranked = m.spearman_rows(s, h)
    monkeypatch.setattr(m, "_MAX_SIGNS", 0)
    assert short == pytest.approx((m.kendall_tau_b(s, h), m.kendall_tau_c(s, h)), abs=1e-12)
    assert ranked == pytest.approx(m.spearman_rows(s, h), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(samples())
def test_ranking_of_labels_is_that_of_sklearn(sample: tuple[np.ndarray, np.ndarray]) -> None:
    s, h = sample[0], np.where(np.isnan(sample[1]), np.nan, sample[1] > 2)
    present = ~(np.isnan(s) | np.isnan(h))
    a, b = s[present], h[present]
    both = len(set(b)) == 2
    assert close(m.auroc(s, h), roc_auc_score(b, a) if both else math.nan)
    defined = len(b) >= 2 and b.any()
    expected = average_precision_score(b, a) if defined else math.nan
    assert close(m.average_precision(s, h), expected)


def test_winoground_by_hand() -> None:
    scores = np.array(
        [
            [[0.9, 0.1], [0.2, 0.8]],  # all right
            [[0.9, 0.5], [0.95, 0.96]],  # text right only
            [[0.9, 0.95], [0.5, 0.96]],  # image right only
            [[0.5, 0.5], [0.5, 0.5]],  # ties are wrong
            [[0.9, np.nan], [0.2, 0.8]],  # left out
        ]
    )
    assert m.winoground_accuracy(scores) == (0.5, 0.5, 0.25)
    assert m.winoground_accuracy(scores.astype(np.float32).tolist()) == (0.5, 0.5, 0.25)
    assert np.isnan(m.winoground_correct(scores)[4]).all()
    assert all(map(math.isnan, m.winoground_accuracy(scores[4:])))
    assert all(map(math.isnan, m.winoground_accuracy([])))


ALL = {
    **{key: FUNCTIONS[key] for key in FUNCTIONS if key != "n_valid"},
    "average_precision": m.average_precision,
}


@pytest.mark.parametrize("key", ALL)
@pytest.mark.parametrize(
    "sample",
    [([], []), ([0.5], [1]), ([None, 0.5], [1, None]), ([[0.1], [0.2]], [[None], [1]])],
    ids=["empty", "one", "none in common", "one in two rows"],
)
def test_too_few_values_are_nan(key: str, sample: Any) -> None:
    assert math.isnan(ALL[key](*sample))


@pytest.mark.parametrize("key", ["pearson", "spearman", "tau_b", "tau_c"])
def test_constant_side_is_nan(key: str) -> None:
    function = FUNCTIONS[key]
    assert math.isnan(function([0.3, 0.3, 0.3], [1, 2, 3]))
    assert math.isnan(function([1, 2, 3], [0.3, 0.3, 0.3]))
    assert math.isnan(function([[1, 2], [3, 4]], [[5, 5], [5, 5]]))


@pytest.mark.parametrize("key", ["pearson", "spearman", "tau_b", "tau_c"])
def test_two_items_are_enough(key: str) -> None:
    assert METRICS[key].compute(np.array([1.0, 2.0]), np.array([3.0, 5.0])) == pytest.approx(1)
    assert METRICS[key].compute(np.array([1.0, 2.0]), np.array([5.0, 3.0])) == pytest.approx(-1)


def test_undefined_cases() -> None:
    assert math.isnan(m.pearson([1.0, 1.0, 1.0 + 2e-16 * 2], [1, 2, 3]))
    assert math.isnan(m.pairwise_accuracy([1, 2, 3], [4, 4, 4], "ignore").value)
    assert m.pairwise_accuracy([1, 2, 3], [4, 4, 4]) == (1.0, 2.0)
    assert math.isnan(m.auroc([1, 2], [1, 1]))
    assert math.isnan(m.average_precision([1, 2], [0, 0]))
    # Two rows of one item hold no pair, though four items are ordered.
    assert math.isnan(m.pairwise_accuracy([[1], [2]], [[1], [2]]).value)


def test_integers_do_not_wrap() -> None:
    scores, human = np.array([200, 10, 100], dtype=np.uint8), np.array([3, 1, 2], dtype=np.uint8)
    assert m.kendall_tau_b(scores, human) == 1.0
    assert m.pairwise_accuracy(scores, human).value == 1.0
    assert m.auroc(scores, np.array([True, False, False])) == 1.0


def test_extreme_values_do_not_warn() -> None:
    huge = [-1.7e308, 0.0, 1.7e308, 1e-320]
    assert m.pairwise_accuracy(huge, [1, 2, 3, 2]) == brute(
        np.array(huge), np.array([1.0, 2, 3, 2]), "calibrated"
    )
    assert m.kendall_tau_b(huge, [1, 2, 3, 2]) > 0


def test_masked_and_object_arrays() -> None:
    masked = np.ma.masked_array([0.1, 0.2, 9.0, 0.3], [False, False, True, False])
    objects = np.array([0.1, np.float32(0.2), None, 0.3], dtype=object)
    assert m.pearson(masked, [1, 2, 3, 4]) == m.pearson([0.1, 0.2, 0.3], [1, 2, 4])
    assert m.count_valid(objects, [1, 2, 3, 4]) == 3


@pytest.mark.parametrize(
    ("scores", "human", "words"),
    [
        ([1, 2, 3], [1, 2], ["(3,)", "(2,)", "None or NaN"]),
        ([[1, 2]], [1, 2], ["(1, 2)", "(2,)"]),
        ([[[1.0]]], [[[1.0]]], ["(1, 1, 1)", "one row for each group"]),
        (0.5, 1.0, ["()"]),
        (["a", "b"], [1, 2], ["scores", "convert it to float"]),
        ([0.1, "b"], [1, 2], ["scores", "convert it to float"]),
        ([0.1, None, "b"], [1, 2, 3], ["scores", "'b'", "None or NaN"]),
        ([1, 2], [1j, 2], ["human", "complex"]),
        ([[1, 2], [3]], [[1, 2], [3]], ["scores", "padded with NaN"]),
        ([1.0, math.inf], [1, 2], ["scores", "1 infinite"]),
        (None, [1], ["shape ()"]),
    ],
)
@pytest.mark.parametrize("key", ["pearson", "tau_b", "acc23_tie_opt", "auroc"])
def test_bad_input_names_itself_and_the_remedy(
    key: str, scores: Any, human: Any, words: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        ALL[key](scores, human)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_bad_options() -> None:
    with pytest.raises(InputError, match="'calibrated', 'ignore', 'strict'"):
        m.pairwise_accuracy([1, 2], [1, 2], "calibrate")  # type: ignore[arg-type]
    for threshold in (-0.1, math.nan):
        with pytest.raises(InputError, match="from 0 on"):
            m.pairwise_accuracy([1, 2], [1, 2], threshold=threshold)
    with pytest.raises(InputError, match="ties='calibrated'"):
        m.pairwise_accuracy([1, 2], [1, 2], "strict", threshold=0.1)
    for labels in ([0, 2], [0.5, 1], [-1, 1]):
        with pytest.raises(InputError, match="labels 0 and 1"):
            m.auroc([1, 2], labels)
    for scores in ([[1, 2], [3, 4]], np.zeros((3, 2, 3))):
        with pytest.raises(InputError, match=r"\(n, 2, 2\)"):
            m.winoground_accuracy(scores)


def test_pairwise_accuracy_does_not_list_pairs() -> None:
    rng = np.random.default_rng(0)
    human = rng.integers(1, 6, 20_000).astype(float)
    scores = human + rng.normal(scale=2, size=len(human))
    tracemalloc.start()
    result = m.pairwise_accuracy(scores, human)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One byte for each of the 200 million pairs.
    assert peak < 200e6
    near = [result.threshold * k for k in (0, 0.9, 1.1)]
    values = [m.pairwise_accuracy(scores, human, threshold=limit).value for limit in near]
    assert max(values) <= result.value
