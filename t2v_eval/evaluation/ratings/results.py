"""What the ratings of models from battles hold, and how they are computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from t2v_eval.errors import InputError
from t2v_eval.stats.bootstrap import Interval, check_count
from t2v_eval.utils.arrays import FloatArray

Ties: TypeAlias = Literal["half", "davidson"]
Group: TypeAlias = Literal["prompt", "judge", "battle"]

PRIORS: Mapping[str, float] = {"normal": 0.5}
"""The penalty of each named prior; "normal" has mean 0 and standard deviation 1 of log odds."""
UNKNOWN = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class RatingOptions:
    """How battles become ratings.

    Attributes:
        anchor: a model and its points; by default the mean of all models has 1000.
        prior: a name of `PRIORS`, which keeps ratings finite; None for maximum likelihood.
        ties: a tie is half a win of each model, or has a parameter of its own (Davidson 1970).
        group: what makes a unit; by default prompts where they repeat, else judges where at least
            ten repeat, else each battle.
        k: the largest change of Elo in a battle, in points.
        resamples: the number of bootstrap resamples, 1 or more.
        seed: the random seed of resamples and of the orders of Elo, 0 or more.

    Raises:
        InputError: a value is out of its range.

    >>> RatingOptions(ties="davidson").k
    4.0
    """

    anchor: tuple[str, float] | None = None
    prior: str | None = None
    ties: Ties = "half"
    group: Group | None = None
    k: float = 4.0
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        _check_choice("prior", self.prior, (None, *PRIORS))
        _check_choice("ties", self.ties, ("half", "davidson"))
        _check_choice("group", self.group, (None, "prompt", "judge", "battle"))
        check_count("resamples", self.resamples, 1)
        check_count("seed", self.seed, 0)
        if not 0 < self.k < math.inf:
            raise InputError(f"`k={self.k!r}`: pass a number above 0, as 4 or 32")
        if self.anchor is not None and not math.isfinite(self.anchor[1]):
            raise InputError(f"`anchor={self.anchor[1]!r}`: pass a finite number of points")


class ModelRating(NamedTuple):
    """The figures of a model.

    Attributes:
        bradley_terry: in points, where 400 are odds of 10 to 1.
        elo: in points: the mean over shuffled orders of the battles, and the range that holds 95 %
            of them.
        win_rate: wins and half of the ties, as a share of the model's battles.
        rank: by `bradley_terry`, 1 for the best.
        battles: the number of the model's battles.

    >>> ModelRating(UNKNOWN, UNKNOWN, Interval(0.5, 0.4, 0.6), UNKNOWN, 100).win_rate.value
    0.5
    """

    bradley_terry: Interval
    elo: Interval
    win_rate: Interval
    rank: Interval
    battles: int


class JudgeRating(NamedTuple):
    """How consistent a judge is.

    Attributes:
        battles: the number of battles that it judged.
        agreement: the share of the others' verdicts on the same pair of a prompt that equal its
            own; NaN where no pair is shared.
        self_consistency: the share of its repeated verdicts on a pair of a prompt that are equal,
            in one or in both orders; NaN where none repeats.
        position: as `BattleRatings.position`, of this judge.

    >>> JudgeRating(10, UNKNOWN, UNKNOWN, Interval(0.5, 0.2, 0.8)).position.value
    0.5
    """

    battles: int
    agreement: Interval
    self_consistency: Interval
    position: Interval


@dataclass(frozen=True, slots=True)
class BattleRatings:
    """The ratings of models from battles; `ratings_from_battles` computes them.

    Attributes:
        models: by name, from the best to the worst.
        connected: whether finite ratings exist without a prior.
        warnings: what a reader of the figures should know.
        judges: by name, from the most battles to the least; empty where battles name no judge.
        position: how often the first side won, of the verdicts that are no ties.
        decided: the number of these verdicts.
        options: how the figures were computed.
        unit: what was resampled: "prompt", "judge" or "battle".
        units: their number.
        battles: the number of battles.
        ties: the number of ties among them.
        tie_parameter: v of Davidson's model; NaN with ties as half wins.
        win_rates: of each model against each other, shape (K, K), in the order of `models`; NaN
            where they never met.
        met: the number of their battles, shape (K, K).

    >>> rows = [("a", "b", "model_a"), ("a", "b", "tie"), ("b", "a", "model_a")]
    >>> from t2v_eval.evaluation.ratings.rating import ratings_from_battles
    >>> ratings = ratings_from_battles(rows, resamples=10)
    >>> ratings.battles, ratings.ties, ratings.win_rates.tolist()[0][1]
    (3, 1, 0.5)
    """

    models: Mapping[str, ModelRating]
    connected: bool
    warnings: list[str]
    judges: Mapping[str, JudgeRating]
    position: Interval
    decided: int
    options: RatingOptions
    unit: str
    units: int
    battles: int
    ties: int
    tie_parameter: float
    win_rates: FloatArray = field(repr=False)
    met: FloatArray = field(repr=False)

    @property
    def title(self) -> str:
        """Return what was rated, and over what intervals are."""
        return (
            f"{self.battles:,} battles of {len(self.models)} models, {self.ties:,} of them ties; "
            f"95 % intervals over {self.units:,} {self.unit}{'s' * (self.units != 1)}"
        )

    @property
    def notes(self) -> list[str]:
        """Return what the columns mean, and how often the first side won, as sentences."""
        prior = f", with the prior {self.options.prior!r}" if self.options.prior else ""
        ties = "a tie is half a win of each"
        if self.options.ties == "davidson":
            ties = f"the tie parameter of Davidson 1970 is {2 * self.tie_parameter:.3f}"
        name, points = self.options.anchor or ("the mean of all models", 1000.0)
        notes = [
            f"Bradley-Terry: 400 points are odds of 10 to 1, {name} has {points:g}{prior}; {ties}.",
            f"Elo: K = {self.options.k:g}, mean over shuffled orders of the battles; its range is "
            "that of 95 % of the orders, not a confidence interval.",
            "Rank: by Bradley-Terry, 1 for the best, with the ranks that are not ruled out.",
        ]
        if self.decided:
            value, low, high = (100 * x for x in self.position)
            notes.append(
                f"The first side won {value:.1f} % [{low:.1f}, {high:.1f}] of the {self.decided:,} "
                "verdicts that are no ties."
            )
        return notes

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers for JSON; undefined values are None."""
        return {
            "version": 1,
            "models": {name: _to_json(rating) for name, rating in self.models.items()},
            "connected": self.connected,
            "warnings": list(self.warnings),
            "judges": {name: _to_json(judge) for name, judge in self.judges.items()},
            "position": {**_to_json_value(self.position), "battles": self.decided},
        }


def _check_choice(name: str, value: str | None, choices: Sequence[str | None]) -> None:
    if value not in choices:
        listing = ", ".join(repr(choice) for choice in choices)
        raise InputError(f"`{name}={value!r}`: use {listing}")


def _to_json(rating: ModelRating | JudgeRating) -> dict[str, Any]:
    return {
        name: _to_json_value(value) if isinstance(value, Interval) else value
        for name, value in rating._asdict().items()
    }


def _to_json_value(interval: Interval) -> dict[str, float | None]:
    return {k: v if math.isfinite(v) else None for k, v in interval._asdict().items()}
