"""Convert arrays and tensors of pixels to images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from t2v_eval.errors import MediaError


def array_to_pil(source: Any, name: str) -> Image.Image:
    """Convert pixels to an 8-bit image.

    Args:
        source: numpy array (H, W), (H, W, C) or torch tensor (C, H, W), with C in 1, 3, 4; integers
            0-255 (0-65535 in uint16) or floats in [0, 1].
        name: its name in messages.

    Raises:
        MediaError: another shape or type, NaN, or values out of range.

    >>> array_to_pil(np.zeros((2, 4, 3), np.uint8), "image").size
    (4, 2)
    """
    channels_first = hasattr(source, "detach")
    array = _to_numpy(source)
    if array.ndim == 3:
        first, last = array.shape[0] in (1, 3, 4), array.shape[-1] in (1, 3, 4)
        if not (first or last):
            raise MediaError(f"{name}: expected 1, 3 or 4 channels, (H, W, C) or (C, H, W)")
        if first and (channels_first or not last):
            array = np.moveaxis(array, 0, -1)
        if array.shape[-1] == 1:
            array = array[..., 0]
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise MediaError(f"{name}: expected (H, W), (H, W, C) or (C, H, W), none of them 0")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.dtype.kind not in "uif":
        raise MediaError(f"{name}: pixels of type {array.dtype} are not numbers")
    if not np.isfinite(array).all():
        raise MediaError(f"{name}: has pixels that are NaN or infinite")
    low, high = float(array.min()), float(array.max())
    top = 1.0 if array.dtype.kind == "f" else 65535.0 if array.dtype == np.uint16 else 255.0
    if low < 0 or high > top:
        raise MediaError(
            f"{name}: values from {low:g} to {high:g}; expected integers in 0-255 or "
            "floats in 0-1 (undo any normalisation first)"
        )
    if array.dtype.kind == "f":
        array = np.rint(array * 255)
    elif array.dtype == np.uint16:
        array = np.rint(array / 257)
    return Image.fromarray(np.ascontiguousarray(array.astype(np.uint8)))


def _to_numpy(source: Any) -> NDArray[Any]:
    if not hasattr(source, "detach"):
        return np.asarray(source)
    # numpy has no bfloat16, so floating tensors are widened before they are handed over.
    tensor = source.detach().cpu()
    return np.asarray(tensor.float() if tensor.is_floating_point() else tensor)
