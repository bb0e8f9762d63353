"""Frames and texts against the libraries and the code that the authors call."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from helpers.models.video import GOLDENS
from PIL import Image
from torchvision.transforms import InterpolationMode, Resize

from t2v_eval.backends.video.frames import MEAN, STD, clean_text, normalise, resize_square

OPENCV = json.loads((GOLDENS / "opencv_resize.json").read_text())  # of OpenCV 4.10
SIZES = [(1, 1), (1, 60), (40, 3), (24, 24), (97, 31), (300, 500)]


def noise(seed: int, height: int, width: int) -> Image.Image:
    shape = (height, width, 3)
    return Image.fromarray(np.random.RandomState(seed).randint(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("case", OPENCV, ids=lambda case: f"{case['height']}x{case['width']}")
def test_bilinear_is_opencv_s(case):
    image = noise(case["seed"], case["height"], case["width"])
    resized = np.asarray(resize_square(image, case["side"], "bilinear-opencv"))
    assert hashlib.sha256(resized.tobytes()).hexdigest() == case["sha256"]


@pytest.mark.parametrize(
    ("name", "antialias"), [("bicubic", True), ("bicubic-no-antialias", False)]
)
@pytest.mark.parametrize("size", SIZES)
def test_bicubic_is_torchvision_s(name, antialias, size):
    image = noise(0, *size)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    resize = Resize((24, 24), InterpolationMode.BICUBIC, antialias=antialias)
    expected = resize(pixels[None])[0].permute(1, 2, 0).numpy()
    assert (np.asarray(resize_square(image, 24, name)) == expected).all()


def test_pixels_are_normalised_by_imagenet_s_colours():
    image = noise(1, 6, 5)
    expected = (np.asarray(image) / 255 - np.array(MEAN)) / np.array(STD)
    frames = normalise([image, Image.new("RGB", (5, 6))])
    np.testing.assert_allclose(frames[0].permute(1, 2, 0), expected, atol=1e-6)
    assert frames.shape == (2, 3, 6, 5) and frames.dtype == torch.float32


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        ("A cat; a DOG - and/or a <person>.", "a cat a dog and or a person"),
        ("don't (really) #1: ~ok~ *!*", "dont really 1 ok"),
        ("50% of £3 & [x] {y}", "50% of £3 & [x] {y}"),
        ("  two\tspaces  \n", "two\tspaces"),
        ("İ ÇA", "i̇ ça"),
    ],
)
def test_texts_are_cleaned_by_the_authors_rules(text, cleaned):
    assert clean_text(text) == cleaned
