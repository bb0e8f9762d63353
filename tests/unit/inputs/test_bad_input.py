"""What is no good image or text fails by name, or gets a right score; the rest is unaffected."""

from __future__ import annotations

import io
import resource
import sys
from functools import partial

import numpy as np
import pytest
import torch
from helpers.models.clip_goldens import FOLDER, arch, hf_clip_folder, open_clip_file
from helpers.toy import draw_image
from PIL import Image

import t2v_eval
from t2v_eval.errors import InputError, MediaError, T2VWarning
from t2v_eval.scoring.plan import Block

TEXTS = ["a red cube on a blue sphere", ""]


@pytest.fixture(scope="module", params=["open_clip", "hpsv2", "pickscore-v1"])
def load(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    if request.param == "pickscore-v1":
        options = {"checkpoint": hf_clip_folder(folder, "pickscore", "gelu")}
    else:
        options = {"checkpoint": open_clip_file(folder), "arch": arch("tiny-ViT-H")}
    return partial(t2v_eval.load, request.param, device="cpu", **options)


@pytest.fixture(scope="module")
def scorer(load):
    return load()


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bad(tmp_path):
    """What a caller may pass by mistake, and what the error must say of it."""
    (tmp_path / "empty.png").touch()
    whole = encoded(draw_image(0, (64, 64)), "PNG")
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("not a picture")
    dark = np.zeros((4, 4, 3), np.float32)
    dark[0, 0, 0] = np.nan
    return {
        "empty.png": tmp_path / "empty.png",
        "cut.png": tmp_path / "cut.png",
        "text.png": tmp_path / "text.png",
        "is a directory": tmp_path,
        "gone.png": tmp_path / "gone.png",
        "NaN": dark,
    }


@pytest.mark.parametrize(
    "says", ["empty.png", "cut.png", "text.png", "is a directory", "gone.png", "NaN"]
)
def test_what_is_no_image_is_named(says, scorer, tmp_path):
    with pytest.raises(MediaError, match=rf"images\[1\].*{says}"):
        scorer([draw_image(0), bad(tmp_path)[says]], TEXTS)


def test_with_skip_the_rest_is_scored_as_if_they_were_not_there(load, scorer, tmp_path):
    wrong = bad(tmp_path)
    images = [draw_image(0), *wrong.values(), draw_image(1)]
    outcome = load(on_error="skip").evaluate_blocks([Block.of(images, TEXTS)])
    scores = torch.from_numpy(outcome.scores[0])
    assert scores[1:-1].isnan().all()
    whole = scorer([draw_image(0), draw_image(1)], TEXTS)
    torch.testing.assert_close(scores[[0, -1]], whole, rtol=0, atol=1e-5)
    assert outcome.counts.failed == len(TEXTS) * len(wrong)
    for row, says in enumerate(wrong, start=1):
        assert says in outcome.failures[0, row, 0]


@pytest.mark.parametrize("size", [(1, 1), (20_000, 2), (2, 20_000), (20_000, 1)])
def test_an_image_of_any_shape_has_a_score_and_does_not_fill_the_memory(size, scorer):
    before = peak_memory()
    assert scorer(draw_image(0, size), TEXTS).isfinite().all()
    assert peak_memory() - before < 500 * 2**20, "resized as a whole it would take 1.5 GB"


def peak_memory() -> int:
    """The most bytes that this process ever held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@pytest.mark.parametrize("upright", [False, True])
def test_of_an_extreme_image_the_middle_is_seen_where_images_are_cropped(upright, scorer):
    if scorer.name == "hpsv2":
        pytest.skip("sees the whole picture")
    row = np.asarray(draw_image(0, (41, 1)))
    long = np.pad(row, ((0, 0), (2000, 2000), (0, 0)), mode="edge").repeat(2, 0)
    near = np.pad(row, ((0, 0), (60, 60), (0, 0)), mode="edge").repeat(2, 0)
    if upright:
        long, near = long.swapaxes(0, 1), near.swapaxes(0, 1)
    torch.testing.assert_close(scorer(long, TEXTS), scorer(near, TEXTS), rtol=0, atol=5e-3)


def test_unusual_files_are_scored_as_what_a_person_sees(scorer):
    image = draw_image(0, (40, 30))
    expected = scorer(image, TEXTS)
    sixteen = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    gif = encoded(image, "GIF", save_all=True, append_images=[draw_image(1, (40, 30))])
    ink = image.convert("CMYK")
    alike = {
        "16 bits": (encoded(sixteen, "PNG"), image.convert("L").convert("RGB")),
        "animated": (gif, Image.open(io.BytesIO(gif)).convert("RGB")),
        "ink": (encoded(ink, "TIFF"), ink.convert("RGB")),
    }
    for what, (file, seen) in alike.items():
        assert torch.equal(scorer(file, TEXTS), scorer(seen, TEXTS)), what
    assert torch.equal(scorer(encoded(image, "PNG"), TEXTS), expected)


@pytest.mark.parametrize("mode", ["seen", "original"])
def test_golden_images_of_every_kind_have_a_score(mode, load):
    scores = load(image_mode=mode)(sorted((FOLDER / "images").iterdir()), TEXTS)
    assert scores.isfinite().all()


def test_texts_of_any_length_have_a_score(scorer):
    words = "cube " * 10_000
    with pytest.warns(T2VWarning, match="1 of 4 texts are longer"):
        scores = scorer(draw_image(0), ["", "   ", "\n", words])
    assert scores.isfinite().all()
    for wrong in (None, 7, [3], [], b"cat"):
        with pytest.raises(InputError):
            scorer(draw_image(0), wrong)
