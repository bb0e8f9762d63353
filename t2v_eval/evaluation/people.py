"""What people would say of all images of generators, from ratings of some and scores of all.

`stats.prediction_powered` has the method. Prompts are what is independent: of each prompt and
generator the mean rating of its rated images stands beside the mean score of the same images, or
beside the mean score of all of them where none is rated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from t2v_eval.evaluation.benchmark import Scores
from t2v_eval.evaluation.by_generator import ByGenerator
from t2v_eval.evaluation.human_ratings import PlacedRatings
from t2v_eval.stats.permutation import PValue, corrected
from t2v_eval.stats.prediction_powered import (
    MIN_RATED,
    PredictionPowered,
    prediction_powered_difference,
    prediction_powered_mean,
)
from t2v_eval.utils.arrays import FloatArray, mean_of_known

UNLIKE = 0.01
"""The p-value below which rated prompts count as unlike the others."""


@dataclass(frozen=True, slots=True)
class PeopleDifference:
    """By how much people would rate the first of two generators higher than the second.

    Attributes:
        first, second: the generators.
        estimate: the difference, in units of the ratings.
        test: its p-value, corrected (Holm) over all pairs of generators.

    >>> from t2v_eval.stats.bootstrap import Interval
    >>> lead = Interval(0.4, 0.2, 0.6)
    >>> estimate = PredictionPowered(lead, 0.1, 0.001, lead, weight=2.0, rated=60, scored=400)
    >>> PeopleDifference("flux", "sdxl", estimate, PValue(0.001, 0.001)).test.significant
    True
    """

    first: str
    second: str
    estimate: PredictionPowered
    test: PValue


@dataclass(frozen=True, slots=True)
class People:
    """What people would say of the generators of a run; a run's JSON has it under "people".

    Attributes:
        file: the name of the file of ratings.
        prompts: the number of prompts with a rating and a score.
        means: the mean rating of each generator.
        differences: those of each pair of generators.
        remarks: what a reader should know of the ratings.

    >>> People("ratings.csv", 60, {}, []).remarks
    ()
    """

    file: str
    prompts: int
    means: Mapping[str, PredictionPowered]
    differences: Sequence[PeopleDifference]
    remarks: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers for JSON; NaN is undefined."""
        return {
            "file": self.file,
            "prompts": self.prompts,
            "means": {name: _estimate_json(mean) for name, mean in self.means.items()},
            "differences": [
                {
                    "first": d.first,
                    "second": d.second,
                    **_estimate_json(d.estimate),
                    "p_holm": d.test.p_holm,
                    "significant": d.test.significant,
                }
                for d in self.differences
            ],
            "remarks": list(self.remarks),
        }


def people_of(table: ByGenerator, scores: Scores, ratings: PlacedRatings) -> People:
    """Estimate what people would say of all images of a run.

    Args:
        table: `Run.by_generator` of a run on a set of prompts.
        scores: the scores of the run, of each item.
        ratings: ratings of a part of its prompts, of `HumanRatings.place` with its items.

    Returns:
        The estimates; of a generator without any rating and score nothing but a remark.

    >>> from t2v_eval.evaluation.human_ratings import RatedCell
    >>> scores = [np.array([[0.1 * n]]) for n in range(9)]
    >>> mean = np.arange(9.0)[:, None] / 10
    >>> table = ByGenerator(["flux"], mean, np.full((9, 1), np.nan), [[n] for n in range(9)],
    ...                     list(range(9)))
    >>> cells = [RatedCell(n, "flux", [0], rating=float(n % 5)) for n in (0, 2, 3, 5, 6, 8)]
    >>> people = people_of(table, scores, PlacedRatings("ratings.csv", cells, unused=0))
    >>> people.means["flux"].rated, people.means["flux"].scored
    (6, 9)
    """
    rated, beside = _beside(scores, table, ratings)
    both = ~np.isnan(rated) & ~np.isnan(beside)
    indices = [k for k in range(len(table.generators)) if both[:, k].any()]
    estimates = {
        (first, second): prediction_powered_difference(
            rated[:, [first, second]], beside[:, [first, second]], groups=table.groups
        )
        for first, second in combinations(indices, 2)
    }
    tests = corrected({pair: estimate.p for pair, estimate in estimates.items()})
    names = table.generators
    return People(
        file=ratings.file,
        prompts=int(both.any(axis=1).sum()),
        means={
            names[k]: prediction_powered_mean(rated[:, k], beside[:, k], groups=table.groups)
            for k in indices
        },
        differences=[
            PeopleDifference(names[first], names[second], estimate, tests[first, second])
            for (first, second), estimate in estimates.items()
        ],
        remarks=tuple(_remarks(rated, beside, names, ratings)),
    )


