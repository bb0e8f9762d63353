"""Counts of greater values in ranges, as a loop over all positions counts them."""

from __future__ import annotations

import numpy as np
import pytest

from t2v_eval.stats.counting.ranges import CumulativeCounts, WaveletMatrix, range_counts


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
    assert kind(of_position).greater(start, stop, value).tolist() == expected


def test_a_table_is_made_of_few_values_only():
    assert isinstance(range_counts(np.arange(64)), CumulativeCounts)
    assert isinstance(range_counts(np.arange(65)), WaveletMatrix)
    assert range_counts(np.empty(0, np.int64)).greater(*[np.empty(0, np.int64)] * 3).tolist() == []
