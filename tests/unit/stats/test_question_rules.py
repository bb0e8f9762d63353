"""TIFA, DSG and Soft-TIFA against the answers of their own code."""

import itertools
import math

import numpy as np
import pytest
from helpers.question_goldens import numbered, question_cases
from scipy.stats import gmean

from t2v_eval.errors import InputError
from t2v_eval.stats.question_rules import (
    geometric_mean,
    means_by_label,
    score_questions,
    zero_dependents,
)


@pytest.mark.parametrize("case", **numbered("dsg_score"))
def test_dsg_is_that_of_its_code(case):
    answers, expected = case["input"]["answers"], case["input"]["expected_answers"] or {}
    values = {int(key): float(a == expected.get(key, "yes")) for key, a in answers.items()}
    parents = {
        int(key): [parent for parent in listed if parent]
        for key, listed in case["input"]["dependency"].items()
    }
    if "raises" in case["result"]:
        with pytest.raises(InputError, match="has no answer"):
            zero_dependents(values, parents)
        return
    result = case["result"]["value"]
    verdict = zero_dependents(values, parents)
    assert verdict.score == pytest.approx(result["average_score_with_dependency"], abs=1e-9)
    without = zero_dependents(values, parents, "none").score
    assert without == pytest.approx(result["average_score_without_dependency"], abs=1e-9)
    assert {str(key): value for key, value in values.items()} == result["qid2scores"]
    valid = {str(key): key not in verdict.zeroed_by for key in parents}
    assert valid == {key: v for key, v in result["qid2validity"].items() if int(key) in parents}


def test_soft_tifa_is_that_of_its_code():
    by_skill, by_atoms, totals = question_cases("geneval2")
    skills = itertools.chain.from_iterable(by_skill["input"]["skills"])
    values = itertools.chain.from_iterable(by_skill["input"]["scores"])
    skill_means = means_by_label([100 * value for value in values], skills)
    assert skill_means == pytest.approx(by_skill["result"], abs=1e-9)
    scores = {
        rule: [
            100 * score_questions(rule, dict(enumerate(s))).score for s in case["input"]["scores"]
        ]
        for rule, case in (("soft-tifa-am", totals), ("soft-tifa-gm", by_atoms))
    }
    atoms = means_by_label(scores["soft-tifa-gm"], map(str, by_atoms["input"]["atom_count"]))
    assert atoms == pytest.approx(by_atoms["result"], abs=1e-9)
    means = {rule.replace("-", "_"): np.mean(listed) for rule, listed in scores.items()}
    assert means == pytest.approx(totals["result"], abs=1e-9)


def reachable(question, parents, seen=()):
    """Ancestors by the definition: every question that some path of dependencies leads to."""
    for parent in parents.get(question, ()):
        if parent not in seen:
            seen = reachable(parent, parents, (*seen, parent))
    return seen


def test_transitive_zeroing_is_reachability_in_random_graphs_with_cycles():
    random = np.random.default_rng(5)
    for _ in range(300):
        count = int(random.integers(1, 8))
        values = {i: float(random.random() < 0.7) for i in range(count)}
        parents = {
            i: [int(p) for p in random.integers(0, count, size=random.integers(0, 3))]
            for i in range(count)
        }
        verdict = zero_dependents(values, parents, "transitive")
        for i in range(count):
            ancestors = set(reachable(i, parents)) - {i}
            wrong = {a for a in ancestors if not values[a]}
            assert (i in verdict.zeroed_by) == bool(wrong)
            assert verdict.values[i] == (0.0 if wrong else values[i])
            assert verdict.zeroed_by.get(i, i) in wrong | {i}


def test_in_order_passes_zeros_on_to_later_questions_only():
    """As DPG-Bench's script, which changes the values while it goes through the questions."""
    values = {"a": 0.0, "b": 1.0, "c": 1.0}
    forwards = zero_dependents(values, {"b": ["a"], "c": ["b"]}, "in-order")
    assert forwards.values == {"a": 0.0, "b": 0.0, "c": 0.0}
    backwards = zero_dependents(values, {"c": ["b"], "b": ["a"]}, "in-order")
    assert backwards.values == {"a": 0.0, "b": 0.0, "c": 1.0}
    assert zero_dependents(values, {"b": ["a"], "c": ["b"]}).values["c"] == 1.0


def test_a_probable_answer_of_a_parent_zeroes_nothing():
    verdict = score_questions("dsg", {"a": 0.6, "b": 0.8}, {"b": ["a"]})
    assert verdict.score == pytest.approx(0.7) and not verdict.zeroed_by
    assert score_questions("dsg", {"a": 0.4, "b": 0.8}, {"b": ["a"]}).score == pytest.approx(0.2)


def test_weights_are_those_of_numpy():
    values, weights = {"a": 0.2, "b": 0.9, "c": 0.5}, {"a": 1.0, "b": 3.0, "c": 0.5}
    mean = np.average(list(values.values()), weights=list(weights.values()))
    assert score_questions("tifa", values, weights=weights).score == pytest.approx(mean)
    assert score_questions("dsg", values, weights=weights).score == pytest.approx(mean)
    geometric = gmean(list(values.values()), weights=list(weights.values()))
    assert score_questions("soft-tifa-gm", values, weights=weights).score == pytest.approx(
        geometric
    )
    assert geometric_mean([0.0, 1.0]) == 0.0


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
def test_a_value_that_is_no_probability_is_an_error(value):
    with pytest.raises(InputError, match="question 'a'"):
        score_questions("tifa", {"a": value})


def test_unknown_rules_and_texts_without_questions_are_errors():
    with pytest.raises(InputError, match="soft-tifa-gm"):
        score_questions("tifaa", {"a": 1.0})
    with pytest.raises(InputError, match="transitive"):
        score_questions("dsg", {"a": 1.0}, dependency="all")
    with pytest.raises(InputError, match="without questions"):
        score_questions("dsg", {})


@pytest.mark.parametrize(("value", "score"), [(0.5, 0.75), (np.nextafter(0.5, 0), 0.25)])
def test_a_parent_is_wrong_below_one_half(value, score):
    verdict = score_questions("dsg", {"1": value, "2": 1.0}, {"2": ["1"]})
    assert verdict.score == pytest.approx(score)
