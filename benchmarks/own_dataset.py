"""A Hugging Face data set of your own as a benchmark, without code.

    --benchmark dataset:ORG/NAME              a data set of the hub
    --benchmark dataset:ORG/NAME/CONFIG@test  one of its configurations, one of its splits
    --benchmark dataset:FOLDER                as `save_to_disk` writes it, or any files that
                                              `load_dataset` reads: Parquet, CSV, JSON Lines, a
                                              folder of images with a metadata file

Its columns are those that `own_table` names, or are named with ``--column``. Images are read as
they are kept and not decoded here; all of them are held in memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from t2v_eval.errors import BenchmarkDataError, T2VError

from .own_table import COLUMNS, OwnRows


class OwnDataset(OwnRows):
    """The rows of a data set; see the top of this module.

    Args:
        source: a data set of the hub, or a folder.
    """

    def __init__(self, *, source: str, **options: Any) -> None:
        super().__init__(**options)
        self.source = source
        self._known: Sequence[str] = ()

    @property
    def place(self) -> str:
        return self.source

    def known(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        return self._known

    def rows(self) -> Sequence[Mapping[str, Any]]:
        try:
            found = self._load()
        except T2VError:
            raise
        except Exception as error:  # whatever reading and downloading raise
            said = str(error).strip().partition("\n")[0]
            raise BenchmarkDataError(
                f"the data set {self.source} cannot be read: {said}"
            ) from error
        self._known = found.column_names
        wanted = {*COLUMNS, *(one for of in self.columns.values() for one in of)}
        kept = found.select_columns([name for name in found.column_names if name in wanted])
        # As it is kept: an image is its bytes and its path.
        rows: list[dict[str, Any]] = kept.with_format("arrow")[:].to_pylist()
        human = self.columns.get("human", ["human"])
        for name, feature in kept.features.items():
            if isinstance(feature, datasets.ClassLabel) and name not in human:
                for row in rows:
                    row[name] = None if row[name] is None else feature.int2str(row[name])
        return rows or [{}]

    def _load(self) -> datasets.Dataset:
        place, split = self.source, ""
        if not Path(place).expanduser().exists():
            place, _, split = place.partition("@")
        folder = Path(place).expanduser()
        if folder.is_dir():
            saved = any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))
            read = datasets.load_from_disk if saved else datasets.load_dataset
            found = read(str(folder))
        else:
            parts = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:/([\w.-]+))?", place)
            if parts is None:
                raise BenchmarkDataError(
                    f"{place} is neither a folder nor a data set of the hub, ORG/NAME"
                )
            found = datasets.load_dataset(parts[1], parts[2])
        if isinstance(found, datasets.Dataset):
            return found
        if not split and len(found) > 1:
            raise BenchmarkDataError(
                f"{self.source} has the splits {', '.join(found)}: name one, as "
                f"dataset:{self.source}@{next(iter(found))}"
            )
        if split and split not in found:
            raise BenchmarkDataError(f"{place} has no split {split!r}, but {', '.join(found)}")
        return found[split] if split else next(iter(found.values()))
