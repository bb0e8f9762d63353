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

Differences after swaps (`SwappedAgreement`) are computed without the metrics of each swap. A count
of pairs is a sum of f(x_i, x_j, h_i, h_j) over pairs of items, where x is the score of either
scorer, a or b, and h the rating. The difference between the count with a swap and the count with
all others swapped is a sum over items,

    sum of +-v_i,    v_i = (r(a_i) - r(b_i)) / 2,

with + for items that are not swapped, where r sums f over all 2n scores and ratings of both
scorers. So v is computed once, and a swap is a row of a product of matrices. The same holds for
items that are swapped together, for Pearson's sums, and, with f = (h_j - h_i) [x_i < x_j], for sums
of ranks.

Shares of pairs have a constant denominator, so that their differences are exact. Those of tau-b and
Spearman's rho change with the ties of the mixed scores, which are counted for each swap. They weigh
the part of the count that no exchange of all changes, for which its mean over swaps is taken: its
deviation is about 1 / n of the count, and where few scores are tied (`MOST_TIED`) the denominators
of both sides are nearly equal, so that what is left out is some 1e-5 of the spread of differences
for 600 items, and less for more. Scores with more ties, and other metrics, are computed swap by
swap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from t2v_eval.stats import metrics
from t2v_eval.stats.agreement_metrics import METRICS, WeightedAgreement
from t2v_eval.stats.bootstrap import Statistic, agreement_statistic
from t2v_eval.stats.counting.ties import MixedTies, Ties
from t2v_eval.stats.metrics import FloatArray, Values
from t2v_eval.stats.pairwise import IntArray, Pairs
from t2v_eval.stats.permutation import subtract
from t2v_eval.stats.resampling.joined import joined

LEAST = 512
"""Items from which on swaps are computed together; a single swap of fewer takes no time."""
MOST_TIED = 0.01
"""The largest share of pairs with equal scores of one scorer."""
_TOGETHER = 2048  # units whose signs, as numbers, the cache of a processor holds
SUPPORTED = frozenset(
    ("pearson", "spearman", "tau_b", "tau_c", "acc23", "acc_strict", "acc_ignore", "auroc")
)

Swaps = NDArray[np.bool_]


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
    if pooled and is_supported(names, *(side[~np.isnan(h)] for side in (a, b, h))):
        return _Swapped(a, b, h, by_order, others)
    return _plain_statistic(a, b, h, by_order, others, pooled)


def _plain_statistic(
    a: FloatArray,
    b: FloatArray,
    h: FloatArray,
    by_order: Sequence[str],
    others: Sequence[str],
    pooled: bool,
) -> Statistic:
    """Return the metrics of exchanged rows, each computed as it is."""
    twice = np.concatenate([h, h])
    of_ranks = agreement_statistic(
        np.concatenate([mean_ranks(a), mean_ranks(b)]), twice, by_order, pooled=pooled
    )
    of_scores = agreement_statistic(
        np.concatenate([standardize(a), standardize(b)]), twice, others, pooled=pooled
    )
    return joined(
        [part for part, of_part in ((of_ranks, by_order), (of_scores, others)) if of_part]
    )


class _Swapped:
    """A paired statistic that computes the differences of many swaps together."""

    def __init__(
        self,
        a: FloatArray,
        b: FloatArray,
        h: FloatArray,
        by_order: Sequence[str],
        others: Sequence[str],
    ) -> None:
        self._arguments = a, b, h, by_order, others
        self._plain: Statistic | None = None
        rows, columns = np.nonzero(~np.isnan(h))
        complete = [side[rows, columns] for side in (a, b, h)]
        first, second = ((mean_ranks(side), standardize(side)) for side in complete[:2])
        self._swapped = SwappedAgreement(first, second, complete[2], (by_order, others), rows)

    def __call__(self, indices: IntArray) -> Mapping[str, float]:
        """Return the metrics of exchanged rows, computed as they are."""
        if self._plain is None:
            self._plain = _plain_statistic(*self._arguments, pooled=True)
        return self._plain(indices)

    def observed(self) -> dict[str, float]:
        """Return the differences without a swap."""
        return self._swapped.observed()

    def differences(self, swapped: Swaps) -> dict[str, FloatArray]:
        """Return the difference of each metric after each swap; see `SwappedAgreement`.

        Args:
            swapped: shape (swaps, rows).
        """
        return self._swapped.differences(swapped)


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


