"""Ties among scores of two scorers of which some are exchanged."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Ties(NamedTuple):
    """What ties change in the scores of n items, for each of several swaps.

    Attributes:
        pairs: the number of pairs with equal scores.
        cubes: the sum of the cubes of the numbers of items with each distinct score.
        distinct: the number of distinct scores.

    >>> int(Ties(pairs=np.array([1.0]), cubes=np.array([8.0]), distinct=np.array([1.0])).pairs[0])
    1
    """

    pairs: FloatArray
    cubes: FloatArray
    distinct: FloatArray


class MixedTies:
    """Counts ties of n scores that are exchanged with those of a second scorer.

    A score that two of all 2n have, as most ranks of two scorers, needs no count of its items: it
    is there twice, once or not at all, which is told for eight swaps at once. Others are counted.

    Args:
        number: the number of each of 2n scores among the distinct ones, first those of the first
            scorer; shape (2n,).
        counts: how many of all have each distinct score.
        unit: the number of the unit of each item; the items of a unit are exchanged together.
            Shape (n,).

    >>> ties = MixedTies(np.array([0, 1, 1, 0]), np.array([2.0, 2.0]), np.arange(2))
    >>> mixed, others = ties.of(np.array([[False, False], [True, False]]))
    >>> mixed.pairs, others.distinct
    (array([0., 1.]), array([2., 1.]))
    """

    def __init__(self, number: IntArray, counts: FloatArray, unit: IntArray) -> None:
        self._n = len(unit)
        of_score = counts[number]
        order = np.argsort(number, kind="stable")
        twice = order[of_score[order] == 2]
        units = np.tile(unit, 2)
        first = np.repeat(
            [True, False], self._n
        )  # scores of the first scorer, there unless swapped
        self._pairs = [
            (units[side], np.where(first[side], 255, 0).astype(np.uint8))
            for side in (twice[::2], twice[1::2])
        ]
        singles, many = (np.flatnonzero(of) for of in (of_score == 1, of_score > 2))
        self._singles = units[singles], first[singles]
        self._many = units[many], first[many]
        _, self._number, of_many = np.unique(number[many], return_inverse=True, return_counts=True)
        self._counts = of_many.astype(np.float64)

    def of(self, swapped: NDArray[np.bool_]) -> tuple[Ties, Ties]:
        """Return the ties of the scores after each swap, and those of what it exchanged them for.

        Args:
            swapped: shape (swaps, units), which units have the scores of the other scorer.
        """
        both, either = self._there(swapped)
        pairs = len(self._pairs[0][0])
        rows = []
        for swap, of_both, of_either in zip(swapped, both, either, strict=True):
            single, mixed = (
                swap.take(units) ^ first for units, first in (self._singles, self._many)
            )
            singles = int(np.count_nonzero(single))
            counts = np.bincount(self._number, mixed, len(self._counts)).astype(np.float64)
            rows.append(
                [
                    self._sums(counts, of_both, of_either + singles),
                    self._sums(
                        self._counts - counts,
                        pairs - of_either,
                        pairs - of_both + len(single) - singles,
                    ),
                ]
            )
        table = np.array(rows, np.float64).reshape(len(swapped), 2, 3)
        whole, others = (Ties(*table[:, side].T) for side in (0, 1))
        return whole, others

    def _there(self, swapped: NDArray[np.bool_]) -> tuple[list[int], list[int]]:
        """Return how many scores of two are there twice, and at least once, after each swap."""
        both, either = [], []
        for start in range(0, len(swapped), 8):
            some = swapped[start : start + 8]
            packed = np.zeros(some.shape[1], np.uint8)
            for bit, swap in enumerate(some):
                packed |= swap.view(np.uint8) << bit
            one, other = (packed.take(units) ^ first for units, first in self._pairs)
            both += _of_bits(one & other, len(some))
            either += _of_bits(one | other, len(some))
        return both, either

    def _sums(self, mixed: FloatArray, both: int, distinct: int) -> tuple[float, float, float]:
        """Add what scores of more than two items are to pairs and distinct scores of the others."""
        squares = mixed * mixed
        pairs = both + float(squares.sum() - mixed.sum()) / 2
        # Scores of k items: k^3 is k, and 6 for each of two.
        cubes = self._n + 6.0 * both + float(squares @ mixed - mixed.sum())
        return pairs, cubes, distinct + int(np.count_nonzero(mixed))


def _of_bits(values: NDArray[np.uint8], bits: int) -> list[int]:
    """Return how many of the values have each of the lowest bits."""
    return [int(np.count_nonzero((values >> bit & 1).view(np.bool_))) for bit in range(bits)]
