"""Preparing pixels that carry a gradient, as near to what Pillow makes of images as can be.

PyTorch resizes by the same filters as Pillow, antialiased. What remains is that Pillow rounds to
256 levels, once for each direction.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate, pad

from t2v_eval.errors import InputError, UnsupportedError

from .images import EXTREME

FILTERS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def resize(pixels: Tensor, size: tuple[int, int], mode: str = "bicubic") -> Tensor:
    """Pixels (B, 3, H, W) in [0, 1] -> the same of another height and width.

    In two steps, since Pillow clips after each: the width first, but the height where it shrinks
    by more. (Before version 13 the width always came first, which only noise can show.)
    """
    (tall, wide), (height, width) = pixels.shape[-2:], size
    if (tall, wide) == size:
        return pixels
    vertical_first = height < tall and height * wide < width * tall
    for step in ((height, wide) if vertical_first else (tall, width), size):
        pixels = interpolate(pixels, step, mode=mode, antialias=True).clamp(0, 1)
    return pixels


def resize_short(pixels: Tensor, side: int, mode: str = "bicubic") -> Tensor:
    """The short side made `side` pixels.

    Raises:
        InputError: the image is extreme, so that the long side would fill the memory.
    """
    height, width = pixels.shape[-2:]
    short = min(height, width)
    if max(height, width) >= EXTREME * short:
        raise InputError(
            f"pixels of {width} x {height}: one side is {EXTREME} or more times the other, of "
            "which only the middle is seen; crop them first"
        )
    return resize(pixels, (int(side * height / short), int(side * width / short)), mode)


def crop(pixels: Tensor, height: int, width: int, top: int, left: int) -> Tensor:
    """A part of pixels; black where it reaches beyond them."""
    bottom, right = height + top - pixels.shape[-2], width + left - pixels.shape[-1]
    return pad(pixels, (-left, right, -top, bottom))


def middle_square(pixels: Tensor, side: int) -> Tensor:
    """The short side made `side` pixels, then cropped to the middle, as torchvision crops."""
    resized = resize_short(pixels, side)
    top, left = (round((length - side) / 2) for length in resized.shape[-2:])
    return crop(resized, side, side, top, left)


def by_transformers(processor: Any, pixels: Tensor) -> Tensor:
    """What an image processor of transformers on Pillow does to an image, done to pixels.

    Raises:
        UnsupportedError: it resizes in a way that is not known here.
    """
    size, mode = processor.size, filter_of(processor)
    side = getattr(size, "shortest_edge", None)
    if side:
        pixels = resize_short(pixels, side, mode)
    else:
        pixels = resize(pixels, (size.height, size.width), mode)
    if processor.do_center_crop:
        height, width = processor.crop_size.height, processor.crop_size.width
        top, left = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2
        pixels = crop(pixels, height, width, top, left)
    return normalise_by(processor, pixels)


def patches_by_transformers(processor: Any, pixels: Tensor, rows: int, columns: int) -> Tensor:
    """Patches (B, N, C) of a grid, as processors make them that keep the shape of an image."""
    side, empty = processor.patch_size, processor.max_num_patches - rows * columns
    resized = resize(pixels, (rows * side, columns * side), filter_of(processor))
    grid = normalise_by(processor, resized).reshape(len(pixels), 3, rows, side, columns, side)
    return pad(grid.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2), (0, 0, 0, empty))


def filter_of(processor: Any) -> str:
    """How a processor resizes, as PyTorch calls it."""
    number = int(processor.resample)
    if number not in FILTERS:
        raise UnsupportedError(
            f"{type(processor).__name__} resizes by filter {number} of Pillow, which has no "
            "gradient here; bilinear (2) and bicubic (3) have one"
        )
    return FILTERS[number]


def normalise_by(processor: Any, pixels: Tensor) -> Tensor:
    """Pixels normalised by the mean and deviation that a processor states."""
    looks = (processor.image_mean, processor.image_std)
    mean, std = (pixels.new_tensor(look).view(3, 1, 1) for look in looks)
    return (pixels - mean) / std
