"""Encode images for sending: the original file where it shows what a person sees, else a PNG.

Frames of videos are JPEG files.
"""

from __future__ import annotations

import io
import math

from PIL import Image

from t2v_eval.inputs.image_file import orientation_of
from t2v_eval.inputs.media import Media

SENT_AS_THEY_ARE = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
PLAIN_MODES = ("RGB", "L", "1", "P")


def image_file(
    media: Media, image: Image.Image, mode: str, max_pixels: int | None
) -> tuple[bytes, str]:
    """Return the bytes and the MIME type of an image.

    Args:
        media: the source.
        image: the decoded image.
        mode: in mode "original" every file of a known format is sent unchanged.
        max_pixels: larger images are shrunk, in proportion.

    >>> from t2v_eval.inputs.media import open_media
    >>> image = Image.new("RGB", (30, 20))
    >>> image_file(open_media(image), image, "seen", max_pixels=None)[1]
    'image/png'
    """
    size = smaller(*image.size, max_pixels)
    if size != image.size:
        return _png(image.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    return _file(media, mode) or _png(image)


def frame_file(image: Image.Image, max_pixels: int | None) -> tuple[bytes, str]:
    """Return the bytes and the MIME type of a video frame: JPEG of quality 95, OpenCV's default.

    Args:
        image: the frame.
        max_pixels: a larger one is shrunk, in proportion.

    >>> frame_file(Image.new("RGB", (30, 20)), max_pixels=None)[1]
    'image/jpeg'
    """
    size, content = smaller(*image.size, max_pixels), io.BytesIO()
    image = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)
    image.convert("RGB").save(content, "JPEG", quality=95)
    return content.getvalue(), "image/jpeg"


def smaller(width: int, height: int, max_pixels: int | None) -> tuple[int, int]:
    """Return the largest proportional size (width, height) within `max_pixels`.

    >>> smaller(300, 200, 600), smaller(300, 200, None), smaller(10_000, 1, 5)
    ((30, 20), (300, 200), (5, 1))
    """
    if max_pixels is None or width * height <= max_pixels:
        return width, height
    factor = math.sqrt(max_pixels / (width * height))
    short = max(1, int(min(width, height) * factor))
    long = min(int(max(width, height) * factor), max_pixels) if short > 1 else max_pixels
    return (long, short) if width > height else (short, long)


def _file(media: Media, mode: str) -> tuple[bytes, str] | None:
    image = media.load()
    stream = getattr(image, "fp", None)
    mime = SENT_AS_THEY_ARE.get(image.format or "")
    if stream is None or mime is None:
        return None
    # Read first, since Pillow may close the file when an attribute of the image is read.
    position = stream.tell()
    stream.seek(0)
    content = stream.read()
    stream.seek(position)
    if getattr(image, "n_frames", 1) > 1:
        return None
    if mode == "seen" and (
        image.mode not in PLAIN_MODES
        or "transparency" in image.info
        or (orientation_of(image) or 1) != 1
    ):
        return None
    return content, mime


def _png(image: Image.Image) -> tuple[bytes, str]:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue(), "image/png"
