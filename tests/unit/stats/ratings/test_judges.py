"""Consistency of judges equals counts of pairs of verdicts."""

import itertools

import numpy as np
import pytest

from t2v_eval.stats.ratings.judges import agreement_with_others, self_consistency


def mean_over_pairs(rows, judge, same_judge):
    """The mean over pairs of the share of equal verdicts, of two judges or of one."""
    shares = []
    for pair in {row[1] for row in rows}:
        here = [row for row in rows if row[1] == pair]
        own = [row for row in here if row[0] == judge]
        if same_judge:
            couples = [*itertools.combinations(own, 2)]
        else:
            couples = [*itertools.product(own, [row for row in here if row[0] != judge])]
        if couples:
            shares.append(np.mean([first[2] == second[2] for first, second in couples]))
    return np.mean(shares) if shares else np.nan


@pytest.mark.parametrize("seed", range(5))
def test_shares_of_equal_verdicts(seed):
    rng = np.random.default_rng(seed)
    rows = [
        ("xyz"[rng.integers(3)], int(rng.integers(9)), "ab="[rng.integers(3)]) for _ in range(60)
    ]
    rows.append(("alone", 99, "a"))
    columns = [*zip(*rows, strict=True)]
    for function, same in ((agreement_with_others, False), (self_consistency, True)):
        shares = function(*columns)
        for judge in ("x", "y", "z", "alone"):
            expected = mean_over_pairs(rows, judge, same)
            np.testing.assert_allclose(shares[judge].value, expected)


def test_no_verdicts_have_no_judges():
    assert agreement_with_others([], [], []) == self_consistency([], [], []) == {}
