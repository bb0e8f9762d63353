"""Count agreeing pairs of items without listing them: the engine of `metrics.pairwise_accuracy`.

What it computes is specified by `naive_accuracy` and `naive_threshold` at the end of this module,
which list every pair.

Two items of a group agree at threshold e when people tie them and their scores differ by at most e,
or when people prefer the one whose score is higher by more than e. With A(e) the pairs tied by
people and within e, and B(e) the pairs ordered alike and further apart than e,

    accuracy(e) = mean over groups of (A(e) + B(e)) / pairs

A never decreases and B never increases with e, so A(hi) + B(lo) bounds every threshold in (lo, hi].
`Pairs.calibrate` finds the best threshold by best-first branch and bound, and lists pairs only in
intervals that may still hold the maximum. Differences are those of float64 (and may overflow), as
if every pair had been listed and compared.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from t2v_eval.stats.counting.bounds import Bounds
from t2v_eval.stats.counting.ranges import RangeCounts, range_counts

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Copies = NDArray[np.int32]
"""How many times a resample holds each item: 32 bits, so that the processor's cache holds them."""

# About 60 bytes a pair while a list of pairs is sorted, so 60 MB. To count the pairs at one more
# threshold takes as long as to list about four for each item.
_LEAST_LISTED, _MAX_LISTED, _LISTED_PER_ITEM = 1 << 14, 1 << 20, 4
_REMEMBERED = 16  # thresholds whose counts are kept during a search
_SAMPLES = 1023
# Beyond this many pairs in one row, a table of bounds costs less than what it saves.
_TABLE_FROM = 1 << 23
_TABLE_VALUES = 32
# Integer weights keep sums of fractions exact; half of int64 leaves room for differences.
_MAX_TOTAL = 1 << 62


class ListedPairs(NamedTuple):
    """Pairs whose agreement changes where the threshold reaches their score difference.

    `first` and `second` are the positions of the two items, the second with the higher score;
    `gain` is the weight that the total gains (or, negative, loses) there.

    >>> listed = Pairs(np.array([[1.0, 4.0, 3.0]]), np.array([[1.0, 2.0, 2.0]])).list_all()
    >>> listed.difference, listed.gain > 0
    (array([1., 2., 3.]), array([ True, False, False]))
    """

    difference: FloatArray
    first: IntArray
    second: IntArray
    gain: IntArray


