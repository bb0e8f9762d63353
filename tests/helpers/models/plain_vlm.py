"""Vision-language models asked through transformers alone: what ours is compared with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

QUESTION = 'Does this figure show "{}"? Please answer yes or no.'


def reader(
    folder: Path, anew: bool = False
) -> tuple[Callable[..., torch.Tensor], Callable[[str], list[int]]]:
    """What reads contents of a message and a prompt, and what returns the tokens of a text.

    The first returns the probabilities of the first token of the answer.

    Args:
        anew: whether every message has a copy of the model, which has read nothing before.
    """
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)

    @torch.no_grad()
    def read(seen: list[dict[str, Any]], prompt: str, **options: Any) -> torch.Tensor:
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": [*seen, {"type": "text", "text": prompt}]}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=options,
        )
        network = copy.deepcopy(model) if anew else model
        return network(**inputs).logits[0, -1].softmax(-1)

    return read, lambda text: processor.tokenizer(text, add_special_tokens=False).input_ids


def first_token_of_yes(
    folder: Path, anew: bool = False
) -> Callable[[list[dict[str, Any]], str], float]:
    """P(first token of Yes) for what a message shows and a text, one pair at a time.

    Args:
        anew: as for `reader`.
    """
    read, encode = reader(folder, anew)
    yes = encode("Yes")[0]

    def score(seen: list[dict[str, Any]], text: str, **options: Any) -> float:
        return float(read(seen, QUESTION.replace("{}", text), **options)[yes])

    return score


def of_images(images: list[Any]) -> list[dict[str, Any]]:
    """Images as contents of a message."""
    return [{"type": "image", "image": image} for image in images]
