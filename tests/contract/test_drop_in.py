"""Scripts written for t2v_metrics run with the import changed."""

from __future__ import annotations

import re

import pytest
import torch
from helpers import site_hooks

import t2v_eval as t2v_metrics
from t2v_eval.errors import UnknownNameError
from t2v_eval.registry import benchmarks, models
from t2v_eval.utils.card_tables import read_refused

MODEL = "tiny-clip-flant5"


@pytest.fixture(scope="module")
def items():
    return benchmarks.create("scenes").items()[:3]


@pytest.fixture(scope="module")
def paths(items, tmp_path_factory):
    """The images of the first items as files, two an item."""
    folder = tmp_path_factory.mktemp("images")
    blocks = []
    for n, item in enumerate(items):
        row = [str(folder / f"{n}_{k}.png") for k in range(2)]
        for path, image in zip(row, item.images, strict=True):
            image.save(path)
        blocks.append(row)
    return blocks


@pytest.fixture(scope="module")
def score_func():
    return t2v_metrics.VQAScore(model=MODEL, device="cpu")


def test_one_pair_and_a_matrix(score_func, items, paths):
    image, text = paths[0][0], items[0].texts[0]
    score = score_func(images=[image], texts=[text])
    scores = score_func(images=paths[0], texts=list(items[0].texts))
    assert scores.shape == (2, 2)
    torch.testing.assert_close(scores[:1, :1], score, atol=1e-5, rtol=0)
    assert scores[0, 0] > scores[0, 1], "the first image shows the first text"


def test_batch_forward(score_func, items, paths):
    dataset = [
        {"images": images, "texts": list(item.texts)[:1]}
        for images, item in zip(paths, items, strict=True)
    ]
    scores = score_func.batch_forward(dataset=dataset, batch_size=16)
    assert scores.shape == (3, 2, 1)
    alone = score_func(images=paths[1], texts=dataset[1]["texts"])
    torch.testing.assert_close(scores[1], alone, atol=1e-5, rtol=0)


def test_templates(score_func, items, paths):
    texts = list(items[0].texts)
    question = 'Is this figure showing "{}"? Please answer yes or no.'
    scores = score_func(
        images=paths[0], texts=texts, question_template=question, answer_template="Yes"
    )
    assert scores.shape == (2, 2)
    captioning = score_func(
        images=paths[0], texts=texts, question_template="", answer_template="{}"
    )
    assert ((captioning > 0) & (captioning < 1)).all()
    assert not torch.allclose(captioning, scores)


def test_generate(score_func, paths):
    prompts = ["Please describe this image: ", "Describe the figure."]
    answers = score_func.model.generate(images=paths[0], prompts=prompts)
    assert len(answers) == 2 and all(isinstance(answer, str) for answer in answers)
    assert score_func.model.generate(images=paths[0], texts=prompts) == answers


def test_lists_of_models():
    assert "clip-flant5-xxl" in t2v_metrics.list_all_vqascore_models()
    assert "openai:ViT-L-14-336" in t2v_metrics.list_all_clipscore_models()
    assert {"hpsv2", "pickscore-v1", "blip2-itc"} <= set(t2v_metrics.list_all_clipscore_models())
    assert "blip2-itm" in t2v_metrics.list_all_itmscore_models()
    assert set(t2v_metrics.list_all_vqascore_models()) < set(t2v_metrics.list_all_models())


def test_clipscore_and_get_score_model(paths, tmp_path):
    clip = t2v_metrics.CLIPScore(model="tiny-clip", device="cpu", cache_dir=str(tmp_path))
    same = t2v_metrics.get_score_model(model="tiny-clip", device="cpu", cache_dir=str(tmp_path))
    scores = clip(images=paths[0], texts=["a red circle", "a blue square"])
    torch.testing.assert_close(scores, same(paths[0], ["a red circle", "a blue square"]))


def test_the_wrong_kind_is_named():
    with pytest.raises(UnknownNameError, match="It is of kind 'clip'"):
        t2v_metrics.VQAScore(model="tiny-clip")
    with pytest.raises(UnknownNameError, match="Did you mean 'blip2-itm'"):
        t2v_metrics.ITMScore(model="blip2-itn")


def test_a_name_that_is_refused_says_why():
    with pytest.raises(UnknownNameError, match="'llama-3.2-1b' reads text alone, and no images"):
        t2v_metrics.VQAScore(model="llama-3.2-1b")
    with pytest.raises(UnknownNameError, match="is called 'qwen3-vl-235b-a22b' since"):
        t2v_metrics.load("qwen3-vl-235b")


KINDS = {"VQAScore": {"vqa"}, "ITMScore": {"itm"}, "CLIPScore": {"clip", "preference"}}


def test_every_name_in_the_tables_of_its_readmes_is_a_model_or_refused_with_a_reason():
    refused = read_refused("t2v_eval.backends")
    seen = set()
    for version, kind, _, names in site_hooks.load("tables").t2v_metrics_names():
        seen.add(version)
        for name in names:
            if name in refused:
                with pytest.raises(UnknownNameError, match=re.escape(refused[name])):
                    t2v_metrics.load(name)
            else:
                assert models.card(name).kind in KINDS[kind], name
    assert seen == {"3.0", "3.1"}


def test_what_is_refused_is_no_model():
    both = read_refused("t2v_eval.backends").keys() & models.cards.keys()
    assert not both, f"take {both} out of backends/_refused.toml"
