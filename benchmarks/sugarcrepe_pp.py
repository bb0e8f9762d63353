"""SugarCrepe++ (Dumpala et al. 2024): two equivalent captions, and one of other meaning.

    https://github.com/Sri-Harsha/scpp    data/
    ROOT/replace_att.json ...         [{"id", "filename", "caption", "caption2",
                                      "negative_caption"}], five files, here or in ROOT/data
    ROOT/val2017/...jpg               the photographs of COCO val2017, here or in ROOT/images

An item is a photograph with two true captions and a false one. `accuracy` is the share of
photographs for which both true captions score above the false one, `macro` the mean over the five
ways to make the false one, which are the tags. Guessing is right in a third of the cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from t2v_eval.evaluation.benchmark import Item

from .forms.published import Published, field, read_json
from .forms.true_caption import TrueCaptionForm

FILES = "replace_att replace_obj replace_rel swap_att swap_obj".split()


class SugarCrepePP(Published, TrueCaptionForm):
    """The captions of the published files in `root`."""

    true_texts = 2
    chance: ClassVar[Mapping[str, float]] = {"macro": 1 / 3, "accuracy": 1 / 3}

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        for part in FILES:
            path = self.file(f"{part}.json", f"data/{part}.json")
            for n, row in enumerate(read_json(path, list), 1):
                where = f"{path}, row {n}"
                name = field(row, "filename", str, where)
                keys = ("caption", "caption2", "negative_caption")
                yield Item(
                    images=[self.image_path(name, "val2017", "images", ".")],
                    texts=[field(row, key, str, where) for key in keys],
                    tags=(part, part.partition("_")[0]),
                    id=f"{part}/{row.get('id', n)}",
                )
