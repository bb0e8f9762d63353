"""How well the raters of a table agree with each other, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from t2v_eval.evaluation.rating_tables.observations import Members
from t2v_eval.evaluation.rating_tables.table import RatedTable
from t2v_eval.stats.averages import Average, average
from t2v_eval.stats.bootstrap import (
    IntArray,
    Interval,
    Statistic,
    agreement_statistic,
    bootstrap_interval,
)
from t2v_eval.stats.metrics import FloatArray
from t2v_eval.stats.raters import krippendorff_alpha, means_of_others

CEILINGS = ("pearson", "spearman", "tau_b")


@dataclass(frozen=True, slots=True)
class RaterAgreement:
    """How well raters agree.

    Attributes:
        raters: the number of raters, or the largest number of ratings of a row.
        rows: the number of rows with two ratings or more.
        level: what alpha takes ratings for: "nominal", "ordinal" or "interval".
        alpha: Krippendorff's alpha.
        ceiling: for each metric, one rater against the mean of the others, averaged over raters.

    >>> rows = [{"r1": a, "r2": b, "s": 0.1} for a, b in ((1, 1), (2, 2), (3, 3), (3, 4), (2, 2))]
    >>> table = RatedTable.read(rows, ["r1", "r2"], ["s"])
    >>> round(rater_agreement(table, np.arange(5)).alpha.value, 3)
    0.889
    """

    raters: int
    rows: int
    level: str
    alpha: Interval
    ceiling: Mapping[str, Interval]

    def sentence(self) -> str:
        """Return what is known of the raters, in words."""
        rows = "1 row has" if self.rows == 1 else f"{self.rows} rows have"
        text = (
            f"{rows} two ratings or more, of up to {self.raters}; Krippendorff's alpha "
            f"({self.level}) {_figure(self.alpha)}"
        )
        if not self.ceiling:
            return text
        ceilings = (f"{name} {_figure(interval)}" for name, interval in self.ceiling.items())
        return f"{text}; one rater against the mean of the others: {', '.join(ceilings)}"


def rater_agreement(table: RatedTable, index: IntArray) -> RaterAgreement | None:
    """Return how well the raters of some rows agree; None where no row has two ratings.

    Args:
        table: the table.
        index: the rows.

    >>> table = RatedTable.read([{"human": 1, "s": 0.1}], "human", ["s"])
    >>> rater_agreement(table, np.arange(1)) is None
    True
    """
    ratings = table.ratings[index]
    several = (~np.isnan(ratings)).sum(axis=1) >= 2
    if not several.any():
        return None
    ratings, rows = ratings[several], index[several]
    unit = rows if table.group is None else table.group[rows]
    units, unit = np.unique(unit, return_inverse=True)
    members = Members(unit, len(units))
    options = table.options
    level = "nominal" if options.kind == "classes" else options.level
    ceiling = _ceiling(ratings, options.mean) if options.kind == "ratings" else None

    def compute(resample: IntArray) -> Mapping[str, float]:
        of_rows = members.of(resample)
        copies = np.bincount(of_rows, minlength=len(ratings)).astype(np.float64)
        alpha = {"alpha": krippendorff_alpha(ratings, level, copies)}
        return alpha if ceiling is None else {**alpha, **ceiling(of_rows)}

    figures = bootstrap_interval(
        compute, len(units), resamples=options.resamples, seed=options.seed
    )
    return RaterAgreement(
        ratings.shape[1],
        len(ratings),
        level,
        figures.pop("alpha"),
        {name: interval for name, interval in figures.items() if not math.isnan(interval.value)},
    )


def _ceiling(ratings: FloatArray, mean: Average) -> Statistic:
    """Return `stats.raters.human_ceiling` of resampled rows, for all metrics at once."""
    raters = list(zip(ratings.T, means_of_others(ratings).T, strict=True))
    statistics = [agreement_statistic(rater, others, CEILINGS) for rater, others in raters]
    complete = ~np.isnan(ratings + means_of_others(ratings))

    def compute(rows: IntArray) -> Mapping[str, float]:
        figures = [statistic(rows) for statistic in statistics]
        sizes = complete[rows].sum(axis=0).astype(np.float64)
        return {
            name: average(np.array([values[name] for values in figures]), sizes, mean)
            for name in CEILINGS
        }

    return compute


def _figure(interval: Interval) -> str:
    if math.isnan(interval.value):
        return "undefined, as all ratings are equal"
    limits = "" if math.isnan(interval.low) else f" [{interval.low:.3f}, {interval.high:.3f}]"
    return f"{interval.value:.3f}{limits}"