class SwappedAgreement:
    """Differences of agreement metrics between two scorers after swaps of their scores.

    Args:
        first: what the first scorer exchanges for metrics of order, and for the others; shape
            (items,) each, without NaN.
        second: the same of the second scorer.
        human: ratings, in the same shape.
        names: names of `METRICS` of order, and the others, all of `SUPPORTED`.
        unit: the number of the unit of each item; the items of a unit are exchanged together.

    >>> ranks, human, unit = np.arange(4.0), np.arange(4.0), np.arange(4)
    >>> swapped = SwappedAgreement((ranks, ranks), (-ranks, -ranks), human, (["tau_c"], []), unit)
    >>> swapped.differences(np.zeros((1, 4), bool))["tau_c"]
    array([2.])
    """

    def __init__(
        self,
        first: tuple[FloatArray, FloatArray],
        second: tuple[FloatArray, FloatArray],
        human: FloatArray,
        names: tuple[Sequence[str], Sequence[str]],
        unit: IntArray,
    ) -> None:
        self._unit = unit
        self._sides = [
            _Exchanged(a, b, human, unit, of_side)
            for a, b, of_side in zip(first, second, names, strict=True)
        ]
        self._names = names

    def differences(self, swapped: Swaps) -> dict[str, FloatArray]:
        """Return the difference of each metric after each swap, first minus second.

        Args:
            swapped: shape (swaps, units), which units have the scores of the other scorer.

        Returns:
            Shape (swaps,) for each metric.
        """
        sums = self._signed_sums(swapped)
        return {
            name: side.difference(name, swapped, sums[k, name])
            for k, (side, names) in enumerate(zip(self._sides, self._names, strict=True))
            for name in names
        }

    @cached_property
    def _vectors(self) -> tuple[list[tuple[int, str]], FloatArray]:
        """Return what is summed with the sign of each unit: side and metric, and all rows."""
        vectors = [
            (k, name, np.bincount(self._unit, vector))
            for k, side in enumerate(self._sides)
            for name, of_metric in side.vectors.items()
            for vector in of_metric
        ]
        return [(k, name) for k, name, _ in vectors], np.array([row for *_, row in vectors])

    def _signed_sums(self, swapped: Swaps) -> dict[tuple[int, str], FloatArray]:
        """Return sums of + or - the vectors of each metric, shape (vectors, swaps)."""
        keys, vectors = self._vectors
        moved = np.zeros((len(vectors), len(swapped)))
        for start in range(0, vectors.shape[1], _TOGETHER):
            part = vectors[:, start : start + _TOGETHER]
            some = swapped[:, start : start + part.shape[1]]
            moved += part @ some.astype(np.float64).T
        sums = vectors.sum(axis=1, keepdims=True) - 2 * moved
        return {key: sums[[k == key for k in keys]] for key in dict.fromkeys(keys)}

    def observed(self) -> dict[str, float]:
        """Return the difference of each metric without a swap, which is exact."""
        return {name: value for side in self._sides for name, value in side.observed().items()}


