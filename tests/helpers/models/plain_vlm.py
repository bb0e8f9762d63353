"""Vision-language models asked through transformers alone: what ours is compared with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

QUESTION = 'Does this figure show "{}"? Please answer yes or no.'


def first_token_of_yes(
    folder: Path, anew: bool = False
) -> Callable[[list[dict[str, Any]], str], float]:
    """P(first token of Yes) for what a message shows and a text, one pair at a time.

    Args:
        anew: whether every pair has a copy of the model, which has read nothing before.
    """
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    yes = processor.tokenizer("Yes", add_special_tokens=False).input_ids[0]

    @torch.no_grad()
    def score(seen: list[dict[str, Any]], text: str, **options: Any) -> float:
        words = {"type": "text", "text": QUESTION.replace("{}", text)}
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": [*seen, words]}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=options,
        )
        reader = copy.deepcopy(model) if anew else model
        return float(reader(**inputs).logits[0, -1].softmax(-1)[yes])

    return score


def of_images(images: list[Any]) -> list[dict[str, Any]]:
    """Images as contents of a message."""
    return [{"type": "image", "image": image} for image in images]
