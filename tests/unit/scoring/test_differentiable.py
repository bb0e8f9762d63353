"""`score_tensor`: its gradient, its distance from the scores of images, and what it refuses."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import open_clip
import PIL
import pytest
import torch
from helpers.models.clip_goldens import exact_pixels
from helpers.models.gradients import DIFFERENTIABLE, distances, golden_images, texts_of, to_tensor
from helpers.models.tiny import VARIANTS, Small
from helpers.toy import ToyEmbedding, ToyPair, draw_image

from t2v_eval.backends.clip.open_clip_internals import apply_transform
from t2v_eval.backends.common.images import STD
from t2v_eval.errors import InputError, T2VWarning, UnsupportedError
from t2v_eval.registry import models
from t2v_eval.store import Store

DOCUMENT = Path(__file__).parents[3] / "docs" / "differentiable.md"
ROW = re.compile(r"^\| (.+?) \| (\d[\d.e+-]*) \| (\d[\d.e+-]*) \|", re.MULTILINE)
# Parts of these stay in float32 whatever is asked for, so that steps must be large.
FLOAT32 = {
    "blip2-itm",
    "blip2-itc",
    "blip2-itm-itc",
    "cycle-reward",
    "fga-blip2",
    "image-reward",
    "laion-aesthetic",
    "mps-overall",
}
PILLOW_13 = int(PIL.__version__.split(".")[0]) >= 13  # which `_tensors.resize` follows
pytestmark = pytest.mark.filterwarnings("ignore:.*longer than the model reads")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Small:
    return Small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def loaded(small):
    """Loads a variant with its defaults, once for all tests that change nothing of it."""
    return cache(small.load)


def side_of(scorer) -> int:
    """The size of a square image that the model sees as it is."""
    pixels = scorer.preprocess(draw_image(0, (64, 64)))
    return pixels.shape[-1] if pixels.ndim == 3 else 32


def soft_pixels(height: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    """Two images of noise, nowhere near 0 or 1."""
    noise = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    return (0.3 + 0.4 * noise).to(dtype)


@pytest.mark.parametrize("variant", DIFFERENTIABLE)
def test_gradients_are_those_of_central_differences(variant, small):
    exact = variant not in FLOAT32
    dtype = torch.float64 if exact else torch.float32
    scorer = small.load(variant, dtype=dtype)
    texts = texts_of(variant)
    # Not the size of the model, so that the resizing is in the gradient too.
    height, width = side_of(scorer) + 9, side_of(scorer) - 5
    start = soft_pixels(height, width, dtype)
    with torch.no_grad():  # of a text whose score is not cut off at 0
        best = max(texts, key=lambda text: scorer.score_tensor(start, text)[0].item())

    def score(pixels: torch.Tensor) -> torch.Tensor:
        return scorer.score_tensor(pixels, [best, texts[0]])[0]

    pixels = start.clone().requires_grad_()
    value = score(pixels)
    (gradient,) = torch.autograd.grad(value, pixels)
    assert gradient[0].abs().max() > 0
    assert gradient[1].abs().max() == 0  # of the other image
    chosen = torch.rand(gradient.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    directions = [gradient, gradient * (chosen > 0.5)]
    if exact:
        basis = torch.zeros_like(gradient)
        basis.view(-1)[gradient.abs().argmax()] = 1
        directions += [chosen - 0.5, basis]
    for direction in directions:
        direction = direction / direction.norm()
        slope = (gradient * direction).sum()
        step = 1e-5 if exact else 3e-3 * max(1, abs(value.item())) / slope.item()
        with torch.no_grad():
            ahead, behind = score(start + step * direction), score(start - step * direction)
        result = (ahead.double() - behind.double()) / (2 * step)
        tolerance = {"rtol": 1e-5, "atol": 1e-8} if exact else {"rtol": 2e-2, "atol": 0}
        torch.testing.assert_close(result, slope.double(), **tolerance)


@pytest.mark.parametrize("variant", DIFFERENTIABLE)
@exact_pixels
def test_images_of_the_models_own_size_score_the_same(variant, loaded):
    scorer = loaded(variant)
    side = side_of(scorer)
    images = [draw_image(seed, (side, side)) for seed in range(3)]
    off, exact = distances(scorer, images, texts_of(variant))
    # float32 rounds differently in other batch shapes, by an amount that depends on the CPU.
    assert off.max() <= 5e-6 * max(1, exact.abs().max().item())


@pytest.mark.parametrize("variant", DIFFERENTIABLE)
def test_images_of_other_sizes_score_as_documented(variant, loaded):
    table = {row[1]: row for row in ROW.finditer(DOCUMENT.read_text("utf-8"))}
    assert set(table) == set(DIFFERENTIABLE), (
        "run: PYTHONPATH=tests python tests/helpers/models/gradients.py"
    )
    off, _ = distances(loaded(variant), golden_images(), texts_of(variant))
    largest, mean = (float(table[variant][column]) for column in (2, 3))
    slack = 1.2 if PILLOW_13 else 3
    assert off.max() <= slack * largest + 1e-6
    assert off.mean() <= slack * mean + 1e-6


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_card_says_whether_there_are_gradients(variant, loaded):
    scorer = loaded(variant)
    pixels = to_tensor(draw_image(0, (32, 32)))
    if scorer.card.differentiable:
        assert scorer.score_tensor(pixels, texts_of(variant)[0]).isfinite().all()
    else:
        with pytest.raises(UnsupportedError, match=re.escape(repr(scorer.name))):
            scorer.score_tensor(pixels, "a cat")


def test_every_card_of_a_class_says_the_same():
    flags: dict[tuple[str, str], set[bool]] = {}
    for card in models.cards.values():
        flags.setdefault((card.module, card.entry), set()).add(card.differentiable)
    assert all(len(facts) == 1 for facts in flags.values())


def test_a_step_along_the_gradient_raises_the_score(small):
    scorer = small.load("hf-clip")
    pixels = soft_pixels(40, 40, torch.float32).requires_grad_()
    before = scorer.score_tensor(pixels, "a cat")
    before.sum().backward()
    assert pixels.grad is not None
    with torch.no_grad():
        after = scorer.score_tensor((pixels + 0.1 * pixels.grad.sign()).clamp(0, 1), "a cat")
    assert (after > before + 0.05).all()
    assert all(weight.grad is None for weight in scorer.clip.parameters())


def test_after_a_run_under_inference_mode_there_are_gradients_still(small):
    for variant in ("open_clip", "blip2-itm", "image-reward", "mps-overall"):
        scorer = small.load(variant)
        scorer([draw_image(0)], ["a cat"])
        pixels = to_tensor(draw_image(0)).requires_grad_()
        scorer.score_tensor(pixels, "a cat").sum().backward()
        assert pixels.grad is not None and pixels.grad.abs().max() > 0


def test_shapes_dtypes_templates_and_texts(small):
    scorer = small.load("clipscore")
    pixels = torch.cat([to_tensor(draw_image(seed, (50, 40))) for seed in range(2)])
    assert scorer.score_tensor(pixels, ["a cat", "dogs"]).shape == (2,)
    assert scorer.score_tensor(pixels, "a cat").dtype == torch.float64
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert scorer.score_tensor(pixels.to(dtype), "a cat").dtype == torch.float32
    plain = scorer.score_tensor(pixels, "A photo depicts a cat", question_template="{}")
    torch.testing.assert_close(plain, scorer.score_tensor(pixels, "a cat"))
    with pytest.warns(T2VWarning, match="1 of 2 texts are longer"):
        scorer.score_tensor(pixels, ["a cat", "cat " * 100])
    rating = small.load("laion-aesthetic").score_tensor(pixels)
    torch.testing.assert_close(rating, small.load("laion-aesthetic").score_tensor(pixels, "any"))


class Untouched(Store):
    """A store that must not be asked."""

    def __init__(self) -> None:
        """Open no file."""

    def __getattribute__(self, name: str):
        raise AssertionError(f"the store's {name} was asked for")


def test_the_store_is_neither_read_nor_written(small):
    for variant in ("hf-clip", "image-reward"):
        scorer = small.load(variant, store=Untouched())
        scorer.score_tensor(to_tensor(draw_image(0)), "a cat")
        with pytest.raises(AssertionError, match="was asked for"):
            scorer(draw_image(0), "a cat")


BAD = {
    "3 dimensions": (torch.zeros(3, 8, 8), "pixels\\[None\\]"),
    "channels last": (torch.zeros(2, 8, 8, 3), "second dimension"),
    "no image": (torch.zeros(0, 3, 8, 8), "none of them 0"),
    "integers": (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "floating-point tensor.*uint8"),
    "an array": (np.zeros((1, 3, 8, 8)), "floating-point tensor.*ndarray"),
    "not a number": (torch.full((1, 3, 8, 8), torch.nan), "NaN or infinite"),
    "normalised": (torch.full((1, 3, 8, 8), -1.0), "from -1 to -1.*clamp"),
    "bytes": (torch.full((1, 3, 8, 8), 255.0), "from 255 to 255.*clamp"),
}


@pytest.mark.parametrize("bad", BAD)
def test_pixels_that_cannot_be_used(bad, loaded):
    pixels, message = BAD[bad]
    with pytest.raises(InputError, match=message):
        loaded("open_clip").score_tensor(pixels, "a cat")


def test_texts_that_cannot_be_used(small):
    scorer, pixels = small.load("open_clip"), torch.zeros(3, 3, 8, 8)
    with pytest.raises(InputError, match="3 images and 2 texts"):
        scorer.score_tensor(pixels, ["a", "b"])
    with pytest.raises(InputError, match="pass texts too"):
        scorer.score_tensor(pixels)
    with pytest.raises(InputError, match=r"texts\[0\] is int"):
        scorer.score_tensor(pixels, [3])
    with pytest.raises(InputError, match="takes no `prompt=`"):
        scorer.score_tensor(pixels, "a", prompt="b")


def test_extreme_images_are_to_be_cropped_first(small):
    with pytest.raises(InputError, match="400 x 2.*crop them first"):
        small.load("hf-clip").score_tensor(torch.zeros(1, 3, 2, 400), "a cat")


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_pixels_are_prepared_as_open_clip_prepares_images(mode, interpolation, size):
    transform = open_clip.image_transform(
        size, is_train=False, resize_mode=mode, interpolation=interpolation
    )
    for shape in [(50, 20), (33, 90), size[::-1]]:
        image = draw_image(0, shape)
        actual, expected = apply_transform(transform, to_tensor(image))[0], transform(image)
        assert actual.shape == expected.shape
        levels = (actual - expected).abs() * 255 * torch.tensor(STD).view(3, 1, 1)
        assert levels.max() < (1.2 if PILLOW_13 else 16)


def test_images_of_a_size_that_the_card_does_not_expect(small):
    card = replace(models.card("hf-clip"), expects_size=(48, 40), caution="means nothing")
    scorer = small.load("hf-clip")
    scorer.card = card
    with pytest.warns(T2VWarning, match="pixels: means nothing"):
        scorer.score_tensor(torch.zeros(1, 3, 48, 40), "a cat")
    assert scorer.score_tensor(torch.zeros(1, 3, 40, 48), "a cat").isfinite().all()


@pytest.mark.parametrize("toy", [ToyEmbedding, ToyPair])
def test_a_backend_that_prepares_no_tensors_has_no_gradients(toy):
    with pytest.raises(UnsupportedError, match="no gradients"):
        toy(device="cpu").score_tensor(torch.zeros(1, 3, 8, 8), "a cat")
