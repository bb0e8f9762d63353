"""A Hugging Face data set of your own as a benchmark, without code.

    --benchmark dataset:ORG/NAME              a data set of the hub
    --benchmark dataset:ORG/NAME/CONFIG@test  one of its configurations, one of its splits
    --benchmark dataset:FOLDER                as `save_to_disk` writes it, or any files that
                                              `load_dataset` reads: Parquet, CSV, JSON Lines, a
                                              folder of images with a metadata file

Its columns are those that `own_table` names, or are named with ``--column``. The encoded
bytes of all images are held in memory; they are decoded when they are scored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError, T2VError
from t2v_eval.utils.arguments import check_path

from .own_table import COLUMNS, OwnRows


class OwnDataset(OwnRows):
    """The rows of a data set; see the top of this module.

    Args:
        source: a data set of the hub, or a folder.
    """

    def __init__(self, *, source: str, **options: Any) -> None:
        super().__init__(**options)
        self.source = source
        self._column_names: Sequence[str] = ()

    @property
    @override
    def place(self) -> str:
        return self.source

    @override
    def column_names(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        return self._column_names

    @override
    def rows(self) -> Sequence[Mapping[str, Any]]:
        try:
            dataset = self._load()
        except T2VError:
            raise
        except Exception as error:  # reading and downloading raise many classes
            first_line = str(error).strip().partition("\n")[0]
            raise BenchmarkDataError(
                f"the data set {self.source} cannot be read: {first_line}"
            ) from error
        self._column_names = dataset.column_names
        names = {*COLUMNS, *(name for columns in self.columns.values() for name in columns)}
        columns_read = dataset.select_columns(
            [name for name in dataset.column_names if name in names]
        )
        # Undecoded: an image is its bytes and its path.
        rows: list[dict[str, Any]] = columns_read.with_format("arrow")[:].to_pylist()
        human = self.columns.get("human", ["human"])
        for name, feature in columns_read.features.items():
            if isinstance(feature, datasets.ClassLabel) and name not in human:
                for row in rows:
                    row[name] = None if row[name] is None else feature.int2str(row[name])
        return rows or [{}]

    def _load(self) -> datasets.Dataset:
        place, split = self.source, ""
        if not check_path("dataset", place).exists():
            place, _, split = place.partition("@")
        folder = check_path("dataset", place)
        if folder.is_dir():
            saved = any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))
            read = datasets.load_from_disk if saved else datasets.load_dataset
            dataset = read(str(folder))
        else:
            parts = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:/([\w.-]+))?", place)
            if parts is None:
                raise BenchmarkDataError(
                    f"{place} is neither a folder nor a data set of the hub, ORG/NAME"
                )
            dataset = datasets.load_dataset(parts[1], parts[2])
        if isinstance(dataset, datasets.Dataset):
            return dataset
        if not split and len(dataset) > 1:
            raise BenchmarkDataError(
                f"{self.source} has the splits {', '.join(dataset)}: name one, as "
                f"dataset:{self.source}@{next(iter(dataset))}"
            )
        if split and split not in dataset:
            raise BenchmarkDataError(f"{place} has no split {split!r}, but {', '.join(dataset)}")
        return dataset[split] if split else next(iter(dataset.values()))
