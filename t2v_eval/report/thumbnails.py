"""Small copies of pictures for a page, each once, up to a bound on their size together."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image, features

from t2v_eval.inputs.decode_budget import BUDGET
from t2v_eval.inputs.media import Media, MediaLike, Video, decode, open_media
from t2v_eval.inputs.video import Sampling, clip

SIDE, SMALL_SIDE = 160, 112  # the longer side in pixels; the second where there are many
MANY = 1500
MOST_BYTES = 24 * 2**20  # of all pictures in a page, as they are written there


class Album:
    """Data URLs of small copies of pictures.

    Args:
        sources: the pictures, the most telling first: those that come after `most` bytes are left
            out.
    """

    def __init__(self, sources: Iterable[MediaLike], most: int = MOST_BYTES) -> None:
        unique = {_key(source): source for source in sources}
        side = SIDE if len(unique) <= MANY else SMALL_SIDE
        self.urls: list[str] = []
        self.missing: set[Any] = set()
        self.left_out = 0
        self._index: dict[Any, int] = {}
        waiting = iter(unique.items())
        size = 0
        with ThreadPoolExecutor() as threads:
            # Some at a time, so that no more are decoded than there is room for.
            while some := list(islice(waiting, 64)):
                if size >= most:
                    self.left_out += len(some)
                    continue
                urls = threads.map(lambda one: thumbnail(one[1], side), some)
                for (key, _), url in zip(some, urls, strict=True):
                    if url is None:
                        self.missing.add(key)
                    elif size + len(url) > most:
                        size = most
                        self.left_out += 1
                    else:
                        size += len(url)
                        self._index[key] = len(self.urls)
                        self.urls.append(url)

    def index(self, source: MediaLike) -> int:
        """Where `source` is in `urls`; -1 where it was left out, -2 where it cannot be read."""
        key = _key(source)
        return self._index.get(key, -2 if key in self.missing else -1)


def thumbnail(source: MediaLike, side: int = SIDE) -> str | None:
    """A data URL of a small copy of a picture, or None for one that cannot be shown.

    Of a video it is the frame in the middle.
    """
    try:
        with BUDGET.lease():
            return _data_url(_small(open_media(source), side))
    except Exception:  # a report is written all the same
        return None


def _small(media: Media, side: int) -> Image.Image:
    if isinstance(media, Video):
        image = clip(media, Sampling(count=1)).frames[0]
    else:
        image = decode(replace(media, load=lambda: _draft(media.load(), side)))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def _data_url(image: Image.Image) -> str:
    stream = io.BytesIO()
    # Small drawings stay sharp as PNG; photographs would be ten times larger.
    kind = "png" if len(image.getcolors(256) or ()) else "webp"
    if kind == "webp" and not features.check("webp"):
        kind = "jpeg"
    image.save(stream, kind, quality=75, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def name(source: MediaLike) -> str:
    """What to call a picture: its file's name, or what messages call it, without folders."""
    if isinstance(source, Media):
        return re.sub(r"[^\s(]*/", "", source.name)
    return Path(source).name if isinstance(source, (str, os.PathLike)) else ""


def _draft(image: Image.Image, side: int) -> Image.Image:
    """A JPEG is decoded at the smallest of its sizes that is large enough, which is faster."""
    image.draft("RGB", (2 * side, 2 * side))
    return image


def _key(source: MediaLike) -> Any:
    return str(source) if isinstance(source, (str, os.PathLike)) else id(source)