class Pairs:
    """All pairs of items within each row of two arrays.

    Rows with fewer than two present items hold no pair and are left out. The remaining items are
    sorted by row and score; arrays of the class are aligned with them.

    Args:
        scores: shape (rows, items); NaN is missing.
        human: ratings, in the same shape.

    Attributes:
        row: the row of each item in the arrays.
        column: its column.
        x: its score.
        rank: the rank of its rating among all distinct ratings.
        weight: an integer proportional to 1 / pairs of its row.
        pairs_in_row: the number of pairs of each row that holds any.

    >>> pairs = Pairs(np.array([[1.0, 4.0, 3.0]]), np.array([[1.0, 2.0, 2.0]]))
    >>> pairs.calibrate(), pairs.accuracy(1.0)
    (1.0, 1.0)
    """

    def __init__(self, scores: FloatArray, human: FloatArray) -> None:
        present = ~(np.isnan(scores) | np.isnan(human))
        present &= (present.sum(axis=1) >= 2)[:, None]
        row, column = np.nonzero(present)
        self._sort(row, column, scores[row, column], human[row, column])

    @classmethod
    def of_groups(cls, scores: FloatArray, human: FloatArray, group: IntArray) -> Self:
        """Return the pairs within groups of any sizes, without padding them.

        Args:
            scores: shape (items,), without NaN.
            human: ratings, in the same shape.
            group: the number of the group of each item, which is its `row`.

        >>> pairs = Pairs.of_groups(np.array([1.0, 4.0, 3.0]), np.arange(3.0), np.array([0, 7, 7]))
        >>> pairs.row, pairs.accuracy(0.0)
        (array([7, 7]), 0.0)
        """
        column = np.flatnonzero(np.bincount(group)[group] >= 2)
        self = cls.__new__(cls)
        self._sort(group[column], column, scores[column], human[column])
        return self

    def _sort(self, row: IntArray, column: IntArray, x: FloatArray, human: FloatArray) -> None:
        """Set all arrays, sorted by row and score."""
        order = np.lexsort((x, row))
        self.row, self.column, self.x = row[order], column[order], x[order]
        _, rank = np.unique(human[order], return_inverse=True)
        self.rank = rank.astype(np.int64)

        n = len(self.x)
        self._starts = np.flatnonzero(np.diff(self.row, prepend=-1))
        sizes = np.diff(np.append(self._starts, n))
        self._longest = int(sizes.max(initial=0))
        self.pairs_in_row: IntArray = sizes * (sizes - 1) // 2
        self._index = np.arange(n)
        self._last = np.repeat(self._starts + sizes - 1, sizes)
        self.weight = np.repeat(_weights(self.pairs_in_row), sizes)

    @cached_property
    def counts(self) -> RangeCounts:
        """Return counts of the ranks of ranges of places, made when first used."""
        return range_counts(self.rank)

    def accuracy(self, threshold: float) -> float:
        """Return the mean over rows of `accuracies`, from 0 to 1; NaN without pairs."""
        shares = self.accuracies(threshold)
        return float(np.mean(shares)) if len(shares) else math.nan

    def accuracies(self, threshold: float) -> FloatArray:
        """Return the share of pairs that agree at this threshold, for each row with pairs."""
        if not len(self.pairs_in_row):
            return np.empty(0)
        tied, ordered = self._agree(self._reach(threshold))
        shares: FloatArray = self._per_row(tied + ordered) / self.pairs_in_row
        return shares

    def accuracy_of_ordered(self) -> float:
        """Return the mean over rows of `accuracies_of_ordered`, where it is defined."""
        shares = self.accuracies_of_ordered()
        shares = shares[~np.isnan(shares)]
        return float(np.mean(shares)) if len(shares) else math.nan

    def accuracies_of_ordered(self) -> FloatArray:
        """Return the share ordered alike of the pairs that people do not tie.

        Returns:
            A share from 0 to 1 for each row with pairs; NaN where people tie them all.
        """
        if not len(self.pairs_in_row):
            return np.empty(0)
        human_tied, _ = self._agree(self._last)
        _, ordered = self._agree(self._reach(0.0))
        untied = self.pairs_in_row - self._per_row(human_tied)
        shares = np.full(len(untied), np.nan)
        np.divide(self._per_row(ordered), untied, out=shares, where=untied > 0)
        return shares

    @np.errstate(over="ignore")
    def calibrate(self) -> float:
        """Return the smallest threshold among {0} and all differences with the best accuracy."""
        if not len(self.pairs_in_row):
            return math.nan
        if int(self.rank.max()) + 1 == len(self.rank):  # no pair is tied by people
            return 0.0

        @lru_cache(_REMEMBERED)
        def at(threshold: float) -> tuple[IntArray, int, int]:
            reach = self._reach(threshold)
            return reach, *self._totals(reach)

        def agreeing(threshold: float) -> int:
            return sum(at(threshold)[1:])

        def entry(lo: float, hi: float) -> tuple[int, float, float]:
            bound = at(hi)[1] + at(lo)[2]  # what is tied at most, and ordered alike at most
            return -min(bound, table.bound(lo, hi)) if table else -bound, lo, hi

        limit = min(_MAX_LISTED, max(_LEAST_LISTED, _LISTED_PER_ITEM * len(self.x)))
        if self._only_loses(limit):
            return 0.0
        widest = float(np.max(self.x[self._last] - self.x))
        table = self._table(widest)
        best, threshold = agreeing(0.0), 0.0
        # As many agree at some threshold.
        reachable = max(best, agreeing(table.most)) if table else best
        intervals = table.intervals(reachable, widest) if table else self._first_intervals(widest)
        heap = list(itertools.starmap(entry, intervals))
        heapq.heapify(heap)
        while heap:
            bound, lo, hi = heapq.heappop(heap)
            if -bound < max(best, reachable) or (-bound == best and lo >= threshold):
                break
            if hi <= lo:
                continue
            reach = at(lo)[0]
            counts = at(hi)[0] - reach
            listed = int(counts.sum())
            if listed == 0:
                continue
            if listed <= limit:
                candidate = self._best_listed(reach, counts, agreeing(lo))
            elif math.nextafter(lo, math.inf) >= hi:
                candidate = (agreeing(hi), hi)
            else:
                candidate = (-1, hi)
                mid = self._split(lo, hi, reach, counts)
                heapq.heappush(heap, entry(lo, mid))
                heapq.heappush(heap, entry(mid, hi))
            if candidate[0] > best or (candidate[0] == best and candidate[1] < threshold):
                best, threshold = candidate
        return threshold

    def _only_loses(self, limit: int) -> bool:
        """Return whether no threshold is seen to gain more pairs than it loses.

        All pairs that people tie are listed, if these are no more than `limit` and few of all. Of
        the pairs ordered alike, some with little difference are enough where they outnumber them.
        """
        copies = np.bincount(self.rank)
        ties = int((copies * (copies - 1) // 2).sum())
        if not (len(self.pairs_in_row) == 1 and ties <= limit < self.pairs_in_row[0]):
            return False
        by_rank = np.argsort(self.rank, kind="stable")
        ends = np.cumsum(copies)[self.rank[by_rank]]
        first, second = _expand(self._index + 1, ends - 1 - self._index)
        gained = self.x[by_rank[second]] - self.x[by_rank[first]]
        lost, reach = [], self._reach(0.0)
        for place in (reach + 1, reach + 2):
            near = np.flatnonzero(place < len(self.x))
            near = near[self.rank[place[near]] > self.rank[near]]
            lost.append(self.x[place[near]] - self.x[near])
        gained = np.sort(gained[gained > 0])
        before = np.searchsorted(np.sort(np.concatenate(lost)), gained, side="right")
        return bool((np.arange(1, len(gained) + 1) <= before).all())

    def _first_intervals(self, widest: float) -> list[tuple[float, float]]:
        """Return all thresholds, cut where a search soon ends if people tie few pairs.

        No more pairs than people tie can be gained, and about every second one is lost.
        """
        _, copies = np.unique(self.rank, return_counts=True)
        few = 4 * int((copies * (copies - 1) // 2).sum())
        pairs = int(self.pairs_in_row.sum())
        if 0 < few <= _MAX_LISTED < pairs and widest < math.inf:
            cut, none = widest * few / pairs, self._reach(0.0)
            while int((self._reach(cut) - none).sum()) > few:
                cut /= 2
            if cut > 0:
                return [(0.0, cut), (cut, widest)]
        return [(0.0, widest)]

    def list_all(self) -> ListedPairs:
        """List every pair whose agreement depends on the threshold, sorted by score difference.

        Memory grows with the number of pairs.
        """
        reach = self._reach(0.0)
        listed = self._list(reach, self._last - reach)
        order = np.argsort(listed.difference, kind="stable")
        return ListedPairs(
            listed.difference[order], listed.first[order], listed.second[order], listed.gain[order]
        )

    def agreeing(self, threshold: float) -> tuple[IntArray, IntArray]:
        """Count for each item the others that it is rightly tied with and rightly ordered with.

        Args:
            threshold: the largest score difference that is a tie.

        Returns:
            Both in the order of `column`, for pairs of a single row.

        >>> pairs = Pairs(np.array([[1.0, 4.0, 3.0]]), np.array([[1.0, 2.0, 2.0]]))
        >>> pairs.agreeing(1.0), pairs.column
        ((array([0, 1, 1]), array([2, 1, 1])), array([0, 2, 1]))
        """
        reach = self._reach(threshold)
        # An item is tied with those before it that reach it.
        first = np.searchsorted(reach, self._index)
        start, rank = np.zeros_like(first), self.rank
        tied = self.counts.equal(first, reach + 1, rank) - 1
        above = self.counts.greater(reach + 1, self._last + 1, rank)
        not_below = self.counts.greater(start, first, rank) + self.counts.equal(start, first, rank)
        return tied, above + first - not_below

    def agree_at_zero(self) -> tuple[IntArray, IntArray]:
        """Return the first and the second item of each pair that agrees at threshold 0."""
        starts = self._index + 1
        first, second = _expand(starts, self._last - self._index)
        tied = self.x[first] == self.x[second]
        agree = np.where(
            tied,
            self.rank[first] == self.rank[second],
            self.rank[first] < self.rank[second],
        )
        return first[agree], second[agree]

    def _table(self, widest: float) -> Bounds | None:
        values = int(self.rank.max()) + 1
        worth = len(self._starts) == 1 and self.pairs_in_row[0] > _TABLE_FROM
        # A width outside these limits would make a step of no precision.
        if worth and values <= _TABLE_VALUES and 1e-290 < widest < math.inf:
            return Bounds(self.x, self.rank, values, widest)
        return None

    def right(self, threshold: float) -> tuple[float, float]:
        """Return the pairs of a single row that are tied in both, and that are ordered alike.

        >>> Pairs(np.array([[1.0, 4.0, 3.0]]), np.array([[1.0, 2.0, 2.0]])).right(1.0)
        (1.0, 2.0)
        """
        tied, ordered = self._agree(self._reach(threshold))
        return float(tied.sum()), float(ordered.sum())

    def beyond(self, threshold: float) -> IntArray:
        """Return for each item the first place in its row whose score is not within the threshold.

        >>> Pairs(np.array([[1.0, 4.0, 3.0]]), np.array([[1.0, 2.0, 2.0]])).beyond(1.0)
        array([1, 3, 3])
        """
        return self._reach(threshold) + 1

    @np.errstate(over="ignore")
    def _reach(self, threshold: float) -> IntArray:
        """Return for each item the last position in its row with a score within the threshold."""
        if len(self._starts) == 1:
            return self._reach_in_one_row(threshold)
        low, high = self._index, self._last
        for _ in range(self._longest.bit_length()):
            middle = (low + high + 1) >> 1
            within = self.x[middle] - self.x <= threshold
            low, high = np.where(within, middle, low), np.where(within, high, middle - 1)
        return low

    def _reach_in_one_row(self, threshold: float) -> IntArray:
        """Return what `_reach` does, from a search for sums, whose rounding is then corrected."""
        x, end = self.x, len(self.x) - 1
        reach = np.searchsorted(x, x + threshold, side="right") - 1
        while (short := (reach < end) & (x[np.minimum(reach + 1, end)] - x <= threshold)).any():
            reach += short
        while (far := (x[reach] - x > threshold)).any():
            reach -= far
        return reach

    def _agree(self, reach: IntArray) -> tuple[IntArray, IntArray]:
        """Count for each item the later items that it is rightly tied with and rightly below.

        Args:
            reach: for each item, the last position that its score is tied with.
        """
        tied = self.counts.equal(self._index + 1, reach + 1, self.rank)
        ordered = self.counts.greater(reach + 1, self._last + 1, self.rank)
        return tied, ordered

    def _totals(self, reach: IntArray) -> tuple[int, int]:
        tied, ordered = self._agree(reach)
        return int(tied @ self.weight), int(ordered @ self.weight)

    def _per_row(self, per_item: IntArray) -> IntArray:
        sums: IntArray = np.add.reduceat(per_item, self._starts)
        return sums

    @np.errstate(over="ignore")
    def _list(self, reach: IntArray, counts: IntArray) -> ListedPairs:
        first, second = _expand(reach + 1, counts)
        rank_first, rank_second = self.rank[first], self.rank[second]
        matters = rank_second >= rank_first
        first, second = first[matters], second[matters]
        weight = self.weight[first]
        gain = np.where((rank_first == rank_second)[matters], weight, -weight)
        return ListedPairs(self.x[second] - self.x[first], first, second, gain)

    def _best_listed(self, reach: IntArray, counts: IntArray, before: int) -> tuple[int, float]:
        """Return the best total of an interval that starts at the total `before`, and where."""
        listed = self._list(reach, counts)
        if not len(listed.gain):
            return -1, 0.0
        order = np.argsort(listed.difference)
        return best_step(listed.difference[order], listed.gain[order], before)

    def _split(self, lo: float, hi: float, reach: IntArray, counts: IntArray) -> float:
        """Return a threshold strictly between, near the median difference of the interval."""
        ends = np.cumsum(counts)
        total = int(ends[-1])
        ticket = np.arange(_SAMPLES) * total // _SAMPLES
        first = np.searchsorted(ends, ticket, side="right")
        second = reach[first] + 1 + ticket - (ends - counts)[first]
        sample = np.sort(self.x[second] - self.x[first])
        sample = sample[sample < hi]
        if not len(sample):
            return math.nextafter(hi, -math.inf)
        return float(sample[min(_SAMPLES // 2, len(sample) - 1)])


class WeightedPairs:
    """Counts agreeing pairs of resamples, which hold each item any number of times.

    Which pairs agree does not depend on the resample, so sorting and searching is done once. As in
    a wavelet matrix, two items are ordered alike if, at the first bit where their ratings differ,
    the later item has the bit.

    Args:
        pairs: the pairs of a single row.
        thresholds: the largest score differences that are ties.

    >>> pairs = Pairs(np.array([[1.0, 4.0, 3.0]]), np.array([[1.0, 2.0, 2.0]]))
    >>> WeightedPairs(pairs, [0.0, 1.0]).count(np.array([1, 1, 1], np.int32))
    [(0.0, 2.0), (1.0, 2.0)]
    """

    def __init__(self, pairs: Pairs, thresholds: Sequence[float]) -> None:
        rank, n = pairs.rank, len(pairs.x)
        distinct = list(dict.fromkeys(thresholds))
        self._number = [distinct.index(threshold) for threshold in thresholds]
        reaches = [pairs._reach(threshold) for threshold in distinct]
        self._members = np.argsort(rank, kind="stable")  # items with one human value are neighbours
        # The places among these of items that are tied with later ones, and where those end.
        self._tied: list[tuple[IntArray, IntArray]] = []
        for reach in reaches:
            tied = pairs.counts.equal(np.arange(1, n + 1), reach + 1, rank)[self._members]
            place = np.flatnonzero(tied)
            self._tied.append((place, place + 1 + tied[place]))
        # For each bit: `ones`, the items that have it; `zeros`, the others, in one run for each
        # value of the higher bits; where these runs start in `zeros` and end in `ones`; and for
        # each threshold and each of `zeros`, the first of `ones` beyond its reach.
        self._levels: list[tuple[IntArray, IntArray, IntArray, IntArray, list[IntArray]]] = []
        for bit in range(int(rank.max(initial=0)).bit_length()):
            above, has = rank >> (bit + 1), (rank >> bit & 1).astype(bool)
            ones, zeros = np.flatnonzero(has), np.flatnonzero(~has)
            ones = ones[np.argsort(above[ones], kind="stable")]
            zeros = zeros[np.argsort(above[zeros], kind="stable")]
            keys = above[ones] * (n + 1) + ones
            prefix = above[zeros]
            starts = np.flatnonzero(np.append(True, prefix[1:] != prefix[:-1])[: len(prefix)])
            last = np.searchsorted(keys, (prefix + 1) * (n + 1))
            beyond = [
                np.minimum(last, np.searchsorted(keys, prefix * (n + 1) + reach[zeros] + 1))
                for reach in reaches
            ]
            self._levels.append((ones, zeros, starts, last[starts], beyond))

    def count(self, copies: Copies) -> list[tuple[float, float]]:
        """Return for each threshold the pairs that are tied in both, and that are ordered alike.

        Copies of one item are no pair. Exact up to 2^53 pairs.

        Args:
            copies: shape (items,), how many times the resample holds each item.
        """
        by_rating = copies.take(self._members)
        below = _cumulated(by_rating)
        tied = [
            _product(by_rating.take(place), below.take(upto) - below.take(place + 1))
            for place, upto in self._tied
        ]
        ordered = [0.0] * len(tied)
        for ones, zeros, starts, last, beyond in self._levels:
            if not len(zeros):
                continue
            below, lower = _cumulated(copies.take(ones)), copies.take(zeros).astype(np.float64)
            every = _product(np.add.reduceat(lower, starts), below.take(last))
            for k, first in enumerate(beyond):
                ordered[k] += every - _product(lower, below.take(first))
        return [(tied[k], ordered[k]) for k in self._number]


def _cumulated(values: Copies) -> Copies:
    sums = np.zeros(len(values) + 1, np.int32)
    np.cumsum(values, out=sums[1:], dtype=np.int32)
    return sums


def _product(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    """Return the sum of products, in float64, where whole numbers are exact up to 2^53."""
    return float(first.astype(np.float64, copy=False) @ second.astype(np.float64, copy=False))


def best_step(difference: FloatArray, gain: IntArray, before: int) -> tuple[int, float]:
    """Return the best running total, and the smallest difference where it is reached.

    Args:
        difference: sorted.
        gain: what the total gains at each difference.
        before: the total below the first difference.

    >>> best_step(np.array([0.1, 0.2, 0.2, 0.5]), np.array([1, 2, -1, -1]), 10)
    (12, 0.2)
    """
    total = before + np.cumsum(gain)
    ends = np.flatnonzero(np.append(difference[1:] != difference[:-1], True))
    best = ends[np.argmax(total[ends])]
    return int(total[best]), float(difference[best])


def _expand(starts: IntArray, counts: IntArray) -> tuple[IntArray, IntArray]:
    """Pair each position i with the counts[i] positions from starts[i] on."""
    first = np.repeat(np.arange(len(counts)), counts)
    offset = starts - (np.cumsum(counts) - counts)
    return first, np.arange(len(first)) + np.repeat(offset, counts)


def _weights(pairs_in_row: IntArray) -> IntArray:
    """Return integers proportional to 1 / pairs, exactly so where their totals fit int64."""
    rows = max(1, len(pairs_in_row))
    multiple = math.lcm(*(int(p) for p in np.unique(pairs_in_row)))
    if multiple * rows > _MAX_TOTAL:
        multiple = _MAX_TOTAL // rows
    return multiple // np.maximum(pairs_in_row, 1)


def naive_accuracy(scores: FloatArray, human: FloatArray, threshold: float) -> float:
    """Compute `Pairs.accuracy` by listing every pair: its specification, for tests and readers.

    Args:
        scores: shape (rows, items); NaN is missing.
        human: ratings, in the same shape.
        threshold: the largest score difference that is a tie.

    >>> naive_accuracy(np.array([[1.0, 4.0, 3.0]]), np.array([[1.0, 2.0, 2.0]]), 1.0)
    1.0
    """
    rows = _naive_pairs(scores, human)
    return float(_naive_share(rows, threshold)) if rows else math.nan


def naive_threshold(scores: FloatArray, human: FloatArray) -> float:
    """Compute `Pairs.calibrate` by trying every candidate: 0 and all score differences.

    >>> naive_threshold(np.array([[1.0, 4.0, 3.0]]), np.array([[1.0, 2.0, 2.0]]))
    1.0
    """
    rows = _naive_pairs(scores, human)
    candidates = {0.0, *(abs(s) for pairs in rows for s, _ in pairs)}
    return max(candidates, key=lambda e: (_naive_share(rows, e), -e)) if rows else math.nan


def _naive_pairs(scores: FloatArray, human: FloatArray) -> list[list[tuple[float, float]]]:
    """Return the differences in score and rating of every pair, for each row with pairs."""
    rows = []
    for row in zip(scores.tolist(), human.tolist(), strict=True):
        items = [(s, h) for s, h in zip(*row, strict=True) if not (math.isnan(s) or math.isnan(h))]
        rows.append([(a[0] - b[0], a[1] - b[1]) for a, b in itertools.combinations(items, 2)])
    return [pairs for pairs in rows if pairs]


def _naive_share(rows: list[list[tuple[float, float]]], threshold: float) -> Fraction:
    shares = []
    for pairs in rows:
        agree = [h == 0 if abs(s) <= threshold else h != 0 and (s > 0) == (h > 0) for s, h in pairs]
        shares.append(Fraction(sum(agree), len(agree)))
    return sum(shares, Fraction()) / len(rows)