class _Exchanged:
    """Scores of two scorers in one form, and the sums over pairs that their metrics need."""

    def __init__(
        self, a: FloatArray, b: FloatArray, h: FloatArray, unit: IntArray, names: Sequence[str]
    ) -> None:
        self.a, self.b, self.h, self.names, self.n = a, b, h, names, len(h)
        self._unit = unit
        self._last: tuple[Swaps | None, tuple[Ties, Ties] | None] = (None, None)
        self._known: dict[float, tuple[FloatArray, FloatArray]] = {}

    @cached_property
    def vectors(self) -> dict[str, FloatArray]:
        """Return what each metric sums with the signs of items, shape (vectors, items)."""
        return {
            name: self._moments[1] if name == "pearson" else self._counts[name][0][None] / 2
            for name in self.names
        }

    def difference(self, name: str, swapped: Swaps, sums: FloatArray) -> FloatArray:
        """Return the difference of a metric after each swap.

        Args:
            name: the metric.
            swapped: shape (swaps, units).
            sums: of its vectors with the signs of each swap, shape (vectors, swaps).
        """
        if name == "pearson":
            return self._pearson(sums)
        even = self._counts[name][1]
        whole, other = self._denominators(name, swapped)
        with np.errstate(divide="ignore", invalid="ignore"):
            result: FloatArray = even * (1 / whole - 1 / other) + sums[0] * (1 / whole + 1 / other)
        return result

    def _denominators(self, name: str, swapped: Swaps) -> tuple[FloatArray, FloatArray]:
        """Return what counts of pairs are divided by, with the swaps and with all others."""
        n, pairs = self.n, self.n * (self.n - 1) / 2
        if name in ("spearman", "tau_b", "tau_c"):
            mixed = self._mixed(swapped)
            if name == "spearman":
                scale = _rank_squares(self._classes) / 12
                first, second = (np.sqrt((float(n) ** 3 - side.cubes) * scale) for side in mixed)
            elif name == "tau_b":
                scale = _untied(self._classes)
                first, second = (np.sqrt((pairs - side.pairs) * scale) for side in mixed)
            else:
                first, second = (
                    n**2 * (classes - 1) / classes / 2
                    for classes in (np.minimum(len(self._classes), side.distinct) for side in mixed)
                )
            return first, second
        if name == "auroc":
            positive = float(self.h.sum())
            pairs = positive * (n - positive)
        elif name == "acc_ignore":
            pairs = _untied(self._classes)
        return np.array(pairs), np.array(pairs)

    def observed(self) -> dict[str, float]:
        """Return the difference of each metric without a swap."""
        depends = [name for name in self.names if name in ("spearman", "tau_b", "tau_c")]
        every, scores = np.ones(self.n, np.int32), (self.a, self.b) if depends else ()
        sides = [WeightedAgreement(side, self.h, depends)(every) for side in scores]
        no_swap = np.zeros((1, self.n), bool)
        return {
            name: sides[0][name] - sides[1][name]
            if name in depends
            else float(self.difference(name, no_swap, self.vectors[name].sum(1, keepdims=True))[0])
            for name in self.names
        }

    @cached_property
    def _classes(self) -> FloatArray:
        """Return how many items have each distinct rating."""
        return np.unique(self.h, return_counts=True)[1].astype(np.float64)

    @cached_property
    def _values(self) -> tuple[IntArray, FloatArray]:
        """Return the number of each score of a, then b, among distinct ones, and their counts."""
        _, number, counts = np.unique(
            np.concatenate((self.a, self.b)), return_inverse=True, return_counts=True
        )
        return number, counts.astype(np.float64)

    @cached_property
    def _pairs(self) -> Pairs:
        """Return the pairs of all 2n scores."""
        return Pairs(np.concatenate((self.a, self.b))[None], np.tile(self.h, 2)[None])

    @cached_property
    def _counts(self) -> dict[str, tuple[FloatArray, float]]:
        """Return v of each metric of pairs, shape (items,), and the even part of its count."""
        per_item: dict[str, FloatArray] = {}
        for name in self.names:
            if name in ("acc23", "acc_strict"):
                threshold = self._pairs.calibrate() if name == "acc23" else 0.0
                tied, ordered = self._agreeing(threshold)
                per_item[name] = tied + ordered
            elif name == "acc_ignore":
                per_item[name] = self._agreeing(0.0)[1]
            elif name == "auroc":
                per_item[name] = self._order(self.h)
            elif name == "spearman":
                per_item[name] = self._rank_sums
            elif name != "pearson":
                per_item[name] = self._concordance
        return {name: (_half(sums), float(sums.sum()) / 8) for name, sums in per_item.items()}

    def _agreeing(self, threshold: float) -> tuple[FloatArray, FloatArray]:
        """Return for each of 2n scores the pairs tied in both, and those ordered alike."""
        if threshold not in self._known:
            self._known[threshold] = self._count_agreeing(threshold)
        return self._known[threshold]

    def _count_agreeing(self, threshold: float) -> tuple[FloatArray, FloatArray]:
        tied, ordered = np.zeros((2, 2 * self.n))
        for counts, of_pairs in zip((tied, ordered), self._pairs.agreeing(threshold), strict=True):
            counts[self._pairs.column] = of_pairs
        return tied, ordered

    @cached_property
    def _concordance(self) -> FloatArray:
        """Return for each of 2n scores the pairs ordered alike minus those ordered oppositely."""
        tied, ordered = self._agreeing(0.0)
        number, counts = self._values
        _, rating, of_rating = np.unique(self.h, return_inverse=True, return_counts=True)
        tied_ratings = 2 * np.tile(of_rating[rating], 2)
        untied = 2 * self.n - counts[number] - tied_ratings + tied + 1
        return 2 * ordered - untied

    @cached_property
    def _rank_sums(self) -> FloatArray:
        """Return for each of 2n scores its sum of (h_j - h_i) over pairs, signed by their order."""
        _, rating, counts = np.unique(self.h, return_inverse=True, return_counts=True)
        ranks = np.cumsum(counts) - (counts - 1) / 2
        return self._order(ranks[rating] - (self.n + 1) / 2)

    def _order(self, y: FloatArray) -> FloatArray:
        """Return for each of 2n scores the sum of (y_k - y_j) ([x_j < x_k] + [=] / 2 - 1 / 2)."""
        number, counts = self._values
        twice = np.concatenate((y, y))
        sums = np.bincount(number, twice, len(counts))
        below, sum_below = (np.cumsum(c) - c / 2 for c in (counts, sums))
        half, half_sum = counts.sum() / 2, sums.sum() / 2
        result: FloatArray = twice * (below[number] - half) - (sum_below[number] - half_sum)
        return result

    @cached_property
    def _ties(self) -> MixedTies:
        return MixedTies(*self._values, self._unit)

    def _mixed(self, swapped: Swaps) -> tuple[Ties, Ties]:
        """Return the ties of the mixed scores with the swaps, and with all others swapped."""
        last, ties = self._last
        if ties is None or last is not swapped:
            ties = self._ties.of(swapped)
            self._last = swapped, ties
        return ties

    @cached_property
    def _moments(self) -> tuple[FloatArray, FloatArray]:
        """Return sums of score with rating, score and its square, and half of what a swap moves."""
        h = self.h - self.h.mean()
        first, second = (np.array((x * h, x, x * x)) for x in (self.a, self.b))
        return (first + second).sum(axis=1) / 2, (first - second) / 2

    def _pearson(self, sums: FloatArray) -> FloatArray:
        h = self.h - self.h.mean()
        whole = self._moments[0][:, None]
        sides = []
        for sign in (1, -1):
            product, total, square = whole + sign * sums
            squares = square - total**2 / self.n
            with np.errstate(divide="ignore", invalid="ignore"):
                sides.append(product / np.sqrt(squares * float(h @ h)))
        return subtract(*sides)


def is_supported(
    names: Sequence[str], first: FloatArray, second: FloatArray, human: FloatArray
) -> bool:
    """Return whether `SwappedAgreement` computes these metrics of these scores.

    >>> few = np.arange(4.0)
    >>> is_supported(["tau_b"], few, few, few)
    False
    """
    n = len(human)
    if n < LEAST or not set(names) <= SUPPORTED or len(np.unique(human)) < 2:
        return False
    sides = (np.unique(side, return_counts=True)[1].astype(np.float64) for side in (first, second))
    return all(1 - _untied(counts) / (n * (n - 1) / 2) <= MOST_TIED for counts in sides)


def _half(per_item: FloatArray) -> FloatArray:
    """Return half the difference of the sums of both scorers, for each item."""
    first, second = np.split(per_item, 2)
    return (first - second) / 2


def _untied(counts: FloatArray) -> float:
    """Return the number of pairs of different values, from the number of items of each."""
    return float(counts.sum() ** 2 - counts @ counts) / 2


def _rank_squares(counts: FloatArray) -> float:
    """Return the sum of the squared deviations of ranks from their mean."""
    return float(counts.sum() ** 3 - (counts * counts) @ counts) / 12
