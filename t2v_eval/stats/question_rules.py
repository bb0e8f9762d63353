"""Turn the values of a text's questions into its score: TIFA, DSG and Soft-TIFA.

The value of a question is 1 where its answer is the expected one and 0 where it is another; of a
soft rule, the probability of the expected answer. Sources: TIFA (Hu et al. 2023, section 3.3,
tifascore/tifa_score.py of Yushi-Hu/tifa), Davidsonian Scene Graph (Cho et al. 2024, section 4,
`calc_vqa_score` of j-min/DSG) and Soft-TIFA (GenEval 2, evaluation.py of
facebookresearch/GenEval2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Generic, Literal, NamedTuple, TypeAlias, TypeVar, get_args

from t2v_eval.errors import InputError

Key = TypeVar("Key", bound=Hashable)
Dependency: TypeAlias = Literal["direct", "transitive", "in-order", "none"]
Rule: TypeAlias = Literal["tifa", "dsg", "soft-tifa-am", "soft-tifa-gm"]

RULES: tuple[str, ...] = get_args(Rule)
"""The names of the rules."""

DEPENDENCIES: tuple[str, ...] = get_args(Dependency)
"""How far a wrong answer reaches: see `zero_dependents`."""

RIGHT_FROM = 0.5
"""A value below this one counts as a wrong answer of a parent."""


class Verdict(NamedTuple, Generic[Key]):
    """The score of a text, the value of each question, and what zeroed it.

    `score` is 0 to 1. `zeroed_by` names, for each question that counts 0 because a question that it
    depends on was answered wrongly, the first such question.

    >>> zero_dependents({"1": 0.0, "2": 1.0}, {"2": ["1"]})
    Verdict(score=0.0, values={'1': 0.0, '2': 0.0}, zeroed_by={'2': '1'})
    """

    score: float
    values: dict[Key, float]
    zeroed_by: dict[Key, Key]


def score_questions(
    rule: str,
    values: Mapping[Key, float],
    parents: Mapping[Key, Sequence[Key]] | None = None,
    weights: Mapping[Key, float] | None = None,
    dependency: str = "direct",
) -> Verdict[Key]:
    """Score one text by a rule.

    Args:
        rule: `tifa`, the mean of the values; `dsg`, the mean after `zero_dependents`;
            `soft-tifa-am`, the arithmetic mean; `soft-tifa-gm`, the geometric mean, which is 0
            where a value is.
        values: the value of each question, 0 to 1.
        parents: the questions that a question depends on; only `dsg` uses them.
        weights: the weight of each question, above 0; default: all weigh the same.
        dependency: how far a wrong answer reaches under `dsg`.

    Returns:
        The score with the value of each question.

    Raises:
        InputError: an unknown rule or dependency, no questions, a value that is not between 0 and
            1, or a parent that is no question of the text.

    >>> score_questions("tifa", {"1": 1.0, "2": 0.0}).score
    0.5
    """
    if rule not in RULES:
        raise InputError(f"rule={rule!r} is none of {', '.join(RULES)}")
    if not values:
        raise InputError("a text without questions has no score")
    for key, value in values.items():
        if not 0 <= value <= 1 + 1e-6:
            raise InputError(f"the value of question {key!r} is {value}, not between 0 and 1")
    if rule == "dsg":
        return zero_dependents(values, parents or {}, dependency, weights)
    mean = geometric_mean if rule == "soft-tifa-gm" else arithmetic_mean
    listed = None if weights is None else [weights[key] for key in values]
    return Verdict(mean(list(values.values()), listed), dict(values), {})


def zero_dependents(
    values: Mapping[Key, float],
    parents: Mapping[Key, Sequence[Key]],
    dependency: str = "direct",
    weights: Mapping[Key, float] | None = None,
) -> Verdict[Key]:
    """Let a question count 0 where a question that it depends on was answered wrongly.

    A value below 0.5 is a wrong answer. As in DSG's code, parents are looked at in their order up
    to the first wrong one, and the mean of no questions is 0.

    Args:
        values: the value of each question, 0 to 1.
        parents: the questions that a question depends on, without DSG's 0 for "none".
        dependency: `direct` looks at the answers to the parents (DSG); `transitive` also at those
            to their parents, and so on; `in-order` at the values of the parents after zeroing, in
            the order of `parents`, as DPG-Bench's script does; `none` at nothing.
        weights: the weight of each question, above 0; default: all weigh the same.

    Returns:
        The weighted mean of the remaining values, the values, and what zeroed each.

    Raises:
        InputError: an unknown dependency, or a parent that has no value.

    >>> zero_dependents({1: 0.0, 2: 1.0, 3: 1.0}, {2: [1], 3: [2]}, "transitive").zeroed_by
    {2: 1, 3: 1}
    """
    if dependency not in DEPENDENCIES:
        raise InputError(f"dependency={dependency!r} is none of {', '.join(DEPENDENCIES)}")
    remaining = dict(values)
    zeroed_by: dict[Key, Key] = {}
    for question, direct in parents.items() if dependency != "none" else ():
        parent_values = remaining if dependency == "in-order" else values
        relevant = _ancestors(question, parents) if dependency == "transitive" else direct
        for parent in relevant:
            if parent not in values:
                raise InputError(
                    f"question {question!r} depends on question {parent!r}, which has no answer; "
                    "`dependency='none'` ignores dependencies"
                )
            if parent_values[parent] < RIGHT_FROM:
                zeroed_by[question] = parent
                if question in remaining:
                    remaining[question] = 0.0
                break
    listed = None if weights is None else [weights[key] for key in values]
    mean = arithmetic_mean([remaining[key] for key in values], listed) if values else 0.0
    return Verdict(mean, remaining, zeroed_by)


def _ancestors(question: Key, parents: Mapping[Key, Sequence[Key]]) -> Iterable[Key]:
    """Yield the parents of a question, then theirs, each once and without the question itself."""
    visited = {question}
    layer = list(parents.get(question, ()))
    while layer:
        new = [parent for parent in dict.fromkeys(layer) if parent not in visited]
        yield from new
        visited.update(new)
        layer = [older for parent in new for older in parents.get(parent, ())]


def arithmetic_mean(values: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Return the weighted arithmetic mean; by default all values weigh the same.

    >>> arithmetic_mean([1.0, 0.0, 0.5])
    0.5
    """
    if weights is None:
        return math.fsum(values) / len(values)
    weighted = [value * weight for value, weight in zip(values, weights, strict=True)]
    return math.fsum(weighted) / math.fsum(weights)


def geometric_mean(values: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Return the weighted geometric mean, which is 0 where a value is 0.

    >>> geometric_mean([0.25, 1.0])
    0.5
    """
    if min(values) <= 0:
        return 0.0
    return math.exp(arithmetic_mean([math.log(value) for value in values], weights))


def means_by_label(
    values: Iterable[float],
    labels: Iterable[str],
    mean: Callable[[Sequence[float]], float] = arithmetic_mean,
) -> dict[str, float]:
    """Return the mean of the values of each label, in the order in which labels appear.

    With the types of questions as labels it is TIFA's accuracy by type and GenEval 2's by skill.

    >>> means_by_label([1.0, 0.0, 1.0], ["color", "count", "count"])
    {'color': 1.0, 'count': 0.5}
    """
    by_label: dict[str, list[float]] = {}
    for value, label in zip(values, labels, strict=True):
        by_label.setdefault(label, []).append(value)
    return {label: mean(listed) for label, listed in by_label.items()}
