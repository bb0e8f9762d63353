"""Benchmarks of human preferences among images of one text.

`labels["human"]` holds one value per image, higher for a preferred image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Benchmark, Item, Scores
from t2v_eval.stats.bootstrap import IntArray, Statistic
from t2v_eval.stats.intervals import Estimate, share_of
from t2v_eval.stats.ranking import preference_rows
from t2v_eval.utils.arrays import mean_of_known

from .published import Published, field, number, read_json


class RankingForm(Benchmark):
    """K images of a text with human ranks.

    accuracy: the share of all pairs with different ranks that scores order alike; a tie of scores
    is wrong. Pairs of all texts count alike, so that a text with more images weighs more.
    ranking: the mean over texts of the share of its pairs that scores do not order the other way,
    pairs that people tie included (1 minus inversions; a tie of scores counts as one).

    >>> class Mine(RankingForm):
    ...     def items(self):
    ...         return [Item(["a.png", "b.png", "c.png"], ["a cat"], {"human": [3, 2, 1]})]
    >>> mine = Mine()
    >>> mine.metrics(mine.items(), [np.array([[0.9], [0.5], [0.7]])])["accuracy"] == 2 / 3
    True
    """

    headline = "accuracy"
    chance: ClassVar[Mapping[str, float]] = {"accuracy": 0.5}
    meanings: ClassVar[Mapping[str, str]] = {
        "accuracy": "the share of pairs of images of one text that scores order as people do, "
        "0 to 1, guessing 0.5",
        "ranking": "the share of pairs of images of one text that scores do not order the other "
        "way, the mean over texts, 0 to 1",
    }

    @override
    def metrics(self, items: Sequence[Item], scores: Scores) -> Mapping[str, float]:
        return self.statistic(items, scores)(np.arange(len(items)))

    @override
    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        counts = np.array(
            [_pairs(s, item) for s, item in zip(scores, items, strict=True)], np.float64
        ).reshape(-1, 3)
        every = counts[:, 2]
        wrong = counts[:, 1] - counts[:, 0]
        ranking = 1 - np.divide(wrong, every, out=np.full(len(every), np.nan), where=every > 0)

        def compute(index: IntArray) -> Mapping[str, float]:
            right, untied, _ = counts[index].sum(axis=0)
            return {
                "accuracy": Estimate(right / untied if untied else math.nan, "share"),
                "ranking": Estimate(mean_of_known(ranking[index]), "share"),
            }

        return compute


class RankedForm(Published, RankingForm):
    """A JSON list of prompts, each with lists of images and of ranks, 1 the best.

    Subclasses name the `keys` of both lists, and the `folders` where images may be.

    >>> from t2v_eval.registry import benchmarks
    >>> isinstance(benchmarks.create("imagereward-test"), RankedForm)
    True
    """

    keys: ClassVar[tuple[str, str]]
    folders: ClassVar[tuple[str, ...]]

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        path = self.file("test.json", "data/test.json")
        for n, row in enumerate(read_json(path, list), 1):
            where = f"{path}, row {n}"
            names, ranks = (field(row, key, list, where) for key in self.keys)
            if len(names) != len(ranks) or len(ranks) < 2:
                raise BenchmarkDataError(
                    f"{where}: {len(names)} images have {len(ranks)} ranks; there must be as "
                    "many, and two or more"
                )
            yield Item(
                images=[self.image_path(str(name), *self.folders) for name in names],
                texts=[field(row, "prompt", str, where)],
                labels={"human": [-number(rank, f"{where}: a rank", 0, 100) for rank in ranks]},
                id=field(row, "id", str, where) if "id" in row else str(n),
            )


class PreferenceForm(Benchmark):
    """Two images of a text, of which a person preferred one; a tie counts half for each.

    preference: 1 where scores and the person agree, 1/2 where exactly one of them is a tie.
    accuracy: of the pairs without a tie of the person, the share where the scores agree; a tie of
    scores is wrong.

    >>> import numpy as np
    >>> from t2v_eval.evaluation.benchmark import Item
    >>> class Mine(PreferenceForm):
    ...     def items(self):
    ...         return [Item(["a.png", "b.png"], ["a cat"], {"human": [1, 0]})]
    >>> mine = Mine()
    >>> mine.metrics(mine.items(), [np.array([[0.9], [0.1]])])["accuracy"]
    1.0
    """

    headline = "preference"
    of_pairs = True
    meanings: ClassVar[Mapping[str, str]] = {
        "preference": "the share of pairs where scores and the person prefer the same image; "
        "half where only one of them is a tie, 0 to 1",
        "accuracy": "the same over pairs where the person had a preference, 0 to 1, guessing 0.5",
    }

    @override
    def metrics(self, items: Sequence[Item], scores: Scores) -> Mapping[str, float]:
        return self.statistic(items, scores)(np.arange(len(items)))

    @override
    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        cells = np.array([np.ravel(item_scores) for item_scores in scores], np.float64).reshape(
            -1, 2
        )
        first = np.array([item.labels["human"][0] for item in items], np.float64)
        agree = preference_rows(cells, first)
        right = np.where(agree == 1, 1.0, np.where(np.isnan(agree), np.nan, 0.0))
        right[first == 0.5] = np.nan

        def compute(index: IntArray) -> Mapping[str, float]:
            return {
                "preference": share_of(agree[index]),
                "accuracy": share_of(right[index]),
            }

        return compute


class BothOrdersForm(PreferenceForm):
    """Two images of a text, of which people chose one, judged with each of them shown first.

    accuracy: the share of verdicts, over both orders of each pair, that name the chosen image. So
    a judge that contradicts itself is right once of twice, and equal scores of single images, which
    prefer what is shown first, or last, count the same.
    both_orders: the share of pairs whose two verdicts are right.

    An item is a pair, or the verdict on one order of the pair that ``labels["pair"]`` names.

    >>> import numpy as np
    >>> from t2v_eval.evaluation.benchmark import Item
    >>> class Mine(BothOrdersForm):
    ...     def items(self):
    ...         return [Item(["a.png", "b.png"], ["a cat"], {"human": [1, 0]}) for _ in range(2)]
    >>> mine = Mine()  # the first image wins; the image that is shown first wins
    >>> mine.metrics(mine.items(), [np.array([[1.0], [0.0]]), np.array([[1.0], [1.0]])])
    {'accuracy': 0.75, 'both_orders': 0.5}
    """

    headline = "accuracy"
    chance: ClassVar[Mapping[str, float]] = {"accuracy": 0.5}
    meanings: ClassVar[Mapping[str, str]] = {
        "accuracy": "the share of verdicts, over both orders of each pair, that name the image "
        "that people chose, 0 to 1, guessing 0.5",
        "both_orders": "the share of pairs where the verdicts on both orders do, 0 to 1",
    }

    @override
    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        cells = np.array([np.ravel(s) for s in scores], np.float64).reshape(-1, 2)
        right = preference_rows(cells, [item.labels["human"][0] for item in items])
        names = [item.labels.get("pair", n) for n, item in enumerate(items)]
        pair = np.unique(list(map(str, names)), return_inverse=True)[1]
        lowest = np.ones(len(items))
        with np.errstate(invalid="ignore"):  # NaN where a verdict is missing
            np.minimum.at(lowest, pair, right)
        both = np.where(np.isnan(lowest), np.nan, lowest == 1)[pair]

        def compute(index: IntArray) -> Mapping[str, float]:
            return {"accuracy": share_of(right[index]), "both_orders": share_of(both[index])}

        return compute


def _pairs(scores: NDArray[np.float32], item: Item) -> tuple[int, int, int]:
    """Count pairs ordered alike, pairs without a human tie, and all pairs that have scores."""
    s, h = np.ravel(scores).astype(np.float64), np.asarray(item.labels["human"], np.float64)
    first, second = np.triu_indices(len(s), 1)
    apart, difference = h[first] - h[second], s[first] - s[second]
    defined = ~np.isnan(apart) & ~np.isnan(difference)
    untied = defined & (apart != 0)
    return int((untied & (difference * apart > 0)).sum()), int(untied.sum()), int(defined.sum())
