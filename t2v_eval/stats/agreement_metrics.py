"""The agreement metrics, by the names that reports use.

Adding a metric is one entry of `METRICS` (or one call of `register_metric`). Everything else is
derived from it: intervals, permutation tests, means over groups, `t2v-eval agree` and benchmarks.
The formulas are in `metrics.py` and, of pairs and ties, in `pairwise.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import InputError
from t2v_eval.stats import metrics
from t2v_eval.stats import resampled_metrics as resampled
from t2v_eval.stats.intervals import Kind
from t2v_eval.stats.metrics import FloatArray
from t2v_eval.stats.pairwise import Pairs
from t2v_eval.stats.resampled_metrics import Resample, SortedSample
from t2v_eval.stats.resampling.resamples import Resamples

Metric: TypeAlias = Callable[[FloatArray, FloatArray], float]


@dataclass(frozen=True, slots=True)
class AgreementMetric:
    """How well scores agree with people, as one number; higher is better.

    Attributes:
        name: what reports call it.
        compute: takes scores and ratings of one shape, (items,) or (groups, items), NaN is missing,
            and returns the value, NaN where it is undefined.
        meaning: what it is, in plain words, with its range.
        averages_rows: whether its value in two dimensions is the mean over the rows.
        needs_labels: whether ratings must be 0 and 1.
        in_groups: whether `t2v-eval agree` also reports its mean over groups.
        rows: a fast version for many rows: takes (groups, items), returns (groups,).
        resampled: a fast version for resamples; without one, `compute` gets the copies of items.
        by_order: whether it depends on the order of scores alone, so that a paired test exchanges
            ranks (`stats.paired`).
        interval: the kind of its confidence interval (`stats.intervals`).

    >>> def share_above(scores, human):
    ...     return float(np.mean(scores > human))
    >>> metric = AgreementMetric("above", share_above, "share of scores above the rating, 0 to 1")
    >>> metric.compute(np.array([0.5, 0.2]), np.array([0.1, 0.9]))
    0.5
    """

    name: str
    compute: Metric
    meaning: str = ""
    averages_rows: bool = False
    needs_labels: bool = False
    in_groups: bool = True
    rows: Callable[[FloatArray, FloatArray], FloatArray] | None = None
    resampled: Callable[[Resample], float] | None = None
    by_order: bool = False
    interval: Kind = "percentile"

    def per_row(self, scores: FloatArray, human: FloatArray) -> FloatArray:
        """Compute the metric of each row alone, NaN where it is undefined.

        Args:
            scores: shape (groups, items); NaN is missing.
            human: ratings, in the same shape.

        Returns:
            Shape (groups,).

        >>> METRICS["tau_b"].per_row(np.array([[0.1, 0.2], [0.1, 0.1]]), np.array([[1, 2], [1, 2]]))
        array([ 1., nan])
        """
        if self.rows is not None:
            return self.rows(scores, human)
        return metrics.per_group(self.compute, scores, human)


def _strict_rows(scores: FloatArray, human: FloatArray) -> FloatArray:
    pairs = Pairs(scores, human)
    return _spread_rows(pairs, pairs.accuracies(0.0), len(scores))


def _ordered_rows(scores: FloatArray, human: FloatArray) -> FloatArray:
    pairs = Pairs(scores, human)
    return _spread_rows(pairs, pairs.accuracies_of_ordered(), len(scores))


def _spread_rows(pairs: Pairs, values: FloatArray, rows: int) -> FloatArray:
    """Put the values of the rows that hold pairs at their places; the other rows are NaN."""
    spread = np.full(rows, np.nan)
    spread[np.unique(pairs.row)] = values
    return spread


def _pairwise(ties: metrics.Ties) -> Metric:
    return lambda s, h: metrics.pairwise_accuracy(s, h, ties).value


METRICS: dict[str, AgreementMetric] = {
    metric.name: metric
    for metric in (
        AgreementMetric(
            "pearson",
            metrics.pearson,
            "Pearson correlation with the ratings, -1 to 1",
            rows=metrics.pearson_rows,
            resampled=resampled.pearson,
            interval="correlation",
        ),
        AgreementMetric(
            "spearman",
            metrics.spearman,
            "Spearman rank correlation with the ratings, -1 to 1",
            by_order=True,
            rows=metrics.spearman_rows,
            resampled=resampled.spearman,
            interval="correlation",
        ),
        AgreementMetric(
            "tau_b",
            metrics.kendall_tau_b,
            "Kendall's tau-b: pairs in the order of people minus pairs in the other order, "
            "corrected for ties, -1 to 1",
            averages_rows=True,
            by_order=True,
            rows=lambda s, h: metrics.kendall_rows(s, h, "b"),
            resampled=resampled.kendall_tau_b,
            interval="pairs",
        ),
        AgreementMetric(
            "tau_c",
            metrics.kendall_tau_c,
            "Kendall's tau-c (Stuart): as tau-b, corrected for ratings of few levels, -1 to 1",
            averages_rows=True,
            by_order=True,
            rows=lambda s, h: metrics.kendall_rows(s, h, "c"),
            resampled=resampled.kendall_tau_c,
            interval="pairs",
        ),
        AgreementMetric(
            "acc23",
            _pairwise("calibrated"),
            "pairwise accuracy with tie calibration (Deutsch et al. 2023): the share of all pairs "
            "that scores order as people do or tie as people do, 0 to 1; the threshold of ties is "
            "fitted to the same data",
            averages_rows=True,
            resampled=resampled.accuracy_at_threshold,
            interval="pairs",
        ),
        AgreementMetric(
            "acc_strict",
            _pairwise("strict"),
            "pairwise accuracy where only equal scores are ties, 0 to 1",
            averages_rows=True,
            by_order=True,
            in_groups=False,
            rows=_strict_rows,
            resampled=resampled.strict_accuracy,
            interval="pairs",
        ),
        AgreementMetric(
            "acc_ignore",
            _pairwise("ignore"),
            "pairwise accuracy over the pairs that people do not tie, 0 to 1",
            averages_rows=True,
            by_order=True,
            rows=_ordered_rows,
            resampled=resampled.untied_accuracy,
            interval="pairs",
        ),
        AgreementMetric(
            "auroc",
            metrics.auroc,
            "area under the ROC curve: how often a matching pair scores above one that does not "
            "match, 0 to 1, guessing 0.5",
            needs_labels=True,
            by_order=True,
            in_groups=False,
            resampled=resampled.auroc,
        ),
        AgreementMetric(
            "average_precision",
            metrics.average_precision,
            "area under the precision-recall curve of the matching pairs, 0 to 1",
            needs_labels=True,
            by_order=True,
            in_groups=False,
            resampled=resampled.average_precision,
        ),
    )
}
"""The agreement metrics by name, in the order of reports."""


def register_metric(metric: AgreementMetric) -> None:
    """Add an agreement metric for this process.

    Args:
        metric: the metric; reports and `t2v-eval agree` show it after those of `METRICS`.

    Raises:
        InputError: there is one of that name.

    >>> def share_above(scores, human):
    ...     return float(np.mean(scores > human))
    >>> register_metric(AgreementMetric("above", share_above))
    >>> "above" in METRICS
    True
    >>> del METRICS["above"]
    """
    if metric.name in METRICS:
        raise InputError(f"there is an agreement metric {metric.name!r} already: use another name")
    METRICS[metric.name] = metric


class WeightedAgreement:
    """Agreement metrics of resamples of one sample.

    Args:
        scores: shape (items,); NaN is missing.
        human: ratings, in the same shape; items that lack either are in no resample.
        names: names of `METRICS`.
        threshold: for "acc23", the largest score difference that is a tie.

    Raises:
        InputError: ratings other than 0 and 1 with a metric of labels.

    >>> metrics_of = WeightedAgreement(
    ...     np.array([0.1, 0.4, 0.3]), np.array([1.0, 2.0, 2.0]), ["tau_b"]
    ... )
    >>> metrics_of(np.array([1.0, 2.0, 0.0]))
    {'tau_b': 1.0}
    """

    def __init__(
        self,
        scores: FloatArray,
        human: FloatArray,
        names: Sequence[str],
        threshold: float | None = None,
    ) -> None:
        self._metrics = [METRICS[name] for name in names]
        self._scores, self._human = scores, human
        if any(metric.needs_labels for metric in self._metrics):
            metrics.labelled(self._scores, self._human)
        self._sample = SortedSample(self._scores, self._human, threshold)

    def __call__(self, copies: NDArray[np.generic]) -> dict[str, float]:
        """Compute the metrics of a resample; NaN with fewer than two items.

        Args:
            copies: shape (items,), how many times the resample holds each item.

        Returns:
            Each metric by name.
        """
        return self._values(Resample(self._sample, copies), copies)

    def together(self, copies: NDArray[np.integer]) -> dict[str, FloatArray]:
        """Compute the metrics of many resamples; see `stats.resampling.resamples`.

        Args:
            copies: shape (items, resamples).

        Returns:
            Each metric by name, shape (resamples,).
        """
        values = [
            [*self._values(resample, of_resample).values()]
            for resample, of_resample in zip(Resamples(self._sample, copies), copies.T, strict=True)
        ]
        columns = np.array(values, np.float64).reshape(len(values), len(self._metrics)).T
        return {metric.name: column for metric, column in zip(self._metrics, columns, strict=True)}

    def _values(self, resample: Resample, copies: NDArray[np.generic]) -> dict[str, float]:
        if resample.n < 2:
            return dict.fromkeys((metric.name for metric in self._metrics), math.nan)
        return {metric.name: self._value(metric, resample, copies) for metric in self._metrics}

    def _value(
        self, metric: AgreementMetric, resample: Resample, copies: NDArray[np.generic]
    ) -> float:
        if metric.resampled is not None:
            return metric.resampled(resample)
        index = np.repeat(np.arange(len(copies)), copies.astype(np.int64))
        return metric.compute(self._scores[index], self._human[index])
