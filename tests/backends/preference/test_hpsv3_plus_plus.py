"""HPSv3++ against what its authors' code answers, a pair at a time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models.rewards.hpsv3_plus_plus import make_checkpoint, make_weights

import t2v_eval
from t2v_eval.errors import CheckpointError, InputError, TemplateError

GOLDENS = Path(__file__).parents[2] / "goldens" / "clip"
GOLDEN = json.loads((GOLDENS / "hpsv3_plus_plus.json").read_text(encoding="utf-8"))
IMAGES = [GOLDENS / image for image in GOLDEN["images"]]
TEXTS = GOLDEN["texts"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("hpsv3-plus-plus"))


def load(files, **options):
    return t2v_eval.load("hpsv3++", **{**files, "base": None, "device": "cpu", **options})


def test_goldens(files):
    # Of the square image nothing is resized a second time, which Pillow does here, PyTorch there.
    near = [[2e-6], [2e-4], [2e-4]]
    scorer, later = load(files), load(files, progress=GOLDEN["progress"])
    for scores, expected in (
        (scorer(IMAGES, TEXTS), GOLDEN["scores"]),
        (later(IMAGES, TEXTS), GOLDEN["later_scores"]),
    ):
        assert (np.abs(scores.numpy() - expected) < near).all()
    assert scorer.id != later.id


def test_the_configuration_of_the_training_beside_the_weights_is_no_base(files, tmp_path):
    weights = tmp_path / "hpsv3++.pth"
    weights.symlink_to(Path(files["checkpoint"], weights.name))
    (tmp_path / "config.json").write_text('{"model_type": "film_hybrid"}')
    changed = {**files, "checkpoint": str(tmp_path)}
    loaded = load(changed, base=files["checkpoint"])
    assert loaded(IMAGES[0], TEXTS[0]).item() == pytest.approx(GOLDEN["scores"][0][0], abs=2e-6)
    with pytest.raises(CheckpointError, match=r"base 'Qwen/Qwen3-VL-8B-Instruct'.*base='DIR'"):
        load(changed, local_files_only=True, cache_dir=str(tmp_path / "cache"))
    with pytest.raises(CheckpointError, match=r"holds no hpsv3\+\+.pth"):
        load({**files, "checkpoint": str(tmp_path.parent)})


@pytest.mark.parametrize("progress", [-0.1, 1.5, True, "0.5", float("nan")])
def test_progress_is_from_0_to_1(files, progress):
    with pytest.raises(InputError, match="`progress=.*: use a number from 0 to 1"):
        load(files, progress=progress)


def test_an_answer_is_refused(files):
    with pytest.raises(TemplateError, match="gives no answer"):
        load(files)(IMAGES[0], TEXTS, answer_template="Yes")


@pytest.mark.parametrize(
    ("missing", "more", "message"),
    [
        ("film_gen.2.bias", None, "lacks weights film_gen.2.bias"),
        ("cap_encoder.pool_attn.weight", None, "lacks weights cap_encoder.pool_attn.weight"),
        ("model.visual.pos_embed.weight", None, "lacks weights visual.pos_embed.weight"),
        (None, "cond_encoder.4.bias", "unexpected weights cond_encoder.4.bias"),
    ],
)
def test_every_weight_is_used_and_none_is_missing(tmp_path, missing, more, message):
    changed = make_checkpoint(tmp_path)
    tensors = {n: t for n, t in make_weights(tmp_path).items() if n != missing}
    torch.save(tensors | ({more: torch.ones(1)} if more else {}), tmp_path / "hpsv3++.pth")
    with pytest.raises(CheckpointError, match=message):
        load(changed)