def _beside(
    scores: Scores, table: ByGenerator, ratings: PlacedRatings
) -> tuple[FloatArray, FloatArray]:
    """Return ratings and scores of shape (prompts, generators), of the same images where rated."""
    rated, beside = np.full(table.scores.shape, np.nan), table.scores.copy()
    row_of = {n: r for r, members in enumerate(table.items) for n in members}
    column_of = {name: k for k, name in enumerate(table.generators)}
    for cell in ratings.cells:
        place = row_of[cell.item], column_of[cell.generator]
        rated[place] = cell.rating
        beside[place] = mean_of_known(scores[cell.item][list(cell.images)].astype(np.float64))
    return rated, beside


def _remarks(
    rated: FloatArray, scores: FloatArray, names: Sequence[str], ratings: PlacedRatings
) -> list[str]:
    """Say what is not used, and what speaks against a random part of the prompts being rated."""
    remarks = [
        f"Nothing can be said of {name}: none of its images has both a rating and a score."
        for k, name in enumerate(names)
        if not (~np.isnan(rated[:, k]) & ~np.isnan(scores[:, k])).any()
    ]
    if ratings.unused:
        remarks.append(
            f"{ratings.unused} rows of {ratings.file} are of other prompts or generators and are "
            "not used."
        )
    if lost := int((~np.isnan(rated) & np.isnan(scores)).sum()):
        remarks.append(f"{lost} ratings are of images without a score and are not used.")
    is_rated: NDArray[np.bool_] = np.any(~np.isnan(rated), axis=1)
    count = int(is_rated.sum())
    if count < len(rated) and bool(np.all(is_rated[:count])):
        remarks.append(
            f"The rated prompts are the first {count} of {len(rated)}: that is a random part only "
            "if the order of the prompts is random."
        )
    unlike = [
        name
        for k, name in enumerate(names)
        if _welch(scores[~np.isnan(rated[:, k]), k], scores[np.isnan(rated[:, k]), k])
        < UNLIKE / len(names)
    ]
    if unlike:
        remarks.append(
            f"Scores of rated images of {', '.join(unlike)} differ from those of the others (p < "
            f"{UNLIKE}): the rated part is not a random one, and the estimate may be biased."
        )
    return remarks


def _welch(rated: FloatArray, others: FloatArray) -> float:
    """Return p of Welch's t test of two means; 1 where there are too few."""
    samples = [x[~np.isnan(x)] for x in (rated, others)]
    if min(len(x) for x in samples) < MIN_RATED:
        return 1.0
    variances = [float(x.var(ddof=1)) / len(x) for x in samples]
    total = math.fsum(variances)
    if not total > 0:
        return 1.0
    t = abs(float(samples[0].mean() - samples[1].mean())) / math.sqrt(total)
    shares = [v * v / (len(x) - 1) for v, x in zip(variances, samples, strict=True)]
    return 2 * float(special.stdtr(total * total / math.fsum(shares), -t))


def _estimate_json(estimate: PredictionPowered) -> dict[str, Any]:
    return {
        **estimate.interval._asdict(),
        "error": estimate.error,
        "p": estimate.p,
        "ratings_alone": estimate.ratings_alone._asdict(),
        "weight": estimate.weight,
        "rated": estimate.rated,
        "scored": estimate.scored,
        "worth": estimate.worth,
    }
