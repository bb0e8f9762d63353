"""Plan a run: unique images, texts and cells, and how to fold scores back into blocks.

Every shape of evaluation is a list of blocks: Winoground 2 x 2, ranking K x 1, retrieval M x N,
captioning 1 x 1 with references. A `Plan` holds each content once, however many blocks use it, so
that shared work is done once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import InputError, MediaError
from t2v_eval.inputs.media import (
    Media,
    MediaLike,
    Roles,
    as_list,
    check_texts,
    open_media,
    roles_of,
)
from t2v_eval.inputs.roles import wrong_roles
from t2v_eval.inputs.urls import AllowUrls

Cells: TypeAlias = NDArray[np.int64]  # (C, 2): rows in Plan.images, Plan.texts
PARTS = 1024  # of the images of a plan, each opened by one task of a thread
_T = TypeVar("_T", bound=Hashable)
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class Caption:
    """A text with the human reference captions of the image it is scored for.

    Without references, a scorer that uses them returns the part of its score that needs none.

    >>> Caption("a cat", references=("a kitten on a mat",)).text
    'a cat'
    """

    text: str
    references: tuple[str, ...]


Text: TypeAlias = str | Caption


def caption_text(text: Text) -> str:
    """Return a text without its references.

    >>> caption_text(Caption("a cat", ("a kitten",)))
    'a cat'
    """
    return text.text if isinstance(text, Caption) else text


@dataclass(frozen=True, slots=True)
class Block:
    """M images against N texts, in all combinations; `references[i]` belongs to image i.

    Attributes:
        images: the images.
        texts: the texts.
        references: references of each image.
        name: what messages call an image, such as the row of a table that has one; by default
            "images[0]" and so on, with the number of the item.

    >>> block = Block.of(["a.png", "b.png"], "a cat")
    >>> len(block.images), len(block.texts)
    (2, 1)
    """

    images: Sequence[MediaLike]
    texts: Sequence[str]
    references: Sequence[Sequence[str]] | None = None
    name: str = ""

    @classmethod
    def of(
        cls,
        images: MediaLike | Iterable[MediaLike],
        texts: str | Iterable[str],
        references: Sequence[Sequence[str]] | None = None,
        where: str = "",
    ) -> Block:
        """Check and normalise a user's arguments; `where` is a prefix of messages.

        Raises:
            InputError: empty, of a wrong type, or not as many references as images.
        """
        listed = as_list(images, f"{where}images")
        if references is not None and len(references) != len(listed):
            raise InputError(
                f"{where}references has {len(references)} lists for {len(listed)} images; "
                "pass one list of references for each image"
            )
        checked = references and [
            check_texts(refs, f"{where}references[{i}]") for i, refs in enumerate(references)
        ]
        return cls(listed, check_texts(texts, f"{where}texts"), checked)


def blocks_of(dataset: Iterable[Mapping[str, Any]]) -> list[Block]:
    """Make a block of each sample with "images", "texts" and perhaps "references".

    >>> [len(block.texts) for block in blocks_of([{"images": ["a.png"], "texts": ["a", "b"]}])]
    [2]

    Raises:
        InputError: a sample is not a mapping with "images" and "texts"; the message has its index.
    """
    if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
        # A torch Dataset may have no __iter__, and iterating it by index may not end.
        indexed: Sequence[Mapping[str, Any]] = dataset  # type: ignore[assignment]
        dataset = [indexed[index] for index in range(len(indexed))]
    blocks = []
    for index, sample in enumerate(dataset):
        try:
            images, texts = sample["images"], sample["texts"]
        except (KeyError, TypeError):
            videos = isinstance(sample, Mapping) and "videos" in sample
            raise InputError(
                f"dataset item {index} is not a mapping with 'images' and 'texts'"
                + "; videos are 'images' too" * videos
            ) from None
        blocks.append(Block.of(images, texts, sample.get("references"), f"item {index}, "))
    return blocks


@dataclass(frozen=True, slots=True)
class Plan:
    """The unique contents and cells of blocks.

    Attributes:
        images: unique images.
        texts: unique texts, with their references if the scorer uses them.
        cells: (C, 2) indices into `images` and `texts`, sorted by image, then text.
        grids: one (M, N) array for each block: the cell of image i and text j.

    >>> from PIL import Image
    >>> red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    >>> plan = Plan.of([Block.of([red, blue], ["a cat"]), Block.of(red, ["a cat", "a dog"])])
    >>> len(plan.images), len(plan.texts), plan.cells.tolist()
    (2, 2, [[0, 0], [0, 1], [1, 0]])
    >>> [scores.tolist() for scores in plan.fold(np.array([0.1, 0.2, 0.3]))]
    [[[0.1], [0.3]], [[0.1, 0.2]]]
    """

    images: tuple[Media, ...]
    texts: tuple[Text, ...]
    cells: Cells
    grids: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(
        cls, blocks: Sequence[Block], *, skip_errors: bool = False, allow_urls: AllowUrls = False
    ) -> Plan:
        """Open and hash every image once (in threads), and index unique contents.

        Raises:
            InputError: there are no blocks.
            MediaError: an image cannot be opened (with `skip_errors`, loading it raises instead).
        """
        if not blocks:
            raise InputError("there is nothing to score: the list of items is empty")
        media = _open_all(blocks, skip_errors, allow_urls)
        images: dict[str, int] = {}
        texts: dict[Text, int] = {}
        unique: list[Media] = []
        coordinates: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        for block, opened in zip(blocks, media, strict=True):
            rows = np.empty((len(block.images), 1), np.int64)
            columns = np.empty((len(block.images), len(block.texts)), np.int64)
            for i, image in enumerate(opened):
                rows[i] = images.setdefault(image.key, len(images))
                if len(images) > len(unique):
                    unique.append(image)
                if i == 0 or block.references is not None:
                    columns[i:] = [texts.setdefault(t, len(texts)) for t in _texts_of(block, i)]
            coordinates.append((rows, columns))
        codes = [rows * len(texts) + columns for rows, columns in coordinates]
        flat, inverse = np.unique(np.concatenate([c.ravel() for c in codes]), return_inverse=True)
        ends = np.cumsum([c.size for c in codes])[:-1]
        grids = [g.reshape(c.shape) for g, c in zip(np.split(inverse, ends), codes, strict=True)]
        cells = np.stack(np.divmod(flat, len(texts)), axis=1)
        return cls(tuple(unique), tuple(texts), cells, tuple(grids))

    def check_roles(self, scorer: str, roles: Roles) -> None:
        """Check that each image, or group of images, is what a scorer takes.

        Args:
            scorer: its name.
            roles: its `image_roles`.

        Raises:
            UnsupportedError: it takes others; the message says which scorer takes these, or what to
                pass.
        """
        for media in self.images:
            if roles_of(media) != roles and not media.is_broken:
                raise wrong_roles(scorer, roles, media)

    def images_sha256(self) -> str | None:
        """Hash the contents of the images of all blocks, in order; None if one cannot be opened."""
        if any(image.is_broken for image in self.images):
            return None
        rows = np.concatenate([self.cells[grid[:, 0], 0] for grid in self.grids])
        keys = "".join(f"{self.images[n].key}\n" for n in rows.tolist())
        return hashlib.sha256(keys.encode()).hexdigest()

    def fold(self, values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Fold (C,) values of the cells into one (M, N) array for each block."""
        return [values[grid] for grid in self.grids]

    def locate(self, cells: Mapping[int, _V]) -> dict[tuple[int, int, int], _V]:
        """Map values of cells to every (block, row, column) where the cells occur."""
        if not cells:
            return {}
        selected = np.zeros(len(self.cells), bool)
        selected[np.fromiter(cells, np.int64, len(cells))] = True
        return {
            (b, int(i), int(j)): cells[int(grid[i, j])]
            for b, grid in enumerate(self.grids)
            if (at := selected[grid]).any()
            for i, j in np.argwhere(at)
        }


