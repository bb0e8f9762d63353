"""Consistency of judges: agreement with the others, and with themselves in repeated pairs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.ratings.battles import IntArray, encode_units
from t2v_eval.stats.ratings.shares import share_interval
from t2v_eval.utils.arrays import FloatArray


def agreement_with_others(
    judges: Sequence[str], pairs: Sequence[Hashable], verdicts: Sequence[Hashable]
) -> dict[str, Interval]:
    """Compute how often the verdict of another judge on the same pair equals a judge's own.

    Each pair counts once, with its mean over the judge's and the others' verdicts.

    Args:
        judges: the judge of each of n verdicts.
        pairs: what was compared.
        verdicts: the verdict, the same for the same winner whichever side it was shown on.

    Returns:
        By judge, the mean over the pairs that others judged too, from 0 to 1; NaN without any.

    >>> ratings = agreement_with_others(["x", "y", "x"], [1, 1, 2], ["a", "a", "b"])
    >>> ratings["x"].value
    1.0
    """
    counts, pair_of_cell, judge_of_cell, names = _cells(judges, pairs, verdicts)
    total = np.zeros((pair_of_cell.max(initial=-1) + 1, counts.shape[1]))
    np.add.at(total, pair_of_cell, counts)
    others = total[pair_of_cell] - counts
    return _means((counts * others).sum(1), counts.sum(1) * others.sum(1), judge_of_cell, names)


def self_consistency(
    judges: Sequence[str], pairs: Sequence[Hashable], verdicts: Sequence[Hashable]
) -> dict[str, Interval]:
    """Compute how often two verdicts of a judge on the same pair are equal.

    Args:
        judges: the judge of each of n verdicts.
        pairs: what was compared.
        verdicts: the verdict, as for `agreement_with_others`.

    Returns:
        By judge, the mean over the pairs that it judged more than once, from 0 to 1; NaN without
        any.

    >>> self_consistency(["x", "x"], [1, 1], ["a", "b"])["x"].value
    0.0
    """
    counts, _, judge_of_cell, names = _cells(judges, pairs, verdicts)
    count = counts.sum(1)
    return _means((counts * (counts - 1)).sum(1), count * (count - 1), judge_of_cell, names)


def split_by(numbers: IntArray, count: int) -> list[IntArray]:
    """Return the positions of each of the numbers 0 to count - 1.

    >>> split_by(np.array([1, 0, 1]), 3)
    [array([1]), array([0, 2]), array([], dtype=int64)]
    """
    ends = np.cumsum(np.bincount(numbers, minlength=count))
    return np.split(np.argsort(numbers, kind="stable"), ends[:-1])[:count]


def _cells(
    judges: Sequence[str], pairs: Sequence[Hashable], verdicts: Sequence[Hashable]
) -> tuple[FloatArray, IntArray, IntArray, list[str]]:
    """Count the verdicts of each kind in each cell, a judge with a pair.

    Returns:
        Counts of shape (cells, kinds), the number of the pair and of the judge of each cell, and
        the names of the judges.
    """
    cell, kind = encode_units(judges, pairs), encode_units(verdicts)
    judge, pair = encode_units(judges), encode_units(pairs)
    counts = np.zeros((cell.max(initial=-1) + 1, kind.max(initial=-1) + 1))
    np.add.at(counts, (cell, kind), 1)
    _, first = np.unique(cell, return_index=True)
    return counts, pair[first], judge[first], list(dict.fromkeys(judges))


def _means(
    equal: FloatArray, compared: FloatArray, judge: IntArray, names: Sequence[str]
) -> dict[str, Interval]:
    """Average equal / compared over the cells of each judge that have any."""
    has_pairs = compared > 0
    shares = equal[has_pairs] / compared[has_pairs]
    members = split_by(judge[has_pairs], len(names))
    return {name: share_interval(shares[cells]) for name, cells in zip(names, members, strict=True)}
