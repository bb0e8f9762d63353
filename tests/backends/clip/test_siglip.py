"""SigLIP, SigLIP 2 and MetaCLIP 2 against transformers' own classes, and OpenCLIP's logits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import transformers
from helpers.models.clip_goldens import (
    FOLDER,
    arch,
    cases,
    exact_pixels,
    images,
    open_clip_file,
)
from helpers.models.siglip import LIMIT, MAKERS, TEXTS
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.errors import InputError, T2VWarning
from t2v_eval.registry import models

GOLDEN = cases("open_clip_t2v")["cos_siglip_like"]
SIZES = [(12, 10), (90, 40), (33, 64)]
pytestmark = pytest.mark.filterwarnings("ignore:.*longer than the model reads")


@pytest.fixture(scope="module", params=MAKERS)
def folder(request, tmp_path_factory) -> Path:
    at = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    MAKERS[request.param](at)
    kind = json.loads((at / "config.json").read_text())["model_type"]
    assert kind == request.param
    return at


def oracle(folder: Path, images, texts):
    """What transformers answers: (cosine, logits), or (cosine, logits, probabilities)."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    read = {"max_length": LIMIT, "truncation": True, "return_tensors": "pt"}
    if hasattr(model, "logit_bias"):
        inputs = {"input_ids": tokenizer(texts, padding="max_length", **read).input_ids}
    else:
        inputs = tokenizer(texts, padding=True, **read)
    calls = processor(images, return_tensors="pt")
    with torch.no_grad():
        output = model(**inputs, **calls)
    image, text = output.image_embeds.double(), output.text_embeds.double()
    cosine = torch.nn.functional.normalize(image) @ torch.nn.functional.normalize(text).T
    return cosine, output.logits_per_image


def test_equals_transformers(folder):
    images = [draw_image(seed, size) for seed, size in enumerate(SIZES)]
    cosine, logits = oracle(folder, images, TEXTS)
    result = t2v_eval.load(f"hf-clip:{folder}", device="cpu")(images, TEXTS)
    np.testing.assert_allclose(result, cosine, rtol=0, atol=1e-5)
    result = t2v_eval.load("clip-logits", checkpoint=str(folder), device="cpu")(images, TEXTS)
    np.testing.assert_allclose(result, logits, rtol=1e-5, atol=1e-5)
    name = f"hf-clip-probability:{folder}"
    if "siglip" in folder.name:
        result = t2v_eval.load(name, device="cpu")(images, TEXTS)
        np.testing.assert_allclose(result, logits.sigmoid(), rtol=0, atol=1e-5)
    else:
        with pytest.raises(InputError, match="trained with a sigmoid.*logit_bias"):
            t2v_eval.load(name)


def test_a_score_does_not_depend_on_its_company(folder):
    scorer = t2v_eval.load(f"hf-clip:{folder}")
    images = [draw_image(seed, size) for seed, size in enumerate(SIZES)]
    together = scorer(images, TEXTS)
    backwards = scorer(images[::-1], TEXTS[::-1]).flip(0, 1)
    alone = torch.stack([torch.cat([scorer(p, t)[0] for t in TEXTS]) for p in images])
    torch.testing.assert_close(backwards, together, rtol=0, atol=1e-5)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


def test_only_a_causal_tower_is_cut_to_the_longest_caption(folder):
    # In float64, where nothing but what is computed can make a difference.
    scorer = t2v_eval.load(f"hf-clip:{folder}", dtype="float64")
    calls = []
    embeddings = scorer.clip.text_model.embeddings
    embeddings.register_forward_pre_hook(
        lambda m, args, kwargs: calls.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    with torch.inference_mode():
        result = scorer.encode_texts(["a cat", "two dogs"])
        if "siglip" in folder.name:
            assert calls == [LIMIT]
            return
        assert calls == [4]
        full = scorer.tokenizer(["a cat", "two dogs"], padding="max_length", max_length=LIMIT)
        ids = torch.tensor(full.input_ids)
        uncut = scorer.clip.get_text_features(ids, torch.tensor(full.attention_mask))
    torch.testing.assert_close(result, uncut.pooler_output, rtol=0, atol=1e-12)


def test_texts_over_the_limit_are_counted(folder):
    scorer = t2v_eval.load(f"hf-clip:{folder}")
    with pytest.warns(T2VWarning, match="1 of 5 texts are longer"):
        scorer(draw_image(0), TEXTS)


def test_siglip_reads_lower_case(folder):
    if "siglip" in folder.name:
        scorer = t2v_eval.load(f"hf-clip:{folder}")
        result = scorer(draw_image(0), ["a red cube", "A Red CUBE"])
        assert result[0, 0] == result[0, 1]


# OpenCLIP's


@exact_pixels
def test_the_probability_of_open_clip_is_that_of_its_own_logits(tmp_path):
    file = open_clip_file(tmp_path, "open_clip_siglip_like")
    custom = FOLDER / Path(GOLDEN["params"]["config"]).name
    scorer = t2v_eval.load(
        "open_clip-probability", checkpoint=file, arch=str(custom), image_mode="original"
    )
    assert scorer.bias is not None
    network = scorer.network
    prepared = torch.stack([scorer.preprocess(draw_image(seed)) for seed in range(3)])
    texts = GOLDEN["texts"]
    with torch.no_grad():
        logits, _ = network.get_logits(prepared, scorer.tokenizer(texts))
    result = scorer([draw_image(seed) for seed in range(3)], texts)
    np.testing.assert_allclose(result, logits.sigmoid(), rtol=0, atol=1e-5)
    cosine = np.array(GOLDEN["scores"])
    expected = 1 / (1 + np.exp(-(scorer.scale * cosine + scorer.bias)))
    np.testing.assert_allclose(scorer(images(GOLDEN), texts), expected, rtol=0, atol=1e-5)


def test_the_probability_is_listed_for_what_open_clip_trained_with_a_sigmoid():
    listed = {
        name.removesuffix("-probability"): card.args
        for name, card in models.cards.items()
        if card.entry == "OpenClipProbability"
    }
    del listed["open_clip"]
    expected = {
        f"{tag}:{name}": {"pretrained": tag, "arch": name}
        for name, tag in open_clip.list_pretrained()
        if "init_logit_bias" in open_clip.get_model_config(name)
    }
    missing = set(expected) - set(listed)
    assert not missing, f"open_clip {open_clip.__version__} publishes more: add them to the card"
    for name, args in listed.items():
        assert name == f"{args['pretrained']}:{args['arch']}" and name in models.cards


def test_a_model_without_a_sigmoid_has_no_probability(tmp_path):
    with pytest.raises(InputError, match="trained with a sigmoid"):
        t2v_eval.load(
            "open_clip-probability", checkpoint=open_clip_file(tmp_path), arch=arch("tiny-ViT-H")
        )
