"""How far apart the scores of samples lie: the Kolmogorov-Smirnov statistic between nodes.

T2IScoreScore (Saxon et al. 2024, section 4) puts the images of a prompt into nodes of a graph: all
images of a node have the same errors, and the rating of a node is its number of errors. A scorer
separates two nodes as well as the distributions of their scores differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from t2v_eval.utils.arrays import FloatArray, mean_of_known


def ks_statistic(first: FloatArray, second: FloatArray) -> float:
    """Compute the two-sample Kolmogorov-Smirnov statistic, as `scipy.stats.ks_2samp`.

    It is the largest distance between both empirical distribution functions.

    Args:
        first: shape (n,), the scores of one sample, without NaN.
        second: shape (m,), those of the other.

    Returns:
        The statistic, from 0 (equal distributions) to 1 (no overlap); NaN without scores.

    >>> ks_statistic(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.25, 0.9]))
    0.5
    """
    if not len(first) or not len(second):
        return math.nan
    at = np.concatenate((first, second))
    below = [
        np.searchsorted(np.sort(side), at, side="right") / len(side) for side in (first, second)
    ]
    return float(np.abs(below[0] - below[1]).max())


def node_separation(scores: FloatArray, ratings: FloatArray, nodes: Sequence[object]) -> float:
    """Compute the mean Kolmogorov-Smirnov statistic over the pairs of nodes rated differently.

    Follows `NodePairMetricEvaluator` of michaelsaxon/T2IScoreScore (evaluators/base.py), except
    that a missing score is left out, and that a graph without such a pair is NaN and not 0.

    Args:
        scores: shape (n,); NaN is missing.
        ratings: shape (n,), for example numbers of errors; NaN is missing. The rating of a node is
            the mean over its items.
        nodes: n labels, equal for the items of one node.

    Returns:
        The mean, from 0 to 1; NaN without a pair.

    >>> nodes = ["0", "0", "1a", "1b"]
    >>> node_separation(np.array([0.9, 0.8, 0.3, 0.5]), np.array([0, 0, 1, 1]), nodes)
    1.0
    """
    present = ~(np.isnan(scores) | np.isnan(ratings))
    members: dict[object, list[int]] = {}
    for n in np.flatnonzero(present).tolist():
        members.setdefault(nodes[n], []).append(n)
    samples = [(math.fsum(ratings[m]) / len(m), scores[m]) for m in members.values()]
    distances = [
        ks_statistic(first, second)
        for (rating, first), (other, second) in combinations(samples, 2)
        if rating != other
    ]
    return mean_of_known(np.array(distances))
