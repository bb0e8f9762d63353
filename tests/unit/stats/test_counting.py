"""Counts in order: those of a loop over all positions, or of the scores that are there."""

from __future__ import annotations

import numpy as np
import pytest

from t2v_eval.stats.counting.ranges import CumulativeCounts, WaveletMatrix, range_counts
from t2v_eval.stats.counting.ties import MixedTies


@pytest.mark.parametrize("values", [1, 2, 13, 64])
@pytest.mark.parametrize("kind", [CumulativeCounts, WaveletMatrix])
def test_they_are_those_of_a_loop(kind, values):
    rng = np.random.default_rng(values)
    of_position = rng.integers(0, values, 90)
    start, stop = np.sort(rng.integers(0, 91, (2, 200)), axis=0)
    value = rng.integers(0, of_position.max() + 1, 200)
    expected = [
        sum(v > limit for v in of_position[a:b].tolist())
        for a, b, limit in zip(start.tolist(), stop.tolist(), value.tolist(), strict=True)
    ]
    counts = kind(of_position)
    assert counts.greater(start, stop, value).tolist() == expected
    expected = [
        of_position[a:b].tolist().count(v)
        for a, b, v in zip(start.tolist(), stop.tolist(), value.tolist(), strict=True)
    ]
    assert counts.equal(start, stop, value).tolist() == expected


def test_a_table_is_made_of_few_values_only():
    assert isinstance(range_counts(np.arange(64)), CumulativeCounts)
    assert isinstance(range_counts(np.arange(65)), WaveletMatrix)
    assert range_counts(np.empty(0, np.int64)).greater(*[np.empty(0, np.int64)] * 3).tolist() == []


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("levels", [3, 50, 0])
def test_ties_of_mixed_scores_are_those_counted(levels, grouped):
    rng = np.random.default_rng(levels)
    sides = rng.integers(0, levels, (2, 70)) if levels else rng.permuted([range(70)] * 2, axis=1)
    number, counts = np.unique(sides.ravel(), return_inverse=True, return_counts=True)[1:]
    unit = rng.integers(0, 60, 70) if grouped else np.arange(70)
    swapped = rng.random((19, 70)) < 0.5
    mixed = MixedTies(number, counts, unit).of(swapped)
    for ties, swaps in zip(mixed, (swapped, ~swapped), strict=True):
        for k, swap in enumerate(swaps):
            of_score = np.unique(np.where(swap[unit], *sides[::-1]), return_counts=True)[1]
            expected = (of_score * (of_score - 1)).sum() / 2, (of_score**3).sum(), len(of_score)
            assert (ties.pairs[k], ties.cubes[k], ties.distinct[k]) == expected
