"""Resampled battles: the counts of those that were drawn."""

import numpy as np
import pytest

from t2v_eval.errors import InputError
from t2v_eval.stats.ratings import resampling
from t2v_eval.stats.ratings.battles import Battles
from t2v_eval.stats.ratings.resampling import resampled_counts


@pytest.fixture
def battles():
    rng = np.random.default_rng(1)
    first = rng.integers(0, 4, 60)
    second = (first + rng.integers(1, 4, 60)) % 4
    return Battles(tuple("abcd"), first, second, rng.choice([0, 0.5, 1], 60))


@pytest.mark.parametrize("values", [1 << 23, 100])
def test_counts_are_those_of_the_battles_of_the_drawn_units(battles, values, monkeypatch):
    monkeypatch.setattr(resampling, "_MAX_VALUES", values)
    units = np.arange(60) % 13
    counts = [*zip(*resampled_counts(battles, units, 9, seed=4), strict=True)]
    wins, ties = (np.concatenate(part) for part in counts)
    assert wins.shape == ties.shape == (9, 4, 4)
    rng = np.random.default_rng(4)
    for b in range(9):
        indices = rng.integers(0, 13, 13)
        index = np.concatenate([np.flatnonzero(units == unit) for unit in indices])
        np.testing.assert_array_equal(wins[b], battles.take(index).wins(tie=0))
        np.testing.assert_array_equal(ties[b], battles.take(index).ties())


@pytest.mark.parametrize(("name", "value"), [("resamples", 0), ("seed", -1)])
def test_counts_out_of_range(battles, name, value):
    with pytest.raises(InputError, match=f"{name}={value}"):
        next(resampled_counts(battles, np.arange(60), **{name: value}))
