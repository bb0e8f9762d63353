"""SugarCrepe (Hsieh et al. 2023): a true and a minimally changed false caption of a photograph.

    https://github.com/RAIVNLab/sugar-crepe    data/
    ROOT/add_att.json ...       {number: {filename, caption, negative_caption}}, seven files, here
                                or in ROOT/data
    ROOT/val2017/...jpg         the photographs of COCO val2017, here or in ROOT/images

An item is a photograph with both captions, the true one first. Tags are the seven ways to make a
false one, then their kind (add, replace, swap); `macro` is the mean over the seven. The published
swap_obj.json has 245 items, one fewer than the paper counts (number 108 is not in it).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from typing_extensions import override

from t2v_eval.evaluation.benchmark import Item

from .forms.published import Published, field, read_json
from .forms.true_caption import TrueCaptionForm

FILES = "add_att add_obj replace_att replace_obj replace_rel swap_att swap_obj".split()


class SugarCrepe(Published, TrueCaptionForm):
    """The captions of the published files in `root`."""

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        for part in FILES:
            path = self.file(f"{part}.json", f"data/{part}.json")
            for number, row in read_json(path, dict).items():
                where = f"{path}, {number!r}"
                name = field(row, "filename", str, where)
                yield Item(
                    images=[self.image_path(name, "val2017", "images", ".")],
                    texts=[field(row, key, str, where) for key in ("caption", "negative_caption")],
                    tags=(part, part.partition("_")[0]),
                    id=f"{part}/{number}",
                )
