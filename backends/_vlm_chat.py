"""How a picture and a question become what a vision-language model reads.

A chat says what stands before the question, the picture included (`see`), and turns a question and
an answer into the tokens that follow (`ask`). Nothing in a question is taken for a control token.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil, LlamaTokenizer

from t2v_eval.errors import CheckpointError, InputError

from ._images import pad_to_square


class Asked(NamedTuple):
    """The tokens after the picture: the rest of the prompt, and the answer with its end token."""

    prompt: list[int]
    answer: list[int]


class Chat(ABC):
    """One way of talking to a model; `context` is how many tokens fit, as `used` counts them."""

    context: int
    rows: int | None = None  # how many rows of the vocabulary are real; None means all

    @abstractmethod
    def see(self, image: Image.Image) -> dict[str, Tensor]:
        """All inputs of the model for everything up to the question; in decoding threads."""

    @abstractmethod
    def ask(self, question: str, answer: str) -> Asked:
        """The tokens of the rest."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Tokens of a text in which nothing is a control token."""

    def used(self, inputs: dict[str, Tensor]) -> int:
        """How much of the context the inputs of `see` take."""
        return inputs["input_ids"].shape[1]


class LlavaChat(Chat):
    """LLaVA-1.5 as its authors read it: a fixed conversation, each side of the picture by itself.

    Both sides are tokenized as if a text began there, the picture is padded to a square and counts
    as one token of the context, and the answer is tokenized together with the prompt.
    """

    def __init__(self, folder: Path, config: Any, chat: str, context: int) -> None:
        parts = re.fullmatch(r"(.*)<image>(.*)\{\}(.*)", chat, re.DOTALL)
        if parts is None or chat.count("<image>") > 1 or chat.count("{}") > 1:
            raise InputError(f"chat={chat!r} must hold <image> and then {{}}, once each")
        before, self._ask, self._end = parts.groups()
        self.context = context
        try:
            self.tokenizer: Any = LlamaTokenizer.from_pretrained(folder, model_max_length=10**9)
            self.processor: Any = CLIPImageProcessorPil.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{folder} has no tokenizer and processor: {error}") from error
        self.rows = self.tokenizer.vocab_size  # those of Llama; converted weights have some more
        vision = config.vision_config
        patches = (vision.image_size // vision.patch_size) ** 2
        patches += config.vision_feature_select_strategy == "full"
        start = [self.tokenizer.bos_token_id, *self.encode(before)]
        self._used = len(start) + 1
        self._head = torch.tensor([start + patches * [config.image_token_id]])

    def see(self, image: Image.Image) -> dict[str, Tensor]:
        square = pad_to_square(image.convert("RGB"), self.processor.image_mean)
        pixels = self.processor(square, return_tensors="pt").pixel_values
        return {"input_ids": self._head, "pixel_values": pixels}

    def ask(self, question: str, answer: str) -> Asked:
        prompt = self._ask + question + self._end
        tokens = self.encode(prompt + answer)
        # A space at the end of the prompt becomes part of the answer's first token.
        split = len(self.encode(prompt)) - prompt.endswith(" ")
        return Asked(tokens[:split], [*tokens[split:], self.tokenizer.eos_token_id])

    def encode(self, text: str) -> list[int]:
        tokens: list[int] = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True
        ).input_ids
        return tokens

    def used(self, inputs: dict[str, Tensor]) -> int:
        return self._used
