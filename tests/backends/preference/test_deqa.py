"""DeQA-Score and OneAlign against what their authors' code answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models.rewards.deqa import CONFIG, make_checkpoint, make_weights

import t2v_eval
from t2v_eval.errors import CheckpointError, InputError

GOLDENS = Path(__file__).parents[2] / "goldens" / "clip"
GOLDEN = json.loads((GOLDENS / "deqa.json").read_text(encoding="utf-8"))
IMAGES = [GOLDENS / image for image in GOLDEN["images"]]


def load(folder, name: str = "deqa-score", **options):
    return t2v_eval.load(name, checkpoint=folder, device="cpu", **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("deqa"))


def test_goldens(folder):
    np.testing.assert_allclose(load(folder)(IMAGES)[:, 0], GOLDEN["grades"], rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    ("name", "rated"), [("one-align", "quality"), ("one-align-aesthetics", "aesthetics")]
)
def test_one_align(folder, name, rated):
    expected = 1 + 4 * np.array(GOLDEN["q-align"][rated])
    np.testing.assert_allclose(load(folder, name)(IMAGES)[:, 0], expected, rtol=0, atol=1e-5)


def test_what_is_rated_is_one_of_two(folder):
    assert load(folder, rated="aesthetics").id != load(folder).id
    with pytest.raises(InputError, match="`rated='beauty'`: use 'quality' or 'aesthetics'"):
        load(folder, rated="beauty")


def test_frequencies_of_old_files_are_computed_anew(folder, tmp_path):
    old = make_checkpoint(tmp_path)
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    torch.save(make_weights() | {name: torch.zeros(3)}, old / "pytorch_model.bin")
    assert torch.equal(load(old)(IMAGES), load(folder)(IMAGES))


@pytest.mark.parametrize(
    ("missing", "more", "message"),
    [
        ("lm_head.weight", None, "lacks weights lm_head.weight"),
        (
            "model.layers.1.self_attn.v_proj.multiway.1.weight",
            None,
            "lacks weights .*v_proj.multiway.1.weight",
        ),
        (
            "model.visual_abstractor.encoder.layers.0.crossattention.attention.k_pos_embed",
            None,
            "lacks weights visual_abstractor.layers.0.k_pos_embed",
        ),
        (None, "model.vision_model.head.weight", "unexpected weights vision_model.head.weight"),
    ],
)
def test_every_weight_is_used_and_none_is_missing(tmp_path, missing, more, message):
    changed = make_checkpoint(tmp_path)
    tensors = {n: t for n, t in make_weights().items() if n != missing}
    torch.save(tensors | ({more: torch.ones(1)} if more else {}), changed / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=message):
        load(changed)


def test_files_that_are_missing_or_of_another_model_are_named(tmp_path):
    changed = make_checkpoint(tmp_path)
    (changed / "config.json").write_text(json.dumps(CONFIG | {"visual_config": None}))
    with pytest.raises(CheckpointError, match=r"visual_config.visual_model.image_size is None"):
        load(changed)
    (changed / "tokenizer.model").unlink()
    with pytest.raises(CheckpointError, match=r"has no tokenizer.model of LLaMA"):
        load(changed)
