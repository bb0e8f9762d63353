"""Turn frames into model inputs, and clean texts, as the authors of video-text models do."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from t2v_eval.errors import InputError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
RESIZES = ("bicubic", "bicubic-no-antialias", "bilinear-opencv")


def resize_square(image: Image.Image, side: int, resize: str) -> Image.Image:
    """Stretch a frame to a square; the aspect ratio is lost.

    Args:
        image: an RGB image.
        side: side of the square, in pixels.
        resize: "bicubic" is `torchvision.transforms.Resize` on a uint8 tensor; in torchvision
            before 0.17 it did not antialias, which is "bicubic-no-antialias". "bilinear-opencv" is
            `cv2.resize`.

    >>> resize_square(Image.new("RGB", (40, 20)), 8, "bicubic").size
    (8, 8)
    """
    if image.size == (side, side):
        return image
    if resize == "bilinear-opencv":
        return Image.fromarray(_resize_as_opencv(np.asarray(image), side))
    return resize_bicubic(image, (side, side), antialias=resize == "bicubic")


def resize_bicubic(
    image: Image.Image, size: tuple[int, int], antialias: bool = True
) -> Image.Image:
    """Resize a frame to a height and width, as `torchvision.transforms.Resize` does.

    It resizes floats of a uint8 tensor and rounds them. With PyTorch 2.8 or older, or on a
    processor without AVX2, a few values are rounded to another level.

    >>> resize_bicubic(Image.new("RGB", (40, 20)), (28, 56)).size
    (56, 28)
    """
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    resized = interpolate(pixels, size, mode="bicubic", antialias=antialias)
    whole = resized[0].clamp(0, 255).round().to(torch.uint8)
    return Image.fromarray(whole.permute(1, 2, 0).numpy())


def check_one_size(sizes: Iterable[tuple[int, ...]]) -> None:
    """Check that the frames of a video are of one size.

    Raises:
        InputError: they have several sizes.

    >>> check_one_size([(28, 56), (28, 56)])
    """
    if len(distinct := set(sizes)) > 1:
        raise InputError(
            f"its frames have several sizes once they are resized, {sorted(distinct)}: resize them "
            "to one size"
        )


def resize_crop(pixels: Tensor, side: int) -> Tensor:
    """Resize the short side of a frame, and crop its centre.

    Bilinear without antialiasing, the long side rounded down: `short_side_scale` of PyTorchVideo
    and `center_crop` of torchvision's video transforms.

    Args:
        pixels: (3, H, W), normalised or not.
        side: side of the square, in pixels.

    Returns:
        (3, side, side).

    >>> resize_crop(torch.zeros(3, 30, 40), 24).shape
    torch.Size([3, 24, 24])
    """
    height, width = pixels.shape[1:]
    short = min(height, width)
    size = int(height / short * side), int(width / short * side)
    resized = interpolate(pixels[None], size, mode="bilinear", align_corners=False)[0]
    y, x = (round((length - side) / 2) for length in size)
    return resized[:, y : y + side, x : x + side]


def normalise(frames: list[Image.Image]) -> Tensor:
    """Convert RGB frames of one size to pixels normalised by ImageNet's mean and deviation.

    Returns:
        (T, 3, H, W) float32 tensor, about -2.1 to 2.6.

    >>> normalise([Image.new("RGB", (4, 2), "white")]).shape
    torch.Size([1, 3, 2, 4])
    """
    pixels = torch.stack([torch.from_numpy(np.array(frame)) for frame in frames])
    values = pixels.permute(0, 3, 1, 2).contiguous().float().div(255)
    mean, std = (torch.tensor(v, dtype=torch.float32).view(3, 1, 1) for v in (MEAN, STD))
    return (values - mean) / std


def clean_text(text: str) -> str:
    """Write a text in lower case without punctuation, as the authors' evaluations do.

    As `pre_text` in dataset/utils.py of Unmasked Teacher and InternVideo2.

    >>> clean_text("Two people, one in a well-known coat, don't walk!")
    'two people one in a well known coat dont walk'
    """
    text = re.sub(r"[,.'!?\"()*#:;~]", "", text.lower())
    text = text.replace("-", " ").replace("/", " ").replace("<person>", "person")
    return re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ")


def _resize_as_opencv(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize (H, W, 3) pixels as OpenCV's `INTER_LINEAR` does, without a filter where they shrink.

    OpenCV's resize.cpp computes in whole numbers: weights have 11 bits, the rows 4 bits fewer
    before they are weighted, and the sum is rounded once. Exactly half the size is the mean of
    squares of four pixels.
    """
    height, width = pixels.shape[:2]
    source = pixels.astype(np.int32)
    if (height, width) == (2 * side, 2 * side):
        blocks = source.reshape(side, 2, side, 2, 3)
        return np.asarray((blocks.sum(axis=(1, 3)) + 2) >> 2, np.uint8)
    left, right, left_weights, right_weights = _taps(width, side)
    inside = (left >= 0) & (left < width - 1)  # beyond the edges, the weights are whole
    left_weights, right_weights = np.where(inside, left_weights, 2048), right_weights * inside
    rows = source[:, left.clip(0, width - 1)] * left_weights[:, None]
    rows += source[:, right.clip(0, width - 1)] * right_weights[:, None]
    upper, lower, upper_weight, lower_weight = _taps(height, side)
    above = (rows[upper.clip(0, height - 1)] >> 4) * upper_weight[:, None, None] >> 16
    below = (rows[lower.clip(0, height - 1)] >> 4) * lower_weight[:, None, None] >> 16
    return np.asarray((above + below + 2) >> 2, np.uint8)


def _taps(length: int, side: int) -> tuple[NDArray[np.int64], ...]:
    """Return the two source indices of each of `side` pixels, and their weights of 2048."""
    scale = 1 / (side / length)
    places = ((np.arange(side) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(places).astype(np.int64)
    share = places - first.astype(np.float32)
    weights = (np.rint(w * np.float32(2048)).astype(np.int64) for w in (1 - share, share))
    return (first, first + 1, *weights)
