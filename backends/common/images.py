"""Preparing images as the originals do, most of which use torchvision on Pillow images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's
EXTREME = 100  # sides in this ratio or more
LONGEST = 200  # times the short side, with networks that take images of any size


def to_pixels(image: Image.Image) -> Tensor:
    """RGB -> (3, H, W), normalised as CLIP's images are."""
    values = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
    return normalise(values)


def normalise(values: Tensor) -> Tensor:
    """Colours from 0 to 1, (..., 3, H, W) -> as CLIP's networks take them."""
    mean, std = (values.new_tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return (values - mean) / std


def pad_to_square(image: Image.Image, mean: Sequence[float]) -> Image.Image:
    """RGB, with bars of the mean colour (0 to 1, rounded down) on both sides of the shorter one.

    Raises:
        ValueError: the square would have more pixels than Pillow decodes of a file.
    """
    side = max(image.size)
    if Image.MAX_IMAGE_PIXELS and side * side > 2 * Image.MAX_IMAGE_PIXELS:
        raise ValueError(
            f"{image.width} x {image.height} padded to a square has {side * side} pixels, which "
            "would fill the memory; crop it or make it smaller"
        )
    square = Image.new("RGB", (side, side), tuple(int(255 * channel) for channel in mean))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def sized(image: Image.Image, side: int, least: int, most: int) -> Image.Image:
    """RGB in multiples of `side`, nearly in proportion, of `least` to `most` pixels, as
    qwen_vl_utils resizes an image: by Pillow, bicubic, alpha over white.

    Raises:
        ValueError: the image is longer than can be kept in proportion.
    """
    if max(image.size) > LONGEST * min(image.size):
        raise ValueError(f"one side is more than {LONGEST} times the other; crop the image")
    if image.mode == "RGBA":
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.getchannel("A"))
        image = white
    height, width = fitting(image.height, image.width, side, least, most)
    return image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)


def fitting(height: int, width: int, side: int, least: int, most: float) -> list[int]:
    """Height and width in multiples of `side`, nearly in proportion, of `least` to `most` pixels.

    >>> fitting(720, 1280, 28, 100352, 151200), fitting(100, 30, 28, 100352, 151200)
    ([280, 504], [588, 196])
    """
    high, wide = (max(side, round(length / side) * side) for length in (height, width))
    if high * wide > most:
        factor = math.sqrt(height * width / most)
        high, wide = (max(side, int(of / factor / side) * side) for of in (height, width))
    elif high * wide < least:
        factor = math.sqrt(least / (height * width))
        high, wide = (math.ceil(of * factor / side) * side for of in (height, width))
    return [high, wide]


def tame(
    image: Image.Image, side: int, resample: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """The `middle_square` of an extreme image; any other as it is, for others to resize."""
    if max(image.size) < EXTREME * min(image.size):
        return image
    return middle_square(image, side, resample)


def middle_square(
    image: Image.Image, side: int, resample: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """The short side made `side` pixels, then cropped to the middle.

    Of an extreme image only the middle is resized, which would fill the memory otherwise; its
    pixels may then differ by one or two levels of 255.
    """
    short, size = min(image.size), image.size
    width, height = (int(side * length / short) for length in size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    if max(size) < EXTREME * short:
        resized = image.resize((width, height), resample)
        return resized.crop((left, top, left + side, top + side))
    x, y, margin = size[0] / width, size[1] / height, 4 * max(1, short / side)
    box = (left * x, top * y, (left + side) * x, (top + side) * y)
    origin = [max(0, math.floor(start - margin)) for start in box[:2]]
    end = [min(own, math.ceil(stop + margin)) for own, stop in zip(size, box[2:], strict=True)]
    near = image.crop((origin[0], origin[1], end[0], end[1]))
    box = (box[0] - origin[0], box[1] - origin[1], box[2] - origin[0], box[3] - origin[1])
    return near.resize((side, side), resample, box=box)
