"""Animated images (GIF, WebP, PNG, AVIF) as videos, for models that read several frames."""

from __future__ import annotations

from functools import partial
from threading import Lock
from typing import Any

from PIL import Image

from t2v_eval.inputs.decode_budget import BUDGET
from t2v_eval.inputs.image_file import decoding, reserve_pixels
from t2v_eval.inputs.media import Media, Video
from t2v_eval.utils.regular_file import digest

# Formats whose images follow each other in time; those of TIFF, MPO and others are pages or views.
ANIMATED = ("AVIF", "GIF", "PNG", "WEBP")
DEFAULT_FPS = 10.0  # of frames without a duration, as browsers show them


def animation(media: Media) -> Video | None:
    """Return an image file that is animated as a video of its frames, and None for any other media.

    An image that is an object of the caller is what it shows, whatever file it was opened from.

    Args:
        media: an image or a video.

    Raises:
        MediaError: the file cannot be decoded.

    >>> import io
    >>> from t2v_eval.inputs.media import open_media
    >>> stream, frames = io.BytesIO(), [Image.new("RGB", (4, 2), c) for c in ("red", "blue")]
    >>> frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:], duration=500)
    >>> video = animation(open_media(stream.getvalue()))
    >>> len(video.source), video.fps
    (2, 2.0)
    """
    if isinstance(media, Video) or media.shared:
        return None
    with BUDGET.lease(), decoding(media.name):
        image: Any = media.load()
        if image.format not in ANIMATED or getattr(image, "n_frames", 1) < 2:
            return None
        reserve_pixels(image, media.name)
        milliseconds = sum(_duration(image, n) for n in range(image.n_frames))
        fps = 1000 * image.n_frames / milliseconds if milliseconds else DEFAULT_FPS
        lock = Lock()
        frames = tuple(
            Media(
                digest(f"{media.key} {n}".encode()),
                f"{media.name}, frame {n}",
                partial(_frame, image, lock, n),
            )
            for n in range(image.n_frames)
        )
    return Video._new(media.key, media.name, frames, fps)


def _duration(image: Any, n: int) -> float:
    """Return how long a frame is shown, in milliseconds; 0 if the file does not say."""
    image.seek(n)
    image.load()  # WebP and AVIF tell it only then
    return float(image.info.get("duration", 0))


def _frame(image: Any, lock: Lock, n: int) -> Image.Image:
    """Return a copy of a frame. Frames in order are cheap: each is drawn on the one before."""
    with lock:
        image.seek(n)
        frame: Image.Image = image.copy()
        return frame
