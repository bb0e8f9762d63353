"""Prepare pixels that carry a gradient, as closely to Pillow's image preprocessing as possible.

PyTorch resizes by the same antialiased filters as Pillow. The remaining difference is that Pillow
rounds to 256 levels after each direction.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate, pad

from t2v_eval.errors import InputError, UnsupportedError

from .images import EXTREME_RATIO

FILTERS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def resize(pixels: Tensor, size: tuple[int, int], mode: str = "bicubic") -> Tensor:
    """Resize pixels (B, 3, H, W) in [0, 1] to `size` (height, width).

    In two steps, since Pillow clips after each: the width first, unless the height shrinks by
    more. (Pillow before 13 always began with the width, which makes a difference only on noise.)
    """
    (tall, wide), (height, width) = pixels.shape[-2:], size
    if (tall, wide) == size:
        return pixels
    vertical_first = height < tall and height * wide < width * tall
    for step in ((height, wide) if vertical_first else (tall, width), size):
        pixels = interpolate(pixels, step, mode=mode, antialias=True).clamp(0, 1)
    return pixels


def resize_short_side(pixels: Tensor, side: int, mode: str = "bicubic") -> Tensor:
    """Resize the short side to `side` pixels, keeping the aspect ratio.

    Raises:
        InputError: the aspect ratio is so extreme that the long side would fill the memory.
    """
    height, width = pixels.shape[-2:]
    short = min(height, width)
    if max(height, width) >= EXTREME_RATIO * short:
        raise InputError(
            f"pixels of {width} x {height}: one side is {EXTREME_RATIO} or more times the other, "
            "and only the middle would be scored; crop them first"
        )
    return resize(pixels, (int(side * height / short), int(side * width / short)), mode)


def crop(pixels: Tensor, height: int, width: int, y_offset: int, x_offset: int) -> Tensor:
    """Crop a window of `height` x `width` pixels, black where it reaches beyond the image."""
    bottom, right = height + y_offset - pixels.shape[-2], width + x_offset - pixels.shape[-1]
    return pad(pixels, (-x_offset, right, -y_offset, bottom))


def resize_center_crop(pixels: Tensor, side: int) -> Tensor:
    """Resize the short side to `side` pixels and crop the centre square, as torchvision does."""
    resized = resize_short_side(pixels, side)
    y_offset, x_offset = (round((length - side) / 2) for length in resized.shape[-2:])
    return crop(resized, side, side, y_offset, x_offset)


def preprocess_pixels(processor: Any, pixels: Tensor) -> Tensor:
    """Apply to pixels what a transformers image processor on Pillow does to an image.

    Raises:
        UnsupportedError: its resampling filter has no gradient here.
    """
    size, mode = processor.size, resize_mode_of(processor)
    side = getattr(size, "shortest_edge", None)
    if side:
        pixels = resize_short_side(pixels, side, mode)
    else:
        pixels = resize(pixels, (size.height, size.width), mode)
    if processor.do_center_crop:
        height, width = processor.crop_size.height, processor.crop_size.width
        y_offset, x_offset = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2
        pixels = crop(pixels, height, width, y_offset, x_offset)
    return normalise_with(processor, pixels)


def preprocess_patches(processor: Any, pixels: Tensor, rows: int, columns: int) -> Tensor:
    """Return the patches (B, N, C) of a grid, as NaFlex processors of SigLIP 2 make them."""
    side, empty = processor.patch_size, processor.max_num_patches - rows * columns
    resized = resize(pixels, (rows * side, columns * side), resize_mode_of(processor))
    grid = normalise_with(processor, resized).reshape(len(pixels), 3, rows, side, columns, side)
    return pad(grid.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2), (0, 0, 0, empty))


def resize_mode_of(processor: Any) -> str:
    """Return PyTorch's name of the filter that a processor resizes with."""
    number = int(processor.resample)
    if number not in FILTERS:
        raise UnsupportedError(
            f"{type(processor).__name__} resizes by filter {number} of Pillow, which has no "
            "gradient here; bilinear (2) and bicubic (3) have one"
        )
    return FILTERS[number]


def normalise_with(processor: Any, pixels: Tensor) -> Tensor:
    """Normalise pixels by the mean and standard deviation of a processor."""
    statistics = (processor.image_mean, processor.image_std)
    mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in statistics)
    return (pixels - mean) / std
