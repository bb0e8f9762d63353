"""CLIP of transformers against what torchmetrics answers with it."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models.clip_goldens import RGB, cases, exact_pixels, hf_clip_folder, images, tensors
from helpers.toy import draw_image
from safetensors.torch import save_file

import t2v_eval
from t2v_eval.errors import CheckpointError, T2VWarning

CASE = cases("torchmetrics_clipscore")["clip_score_matrix_unclamped_pil"]
LONG = [n for n, name in enumerate(CASE["params"]["text_ids"]) if name.startswith("long")]
SHORT = [n for n in range(len(CASE["texts"])) if n not in LONG]
pytestmark = pytest.mark.filterwarnings("ignore:.*longer than the model reads")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return hf_clip_folder(tmp_path_factory.mktemp("hf_clip"))


@pytest.fixture(scope="module")
def scorer(folder):
    return t2v_eval.load(f"hf-clip:{folder}", device="cpu")


@exact_pixels
def test_equals_the_original(folder, scorer):
    expected = np.array(CASE["scores"])[:, SHORT] / 100
    texts = [CASE["texts"][n] for n in SHORT]
    original = t2v_eval.load("hf-clip", checkpoint=folder, device="cpu", image_mode="original")
    np.testing.assert_allclose(original(images(CASE), texts), expected, rtol=0, atol=1e-5)
    plain = [n for n, image in enumerate(CASE["images"]) if Path(image).name in RGB]
    scores = scorer([images(CASE)[n] for n in plain], texts)
    np.testing.assert_allclose(scores, expected[plain], rtol=0, atol=1e-5)


def test_long_texts_differ_from_torchmetrics_because_they_keep_their_end(scorer):
    # torchmetrics cuts the end token off, so it gives every long text the same score.
    expected = np.array(CASE["scores"])[:, LONG]
    assert (expected == expected[:, :1]).all()
    scores = scorer(draw_image(0), [CASE["texts"][n] for n in LONG])
    assert len(set(scores[0].tolist())) == len(LONG)


def test_texts_over_the_limit_are_counted_and_keep_their_end_token(scorer):
    exact = " ".join(["cat"] * 75)
    with pytest.warns(T2VWarning, match="2 of 4 texts are longer"):
        scores = scorer(draw_image(0), ["cat", exact, exact + " cat", exact + " red"])
    assert scores[0, 1] == scores[0, 2] == scores[0, 3]


def test_a_batch_costs_one_encoding_an_image_and_a_text(folder):
    scorer = t2v_eval.load(f"hf-clip:{folder}", device="cpu")
    rows = {"images": 0, "texts": 0}

    def count(what):
        def hook(module, args, kwargs, output):
            rows[what] += len(output.pooler_output)

        return hook

    scorer.clip.vision_model.register_forward_hook(count("images"), with_kwargs=True)
    scorer.clip.text_model.register_forward_hook(count("texts"), with_kwargs=True)
    scores = scorer([draw_image(seed) for seed in range(8)], [f"{n} cats" for n in range(8)])
    assert scores.shape == (8, 8)
    assert rows == {"images": 8, "texts": 8}


def test_a_score_does_not_depend_on_its_company(scorer):
    images = [draw_image(seed, size) for seed, size in enumerate([(12, 10), (300, 40), (64, 64)])]
    texts = CASE["texts"]
    together = scorer(images, texts)
    backwards = scorer(images[::-1], texts[::-1]).flip(0, 1)
    alone = torch.stack([torch.cat([scorer(p, t)[0] for t in texts]) for p in images])
    torch.testing.assert_close(backwards, together, rtol=0, atol=1e-5)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


def copy_of(folder, to, **weights):
    for file in Path(folder).iterdir():
        if file.suffix != ".safetensors":
            (to / file.name).symlink_to(file)
    return {**tensors("hf_clip"), **weights}


def test_old_pickles_with_position_numbers_are_read(folder, scorer, tmp_path):
    numbers = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    torch.save(copy_of(folder, tmp_path, **numbers), tmp_path / "pytorch_model.bin")
    old = t2v_eval.load(f"hf-clip:{tmp_path}", device="cpu")
    torch.testing.assert_close(old(draw_image(0), "a cat"), scorer(draw_image(0), "a cat"))
    assert old.id != scorer.id


def test_float16_weights_are_computed_with_in_float32(folder, scorer, tmp_path):
    weights = {name: value.half() for name, value in copy_of(folder, tmp_path).items()}
    save_file(weights, tmp_path / "model.safetensors")
    half = t2v_eval.load(f"hf-clip:{tmp_path}", device="cpu")
    assert half.clip.dtype == torch.float32
    torch.testing.assert_close(
        half(draw_image(0), "a cat"), scorer(draw_image(0), "a cat"), rtol=0, atol=1e-2
    )


class Touch:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def test_a_pickle_with_code_is_refused_and_not_run(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy_of(folder, tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Touch(), protocol=2))
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        t2v_eval.load(f"hf-clip:{tmp_path}")
    assert not (tmp_path / "unpickled").exists()


def test_other_folders_are_refused(folder, tmp_path):
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        t2v_eval.load(f"hf-clip:{tmp_path}")
    weights = copy_of(folder, tmp_path)
    with pytest.raises(CheckpointError, match="holds no weights"):
        t2v_eval.load(f"hf-clip:{tmp_path}")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks weights visual_projection\.weight"):
        t2v_eval.load(f"hf-clip:{tmp_path}")
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CheckpointError, match="'bert', not 'clip'"):
        t2v_eval.load(f"hf-clip:{tmp_path}")


def test_without_the_hub_the_error_names_the_weights_and_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=r"openai/clip-vit-base-patch16.*checkpoint="):
        t2v_eval.load("hf-clip:openai/clip-vit-base-patch16", cache_dir=str(tmp_path))
