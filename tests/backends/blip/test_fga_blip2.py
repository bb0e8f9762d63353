"""FGA-BLIP2 against what its authors' code answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models.fga_blip2 import BASE, FOLDER, make_checkpoint, make_tensors

import t2v_eval
from t2v_eval.errors import CheckpointError, InputError, T2VWarning

GOLDEN = json.loads((FOLDER / "fga_blip2.json").read_text(encoding="utf-8"))
IMAGES = [FOLDER / image for image in GOLDEN["images"]]
TEXTS = GOLDEN["texts"]


def load(checkpoint: Path):
    return t2v_eval.load("fga-blip2", checkpoint=checkpoint, base=str(BASE), device="cpu")


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    return load(make_checkpoint(tmp_path_factory.mktemp("fga")))


def test_goldens(scorer):
    with pytest.warns(T2VWarning, match="1 of 7 texts are longer"):
        scores = scorer(IMAGES, TEXTS)
    np.testing.assert_allclose(scores, GOLDEN["scores"], rtol=1e-4, atol=1e-5)


def test_elements(scorer):
    for case in GOLDEN["elements"]:
        scores = scorer.element_scores(
            FOLDER / case["image"], TEXTS[case["text"]], [case["element"]]
        )
        assert scores == pytest.approx({case["element"]: case["score"]}, rel=1e-4, abs=1e-5)
    with pytest.raises(
        InputError, match="element 'three dogs' is not in the text 'two small dogs'"
    ):
        scorer.element_scores(IMAGES[0], TEXTS[1], ["dogs", "three dogs"])


def test_explanations_name_every_token_and_the_score(scorer):
    (explanation,) = scorer.explain(IMAGES[0], "Two small dogs!")[0]
    assert explanation.score == pytest.approx(GOLDEN["scores"][0][1], rel=1e-4)
    assert explanation.prompt == "[CLS] two small dogs [SEP]"
    cases = [c for c in GOLDEN["elements"] if c["image"] == GOLDEN["images"][0] and c["text"] == 1]
    expected = {case["element"]: case["score"] for case in cases}
    matched = {token.token: token.probability for token in explanation.tokens}
    assert matched["dogs"] == pytest.approx(expected["dogs"], rel=1e-4, abs=1e-5)
    assert str(explanation).splitlines()[-1] == f"  'dogs' {matched['dogs']:.4f}"


def test_names_are_those_of_the_authors():
    assert sorted(make_tensors()) == GOLDEN["names"]


def test_a_tower_that_was_frozen_comes_from_the_base(scorer, tmp_path):
    tensors = {n: t for n, t in make_tensors().items() if not n.startswith("visual_encoder")}
    tensors["ln_vision.bias"] = tensors["ln_vision.bias"] + 0.5  # trained on
    apart = load(make_checkpoint(tmp_path, tensors))
    whole = make_tensors() | {"ln_vision.bias": tensors["ln_vision.bias"]}
    together = load(make_checkpoint(tmp_path / "whole", whole))
    torch.testing.assert_close(apart(IMAGES[:2], "cat"), together(IMAGES[:2], "cat"))
    assert (apart(IMAGES[:2], "cat") - scorer(IMAGES[:2], "cat")).abs().max() > 1e-3
    assert apart.id != together.id != scorer.id


@pytest.mark.parametrize(
    ("missing", "more", "message"),
    [
        ("itm_head.weight", None, "lacks weights itm_head.weight"),
        ("visual_encoder.blocks.1.norm2.bias", None, "lacks weights vision_model"),
        (None, "visual_encoder.blocks.9.norm1.bias", "unexpected weights vision_model"),
        (None, "weight_proj.layers.0.bias", "unexpected weights weight_proj.layers.0.bias"),
    ],
)
def test_every_weight_is_used_and_none_is_missing(tmp_path, missing, more, message):
    tensors = {name: value for name, value in make_tensors().items() if name != missing}
    changed = make_checkpoint(tmp_path, tensors | ({more: torch.ones(1)} if more else {}))
    with pytest.raises(CheckpointError, match=message):
        load(changed)


def test_a_folder_without_the_weights_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="holds no fga_blip2.pth"):
        load(tmp_path)
