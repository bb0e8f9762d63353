"""NaturalBench-Retrieval (Li et al. 2024): pairs of natural photographs, each with its caption.

    https://huggingface.co/datasets/BaiqiL/NaturalBench    NaturalBench-Retrieval.zip, unpacked
    ROOT/metadata.json     [{"index", "image_0", "image_1", "caption_0", "caption_1"}]
    ROOT/images/...        the photographs by these names

In Winoground's form.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from typing_extensions import override

from t2v_eval.evaluation.benchmark import Item

from .forms.published import Published, field, read_json
from .forms.winoground import WinogroundForm


class NaturalBench(Published, WinogroundForm):
    """The pairs of the published file in `root`."""

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        path = self.file("metadata.json", "NaturalBench-Retrieval/metadata.json")
        image_folder = str(path.parent.relative_to(folder) / "images")
        for n, row in enumerate(read_json(path, list), 1):
            where = f"{path}, row {n}"
            names = [field(row, key, str, where) for key in ("image_0", "image_1")]
            yield Item(
                images=[self.image_path(name, image_folder) for name in names],
                texts=[field(row, key, str, where) for key in ("caption_0", "caption_1")],
                id=str(field(row, "index", int, where)),
            )
