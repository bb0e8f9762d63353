"""Parts of sets of images, by sub-folder or by tag, each with what it is compared with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from t2v_eval.errors import InputError, TableError
from t2v_eval.evaluation.distances.cautions import file_cautions
from t2v_eval.evaluation.distances.feature_set import FeatureSet
from t2v_eval.inputs.tables import read_table
from t2v_eval.stats.bootstrap import IntArray
from t2v_eval.utils.arguments import check_path

By: TypeAlias = Literal["folder", "tag"]

_LEAST = 2  # images of a part of the reference


class Tags(NamedTuple):
    """The tags of images, by names as a table holds them and by whole paths.

    Attributes:
        file: the table.
        by_name: the tags of each value of its column image.
        by_path: the tags of each such path, from the folder of the table on.

    >>> Tags(Path("tags.csv"), {"a.png": ("cat",)}, {}).file.name
    'tags.csv'
    """

    file: Path
    by_name: Mapping[str, tuple[str, ...]]
    by_path: Mapping[str, tuple[str, ...]]


class Part(NamedTuple):
    """Some images, and what they are compared with.

    Attributes:
        reference: the same part of the reference, or all of it; None where there is none.
        images: the images.
        notes: what must be known of the parts.

    >>> Part(None, FeatureSet("cats", np.ones((3, 2))), ()).images.count
    3
    """

    reference: FeatureSet | None
    images: FeatureSet
    notes: tuple[str, ...]


def read_tags(file: str | os.PathLike[str]) -> Tags:
    r"""Read a table of tags: a row for each image, with the columns `image` and `tag`.

    Args:
        file: a table; tags of an image are separated by ";", or in several rows. Its images are
            paths relative to the folder of a set, or to the folder of the table.

    Raises:
        TableError: it cannot be read, or lacks a column or a value.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "tags.csv"
    ...     _ = path.write_text("image,tag\na.png,cat; outdoors\n")
    ...     dict(read_tags(path).by_name)
    {'a.png': ('cat', 'outdoors')}
    """
    path = check_path("tags", file)
    by_name: dict[str, tuple[str, ...]] = {}
    for row in read_table(path, ["image", "tag"]):
        name = PurePosixPath(str(row["image"])).as_posix()
        by_name[name] = tuple(dict.fromkeys((*by_name.get(name, ()), *_tags_of(row["tag"]))))
    by_path = {str((path.parent / name).resolve()): tags for name, tags in by_name.items()}
    return Tags(path, by_name, by_path)


def _tags_of(value: Any) -> Iterator[str]:
    for tag in value if isinstance(value, list) else str(value).split(";"):
        if text := str(tag).strip():
            yield text


def split(
    reference: FeatureSet | None, images: FeatureSet, by: By, tags: Tags | None = None
) -> Iterator[Part]:
    """Yield each sub-folder or tag of images, with the same of the reference where it has it.

    Args:
        reference: the reference; None where there is none.
        images: the images.
        by: what parts are.
        tags: the tags of images, for `by="tag"`.

    Raises:
        InputError: names of images are unknown, or no image has a tag.

    >>> images = FeatureSet("mine", np.ones((3, 2)), names=("cats/1.png", "cats/2.png", "3.png"))
    >>> [(part.images.name, part.images.count) for part in split(None, images, "folder")]
    [('mine/.', 1), ('mine/cats', 2)]
    """
    if not images.names:
        raise InputError(
            f"{images.name} holds no names of images, which `by={by!r}` needs: pass an .npz file "
            "with an array `names`"
        )
    places = _places(images, by, tags)
    if tags is not None and not places:
        raise TableError(
            f"{tags.file} has none of the {images.count} images of {images.name}, such as "
            f"{images.names[0]!r}: its column image holds paths relative to their folder, or to "
            "the folder of the table"
        )
    others = _places(reference, by, tags) if reference is not None and reference.names else {}
    others = {label: rows for label, rows in others.items() if len(rows) >= _LEAST}
    others = {label: rows for label, rows in others.items() if label in places}
    untagged = (images.count or 0) - len({row for rows in places.values() for row in rows.tolist()})
    notes = list(file_cautions([images] if reference is None else [reference, images]))
    if untagged:
        notes.append(f"{images.name}: {untagged} images have no tag, and are left out")
    for label in sorted(places):
        part = images.rows(places[label], _named(images.name, label, by))
        if reference is None:
            yield Part(None, part, (*notes,))
        elif label in others:
            same = reference.rows(others[label], _named(reference.name, label, by))
            yield Part(same, part, (*notes,))
        else:
            yield Part(reference, part, (*notes, _compared_with_all(reference, part, by, others)))


def _compared_with_all(
    reference: FeatureSet, part: FeatureSet, by: By, others: Mapping[str, IntArray]
) -> str:
    """Return that a part is compared with the whole reference: once, where all are."""
    if not others and by == "folder":
        return f"{reference.name} has no such sub-folders; each is compared with all of it"
    if not others:
        return f"{reference.name} has no images of these tags; each is compared with all of it"
    return f"{part.name}: compared with all of {reference.name}, which has fewer than 2 of its kind"


def _named(name: str, label: str, by: By) -> str:
    return f"{name}, {label}" if by == "tag" else f"{name}/{label}"


def _places(images: FeatureSet, by: By, tags: Tags | None) -> dict[str, IntArray]:
    """Return the rows of each label."""
    labels = _folders(images) if tags is None else _tags(images, tags)
    places: dict[str, list[int]] = {}
    for row, of_row in enumerate(labels):
        for label in of_row:
            places.setdefault(label, []).append(row)
    return {label: np.array(rows) for label, rows in places.items()}


def _folders(images: FeatureSet) -> Sequence[Sequence[str]]:
    return [[str(PurePosixPath(name).parent)] for name in images.names]


def _tags(images: FeatureSet, tags: Tags) -> Iterator[Sequence[str]]:
    for name in images.names:
        path = "" if images.folder is None else str((images.folder / name).resolve())
        yield tags.by_path.get(path) or tags.by_name.get(PurePosixPath(name).as_posix(), ())
