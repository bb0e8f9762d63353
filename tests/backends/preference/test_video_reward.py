"""VideoReward against what its authors' code answers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.models.rewards.video_reward import SETTINGS, make_checkpoint, make_weights
from helpers.models.video import GOLDENS
from PIL import Image

import t2v_eval
from t2v_eval.errors import CheckpointError, InputError, MediaError, ScoringError, TemplateError
from t2v_eval.scoring.plan import Block

GOLDEN = json.loads((GOLDENS / "video_reward.json").read_text(encoding="utf-8"))
VIDEOS = [GOLDENS / "clips" / f"{name}.mp4" for name in GOLDEN["clips"]]
TEXTS = GOLDEN["texts"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("video-reward"))


def load(files, name: str = "videoreward", **options):
    return t2v_eval.load(name, **{**files, "base": None, "device": "cpu", **options})


@pytest.fixture(scope="module")
def scorer(files):
    return load(files)


def test_goldens(scorer):
    expected = np.array(GOLDEN["ratings"])
    np.testing.assert_allclose(scorer(VIDEOS, TEXTS), expected[..., 3], rtol=2e-5, atol=2e-5)
    for video, of_video in zip(VIDEOS[:2], expected, strict=False):
        for explained, row in zip(scorer.explain(video, TEXTS)[0], of_video, strict=True):
            rated = [explained.aspects[aspect] for aspect in ("VQ", "MQ", "TA")]
            np.testing.assert_allclose(rated, row[:3], rtol=2e-5, atol=1e-5)


def test_each_rating_has_a_name_and_is_kept_beside_the_score(files, scorer):
    ids = {scorer.id}
    detail = json.loads(scorer.evaluate_blocks([Block([VIDEOS[2]], TEXTS)]).details[0, 0, 1])
    assert [*detail.values()] == pytest.approx(GOLDEN["ratings"][2][1][:3], abs=1e-5)
    for n, aspect in enumerate(("VQ", "MQ", "TA")):
        rated = load(files, f"videoreward-{aspect.lower()}")
        expected = GOLDEN["ratings"][2][1][n]
        assert rated(VIDEOS[2], TEXTS[1]).item() == pytest.approx(expected, abs=1e-5)
        ids.add(rated.id)
    assert len(ids) == 4
    with pytest.raises(InputError, match="`aspect='beauty'`: use 'VQ' or .* 'overall'"):
        load(files, aspect="beauty")


def test_frames_are_the_authors(scorer):
    for total, fps, frames in GOLDEN["frames"][:-1]:
        assert scorer.sampling.indices(total, fps) == frames
    total, fps, (count, summed) = GOLDEN["frames"][-1]
    chosen = scorer.sampling.indices(total, fps)
    assert (len(chosen), sum(chosen)) == (count, summed)


def test_a_head_for_each_rating_is_read_on_the_diagonal(files, tmp_path):
    changed, weights = make_checkpoint(tmp_path), make_weights(tmp_path)
    head = weights["base_model.model.rm_head.weight"]
    weights["base_model.model.rm_head.weight"] = torch.cat([head, -head, 2 * head])
    torch.save(weights, tmp_path / "checkpoint-7" / "model.pth")
    (tmp_path / "model_config.json").write_text(
        json.dumps({k: v for k, v in SETTINGS.items() if k != "inference_config"})
    )
    rated = load(changed).explain(VIDEOS[0], TEXTS[0])[0][0].aspects
    standards = SETTINGS["inference_config"]
    for aspect, factor, standardised in zip(
        ("VQ", "MQ", "TA"), (1, -1, 2), GOLDEN["ratings"][0][0], strict=False
    ):
        raw = standardised * standards[f"{aspect}_std"] + standards[f"{aspect}_mean"]
        assert rated[aspect] == pytest.approx(factor * raw, abs=2e-5)


def test_the_last_checkpoint_is_read(files, scorer, tmp_path):
    changed = make_checkpoint(tmp_path)
    (tmp_path / "checkpoint-7").rename(tmp_path / "checkpoint-10")
    (tmp_path / "checkpoint-9").mkdir()
    (tmp_path / "checkpoint-9" / "model.pth").write_bytes(b"an earlier one")
    assert torch.equal(load(changed)(VIDEOS[0], TEXTS), scorer(VIDEOS[0], TEXTS))


def test_what_cannot_be_rated_is_named(scorer):
    with pytest.raises(ScoringError, match=r"reward token '<\|VQ_reward\|>': remove it"):
        scorer(VIDEOS[0], "<|VQ_reward|> x")
    with pytest.raises(TemplateError, match="gives no answer"):
        scorer(VIDEOS[0], TEXTS, answer_template="Yes")
    sizes = [Image.new("RGB", size) for size in ((400, 300), (300, 400))]
    with pytest.raises(MediaError, match="frames have several sizes once they are resized"):
        scorer(t2v_eval.Video.of(sizes), "a dog")


@pytest.mark.parametrize(
    ("table", "key", "value", "message"),
    [
        (
            "data_config",
            "prompt_template_type",
            "simple",
            "'simple'; VideoReward supports 'detailed",
        ),
        (
            "peft_lora_config",
            "use_rslora",
            True,
            "use_rslora = True; VideoReward supports False alone",
        ),
        ("peft_lora_config", "lora_alpha", None, "lora_alpha = None, which is not a number"),
        ("inference_config", "MQ_std", "1", "inference_config.MQ_std = '1', which is not a number"),
    ],
)
def test_settings_of_another_training_are_named(tmp_path, table, key, value, message):
    changed = make_checkpoint(tmp_path)
    settings = {**SETTINGS, table: {**SETTINGS[table], key: value}}
    (tmp_path / "model_config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=message):
        load(changed)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("rm_head.weight", None, "lacks weights rm_head.weight"),
        (
            "model.layers.1.mlp.up_proj.lora_B.default.weight",
            None,
            "lacks weights .*proj.lora_B",
        ),
        ("model.layers.0.input_layernorm.weight", None, "lacks weights .*input_layernorm.weight"),
        ("rm_head.weight", torch.ones(2, 32), "a head of 2 ratings; VideoReward has 1 or 3"),
        ("rm_head.bias", torch.ones(1), "unexpected weights rm_head.bias"),
    ],
)
def test_every_weight_is_used_and_none_is_missing(tmp_path, name, tensor, message):
    changed, weights = make_checkpoint(tmp_path), make_weights(tmp_path)
    name = f"base_model.model.{name}"
    weights |= {name: tensor}
    remaining = {n: t for n, t in weights.items() if t is not None}
    torch.save(remaining, tmp_path / "checkpoint-7" / "model.pth")
    with pytest.raises(CheckpointError, match=message):
        load(changed)


def test_files_that_are_missing_are_named(tmp_path):
    changed = make_checkpoint(tmp_path)
    (tmp_path / "checkpoint-7").rename(tmp_path / "final")
    with pytest.raises(CheckpointError, match=r"holds no checkpoint-\*/model.pth"):
        load(changed)
    (tmp_path / "model_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"model_config.json"):
        load(changed)
