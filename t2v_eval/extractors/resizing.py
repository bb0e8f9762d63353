"""The resizers before FID's network, which give different FIDs.

Parmar et al. 2022, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation". Each maps an
RGB image to 299 x 299 floats from 0 to 255:

- `clean`, as clean-fid: Pillow's bicubic on each channel in floats, which filters where it shrinks.
- `legacy`, as pytorch-fid and clean-fid's legacy_pytorch: PyTorch's bilinear, without a filter.
- `tf1`, as the original and torch-fidelity: bilinear of TensorFlow 1, whose pixel centres are
  half a pixel off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

SIZE = 299

Resizer: TypeAlias = Callable[[Image.Image], Tensor]


def clean(image: Image.Image) -> Tensor:
    """Resize as clean-fid does.

    Args:
        image: an RGB image.

    Returns:
        Shape (3, 299, 299), float32, from 0 to 255.

    >>> clean(Image.new("RGB", (8, 8), "white")).max()
    tensor(255.)
    """
    channels = [
        np.asarray(
            Image.fromarray(np.asarray(band, np.float32)).resize(
                (SIZE, SIZE), Image.Resampling.BICUBIC
            )
        )
        for band in image.split()
    ]
    return torch.from_numpy(np.stack(channels).clip(0, 255))


def legacy(image: Image.Image) -> Tensor:
    """Resize as pytorch-fid does.

    Args:
        image: an RGB image.

    Returns:
        Shape (3, 299, 299), float32, from 0 to 255.

    >>> legacy(Image.new("RGB", (8, 8), "white")).shape
    torch.Size([3, 299, 299])
    """
    resized: Tensor = interpolate(
        _pixels(image)[None], size=(SIZE, SIZE), mode="bilinear", align_corners=False
    )
    return resized[0].clamp(0, 255)


def tf1(image: Image.Image) -> Tensor:
    """Resize as TensorFlow 1 does (`resize_bilinear` without `align_corners`).

    Pixel x of the result lies at x * scale of the image, and is interpolated between its neighbours
    on the left and the right (kernels/resize_bilinear_op.cc).

    Args:
        image: an RGB image.

    Returns:
        Shape (3, 299, 299), float32, from 0 to 255.

    >>> tf1(Image.new("RGB", (8, 8), "white")).min()
    tensor(255.)
    """
    pixels = _pixels(image)
    for axis in (2, 1):  # columns first, as the original
        size = pixels.shape[axis]
        place = torch.arange(SIZE, dtype=torch.float32) * torch.tensor(
            size / SIZE, dtype=torch.float32
        )
        low = place.long()
        share = place - low
        share = share if axis == 2 else share[:, None]
        first = pixels.index_select(axis, low)
        second = pixels.index_select(axis, (low + 1).clamp(max=size - 1))
        pixels = first + (second - first) * share
    return pixels


def _pixels(image: Image.Image) -> Tensor:
    """Return the pixels of an RGB image, shape (3, H, W), float32 from 0 to 255."""
    return torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1).copy())


RESIZERS: Mapping[str, Resizer] = {"clean": clean, "legacy": legacy, "tf1": tf1}
"""The resizers by name."""
