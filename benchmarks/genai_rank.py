"""GenAI-Rank (Li et al. 2024): selecting the best of nine images of a prompt.

    https://huggingface.co/datasets/zhiqiulin/GenAI-Image-Ranking-800
    ROOT/human_rating.json        {"00001": {"id", "prompt", "models": {"DALLE_3": {"1": [...]}}}}
    ROOT/DALLE_3/00001_01.jpeg    and so on to _09: the zip file of each generator, unpacked

An item is a prompt with the nine images of one generator, each rated by three people from 1 to 5.
`best_of_9` and `best_of_3` are the mean human rating of the images that scores choose, out of all
nine and out of each three in their order: on people's scale, what published tables have.
`ranking` is how often the image that people rate highest scores above the one that they rate lowest
(where several share a rating, the share of such pairs), `top` how often the chosen image is one
that people rate highest; equal scores are wrong in `ranking`, and prompts whose images are all
rated alike have neither. A tag says whether any image of a prompt is perfect (rated 5 by all).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Benchmark, Item, Scores
from t2v_eval.stats.bootstrap import IntArray, Statistic
from t2v_eval.stats.intervals import Estimate, share_of
from t2v_eval.stats.ranking import best_of_rows, ranking_rows, top_rows
from t2v_eval.utils.arrays import mean_of_known

from .forms.published import Published, field, mean, read_json

CANDIDATES = 9


class GenAIRank(Published, Benchmark):
    """The prompts of the published file in `root`, for one generator.

    Args:
        generator: "DALLE_3" or "SDXL_Base".
    """

    headline = "best_of_9"
    meanings: ClassVar[Mapping[str, str]] = {
        "best_of_9": "the mean rating, 1 to 5, of the images that scores choose of each nine",
        "best_of_3": "the same where scores choose of each three",
        "ranking": "how often the image that people rate highest scores above the one that they "
        "rate lowest, the mean over prompts, 0 to 1",
        "top": "the share of prompts where scores choose an image that people rate highest, 0 to 1",
    }

    def __init__(self, *, generator: str = "DALLE_3", **options: Any) -> None:
        super().__init__(**options)
        self.generator = generator

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        path = self.file("human_rating.json")
        for name, row in read_json(path, dict).items():
            where = f"{path}, {name!r}"
            rated = field(field(row, "models", dict, where), self.generator, dict, where)
            numbers = [str(n) for n in range(1, CANDIDATES + 1)]
            if set(rated) != set(numbers):
                raise BenchmarkDataError(
                    f"{where}: {self.generator} has the images {sorted(rated)}, not 1 to 9"
                )
            human = [mean(rated[n], f"{where}: image {n}", 1, 5) for n in numbers]
            yield Item(
                images=[
                    self.image_path(f"{self.generator}/{name.zfill(5)}_{n:02}.jpeg")
                    for n in range(1, CANDIDATES + 1)
                ],
                texts=[field(row, "prompt", str, where)],
                labels={"human": human},
                tags=("a perfect image" if max(human) == 5 else "no perfect image",),
                id=name,
            )

    @override
    def metrics(self, items: Sequence[Item], scores: Scores) -> Mapping[str, float]:
        return self.statistic(items, scores)(np.arange(len(items)))

    @override
    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        s = np.array([np.ravel(item_scores) for item_scores in scores], np.float64).reshape(
            -1, CANDIDATES
        )
        h = np.array([item.labels["human"] for item in items], np.float64).reshape(-1, CANDIDATES)
        rows = {
            "best_of_9": best_of_rows(s, h),
            "best_of_3": best_of_rows(s, h, 3),
            "ranking": ranking_rows(s, h),
            "top": top_rows(s, h),
        }

        def compute(index: IntArray) -> Mapping[str, float]:
            means = {name: mean_of_known(values[index]) for name, values in rows.items()}
            ranking = Estimate(means["ranking"], "share")
            return {**means, "ranking": ranking, "top": share_of(rows["top"][index])}

        return compute
