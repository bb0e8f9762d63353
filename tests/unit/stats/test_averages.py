"""Averages over parts: against the standard library."""

import math
import statistics

import numpy as np
import pytest

from t2v_eval.errors import InputError
from t2v_eval.stats.averages import average

VALUES = [0.3, -0.2, 0.9, math.nan]
SIZES = [10, 4, 6, 100]


def test_averages():
    known = VALUES[:3]
    expected = {
        "plain": statistics.fmean(known),
        "weighted": statistics.fmean(known, SIZES[:3]),
        "fisher-z": math.tanh(statistics.fmean(math.atanh(v) for v in known)),
        "tanh": math.tanh(statistics.fmean(known)),
    }
    for how, value in expected.items():
        assert average(np.array(VALUES), np.array(SIZES, float), how) == pytest.approx(value), how


def test_what_has_no_average_is_undefined():
    for how in ("plain", "weighted", "fisher-z", "tanh"):
        assert math.isnan(average(np.array([math.nan]), np.ones(1), how))
    assert math.isnan(average(np.array([0.5, 1.0]), np.ones(2), "fisher-z"))
    with pytest.raises(InputError, match="`mean='median'`: use one of 'plain', 'weighted'"):
        average(np.array([0.5]), np.ones(1), "median")
