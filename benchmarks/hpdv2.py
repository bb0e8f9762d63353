"""The test set of Human Preference Dataset v2 (Wu et al. 2023): 400 prompts, nine pictures each.

    https://huggingface.co/datasets/ymhao/HPDv2
    ROOT/test.json       [{"prompt", "image_path": [picture, ...], "rank": [...]}]
    ROOT/test/...jpg     the pictures, here or in ROOT

`rank` is the mean of the annotators' ranks, the lowest the best. `ranking`, as published, is
the mean over prompts of the share of pairs that scores do not order the other way.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from t2v_eval.benchmark import Item
from t2v_eval.errors import BenchmarkDataError

from ._preference_form import RankingForm
from ._published import Published, field, number, read_json


class HPDv2(Published, RankingForm):
    """The prompts of the published file in `root`."""

    headline = "ranking"

    def read(self, folder: Path) -> Iterator[Item]:
        path = self.file("test.json")
        for n, row in enumerate(read_json(path, list), 1):
            where = f"{path}, row {n}"
            pictures = field(row, "image_path", list, where)
            ranks = field(row, "rank", list, where)
            if len(pictures) != len(ranks) or len(ranks) < 2:
                raise BenchmarkDataError(
                    f"{where}: {len(pictures)} pictures have {len(ranks)} ranks; there must be as "
                    "many, and two or more"
                )
            yield Item(
                images=[self.picture(str(name), "test", ".") for name in pictures],
                texts=[field(row, "prompt", str, where)],
                labels={"human": [-number(rank, f"{where}: a rank", 0, 100) for rank in ranks]},
                id=str(n),
            )
