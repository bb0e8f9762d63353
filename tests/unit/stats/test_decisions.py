"""Decisions on pairs of generators, against SciPy's permutation test and real ratings."""

import csv
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from t2v_eval.errors import InputError
from t2v_eval.stats.decisions import DecisionCounts, Mean, PairDecision, decide

TIFA160 = Path(__file__).parents[2] / "fixtures/decisions/tifa160_clipscore.csv"
GENERATORS = "abcde"


def outcome_of(ratings, scores):
    """Return the outcome of two columns by SciPy's tests, in words of its own."""
    decisions = []
    for values in (ratings, scores):
        differences = values[:, 0] - values[:, 1]
        p = stats.permutation_test(
            (differences,), np.mean, permutation_type="samples", n_resamples=4999, random_state=1
        ).pvalue
        decisions.append((np.sign(differences.mean()), p))
    (people, p_people), (scorer, p_scorer) = decisions
    if any(0.03 < p < 0.07 for p in (p_people, p_scorer)):
        return None  # two random tests may differ
    if p_people >= 0.05:
        return "claimed" if p_scorer < 0.05 else "neither"
    if p_scorer >= 0.05:
        return "missed"
    return "same" if people == scorer else "opposite"


def test_outcomes_are_those_of_scipy():
    rng = np.random.default_rng(0)
    seen = set()
    for people in (-0.5, 0.0, 0.5):
        for scorer in (-0.5, 0.0, 0.5):
            ratings, scores = rng.normal(0, 1, (2, 120, 1)) + rng.normal(0, 0.7, (2, 120, 2))
            ratings[:, 0] += people
            scores[:, 0] += scorer
            (decision,) = decide(ratings, scores, GENERATORS[: ratings.shape[1]])
            expected = outcome_of(ratings, scores)
            assert expected is None or decision.outcome == expected
            seen.add(decision.outcome)
    assert seen == {"same", "opposite", "missed", "claimed", "neither"}


def tifa160():
    """Return the mean Likert ratings and CLIPScore of TIFA160, by prompt and generator."""
    cells = {}
    with TIFA160.open(newline="") as stream:
        for row in csv.DictReader(stream):
            cells[row["prompt"], row["generator"]] = row
    prompts, generators = (list(dict.fromkeys(names)) for names in zip(*cells, strict=True))
    return [
        np.array([[float(cells[p, g][column]) for g in generators] for p in prompts])
        for column in ("likert_mean", "clipscore_vitb32")
    ]


def test_clipscore_on_tifa160_has_three_pairs_the_other_way():
    ratings, scores = tifa160()
    counts = DecisionCounts.of(decide(ratings, scores, GENERATORS[: ratings.shape[1]]))
    assert counts == DecisionCounts(same=4, opposite=0, missed=4, claimed=1, neither=1, reordered=3)
    assert (counts.pairs, counts.matched) == (10, 5)
    means = [values.mean(axis=0) for values in (ratings, scores)]
    other_way = sum(
        (means[0][a] - means[0][b]) * (means[1][a] - means[1][b]) < 0
        for a, b in combinations(range(5), 2)
    )
    assert other_way == 3


def test_missing_cells_are_left_out_of_both_sides():
    rng = np.random.default_rng(1)
    ratings, scores = rng.normal(size=(2, 30, 3))
    ratings[:5, 0] = np.nan
    scores[25:, 1] = np.nan
    scores[:, 2] = np.nan
    (decision,) = decide(ratings, scores, GENERATORS[: ratings.shape[1]])
    assert (decision.first, decision.second, decision.prompts) == ("a", "b", 20)
    differences = ratings[5:25, 0] - ratings[5:25, 1]
    assert decision.people.difference == pytest.approx(differences.mean())


def test_groups_are_flipped_together():
    rng = np.random.default_rng(2)
    ratings, scores = rng.normal(0.5, 1, (2, 12, 2))
    doubled = [np.repeat(x, 2, axis=0) for x in (ratings, scores)]
    (once,) = decide(ratings, scores, GENERATORS[: ratings.shape[1]])
    (grouped,) = decide(*doubled, "ab", groups=[k // 2 for k in range(24)])
    assert grouped.people == pytest.approx(once.people)
    (alone,) = decide(*doubled, "ab")
    assert alone.people.p != once.people.p


def test_a_tie_of_means_is_no_other_order():
    decision = PairDecision("a", "b", Mean(0.0, 1.0), Mean(0.3, 0.001), 9)
    assert decision.outcome == "claimed" and not decision.reordered


@pytest.mark.parametrize("shapes", [((3,), (3,)), ((3, 2), (3, 3)), ((3, 3), (3, 3))])
def test_shapes_that_do_not_fit_are_named(shapes):
    with pytest.raises(InputError, match="a row for each prompt"):
        decide(*(np.zeros(shape) for shape in shapes), "ab")
