"""PickScore against its authors' published example and t2v_metrics."""

from __future__ import annotations

import shutil
from fnmatch import fnmatch
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
from helpers.models.clip_goldens import RGB, cases, exact_pixels, hf_clip_folder, images
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.errors import CheckpointError, InputError
from t2v_eval.registry import models

CASES = cases("pickscore")
TEXTS = CASES["readme_scores_pil"]["texts"]
NAMES = {"readme": "pickscore-v1", "t2v": "pickscore-v1-cosine"}
pytestmark = pytest.mark.filterwarnings("ignore:.*longer than the model reads")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return hf_clip_folder(tmp_path_factory.mktemp("pickscore"), "pickscore", "gelu")


@pytest.fixture(scope="module")
def scorer(folder):
    return t2v_eval.load("pickscore-v1", checkpoint=folder, device="cpu")


def answers(case, folder, rows, **options):
    """What we answer to a case, for some of its images."""
    name = NAMES[case["id"].partition("_")[0]]
    scorer = t2v_eval.load(name, checkpoint=folder, device="cpu", **options)
    values = [images(case)[n] for n in rows]
    if "probs" in case["id"]:
        return torch.stack([scorer.probabilities(values, text) for text in case["texts"]], 1)
    return scorer(values, case["texts"])


PIL = [case for case in CASES.values() if case["id"].endswith("_pil")]


@pytest.mark.parametrize("case", PIL, ids=lambda case: case["id"])
@exact_pixels
def test_equals_the_original(case, folder):
    every = range(len(case["images"]))
    scores = answers(case, folder, every, image_mode="original")
    np.testing.assert_allclose(scores, case["scores"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["readme_scores_pil", "t2v_metrics_pil"])
@exact_pixels
def test_plain_images_equal_the_original_by_default(name, folder):
    case = CASES[name]
    rows = [n for n, image in enumerate(case["images"]) if Path(image).name in RGB]
    expected = np.array(case["scores"])[rows]
    np.testing.assert_allclose(answers(case, folder, rows), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("_torchvision")])
def test_resizing_by_torchvision_is_what_differs_from_the_example_on_other_machines(name, folder):
    # Which backend resizes depends there on what is installed; ours is always Pillow's.
    case = CASES[name]
    every = range(len(case["images"]))
    scores = answers(case, folder, every, image_mode="original").numpy()
    assert 1e-3 < np.abs(scores - np.array(case["scores"])).max() < 0.06


def test_the_two_scales_differ_by_the_logit_scale_and_their_probabilities_do_not(folder, scorer):
    cosine = t2v_eval.load("pickscore-v1-cosine", checkpoint=folder, device="cpu")
    images, text = [draw_image(seed) for seed in range(4)], TEXTS[0]
    factor = CASES["readme_scores_pil"]["params"]["logit_scale_exp"]
    torch.testing.assert_close(scorer(images, text), factor * cosine(images, text))
    torch.testing.assert_close(
        scorer.probabilities(images, text), cosine.probabilities(images, text)
    )
    assert scorer.id != t2v_eval.load("pickscore-v1", checkpoint=folder, scaled=False).id


def test_probabilities_are_over_the_candidates_that_could_be_scored(folder, tmp_path):
    scorer = t2v_eval.load("pickscore-v1", checkpoint=folder, device="cpu", on_error="skip")
    images = [draw_image(seed) for seed in range(3)]
    whole = scorer.probabilities(images, TEXTS[0])
    logits = scorer(images, TEXTS[0])[:, 0]
    torch.testing.assert_close(whole, logits.exp() / logits.exp().sum())
    with_gone = scorer.probabilities([*images, tmp_path / "gone.png"], TEXTS[0])
    torch.testing.assert_close(with_gone[:3], whole)
    assert with_gone[3].isnan()
    with pytest.raises(InputError, match="one text"):
        scorer.probabilities(images, TEXTS[:2])


def test_a_batch_costs_one_encoding_an_image_and_a_text(folder):
    scorer = t2v_eval.load("pickscore-v1", checkpoint=folder, device="cpu")
    towers = {"images": scorer.clip.vision_model, "texts": scorer.clip.text_model}
    check_encoded_once(scorer, count_rows(**towers))


def test_a_score_does_not_depend_on_its_company(scorer):
    check_company(scorer, draw_company(), TEXTS, alone=4)


def test_a_text_over_the_limit_keeps_its_end_and_is_counted(scorer):
    check_text_limit(scorer)


def test_the_processor_may_lie_elsewhere_as_on_the_hub(folder, scorer, tmp_path):
    weights, processor = tmp_path / "weights", tmp_path / "processor"
    shutil.copytree(folder, processor)
    weights.mkdir()
    shutil.copy(processor / "config.json", weights)
    shutil.move(processor / "model.safetensors", weights)
    apart = t2v_eval.load("pickscore-v1", checkpoint=weights, processor=str(processor))
    torch.testing.assert_close(apart(draw_image(0), TEXTS), scorer(draw_image(0), TEXTS))
    assert processor / "vocab.json" in apart.files
    with pytest.raises(
        CheckpointError, match=r"processor 'laion/CLIP-ViT-H-14-laion2B-s32B-b79K'.*processor='DIR'"
    ):
        t2v_eval.load(
            "pickscore-v1", checkpoint=weights, local_files_only=True, cache_dir=str(tmp_path)
        )


def test_a_processor_is_downloaded_without_weights(folder, scorer, tmp_path, monkeypatch):
    requests = []

    def download(hub_id, allow_patterns, **options):
        requests.extend([hub_id, *allow_patterns])
        return folder

    monkeypatch.setattr("t2v_eval.local.weights.snapshot_download", download)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(Path(folder) / name, tmp_path)
    apart = t2v_eval.load("pickscore-v1", checkpoint=tmp_path, device="cpu")
    torch.testing.assert_close(apart(draw_image(0), TEXTS), scorer(draw_image(0), TEXTS))
    repository, *patterns = requests
    assert repository == "laion/CLIP-ViT-H-14-laion2B-s32B-b79K" and "*.json" in patterns
    weights = "model.safetensors", "open_clip_pytorch_model.bin", "flax_model.msgpack"
    assert not any(fnmatch(name, pattern) for name in weights for pattern in patterns)


def test_weights_that_are_not_here(tmp_path):
    for name in NAMES.values():
        assert models.card(name).kind == "preference"
        with pytest.raises(CheckpointError, match=r"yuvalkirstain/PickScore_v1.*checkpoint='DIR'"):
            t2v_eval.load(name, local_files_only=True, cache_dir=str(tmp_path))
