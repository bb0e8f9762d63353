"""Agreement metrics of samples that draw the items of one whole sample any number of times.

Resamples and permutations compute the same metrics a thousand times on items that are known
beforehand. What is sorted and searched is so once here, and a sample is the number of copies of
each item, so that it costs a few passes over them. The values are those of `metrics`, up
to the order of sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from t2v_eval.stats import metrics
from t2v_eval.stats.metrics import FloatArray
from t2v_eval.stats.pairwise import IntArray, Pairs, WeightedPairs

_OF_PAIRS = {"tau_b", "tau_c", "acc_strict", "acc_ignore"}
_OF_LABELS = {"auroc", "average_precision"}
_NEED_PAIRS = _OF_PAIRS | {"acc23"}
NAMES = {"pearson", "spearman"} | _OF_PAIRS | _OF_LABELS


class Weighted:
    """`names` of one sample, and "acc23" with the `threshold` that is then needed.

    Args:
        scores, human: one-dimensional; items that lack either are in no sample.

    Raises:
        InputError: human values other than 0 and 1 with a metric of labels.

    >>> of = Weighted(np.array([0.1, 0.4, 0.3]), np.array([1.0, 2.0, 2.0]), ["tau_b"])
    >>> of(np.array([1.0, 2.0, 0.0]))
    {'tau_b': 1.0}
    """

    def __init__(
        self,
        scores: FloatArray,
        human: FloatArray,
        names: Sequence[str],
        threshold: float = math.nan,
    ) -> None:
        if _OF_LABELS & {*names}:
            metrics.labelled(scores, human)
        pairs = Pairs(scores[None], human[None])
        self._names = names
        self._items = pairs.column  # from the lowest score to the highest
        self._score = np.unique(pairs.x, return_inverse=True)[1]
        self._class = pairs.rank
        self._values = _scaled(pairs.x), _scaled(human[self._items])
        self._label = human[self._items] == 1
        thresholds = [0.0] if "acc23" not in names else [0.0, threshold]
        self._pairs = WeightedPairs(pairs, thresholds) if _NEED_PAIRS & {*names} else None

    def __call__(self, copies: FloatArray) -> dict[str, float]:
        """The metrics of the sample that holds so many copies of each item."""
        copies = copies[self._items]
        found = dict.fromkeys(self._names, math.nan)
        n = float(copies.sum())
        if n < 2:
            return found
        scores, classes = _counts(self._score, copies), _counts(self._class, copies)
        varies = min(np.count_nonzero(scores), np.count_nonzero(classes)) > 1
        if self._pairs is not None:
            equal, *near = self._pairs.count(copies)
            found |= _ordered(*equal, n, scores, classes)
            for agree in near:
                found["acc23"] = sum(agree) / (n * (n - 1) / 2)
        if "pearson" in found and varies:
            found["pearson"] = _correlation(copies, *self._values)
        if "spearman" in found and varies:
            ranks = _ranks(scores)[self._score], _ranks(classes)[self._class]
            found["spearman"] = _correlation(copies, *ranks)
        if _OF_LABELS & found.keys():
            right = _counts(self._score, copies * self._label)
            found |= _ranking(right, scores - right)
        return {name: found[name] for name in self._names}


def _ordered(
    tied: float, alike: float, n: float, scores: FloatArray, classes: FloatArray
) -> dict[str, float]:
    """What follows from how many pairs are ordered alike, oppositely, or tied on a side."""
    pairs = n * (n - 1) / 2
    untied_s, untied_h = pairs - _tied(scores), pairs - _tied(classes)
    opposite = untied_s + untied_h - pairs + tied - alike
    least = min(np.count_nonzero(scores), np.count_nonzero(classes))
    found = {"acc_strict": (alike + tied) / pairs}
    if untied_h:
        found["acc_ignore"] = alike / untied_h
    if least > 1:
        found["tau_b"] = (alike - opposite) / math.sqrt(untied_s * untied_h)
        found["tau_c"] = 2 * (alike - opposite) / (n**2 * (least - 1) / least)
    return found


def _counts(key: IntArray, copies: FloatArray) -> FloatArray:
    counts: FloatArray = np.bincount(key, copies).astype(np.float64)
    return counts


def _tied(counts: FloatArray) -> float:
    return float(counts @ (counts - 1)) / 2


def _ranks(counts: FloatArray) -> FloatArray:
    """The rank of each value, of so many items, that share the mean of theirs."""
    ranks: FloatArray = np.cumsum(counts) - (counts - 1) / 2
    return ranks


def _correlation(copies: FloatArray, s: FloatArray, h: FloatArray) -> float:
    n = copies.sum()
    s_mean, h_mean = copies @ s / n, copies @ h / n
    s, h = s - s_mean, h - h_mean
    s_square, h_square = (copies * s) @ s, (copies * h) @ h
    # As `metrics.pearson`: a side that varies by its rounding alone is constant.
    if min(s_square - (1e-13 * s_mean) ** 2, h_square - (1e-13 * h_mean) ** 2) <= 0:
        return math.nan
    return float(np.clip((copies * s) @ h / math.sqrt(s_square * h_square), -1.0, 1.0))


def _ranking(right: FloatArray, wrong: FloatArray) -> dict[str, float]:
    """AUROC and average precision from how many items of each label have each score."""
    rights, wrongs = right.sum(), wrong.sum()
    if not rights:
        return dict.fromkeys(sorted(_OF_LABELS), math.nan)
    above = np.cumsum(wrong) - wrong / 2
    found_right, found = np.cumsum(right[::-1]), np.cumsum((right + wrong)[::-1])
    precision = np.divide(found_right, found, out=np.zeros_like(found), where=found > 0)
    return {
        "auroc": float(right @ above / rights / wrongs) if wrongs else math.nan,
        "average_precision": float(right[::-1] @ precision / rights),
    }


def _scaled(values: FloatArray) -> FloatArray:
    """Values of at most 1, so that their squares are numbers; no correlation sees it."""
    largest = float(np.abs(values).max(initial=0.0))
    return values / largest if largest > 0 and math.isfinite(1 / largest) else values
