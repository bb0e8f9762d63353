"""ARO (Yuksekgonul et al. 2023): sensitivity to attributes, relations and word order.

    https://github.com/mertyg/vision-language-models-are-bows
    ROOT/visual_genome_relation.json      [{"image_path", "true_caption", "false_caption",
                                          "bbox_x", "bbox_y", "bbox_w", "bbox_h", "relation_name"}]
    ROOT/visual_genome_attribution.json   the same, with "attributes": [2] for the relation
    ROOT/images/...jpg                    the photographs of both (vgr_vga_images.zip, unpacked)

    https://huggingface.co/datasets/gowitheflow/ARO-COCO-order    and ARO-Flickr-Order
    ROOT/data/*.parquet      images, correct_caption, hard_text_1 to hard_text_4; or in ROOT

An item is a photograph, cropped to the box of the objects, with a true and a false caption; for the
orders, a whole photograph with a caption and four permutations of its words. The authors generate
new permutations in each run (with spaCy and NLTK), so that no two runs share them; here the fixed
copy of MTEB is read.

`macro` is the published figure: for relations the mean over relations, without symmetric ones
("near"); for attributes the mean over attribute pairs that occur at least 25 times. These are the
tags. `accuracy` is over all rows, the published figure for the orders. A tie is wrong; the authors
count a tie as right for the orders, so that constant scores would be perfect.

A language model without the image is right about most of the orders, so they mean little without
its figure beside them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError, MediaError, MissingDataError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.inputs.folders import files_in
from t2v_eval.inputs.media import Media, open_media
from t2v_eval.utils.regular_file import is_file

from .forms.parquet import image_rows
from .forms.published import Published, field, read_json
from .forms.true_caption import TrueCaptionForm


class VisualGenome(Published, TrueCaptionForm):
    """What relations and attributes have in common; subclasses implement `part`."""

    annotations: ClassVar[str]
    min_rows: ClassVar[int] = 1  # parts with fewer rows do not count in `macro`

    @abstractmethod
    def part(self, row: Any, where: str) -> str:
        """Return the part of a row, over which `macro` is the mean."""

    def counts(self, part: str) -> bool:
        """Return whether a part counts in `macro`."""
        return True

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        path = self.file(self.annotations)
        content = read_json(path, list)
        parts = [self.part(row, f"{path}, row {n}") for n, row in enumerate(content, 1)]
        sizes = Counter(parts)
        opened_images: dict[str, Media | str] = {}
        for n, (row, part) in enumerate(zip(content, parts, strict=True), 1):
            where = f"{path}, row {n}"
            name = field(row, "image_path", str, where)
            if name not in opened_images:
                opened_images[name] = self._open_photograph(name, where)
            x, y, width, height = (round(field(row, f"bbox_{key}", float, where)) for key in "xywh")
            if width < 1 or height < 1:
                raise BenchmarkDataError(f"{where}: the box is {width} x {height}")
            counts = sizes[part] >= self.min_rows and self.counts(part)
            image = opened_images[name]
            if isinstance(image, Media):
                image = image.crop(x, y, x + width, y + height)
            yield Item(
                images=[image],
                texts=[field(row, f"{kind}_caption", str, where) for kind in ("true", "false")],
                tags=(part,) if counts else (),
                id=str(n),
            )

    def _open_photograph(self, name: str, where: str) -> Media | str:
        """Return an opened photograph, or the path of a missing one."""
        path = self.image_path(name, "images", ".")
        if not is_file(path):
            return path
        try:
            return open_media(path, where)
        except MediaError as error:
            raise BenchmarkDataError(f"an image cannot be read: {error}") from error


class Relation(VisualGenome):
    """Captions whose two objects are swapped in a relation.

    Args:
        symmetric: relations that hold both ways round.
    """

    annotations = "visual_genome_relation.json"

    def __init__(self, *, symmetric: Sequence[str] = (), **options: Any) -> None:
        super().__init__(**options)
        self.symmetric = frozenset(symmetric)

    @override
    def part(self, row: Any, where: str) -> str:
        return field(row, "relation_name", str, where)

    @override
    def counts(self, part: str) -> bool:
        return part not in self.symmetric


class Attribution(VisualGenome):
    """Captions whose two attributes are swapped between objects."""

    annotations = "visual_genome_attribution.json"
    min_rows = 25

    @override
    def part(self, row: Any, where: str) -> str:
        pair = field(row, "attributes", list, where)
        if len(pair) != 2:
            raise BenchmarkDataError(f"{where}: there are {len(pair)} attributes, not two")
        return f"{pair[0]}_{pair[1]}"


class Order(Published, TrueCaptionForm):
    """Captions and permutations of their words, from the published tables in `root`."""

    headline = "accuracy"
    chance: ClassVar[Mapping[str, float]] = {"accuracy": 1 / 5}

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        files = files_in(folder, "data/*.parquet") or files_in(folder, "*.parquet")
        if not files:
            raise MissingDataError(f"{folder} holds no data/*.parquet: {self.remedy()}")
        texts = ("correct_caption", *(f"hard_text_{k}" for k in range(1, 5)))
        for path in files:
            for n, (image, row) in enumerate(image_rows(path, "images", texts), 1):
                where = f"{path}, row {n}"
                yield Item(
                    images=[image],
                    texts=[field(row, key, str, where) for key in texts],
                    id=f"{path.stem}/{n}",
                )
