"""Decode and resize JPEG files on a faster path than Pillow's, for image mode "fast".

simplejpeg decodes to the same pixels as Pillow, and torch resizes with the same filters: less than
1 % of the values differ, by 1 of 255. Decoding at a fraction of the size (`Image.draft`) would be
faster still, but then the values of sharp photographs differ by more than 1 on average.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import torch
from PIL import Image
from torch.nn.functional import interpolate

from t2v_eval.errors import InputError, MissingPackageError
from t2v_eval.inputs.image_file import orientation_of

EXTREME_RATIO = 100  # long side : short side, from which on scorers crop before they resize


class Resizing(NamedTuple):
    """How a scorer resizes images first of all.

    Attributes:
        size: the length of the shorter side, or height and width, in pixels.
        filter: "bilinear" or "bicubic", as Pillow's, which widens it where images become smaller.

    >>> Resizing(224, "bicubic").shape_of(300, 600)
    (224, 448)
    """

    size: int | tuple[int, int]
    filter: str

    def shape_of(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width after resizing, rounded down as torchvision does.

        Args:
            height: of the image in pixels.
            width: of the image in pixels.
        """
        if isinstance(self.size, tuple):
            return self.size
        long = int(self.size * max(height, width) / min(height, width))
        return (self.size, long) if height <= width else (long, self.size)


def check_fast(name: str, supported: bool) -> None:
    """Check that a scorer can have `image_mode="fast"`.

    Args:
        name: the name of the scorer.
        supported: whether its class says how it resizes.

    Raises:
        InputError: it does not.
        MissingPackageError: the decoder is not installed.

    >>> check_fast("mine", supported=False)
    Traceback (most recent call last):
    t2v_eval.errors.InputError: `image_mode='fast'`: 'mine' has no fast path of decoding, which ...
    """
    if not supported:
        raise InputError(
            f"`image_mode='fast'`: {name!r} has no fast path of decoding, which scorers of kind "
            "'clip' have; leave it out"
        )
    try:
        import simplejpeg  # type: ignore[import-untyped]  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            "`image_mode='fast'` needs the package 'simplejpeg': pip install 't2v-eval[fast]'"
        ) from error


def resized_jpeg(image: Image.Image, resizing: Resizing) -> Image.Image | None:
    """Decode and resize an upright baseline RGB JPEG file that is larger than what is wanted.

    Args:
        image: an image that was opened and is not decoded yet.
        resizing: what the scorer would do with it.

    Returns:
        The resized image; None for any other file, and for one that is damaged.

    >>> stream = io.BytesIO()
    >>> Image.new("RGB", (100, 80), "red").save(stream, "JPEG")
    >>> resized_jpeg(Image.open(stream), Resizing(16, "bicubic")).size
    (20, 16)
    """
    from simplejpeg import decode_jpeg

    stream = getattr(image, "fp", None)
    if image.format != "JPEG" or image.mode != "RGB" or not isinstance(stream, io.BytesIO):
        return None
    if "progressive" in image.info or orientation_of(image) not in (None, 1):
        return None
    height, width = image.height, image.width
    if max(height, width) > EXTREME_RATIO * min(height, width):
        return None
    shape = resizing.shape_of(height, width)
    if shape[0] >= height or shape[1] >= width:
        return None
    try:
        pixels = decode_jpeg(stream.getvalue())  # RGB
    except ValueError:  # damaged; Pillow says how
        return None
    if pixels.shape != (height, width, 3):
        return None
    # Permuted as a batch, the pixels are channels last for PyTorch, which then resizes them as they
    # lie and returns them so; as a permuted image they are not, and the result is copied twice.
    batch = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    small = interpolate(batch, shape, mode=resizing.filter, antialias=True)[0]
    return Image.fromarray(small.permute(1, 2, 0).contiguous().numpy())
