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
    is there twice, once or not at all. Others are counted.

    Args:
        number: the number of each of 2n scores among the distinct ones, first those of the first
            scorer; shape (2n,).
        counts: how many of all have each distinct score.

    >>> ties = MixedTies(np.array([0, 1, 1, 0]), np.array([2.0, 2.0]))
    >>> mixed, others = ties.of(np.array([[False, False], [True, False]]))
    >>> mixed.pairs, others.distinct
    (array([0., 1.]), array([2., 1.]))
    """

    def __init__(self, number: IntArray, counts: FloatArray) -> None:
        self._n = len(number) // 2
        of_score = counts[number]
        order = np.argsort(number, kind="stable")
        twice = order[of_score[order] == 2]
        self._pairs = twice[::2].copy(), twice[1::2].copy()
        self._many = np.flatnonzero(of_score > 2)
        _, self._number, many = np.unique(
            number[self._many], return_inverse=True, return_counts=True
        )
        self._counts = many.astype(np.float64)
        self._singles = np.flatnonzero(of_score == 1)

    def of(self, swapped: NDArray[np.bool_]) -> tuple[Ties, Ties]:
        """Return the ties of the scores after each swap, and those of what it exchanged them for.

        Args:
            swapped: shape (swaps, n), which items have the score of the other scorer.
        """
        rows = [self._of_swap(np.concatenate((~swap, swap))) for swap in swapped]
        table = np.array(rows, np.float64).reshape(len(swapped), 2, 3)
        first, second = (Ties(*table[:, side].T) for side in (0, 1))
        return first, second

    def _of_swap(self, there: NDArray[np.bool_]) -> list[tuple[float, float, float]]:
        """Return pairs, cubes and distinct scores of the 2n that are there, and of the others."""
        one, other = (there.take(side) for side in self._pairs)
        both, either = (int(np.count_nonzero(side)) for side in (one & other, one | other))
        of_singles = int(np.count_nonzero(there.take(self._singles)))
        of_many = there.take(self._many)
        mixed = np.bincount(self._number, of_many, len(self._counts)).astype(np.float64)
        return [
            self._sums(mixed, both, either + of_singles),
            self._sums(
                self._counts - mixed,
                len(one) - either,
                len(one) - both + len(self._singles) - of_singles,
            ),
        ]

    def _sums(self, mixed: FloatArray, both: int, distinct: int) -> tuple[float, float, float]:
        """Add what scores of more than two items are to pairs and distinct scores of the others."""
        squares = mixed * mixed
        pairs = both + float(squares.sum() - mixed.sum()) / 2
        # Scores of k items: k^3 is k, and 6 for each of two.
        cubes = self._n + 6.0 * both + float(squares @ mixed - mixed.sum())
        return pairs, cubes, distinct + int(np.count_nonzero(mixed))
