"""Statistics of images against colorsys, scipy's filters and files of Pillow."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from t2v_eval.protocol.probes.image_statistics import (
    STATISTICS,
    contrast,
    jpeg_bytes,
    luma,
    saturation,
    sharpness,
)


@pytest.fixture(params=[(7, 9), (3, 3), (16, 5)], ids=str)
def pixels(request):
    rng = np.random.default_rng(5)
    return rng.integers(0, 256, (*request.param, 3)).astype(np.uint8)


def test_saturation_is_that_of_colorsys(pixels):
    rows = (pixels / 255).reshape(-1, 3).tolist()
    expected = np.mean([colorsys.rgb_to_hsv(*row)[1] for row in rows])
    assert saturation(pixels) == pytest.approx(expected)


def test_luma_is_that_of_pillow(pixels):
    grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float64)
    assert np.abs(255 * luma(pixels) - grey).max() <= 0.51  # Pillow rounds


def test_contrast_is_the_deviation_of_weighted_channels(pixels):
    y = (pixels / 255) @ [0.299, 0.587, 0.114]
    assert contrast(pixels) == pytest.approx(math.sqrt(((y - y.mean()) ** 2).mean()))


def test_sharpness_is_the_variance_of_scipys_laplacian(pixels):
    y = (pixels / 255) @ [0.299, 0.587, 0.114]
    inside = ndimage.laplace(y)[1:-1, 1:-1]
    assert sharpness(pixels) == pytest.approx(math.log10(inside.var() + 1e-6))


def test_jpeg_bytes_are_those_of_a_file(pixels, tmp_path):
    file = tmp_path / "image.jpg"
    Image.fromarray(pixels).save(file, quality=90)
    assert jpeg_bytes(pixels) == file.stat().st_size / (pixels.shape[0] * pixels.shape[1])


@pytest.mark.parametrize("size", [(1, 1), (2, 8), (1, 300)])
@pytest.mark.parametrize("name", STATISTICS)
def test_small_and_flat_images_have_finite_statistics(name, size):
    for level in (0, 255):
        assert math.isfinite(STATISTICS[name](np.full((*size, 3), level, np.uint8)))


def test_grey_has_no_saturation_and_pure_colours_have_all():
    assert saturation(np.full((2, 2, 3), 90, np.uint8)) == 0
    assert saturation(np.array([[[0, 200, 0], [0, 0, 1]]], np.uint8)) == 1
