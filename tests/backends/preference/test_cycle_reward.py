"""CycleReward against what its authors' package answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models.cycle_reward import GOLDENS, SOURCE, make_checkpoint

import t2v_eval
from t2v_eval.errors import CheckpointError, T2VWarning
from t2v_eval.registry import models

GOLDEN = json.loads((GOLDENS / "cyclereward.json").read_text(encoding="utf-8"))
IMAGES = [GOLDENS / image for image in GOLDEN["images"]]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("cycle"))


def load(checkpoint: Path, **options):
    return t2v_eval.load("cycle-reward", checkpoint=checkpoint, device="cpu", **options)


def test_goldens(checkpoint):
    with pytest.warns(T2VWarning, match="4 of 14 texts are longer"):
        scores = load(checkpoint)(IMAGES, GOLDEN["texts"])
    np.testing.assert_allclose(scores, GOLDEN["scores"], rtol=0, atol=1e-4)


def test_the_configuration_may_lie_elsewhere(checkpoint, tmp_path):
    alone = Path(tmp_path / "weights.pth")
    alone.write_bytes(checkpoint.read_bytes())
    beside = {"tokenizer": str(SOURCE / "bert-base-uncased")}
    scorer = load(alone, config=str(SOURCE / "med_config.json"), **beside)
    torch.testing.assert_close(scorer(IMAGES[:1], "a cat"), load(checkpoint)(IMAGES[:1], "a cat"))
    with pytest.raises(
        CheckpointError, match=r"the config https.*med_config.json.*`config='FILE'`"
    ):
        load(alone, local_files_only=True, cache_dir=str(tmp_path), **beside)


@pytest.mark.parametrize(
    ("missing", "more", "message"),
    [
        ("mlp.layers.8.bias", None, "lacks weights mlp.layers.8.bias"),
        ("mlp.layers.8", "mlp.layers.7.weight", "lacks weights mlp.layers.8.weight"),
        ("blip.text_encoder.encoder.layer.1.crossattention.self.key", None, "lacks weights"),
        (None, "mlp.layers.10.weight", "unexpected weights mlp.layers.10.weight"),
        (None, "blip.itm_head.weight", "unexpected weights blip.itm_head.weight"),
        (None, "blip.visual_encoder.blocks.9.norm1.bias", "weights"),
    ],
)
def test_every_weight_is_used_and_none_is_missing(checkpoint, tmp_path, missing, more, message):
    tensors = torch.load(checkpoint, weights_only=True)
    remaining = {n: t for n, t in tensors.items() if missing is None or not n.startswith(missing)}
    changed = make_checkpoint(tmp_path / "changed")
    torch.save(remaining | ({more: torch.ones(1)} if more else {}), changed)
    with pytest.raises(CheckpointError, match=message):
        load(changed)


def test_an_image_reward_is_refused():
    with pytest.raises(CheckpointError, match=r"lacks weights mlp.layers.8"):
        load(SOURCE / "ImageReward.pt")


@pytest.mark.parametrize("part", ["", "-i2t", "-t2i"])
def test_cards(part):
    card = models.card(f"cycle-reward{part}")
    assert card.args["checkpoint"].endswith(f"-{part[1:].upper() or 'Combo'}.pth")
    assert all((card.kind == "preference", card.summary, card.license, card.paper))
