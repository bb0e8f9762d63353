"""MPS on a small random model, against its formulas written down once more."""

from __future__ import annotations

import math
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models.clip_goldens import hf_clip_folder
from helpers.models.mps import HEAD, HEADS, LAYERS, make_checkpoint, make_weights
from helpers.toy import draw_image
from safetensors.torch import save_file
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

import t2v_eval
from t2v_eval.errors import CheckpointError, T2VWarning, TemplateError
from t2v_eval.registry import models

CONDITION = "light, color, shape"
TEXTS = ["a red cube on a blue sphere", "", "A photo of a cat sleeping on a windowsill.", "a dog"]
pytestmark = pytest.mark.filterwarnings("ignore:.*longer than the model reads")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    return hf_clip_folder(tmp_path_factory.mktemp("clip"), "pickscore", "gelu")


@pytest.fixture(scope="module")
def weights(clip) -> dict[str, torch.Tensor]:
    return make_weights(clip)


@pytest.fixture(scope="module")
def checkpoint(clip, tmp_path_factory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("mps-overall"), clip)


def load(checkpoint, **options):
    options = {"condition": CONDITION, "device": "cpu", **options}
    return t2v_eval.load("mps-overall", checkpoint=checkpoint, **options)


@pytest.fixture(scope="module")
def scorer(checkpoint):
    return load(checkpoint)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def norm(x, weight, bias):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(
        x.var(-1, keepdims=True) + 1e-5
    ) * weight + bias


def swiglu(x):
    half = x.shape[-1] // 2
    return x[:, half:] / (1 + np.exp(-x[:, half:])) * x[:, :half]


def turned(vector, position, frequencies):
    """Each pair of numbers, half a head apart, as a complex number that is turned."""
    half = len(vector) // 2
    turned = (vector[:half] + 1j * vector[half:]) * np.exp(1j * position * frequencies)
    return np.concatenate([turned.real, turned.imag])


def by_hand(clip, weights, image, text, threshold=0.3):
    """The score of one pair in float64, one head and one token at a time."""
    network = CLIPModel.from_pretrained(clip).double()
    tokenizer = AutoTokenizer.from_pretrained(clip)
    processor = AutoImageProcessor.from_pretrained(clip, backend="pil")

    def read(text):
        ids = tokenizer(text, padding="max_length", truncation=True, max_length=77).input_ids
        out = network.text_model(torch.tensor([ids]))
        projected = (
            network.text_projection(out.last_hidden_state[0]),
            network.text_projection(out[1][0]),
        )
        return [x.detach().numpy() for x in projected]

    pixels = processor(image, return_tensors="pt").pixel_values.double()
    x = (
        network.visual_projection(network.vision_model(pixels).last_hidden_state[0])
        .detach()
        .numpy()
    )
    (words, end), (condition, _) = read(text), read(CONDITION)
    near = np.array([max(w @ c for c in condition) for w in words])
    words = words[near / near.max() > threshold]
    for n in range(LAYERS):
        prefix = f"cross_model.layers.{n}."
        w = {name.removeprefix(prefix): t.double().numpy() for name, t in weights.items()}
        y = norm(x, w["0.fn.norm.weight"], w["0.fn.norm.bias"])
        keys, values = np.split(words @ w["0.fn.to_kv.weight"].T, 2, axis=-1)
        out = np.zeros((len(y), HEADS, HEAD))
        for i, queries in enumerate((y @ w["0.fn.to_q.weight"].T).reshape(len(y), HEADS, HEAD)):
            for h in range(HEADS):
                out[i, h] = softmax(keys @ queries[h] / math.sqrt(HEAD)) @ values
        x = x + out.reshape(len(y), -1) @ w["0.fn.to_out.weight"].T
        x = x + swiglu(y @ w["0.fn.ff.0.weight"].T) @ w["0.fn.ff.2.weight"].T
        y = norm(x, w["1.fn.norm.weight"], w["1.fn.norm.bias"])
        cuts = np.cumsum([HEADS * HEAD, HEAD, HEAD])
        queries, keys, values, inner = np.split(
            y @ w["1.fn.fused_attn_ff_proj.weight"].T, cuts, axis=-1
        )
        frequencies = w["1.fn.rotary_emb.inv_freq"]
        keys = np.stack([turned(k, j, frequencies) for j, k in enumerate(keys)])
        for i, own_queries in enumerate(queries.reshape(len(y), HEADS, HEAD)):
            for h in range(HEADS):
                query = turned(own_queries[h], i, frequencies)
                out[i, h] = softmax(keys @ query / math.sqrt(HEAD)) @ values
        x = x + out.reshape(len(y), -1) @ w["1.fn.attn_out.weight"].T
        x = x + swiglu(inner) @ w["1.fn.ff_out.1.weight"].T
    cosine = x[0] @ end / np.sqrt((x[0] @ x[0]) * (end @ end))
    return network.logit_scale.exp().item() * cosine


