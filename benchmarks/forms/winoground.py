"""Benchmarks in Winoground's form: two images, two texts, image i belongs to text i.

`stats.metrics.winoground_correct` judges each item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from typing_extensions import override

from t2v_eval.evaluation.benchmark import Benchmark, Item, Scores
from t2v_eval.stats.bootstrap import IntArray, Statistic
from t2v_eval.stats.intervals import share_of
from t2v_eval.stats.metrics import FloatArray, winoground_correct


class WinogroundForm(Benchmark):
    """Items of 2 x 2 and the accuracies of Winoground; subclasses implement `items`.

    text: each image scores higher with its own text; image: each text scores higher with its own
    image; group: both. From 0 to 1, chance is 1/4, 1/4 and 1/6; a tie is wrong; an item with a
    missing score is left out.

    >>> import numpy as np
    >>> from t2v_eval.evaluation.benchmark import Item
    >>> class Mine(WinogroundForm):
    ...     def items(self):
    ...         return [Item(["a.png", "b.png"], ["a dog bites", "bites a dog"])]
    >>> mine = Mine()
    >>> mine.metrics(mine.items(), [np.array([[0.9, 0.1], [0.2, 0.8]])])["group"]
    1.0
    """

    labels_by: ClassVar[str] = "truth"
    headline = "group"
    chance: ClassVar[Mapping[str, float]] = {"text": 1 / 4, "image": 1 / 4, "group": 1 / 6}
    meanings: ClassVar[Mapping[str, str]] = {
        "text": "text score: the share of items where each image scores higher with its own text "
        "than with the other, 0 to 1",
        "image": "image score: the share of items where each text scores higher with its own "
        "image than with the other, 0 to 1",
        "group": "group score: the share of items where both hold, 0 to 1",
    }

    @override
    def human(self, item: Item) -> FloatArray | None:
        return np.eye(2)

    @override
    def metrics(self, items: Sequence[Item], scores: Scores) -> Mapping[str, float]:
        return self.statistic(items, scores)(np.arange(len(items)))

    @override
    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        correct = winoground_correct(np.stack(scores)) if len(scores) else np.empty((0, 3))

        def compute(index: IntArray) -> Mapping[str, float]:
            text, image, group = map(share_of, correct[index].T)
            return {"text": text, "image": image, "group": group}

        return compute
