"""Sound checkpoints raise no alarm; tests/performance/verify_sound.py tries all families."""

from __future__ import annotations

import pytest
import torch
from helpers.models.tiny import VARIANTS
from helpers.models.tiny_vlm import llava
from helpers.models.tiny_vlm_more import CARDED

import t2v_eval
from t2v_eval.api import ScorerOptions
from t2v_eval.local.moving import contents
from t2v_eval.registry import models
from t2v_eval.verification.files import check_weights
from t2v_eval.verification.run import is_published, verify

VARIED = ["open_clip, as OpenAI's archive", "laion-aesthetic", "blip2-itm", "clip-flant5-xxl"]
VARIED += ["clip-iqa", "dsg"]


def outcomes(name, **arguments) -> dict[str, str]:
    options = ScorerOptions.from_keywords(device="cpu", **arguments)
    result = verify(models.card(name), options)
    assert not result.failed, [check for check in result.checks if check.outcome == "failed"]
    return {check.name: check.outcome.value for check in result.checks}


@pytest.mark.parametrize("variant", VARIED)
def test_a_small_checkpoint_in_the_published_layout(variant, tmp_path):
    name, make = VARIANTS[variant]
    outcome = outcomes(name, **make(tmp_path))
    assert {outcome[check] for check in ("loading", "weights used", "weights complete")} == {
        "passed"
    }
    assert outcome["matching text"] == "not checked"


def test_embeddings_and_layers_that_are_joined_or_split_by_the_loader(tmp_path):
    torch.manual_seed(0)
    CARDED["molmo2"](tmp_path)
    assert outcomes(f"hf-vlm:{tmp_path}")["weights complete"] == "passed"


def test_another_precision_is_compared_with_float32(tmp_path):
    torch.manual_seed(0)
    llava(tmp_path)
    outcome = outcomes(f"hf-vlm:{tmp_path}", dtype="bfloat16")
    assert outcome["precision"] == "not checked" and outcome["plain path"] == "passed"
    assert outcome["weights complete"] == "passed"


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        ("umt-b16-25m-itm", {}),
        ("internvideo2-1b-stage2-clip", {"frames": {"count": 8, "fill": 1}}),
        ("internvideo2-clip-1b", {}),
        ("languagebind-video", {}),
    ],
)
def test_weights_that_the_loader_leaves_out_or_computes(variant, options, tmp_path):
    """Heads of pretraining, positions for more frames, files that replace others, and LoRA."""
    name, make = VARIANTS[variant]
    scorer = t2v_eval.load(name, device="cpu", **make(tmp_path), **options)
    checks = check_weights([scorer], list(contents(scorer)), quantised=False)
    assert [check.outcome.value for check in checks] == ["passed"] * 3, checks


def test_weights_are_the_published_ones_unless_options_name_others():
    card = models.card("tiny-clip")
    assert is_published(card, ScorerOptions(dtype="bfloat16"))
    assert not is_published(card, ScorerOptions(checkpoint="mine"))
    assert not is_published(card, ScorerOptions(specific={"processor": "mine"}))
    assert not is_published(models.card("hf-clip:mine"), ScorerOptions())
    of_family = models.card("hf-clip-probability:google/siglip-base-patch16-224")
    assert is_published(of_family, ScorerOptions())
