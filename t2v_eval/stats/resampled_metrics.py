"""Agreement metrics of resamples, given as the number of copies of each item of one sample.

The bootstrap and permutation tests compute the same metrics a thousand times on items that are
known beforehand. `SortedSample` sorts and searches them once; a `Resample` then costs a few passes
over the items. Where no item is repeated, the values equal those of `metrics` up to the order of
sums.

Copies of an item are no pair. In the sample every pair is of two different items; copies would be
tied in scores and ratings, so that resamples would differ from the sample by the share of such
pairs, 1 / n, and an interval could miss its own value.

To give an agreement metric such a fast version, write a function of a `Resample` here and name it
in `stats.agreement_metrics`; without one, the plain metric is computed on the copies.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from t2v_eval.stats.metrics import FloatArray
from t2v_eval.stats.pairwise import Copies, IntArray, Pairs, WeightedPairs
from t2v_eval.stats.resampling.products import OrderedPairs, Runs

_ROUNDING = 1e-11  # a hundred times what `metrics.pearson` takes for constant
_LITTLE = 1e-3  # of the variance of the sample; sums of squares then lose three digits at most


class SortedSample:
    """One-dimensional scores and ratings, sorted and searched once for all resamples.

    Args:
        scores: shape (items,); NaN is missing.
        human: ratings, in the same shape; items that lack either are in no resample.
        threshold: the largest score difference that "acc23" takes as a tie, where that is wanted.

    Attributes:
        items: the indices of the present items, from the lowest score to the highest.
        score_index: for each of them, the index of its distinct score.
        class_index: the same for its rating.
        scores: their scores, scaled to at most 1.
        human: their ratings, scaled to at most 1.
        positive: for each of them, whether its label is 1.
        classes: the smaller number of distinct values of both sides.
        untied: whether all scores are different.
        class_members: the places of the items, from the lowest rating to the highest.
        class_starts: where in these the items of each distinct rating begin.
        score_starts: where in the items those of each distinct score begin.

    >>> SortedSample(np.array([0.4, np.nan, 0.1]), np.array([2.0, 1.0, 1.0])).items
    array([2, 0])
    """

    def __init__(
        self, scores: FloatArray, human: FloatArray, threshold: float | None = None
    ) -> None:
        self._pairs = Pairs(scores[None], human[None])
        self._thresholds = [0.0] if threshold is None else [0.0, threshold]
        self.items = self._pairs.column
        starts = np.append(True, np.diff(self._pairs.x) > 0)[: len(self.items)]
        self.score_starts: IntArray = np.flatnonzero(starts)
        self.score_index: IntArray = np.cumsum(starts) - 1
        self.class_index = self._pairs.rank
        self.scores, self.human = _scaled(self._pairs.x), _scaled(human[self.items])
        self.positive = human[self.items] == 1
        numbers = len(self.score_starts), int(self.class_index.max(initial=-1)) + 1
        self.classes, self.untied = min(numbers), numbers[0] == len(self.items)
        self.class_members, self.class_starts = _by_class(self.class_index)

    @cached_property
    def varies(self) -> bool:
        """Return whether both sides vary by far more than their rounding."""
        return all(
            len(side) and side.std() > _ROUNDING * abs(side.mean())
            for side in (self.scores, self.human)
        )

    @cached_property
    def moments(self) -> FloatArray:
        """Return what Pearson's r sums of each item, shape (5, items).

        These are the deviations of score and rating from their means, in standard deviations of the
        sample, their squares and their product.
        """
        s, h = ((side - side.mean()) / (side.std() or 1.0) for side in (self.scores, self.human))
        return np.array((s, h, s * s, h * h, s * h))

    @cached_property
    def pair_counts(self) -> list[tuple[float, float]]:
        """Return for each threshold the pairs that are tied in both, and that are ordered alike."""
        return [self._pairs.right(threshold) for threshold in self._thresholds]

    @cached_property
    def weighted_pairs(self) -> WeightedPairs:
        """Return the pairs of items, for metrics that count them; made when first used."""
        return WeightedPairs(self._pairs, self._thresholds)

    @cached_property
    def ordered_pairs(self) -> list[OrderedPairs]:
        """Return the pairs at 0 and, if it is another one, at the threshold, for many resamples."""
        return [
            OrderedPairs(
                self.items, self.class_index, self._pairs.beyond(threshold), equal=threshold > 0
            )
            for threshold in dict.fromkeys(self._thresholds)
        ]

    @cached_property
    def score_runs(self) -> Runs:
        """Return the items of each distinct score."""
        return Runs(self.items, self.score_index)

    @cached_property
    def class_runs(self) -> Runs:
        """Return the items of each distinct rating."""
        return Runs(self.items[self.class_members], self.class_index[self.class_members])

    @cached_property
    def tied_runs(self) -> Runs:
        """Return the items of each score and rating that several have."""
        cell = self.score_index * (int(self.class_index.max(initial=0)) + 1) + self.class_index
        _, number, counts = np.unique(cell, return_inverse=True, return_counts=True)
        several = np.flatnonzero(counts[number] > 1)
        several = several[np.argsort(number[several], kind="stable")]
        return Runs(self.items[several], np.unique(number[several], return_inverse=True)[1])


class Resample:
    """A resample of a `SortedSample`; what several metrics need is computed once.

    Args:
        sample: the whole sample.
        copies: shape (items,), how many times the resample holds each item.

    >>> sample = SortedSample(np.array([0.1, 0.4, 0.3]), np.array([1.0, 2.0, 2.0]))
    >>> resample = Resample(sample, np.array([2.0, 1.0, 0.0]))
    >>> resample.n, resample.pairs, resample.class_counts
    (3.0, 2.0, array([2., 1.]))
    """

    def __init__(self, sample: SortedSample, copies: NDArray[np.generic]) -> None:
        self.sample, self._copies = sample, copies

    @cached_property
    def copies(self) -> Copies:
        """Return how many times the resample holds each of `SortedSample.items`."""
        return self._copies.astype(np.int32, copy=False).take(self.sample.items)

    @cached_property
    def weights(self) -> FloatArray:
        """Return the same in float64."""
        return self.copies.astype(np.float64)

    @cached_property
    def n(self) -> float:
        """Return the number of items."""
        return float(self.weights.sum())

    @cached_property
    def repeats(self) -> bool:
        """Return whether it holds an item more than once."""
        return bool(self.copies.max() > 1)

    @cached_property
    def score_counts(self) -> FloatArray:
        """Return how many items have each distinct score, from the lowest."""
        if self.sample.untied or not len(self.weights):
            return self.weights
        counts: FloatArray = np.add.reduceat(self.weights, self.sample.score_starts)
        return counts

    @cached_property
    def class_counts(self) -> FloatArray:
        """Return how many items have each distinct rating, from the lowest."""
        return self.by_class(self.weights)

    def by_class(self, values: FloatArray) -> FloatArray:
        """Return the sum of the values of the items with each distinct rating, from the lowest.

        Args:
            values: shape (items,), in the order of `SortedSample.items`.
        """
        if not len(values):
            return values
        sums: FloatArray = np.add.reduceat(
            values.take(self.sample.class_members), self.sample.class_starts
        )
        return sums

    @cached_property
    def classes(self) -> int:
        """Return the smaller number of distinct values of both sides in the resample."""
        counts = self.score_counts, self.class_counts
        return min(int(np.count_nonzero(side)) for side in counts)

    @property
    def varies(self) -> bool:
        """Return whether both sides have two distinct values or more in the resample."""
        return self.classes >= 2

    @cached_property
    def pairs(self) -> float:
        """Return the number of pairs of different items."""
        return float(self.n**2 - self.weights @ self.weights) / 2

    @cached_property
    def _pair_counts(self) -> list[tuple[float, float]]:
        if len(self.copies) and self.copies.min() == self.copies.max() == 1:
            return self.sample.pair_counts
        return self.sample.weighted_pairs.count(self.copies)

    @property
    def tied(self) -> float:
        """Return the number of pairs that are tied in both."""
        return self._pair_counts[0][0]

    @property
    def alike(self) -> float:
        """Return the number of pairs that are ordered alike in both."""
        return self._pair_counts[0][1]

    @property
    def right(self) -> float:
        """Return the number of pairs that are tied or ordered alike, at the threshold."""
        return sum(self._pair_counts[1])

    @cached_property
    def rank_product(self) -> float:
        """Return the sum of products of ranks, as deviations from their mean."""
        # Half a whole number each, so that sums are exact.
        middle = (self.n + 1) / 2
        score_ranks = _ranks(self.score_counts) - middle
        if not self.sample.untied:
            score_ranks = score_ranks[self.sample.score_index]
        return float(
            self.by_class(self.weights * score_ranks) @ (_ranks(self.class_counts) - middle)
        )

    @property
    def rank_squares(self) -> tuple[float, float]:
        """Return the sums of the squared deviations of both ranks from their mean."""
        return _rank_squares(self.score_counts), _rank_squares(self.class_counts)

    @property
    def moments(self) -> FloatArray:
        """Return the sums of `SortedSample.moments`, shape (5,)."""
        sums: FloatArray = self.sample.moments @ self.weights
        return sums

    @cached_property
    def untied_scores(self) -> float:
        """Return the number of pairs with different scores."""
        return _untied(self.score_counts)

    @cached_property
    def untied_human(self) -> float:
        """Return the number of pairs with different ratings."""
        return _untied(self.class_counts)

    @cached_property
    def positives(self) -> FloatArray:
        """Return how many items with label 1 have each distinct score, from the lowest."""
        return _counts(self.sample.score_index, self.weights * self.sample.positive)


def pearson(resample: Resample) -> float:
    """Compute `metrics.pearson`.

    >>> sample = SortedSample(np.array([0.1, 0.2, 0.3]), np.array([1.0, 2.0, 3.0]))
    >>> pearson(Resample(sample, np.array([1.0, 2.0, 1.0])))
    1.0
    """
    if not resample.varies:
        return math.nan
    return _correlation(resample)


def spearman(resample: Resample) -> float:
    """Compute `metrics.spearman`.

    >>> sample = SortedSample(np.array([0.1, 0.2, 0.9]), np.array([1.0, 2.0, 3.0]))
    >>> spearman(Resample(sample, np.array([1.0, 2.0, 1.0])))
    1.0
    """
    if not resample.varies:
        return math.nan
    scale = math.sqrt(math.prod(resample.rank_squares))
    return float(np.clip(resample.rank_product / scale, -1.0, 1.0))


def kendall_tau_b(resample: Resample) -> float:
    """Compute `metrics.kendall_tau_b` of the items as one row.

    >>> sample = SortedSample(np.array([0.1, 0.2, 0.3]), np.array([1.0, 2.0, 2.0]))
    >>> kendall_tau_b(Resample(sample, np.array([1.0, 1.0, 0.0])))
    1.0
    """
    if not resample.varies:
        return math.nan
    scale = math.sqrt(resample.untied_scores * resample.untied_human)
    return _concordant_minus_discordant(resample) / scale


def kendall_tau_c(resample: Resample) -> float:
    """Compute `metrics.kendall_tau_c` of the items as one row.

    >>> sample = SortedSample(np.array([0.1, 0.2, 0.3]), np.array([1.0, 2.0, 2.0]))
    >>> kendall_tau_c(Resample(sample, np.array([1.0, 1.0, 0.0])))
    1.0
    """
    if not resample.varies:
        return math.nan
    # A resample lacks values that the sample, whose tau-c it estimates, has.
    classes = resample.sample.classes if resample.repeats else resample.classes
    # n^2 without repeated items; with them, in the same proportion to the pairs.
    square = 2 * resample.pairs * resample.n / (resample.n - 1)
    return 2 * _concordant_minus_discordant(resample) / (square * (classes - 1) / classes)


def strict_accuracy(resample: Resample) -> float:
    """Compute `metrics.pairwise_accuracy` with ties="strict".

    >>> sample = SortedSample(np.array([0.1, 0.2, 0.3]), np.array([1.0, 2.0, 1.0]))
    >>> strict_accuracy(Resample(sample, np.array([1.0, 1.0, 0.0])))
    1.0
    """
    return (resample.tied + resample.alike) / resample.pairs if resample.pairs else math.nan


def untied_accuracy(resample: Resample) -> float:
    """Compute `metrics.pairwise_accuracy` with ties="ignore".

    >>> sample = SortedSample(np.array([0.1, 0.2, 0.3]), np.array([1.0, 2.0, 1.0]))
    >>> untied_accuracy(Resample(sample, np.array([1.0, 1.0, 1.0])))
    0.5
    """
    return resample.alike / resample.untied_human if resample.untied_human else math.nan


def accuracy_at_threshold(resample: Resample) -> float:
    """Compute `metrics.pairwise_accuracy` at the threshold of the sample.

    >>> sample = SortedSample(np.array([0.1, 0.2, 0.9]), np.array([1.0, 1.0, 2.0]), 0.2)
    >>> accuracy_at_threshold(Resample(sample, np.array([1.0, 1.0, 1.0])))
    1.0
    """
    return resample.right / resample.pairs if resample.pairs else math.nan


def auroc(resample: Resample) -> float:
    """Compute `metrics.auroc`.

    >>> sample = SortedSample(np.array([0.1, 0.2, 0.3]), np.array([0.0, 1.0, 1.0]))
    >>> auroc(Resample(sample, np.array([2.0, 1.0, 1.0])))
    1.0
    """
    positives = resample.positives
    negatives = resample.score_counts - positives
    total, others = positives.sum(), negatives.sum()
    if not total or not others:
        return math.nan
    below = np.cumsum(negatives) - negatives / 2
    return float(positives @ below / total / others)


def average_precision(resample: Resample) -> float:
    """Compute `metrics.average_precision`.

    >>> sample = SortedSample(np.array([0.1, 0.2, 0.3]), np.array([0.0, 1.0, 1.0]))
    >>> average_precision(Resample(sample, np.array([2.0, 1.0, 1.0])))
    1.0
    """
    positives = resample.positives[::-1]  # from the highest score
    total = positives.sum()
    if not total:
        return math.nan
    retrieved, relevant = np.cumsum(resample.score_counts[::-1]), np.cumsum(positives)
    precision = np.divide(relevant, retrieved, out=np.zeros_like(retrieved), where=retrieved > 0)
    return float(positives @ precision / total)


def _concordant_minus_discordant(resample: Resample) -> float:
    tied, alike = resample.tied, resample.alike
    opposite = resample.untied_scores + resample.untied_human - resample.pairs + tied - alike
    return alike - opposite


def _counts(key: IntArray, copies: FloatArray) -> FloatArray:
    counts: FloatArray = np.bincount(key, copies).astype(np.float64)
    return counts


def _untied(counts: FloatArray) -> float:
    """Return the number of pairs of items with two values, from the number of items of each."""
    return float(counts.sum() ** 2 - counts @ counts) / 2


def _ranks(counts: FloatArray) -> FloatArray:
    """Return the mean rank of the items of each value, from the number of items of each."""
    # Numbers of items are whole, and numpy adds integers up five times as fast as floats.
    ranks: FloatArray = np.cumsum(counts.astype(np.int64)) - (counts - 1) / 2
    return ranks


def _rank_squares(counts: FloatArray) -> float:
    """Return the sum of the squared deviations of the ranks from their mean."""
    n = float(counts.sum())
    return float(n**3 - (counts * counts) @ counts) / 12


def _by_class(class_index: IntArray) -> tuple[IntArray, IntArray]:
    """Return the places of items ordered by class, and where each class begins."""
    members = np.argsort(class_index, kind="stable")
    ordered = class_index[members]
    return members, np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])


def _correlation(resample: Resample) -> float:
    if not resample.sample.varies:
        return _centred_correlation(resample)
    sums = resample.moments / resample.n
    s_square, h_square = sums[2] - sums[0] ** 2, sums[3] - sums[1] ** 2
    if not min(s_square, h_square) > _LITTLE:
        return _centred_correlation(resample)
    return float(np.clip((sums[4] - sums[0] * sums[1]) / math.sqrt(s_square * h_square), -1.0, 1.0))


def _centred_correlation(resample: Resample) -> float:
    """Return Pearson's r of a resample that varies so little that `_correlation` is inexact."""
    weights, s, h = resample.weights, resample.sample.scores, resample.sample.human
    s_mean, h_mean = weights @ s / resample.n, weights @ h / resample.n
    s, h = s - s_mean, h - h_mean
    s_square, h_square = (weights * s) @ s, (weights * h) @ h
    # As in `metrics.pearson`: a side that varies by its rounding alone is constant.
    if min(s_square - (1e-13 * s_mean) ** 2, h_square - (1e-13 * h_mean) ** 2) <= 0:
        return math.nan
    return float(np.clip((weights * s) @ h / math.sqrt(s_square * h_square), -1.0, 1.0))


def _scaled(values: FloatArray) -> FloatArray:
    """Scale values to at most 1, so that squares do not overflow; no correlation changes."""
    largest = float(np.abs(values).max(initial=0.0))
    return values / largest if largest > 0 and math.isfinite(1 / largest) else values
