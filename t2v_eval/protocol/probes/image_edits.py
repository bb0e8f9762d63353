"""Edits that bring the images of one generator to the saturation, contrast or sharpness of another.

The generator whose images have more of it is edited, as taking away is well-defined: colours fade
towards grey, contrast towards the mean, and detail is blurred. One strength, the same for all
images, brings their mean to that of the other generator; what images differ in otherwise stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from t2v_eval.errors import MediaError
from t2v_eval.inputs.media import decode, open_media
from t2v_eval.protocol.probes.image_statistics import STATISTICS

Edit = Callable[[Image.Image, float], Image.Image]

SAMPLE = 32
"""Images from which the strength is found; all are edited."""
_STEPS = 12  # of the bisection: a strength to 1 in 4,000
_LARGEST_BLUR = 0.02  # standard deviation of the blur, relative to the shorter side


def fade(image: Image.Image, strength: float) -> Image.Image:
    """Mix an image with its grey version.

    Args:
        image: in RGB.
        strength: 0 for no change to 1 for grey.

    >>> fade(Image.new("RGB", (1, 1), (255, 0, 0)), 1.0).getpixel((0, 0))
    (76, 76, 76)
    """
    return ImageEnhance.Color(image).enhance(1 - strength)


def flatten(image: Image.Image, strength: float) -> Image.Image:
    """Mix an image with its mean grey level.

    Args:
        image: in RGB.
        strength: 0 for no change to 1 for an image of one grey.

    >>> flatten(Image.new("RGB", (1, 1), (255, 0, 0)), 1.0).getpixel((0, 0))
    (76, 76, 76)
    """
    return ImageEnhance.Contrast(image).enhance(1 - strength)


def blur(image: Image.Image, strength: float) -> Image.Image:
    """Blur an image with a Gaussian.

    Args:
        image: in RGB.
        strength: 0 for no change to 1 for a standard deviation of a fiftieth of the shorter side.

    >>> blur(Image.new("RGB", (9, 9), (255, 0, 0)), 1.0).getpixel((4, 4))
    (255, 0, 0)
    """
    if strength == 0:
        return image
    return image.filter(ImageFilter.GaussianBlur(strength * _LARGEST_BLUR * min(image.size)))


EDITS: Mapping[str, Edit] = {"saturation": fade, "contrast": flatten, "sharpness": blur}
"""The edit that lowers each statistic; of `jpeg_bytes` there is none apart from these."""


def find_strength(paths: Sequence[Path], statistic: str, change: float) -> float | None:
    """Find the strength of the edit that lowers the mean of a statistic by a given amount.

    Args:
        paths: images, of which `SAMPLE` are measured; those that cannot be read are left out.
        statistic: a key of `EDITS`.
        change: how much lower the mean is to be, in the unit of the statistic; 0 or more.

    Returns:
        The strength, 0 to 1; None where no strength is enough, or no image can be read.
    """
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(SAMPLE, len(paths))).astype(int))
    images = []
    for k in chosen.tolist():
        try:
            images.append(decode(open_media(paths[k])))
        except MediaError:
            continue
    if not images:
        return None
    measure, edit = STATISTICS[statistic], EDITS[statistic]

    def mean(strength: float) -> float:
        return float(np.mean([measure(np.asarray(edit(image, strength))) for image in images]))

    target = mean(0.0) - change
    if mean(1.0) > target:
        return None
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if mean(middle) > target else (low, middle)
    return high


def edited(path: Path, statistic: str, strength: float) -> Image.Image:
    """Decode an image and edit it.

    Args:
        path: the image.
        statistic: a key of `EDITS`.
        strength: 0 to 1.

    Raises:
        MediaError: it cannot be decoded.
    """
    return EDITS[statistic](decode(open_media(path)), strength)
