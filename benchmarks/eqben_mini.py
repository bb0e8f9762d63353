"""EqBen-Mini (Wang et al. 2023): pairs of minimally different images, each with its caption.

    https://drive.google.com/file/d/11YUTf06uzRHtFV8rYi96z4vTPi8_GNEM    eqben_vllm.zip, unpacked
    ROOT/all_select.json     [{"image0", "image1", "caption0", "caption1"}]
    ROOT/images/...          the images by these names

In Winoground's form. Tags are the five subsets, by the first part of an image's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Item

from .forms.published import Published, field, read_json
from .forms.winoground import WinogroundForm

SUBSETS = {
    "eqbensd": "eqbensd",
    "eqbenkubric_cnt": "eqbenk",
    "eqbenkubric_loc": "eqbenk",
    "eqbenkubric_attr": "eqbenk",
    "eqbengebc": "eqbeng",
    "eqbenag": "eqbenag",
    "eqbenyoucook2": "eqbeny",
}


class EqBenMini(Published, WinogroundForm):
    """The pairs of the published file in `root`."""

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        path = self.file("all_select.json", "eqben_vllm/all_select.json")
        image_folder = str(path.parent.relative_to(folder) / "images")
        for n, row in enumerate(read_json(path, list), 1):
            where = f"{path}, row {n}"
            names = [field(row, key, str, where) for key in ("image0", "image1")]
            subset = SUBSETS.get(names[0].partition("/")[0])
            if subset is None:
                raise BenchmarkDataError(
                    f"{where}: {names[0]!r} is of none of the subsets {', '.join(SUBSETS)}"
                )
            yield Item(
                images=[self.image_path(name, image_folder) for name in names],
                texts=[field(row, key, str, where) for key in ("caption0", "caption1")],
                tags=(subset,),
                id=str(n - 1),
            )
