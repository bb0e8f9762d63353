"""How well raters agree with each other: kappa, Krippendorff's alpha, the ceiling of a scorer.

Ratings are an array of shape (items, raters), NaN where a rater did not rate an item.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import numpy as np

from t2v_eval.errors import InputError
from t2v_eval.stats.averages import Average, average
from t2v_eval.utils.arrays import FloatArray

Level: TypeAlias = Literal["nominal", "ordinal", "interval"]


def mean_ratings(ratings: FloatArray) -> FloatArray:
    """Return the mean of the raters of each item, the same in any order of the raters.

    Args:
        ratings: shape (items, raters); NaN is missing.

    Returns:
        Shape (items,); NaN where no rater rated an item.

    >>> mean_ratings(np.array([[4.0, 5.0], [np.nan, np.nan]]))
    array([4.5, nan])
    """
    rows = [[value for value in row if not math.isnan(value)] for row in ratings.tolist()]
    return np.array([math.fsum(row) / len(row) if row else math.nan for row in rows], np.float64)


def krippendorff_alpha(
    ratings: FloatArray, level: Level = "interval", copies: FloatArray | None = None
) -> float:
    """Compute Krippendorff's alpha, 1 - observed / expected disagreement.

    Follows Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability". Items with one rating
    count for neither. The disagreement of two values is 0 or 1 ("nominal"), the square of their
    difference ("interval"), or the square of the difference of their mean ranks ("ordinal").

    Args:
        ratings: shape (items, raters); NaN is missing.
        level: what values mean: names, an order, or a scale.
        copies: shape (items,), how often each item counts, for resamples; by default once.

    Returns:
        Alpha, at most 1; 0 is what chance gives. NaN where all ratings are equal, or no item has
        two.

    Raises:
        InputError: another level.

    >>> round(krippendorff_alpha(np.array([[1, 1], [2, 2], [3, 3], [3, 4], [2, 2]])), 3)
    0.889
    """
    if level not in get_args(Level):
        raise InputError(f"`level={level!r}`: use one of {', '.join(map(repr, get_args(Level)))}")
    ratings = np.asarray(ratings, np.float64)
    present = ~np.isnan(ratings)
    paired = present.sum(axis=1) >= 2
    ratings, present = ratings[paired], present[paired]
    weight = np.ones(len(ratings)) if copies is None else copies[paired]
    size = present.sum(axis=1)
    total = float(weight @ size)
    if not total:
        return math.nan
    values, code = np.unique(ratings[present], return_inverse=True)
    item = np.nonzero(present)[0]
    counts = np.bincount(code, weight[item], len(values))
    if np.count_nonzero(counts) < 2:
        return math.nan
    if level == "nominal":
        cells, repeats = np.unique(item * len(values) + code, return_counts=True)
        same = np.bincount(cells // len(values), repeats**2, len(ratings))
        within, overall = size**2 - same, total**2 - counts @ counts
    else:
        # Alpha is the same on any scale; on this one no square overflows.
        scaled = values / np.abs(values).max()
        scale = np.cumsum(counts) - counts / 2 if level == "ordinal" else scaled
        scale = scale - counts @ scale / total
        x = scale[code]
        sums, squares = (np.bincount(item, power, len(ratings)) for power in (x, x**2))
        within = 2 * (size * squares - sums**2)
        overall = 2 * (total * (counts @ scale**2) - (counts @ scale) ** 2)
    observed = float(weight @ (within / (size - 1))) / total
    return 1 - observed / (float(overall) / (total * (total - 1)))


def cohen_kappa(ratings: FloatArray) -> float:
    """Compute Cohen's kappa of two raters, (observed - expected) / (1 - expected) agreement.

    Follows Cohen 1960, "A Coefficient of Agreement for Nominal Scales": each rater has shares of
    their own, unlike in Krippendorff's alpha.

    Args:
        ratings: shape (items, 2), values that are names; items without both count for neither.

    Returns:
        Kappa, -1 to 1; 0 is what chance gives. NaN where no item has both, or both raters gave all
        items one value, so that chance alone would agree always.

    Raises:
        InputError: there are not two raters.

    >>> round(cohen_kappa(np.array([[1, 1], [1, 0], [0, 0], [0, 0]])), 3)
    0.5
    """
    ratings = np.asarray(ratings, np.float64)
    if ratings.ndim != 2 or ratings.shape[1] != 2:
        raise InputError(f"kappa is of two raters, and `ratings=` has the shape {ratings.shape}")
    first, second = ratings[~np.isnan(ratings).any(axis=1)].T
    if not len(first):
        return math.nan
    values = np.unique([first, second])
    shares = [[np.mean(rater == value) for value in values] for rater in (first, second)]
    expected = math.fsum(a * b for a, b in zip(*shares, strict=True))
    if len(values) < 2:
        return math.nan
    return float((np.mean(first == second) - expected) / (1 - expected))


def human_ceiling(
    metric: Callable[[FloatArray, FloatArray], float], ratings: FloatArray, how: Average = "plain"
) -> float:
    """Compute how well one rater agrees with the mean of the others, averaged over the raters.

    A scorer that agrees better with the mean of all raters agrees better than a person does. A
    rater is compared on the items that they and at least one other rated.

    Args:
        metric: takes scores and ratings of shape (items,), as those of `stats.metrics`.
        ratings: shape (items, raters); NaN is missing.
        how: the average over raters; "weighted" is by their numbers of items.

    Returns:
        The average on the scale of the metric; NaN where it is undefined for all raters.

    >>> from t2v_eval.stats.metrics import spearman
    >>> round(human_ceiling(spearman, np.array([[1, 1, 2], [2, 2, 1], [3, 4, 3], [4, 3, 4]])), 3)
    0.79
    """
    values, sizes = [], []
    for rater, others in zip(ratings.T, means_of_others(ratings).T, strict=True):
        present = ~(np.isnan(rater) | np.isnan(others))
        values.append(metric(rater[present], others[present]))
        sizes.append(int(present.sum()))
    return average(np.array(values, np.float64), np.array(sizes, np.float64), how)


def means_of_others(ratings: FloatArray) -> FloatArray:
    """Return the mean rating of each item without each rater.

    Args:
        ratings: shape (items, raters); NaN is missing.

    Returns:
        The same shape; NaN where no other rater rated an item.

    >>> means_of_others(np.array([[1.0, 2.0, 4.0]]))
    array([[3. , 2.5, 1.5]])
    """
    others = [mean_ratings(np.delete(ratings, n, axis=1)) for n in range(ratings.shape[1])]
    return np.stack(others, axis=1)
