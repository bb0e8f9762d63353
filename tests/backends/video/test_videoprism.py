"""VideoPrism against the processor and the forward pass of transformers."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from helpers.media.videos import by_hand
from helpers.models.video import CLIPS
from helpers.models.videoprism import FRAMES, make_videoprism
from PIL import Image
from transformers import AutoModel, AutoProcessor

import t2v_eval
from t2v_eval.errors import CheckpointError, InputError

TEXTS = ["a red ball rolls over green grass", "dog", "two people sitting on the table is not a cat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    at = tmp_path_factory.mktemp("videoprism")
    make_videoprism(at)
    return at


def load(folder, **options):
    return t2v_eval.load("videoprism-lvt-base", checkpoint=folder, device="cpu", **options)


def expected(folder, frames, texts):
    """What transformers makes of frames that are chosen already."""
    processor, model = AutoProcessor.from_pretrained(folder), AutoModel.from_pretrained(folder)
    video = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    inputs = processor.video_processor([video], do_sample_frames=False, return_tensors="pt")
    tokens = processor.tokenizer(
        texts, padding="max_length", truncation=True, max_length=12, return_tensors="pt"
    )
    with torch.no_grad():
        output = model.eval()(inputs.pixel_values_videos, tokens.input_ids, tokens.attention_mask)
    return torch.cosine_similarity(output.video_embeds, output.text_embeds)


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.stem)
def test_scores_are_those_of_transformers(folder, path):
    frames = [np.rot90(f, -1) if path.stem == "rotated" else f for f in by_hand(path)]
    steps = torch.arange(0, len(frames), len(frames) / FRAMES).int().tolist()
    chosen = steps if len(frames) >= FRAMES else [*range(len(frames))]
    chosen += chosen[-1:] * (FRAMES - len(chosen))
    target = expected(folder, [np.array(frames[n]) for n in chosen], TEXTS)
    scores = load(folder)(path, TEXTS)[0]
    torch.testing.assert_close(scores, target, atol=2e-6, rtol=0)
    assert scores.std() > 1e-3


def test_an_image_is_a_video_of_equal_frames(folder):
    image = Image.fromarray(np.random.RandomState(0).randint(0, 255, (40, 60, 3), np.uint8))
    target = expected(folder, [np.asarray(image)] * FRAMES, TEXTS)
    torch.testing.assert_close(load(folder)(image, TEXTS)[0], target, atol=2e-6, rtol=0)


def test_a_long_text_is_cut_and_said(folder):
    with pytest.warns(UserWarning, match="1 of 1 texts are longer than the model reads"):
        load(folder)(CLIPS[2], " ".join(["cat"] * 20))


def test_what_does_not_fit_is_named(folder, tmp_path):
    with pytest.raises(InputError, match="`frames=8`: 'videoprism-lvt-base' has positions for 16"):
        load(folder, frames=8)
    shutil.copytree(folder, tmp_path / "other")
    file = tmp_path / "other" / "config.json"
    file.write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(CheckpointError, match="a model of type 'clip', not 'videoprism'"):
        load(tmp_path / "other")
