"""HPSv2 against its authors' package and t2v_metrics."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models.checks import (
    check_company,
    check_encoded_once,
    check_text_limit,
    count_rows,
    draw_company,
)
from helpers.models.clip_goldens import FOLDER, RGB, arch, cases, images, open_clip_file
from helpers.toy import draw_image
from PIL import Image, ImageOps

import t2v_eval
from t2v_eval.errors import CheckpointError
from t2v_eval.registry import models

CASES = cases("hpsv2")
ORIGINALS = [case for name, case in CASES.items() if name.startswith("score_")]
WRAPPER = CASES["t2v_metrics_wrapper_float16"]
TEXTS = WRAPPER["texts"]
FILES = {"hpsv2": "HPS_v2_compressed.pt", "hpsv2.1": "HPS_v2.1_compressed.pt"}
pytestmark = pytest.mark.filterwarnings("ignore:.*longer than the model reads")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return open_clip_file(tmp_path_factory.mktemp("hpsv2"))


def load(checkpoint, config="tiny-ViT-H", name="hpsv2.1", **options):
    custom = arch(Path(config).stem)
    return t2v_eval.load(name, checkpoint=checkpoint, arch=custom, device="cpu", **options)


@pytest.fixture(scope="module")
def scorer(checkpoint):
    return load(checkpoint)


def answered(case):
    """The numbers of the images that the original did not fail on, and what it answered."""
    rows = [n for n, scores in enumerate(case["scores"]) if None not in scores]
    failed = {Path(case["images"][n]).name for n in set(range(14)) - set(rows)}
    assert failed == set(case["params"]["errors"])
    return rows, np.array([case["scores"][n] for n in rows])


@pytest.mark.parametrize("case", ORIGINALS, ids=lambda case: case["id"])
@pytest.mark.parametrize("name", FILES)
def test_equals_the_original(case, name, checkpoint):
    rows, expected = answered(case)
    scorer = load(checkpoint, case["params"]["config"], name, image_mode="original")
    scores = scorer([images(case)[n] for n in rows], case["texts"])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", ORIGINALS, ids=lambda case: case["id"])
def test_plain_images_equal_the_original_by_default(case, checkpoint):
    rows, expected = answered(case)
    plain = [k for k, n in enumerate(rows) if Path(case["images"][n]).name in RGB]
    scorer = load(checkpoint, case["params"]["config"])
    scores = scorer([images(case)[rows[k]] for k in plain], case["texts"])
    np.testing.assert_allclose(scores, expected[plain], rtol=0, atol=1e-5)


def test_t2v_metrics_differs_by_what_float16_rounds(checkpoint):
    # It keeps scores in a float16 tensor; it drops alpha as we do in the original mode.
    rows, expected = answered(WRAPPER)
    scorer = load(checkpoint, "tiny-ViT-H-quickgelu", image_mode="original")
    scores = scorer([images(WRAPPER)[n] for n in rows], TEXTS).numpy()
    assert "images/rgba.png" in [WRAPPER["images"][n] for n in rows]
    np.testing.assert_allclose(scores, expected, rtol=2**-11, atol=1e-6)


def test_four_channels_fail_in_the_original_and_are_seen_over_white_here(scorer):
    assert "rgba.png" in ORIGINALS[0]["params"]["errors"]
    image = Image.open(FOLDER / "images" / "rgba.png")
    white = Image.new("RGBA", image.size, "white")
    calls = Image.alpha_composite(white, image).convert("RGB")
    torch.testing.assert_close(scorer(image, TEXTS), scorer(calls, TEXTS), rtol=0, atol=0)


def test_a_long_side_of_exactly_224_fails_in_the_original_and_is_padded_here(scorer):
    assert "long224.png" in ORIGINALS[0]["params"]["errors"]
    image = Image.open(FOLDER / "images" / "long224.png").convert("RGB")
    assert max(image.size) == 224 != min(image.size)
    padded = Image.new("RGB", (224, 224))
    padded.paste(image, ((224 - image.width) // 2, (224 - image.height) // 2))
    torch.testing.assert_close(scorer(image, TEXTS), scorer(padded, TEXTS), rtol=0, atol=0)


@pytest.mark.parametrize("size", [(224, 224), (500, 300), (301, 500), (90, 223), (3, 2)])
def test_the_whole_image_is_seen_and_the_rest_is_black(size, scorer):
    pixels = scorer.preprocess(Image.new("RGB", size, "white"))
    assert pixels.shape == (3, 224, 224)
    black = scorer.preprocess(Image.new("RGB", (224, 224)))
    coloured = (pixels - black).abs().amax(0) > 1
    width, height = (round(length * 224 / max(size)) for length in size)
    y, x = (224 - height) // 2, (224 - width) // 2
    assert coloured[y : y + height, x : x + width].all()
    assert coloured.sum() == width * height


def test_mirrored_images_are_mirrored_inputs_where_the_padding_is_even(scorer):
    image = draw_image(0, (448, 300))
    mirrored = scorer.preprocess(ImageOps.mirror(image)).flip(-1)
    torch.testing.assert_close(mirrored, scorer.preprocess(image), rtol=0, atol=1e-4)


def test_a_batch_costs_one_encoding_an_image_and_a_text(checkpoint):
    scorer = load(checkpoint)
    towers = {"images": scorer.network.visual, "texts": scorer.network.transformer}
    check_encoded_once(scorer, count_rows(**towers))


def test_a_score_does_not_depend_on_its_company(scorer):
    check_company(scorer, draw_company(), TEXTS, alone=4)


def test_a_text_over_the_limit_keeps_its_end_and_is_counted(scorer):
    check_text_limit(scorer)


def test_each_version_takes_its_own_file_of_a_folder(checkpoint, scorer, tmp_path):
    for name, file in FILES.items():
        with pytest.raises(CheckpointError, match=rf"expected one of {file}"):
            load(tmp_path, name=name)
        shutil.copy(checkpoint, tmp_path / file)
        from_folder = load(tmp_path, name=name)
        assert from_folder.files[0] == tmp_path / file
        torch.testing.assert_close(
            from_folder(draw_image(0), TEXTS), scorer(draw_image(0), TEXTS), rtol=0, atol=0
        )


def test_weights_that_are_not_here_or_of_another_size(checkpoint, tmp_path):
    for name in FILES:
        assert models.card(name).kind == "preference"
        with pytest.raises(CheckpointError, match=r"xswu/HPSv2.*checkpoint='DIR'"):
            t2v_eval.load(name, local_files_only=True, cache_dir=str(tmp_path))
