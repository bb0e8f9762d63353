"""Agreement metrics of a resample by their definitions: items written out, or pairs listed."""

from __future__ import annotations

import itertools
import math

import numpy as np

from t2v_eval.stats.agreement_metrics import METRICS

OF_PAIRS = ("tau_c", "acc23", "acc_strict")
"""Metrics in which copies of an item would count as pairs."""


def of_resample(
    name: str,
    scores: np.ndarray,
    human: np.ndarray,
    copies: np.ndarray,
    threshold: float | None = None,
) -> float:
    """Return a metric of the items, each as often as `copies` says, whose copies are no pair.

    Args:
        name: a name of `METRICS`.
        scores: shape (items,); NaN is missing.
        human: ratings, in the same shape.
        copies: how many times the resample holds each item.
        threshold: of "acc23", where it is not fitted to the resample.
    """
    if name not in OF_PAIRS:
        return METRICS[name].compute(np.repeat(scores, copies), np.repeat(human, copies))
    present = ~np.isnan(scores + human)
    scores, human, copies = scores[present], human[present], copies[present]
    pairs = [
        (copies[i] * copies[j], scores[i] - scores[j], human[i] - human[j])
        for i, j in itertools.combinations(range(len(scores)), 2)
        if copies[i] * copies[j]
    ]
    if not pairs:
        return math.nan
    total = sum(weight for weight, _, _ in pairs)
    if name == "tau_c":
        return tau_c(scores, human, copies, pairs)

    def accuracy(limit: float) -> float:
        right = [
            weight
            for weight, s, h in pairs
            if (h == 0 if abs(s) <= limit else np.sign(s) == np.sign(h) and h != 0)
        ]
        return sum(right) / total

    if name == "acc_strict":
        return accuracy(0.0)
    if threshold is not None:
        return accuracy(threshold)
    return max(map(accuracy, {0.0, *(abs(s) for _, s, _ in pairs)}))


def tau_c(scores: np.ndarray, human: np.ndarray, copies: np.ndarray, pairs: list) -> float:
    """Return Stuart's tau-c; where items are repeated, with the classes of the whole sample."""
    present = copies > 0
    if min(len(np.unique(side[present])) for side in (scores, human)) < 2:
        return math.nan
    if copies.max() > 1:
        present = np.full(len(copies), True)
    classes = min(len(np.unique(side[present])) for side in (scores, human))
    n, total = copies.sum(), sum(weight for weight, _, _ in pairs)
    difference = sum(weight * np.sign(s) * np.sign(h) for weight, s, h in pairs)
    # 2 (C - D) / (n^2 (m - 1) / m), where n^2 is n / (n - 1) times twice the number of pairs.
    return float(difference / total * (n - 1) / n * classes / (classes - 1))
