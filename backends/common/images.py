"""Prepare images as the original implementations do: torchvision's steps on Pillow images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's
EXTREME_RATIO = 100  # long side : short side, from which on only the middle is resized
MAX_ASPECT_RATIO = 200  # long side : short side, with networks that take images of any size


def to_pixels(image: Image.Image) -> Tensor:
    """Return an RGB image as a float32 tensor (3, H, W), normalised as for CLIP."""
    values = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
    return normalise(values)


def normalise(values: Tensor) -> Tensor:
    """Normalise pixels (..., 3, H, W) in [0, 1] by CLIP's mean and standard deviation."""
    mean, std = (values.new_tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return (values - mean) / std


def pad_to_square(image: Image.Image, mean: Sequence[float]) -> Image.Image:
    """Pad an RGB image to a square, centred, with the mean colour (0 to 1, rounded down).

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


def smart_resize(
    image: Image.Image, multiple: int, min_pixels: int, max_pixels: int
) -> Image.Image:
    """Resize to RGB of `smart_size`, as qwen_vl_utils does: Pillow, bicubic, alpha over white.

    Raises:
        ValueError: the aspect ratio exceeds `MAX_ASPECT_RATIO`.
    """
    if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
        raise ValueError(
            f"one side is more than {MAX_ASPECT_RATIO} times the other; crop the image"
        )
    if image.mode == "RGBA":
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.getchannel("A"))
        image = white
    height, width = smart_size(image.height, image.width, multiple, min_pixels, max_pixels)
    return image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)


def smart_size(
    height: int, width: int, multiple: int, min_pixels: int, max_pixels: float
) -> list[int]:
    """Return height and width as multiples of `multiple`, of `min_pixels` to `max_pixels` in all.

    The aspect ratio is kept as nearly as multiples allow; the formula is Qwen2-VL's.

    >>> smart_size(720, 1280, 28, 100352, 151200), smart_size(100, 30, 28, 100352, 151200)
    ([280, 504], [588, 196])
    """
    sides = [max(multiple, round(side / multiple) * multiple) for side in (height, width)]
    if math.prod(sides) > max_pixels:
        factor = math.sqrt(height * width / max_pixels)
        sides = [
            max(multiple, int(side / factor / multiple) * multiple) for side in (height, width)
        ]
    elif math.prod(sides) < min_pixels:
        factor = math.sqrt(min_pixels / (height * width))
        sides = [math.ceil(side * factor / multiple) * multiple for side in (height, width)]
    return sides


def crop_extreme(
    image: Image.Image, side: int, resample: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """Return the `resize_center_crop` of an extreme image, and any other image unchanged.

    Placed before a library's own resizing, which would fill the memory with an extreme image.
    """
    if max(image.size) < EXTREME_RATIO * min(image.size):
        return image
    return resize_center_crop(image, side, resample)


def resize_center_crop(
    image: Image.Image, side: int, resample: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """Resize the short side to `side` pixels and crop the centre square.

    Of an extreme image only the centre is resized, since the whole would fill the memory; its
    pixels may then differ by one or two levels of 255.
    """
    short, size = min(image.size), image.size
    width, height = (int(side * length / short) for length in size)
    x_offset, y_offset = round((width - side) / 2), round((height - side) / 2)
    if max(size) < EXTREME_RATIO * short:
        resized = image.resize((width, height), resample)
        return resized.crop((x_offset, y_offset, x_offset + side, y_offset + side))
    x, y, margin = size[0] / width, size[1] / height, 4 * max(1, short / side)
    box = (x_offset * x, y_offset * y, (x_offset + side) * x, (y_offset + side) * y)
    origin = [max(0, math.floor(start - margin)) for start in box[:2]]
    end = [
        min(length, math.ceil(stop + margin)) for length, stop in zip(size, box[2:], strict=True)
    ]
    near = image.crop((origin[0], origin[1], end[0], end[1]))
    box = (box[0] - origin[0], box[1] - origin[1], box[2] - origin[0], box[3] - origin[1])
    return near.resize((side, side), resample, box=box)
