"""Agreement of existing scores with human ratings: columns of a table, without a model.

A row is one rated sample. Cells are read as `evaluation.rating_tables.columns` says. Several human
columns, one for each rater, or lists of ratings, are averaged, or (`ratings="each"`) each rating is
an observation beside the score of its row, and a row is resampled with all of its ratings.

| metric | where |
|---|---|
| pearson, spearman, tau_b, tau_c, acc23, acc_strict, acc_ignore | always, of all rows together |
| auroc, average_precision | where the human column holds 0 and 1 only |
| accuracy | where the score holds 0 and 1 only, too: the share of rows that agree |
| ks | where nodes are named: `stats.separation` |
| ..._per_group | where there are groups: the mean over them of the metric within each |
| ..._system | where generators are named: the metric of their mean scores and mean ratings |
| ..._per_tag | where there are tags: the mean over them of the metric of each |
| pair_accuracy, preference_accuracy | where rows are pairs |
| accuracy, balanced_accuracy, auroc_macro | where ratings are names of classes |
| srcc, krcc, plcc, plcc_logistic4, rmse_logistic4, ..._logistic5 | where they are asked for |

Formulas are in `stats`; the metrics are those of `stats.agreement_metrics`, so that one added there
appears here, and of `evaluation.rating_tables.names`. Intervals are 95 %, from resamples of groups
where there are any, else of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from t2v_eval.evaluation.rating_tables.observations import Constant
from t2v_eval.evaluation.rating_tables.raters import RaterAgreement, rater_agreement
from t2v_eval.evaluation.rating_tables.reasons import why_missing
from t2v_eval.evaluation.rating_tables.statistic import statistic_of
from t2v_eval.evaluation.rating_tables.table import ALL, RatedTable, Ratings, TableOptions
from t2v_eval.inputs.tables import Row
from t2v_eval.stats.averages import Average
from t2v_eval.stats.bootstrap import Interval, bootstrap_interval
from t2v_eval.stats.raters import Level

Reported = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of rows behind a figure.

    Attributes:
        rows: all rows.
        used: rows with both a score and a rating.
        units: what the bootstrap resamples: groups, or else used rows.

    >>> Counts(rows=10, used=9, units=3).used
    9
    """

    rows: int
    used: int
    units: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """Metrics with intervals, and counts, for each score column and each tag (`ALL` first).

    Attributes:
        n: the number of rows of the table.
        unit: what intervals resample: "row", or the name of the group column.
        scores: the interval of each metric, by score column and tag.
        counts: the counts, by score column and tag.
        reasons: why a metric or its interval is missing, by score column, tag and metric.
        raters: how well raters agree with each other, by tag; empty with one rater.

    >>> rows = [{"human": 1, "a": 0.1}, {"human": 2, "a": None}]
    >>> result = agreement(rows, "human", ["a"], resamples=5)
    >>> result.counts["a"]["all"].used, result.reasons["a"]["all"]["spearman"]
    (1, 'one row alone has a score and a rating')
    """

    n: int
    unit: str
    scores: Mapping[str, Mapping[str, Mapping[str, Interval]]]
    counts: Mapping[str, Mapping[str, Counts]]
    reasons: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    raters: Mapping[str, RaterAgreement] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers for JSON; undefined values are None, beside their reason."""
        content: dict[str, Any] = {
            "n": self.n,
            "unit": self.unit,
            "scores": {
                column: {
                    tag: {
                        name: to_json(interval, self.reason(column, tag, name))
                        for name, interval in intervals.items()
                    }
                    for tag, intervals in by_tag.items()
                }
                for column, by_tag in self.scores.items()
            },
            "counts": {
                column: {
                    tag: {"rows": c.rows, "used": c.used, "units": c.units}
                    for tag, c in by_tag.items()
                }
                for column, by_tag in self.counts.items()
            },
        }
        if self.raters:
            content["raters"] = {
                tag: _raters_to_json(raters) for tag, raters in self.raters.items()
            }
        return content

    def reason(self, column: str, tag: str, metric: str) -> str:
        """Return why a figure or its interval is missing; an empty text where it is not."""
        return self.reasons.get(column, {}).get(tag, {}).get(metric, "")


def agreement(
    rows: Sequence[Row],
    human: str | Sequence[str],
    scores: str | Iterable[str],
    *,
    group: str | None = None,
    tags: str | None = None,
    system: str | None = None,
    nodes: str | None = None,
    versus: Sequence[str] = (),
    classes: bool = False,
    ratings: Ratings = "mean",
    metrics: Sequence[str] = (),
    mean: Average = "plain",
    constant_groups: Constant = "skip",
    level: Level = "interval",
    resamples: int = 1000,
    seed: int = 0,
    progress: Reported | None = None,
) -> Agreement:
    """Compute the agreement of each score column with the human ratings, overall and by tag.

    Args:
        rows: the rows of a table, as `read_table` returns them.
        human: columns of ratings, one for each rater; a cell may be a list of ratings.
        scores: columns of scores.
        group: a column; rows with the same value, such as one prompt, are resampled together.
        tags: a column of names separated by ``;``, or of lists of names.
        system: a column of generators, whose means are compared, too.
        nodes: a column of labels; rows of one label and group are images with the same errors.
        versus: where rows are pairs, the columns of the scores of the second sides, one for each
            column of `scores`; ratings are then preferences, such as left, right and tie.
        classes: whether ratings are names of classes; scores are then names, too, or objects with a
            score of each class.
        ratings: "mean" compares scores with the mean of a row's ratings, "each" with every rating.
        metrics: names of metrics; by default all that values allow and need not be asked for.
        mean: how metrics within groups and tags are averaged; see `stats.averages`.
        constant_groups: whether a correlation within a group of equal scores or ratings is left out
            ("skip") or counts as 0 ("zero").
        level: what Krippendorff's alpha takes ratings for.
        resamples: the number of bootstrap resamples, 1 or more.
        seed: their random seed.
        progress: called with each column and tag before it is computed.

    Raises:
        TableError: a column is in no row, a value cannot be read, or a group is empty.
        InputError: there are no rows or no score columns, a score column is named twice, an option
            has another value, or options exclude each other.

    >>> rows = [{"human": h, "a": a} for h, a in ((1, 0.1), (2, 0.4), (3, 0.3))]
    >>> round(agreement(rows, "human", ["a"], resamples=10).scores["a"]["all"]["tau_b"].value, 3)
    0.333
    """
    options = TableOptions(
        group, tags, system, nodes, versus, classes, ratings, metrics, mean, constant_groups, level,
        resamples, seed
    )  # fmt: skip
    return measure(RatedTable.read(rows, human, scores, options), progress)


def measure(table: RatedTable, progress: Reported | None = None) -> Agreement:
    """Compute the agreement of each score column of a table that is read.

    Args:
        table: the table.
        progress: called with each column and tag before it is computed.

    >>> table = RatedTable.read([{"human": 1, "a": 0.1}], "human", ["a"])
    >>> measure(table).n
    1
    """
    options, everything = table.options, np.arange(len(table.rows))
    intervals: dict[str, dict[str, Mapping[str, Interval]]] = {name: {} for name in table.scores}
    counts: dict[str, dict[str, Counts]] = {name: {} for name in table.scores}
    reasons: dict[str, dict[str, Mapping[str, str]]] = {name: {} for name in table.scores}
    for column in table.scores:
        names = table.names(column)
        for tag, index in {ALL: everything, **table.tags}.items():
            if progress is not None:
                progress(column, tag)
            observed = table.observations(column, None if tag == ALL else index)
            present = observed.present()
            figures = bootstrap_interval(
                statistic_of(present, names, options.averaging),
                present.units,
                resamples=options.resamples,
                seed=options.seed,
            )
            intervals[column][tag] = figures
            complete = ~np.isnan(table.scores[column][index]) & ~np.isnan(table.human[index])
            counts[column][tag] = Counts(len(index), int(complete.sum()), present.units)
            reasons[column][tag] = {
                name: reason
                for name, interval in figures.items()
                if (reason := why_missing(name, interval, observed, options.averaging, table.unit))
            }
    raters = {
        tag: of_raters
        for tag, index in {ALL: everything, **table.tags}.items()
        if (of_raters := rater_agreement(table, index)) is not None
    }
    return Agreement(len(table.rows), table.unit, intervals, counts, reasons, raters)


def to_json(interval: Interval, reason: str = "") -> dict[str, float | str | None]:
    """Return a figure for JSON: its value and limits, None where undefined, and the reason.

    >>> to_json(Interval(0.5, math.nan, math.nan), "no interval: there is only one row")
    {'value': 0.5, 'low': None, 'high': None, 'reason': 'no interval: there is only one row'}
    """
    plain: dict[str, float | str | None] = {
        k: v if math.isfinite(v) else None for k, v in interval._asdict().items()
    }
    return {**plain, "reason": reason} if reason else plain


def _raters_to_json(raters: RaterAgreement) -> dict[str, Any]:
    return {
        "raters": raters.raters,
        "rows": raters.rows,
        "level": raters.level,
        "alpha": to_json(raters.alpha),
        "ceiling": {name: to_json(interval) for name, interval in raters.ceiling.items()},
    }