def _texts_of(block: Block, row: int) -> Sequence[Text]:
    if block.references is None:
        return block.texts
    return [Caption(text, tuple(block.references[row])) for text in block.texts]


def _open_all(
    blocks: Sequence[Block], skip_errors: bool, allow_urls: AllowUrls
) -> list[list[Media]]:
    """Open each distinct source once; do not hash the same path or object twice."""
    sources: dict[Hashable, tuple[MediaLike, str]] = {}
    identities: list[list[Hashable]] = []
    for b, block in enumerate(blocks):
        where = f"item {b}, " if len(blocks) > 1 else ""
        row: list[Hashable] = []
        for i, source in enumerate(block.images):
            identity: Hashable = source if isinstance(source, str) else id(source)
            sources.setdefault(identity, (source, block.name or f"{where}images[{i}]"))
            row.append(identity)
        identities.append(row)

    def open_part(part: Sequence[tuple[MediaLike, str]]) -> list[Media]:
        media = []
        for source, position in part:
            try:
                media.append(open_media(source, position, allow_urls))
            except MediaError as error:
                if not skip_errors:
                    raise
                media.append(Media.broken(position, error))
        return media

    pairs = [*sources.values()]
    size = 1 + len(pairs) // PARTS
    parts = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    if len(parts) == 1:  # threads would cost more than they save
        listed = [open_part(pairs)]
    else:
        with ThreadPoolExecutor() as pool:
            listed = [*pool.map(open_part, parts)]
    opened = dict(zip(sources, chain.from_iterable(listed), strict=True))
    return [[opened[identity] for identity in row] for row in identities]


def by_image(cells: Cells) -> tuple[list[int], list[NDArray[np.int64]]]:
    """Return the images of cells, which are sorted by image, and the positions of their cells.

    >>> images, positions = by_image(np.array([[0, 0], [0, 1], [2, 0]]))
    >>> images, [places.tolist() for places in positions]
    ([0, 2], [[0, 1], [2]])
    """
    rows, starts = np.unique(cells[:, 0], return_index=True)
    return rows.tolist(), np.split(np.arange(len(cells)), starts[1:])


def by_length(cells: Cells, texts: Sequence[Text]) -> tuple[list[int], list[NDArray[np.int64]]]:
    """Group as `by_image` does, with images in the order of their longest text.

    Images of one batch then have texts of similar length, which need little padding.

    >>> by_length(np.array([[0, 0], [1, 1]]), ["a long text", "short"])[0]
    [1, 0]
    """
    rows, spans = by_image(cells)
    lengths = np.array([len(t.text if isinstance(t, Caption) else t) for t in texts])
    order = sorted(range(len(rows)), key=lambda n: lengths[cells[spans[n], 1]].max())
    return [rows[n] for n in order], [spans[n] for n in order]
