"""Prepare pixels that carry a gradient, as closely to Pillow's image preprocessing as possible.

PyTorch resizes by the same antialiased filters as Pillow. The remaining difference is that Pillow
rounds to 256 levels after each direction.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate, pad

from t2v_eval.errors import InputError, UnsupportedError
from t2v_eval.inputs.fast_jpeg import Resizing

from .images import EXTREME_RATIO

FILTERS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def resize(pixels: Tensor, size: tuple[int, int], mode: str = "bicubic") -> Tensor:
    """Resize pixels with an antialiased filter, clipped as Pillow clips.

    In two steps, since Pillow clips after each: the width first, unless the height shrinks by
    more. (Pillow before 13 always began with the width, which makes a difference only on noise.)

    Args:
        pixels: (B, 3, H, W), from 0 to 1.
        size: height and width of the result.
        mode: "bicubic" or "bilinear".

    Returns:
        (B, 3, height, width), from 0 to 1.

    >>> import torch
    >>> resize(torch.rand(1, 3, 8, 6), (4, 12)).shape
    torch.Size([1, 3, 4, 12])
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

    Args:
        pixels: (B, 3, H, W), from 0 to 1.
        side: length of a side of the result, in pixels.
        mode: "bicubic" or "bilinear".

    Raises:
        InputError: the aspect ratio is so extreme that the long side would fill the memory.

    >>> import torch
    >>> resize_short_side(torch.rand(1, 3, 8, 6), 3).shape
    torch.Size([1, 3, 4, 3])
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
    """Crop a window, which is black where it reaches beyond the image.

    Args:
        pixels: (..., H, W).
        height: height of the window, in pixels.
        width: width of the window, in pixels.
        y_offset: the window's upper edge; negative above the image.
        x_offset: the window's left edge; negative left of the image.

    >>> import torch
    >>> crop(torch.ones(1, 2, 2), 1, 3, 0, -1).tolist()
    [[[0.0, 1.0, 1.0]]]
    """
    bottom, right = height + y_offset - pixels.shape[-2], width + x_offset - pixels.shape[-1]
    return pad(pixels, (-x_offset, right, -y_offset, bottom))


def resize_center_crop(pixels: Tensor, side: int) -> Tensor:
    """Resize the short side to `side` pixels and crop the centre square, as torchvision does.

    Args:
        pixels: (B, 3, H, W), from 0 to 1.
        side: length of a side of the result, in pixels.

    Raises:
        InputError: the aspect ratio is too extreme.

    >>> import torch
    >>> resize_center_crop(torch.rand(1, 3, 8, 6), 3).shape
    torch.Size([1, 3, 3, 3])
    """
    resized = resize_short_side(pixels, side)
    y_offset, x_offset = (round((length - side) / 2) for length in resized.shape[-2:])
    return crop(resized, side, side, y_offset, x_offset)


def first_resizing(processor: Any) -> Resizing | None:
    """Return how a transformers image processor resizes, if it is of a plain kind.

    Args:
        processor: the image processor.

    >>> from transformers import CLIPImageProcessorPil
    >>> first_resizing(CLIPImageProcessorPil(size={"shortest_edge": 8}))
    Resizing(size=8, filter='bicubic')
    """
    size: Any = getattr(processor, "size", None)
    mode = FILTERS.get(int(processor.resample))
    if mode is not None and getattr(size, "shortest_edge", None):
        return Resizing(size.shortest_edge, mode)
    if mode is not None and getattr(size, "height", None) and getattr(size, "width", None):
        return Resizing((size.height, size.width), mode)
    return None


def preprocess_pixels(processor: Any, pixels: Tensor) -> Tensor:
    """Apply the steps of a transformers image processor (Pillow backend) to pixels.

    Args:
        processor: the image processor; its resizing, cropping and normalising are applied.
        pixels: (B, 3, H, W), from 0 to 1.

    Returns:
        Model inputs (B, 3, h, w), with a gradient to `pixels`.

    Raises:
        InputError: the aspect ratio is too extreme.
        UnsupportedError: its resampling filter has no gradient here.

    >>> import torch
    >>> from transformers import CLIPImageProcessorPil
    >>> square = {"height": 8, "width": 8}
    >>> processor = CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size=square)
    >>> preprocess_pixels(processor, torch.rand(1, 3, 20, 16)).shape
    torch.Size([1, 3, 8, 8])
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
    """Cut pixels into the patches of a grid, as the NaFlex processor of SigLIP 2 does.

    Args:
        processor: SigLIP 2's image processor.
        pixels: (B, 3, H, W), from 0 to 1.
        rows: number of rows of the grid.
        columns: number of columns of the grid.

    Returns:
        (B, `processor.max_num_patches`, C) patches, those behind the grid being zero.

    Raises:
        UnsupportedError: its resampling filter has no gradient here.

    >>> import torch
    >>> from transformers import Siglip2ImageProcessorPil
    >>> processor = Siglip2ImageProcessorPil(patch_size=4, max_num_patches=6)
    >>> preprocess_patches(processor, torch.rand(1, 3, 9, 9), rows=2, columns=2).shape
    torch.Size([1, 6, 48])
    """
    side, empty = processor.patch_size, processor.max_num_patches - rows * columns
    resized = resize(pixels, (rows * side, columns * side), resize_mode_of(processor))
    grid = normalise_with(processor, resized).reshape(len(pixels), 3, rows, side, columns, side)
    return pad(grid.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2), (0, 0, 0, empty))


def resize_mode_of(processor: Any) -> str:
    """Return PyTorch's name of the filter that a processor resizes with.

    Raises:
        UnsupportedError: PyTorch has no such antialiased filter with a gradient.

    >>> from types import SimpleNamespace
    >>> resize_mode_of(SimpleNamespace(resample=3))
    'bicubic'
    """
    number = int(processor.resample)
    if number not in FILTERS:
        raise UnsupportedError(
            f"{type(processor).__name__} resizes by filter {number} of Pillow, which has no "
            "gradient here; bilinear (2) and bicubic (3) have one"
        )
    return FILTERS[number]


def normalise_with(processor: Any, pixels: Tensor) -> Tensor:
    """Normalise pixels by the mean and standard deviation of a processor.

    Args:
        processor: has `image_mean` and `image_std`, three numbers each.
        pixels: (..., 3, H, W), from 0 to 1.

    >>> import torch
    >>> from types import SimpleNamespace
    >>> processor = SimpleNamespace(image_mean=[0.5] * 3, image_std=[0.25] * 3)
    >>> normalise_with(processor, torch.ones(3, 1, 1)).flatten().tolist()
    [2.0, 2.0, 2.0]
    """
    statistics = (processor.image_mean, processor.image_std)
    mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in statistics)
    return (pixels - mean) / std
