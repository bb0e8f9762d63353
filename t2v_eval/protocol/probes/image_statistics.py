"""Statistics of images that a score can follow in place of the prompt.

| name | what it is | range |
|---|---|---|
| saturation | mean of HSV's S, (max - min) / max of the channels | 0 to 1 |
| contrast | standard deviation of luma (RMS contrast, Peli 1990) | 0 to 0.5 |
| sharpness | log10 of the variance of luma's Laplacian (Pech-Pacheco et al. 2000) | -6 and more |
| jpeg_bytes | bytes of a pixel as JPEG of quality 90: how much detail there is | 0 and more |

Luma is that of ITU-R BT.601, from 0 to 1. The size of the file itself would tell PNG from JPEG and
a quality from another, so the pixels are encoded anew.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from t2v_eval.utils.arrays import FloatArray

Pixels = NDArray[np.uint8]

JPEG_QUALITY = 90
FLATTEST = 1e-6
"""Added to the variance of the Laplacian, so that an image of one colour has a logarithm; a change
of one level of 8 bits in one pixel of ten has about 20 times as much."""


def luma(pixels: Pixels) -> FloatArray:
    """Return the luma of pixels (H, W, 3), shape (H, W), 0 to 1 (ITU-R BT.601).

    >>> luma(np.full((1, 1, 3), 255, np.uint8)).tolist()
    [[1.0]]
    """
    red, green, blue = (pixels[..., k].astype(np.float64) for k in range(3))
    result: FloatArray = (299 * red + 587 * green + 114 * blue) / 255000
    return result


def saturation(pixels: Pixels) -> float:
    """Return the mean saturation of pixels (H, W, 3), 0 to 1; black pixels count 0.

    >>> saturation(np.array([[[255, 0, 0], [128, 128, 128]]], np.uint8))
    0.5
    """
    highest = pixels.max(axis=-1).astype(np.float64)
    spread = highest - pixels.min(axis=-1)
    return float((spread / np.maximum(highest, 1)).mean())


def contrast(pixels: Pixels) -> float:
    """Return the standard deviation of luma of pixels (H, W, 3), 0 to 0.5.

    >>> contrast(np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8))
    0.5
    """
    return float(luma(pixels).std())


def sharpness(pixels: Pixels) -> float:
    """Return log10 of the variance of the Laplacian of luma, of pixels (H, W, 3).

    The Laplacian is the sum of the four neighbours minus four times the pixel; pixels at the border
    have none. Images of fewer than 3 pixels in height or width are flat.

    >>> round(sharpness(np.zeros((8, 8, 3), np.uint8)), 3)
    -6.0
    """
    y = luma(pixels)
    if min(y.shape) < 3:
        return math.log10(FLATTEST)
    neighbours = y[:-2, 1:-1] + y[2:, 1:-1] + y[1:-1, :-2] + y[1:-1, 2:]
    return math.log10(float((neighbours - 4 * y[1:-1, 1:-1]).var()) + FLATTEST)


def jpeg_bytes(pixels: Pixels) -> float:
    """Return the bytes of a pixel of pixels (H, W, 3), encoded as JPEG of quality 90.

    The header of about 600 bytes, the same for every image, is included.

    >>> noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    >>> jpeg_bytes(noise) > 5 * jpeg_bytes(np.zeros((64, 64, 3), np.uint8))
    True
    """
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=JPEG_QUALITY)
    height, width, _ = pixels.shape
    return float(stream.tell() / (height * width))


STATISTICS: Mapping[str, Callable[[Pixels], float]] = {
    "saturation": saturation,
    "contrast": contrast,
    "sharpness": sharpness,
    "jpeg_bytes": jpeg_bytes,
}
"""What is measured of every image, in the order of the columns of `ImageMeasures.statistics`."""