@pytest.mark.parametrize("threshold", [0.3, 0.01, 0.9])
def test_equals_the_formulas(threshold, checkpoint, clip, weights):
    images = [draw_image(seed, (40 + seed, 30)) for seed in range(2)]
    scores = load(checkpoint, threshold=threshold)(images, TEXTS)
    expected = [[by_hand(clip, weights, p, t, threshold) for t in TEXTS] for p in images]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4)


def test_the_threshold_and_the_condition_matter_and_are_in_the_id(checkpoint, scorer):
    image = draw_image(0, (40, 30))
    others = [load(checkpoint, threshold=0.9), load(checkpoint, condition="a dog")]
    for other in others:
        assert (other(image, TEXTS) - scorer(image, TEXTS)).abs().max() > 1e-3
    assert len({s.id for s in (scorer, *others)}) == 3


def test_probabilities_are_over_the_candidates(scorer):
    images = [draw_image(seed) for seed in range(3)]
    shares = scorer.probabilities(images, TEXTS[0])
    torch.testing.assert_close(shares, scorer(images, TEXTS[0])[:, 0].softmax(0))


def test_an_image_is_encoded_once_and_a_text_once_a_batch(checkpoint):
    scorer = load(checkpoint, batch_size=64)
    rows = []
    for tower in (scorer.clip.vision_model, scorer.clip.text_model):
        tower.register_forward_hook(lambda m, args, out: rows.append(len(out.pooler_output)))
    scorer([draw_image(seed) for seed in range(8)], [f"{n} cats" for n in range(8)])
    assert rows == [8, 8]


def test_a_score_does_not_depend_on_its_company(scorer, checkpoint):
    sizes = [(12, 10), (300, 40), (64, 64), (33, 70)]
    images = [draw_image(seed, sizes[seed % 4]) for seed in range(16)]
    texts = [*TEXTS, "cat " * 100]
    together = scorer(images, texts)
    backwards = load(checkpoint, batch_size=3)(images[::-1], texts[::-1]).flip(0, 1)
    alone = torch.stack([torch.cat([scorer(p, t)[0] for t in texts]) for p in images[:4]])
    torch.testing.assert_close(backwards, together, rtol=0, atol=1e-5)
    torch.testing.assert_close(alone, together[:4], rtol=0, atol=1e-5)


def test_texts_over_the_limit_and_templates(scorer):
    exact = " ".join(["cat"] * 75)
    with pytest.warns(T2VWarning, match="1 of 2 texts are longer"):
        scores = scorer(draw_image(0), [exact, exact + " red" * 100])
    torch.testing.assert_close(scores[0, 0], scores[0, 1])
    templated = scorer(draw_image(0), "cube", question_template="a red {}")
    torch.testing.assert_close(templated, scorer(draw_image(0), "a red cube"))
    with pytest.raises(TemplateError, match="gives no answer"):
        scorer(draw_image(0), "cube", answer_template="Yes")


def test_a_state_dictionary_and_a_clip_elsewhere(checkpoint, clip, weights, scorer, tmp_path):
    torch.save({"state_dict": weights}, tmp_path / "mps.pth")
    apart = load(tmp_path / "mps.pth", clip=clip)
    torch.testing.assert_close(apart(draw_image(0), TEXTS), scorer(draw_image(0), TEXTS))
    with pytest.raises(CheckpointError, match=r"clip 'laion/CLIP-ViT-H-14.*clip='DIR'"):
        load(tmp_path / "mps.pth", local_files_only=True, cache_dir=str(tmp_path / "cache"))
    with pytest.raises(CheckpointError, match="is no CLIP of transformers"):
        load(tmp_path / "mps.pth", clip=str(tmp_path))


class Touch:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def test_the_pickled_module_of_the_authors_is_refused_and_not_run(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "MPS_overall_checkpoint.pth"
    torch.save(torch.nn.Linear(2, 2), file)
    with pytest.raises(CheckpointError, match=r"MPS_overall.*Convert it to safetensors"):
        load(file, clip=clip)
    file.write_bytes(pickle.dumps(Touch(), protocol=2))
    with pytest.raises(CheckpointError, match=r"MPS_overall"):
        load(file, clip=clip)
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize("broken", ["model.logit_scale", "cross_model.layers.1.0.fn.to_q.weight"])
def test_weights_that_do_not_fit_are_refused(broken, clip, weights, tmp_path):
    save_file({n: t for n, t in weights.items() if n != broken}, tmp_path / "mps.safetensors")
    with pytest.raises(CheckpointError, match=f"lacks weights {broken}"):
        load(tmp_path / "mps.safetensors", clip=clip)
    save_file(weights | {"other.weight": torch.zeros(1)}, tmp_path / "mps.safetensors")
    with pytest.raises(CheckpointError, match="unexpected weights other.weight"):
        load(tmp_path / "mps.safetensors", clip=clip)


def test_card_and_weights_that_are_not_here(tmp_path):
    assert models.card("mps-overall").kind == "preference"
    assert models.card("mps-overall").verified.startswith("architecture")
    with pytest.raises(CheckpointError, match=r"RE-N-Y/mpsv1.*checkpoint='DIR'"):
        t2v_eval.load("mps-overall", local_files_only=True, cache_dir=str(tmp_path))
