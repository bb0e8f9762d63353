"""EditReward against what its authors' code answers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.models.edits.edit_reward import GOLDENS, QUESTIONS, make_checkpoint, make_weights
from safetensors.torch import save_file

import t2v_eval
from t2v_eval.errors import CheckpointError, InputError, TemplateError, UnsupportedError

GOLDEN = json.loads((GOLDENS / "edit_reward.json").read_text(encoding="utf-8"))
EDITS = [t2v_eval.Edit(*(GOLDENS / image for image in edit)) for edit in GOLDEN["edits"]]
TEXTS = GOLDEN["texts"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("edit-reward"))


def load(files, name: str = "edit-reward", **options):
    return t2v_eval.load(name, **{**files, "base": None, "device": "cpu", **options})


@pytest.fixture(scope="module")
def scorer(files):
    return load(files)


def test_goldens(scorer):
    np.testing.assert_allclose(scorer(EDITS, TEXTS), GOLDEN["scores"], rtol=0, atol=1e-4)


def test_each_rating_has_a_name(files, scorer):
    edit, ids = EDITS[0], {scorer.id}
    for part in ("following", "quality"):
        rated = load(files, f"edit-reward-{part}")
        np.testing.assert_allclose(rated(edit, TEXTS)[0], GOLDEN[part][0], rtol=0, atol=1e-4)
        ids.add(rated.id)
    assert len(ids) == 3
    with pytest.raises(InputError, match="`part='both'`"):
        load(files, part="both")


def test_alone_and_in_any_order_are_the_same(files, scorer):
    together = scorer(EDITS[:2], TEXTS)
    alone = torch.stack([torch.cat([scorer(e, t)[0] for t in TEXTS]) for e in EDITS[:2]])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    backwards = scorer(t2v_eval.Edit(EDITS[0].result, EDITS[0].source), TEXTS)
    assert (together[0] - backwards[0]).abs().max() > 1e-4


def test_what_is_no_edit_and_an_answer_are_refused(scorer):
    with pytest.raises(UnsupportedError, match=r"t2v_eval.Edit\(source, result\)"):
        scorer(EDITS[0].source, TEXTS)
    with pytest.raises(TemplateError, match="reads an instruction and no answer"):
        scorer(EDITS[0], TEXTS, answer_template="Yes")


@pytest.mark.parametrize(
    ("missing", "more", "message"),
    [
        ("rm_heads.head_1.5.bias", None, "lacks weights rm_heads.head_1.5.bias"),
        ("model.visual.blocks.1.norm2.weight", None, "lacks weights visual.blocks.1.norm2.weight"),
        (None, "rm_heads.head_2.0.bias", "unexpected weights rm_heads.head_2.0.bias"),
    ],
)
def test_every_weight_is_used_and_none_is_missing(files, tmp_path, missing, more, message):
    changed = make_checkpoint(tmp_path)
    tensors = {n: t for n, t in make_weights(tmp_path).items() if n != missing}
    save_file(tensors | ({more: torch.ones(1)} if more else {}), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load(changed)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "prompts.py",
            QUESTIONS.replace("_QUALITY", "_OTHER"),
            "0 strings with 'INSTR.*_QUALITY",
        ),
        ("chat_template.json", '{"chat_template": "<|image_pad|>"}', "does not show two images"),
        ("chat_template.json", "{}", "has no chat template"),
        ("config.json", '{"model_type": "qwen2_vl"}', "is no Qwen2.5-VL.*'qwen2_vl'"),
    ],
)
def test_files_of_other_models_are_named(tmp_path, file, content, message):
    changed = make_checkpoint(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load(changed)


def test_questions_that_are_not_here_are_named(files, tmp_path):
    without = {"checkpoint": files["checkpoint"], "base": None, "cache_dir": str(tmp_path)}
    with pytest.raises(CheckpointError, match=r"the questions https.*prompts.py.*questions='FILE'"):
        t2v_eval.load("edit-reward", local_files_only=True, device="cpu", **without)
