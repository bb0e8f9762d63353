"""InstructBLIP-FlanT5 against what t2v_metrics answers, and against the network as it comes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models.checks import (
    check_against_pairs,
    check_company,
    check_golden,
    count_rows,
    draw_sizes,
)
from safetensors.torch import load_file, save_file
from transformers import BertTokenizer, InstructBlipForConditionalGeneration, T5Tokenizer

import t2v_eval
from t2v_eval.errors import CheckpointError, InputError, T2VWarning
from t2v_eval.scoring.plan import Block

FOLDER = Path(__file__).parents[2] / "goldens" / "vqa" / "instructblip"
CHECKPOINT = FOLDER / "checkpoint" / "hf"
CASES = json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))
NOTICES = {
    "question_without_placeholder": "has a placeholder",
    "truncate_left_128": "2 of 3 texts",
}
TEXTS = ["cat", "the tall lighthouse stands next to the calm river", "two dogs", ""]


def load(checkpoint: Path = CHECKPOINT, **options):
    return t2v_eval.load("instructblip-flant5-xl", checkpoint=checkpoint, device="cpu", **options)


@pytest.fixture(scope="session")
def scorer():
    return load(image_mode="original")


@pytest.fixture(scope="session")
def images():
    return draw_sizes()


@pytest.fixture(scope="session")
def plain():
    """One pair at a time with the unchanged class of transformers: the oracle."""
    model = InstructBlipForConditionalGeneration.from_pretrained(CHECKPOINT).eval()
    t5 = T5Tokenizer.from_pretrained(CHECKPOINT)
    bert = BertTokenizer.from_pretrained(CHECKPOINT / "qformer_tokenizer")

    @torch.no_grad()
    def score(scorer, image, question: str, answer: str) -> float:
        def ids(tokenizer, text: str) -> torch.Tensor:
            return torch.tensor([tokenizer(text, split_special_tokens=True).input_ids])

        labels = ids(t5, answer)
        queries = torch.full((1, model.config.num_query_tokens), model.config.image_token_index)
        logits = model(
            pixel_values=scorer.preprocess(image)[None],
            qformer_input_ids=ids(bert, question),
            input_ids=torch.cat([queries, ids(t5, question)], 1),
            labels=labels,
        ).logits[0]
        return float(logits.log_softmax(-1).gather(1, labels.T).mean().exp())

    return score


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_golden(case, scorer):
    check_golden(scorer, case, FOLDER, NOTICES)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ('Question: Does this figure show "{}"? Please answer yes or no.', "yes"),
        ("", "{}"),
        ("{} or {}?", "No, {}"),
        ("{}", "a long answer " * 9),
        ("{}", ""),
    ],
)
def test_shared_work_gives_what_one_pair_at_a_time_gives(scorer, plain, images, question, answer):
    check_against_pairs(scorer, plain, images, TEXTS, question, answer)


def test_a_score_does_not_depend_on_its_batch(scorer, images):
    check_company(scorer, images, TEXTS)


def test_an_image_passes_the_tower_once(images):
    scorer = load()
    rows = count_rows(images=scorer.network.vision_model)
    scorer([*images, images[0]], TEXTS)
    assert rows == {"images": 3}


@pytest.mark.parametrize("text", ["an <image> of {} and {0} {{x}}", "}", "</s> <pad>", "[MASK]"])
def test_no_text_is_taken_for_a_placeholder(scorer, plain, images, text):
    question = f'Question: Does this figure show "{text}"? Please answer yes or no.'
    expected = plain(scorer, images[0], question, "yes")
    assert float(scorer(images[0], text)) == pytest.approx(expected, rel=1e-5)
    together = scorer(images[0], [text, "the tall lighthouse stands next to the calm river"])
    assert float(together[0, 0]) == pytest.approx(expected, rel=1e-5)


def test_generate(scorer, images):
    model = InstructBlipForConditionalGeneration.from_pretrained(CHECKPOINT).eval()
    t5 = T5Tokenizer.from_pretrained(CHECKPOINT)
    bert = BertTokenizer.from_pretrained(CHECKPOINT / "qformer_tokenizer")
    prompts = ["Describe the image.", "What is this? " * 9, "a"]
    generated = scorer.generate(images, prompts, max_new_tokens=6)
    queries = [model.config.image_token_index] * model.config.num_query_tokens
    for image, prompt, text in zip(images, prompts, generated, strict=True):
        tokens = model.generate(
            pixel_values=scorer.preprocess(image)[None],
            qformer_input_ids=torch.tensor([bert(prompt).input_ids]),
            input_ids=torch.tensor([queries + t5(prompt).input_ids]),
            max_new_tokens=6,
            do_sample=False,
        )
        assert t5.decode(tokens[0], skip_special_tokens=True) == text
    with pytest.warns(T2VWarning, match="1 of 1 texts"):
        scorer.generate(images[0], "two small dogs " * 99, max_new_tokens=2)


def test_long_texts_are_cut_and_reported(scorer, images):
    with pytest.warns(T2VWarning, match="1 of 2 texts"):
        outcome = scorer.evaluate_blocks([Block.of(images[0], ["cat", "two small dogs " * 99])])
    assert outcome.truncated == 1
    with pytest.warns(T2VWarning, match="1 of 1 texts"):
        scorer(images[0], "two small dogs " * 99, template="visualgptscore")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_close_and_part_of_the_id(dtype, scorer, images):
    half = load(dtype=dtype, image_mode="original")
    assert f"dtype={dtype}" in half.id
    assert half.t5.encoder.block[0].layer[0].SelfAttention.q.weight.dtype == half.dtype
    np.testing.assert_allclose(half(images, TEXTS), scorer(images, TEXTS), atol=0.05)


def test_what_does_not_fit_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="is no InstructBLIP of transformers"):
        load(FOLDER / "images")
    broken = tmp_path / "broken"
    shutil.copytree(CHECKPOINT, broken)
    tensors = load_file(broken / "model.safetensors")
    missing = "language_projection.bias"
    save_file({n: t for n, t in tensors.items() if n != missing}, broken / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"lacks weights {missing}"):
        load(broken)
    shutil.rmtree(broken / "qformer_tokenizer")
    with pytest.raises(CheckpointError, match="qformer_tokenizer holds no tokenizer"):
        load(broken)
    config = json.loads((broken / "config.json").read_text())
    config["text_config"] = {"model_type": "opt"}
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match="is no InstructBLIP with T5, but instructblip with opt"
    ):
        load(broken)


def test_options_are_checked_before_weights_are_looked_for(tmp_path):
    with pytest.raises(InputError, match="load_in_8bit and load_in_4bit: pass one of them"):
        load(tmp_path / "absent", load_in_8bit=True, load_in_4bit=True)
