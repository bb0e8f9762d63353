"""CLIP-FlanT5, the model of VQAScore: P(answer | image, question).

Lin et al. 2024, "Evaluating Text-to-Visual Generation with Image-to-Text Generation", eq. 2; the
probability is the geometric mean over the answer's tokens and the end token, as in the authors'
code. The patches of a CLIP tower, projected by two layers, stand among the tokens of T5's encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad
from transformers import T5Config
from typing_extensions import override

from t2v_eval.inputs.template import split_wrapper, wrapper
from t2v_eval.local.base import Options
from t2v_eval.local.precision import large_dtype
from t2v_eval.local.weights import weight_files
from t2v_eval.scoring.generation import render_tokens

from ..common.images import pad_to_square
from ..common.weights import pop_prefixed, read_weights
from .checkpoint import (
    PROJECTOR,
    build_projector,
    build_t5,
    build_tower,
    read_config,
    read_tokenizer,
    read_vision,
)
from .t5 import EncodedPrompts, T5Scorer, pad_rows

CONTEXT = 2048  # tokens of a prompt, an image counting as one, and of an answer
TOKENIZER = ("tokenizer.json", "spiece.model", "tokenizer_config.json", "special_tokens_map.json")


class ClipFlanT5(T5Scorer):
    """Score the probability of the template's answer to the template's question, from 0 to 1.

    Lin et al. 2024, eq. 2.

    Args:
        checkpoint: config.json and the weights of T5, of the projector and usually of the tower.
        tokenizer: the folder or hub id of the T5 tokenizer.
        chat: the text around a question, with ``<image>`` and then ``{}``, once each, or the name
            of such a wrapper in templates/chat.toml.
        vision_tower: the folder or hub id of the CLIP tower, by default what config.json says. Its
            weights are read only if the checkpoint has none.
        share: see `T5Scorer`.
        **options: options of `LocalScorer`.

    Raises:
        CheckpointError: a file is missing, or the files do not belong to one model.
        TemplateError: `chat` lacks a placeholder.

    >>> import t2v_eval
    >>> from PIL import Image
    >>> scorer = t2v_eval.load("tiny-clip-flant5", device="cpu")
    >>> scores = scorer([Image.new("RGB", (48, 48), "red")], ["a red circle", "a blue square"])
    >>> scores.shape, bool((scores >= 0).all() and (scores <= 1).all())
    (torch.Size([1, 2]), True)
    """

    default_template = "vqascore"

    def __init__(
        self,
        checkpoint: str,
        tokenizer: str,
        chat: str,
        vision_tower: str | None = None,
        share: bool = True,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(share, **options)
        chat = wrapper(chat)
        before, self._before_question, self._after_question = split_wrapper(chat)
        self.identity_facts = {"chat": repr(chat)}
        folder = self.locate_weights(checkpoint)
        config = read_config(folder)
        self.dtype = large_dtype(options.get("dtype"), self.device, folder)
        t5 = T5Config.from_dict(config)
        tower = vision_tower or config["mm_vision_tower"]
        tower_at = self.locate(tower, ("*.json",), argument="vision_tower", revision=None)
        tokenizer_at = self.locate(tokenizer, TOKENIZER, argument="tokenizer", revision=None)
        vision, self.processor = read_vision(tower_at)
        text_tokenizer = read_tokenizer(tokenizer_at, t5)
        tensors = read_weights(folder, self.device, self.dtype)
        self.files = [folder / "config.json", *weight_files(folder)]
        self.files += [tower_at / "config.json", tower_at / "preprocessor_config.json"]
        self.files += [tokenizer_at / name for name in TOKENIZER if (tokenizer_at / name).exists()]
        tower_weights, weights_at = pop_prefixed(tensors, "vision_tower."), folder
        if not tower_weights:
            weights_at = self.locate_weights(tower, argument="vision_tower", revision=None)
            tower_weights = read_weights(weights_at, self.device, self.dtype)
            self.files += weight_files(weights_at)
        self.tower = build_tower(
            vision, config["mm_vision_select_layer"], tower_weights, weights_at
        )
        self._first_patch = 0 if config.get("mm_vision_select_feature") == "cls_patch" else 1
        self.projector = build_projector(
            vision.hidden_size, t5.d_model, pop_prefixed(tensors, PROJECTOR), folder
        )
        self.set_t5(build_t5(t5, len(text_tokenizer), tensors, folder), text_tokenizer)
        self._prefix_ids = torch.tensor(
            text_tokenizer(before).input_ids, device=self.device, dtype=torch.long
        )
        self._max_suffix = CONTEXT - len(self._prefix_ids) - 1

    @override
    def preprocess(self, image: Image.Image) -> Tensor:
        """Pad to a square with the mean colour, then apply the tower's image processor."""
        square = pad_to_square(image.convert("RGB"), self.processor.image_mean)
        pixels: Tensor = self.processor(square, return_tensors="pt").pixel_values[0]
        return pixels

    @override
    def encode_vision(self, batch: Tensor) -> Tensor:
        """Return the projected patches (B, P, width)."""
        hidden = self.tower(pixel_values=batch).last_hidden_state
        states: Tensor = self.projector(hidden[:, self._first_patch :])
        return states

    @override
    def tokenize_answer(self, answer: str) -> tuple[list[int], bool]:
        tokens = self.tokenizer(answer).input_ids
        return tokens[:CONTEXT], len(tokens) > CONTEXT

    @override
    def encode_prompts(self, states: Sequence[Tensor], questions: Sequence[str]) -> EncodedPrompts:
        image = torch.stack(list(states))
        before = self._prefix_ids.expand(len(image), -1)
        tails = [self._suffix_ids(question) for question in questions]
        padding = self.t5.config.pad_token_id
        after = pad_rows([ids[: self._max_suffix] for ids in tails], padding, self.device)
        embed = self.t5.get_input_embeddings()
        embedded = torch.cat([embed(before), image, embed(after)], 1)
        mask = pad(after != padding, (embedded.shape[1] - after.shape[1], 0), value=True)
        truncated = [len(ids) > self._max_suffix for ids in tails]
        return EncodedPrompts(self.run_encoder(embedded, mask), mask, truncated)

    @override
    def render_prompt(self, states: Tensor, question: str) -> str:
        suffix = self._suffix_ids(question)[: self._max_suffix]
        before, after = (
            render_tokens(self.tokenizer, ids) for ids in (self._prefix_ids.tolist(), suffix)
        )
        return f"{before} <image> x {len(states)} {after}"

    def _suffix_ids(self, question: str) -> list[int]:
        """Return the token ids of the prompt after the image."""
        tokens: list[int] = self.tokenizer(
            self._before_question + question + self._after_question
        ).input_ids
        return tokens
