"""Encode images for a page that people judge: one format, no metadata, no names."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from PIL import Image, features

from t2v_eval.inputs.media import decode, open_media
from t2v_eval.votes.tasks import TaskImage

QUALITY = 90  # of WebP or JPEG, at which differences between generators exceed those of encoding
TILES = 8  # that a degraded image is cut into along each side
BLURRED = 16  # pixels along each side of a degraded image before it is enlarged
CHUNK = 32  # images that are encoded ahead


class EncodedImage(NamedTuple):
    """An image of a page.

    Attributes:
        url: a data URL.
        width, height: its size in pixels.
    """

    url: str
    width: int
    height: int

    @property
    def shape(self) -> float:
        """The ratio of width and height, to a hundredth."""
        return round(self.width / self.height, 2)


def encode_all(images: Sequence[TaskImage], pixels: int) -> Iterator[EncodedImage]:
    """Yield the images in their order, encoded in several threads.

    Args:
        images: the images.
        pixels: the longer side of larger ones.

    Raises:
        MediaError: an image cannot be read; the message names it.
    """
    with ThreadPoolExecutor() as threads:
        for start in range(0, len(images), CHUNK):
            yield from threads.map(
                lambda image: encode(image, pixels), images[start : start + CHUNK]
            )


def encode(image: TaskImage, pixels: int) -> EncodedImage:
    """Encode an image anew, so that its file's format, metadata and name are not in the page.

    Args:
        image: the image.
        pixels: its longer side, if it is larger.

    Raises:
        MediaError: it cannot be read; the message names it.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
    ...     Image.new("RGB", (64, 32), "red").save(file.name)
    ...     encode(TaskImage("a", file.name), pixels=16)[1:]
    (16, 8)
    """
    picture = decode(open_media(image.path))
    picture.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
    if image.degraded:
        picture = degrade(picture)
    stream = io.BytesIO()
    kind = "webp" if features.check("webp") else "jpeg"
    picture.info = {}  # writers take profiles, comments and XMP from there, which name programs
    picture.save(stream, kind, quality=QUALITY)
    data = base64.b64encode(stream.getvalue()).decode()
    return EncodedImage(f"data:image/{kind};base64,{data}", *picture.size)


def degrade(picture: Image.Image) -> Image.Image:
    """Return an image of the same size in which nothing can be recognised.

    Its tiles are exchanged at random and then blurred, so that only colours remain.

    >>> degrade(Image.new("RGB", (640, 480), "red")).size
    (640, 480)
    """
    side = TILES * 8
    small = picture.resize((side, side), Image.Resampling.BOX)
    boxes = [(x * 8, y * 8, x * 8 + 8, y * 8 + 8) for y in range(TILES) for x in range(TILES)]
    mixed = Image.new("RGB", (side, side))
    for box, source in zip(boxes, random.Random(0).sample(boxes, len(boxes)), strict=True):
        mixed.paste(small.crop(source), box)
    blurred = mixed.resize((BLURRED, BLURRED), Image.Resampling.BOX)
    return blurred.resize(picture.size, Image.Resampling.BICUBIC)
