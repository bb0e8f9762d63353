"""The test set of ImageRewardDB (Xu et al. 2023): 466 prompts, 4 to 9 ranked pictures each.

    https://huggingface.co/datasets/THUDM/ImageRewardDB    and github.com/THUDM/ImageReward, data
    ROOT/test.json         [{"id", "prompt", "generations": [picture, ...], "ranking": [1, ...]}]
    ROOT/part-.../...      the pictures by the names in `generations`, here or in ROOT/images

1 is the best rank. Pairs of one rank do not count: 6,399 of 7,230 pairs are left, and `accuracy`
over them is the published figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from t2v_eval.benchmark import Item
from t2v_eval.errors import BenchmarkDataError

from ._preference_form import RankingForm
from ._published import Published, field, number, read_json


class ImageRewardTest(Published, RankingForm):
    """The prompts of the published file in `root`."""

    def read(self, folder: Path) -> Iterator[Item]:
        path = self.file("test.json", "data/test.json")
        for n, row in enumerate(read_json(path, list), 1):
            where = f"{path}, row {n}"
            pictures = field(row, "generations", list, where)
            ranks = field(row, "ranking", list, where)
            if len(pictures) != len(ranks) or len(ranks) < 2:
                raise BenchmarkDataError(
                    f"{where}: {len(pictures)} pictures have {len(ranks)} ranks; there must be as "
                    "many, and two or more"
                )
            yield Item(
                images=[self.picture(str(name), ".", "images") for name in pictures],
                texts=[field(row, "prompt", str, where)],
                labels={"human": [-number(rank, f"{where}: a rank", 1, 100) for rank in ranks]},
                id=field(row, "id", str, where),
            )
