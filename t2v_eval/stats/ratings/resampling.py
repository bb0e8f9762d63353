"""Counts of wins and ties in bootstrap resamples of battles."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array

from t2v_eval.stats.bootstrap import check_count
from t2v_eval.stats.ratings.battles import Battles, IntArray
from t2v_eval.utils.arrays import FloatArray

_MAX_VALUES = 1 << 23  # of counts at once


def resampled_counts(
    battles: Battles, units: IntArray, resamples: int = 1000, seed: int = 0
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Draw units with replacement, as many as there are, and count wins and ties.

    Args:
        battles: the n battles of K models.
        units: the number of the unit of each battle, shape (n,), from 0: all battles of a prompt,
            for example, are drawn together.
        resamples: the number of resamples, 1 or more.
        seed: the random seed, 0 or more.

    Yields:
        Decided wins and ties of several resamples, each of shape (b, K, K) as `Battles.wins` with
        ``tie=0`` and `Battles.ties`.

    >>> battles = Battles.from_rows([("a", "b", "model_a"), ("a", "b", "tie")])
    >>> (wins, ties), = resampled_counts(battles, np.array([0, 0]), resamples=3)
    >>> wins[:, 0, 1], ties[:, 0, 1]
    (array([1., 1., 1.]), array([1., 1., 1.]))
    """
    check_count("resamples", resamples, 1)
    check_count("seed", seed, 0)
    size, count = len(battles.models), int(units.max()) + 1
    lost = battles.score == 0
    winner = np.where(lost, battles.second, battles.first)
    loser = np.where(lost, battles.first, battles.second)
    tied = battles.score == 0.5
    cell = winner * size + loser + tied * size**2
    of_units = csr_array((np.ones(len(battles)), (units, cell)), shape=(count, 2 * size**2))
    rng = np.random.default_rng(seed)
    step = max(1, min(resamples, _MAX_VALUES // max(count, 2 * size**2)))
    for start in range(0, resamples, step):
        draws = range(start, min(start + step, resamples))
        copies = np.stack(
            [np.bincount(rng.integers(0, count, size=count), minlength=count) for _ in draws]
        )
        totals = (copies @ of_units).reshape(-1, 2, size, size)
        wins, ties = totals[:, 0], totals[:, 1]
        yield wins, ties + ties.swapaxes(1, 2)
