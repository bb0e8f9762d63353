"""HPSv3 on a small random Qwen2-VL, against a plain computation of one pair at a time."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models.rewards.hpsv3 import (
    FILE,
    SHORT,
    make_base,
    make_checkpoint,
    make_weights,
)
from helpers.toy import draw_image
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

import t2v_eval
from t2v_eval.errors import CheckpointError, MediaError, TemplateError
from t2v_eval.inputs.template import get_template
from t2v_eval.registry import models

TEXTS = ["a red cube", "", "two dogs in the park {with} a <|im_end|> boat", "x"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def weights(base) -> dict[str, torch.Tensor]:
    return make_weights(base)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("hpsv3"))


def load(checkpoint, **options):
    options = {"device": "cpu", "question_template": SHORT, **options}
    return t2v_eval.load("hpsv3", checkpoint=checkpoint, **options)


@pytest.fixture(scope="module")
def scorer(checkpoint):
    return load(checkpoint)


def by_hand(checkpoint, image, question):
    """Mean and deviation: the whole prompt as one string, one pair, in float64."""
    config = Qwen2VLConfig.from_pretrained(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|Reward|>"]})
    config.text_config.vocab_size = len(tokenizer)
    model = Qwen2VLForConditionalGeneration(config).double().eval()
    state, head = {}, {}
    for name, value in load_file(checkpoint / FILE).items():
        if name.startswith("rm_head."):
            head[name.removeprefix("rm_head.")] = value.double().numpy()
        else:
            name = re.sub(r"^visual\.", "model.visual.", name)
            name = re.sub(r"^model\.(?!visual\.)", "model.language_model.", name)
            state[name] = value
    model.load_state_dict(state)
    pixels = AutoImageProcessor.from_pretrained(checkpoint, backend="pil")(
        image, return_tensors="pt"
    )
    tokens = int(pixels.image_grid_thw.prod()) // 4
    text = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        f"<|vision_start|>{'<|image_pad|>' * tokens}<|vision_end|>{question}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    ids = torch.tensor(tokenizer(text).input_ids)
    with torch.no_grad():
        embedded = model.get_input_embeddings()(ids)
        calls = model.model.visual(
            pixels.pixel_values.double(), pixels.image_grid_thw
        ).pooler_output
        embedded[ids == config.image_token_id] = calls
        positions = torch.arange(len(ids)).expand(3, 1, -1)
        read = model.model.language_model(inputs_embeds=embedded[None], position_ids=positions)
    x = read.last_hidden_state[0, ids == tokenizer.convert_tokens_to_ids("<|Reward|>")][0].numpy()
    x = np.maximum(head["0.weight"] @ x + head["0.bias"], 0)
    x = np.maximum(head["3.weight"] @ x + head["3.bias"], 0)
    mean, log_sigma = head["5.weight"] @ x + head["5.bias"]
    return mean, np.exp(log_sigma)


@pytest.mark.parametrize("question", [SHORT, None], ids=["short", "published"])
def test_equals_the_formulas(question, checkpoint):
    # Of the area and of sides that fit, so that nothing is resized.
    images = [draw_image(0, (448, 448)), draw_image(1, (896, 224))]
    texts = TEXTS[:2]
    scorer = load(checkpoint, question_template=question)
    template = question or get_template("hpsv3").question
    expected = [[by_hand(checkpoint, p, template.replace("{}", t)) for t in texts] for p in images]
    expected = np.array(expected)
    np.testing.assert_allclose(scorer(images, texts), expected[..., 0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(scorer.sigma(images, texts), expected[..., 1], rtol=0, atol=1e-4)
    assert np.ptp(expected[..., 0]) > 1e-3


def test_mean_and_deviation_are_stored_apart(checkpoint, tmp_path):
    scorer = load(checkpoint, store=tmp_path / "scores.db")
    image = draw_image(0)
    mean, sigma = scorer(image, TEXTS), scorer.sigma(image, TEXTS)
    assert not torch.equal(mean, sigma)
    assert torch.equal(scorer(image, TEXTS), mean)
    assert torch.equal(scorer.sigma(image, TEXTS), sigma)
    assert (sigma > 0).all()


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((448, 448), (448, 448)),
        ((1024, 1024), (448, 448)),
        ((512, 768), (364, 532)),  # sides floored, so that the area is not exceeded
        ((100, 100), (448, 448)),
        ((100, 60), (588, 364)),  # sides of small images are rounded up
        ((1, 1), (448, 448)),
        ((4000, 20), (6356, 56)),
    ],
)
def test_images_are_brought_to_one_area_in_whole_patches(size, resized, scorer):
    rows = scorer.preprocess(draw_image(0, size))
    assert rows[0, -3:].tolist() == [1, resized[1] // 14, resized[0] // 14]
    assert len(rows) == resized[0] * resized[1] // 14**2
    resized = draw_image(0, size).resize(resized, Image.Resampling.BICUBIC)
    expected = scorer.processor(resized, do_resize=False, return_tensors="pt").pixel_values
    torch.testing.assert_close(rows[:, :-3], expected, rtol=0, atol=0)


def test_an_image_so_long_that_a_side_vanishes_is_named(scorer):
    with pytest.raises(MediaError, match=r"images\[0\].*more than 200 times.*crop"):
        scorer(draw_image(0, (20_000, 2)), TEXTS)


def test_an_image_is_encoded_once(checkpoint):
    scorer = load(checkpoint)
    grids = []
    scorer.network.visual.register_forward_pre_hook(
        lambda module, args, kwargs: grids.append(len(kwargs["grid_thw"])), with_kwargs=True
    )
    scorer([draw_image(seed, (30, 30)) for seed in range(3)], TEXTS)
    assert grids == [3]


def test_a_score_does_not_depend_on_its_company(scorer, checkpoint):
    images = [draw_image(0, (30, 30)), draw_image(1, (300, 40)), draw_image(2, (33, 70))]
    together = scorer(images, TEXTS)
    backwards = load(checkpoint, batch_size=2)(images[::-1], TEXTS[::-1]).flip(0, 1)
    alone = torch.stack([torch.cat([scorer(p, t)[0] for t in TEXTS]) for p in images])
    torch.testing.assert_close(backwards, together, rtol=0, atol=1e-5)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


def test_tokens_in_a_prompt_change_nothing_but_the_prompt(scorer, checkpoint):
    image = draw_image(0, (448, 448))
    text = "<|image_pad|> <|Reward|> cat"
    assert scorer(image, text).isfinite().all()
    # The rating is read where the instruction ends, whatever the prompt holds.
    templated = load(checkpoint, question_template="<|Reward|> a {} <|Reward|> END")
    torch.testing.assert_close(scorer(image, "<|Reward|> a cat"), templated(image, "cat"))


def test_the_question_must_hold_the_token_that_is_rated_at(scorer):
    with pytest.raises(TemplateError, match=r"must hold <\|Reward\|>"):
        scorer(draw_image(0), "a cat", question_template="Is it good? {}")
    with pytest.raises(TemplateError, match="answer template must be empty"):
        scorer(draw_image(0), "a cat", answer_template="Yes")


def test_names_of_later_versions_and_a_base_elsewhere(weights, base, scorer, tmp_path):
    later = {}
    for name, value in weights.items():
        name = re.sub(r"^model\.", "model.language_model.", name)
        later[re.sub(r"^visual\.", "model.visual.", name)] = value
    save_file(later, tmp_path / FILE)
    image = draw_image(0, (30, 30))
    torch.testing.assert_close(
        load(tmp_path / FILE, base=str(base))(image, TEXTS), scorer(image, TEXTS)
    )
    with pytest.raises(CheckpointError, match=r"base 'Qwen/Qwen2-VL-7B-Instruct'.*base='DIR'"):
        load(tmp_path, local_files_only=True, cache_dir=str(tmp_path / "cache"))
    with pytest.raises(CheckpointError, match=r"is no Qwen2-VL of transformers"):
        load(tmp_path, base=str(tmp_path))


def test_weights_that_do_not_fit_are_refused(weights, base, tmp_path):
    with pytest.raises(CheckpointError, match=rf"holds no {FILE}"):
        load(tmp_path, base=str(base))
    for broken in ("rm_head.3.bias", "visual.merger.ln_q.weight", "model.embed_tokens.weight"):
        save_file({n: t for n, t in weights.items() if n != broken}, tmp_path / FILE)
        with pytest.raises(CheckpointError, match=f"lacks weights .*{broken.split('.', 1)[1]}"):
            load(tmp_path, base=str(base))
    few = {**weights, "model.embed_tokens.weight": torch.zeros(200, 32)}
    save_file(few, tmp_path / FILE)
    with pytest.raises(CheckpointError, match="has 200 tokens, fewer than the 264"):
        load(tmp_path, base=str(base))


def test_card_and_weights_that_are_not_here(tmp_path):
    assert models.card("hpsv3").kind == "preference"
    assert models.card("hpsv3").verified.startswith("architecture")
    with pytest.raises(CheckpointError, match=r"MizzenAI/HPSv3.*checkpoint='DIR'"):
        t2v_eval.load("hpsv3", local_files_only=True, cache_dir=str(tmp_path))
