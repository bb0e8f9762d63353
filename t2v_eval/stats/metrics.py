"""Agreement of scores with human ratings: pure functions in float64, from 0 to 1 or from -1 to 1.

Every function takes `(scores, human)` of one shape: (items,), or (groups, items) with one row for
each group, for example all images of one prompt. None and NaN are missing values: an item that
lacks either side is dropped, and groups of unequal size are padded with NaN. An undefined metric
(fewer than two items, a constant side of a correlation) is NaN, without a warning.

| function | two dimensions mean |
|---|---|
| `pearson`, `spearman`, `auroc`, `average_precision` | one sample of all items |
| `kendall_tau_b`, `kendall_tau_c`, `pairwise_accuracy` | mean over the rows where it is defined |

`preference_accuracy`, `ranking_accuracy` and `best_of`, which choose among images of one text, are
defined in `t2v_eval.stats.ranking` and can be imported from here, too. `stats.agreement_metrics`
lists the metrics that reports know by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from t2v_eval.errors import InputError
from t2v_eval.stats.pairwise import Pairs
from t2v_eval.stats.ranking import (
    best_of,
    best_of_rows,
    preference_accuracy,
    preference_rows,
    ranking_accuracy,
    ranking_rows,
    top_rows,
)
from t2v_eval.utils.arrays import FloatArray, Values, as_floats, as_rows, mean_of_known

__all__ = [
    "FloatArray",
    "PairwiseAccuracy",
    "Values",
    "WinogroundAccuracy",
    "as_floats",
    "as_rows",
    "auroc",
    "average_precision",
    "best_of",
    "best_of_rows",
    "count_valid",
    "kendall_rows",
    "kendall_tau_b",
    "kendall_tau_c",
    "labelled",
    "pairwise_accuracy",
    "pearson",
    "pearson_rows",
    "per_group",
    "preference_accuracy",
    "preference_rows",
    "ranking_accuracy",
    "ranking_rows",
    "spearman",
    "spearman_rows",
    "top_rows",
    "winoground_accuracy",
    "winoground_correct",
]

# scipy.stats and sklearn.metrics take a second to import and are imported where they are used.

Ties = Literal["calibrated", "ignore", "strict"]
Variant: TypeAlias = Literal["b", "c"]

_MAX_SIGNS = 1 << 22


class WinogroundAccuracy(NamedTuple):
    """The shares of items that are correct by text, image and group score, each from 0 to 1.

    >>> WinogroundAccuracy(text=0.5, image=0.25, group=0.25).text
    0.5
    """

    text: float
    image: float
    group: float


class PairwiseAccuracy(NamedTuple):
    """The share of pairs in the right order (0 to 1), and the largest difference that is a tie.

    >>> PairwiseAccuracy(value=0.9, threshold=0.1).value
    0.9
    """

    value: float
    threshold: float


def winoground_accuracy(scores: Values) -> WinogroundAccuracy:
    """Compute text, image and group accuracy of Winoground (Thrush et al. 2022, eq. 1 to 3).

    Text: each image scores higher with its own text. Image: each text scores higher with its own
    image. Group: both. A tie is wrong; an item with a missing score is left out. Random scores
    reach 1/4, 1/4 and 1/6.

    Args:
        scores: shape (n, 2, 2): `scores[n, image, text]` of item n, whose image i belongs to text
            i.

    Returns:
        The three accuracies, each from 0 to 1; NaN where no item has all of its scores.

    Raises:
        InputError: another shape.

    >>> winoground_accuracy([[[0.9, 0.2], [0.1, 0.8]], [[0.9, 0.2], [0.95, 0.96]]])
    WinogroundAccuracy(text=1.0, image=0.5, group=0.5)
    """
    correct = winoground_correct(scores)
    correct = correct[~np.isnan(correct[:, 0])]
    if not len(correct):
        return WinogroundAccuracy(math.nan, math.nan, math.nan)
    text, image, group = correct.mean(axis=0)
    return WinogroundAccuracy(float(text), float(image), float(group))


def winoground_correct(scores: Values) -> FloatArray:
    """Return text, image and group correctness of each item: shape (n, 3), 0, 1 or NaN (missing).

    Args:
        scores: as in `winoground_accuracy`.

    Raises:
        InputError: another shape than (n, 2, 2).

    >>> winoground_correct([[[0.9, 0.2], [0.95, 0.96]], [[0.9, None], [0.1, 0.2]]])
    array([[ 1.,  0.,  0.],
           [nan, nan, nan]])
    """
    s = as_floats("scores", scores)
    if s.size == 0:
        return np.empty((0, 3))
    if s.ndim != 3 or s.shape[1:] != (2, 2):
        raise InputError(
            f"scores has shape {s.shape}: Winoground needs (n, 2, 2), for each item the scores "
            "[[image 0 with text 0, image 0 with text 1], [image 1 with text 0, image 1 with text "
            "1]]"
        )
    first, second = s[:, 0, 0], s[:, 1, 1]
    text = (first > s[:, 0, 1]) & (second > s[:, 1, 0])
    image = (first > s[:, 1, 0]) & (second > s[:, 0, 1])
    correct = np.stack([text, image, text & image], axis=1).astype(np.float64)
    correct[np.isnan(s).any(axis=(1, 2))] = np.nan
    return correct


def pearson(scores: Values, human: Values) -> float:
    """Compute Pearson's r, cov(s, h) / (std(s) std(h)), from -1 to 1, with `scipy.stats.pearsonr`.

    NaN also where a side varies by less than its own rounding: below 1e-13 of its mean.

    Args:
        scores: shape (items,) or (groups, items), which is one sample; None and NaN are missing.
        human: ratings, in the same shape.

    Raises:
        InputError: shapes that differ, more than two dimensions, infinite or non-numeric values.

    >>> round(pearson([0.1, 0.4, 0.3, 0.8], [1, 2, None, 3]), 3)
    0.997
    """
    s, h = _sample(scores, human)
    if len(s) < 2 or _is_flat(s) or _is_flat(h):
        return math.nan
    from scipy import stats

    with np.errstate(all="ignore"):
        return float(stats.pearsonr(s, h).statistic)


def spearman(scores: Values, human: Values) -> float:
    """Compute Spearman's rho, Pearson's r of average ranks, with `scipy.stats.spearmanr`.

    Args:
        scores: as in `pearson`.
        human: ratings, in the same shape.

    Returns:
        rho, from -1 to 1 (Spearman 1904); NaN where it is undefined.

    Raises:
        InputError: as `pearson`.

    >>> round(spearman([0.1, 0.4, 0.3, 0.8], [1, 2, 2, 3]), 3)
    0.949
    """
    s, h = _sample(scores, human)
    if len(s) < 2 or _is_constant(s) or _is_constant(h):
        return math.nan
    from scipy import stats

    return float(stats.spearmanr(s, h).statistic)


def kendall_tau_b(scores: Values, human: Values) -> float:
    """Compute Kendall's tau-b, from -1 to 1, as `scipy.stats.kendalltau(variant="b")`.

    (C - D) / sqrt((P - Ts)(P - Th)) for C pairs ordered alike, D ordered oppositely, P pairs, Ts
    and Th of them tied in scores and in human (Kendall 1945). Mean over rows.

    Args:
        scores: shape (items,) or (groups, items); None and NaN are missing.
        human: ratings, in the same shape.

    Raises:
        InputError: as `pearson`.

    >>> round(kendall_tau_b([0.1, 0.4, 0.3, 0.8], [1, 2, 2, 3]), 3)
    0.913
    """
    return _mean_kendall(scores, human, "b")


def kendall_tau_c(scores: Values, human: Values) -> float:
    """Compute Stuart's tau-c, from -1 to 1, as `scipy.stats.kendalltau(variant="c")`.

    2 (C - D) / (n^2 (m - 1) / m) for n items, C pairs ordered alike, D ordered oppositely, and m
    the smaller number of distinct values (Stuart 1953). Mean over rows.

    Args:
        scores: shape (items,) or (groups, items); None and NaN are missing.
        human: ratings, in the same shape.

    Raises:
        InputError: as `pearson`.

    >>> kendall_tau_c([0.1, 0.4, 0.3, 0.8], [1, 2, 2, 3])
    0.9375
    """
    return _mean_kendall(scores, human, "c")


def pairwise_accuracy(
    scores: Values, human: Values, ties: Ties = "calibrated", *, threshold: float | None = None
) -> PairwiseAccuracy:
    """Compute the share of pairs of items that scores and people order alike; mean over rows.

    By `ties`:

    - "calibrated": (pairs ordered alike + pairs tied in both) / all pairs, where scores no further
      apart than a threshold are tied. The threshold is the smallest, among 0 and all differences
      within rows, with the largest result: acc_eq with tie calibration, "acc23" (Deutsch, Foster
      and Freitag 2023, "Ties Matter"). It is fitted to the data that it is applied to. Pass
      `threshold` to use another one.
    - "strict": the same with threshold 0, so that only equal scores are tied.
    - "ignore": pairs ordered alike / pairs that people do not tie. Equal scores are wrong.

    The result is exact in float64 and does not list the pairs: 50,000 items take seconds and 100
    MB. Where the row sizes have no common multiple within 62 bits, thresholds whose results differ
    by less than about 1e-9 count as equal.

    Args:
        scores: shape (items,) or (groups, items); None and NaN are missing.
        human: ratings, in the same shape.
        ties: "calibrated", "strict" or "ignore".
        threshold: the largest score difference that is a tie, for ties="calibrated"; fitted by
            default.

    Returns:
        The accuracy, from 0 to 1, and the threshold; NaN without pairs.

    Raises:
        InputError: as `pearson`, and for other `ties` or a threshold below 0.

    >>> pairwise_accuracy([1, 4, 3, 9, 9], [1, 2, 2, 3, 4])
    PairwiseAccuracy(value=0.9, threshold=1.0)
    >>> pairwise_accuracy([1, 4, 3, 9, 9], [1, 2, 2, 3, 4], "strict")
    PairwiseAccuracy(value=0.8, threshold=0.0)
    >>> round(pairwise_accuracy([1, 4, 3, 9, 9], [1, 2, 2, 3, 4], "ignore").value, 3)
    0.889
    """
    if ties not in get_args(Ties):
        raise InputError(f"`ties={ties!r}`: use one of {', '.join(map(repr, get_args(Ties)))}")
    if threshold is not None and (ties != "calibrated" or not threshold >= 0):
        raise InputError(
            f"`threshold={threshold!r}` with `ties={ties!r}`: a threshold is a number from 0 on "
            "and goes with `ties='calibrated'`"
        )
    pairs = Pairs(*as_rows(scores, human))
    if ties == "ignore":
        value = pairs.accuracy_of_ordered()
        return PairwiseAccuracy(value, math.nan if math.isnan(value) else 0.0)
    if ties == "strict":
        threshold = 0.0
    elif threshold is None:
        threshold = pairs.calibrate()
    value = pairs.accuracy(threshold)
    return PairwiseAccuracy(value, math.nan if math.isnan(value) else float(threshold))


def auroc(scores: Values, human: Values) -> float:
    """Compute the area under the ROC curve, from 0 to 1, with `sklearn.metrics.roc_auc_score`.

    It is the probability that an item with label 1 scores above one with label 0, equal scores
    counting 1/2. NaN unless both labels occur.

    Args:
        scores: shape (items,) or (groups, items), which is one sample; None and NaN are missing.
        human: labels 0 and 1, in the same shape.

    Raises:
        InputError: as `pearson`, and for labels other than 0 and 1.

    >>> auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.75
    """
    s, h = labelled(scores, human)
    if len(s) < 2 or _is_constant(h):
        return math.nan
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(h, s))


def average_precision(scores: Values, human: Values) -> float:
    """Compute average precision, from 0 to 1, with `sklearn.metrics.average_precision_score`.

    It is the sum over thresholds of (R_k - R_(k-1)) P_k, for precision P and recall R of label 1.
    NaN where no item has label 1.

    Args:
        scores: shape (items,) or (groups, items), which is one sample; None and NaN are missing.
        human: labels 0 and 1, in the same shape.

    Raises:
        InputError: as `auroc`.

    >>> round(average_precision([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]), 3)
    0.833
    """
    s, h = labelled(scores, human)
    if len(s) < 2 or not h.any():
        return math.nan
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(h, s))


def count_valid(scores: Values, human: Values) -> int:
    """Count the items that have both a score and a rating.

    >>> count_valid([0.1, None, 0.3], [1, 2, 3])
    2
    """
    return len(_sample(scores, human)[0])


def per_group(
    metric: Callable[[FloatArray, FloatArray], float], scores: Values, human: Values
) -> FloatArray:
    """Compute `metric` of each row alone, NaN where it is undefined.

    Args:
        metric: takes the scores and ratings of a row, shape (items,), NaN for missing.
        scores: shape (groups, items).
        human: ratings, in the same shape.

    Returns:
        Shape (groups,).

    >>> per_group(kendall_tau_b, [[0.1, 0.2, 0.3], [0.1, 0.1, 0.1]], [[1, 2, 3], [1, 2, 3]])
    array([ 1., nan])
    """
    rows = zip(*as_rows(scores, human), strict=True)
    return np.array([metric(s, h) for s, h in rows], dtype=np.float64)


def kendall_rows(scores: Values, human: Values, variant: Variant) -> FloatArray:
    """Compute Kendall's tau-b or tau-c of each row alone, NaN where it is undefined.

    >>> kendall_rows([[0.1, 0.2, 0.3], [0.1, 0.1, 0.1]], [[1, 2, 3], [1, 2, 3]], "b")
    array([ 1., nan])
    """
    s, h = as_rows(scores, human)
    # Calling scipy for each of many short rows takes 100 times longer.
    if len(s) > 1 and _are_short(s):
        return _kendall_rows(s, h, variant)
    return np.array([_kendall(*row, variant) for row in zip(s, h, strict=True)], dtype=np.float64)


@np.errstate(all="ignore")
def pearson_rows(scores: Values, human: Values) -> FloatArray:
    """Compute Pearson's r of each row alone, NaN where it is undefined.

    >>> pearson_rows([[0.1, 0.2, 0.4], [0.1, 0.1, 0.1]], [[1, 2, 4], [1, 2, 3]])
    array([ 1., nan])
    """
    s, h = as_rows(scores, human)
    if len(s) < 2:
        return per_group(pearson, s, h)
    present = ~np.isnan(s)
    count = present.sum(axis=1)
    centred, flat = [], count < 2
    for side in (s, h):
        filled = np.where(present, side, 0.0)
        mean = filled.sum(axis=1) / np.maximum(count, 1)
        deviation = np.where(present, side - mean[:, None], 0.0)
        first = side[np.arange(len(side)), present.argmax(axis=1)]
        flat |= np.where(present, side == first[:, None], True).all(axis=1)
        largest = np.abs(deviation).max(axis=1, initial=0.0)
        # Scaled, so that squares neither overflow nor vanish.
        deviation /= np.where(largest > 0, largest, 1.0)[:, None]
        flat |= np.sqrt((deviation**2).sum(axis=1)) * largest < 1e-13 * np.abs(mean)
        centred.append(deviation)
    x, y = centred
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    values = np.full(len(s), np.nan)
    np.divide((x * y).sum(axis=1), scale, out=values, where=~flat & (scale > 0))
    return values.clip(-1.0, 1.0)


def spearman_rows(scores: Values, human: Values) -> FloatArray:
    """Compute Spearman's rho of each row alone, NaN where it is undefined.

    >>> spearman_rows([[0.1, 0.2, 0.9], [0.1, 0.1, 0.1]], [[1, 2, 3], [1, 2, 3]])
    array([ 1., nan])
    """
    s, h = as_rows(scores, human)
    if len(s) < 2 or not _are_short(s):
        return per_group(spearman, s, h)
    return pearson_rows(_ranks(s), _ranks(h))


def _sample(scores: Values, human: Values) -> tuple[FloatArray, FloatArray]:
    s, h = as_rows(scores, human)
    present = ~np.isnan(s)
    return s[present], h[present]


def labelled(scores: Values, human: Values) -> tuple[FloatArray, FloatArray]:
    """Return scores and labels of the items that have both, each of shape (present items,).

    Raises:
        InputError: as `pearson`, and for labels other than 0 and 1.

    >>> labelled([0.1, None, 0.3], [1, 0, 0])
    (array([0.1, 0.3]), array([1., 0.]))
    """
    s, h = _sample(scores, human)
    other = h[(h != 0) & (h != 1)]
    if len(other):
        raise InputError(
            f"human holds {other[0]:g}: this metric needs labels 0 and 1: compare the ratings with "
            "a cut-off first"
        )
    return s, h


def _mean_kendall(scores: Values, human: Values, variant: Variant) -> float:
    return mean_of_known(kendall_rows(scores, human, variant))


def _are_short(rows: FloatArray) -> bool:
    return bool(rows.shape[0] * rows.shape[1] ** 2 <= _MAX_SIGNS)


def _ranks(rows: FloatArray) -> FloatArray:
    """Return the mean rank of each value in its row, from 1; NaN stays NaN."""
    below = (rows[:, None, :] < rows[:, :, None]).sum(axis=2)
    equal = (rows[:, None, :] == rows[:, :, None]).sum(axis=2)
    return np.where(np.isnan(rows), np.nan, below + (equal + 1) / 2)


def _kendall(s: FloatArray, h: FloatArray, variant: Variant) -> float:
    present = ~np.isnan(s)
    s, h = s[present], h[present]
    if len(s) < 2 or _is_constant(s) or _is_constant(h):
        return math.nan
    from scipy import stats

    # The p-value is not used: the exact one is slow, the asymptotic one divides by n - 2.
    method = "asymptotic" if len(s) > 2 else "exact"
    with np.errstate(all="ignore"):
        result = stats.kendalltau(s, h, variant=variant, method=method)
    return float(result.statistic)


def _kendall_rows(s: FloatArray, h: FloatArray, variant: Variant) -> FloatArray:
    first, second = np.triu_indices(s.shape[1], 1)
    signs = [
        np.subtract(x[:, first] > x[:, second], x[:, first] < x[:, second], dtype=np.int64)
        for x in (s, h)
    ]
    difference = (signs[0] * signs[1]).sum(axis=1)
    if variant == "b":
        scale = np.sqrt(np.abs(signs[0]).sum(axis=1)) * np.sqrt(np.abs(signs[1]).sum(axis=1))
    else:
        ordered = [np.sort(x, axis=1) for x in (s, h)]
        distinct = [1 + (x[:, 1:] > x[:, :-1]).sum(axis=1) for x in ordered]
        classes = np.minimum(*distinct)
        scale = (~np.isnan(s)).sum(axis=1) ** 2 * (classes - 1) / classes / 2
    values = np.full(len(s), np.nan)
    np.divide(difference, scale, out=values, where=scale > 0)
    return values.clip(-1.0, 1.0)


def _is_constant(values: FloatArray) -> bool:
    return bool((values == values[0]).all())


def _is_flat(values: FloatArray) -> bool:
    """Return whether a side varies by rounding errors alone; the limit is scipy's own."""
    if _is_constant(values):
        return True
    with np.errstate(all="ignore"):
        mean = values.mean()
        return not np.linalg.norm(values - mean) >= 1e-13 * abs(mean)
