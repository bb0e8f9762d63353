"""Pick-a-Pic v1 (Kirstain et al. 2023): user preferences between two images of a prompt.

`pickapic-100`, 100 pairs that VQAScore's authors chose:

    https://huggingface.co/datasets/zhiqiulin/vqascore_ablation    pickapic_v1.zip, unpacked
    ROOT/test_captions.json   [{"id", "caption", "label_0", "label_1", "image_0", "image_1"}]
    ROOT/...                  the images by the names in image_0 and image_1

`pickapic-test`, the test split:

    https://huggingface.co/datasets/yuvalkirstain/pickapic_v1
    ROOT/test_unique*.parquet    caption, jpg_0, jpg_1, label_0, label_1; or in ROOT/data: 500
                                 pairs, one per prompt; test*.parquet where there is none

Labels are 1, 0, or 0.5 for a tie. `preference` gives 1/2 where exactly one of scores and user sees
a tie, and scores tie only where they are equal: the published figures of PickScore allow ties below
a threshold that is tuned on the validation split. `accuracy` leaves the user's ties out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError, MissingDataError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.inputs.folders import files_in
from t2v_eval.inputs.media import MediaLike
from t2v_eval.inputs.tables import read_table

from .forms.preference import PreferenceForm
from .forms.published import Published, field, read_json

SUBSET_IDS = (
    1, 9, 385, 14, 138, 5, 31, 33, 39, 352, 21, 417, 399, 17, 82, 412, 78, 53, 54, 59, 60, 308, 76,
    142, 98, 259, 317, 110, 113, 118, 112, 119, 144, 148, 149, 153, 159, 162, 172, 111, 124, 196,
    197, 220, 35, 141, 252, 475, 368, 214, 150, 43, 221, 163, 228, 236, 57, 326, 257, 266, 268, 62,
    274, 277, 278, 281, 105, 285, 286, 301, 419, 91, 312, 316, 318, 319, 334, 335, 339, 340, 347,
    350, 367, 374, 375, 382, 376, 387, 345, 405, 411, 478, 441, 444, 99, 384, 472, 479, 490, 493,
)  # fmt: skip
PLACES = ("", "data/")


class PickAPic100(Published, PreferenceForm):
    """The chosen pairs of the published file in `root`."""

    headline = "accuracy"

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        path = self.file("test_captions.json", "pickapic_v1/test_captions.json")
        by_id: dict[int, Any] = {}
        for n, row in enumerate(read_json(path, list), 1):
            number = field(row, "id", int, f"{path}, row {n}")
            if number in by_id:
                raise BenchmarkDataError(f"{path}, row {n}: the id {number} occurs twice")
            by_id[number] = row
        for number in SUBSET_IDS:
            if number in by_id:
                where = f"{path}, id {number}"
                names = [field(by_id[number], f"image_{k}", str, where) for k in (0, 1)]
                folders = (str(path.parent.relative_to(folder)), "images", ".")
                images = [self.image_path(name, *folders) for name in names]
                yield _item(by_id[number], images, str(number), where)


class PickAPicTest(Published, PreferenceForm):
    """The rows of the published test split in `root`."""

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        places = [f"{place}{name}*.parquet" for name in ("test_unique", "test") for place in PLACES]
        files = next((paths for place in places if (paths := files_in(folder, place))), [])
        if not files:
            raise MissingDataError(f"{folder} holds no test_unique*.parquet: {self.remedy()}")
        for path in files:
            for n, row in enumerate(read_table(path, ("caption", "jpg_0", "jpg_1")), 1):
                where = f"{path}, row {n}"
                images = [field(row, f"jpg_{k}", bytes, where) for k in (0, 1)]
                yield _item(row, images, f"{path.stem}/{n}", where)


def _item(row: Any, images: Sequence[MediaLike], name: str, where: str) -> Item:
    first, second = (field(row, f"label_{k}", float, where) for k in (0, 1))
    if (first, second) not in ((1, 0), (0, 1), (0.5, 0.5)):
        raise BenchmarkDataError(f"{where}: the labels are {first:g} and {second:g}")
    return Item(
        images=images,
        texts=[field(row, "caption", str, where)],
        labels={"human": [first, second]},
        id=name,
    )
