"""Prepare images as the original implementations do: torchvision's steps on Pillow images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from t2v_eval.errors import InputError

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's
EXTREME_RATIO = 100  # long side : short side, from which on only the middle is resized
MAX_ASPECT_RATIO = 200  # long side : short side, with networks that take images of any size


def to_pixels(image: Image.Image) -> Tensor:
    """Convert an RGB image to pixels that are normalised as for CLIP.

    As torchvision's `ToTensor` and `Normalize` with CLIP's mean and standard deviation.

    Returns:
        (3, H, W) float32 tensor, about -1.8 to 2.2.

    >>> to_pixels(Image.new("RGB", (4, 2), "white")).shape
    torch.Size([3, 2, 4])
    """
    values = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
    return normalise(values)


def normalise(values: Tensor) -> Tensor:
    """Normalise pixels by CLIP's mean and standard deviation.

    Args:
        values: (..., 3, H, W), from 0 to 1.

    Returns:
        The same shape, about -1.8 to 2.2.

    >>> [round(value, 2) for value in normalise(torch.ones(3, 1, 1)).flatten().tolist()]
    [1.93, 2.07, 2.15]
    """
    mean, std = (values.new_tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return (values - mean) / std


def pad_to_square(image: Image.Image, mean: Sequence[float]) -> Image.Image:
    """Pad an image to a square, centred, as `expand2square` of LLaVA does.

    Args:
        image: an RGB image.
        mean: the colour of the padding by channel, 0 to 1; rounded down to 256 levels.

    Returns:
        An RGB image as wide and high as the longer side.

    Raises:
        ValueError: the square would have more pixels than Pillow decodes of a file.

    >>> pad_to_square(Image.new("RGB", (6, 2)), (0.5, 0.5, 0.5)).getpixel((0, 0))
    (127, 127, 127)
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
    """Resize an image to `smart_size` as qwen_vl_utils does: Pillow, bicubic, alpha over white.

    Args:
        image: an image of any mode.
        multiple: divisor of both sides, in pixels.
        min_pixels: minimal number of pixels of the result.
        max_pixels: maximal number of pixels of the result.

    Returns:
        An RGB image.

    Raises:
        InputError: the aspect ratio exceeds `MAX_ASPECT_RATIO`.

    >>> smart_resize(Image.new("RGB", (1280, 720)), 28, 100352, 151200).size
    (504, 280)
    """
    check_aspect_ratio(*image.size)
    if image.mode == "RGBA":
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.getchannel("A"))
        image = white
    height, width = smart_size(image.height, image.width, multiple, min_pixels, max_pixels)
    return image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)


def check_aspect_ratio(width: int, height: int) -> None:
    """Check that an image is not too long for a network that takes images of any size.

    Raises:
        InputError: the aspect ratio exceeds `MAX_ASPECT_RATIO`.

    >>> check_aspect_ratio(201, 1)
    Traceback (most recent call last):
    t2v_eval.errors.InputError: one side is more than 200 times the other; crop the image
    """
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise InputError(
            f"one side is more than {MAX_ASPECT_RATIO} times the other; crop the image"
        )


def smart_size(
    height: int, width: int, multiple: int, min_pixels: int, max_pixels: float
) -> list[int]:
    """Compute the height and width that Qwen2-VL resizes an image to.

    Both are multiples of `multiple`, their product lies between `min_pixels` and `max_pixels`, and
    the aspect ratio is kept as nearly as multiples allow. The formula is that of `smart_resize` in
    qwen_vl_utils.

    Args:
        height: height of the image, in pixels.
        width: width of the image, in pixels.
        multiple: divisor of both sides, in pixels.
        min_pixels: minimal number of pixels of the result.
        max_pixels: maximal number of pixels of the result.

    Returns:
        [height, width] in pixels.

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
    """Crop an extreme image by `resize_center_crop`; return any other image unchanged.

    Place it before a library's own resizing, which would fill the memory with an extreme image.

    Args:
        image: an image of any mode.
        side: side of the square, in pixels.
        resample: Pillow's filter.

    >>> [crop_extreme(Image.new("RGB", (width, 3)), 4).size for width in (900, 9)]
    [(4, 4), (9, 3)]
    """
    if max(image.size) < EXTREME_RATIO * min(image.size):
        return image
    return resize_center_crop(image, side, resample)


def resize_center_crop(
    image: Image.Image, side: int, resample: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """Resize the short side to `side` pixels and crop the centre square, as torchvision does.

    Of an extreme image only the centre is resized, since the whole would fill the memory; its
    pixels may then differ by one or two levels of 255.

    Args:
        image: an image of any mode.
        side: side of the square, in pixels.
        resample: Pillow's filter.

    Returns:
        An image of `side` x `side` pixels.

    >>> resize_center_crop(Image.new("RGB", (300, 200)), 224).size
    (224, 224)
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
