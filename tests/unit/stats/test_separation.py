"""Separation of nodes: against scipy, and the graphs of T2IScoreScore by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from t2v_eval.stats.separation import ks_statistic, node_separation


def test_the_statistic_is_scipys():
    rng = np.random.default_rng(1)
    for _ in range(200):
        first, second = (rng.integers(0, 6, rng.integers(1, 9)) / 4 for _ in range(2))
        expected = stats.ks_2samp(first, second).statistic
        assert ks_statistic(first, second) == pytest.approx(expected, abs=1e-15)
    assert math.isnan(ks_statistic(np.empty(0), np.ones(1)))


def test_nodes_with_as_many_errors_are_not_compared():
    nodes = ["0", "0", "1a", "1a", "1b", "2"]
    errors = np.array([0, 0, 1, 1, 1, 2])
    scores = np.array([0.9, 0.6, 0.7, 0.2, 0.8, 0.1])
    samples = {node: scores[[n == node for n in nodes]] for node in nodes}
    pairs = [(a, b) for a, b in itertools.combinations(samples, 2) if {a, b} != {"1a", "1b"}]
    expected = np.mean([stats.ks_2samp(samples[a], samples[b]).statistic for a, b in pairs])
    assert len(pairs) == 5
    assert node_separation(scores, errors, nodes) == pytest.approx(expected)
    scores[4] = math.nan  # the only image of its node
    pairs = [pair for pair in pairs if "1b" not in pair]
    expected = np.mean([stats.ks_2samp(samples[a], samples[b]).statistic for a, b in pairs])
    assert node_separation(scores, errors, nodes) == pytest.approx(expected)
    assert math.isnan(node_separation(scores[:2], errors[:2], nodes[:2]))
