"""Winoground (Thrush et al. 2022): 400 items of two photographs and two captions.

The photographs may not be passed on, so they are fetched by whoever has accepted the agreement:

    https://huggingface.co/datasets/facebook/winoground
    ROOT/data/examples.jsonl     with ROOT/data/images/ex_0_img_0.png ... (images.zip, unpacked)
    ROOT/data/test-*.parquet     or this instead: the same rows with the pictures in them

Items are tagged by what is swapped (Object, Relation, Both), the number of main predicates, and the
secondary tag. Where why_winoground_hard.json (id -> tags) of Diwan et al. 2022 lies in ROOT or in
ROOT/data, their tags are added, "No Tag" where an item has none.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t2v_eval.benchmark import Item
from t2v_eval.errors import BenchmarkDataError, T2VWarning, TableError
from t2v_eval.media import MediaLike
from t2v_eval.tables import read_table

from ._winoground_form import WinogroundForm

PAGE = "https://huggingface.co/datasets/facebook/winoground"
ITEMS = 400
COLUMNS = ("id", "image_0", "image_1", "caption_0", "caption_1", "collapsed_tag")
HARD = "why_winoground_hard.json"


class Winoground(WinogroundForm):
    """The items of the published files in `root`; see the top of this module."""

    def items(self) -> Sequence[Item]:
        folder, files = self._files()
        items: list[Item] = []
        hard = self._hard_tags()
        seen: set[str] = set()
        for file in files:
            for number, row in enumerate(self._rows(file), 1):
                where = f"{file}, row {number}"
                name = str(row["id"])
                if name in seen:
                    raise BenchmarkDataError(f"{where}: the id {name} occurs twice")
                seen.add(name)
                images = [self._image(folder, row[key], where) for key in ("image_0", "image_1")]
                items.append(
                    Item(
                        images=images,
                        texts=[_text(row[key], key, where) for key in ("caption_0", "caption_1")],
                        tags=(*_tags(row), *hard.get(name, ())),
                        id=name,
                    )
                )
        if len(items) != ITEMS:
            warnings.warn(
                f"{folder} holds {len(items)} items and Winoground has {ITEMS}: the figures are "
                "not those of the whole benchmark",
                T2VWarning,
                stacklevel=2,
            )
        return items

    def _files(self) -> tuple[Path, list[Path]]:
        """The folder of the data and the files that hold its rows."""
        if self.root is None:
            raise BenchmarkDataError(f"{self.name} needs its files: {self._remedy('a folder')}")
        for folder in (self.root / "data", self.root):
            if (folder / "examples.jsonl").is_file():
                return folder, [folder / "examples.jsonl"]
            if parquet := sorted(folder.glob("test-*.parquet")):
                return folder, parquet
        raise BenchmarkDataError(
            f"{self.root} holds neither data/examples.jsonl nor data/test-*.parquet: "
            f"{self._remedy(str(self.root))}"
        )

    def _remedy(self, folder: str) -> str:
        return (
            f"log in at {PAGE}, accept its agreement (research only), download the files into "
            f"{folder}, unpack data/images.zip, and pass the folder as --root (root=)"
        )

    def _rows(self, file: Path) -> list[dict[str, Any]]:
        try:
            return read_table(file, COLUMNS)
        except TableError as error:
            raise BenchmarkDataError(f"not as published: {error}") from error

    def _image(self, folder: Path, value: Any, where: str) -> MediaLike:
        if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
            content: bytes = value["bytes"]
            return content
        if not isinstance(value, str):
            raise BenchmarkDataError(f"{where}: a picture is {type(value).__name__}, not a name")
        for place in (folder / "images", folder):
            for name in (value, f"{value}.png"):
                if (place / name).is_file():
                    return str(place / name)
        raise BenchmarkDataError(
            f"{where}: there is no picture {value}.png in {folder / 'images'}: unpack "
            f"{folder / 'images.zip'} there ({PAGE})"
        )

    def _hard_tags(self) -> dict[str, tuple[str, ...]]:
        for folder in (self.root or Path(), (self.root or Path()) / "data"):
            if (folder / HARD).is_file():
                try:
                    content = json.loads((folder / HARD).read_text(encoding="utf-8"))
                    return {name: tuple(tags) or ("No Tag",) for name, tags in content.items()}
                except (ValueError, AttributeError, TypeError) as error:
                    raise BenchmarkDataError(
                        f"{folder / HARD} is not an object of id -> tags: {error}"
                    ) from error
        return {}


def _text(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise BenchmarkDataError(f"{where}: {key} is {type(value).__name__}, not a text")
    return value


def _tags(row: dict[str, Any]) -> list[str]:
    predicates = row.get("num_main_preds")
    tags = [str(row["collapsed_tag"])]
    if predicates is not None:
        tags.append(f"{predicates} main predicate{'s' if predicates != 1 else ''}")
    return tags + [tag.strip() for tag in str(row.get("secondary_tag") or "").split(",") if tag]
