"""Benchmarks with several captions per image, of which the first, or the first few, are true."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from t2v_eval.evaluation.benchmark import Benchmark, Item, Scores
from t2v_eval.stats.bootstrap import IntArray, Statistic
from t2v_eval.stats.intervals import Estimate, share_of


class TrueCaptionForm(Benchmark):
    """accuracy: the share of images whose true texts score above every other; a tie is wrong.

    macro: the mean accuracy over parts (first tags), each part counting alike; images without a
    tag are left out of it, and without any tags there is no such figure. An image with a missing
    score is left out.

    >>> import numpy as np
    >>> from t2v_eval.evaluation.benchmark import Item
    >>> class Mine(TrueCaptionForm):
    ...     def items(self):
    ...         return [Item(["a.png"], ["the true caption", "a false one"])]
    >>> mine = Mine()
    >>> mine.metrics(mine.items(), [np.array([[0.9, 0.1]])])["accuracy"]
    1.0
    """

    labels_by: ClassVar[str] = "truth"
    headline = "macro"
    true_texts: ClassVar[int] = 1
    chance: ClassVar[Mapping[str, float]] = {"macro": 0.5, "accuracy": 0.5}
    meanings: ClassVar[Mapping[str, str]] = {
        "macro": "the mean of the accuracies of the benchmark's parts, 0 to 1",
        "accuracy": "the share of images whose true texts score above every other, 0 to 1",
    }

    @override
    def human(self, item: Item) -> NDArray[np.float64] | None:
        true = np.arange(len(item.texts)) < self.true_texts
        return np.tile(true.astype(np.float64), (len(item.images), 1))

    @override
    def metrics(self, items: Sequence[Item], scores: Scores) -> Mapping[str, float]:
        return self.statistic(items, scores)(np.arange(len(items)))

    @override
    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        right = np.array(
            [_right(np.ravel(item_scores), self.true_texts) for item_scores in scores], np.float64
        )
        names = {item.tags[0]: None for item in items if item.tags}
        position = {name: k for k, name in enumerate(names)}
        part = np.array([position[item.tags[0]] if item.tags else -1 for item in items], np.int64)

        def compute(index: IntArray) -> Mapping[str, float]:
            chosen, parts = right[index], part[index]
            defined = ~np.isnan(chosen)
            figures: dict[str, float] = {"accuracy": share_of(chosen)}
            if names:
                chosen, parts = chosen[defined & (parts >= 0)], parts[defined & (parts >= 0)]
                size = np.bincount(parts, minlength=1)
                means = (np.bincount(parts, chosen, minlength=1) / np.maximum(size, 1))[size > 0]
                macro = float(means.mean()) if len(means) else math.nan
                figures = {"macro": Estimate(macro, "share"), **figures}
            return figures

        return compute


def _right(scores: NDArray[np.float32], true: int) -> float:
    if np.isnan(scores).any():
        return math.nan
    return float(scores[:true].min() > scores[true:].max())
