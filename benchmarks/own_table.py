"""A table of your own as a benchmark, without code: ``--benchmark judged.csv``.

A .csv, .tsv, .jsonl, .json or .parquet file with these columns; others are ignored:

    image      a path (from the table's folder, or --root), or in Parquet the image itself
    text       the caption or prompt
    human      the human rating, the higher the better; several raters' values are averaged
    group      optional: rows with one value (say, of one prompt) are resampled together
    tags       optional: names separated by ";", each is reported
    id         optional: the name of the row in reports
    generator  optional: what made the image; people and scorers are compared on pairs of them
    source     the image before an edit, whose result is the image; only where a column is named
               for it (``--column source=before``)

Columns with other names are named with ``--column human=rating``; several human columns, one for
each rater, by repeating it. `images` and `texts` may stand for `image` and `text`: lists (in a CSV,
separated by ";"), with one human value for each image with each text, image by image.

Human values of 0 and 1 give AUROC and average precision, others acc23 and correlations; all rows
together are one sample. The rows of a group become one item if they rate all its images with all
its texts and have the same tags; otherwise they stay separate items that are resampled together.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from typing_extensions import override

from t2v_eval.errors import InputError, MediaError, T2VWarning, TableError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.evaluation.rating_tables.columns import (
    check_percentages,
    is_empty,
    number,
    split_tags,
)
from t2v_eval.evaluation.selection import missing_images
from t2v_eval.inputs.addresses import folder_of, is_address, path_or_address, within_folder
from t2v_eval.inputs.folders import path_on_disk
from t2v_eval.inputs.media import Edit, Media, MediaLike, check_texts, embedded
from t2v_eval.inputs.tables import read_rows
from t2v_eval.utils.printable import redact_userinfo

from .forms.ratings import LabelsForm, RatingsForm

COLUMNS = tuple("image images text texts human group tags id generator source".split())


class OwnRows(RatingsForm):
    """Rated rows; subclasses implement `rows`. See the top of this module.

    Args:
        columns: the user's column name for names of `COLUMNS`; several for `human`.
    """

    def __init__(
        self,
        *,
        root: str | Path | None = None,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        **options: Any,
    ) -> None:
        self.images_at = None if root is None else path_or_address("root", root)
        super().__init__(root=None if isinstance(self.images_at, str) else root, **options)
        self._embedded: dict[str, Media] = {}
        self.columns: dict[str, list[str]] = {}
        self.bad: dict[int, str] = {}  # reasons by number of rows that cannot be used
        for name, called in (columns or {}).items():
            self.columns[name] = [called] if isinstance(called, str) else list(called)
            if name not in COLUMNS:
                raise InputError(f"no column is called {name!r} here: use {', '.join(COLUMNS)}")
            if len(self.columns[name]) != 1 and name != "human":
                raise InputError(f"{name!r} is {self.columns[name]}: only 'human' may be several")
        if self.columns.get("source") == self.columns.get("image", ["image"]):
            raise InputError(
                f"the column 'source' is {self.columns['source'][0]!r}, which has the images after "
                "the edit: name that of the images before"
            )

    @abstractmethod
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """Read the rows with the user's column names."""

    def column_names(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        """Return the names of all columns."""
        return list(dict.fromkeys(key for row in rows for key in row))

    @property
    @abstractmethod
    def place(self) -> str:
        """Return where the rows are, for messages."""

    @property
    def base(self) -> Path | str:
        """Return the folder, or its address, that paths of images are relative to."""
        return self.images_at or Path()

    @override
    def items(self) -> Sequence[Item]:
        self.selection.restart()
        raw_rows = self.rows()
        names = self.column_names(raw_rows)
        for called in (name for renamed in self.columns.values() for name in renamed):
            if called not in names:
                raise TableError(
                    f"{self.place}: there is no column {called!r}; the columns are "
                    f"{', '.join(map(repr, names))}"
                )
        rows = [self._rename_columns(row) for row in raw_rows]
        columns = {key for row in rows for key in row}
        for name, several in (("image", "images"), ("text", "texts"), ("human", "human")):
            if not {name, several} & columns:
                raise TableError(
                    f"{self.place}: there is no column {name!r}; the columns are "
                    f"{', '.join(map(repr, names))}. Say which it is with "
                    f"`columns={{'{name}': ...}}`"
                )
        try:
            check_percentages([(n, row.get("human")) for n, row in enumerate(rows, 1)], "human")
        except TableError as error:
            raise TableError(f"{self.place}, {error}") from None
        usable: dict[int, Item] = {}
        for n, row in enumerate(rows, 1):
            try:
                if n not in self.bad:
                    usable[n] = self._item(row, n)
            except InputError as error:
                if self.on_error != "skip" and str(error).startswith(self.place):
                    raise
                if self.on_error != "skip":
                    raise TableError(f"{self.place}, {error}") from None
                self.bad[n] = str(error).removeprefix(f"{self.place}, ")
        self._report_bad_rows(len(rows))
        names = [
            f"row {n}" if is_empty(row.get("group")) else str(row["group"])
            for n, row in enumerate(rows, 1)
        ]
        pairs = [(names[n - 1], item) for n, item in usable.items()]
        items = _group_items(pairs)
        groups = ["" if is_empty(rows[n - 1].get("group")) else names[n - 1] for n in usable]
        chosen = {id(item) for item in self.selection.choose(list(usable.values()), groups)}
        self.selection.total = len(items)  # as rows of a group may be one
        if len(chosen) < len(usable):
            items = _group_items(pair for pair in pairs if id(pair[1]) in chosen)
        self._check_images(usable, chosen)
        values = {value for item in items for value in item.labels["human"] if value is not None}
        if not values:
            raise TableError(f"{self.place}: the column 'human' is empty")
        if values <= {0.0, 1.0}:
            self.metric_names = LabelsForm.metric_names  # type: ignore[misc]
            self.chance = LabelsForm.chance  # type: ignore[misc]
        return items

    def _report_bad_rows(self, rows: int) -> None:
        if not self.bad:
            return
        reasons = "; ".join(list(self.bad.values())[:3]) + "; ..." * (len(self.bad) > 3)
        if len(self.bad) == rows:
            raise TableError(f"{self.place}: no row can be used: {reasons}")
        warnings.warn(
            f"{self.place}: {len(self.bad)} of {rows} rows cannot be used and are left out: "
            f"{reasons}",
            T2VWarning,
            stacklevel=3,
        )

    def _check_images(self, rows: Mapping[int, Item], chosen: Collection[int]) -> None:
        if self.on_error == "skip":  # a missing image fails when it is scored, and is counted
            return
        for n, row in rows.items():
            if id(row) in chosen and (missing := missing_images(row)):
                slashes = Path(str(missing[0]).replace("\\", "/"))
                windows = "; with / in the place of \\ it is there" if slashes.exists() else ""
                raise MediaError(
                    f"{self.place}, row {n}: {missing[0]}: no such file{windows}; paths start at "
                    "the table or at `root=`. `on_missing='skip'` leaves such rows out"
                )

    def _rename_columns(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Rename columns to those of `COLUMNS`; several human columns become a list."""
        renamed = {key: value for key, value in row.items() if key not in self.columns}
        for name, called in self.columns.items():
            values = [row.get(column) for column in called]
            renamed[name] = values if len(values) > 1 else values[0]
        return renamed

    def _item(self, row: Mapping[str, Any], n: int) -> Item:
        where = f"{self.place}, row {n}"
        images = [self._image(value, where) for value in _listed(row, "image", where)]
        if "source" in self.columns:
            images = self._edits(row, images, where)
        texts = check_texts(_listed(row, "text", where), f"{where}: text")
        human_values = row.get("human")
        if len(images) * len(texts) == 1:
            human = [number(human_values, "human", n)]
        else:
            split = human_values.split(";") if isinstance(human_values, str) else human_values
            human = [number(value, "human", n) for value in _flat(split, len(images), len(texts))]
        if len(human) != len(images) * len(texts):
            raise TableError(
                f"{where}: {len(images)} images and {len(texts)} texts need "
                f"{len(images) * len(texts)} human values, not {len(human)}"
            )
        labels: dict[str, Any] = {
            "human": [None if math.isnan(value) else value for value in human]
        }
        if not is_empty(row.get("generator")):
            labels["generator"] = [str(row["generator"])] * len(images)
        return Item(
            images=images,
            texts=texts,
            labels=labels,
            tags=split_tags(row.get("tags")),
            id=str(n if is_empty(row.get("id")) else row["id"]),
        )

    def _edits(
        self, row: Mapping[str, Any], results: Sequence[MediaLike], where: str
    ) -> list[MediaLike]:
        """Return the edits of a row: each image with its source, or with the only one."""
        sources = [self._image(value, where) for value in _listed(row, "source", where)]
        sources = sources * len(results) if len(sources) == 1 else sources
        if len(sources) != len(results):
            raise TableError(f"{where}: {len(sources)} sources and {len(results)} images")
        return [Edit(*images) for images in zip(sources, results, strict=True)]

    def _image(self, value: Any, where: str) -> MediaLike:
        called = where
        if isinstance(value, dict):  # how Hugging Face data sets keep an image
            content, path = value.get("bytes"), value.get("path")
            called = path or where
            value = content if isinstance(content, bytes) else path
        if isinstance(value, bytes):
            media = embedded(value, called)
            # Equal images of several rows get one name, by which rows of a group are merged.
            return self._embedded.setdefault(media.key, media)
        if not isinstance(value, str) or not value:
            raise TableError(f"{where}: an image is {value!r}, not a path")
        if is_address(value) or isinstance(self.base, str):
            return within_folder(self.base, value)
        return str(path_on_disk(self.base, value))


class OwnTable(OwnRows):
    """The rows of `file`; see the top of this module.

    Args:
        file: the table, or its address; paths of images are relative to its folder, or to `root`.
    """

    def __init__(self, *, file: str | Path, **options: Any) -> None:
        super().__init__(**options)
        self.file = path_or_address("file", file)

    @override
    def rows(self) -> Sequence[Mapping[str, Any]]:
        rows, self.bad = read_rows(self.file, skip=self.on_error == "skip")
        return rows

    @property
    @override
    def place(self) -> str:
        return redact_userinfo(str(self.file))

    @property
    @override
    def base(self) -> Path | str:
        return self.images_at or folder_of(self.file)


def _listed(row: Mapping[str, Any], name: str, where: str) -> list[Any]:
    several = row.get(f"{name}s")
    if several in (None, "", []):
        several = [row.get(name)]
    elif isinstance(several, str):
        several = [value.strip() for value in several.split(";") if value.strip()]
    if not isinstance(several, (list, tuple)) or any(
        value in (None, "") or value != value for value in several
    ):
        raise TableError(f"{where}: {name!r} is empty")
    return list(several)


def _flat(human: Any, num_images: int, num_texts: int) -> list[Any]:
    """Flatten human values, given as one list or as a list per image."""
    if not isinstance(human, (list, tuple)):
        return [human]
    if (
        len(human) == num_images
        and num_texts > 1
        and all(isinstance(values, (list, tuple)) for values in human)
    ):
        return [value for values in human for value in values]
    return list(human)


def _group_items(rows: Iterable[tuple[str, Item]]) -> list[Item]:
    """Merge rows, given with the names of their groups, to items."""
    groups: dict[str, list[Item]] = {}
    for name, row in rows:
        groups.setdefault(name, []).append(row)
    return [item for name, group in groups.items() for item in _merge_group(group, name)]


def _merge_group(rows: Sequence[Item], name: str) -> Sequence[Item]:
    """Merge the rows of a group to one item, or return the rows where that is not possible."""
    if len(rows) == 1:
        return rows
    images = list(dict.fromkeys(image for row in rows for image in row.images))
    texts = list(dict.fromkeys(text for row in rows for text in row.texts))
    judged = {(image, text) for row in rows for image in row.images for text in row.texts}
    if len({frozenset(row.tags) for row in rows}) > 1 or len(judged) < len(images) * len(texts):
        return [replace(row, group=name) for row in rows]
    made_by = {
        image: name
        for row in rows
        for image, name in zip(row.images, row.labels.get("generator", ()), strict=False)
    }
    human: list[list[list[float]]] = [[[] for _ in texts] for _ in images]
    for row in rows:
        values = iter(row.labels["human"])
        for image in row.images:
            for text in row.texts:
                value = next(values)
                if value is not None:
                    human[images.index(image)][texts.index(text)].append(value)
    labels: dict[str, Any] = {
        "human": [sum(c) / len(c) if c else None for line in human for c in line]
    }
    if made_by:
        labels["generator"] = [made_by.get(image, "") for image in images]
    return [Item(images, texts, labels, rows[0].tags, id=name)]
