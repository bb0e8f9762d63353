"""Units of battles that depend on each other, verdicts by side, and the consistency of judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from t2v_eval.errors import InputError
from t2v_eval.evaluation.ratings.results import UNKNOWN, Group, JudgeRating
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.ratings.battles import OUTCOMES, Battle, IntArray, encode_units
from t2v_eval.stats.ratings.judges import agreement_with_others, self_consistency, split_by
from t2v_eval.stats.ratings.shares import share_interval
from t2v_eval.utils.arrays import FloatArray

FEW_UNITS = 10


def units_of(
    battles: Sequence[Battle], group: Group | None = None
) -> tuple[str, IntArray, list[str]]:
    """Return what makes a unit, the number of the unit of each battle, and warnings.

    Args:
        battles: the n battles.
        group: what makes a unit; None for prompts where they repeat, else judges where at least ten
            repeat, else each battle. A battle without a prompt, or judge, is a unit of its own.

    Returns:
        "prompt", "judge" or "battle", numbers of shape (n,) from 0, and the warnings.

    Raises:
        InputError: no battle has a value of `group`.

    >>> units_of([Battle("a", "b", "tie", "a cat")] * 2 + [Battle("a", "b", "tie", "a dog")])[:2]
    ('prompt', array([0, 0, 1]))
    """
    if group == "battle":
        return group, np.arange(len(battles)), []
    if group is not None and not any(getattr(battle, group) for battle in battles):
        raise InputError(
            f"`group={group!r}`: no battle names a {group}; `group='battle'` takes battles as "
            "independent"
        )
    numbers = {name: _unit_numbers(battles, name) for name in ("prompt", "judge")}
    counts = {name: int(number.max()) + 1 for name, number in numbers.items()}
    repeats = {name: 1 < count < len(battles) for name, count in counts.items()}
    if group is None and repeats["prompt"]:
        group = "prompt"
    elif group is None and repeats["judge"] and counts["judge"] >= FEW_UNITS:
        group = "judge"
    if group is not None:
        few = counts[group] < FEW_UNITS
        rough = f"intervals over {counts[group]} values of {group!r} are rough"
        return group, numbers[group], [rough] * few
    warning = (
        f"intervals are over battles by these {counts['judge']} judges; `group='judge'` resamples "
        "judges"
    )
    return "battle", np.arange(len(battles)), [warning] * repeats["judge"]


def _unit_numbers(battles: Sequence[Battle], name: str) -> IntArray:
    values = [getattr(battle, name) for battle in battles]
    return encode_units([value or n for n, value in enumerate(values)])


class SideVerdicts(NamedTuple):
    """The verdicts of battles that are no ties, by the side that won.

    Attributes:
        first_won: 1 where the first side won, 0 where the second did, shape (m,).
        unit: the number of the unit of each, shape (m,).
        judge: the name of the judge of each.

    >>> SideVerdicts(np.array([1.0]), np.array([0]), ["ann"]).rate().value
    1.0
    """

    first_won: FloatArray
    unit: IntArray
    judge: Sequence[str]

    @classmethod
    def of(cls, battles: Sequence[Battle], units: IntArray) -> SideVerdicts:
        """Return the verdicts of battles; those in two orders count in both."""
        rows = [
            (float(verdict == first), unit, battle.judge)
            for battle, unit in zip(battles, units.tolist(), strict=True)
            for verdict, first in _verdicts(battle)
            if OUTCOMES[verdict] != 0.5
        ]
        won, unit, judge = zip(*rows, strict=True) if rows else ((), (), ())
        return cls(np.array(won), np.array(unit, np.int64), judge)

    def rate(self) -> Interval:
        """Return how often the first side won."""
        return share_interval(self.first_won, self.unit)

    def rates_of_judges(self) -> dict[str, Interval]:
        """Return how often the first side won, by judge."""
        names = list(dict.fromkeys(self.judge))
        members = split_by(encode_units(self.judge), len(names))
        return {
            name: share_interval(self.first_won[rows], self.unit[rows])
            for name, rows in zip(names, members, strict=True)
        }


def _verdicts(battle: Battle) -> list[tuple[str, str]]:
    """Return each verdict of a battle and the label of the model on the first side."""
    both = [(battle.a_first, "model_a"), (battle.b_first, "model_b")]
    return [verdict for verdict in both if verdict[0]] or [(battle.winner, "model_a")]


def side_warnings(battles: Sequence[Battle]) -> list[str]:
    """Warn where most pairs were shown in one order: the first side is then also a model.

    >>> len(side_warnings([Battle("a", "b", "model_a")] * 2))
    1
    >>> side_warnings([Battle("a", "b", "model_a"), Battle("b", "a", "model_a")])
    []
    """
    orders: Counter[tuple[str, str]] = Counter()
    for battle in battles:
        pair = battle.model_a, battle.model_b
        for _, first in _verdicts(battle):
            orders[pair if first == "model_a" else pair[::-1]] += 1
    in_one_order = sum(n for pair, n in orders.items() if n > 1 and pair[::-1] not in orders)
    if 2 * in_one_order <= orders.total():
        return []
    return [
        "most pairs of models were always shown in the same order, so that the position rate is "
        "also a rate of the models on the first side"
    ]


def judge_ratings(battles: Sequence[Battle], sides: SideVerdicts) -> dict[str, JudgeRating]:
    """Return how consistent each judge is, from the one with most battles to the least.

    Args:
        battles: those without a judge do not count, and for agreement and self-consistency those
            without a prompt.
        sides: their verdicts by side.

    >>> battles = [Battle("a", "b", "tie", "a cat", judge) for judge in ("ann", "bo")]
    >>> ratings = judge_ratings(battles, SideVerdicts.of(battles, np.arange(2)))
    >>> ratings["ann"].battles, ratings["ann"].agreement.value
    (1, 1.0)
    """
    counts = Counter(battle.judge for battle in battles if battle.judge)
    usable = [battle for battle in battles if battle.judge and battle.prompt]
    agreement = agreement_with_others(
        [battle.judge for battle in usable],
        [_pair(battle) for battle in usable],
        [_winner(battle, battle.winner) for battle in usable],
    )
    repeated = [(battle, verdict) for battle in usable for verdict, _ in _verdicts(battle)]
    consistency = self_consistency(
        [battle.judge for battle, _ in repeated],
        [_pair(battle) for battle, _ in repeated],
        [_winner(battle, verdict) for battle, verdict in repeated],
    )
    position = sides.rates_of_judges()
    return {
        name: JudgeRating(
            count, *(figures.get(name, UNKNOWN) for figures in (agreement, consistency, position))
        )
        for name, count in counts.most_common()
    }


def _sides(battle: Battle) -> list[tuple[str, str]]:
    """Return what was compared, the same whichever side each was shown on."""
    return sorted([(battle.model_a, battle.image_a), (battle.model_b, battle.image_b)])


def _pair(battle: Battle) -> tuple[Any, ...]:
    return (battle.prompt, *_sides(battle))


def _winner(battle: Battle, verdict: str) -> int:
    """Return 0 or 1 for the winner among `_sides`, and -1 for a tie."""
    winners = {"model_a": battle.model_a, "model_b": battle.model_b}
    if verdict not in winners:
        return -1
    return [model for model, _ in _sides(battle)].index(winners[verdict])
