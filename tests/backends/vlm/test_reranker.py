"""Qwen3-VL-Reranker: scores of the authors' formula, from transformers' model and processor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.models.tiny_vlm import TINY, save_tiny
from helpers.toy import draw_image
from transformers import AutoModelForImageTextToText, AutoProcessor

import t2v_eval

TEXTS = ["a cat", "two dogs next to the tall lighthouse", ""]
SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".'
)
INSTRUCTION = "Retrieve images or text relevant to the user's query."


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny(tmp_path_factory, TINY["qwen3_vl"])


def reranked(folder, image, text: str) -> float:
    """Return the sigmoid of the difference of two logits, of the authors' conversation."""
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    content = [
        {"type": "text", "text": "<Instruct>: " + INSTRUCTION},
        {"type": "text", "text": "<Query>:"},
        {"type": "image"},
        {"type": "text", "text": "\n<Document>:"},
        {"type": "text", "text": text},
    ]
    system = {"role": "system", "content": [{"type": "text", "text": SYSTEM}]}
    chat = [system, {"role": "user", "content": content}]
    prompt = processor.apply_chat_template(chat, add_generation_prompt=True)
    inputs = processor(text=[prompt], images=[image], do_resize=False, return_tensors="pt")
    vocabulary = processor.tokenizer.get_vocab()
    with torch.no_grad():
        logits = model(**inputs).logits[0, -1]
    return float(torch.sigmoid(logits[vocabulary["yes"]] - logits[vocabulary["no"]]))


def test_scores_are_those_of_the_authors_formula(checkpoint):
    scorer = t2v_eval.load("qwen3-vl-reranker-2b", checkpoint=checkpoint, device="cpu")
    images = [draw_image(seed, (64, 96)) for seed in range(2)]
    expected = [[reranked(checkpoint, image, text) for text in TEXTS] for image in images]
    np.testing.assert_allclose(scorer(images, TEXTS), expected, rtol=2e-5)
    assert scorer.sharing_mode == "prefix shared, packed"
    assert len(np.unique(expected)) == 6
