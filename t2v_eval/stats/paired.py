"""What two scorers exchange in a paired test: ranks for metrics of order, else standardised scores.

Scorers have different scales. Were raw scores exchanged, each scorer would be tested on the scale
of the other. A metric of order (`AgreementMetric.by_order`) is the same for ranks as for scores, so
ranks are exchanged, and p does not change under a strictly increasing transformation of a scorer,
such as a sigmoid that saturates. With standardised scores instead, as in Deutsch, Dror and Roth
(2021), the test of a saturated scorer has less power.

Pearson's r, and pairwise accuracy with tie calibration, depend on distances between scores. These
are standardised to mean 0 and standard deviation 1, so that p does not change under increasing
linear transformations. Where people tie no pair, the best threshold is always 0 and calibrated
accuracy is a metric of order, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from t2v_eval.stats import metrics
from t2v_eval.stats.agreement_metrics import METRICS
from t2v_eval.stats.bootstrap import IntArray, Statistic, agreement_statistic
from t2v_eval.stats.metrics import FloatArray, Values


def paired_agreement_statistic(
    first: Values,
    second: Values,
    human: Values,
    names: Iterable[str] = ("pearson", "spearman", "tau_b", "tau_c", "acc23"),
    *,
    pooled: bool = False,
) -> Statistic:
    """Build the statistic for `permutation.paired_permutation` from metrics of `METRICS`.

    Args:
        first: scores, shape (items,), whose items are exchanged, or (groups, items), whose rows
            are; None or NaN is missing. Items that either scorer lacks are left out of both.
        second: the other scorer's scores, in the same shape.
        human: ratings, in the same shape.
        names: names of `METRICS`.
        pooled: as in `agreement_statistic`.

    Returns:
        A function from indices into 2n units to the metrics by name: unit k has the first scorer's
        scores, unit k + n the second's. Metrics of order are computed from ranks among all scores
        of a scorer, which changes no value.

    Raises:
        InputError: as `agreement_statistic`.

    >>> from t2v_eval.stats.permutation import paired_permutation
    >>> human = np.arange(8.0)
    >>> scores, others = human**9, -human
    >>> paired_permutation(paired_agreement_statistic(scores, others, human, ["tau_b"]), 8)
    {'tau_b': 0.0078125}
    """
    names = tuple(names)
    scores = metrics.as_floats("first", first), metrics.as_floats("second", second)
    ratings = metrics.as_floats("human", human)
    a, h = metrics.as_rows(scores[0], ratings)
    b, _ = metrics.as_rows(scores[1], ratings)
    missing = np.isnan(a) | np.isnan(b)
    a, b, h = (np.where(missing, np.nan, side) for side in (a, b, h))
    if ratings.ndim == 1:
        a, b, h = a.T, b.T, h.T
    pooled = pooled or ratings.ndim == 1
    by_order = [name for name in names if is_by_order(name, h, pooled=pooled)]
    others = [name for name in names if name not in by_order]
    twice = np.concatenate([h, h])
    of_ranks = agreement_statistic(
        np.concatenate([mean_ranks(a), mean_ranks(b)]), twice, by_order, pooled=pooled
    )
    of_scores = agreement_statistic(
        np.concatenate([standardize(a), standardize(b)]), twice, others, pooled=pooled
    )

    def metrics_of(indices: IntArray) -> Mapping[str, float]:
        values = {
            **(of_ranks(indices) if by_order else {}),
            **(of_scores(indices) if others else {}),
        }
        return {name: values[name] for name in names}

    return metrics_of


def is_by_order(name: str, human: FloatArray, *, pooled: bool) -> bool:
    """Return whether a metric depends on the order of scores alone, with these ratings.

    Args:
        name: a name of `METRICS`.
        human: ratings, shape (groups, items); NaN is missing.
        pooled: whether all of them are one sample.

    >>> untied, tied = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 2.0, 2.0]])
    >>> [is_by_order("acc23", human, pooled=True) for human in (untied, tied)]
    [True, False]
    """
    if name != "acc23":
        return name in METRICS and METRICS[name].by_order
    rows = np.sort(human.reshape(1, -1) if pooled else human, axis=1)  # NaN comes last
    return not (rows[:, 1:] == rows[:, :-1]).any()


def mean_ranks(scores: FloatArray) -> FloatArray:
    """Return the rank of each score among all, from 1; equal scores share the mean of their ranks.

    Args:
        scores: any shape; NaN is missing.

    Returns:
        The ranks in the same shape; NaN stays NaN.

    >>> mean_ranks(np.array([0.4, np.nan, 0.1, 0.4]))
    array([2.5, nan, 1. , 2.5])
    """
    present = ~np.isnan(scores)
    _, position, counts = np.unique(scores[present], return_inverse=True, return_counts=True)
    ranks = np.full(scores.shape, np.nan)
    ranks[present] = (np.cumsum(counts) - (counts - 1) / 2)[position]
    return ranks


def standardize(scores: FloatArray) -> FloatArray:
    """Shift and scale scores to mean 0 and standard deviation 1; equal scores become 0.

    Args:
        scores: any shape; NaN is missing.

    >>> standardize(np.array([1.0, np.nan, 3.0]))
    array([-1., nan,  1.])
    """
    present = scores[~np.isnan(scores)]
    largest = float(np.abs(present).max(initial=0.0))
    if largest and not 1e-100 < largest < 1e100:  # whose squares vanish or overflow
        scores, present = scores / largest, present / largest
    mean, scale = (present.mean(), present.std()) if len(present) else (0.0, 1.0)
    return np.asarray((scores - mean) / (scale or 1.0), np.float64)
