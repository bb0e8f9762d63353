"""Images of a page, small and large, each once, up to a bound on their total size."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image, features

from t2v_eval.evaluation.agreement_runs import NO_IMAGE
from t2v_eval.inputs.decode_budget import BUDGET
from t2v_eval.inputs.media import (
    Edit,
    ImageGroup,
    Media,
    MediaLike,
    Video,
    decode,
    open_media,
    parts_of,
)
from t2v_eval.inputs.video import Sampling, clip

SIDE, SMALL_SIDE = 160, 112  # the longer side in pixels; the second where there are many
GAP = 4  # white pixels between images that are one input
MANY = 1500
MAX_BYTES = 24 * 2**20  # of all data URLs in a page
LARGE_SHARE = 6  # one part in so many is for larger images, if there are any


class Album:
    """Data URLs of thumbnails, and of larger images of the most important ones.

    Thumbnails come first, except that a share of the room is for larger images; what these leave
    free is for thumbnails again.

    Args:
        sources: the images, most important first.
        pixels: the longer side of larger images; 0 for thumbnails alone.
        limit: total bytes of the URLs; images after it is reached are left out.

    Attributes:
        urls: the data URLs; `index` says which one is of an image.
        large: those of larger images; `large_index` says which one is of an image.
        left_out: number of images left out for their size.
        missing: keys of images that cannot be read.

    >>> image = Image.new("RGB", (400, 300), "red")
    >>> album = Album([image, "no-such-file.png"], pixels=320)
    >>> album.index(image), album.index("no-such-file.png"), album.large_index(image)
    (0, -2, 0)
    """

    def __init__(
        self, sources: Iterable[MediaLike], pixels: int = 0, limit: int = MAX_BYTES
    ) -> None:
        unique = {_key(source): source for source in sources}
        side = SIDE if len(unique) <= MANY else SMALL_SIDE
        self.urls: list[str] = []
        self.large: list[str] = []
        self.missing: set[Any] = set()
        self._large: dict[Any, int] = {}
        self._index: dict[Any, int] = {}
        reserved = limit // LARGE_SHARE if pixels > side else 0
        self._room = limit - reserved
        self.left_out = self._add(unique, side, self.urls, self._index)
        self._room += reserved
        if pixels > side:
            visible = {key: source for key, source in unique.items() if key in self._index}
            self._add(visible, pixels, self.large, self._large)
        if self.left_out:
            rest = {key: source for key, source in unique.items() if self.index(source) == -1}
            self.left_out = self._add(rest, side, self.urls, self._index)

    def _add(
        self, unique: Mapping[Any, MediaLike], side: int, into: list[str], places: dict[Any, int]
    ) -> int:
        """Add images of a size to a list until the room is used; return how many are left out."""
        waiting, left_out = iter(unique.items()), 0
        full = self._room <= 0
        with ThreadPoolExecutor() as threads:
            # A chunk at a time, so that few are decoded in vain once the limit is reached.
            while chunk := list(islice(waiting, 64)):
                if full:
                    left_out += len(chunk)
                    continue
                urls = threads.map(lambda entry: thumbnail(entry[1], side), chunk)
                for (key, _), url in zip(chunk, urls, strict=True):
                    if url is None:
                        self.missing.add(key)
                    elif full or len(url) > self._room:
                        full, left_out = True, left_out + 1
                    elif into is self.urls or url != self.urls[self._index[key]]:
                        # A small image is not larger in the larger size.
                        self._room -= len(url)
                        places[key] = len(into)
                        into.append(url)
        return left_out

    def index(self, source: MediaLike) -> int:
        """Return the index of `source` in `urls`; below 0 if it is not there.

        -1: left out for its size; -2: it cannot be read; -3: it is `NO_IMAGE`.
        """
        if isinstance(source, str) and source == NO_IMAGE:
            return -3
        key = _key(source)
        return self._index.get(key, -2 if key in self.missing else -1)

    def large_index(self, source: MediaLike) -> int:
        """Return the index of the larger image of `source` in `large`; -1 if there is none."""
        return self._large.get(_key(source), -1)


def thumbnail(source: MediaLike, side: int = SIDE) -> str | None:
    """Return a data URL of a thumbnail, or None for an image that cannot be read.

    Args:
        source: an image; a video, of which the middle frame is shown; or images that are one
            input, side by side.
        side: the longer side in pixels.

    >>> thumbnail(Image.new("RGB", (8, 8), "red")).partition(",")[0]
    'data:image/png;base64'
    >>> thumbnail("no-such-file.png") is None
    True
    """
    try:
        with BUDGET.lease():
            return _data_url(_small(open_media(source), side))
    except Exception:  # one unreadable image must not prevent the report
        return None


def _small(media: Media, side: int) -> Image.Image:
    if isinstance(media, ImageGroup):
        return _side_by_side([_small(image, side // len(media.images)) for image in media.images])
    if isinstance(media, Video):
        image = clip(media, Sampling(count=1)).frames[0]
    else:
        image = decode(replace(media, load=lambda: _draft(media.load(), side)))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def _side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    width = sum(image.width for image in images) + GAP * (len(images) - 1)
    size = width, max(image.height for image in images)
    row, left = Image.new("RGB", size, "white"), 0
    for image in images:
        row.paste(image, (left, 0))
        left += image.width + GAP
    return row


def _data_url(image: Image.Image) -> str:
    stream = io.BytesIO()
    # Small drawings stay sharp as PNG; photographs would be ten times larger.
    kind = "png" if len(image.getcolors(256) or ()) else "webp"
    if kind == "webp" and not features.check("webp"):
        kind = "jpeg"
    # More effort than this makes files 4 % smaller and takes twice as long.
    image.save(stream, kind, quality=75, optimize=True, method=2)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def name(source: MediaLike) -> str:
    """Return the name of an image without folders, or "" for one without a name.

    >>> name("images/cat.png"), name(Image.new("RGB", (8, 8)))
    ('cat.png', '')
    """
    if isinstance(source, Media):
        return re.sub(r"[^\s(]*/", "", source.name)
    if isinstance(source, Edit):
        return " -> ".join(filter(None, map(name, parts_of(source))))
    return Path(source).name if isinstance(source, (str, os.PathLike)) else ""


def _draft(image: Image.Image, side: int) -> Image.Image:
    """Let a JPEG be decoded at the smallest sufficient size, which is faster."""
    image.draft("RGB", (2 * side, 2 * side))
    return image


def _key(source: MediaLike) -> Any:
    if isinstance(source, Edit):
        return tuple(map(_key, parts_of(source)))
    return str(source) if isinstance(source, (str, os.PathLike)) else id(source)
