"""Winoground (Thrush et al. 2022): 400 items of two photographs and two captions.

The photographs may not be passed on, so each user accepts the agreement and fetches them:

    https://huggingface.co/datasets/facebook/winoground
    ROOT/data/examples.jsonl     with ROOT/data/images/ex_0_img_0.png ... (images.zip, unpacked)
    ROOT/data/test-*.parquet     or this instead: the same rows with the images in them

Items are tagged by what is swapped (Object, Relation, Both), the number of main predicates, and the
secondary tag. Where why_winoground_hard.json (id -> tags) of Diwan et al. 2022 lies in ROOT or in
ROOT/data, their tags are added, "No Tag" where an item has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typing_extensions import override

from t2v_eval.errors import MissingDataError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.inputs.folders import files_in
from t2v_eval.inputs.media import MediaLike

from .forms.published import Published, field, read_json, rows
from .forms.winoground import WinogroundForm

COLUMNS = ("id", "image_0", "image_1", "caption_0", "caption_1", "collapsed_tag")
PLACES = ("data", ".")
HARD = "why_winoground_hard.json"


class Winoground(Published, WinogroundForm):
    """The items of the published files in `root`; see the top of this module."""

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        hard = self._hard_tags(folder)
        for file in self._files(folder):
            for number, row in enumerate(rows(file, *COLUMNS), 1):
                where = f"{file}, row {number}"
                name = str(row["id"])
                yield Item(
                    images=[self._image(row, key, where) for key in ("image_0", "image_1")],
                    texts=[field(row, key, str, where) for key in ("caption_0", "caption_1")],
                    tags=(*_tags(row), *hard.get(name, ())),
                    id=name,
                )

    def _files(self, folder: Path) -> list[Path]:
        for place in PLACES:
            if (folder / place / "examples.jsonl").is_file():
                return [folder / place / "examples.jsonl"]
            if parquet := files_in(folder / place, "test-*.parquet"):
                return parquet
        raise MissingDataError(
            f"{folder} holds neither data/examples.jsonl nor data/test-*.parquet: {self.remedy()}"
        )

    def _image(self, row: dict[str, Any], key: str, where: str) -> MediaLike:
        value = row[key]
        if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
            content: bytes = value["bytes"]
            return content
        name = field(row, key, str, where)
        return self.image_path(
            name if Path(name).suffix else f"{name}.png", "data/images", "images", *PLACES
        )

    def _hard_tags(self, folder: Path) -> dict[str, tuple[str, ...]]:
        for path in (folder / HARD, folder / "data" / HARD):
            if path.is_file():
                content = read_json(path, dict)
                return {
                    name: tuple(field(content, name, list, str(path))) or ("No Tag",)
                    for name in content
                }
        return {}


def _tags(row: dict[str, Any]) -> list[str]:
    predicates = row.get("num_main_preds")
    tags = [str(row["collapsed_tag"])]
    if predicates is not None:
        tags.append(f"{predicates} main predicate{'s' if predicates != 1 else ''}")
    return tags + [tag.strip() for tag in str(row.get("secondary_tag") or "").split(",") if tag]
