"""Ratings of models from battles: Bradley-Terry, Elo, win rates and ranks, each with an interval.

Battles of one prompt, or of one judge, depend on each other: such a *unit* is resampled as a whole.
Bradley-Terry has sandwich intervals with t quantiles over the units, ranks and Davidson's model
have bootstrap intervals over them, win rates Wilson's interval for their effective number. The
range of Elo is its spread over shuffled orders of the battles, which is no confidence interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from t2v_eval.errors import UnknownNameError
from t2v_eval.evaluation.ratings.fit import fit_ratings
from t2v_eval.evaluation.ratings.results import (
    BattleRatings,
    Group,
    ModelRating,
    RatingOptions,
    Ties,
)
from t2v_eval.evaluation.ratings.units import (
    SideVerdicts,
    judge_ratings,
    side_warnings,
    units_of,
)
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.ratings.battles import Battle, Battles, IntArray
from t2v_eval.stats.ratings.elo import elo_spread
from t2v_eval.stats.ratings.shares import share_interval

ORDERS = 100  # of Elo


def ratings_from_battles(
    battles: Iterable[Sequence[str]],
    *,
    anchor: tuple[str, float] | None = None,
    prior: str | None = None,
    ties: Ties = "half",
    group: Group | None = None,
    k: float = 4.0,
    resamples: int = 1000,
    seed: int = 0,
) -> BattleRatings:
    """Rate models by battles in which one of two won or both tied.

    Args:
        battles: each a `Battle`, or the first of its fields: model_a, model_b, winner ("model_a",
            "model_b", "tie" or "tie (bothbad)"), prompt, judge.
        anchor: a model and its points; by default the mean of all models has 1000.
        prior: "normal" keeps ratings finite where a model only won or only lost; by default there
            is none.
        ties: "half" a win of each model, or by a parameter of their own: "davidson".
        group: what is resampled as a whole, "prompt", "judge" or "battle"; see `RatingOptions`.
        k: the largest change of Elo in a battle, in points.
        resamples: the number of bootstrap resamples, 1 or more.
        seed: the random seed of resamples and of the orders of Elo, 0 or more.

    Returns:
        Ratings, win rates and ranks with 95 % intervals, and how consistent judges are.

    Raises:
        InputError: a battle or an argument cannot be used, or no finite ratings exist and there is
            no prior.
        UnknownNameError: no model has the name of the anchor.

    >>> rows = [("a", "b", "model_a")] * 3 + [("a", "b", "model_b")]
    >>> ratings = ratings_from_battles(rows, resamples=10)
    >>> round(ratings.models["a"].bradley_terry.value)  # 400 log10(3) points apart
    1095
    """
    return rate_battles(battles, RatingOptions(anchor, prior, ties, group, k, resamples, seed))


def rate_battles(battles: Iterable[Sequence[str]], options: RatingOptions) -> BattleRatings:
    """Rate models by battles, as `ratings_from_battles` does.

    Args:
        battles: the battles.
        options: how battles become ratings.

    Raises:
        InputError, UnknownNameError: as `ratings_from_battles`.

    >>> rate_battles([("a", "b", "tie")], RatingOptions(resamples=10)).models["a"].battles
    1
    """
    listed = [Battle(*row) for row in battles]
    encoded = Battles.from_rows(listed)
    anchor_index = _anchor_index(options.anchor, encoded.models)
    unit, units, unit_warnings = units_of(listed, options.group)
    fit = fit_ratings(encoded, units, options, anchor_index)
    order = sorted(range(len(encoded.models)), key=lambda m: fit.ranks[m].value)
    sides = SideVerdicts.of(listed, units)
    wins = encoded.wins()[np.ix_(order, order)]
    met = wins + wins.T
    rates = _win_rates(encoded, units)
    elo = _elo(encoded, options, anchor_index)
    number = met.sum(1)
    return BattleRatings(
        models={
            encoded.models[m]: ModelRating(
                fit.ratings[m], elo[m], rates[m], fit.ranks[m], int(number[position])
            )
            for position, m in enumerate(order)
        },
        connected=fit.connected,
        warnings=[*fit.warnings, *unit_warnings, *side_warnings(listed)],
        judges=judge_ratings(listed, sides),
        position=sides.rate(),
        decided=len(sides.first_won),
        options=options,
        unit=unit,
        units=int(units.max()) + 1,
        battles=len(listed),
        ties=int((encoded.score == 0.5).sum()),
        tie_parameter=fit.tie_parameter,
        win_rates=np.divide(wins, met, out=np.full_like(wins, np.nan), where=met > 0),
        met=met,
    )


def _elo(battles: Battles, options: RatingOptions, anchor: int | None) -> list[Interval]:
    """Return the mean of Elo over orders and the range of 95 % of them, for each model."""
    spread = elo_spread(battles, options.k, orders=ORDERS, seed=options.seed)
    if options.anchor is not None and anchor is not None:
        spread = spread - spread[:, anchor, None] + options.anchor[1]
    low, high = np.quantile(spread, [0.025, 0.975], axis=0)
    return [Interval(*map(float, row)) for row in zip(spread.mean(0), low, high, strict=True)]


def _win_rates(battles: Battles, units: IntArray) -> list[Interval]:
    rates = []
    for model in range(len(battles.models)):
        first, second = battles.first == model, battles.second == model
        values = np.concatenate([battles.score[first], 1 - battles.score[second]])
        rates.append(share_interval(values, np.concatenate([units[first], units[second]])))
    return rates


def _anchor_index(anchor: tuple[str, float] | None, models: Sequence[str]) -> int | None:
    if anchor is None:
        return None
    if anchor[0] not in models:
        remedy = "`anchor=` names a model of the battles."
        raise UnknownNameError.nearest("model", anchor[0], models, remedy)
    return models.index(anchor[0])
