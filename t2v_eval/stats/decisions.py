"""Does a scorer come to people's decisions on two generators?

Whoever compares two generators takes one of three decisions: the first is higher, the second is, or
no difference is seen. People decide by their mean ratings over the prompts, a scorer by its mean
scores over the same prompts, both by a paired sign-flip test at the level 0.05, each pair alone, as
if it were the only comparison. Over all pairs of generators the decisions of both fill a table:

| outcome | people | scorer |
|---|---|---|
| same | a difference | the same |
| opposite | a difference | the opposite |
| missed | a difference | none |
| claimed | none | a difference |
| neither | none | none |

`reordered` counts, whatever the tests say, the pairs whose two means are in the other order. A
correlation over images can be high where these decisions are wrong: it also counts differences
between prompts, which no comparison of generators asks for.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import InputError
from t2v_eval.stats.permutation import LEVEL, sign_flip
from t2v_eval.utils.arrays import FloatArray, Values, as_floats

OUTCOMES = ("same", "opposite", "missed", "claimed", "neither")
"""What a pair of generators may come to."""

PERMUTATIONS = 1999
"""Sign patterns of each test: p near 0.05 is known to 0.005."""


class Mean(NamedTuple):
    """The mean difference of two generators, and the p-value of a sign-flip test.

    >>> Mean(0.2, p=0.01).significant
    True
    """

    difference: float
    p: float

    @property
    def significant(self) -> bool:
        """Return whether p is below 0.05."""
        return self.p < LEVEL


class PairDecision(NamedTuple):
    """What people and a scorer decide on two generators.

    Attributes:
        first, second: the generators.
        people: the mean difference of ratings, the first minus the second.
        scorer: the mean difference of scores on the same prompts.
        prompts: the number of these prompts.

    >>> PairDecision("flux", "sdxl", Mean(0.2, 0.01), Mean(-0.1, 0.3), prompts=160).outcome
    'missed'
    """

    first: str
    second: str
    people: Mean
    scorer: Mean
    prompts: int

    @property
    def outcome(self) -> str:
        """Return one of `OUTCOMES`."""
        if self.people.significant and self.scorer.significant:
            return "opposite" if self.reordered else "same"
        if self.people.significant:
            return "missed"
        return "claimed" if self.scorer.significant else "neither"

    @property
    def reordered(self) -> bool:
        """Return whether the two means are in opposite order, whatever the tests say."""
        return self.people.difference * self.scorer.difference < 0


@dataclass(frozen=True, slots=True)
class DecisionCounts:
    """How many pairs of generators came to each outcome.

    Attributes:
        same, opposite, missed, claimed, neither: the outcomes; see the top of this module.
        reordered: pairs whose two means are in opposite order, whatever the tests say.

    >>> DecisionCounts(same=4, missed=4, claimed=1, neither=1, reordered=3).matched
    5
    """

    same: int = 0
    opposite: int = 0
    missed: int = 0
    claimed: int = 0
    neither: int = 0
    reordered: int = 0

    @classmethod
    def of(cls, decisions: Iterable[PairDecision]) -> DecisionCounts:
        """Count the outcomes of pairs."""
        pairs = list(decisions)
        counts = {name: sum(d.outcome == name for d in pairs) for name in OUTCOMES}
        return cls(**counts, reordered=sum(d.reordered for d in pairs))

    @property
    def pairs(self) -> int:
        """Return the number of pairs."""
        return sum(getattr(self, name) for name in OUTCOMES)

    @property
    def matched(self) -> int:
        """Return on how many pairs the scorer came to people's decision."""
        return self.same + self.neither


def decide(
    ratings: Values,
    scores: Values,
    generators: Sequence[str],
    *,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> list[PairDecision]:
    """Compare the decisions of people and of a scorer on each pair of generators.

    Args:
        ratings: shape (prompts, generators), the mean rating of the images of each; NaN is missing.
        scores: the mean scores of the same images; NaN is missing.
        generators: the names of the columns.
        groups: shape (prompts,), prompts of one group are not independent; by default all are.
        seed: the random seed of the tests.

    Returns:
        The pairs in the order of the columns, without pairs that share no prompt.

    Raises:
        InputError: the shapes differ, are not of two dimensions, or have no name for each column.

    >>> ratings = [[5, 3, 3], [4, 2, 2], [5, 4, 4], [4, 3, 2], [3, 1, 2], [5, 2, 3], [4, 3, 3]]
    >>> scores = [[0.1 * a, 0.1 * b, 0.9] for a, b, _ in ratings]
    >>> [f"{d.first} - {d.second}: {d.outcome}" for d in decide(ratings, scores, "abc")]
    ['a - b: same', 'a - c: opposite', 'b - c: claimed']
    """
    h, s = as_floats("ratings", ratings), as_floats("scores", scores)
    if h.shape != s.shape or h.ndim != 2 or h.shape[1] != len(generators):
        raise InputError(
            f"ratings has shape {h.shape} and scores {s.shape}, of {len(generators)} generators: "
            "pass a row for each prompt and a column for each generator, of both"
        )
    members = _members(groups, len(h))
    decisions = []
    for first, second in combinations(range(h.shape[1]), 2):
        by_people, by_scorer = (x[:, first] - x[:, second] for x in (h, s))
        shared = ~np.isnan(by_people) & ~np.isnan(by_scorer)
        if shared.any():
            people, scorer = (
                _mean(x[shared], members[shared], seed) for x in (by_people, by_scorer)
            )
            names = generators[first], generators[second]
            decisions.append(PairDecision(*names, people, scorer, int(shared.sum())))
    return decisions


def _members(groups: Sequence[Hashable] | None, n: int) -> NDArray[np.int64]:
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(g, len(number)) for g in groups or range(n)], np.int64)


def _mean(differences: FloatArray, members: NDArray[np.int64], seed: int) -> Mean:
    """Return the mean of differences; the signs of the prompts of a group flip together."""
    _, index = np.unique(members, return_inverse=True)
    sums = np.bincount(index, weights=differences)
    return Mean(float(differences.mean()), sign_flip(sums, permutations=PERMUTATIONS, seed=seed))
