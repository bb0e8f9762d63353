"""OpenCLIP's networks against what t2v_metrics answers, and how they are read."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from helpers.models.clip_goldens import (
    FOLDER,
    RGB,
    arch,
    cases,
    exact_pixels,
    images,
    open_clip_file,
    tensors,
)
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.errors import CheckpointError, InputError, T2VWarning, UnknownNameError
from t2v_eval.registry import models

CASES = cases("open_clip_t2v")
WEIGHTS = {"cos_siglip_like": "open_clip_siglip_like"}
SHORT = ["a red cube on a blue sphere", "A photo of a cat sleeping on a windowsill.", ""]
LONG = CASES["cos_tiny-ViT-H"]["texts"][-3:]
pytestmark = pytest.mark.filterwarnings("ignore:.*longer than the model reads")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return open_clip_file(tmp_path_factory.mktemp("open_clip"))


@pytest.fixture(scope="module")
def scorer(checkpoint):
    return t2v_eval.load("open_clip", checkpoint=checkpoint, arch=arch("tiny-ViT-H"), device="cpu")


def load_case(case, folder, **options):
    file = open_clip_file(folder, WEIGHTS.get(case["id"], "open_clip"))
    custom = FOLDER / Path(case["params"]["config"]).name
    return t2v_eval.load("open_clip", checkpoint=file, arch=str(custom), device="cpu", **options)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@exact_pixels
def test_equals_t2v_metrics(case, tmp_path):
    expected = np.array(case["scores"])
    scores = load_case(case, tmp_path, image_mode="original")(images(case), case["texts"])
    np.testing.assert_allclose(scores.numpy(), expected, rtol=0, atol=1e-5)
    plain = [n for n, image in enumerate(case["images"]) if Path(image).name in RGB]
    scores = load_case(case, tmp_path)([images(case)[n] for n in plain], case["texts"])
    np.testing.assert_allclose(scores.numpy(), expected[plain], rtol=0, atol=1e-5)


def test_a_batch_costs_one_encoding_an_image_and_a_text(scorer):
    rows = {"images": 0, "texts": 0}

    def count(what):
        def hook(module, inputs):
            rows[what] += len(inputs[0])

        return hook

    hooks = [
        scorer.network.visual.register_forward_pre_hook(count("images")),
        scorer.network.transformer.register_forward_pre_hook(count("texts")),
    ]
    texts = [*CASES["cos_tiny-ViT-H"]["texts"][:3], "a red sphere", "a blue cube"]
    texts += ["red", "blue", "a cat on a cube"]
    scores = scorer([draw_image(seed) for seed in range(8)], texts)
    for hook in hooks:
        hook.remove()
    assert scores.shape == (8, 8)
    assert rows == {"images": 8, "texts": 8}


def test_a_score_does_not_depend_on_its_company(scorer):
    images = [draw_image(seed, size) for seed, size in enumerate([(12, 10), (300, 40), (64, 64)])]
    texts = [*SHORT, *LONG]
    together = scorer(images, texts)
    backwards = scorer(images[::-1], texts[::-1]).flip(0, 1)
    alone = torch.stack([torch.cat([scorer(p, t)[0] for t in texts]) for p in images])
    torch.testing.assert_close(backwards, together, rtol=0, atol=1e-6)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "texts", [SHORT, [*SHORT, LONG[0]], LONG[:1]], ids=["short", "mixed", "long"]
)
@pytest.mark.parametrize("custom", [False, True])
def test_a_causal_tower_reads_up_to_the_last_end_token_and_answers_the_same(
    texts, custom, checkpoint, tmp_path
):
    config = json.loads(Path(arch("tiny-ViT-H")).read_text())
    (tmp_path / "tiny.json").write_text(json.dumps(config | {"custom_text": custom}))
    # In float64, where nothing but what is computed can make a difference.
    scorer = t2v_eval.load(
        "open_clip", checkpoint=checkpoint, arch=str(tmp_path / "tiny.json"), dtype="float64"
    )
    ids = scorer.tokenizer(texts)
    calls = []
    tower = getattr(scorer.network, "text", scorer.network)
    hook = tower.transformer.register_forward_pre_hook(lambda m, x: calls.append(x[0].shape[1]))
    with torch.inference_mode():
        short = scorer.encode_texts(texts)
        uncut = scorer.network.encode_text(ids)
    hook.remove()
    assert calls == [int((ids != 0).sum(1).max()), 77]
    torch.testing.assert_close(short, uncut, rtol=0, atol=1e-12)


def test_a_tower_that_looks_ahead_is_not_cut(tmp_path):
    scorer = load_case(CASES["cos_siglip_like"], tmp_path)
    calls = []
    scorer.network.text.transformer.register_forward_pre_hook(lambda m, x: calls.append(x[0].shape))
    scorer(draw_image(0), SHORT)
    assert calls == [(3, 64, 8)]


def test_texts_over_the_limit_are_counted_and_keep_their_end_token(scorer):
    exact = " ".join(["cat"] * 75)
    with pytest.warns(T2VWarning, match="2 of 4 texts are longer"):
        scores = scorer(draw_image(0), ["cat", exact, exact + " cat", exact + " red"])
    assert scores[0, 1] == scores[0, 2] == scores[0, 3]
    assert scorer.tokenizer([exact + " cat"])[0, -1] == scorer.tokenizer.eot_token_id


def test_the_card_lists_what_open_clip_publishes():
    listed = {name: card.args for name, card in models.cards.items() if card.entry == "OpenClip"}
    for name, args in listed.items():
        assert name == "open_clip" or name == f"{args['pretrained']}:{args['arch']}"
    missing = {f"{tag}:{name}" for name, tag in open_clip.list_pretrained()} - set(listed)
    assert not missing, f"open_clip {open_clip.__version__} publishes more: add them to the card"


def test_the_card_says_how_open_clip_resizes_for_the_weights():
    modes = {"shortest": "crop", "squash": "stretch"}
    for card in models.cards.values():
        if card.entry in ("OpenClip", "OpenClipProbability") and "pretrained" in card.args:
            tag = open_clip.get_pretrained_cfg(card.args["arch"], card.args["pretrained"])
            expected = modes[tag["resize_mode"]] if tag else card.geometry  # or an older OpenCLIP
            assert card.geometry == expected, card.name


@pytest.mark.parametrize("tag, quick", [("openai", True), ("laion2b_s34b_b79k", False)])
def test_published_weights_run_with_the_activation_they_were_trained_with(
    tag, quick, monkeypatch, tmp_path
):
    config = json.loads(Path(arch("tiny-ViT-H")).read_text())
    monkeypatch.setattr(open_clip.factory, "get_model_config", lambda name: config)
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: config)
    scorer = t2v_eval.load(f"{tag}:ViT-B-32", checkpoint=open_clip_file(tmp_path))
    kinds = {type(m).__name__ for m in scorer.network.modules()}
    assert ("QuickGELU" in kinds, "GELU" in kinds) == (quick, not quick)


def test_a_folder_in_the_layout_of_the_hub_says_what_it_is(tmp_path, checkpoint):
    settings = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
    config = {
        "model_cfg": json.loads(Path(arch("tiny-ViT-H")).read_text()),
        "preprocess_cfg": settings,
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    torch.save(tensors("open_clip"), tmp_path / "open_clip_pytorch_model.bin")
    scorer = t2v_eval.load("open_clip", checkpoint=str(tmp_path))
    assert scorer.preprocess(draw_image(0, (4, 8))).shape == (3, 224, 224)
    assert scorer.preprocess(draw_image(0)).max() <= 1
    assert (
        scorer.id != t2v_eval.load("open_clip", checkpoint=checkpoint, arch=arch("tiny-ViT-H")).id
    )


class Touch:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pt").write_bytes(pickle.dumps({"state_dict": Touch()}, protocol=2))
    with pytest.raises(CheckpointError, match="bad.pt"):
        t2v_eval.load("open_clip", checkpoint="bad.pt", arch=arch("tiny-ViT-H"))
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize("broken", ["missing", "unexpected", "shape"])
def test_weights_of_another_model_are_refused(broken, tmp_path):
    weights = tensors("open_clip")
    if broken == "missing":
        del weights["visual.proj"]
    elif broken == "unexpected":
        weights["visual.extra"] = torch.zeros(1)
    else:
        weights["visual.proj"] = torch.zeros(32, 99)
    torch.save(weights, tmp_path / "tiny.pt")
    with pytest.raises(CheckpointError, match="does not fit.*visual\\.(proj|extra)"):
        t2v_eval.load("open_clip", checkpoint=str(tmp_path / "tiny.pt"), arch=arch("tiny-ViT-H"))


def test_wrong_architectures_are_named(checkpoint, tmp_path):
    (tmp_path / "bad.json").write_text('{"embed_dim": 8, "vision_cfg": {}}')
    with pytest.raises(UnknownNameError, match="Did you mean 'ViT-B-32'"):
        t2v_eval.load("open_clip", checkpoint=checkpoint, arch="ViT-B-23")
    with pytest.raises(InputError, match=r"bad\.json"):
        t2v_eval.load("open_clip", checkpoint=checkpoint, arch=str(tmp_path / "bad.json"))
    with pytest.raises(InputError, match=r"gone\.json"):
        t2v_eval.load("open_clip", checkpoint=checkpoint, arch=str(tmp_path / "gone.json"))
    with pytest.raises(InputError, match="`checkpoint=` and `arch="):
        t2v_eval.load("open_clip", checkpoint=checkpoint)
    with pytest.raises(CheckpointError, match=r"gone\.pt"):
        t2v_eval.load("open_clip", checkpoint="/gone.pt", arch="ViT-B-32")
    with pytest.raises(UnknownNameError, match="Did you mean 'openai:ViT-B-32'"):
        t2v_eval.load("openai:ViT-B-23")


def test_without_the_hub_the_error_names_the_weights_and_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        CheckpointError, match=r"timm/vit_base_patch32_clip_224.openai.*checkpoint="
    ):
        t2v_eval.load("openai:ViT-B-32", cache_dir=str(tmp_path))
