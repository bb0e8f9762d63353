"""Images of Qwen-VL: sizes as qwen_vl_utils chooses them, pixels as Pillow resizes them.

Sizes are those of the rule written down once more: the nearest multiples of a patch, or, where
these have too many or too few pixels, the image's own sides scaled and rounded down or up.
"""

from __future__ import annotations

from math import ceil, floor, sqrt

import numpy as np
import pytest
import torch
from helpers.models.tiny_vlm import TINY, save_tiny
from PIL import Image
from transformers import AutoProcessor

import t2v_eval
from t2v_eval.backends.common.images import smart_resize
from t2v_eval.errors import InputError, MediaError
from t2v_eval.registry import models

LIMITS = {"qwen2-vl-2b": (4 * 28**2, 16384 * 28**2), "qwen2.5-vl-3b": (4 * 28**2, 16384 * 28**2)}
LIMITS |= {"qwen3-vl-2b": (4 * 32**2, 16384 * 32**2), "qwen3.5-4b": (4 * 32**2, 16384 * 32**2)}
MADE = {"qwen2-vl-2b": "qwen2_vl", "qwen2.5-vl-3b": "qwen2_5_vl"}
MADE |= {"qwen3-vl-2b": "qwen3_vl", "qwen3.5-4b": "qwen3_5"}


def size_by_rule(width: int, height: int, side: int, minimum: int, maximum: int) -> tuple[int, int]:
    wide, high = (max(side, side * round(n / side)) for n in (width, height))
    if wide * high > maximum:
        shrink = sqrt(width * height / maximum)
        wide, high = (side * floor(n / shrink / side) for n in (width, height))
    elif wide * high < minimum:
        grow = sqrt(minimum / (width * height))
        wide, high = (side * ceil(n * grow / side) for n in (width, height))
    return wide, high


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(width * height).integers(0, 256, (height, width, 4), np.uint8)
    return Image.fromarray(values, "RGBA").convert(mode)


@pytest.mark.parametrize("side", [28, 32])
@pytest.mark.parametrize("size", [(3, 5), (14, 14), (31, 90), (97, 61), (333, 250), (250, 1999)])
@pytest.mark.parametrize("limits", [(4, 16384), (100, 128), (1, 4)])
def test_an_image_has_the_size_of_the_rule_and_the_pixels_of_pillow(side, size, limits):
    minimum, maximum = (n * side * side for n in limits)
    image = noise(*size)
    requested = size_by_rule(*size, side, minimum, maximum)
    if 0 in requested:
        pytest.skip("the original fails on it")
    expected = image.resize(requested)  # whose filter is bicubic where none is named
    assert np.array_equal(
        np.asarray(smart_resize(image, side, minimum, maximum)), np.asarray(expected)
    )


@pytest.fixture(scope="module", params=MADE)
def scorer(request, tmp_path_factory):
    folder = save_tiny(tmp_path_factory, TINY[MADE[request.param]])
    return t2v_eval.load(request.param, checkpoint=folder, device="cpu"), folder


def test_what_the_model_sees_is_what_the_processor_makes_of_pillows_pixels(scorer):
    """With no other resizing: the processor is handed the image as it is to be seen."""
    named, folder = scorer
    minimum, maximum = LIMITS[named.name]
    processor = AutoProcessor.from_pretrained(folder).image_processor
    side = processor.patch_size * processor.merge_size
    for size in ((40, 90), (97, 61), (130, 200)):
        image = noise(*size)
        resized = image.resize(
            size_by_rule(*size, side, minimum, maximum), Image.Resampling.BICUBIC
        )
        expected = processor(resized, do_resize=False, return_tensors="pt")
        features = named.prompt_builder.image_inputs(image)
        torch.testing.assert_close(
            features["pixel_values"], expected.pixel_values, rtol=0, atol=1e-6
        )
        assert features["image_grid_thw"].tolist() == expected.image_grid_thw.tolist()


def test_torchvision_resizes_otherwise_and_has_another_id(scorer):
    """So scores that were kept of one are not used of the other."""
    named, folder = scorer
    minimum, maximum = LIMITS[named.name]
    settings = {"size": {"shortest_edge": minimum, "longest_edge": maximum}}
    before = t2v_eval.load(named.name, checkpoint=folder, device="cpu", image_settings=settings)
    image = noise(97, 61)
    actual, reference = (
        s.prompt_builder.image_inputs(image)["pixel_values"] for s in (named, before)
    )
    assert actual.shape == reference.shape and not torch.allclose(actual, reference, atol=0.01)
    assert "image_settings={'pixels': " in named.id and named.id != before.id


def test_alpha_is_laid_over_white_and_long_images_are_refused(scorer):
    named, _ = scorer
    clear = noise(64, 64, "RGBA")
    clear.putalpha(0)
    builder = named.prompt_builder
    white = builder.image_inputs(Image.new("RGB", (64, 64), (255, 255, 255)))["pixel_values"]
    assert torch.equal(builder.image_inputs(clear)["pixel_values"], white)
    with pytest.raises(MediaError, match="more than 200 times the other"):
        named(Image.new("RGB", (2001, 10)), "a")


@pytest.mark.parametrize("pixels", [3, [3], [3, 0], [1, 2, 3], "ab", [1.5, 3], [True, 3]])
def test_limits_are_two_whole_numbers(scorer, pixels):
    _, folder = scorer
    with pytest.raises(InputError, match="pixels are two whole numbers"):
        t2v_eval.load(f"hf-vlm:{folder}", device="cpu", image_settings={"pixels": pixels})


def test_a_model_of_one_size_takes_no_limits(tmp_path):
    TINY["llava"](tmp_path)
    with pytest.raises(InputError, match="fixed sizes, so leave pixels out"):
        t2v_eval.load(f"hf-vlm:{tmp_path}", device="cpu", image_settings={"pixels": [4, 9]})


def test_cards_have_the_limits_of_the_original():
    """4 to 16,384 tokens of an image, each of 28 x 28 or 32 x 32 pixels."""
    for name, limits in LIMITS.items():
        assert tuple(models.card(name).args["image_settings"]["pixels"]) == limits
