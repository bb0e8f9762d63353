"""VQAScore with InstructBLIP-FlanT5: P(answer | image, question).

Dai et al. 2023, "InstructBLIP: Towards General-purpose Vision-Language Models with Instruction
Tuning". A Q-Former reads the question and attends to the image; T5 reads its queries and the
question. As in t2v_metrics, the short side is resized to 224 pixels and the centre cropped, and a
question that is too long loses its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad
from transformers import (
    AutoConfig,
    BertTokenizer,
    InstructBlipForConditionalGeneration,
    T5Tokenizer,
)
from typing_extensions import override

from t2v_eval.errors import CheckpointError
from t2v_eval.local.base import Options
from t2v_eval.local.checkpoint_files import first_lines
from t2v_eval.local.precision import large_dtype
from t2v_eval.local.weights import weight_files
from t2v_eval.scoring.generation import render_tokens

from ..common.images import resize_center_crop, to_pixels
from ..common.pretrained import Placement, build_network, load_pretrained
from ..common.processors import check_vocabulary
from ..common.transformers_internals import qformer_cross_attentions
from ..flant5.t5 import EncodedPrompts, T5Scorer, pad_rows
from .cross_attention import FusedKeysAndValues

MAX_QUESTION, MAX_ANSWER = 128, 256  # tokens, special ones included


class _QuestionTokens(NamedTuple):
    """Token ids of a question for the Q-Former and for T5, and whether they were truncated."""

    qformer: list[int]
    t5: list[int]
    truncated: bool


class InstructBlipFlanT5(T5Scorer):
    """Score the probability of the template's answer to the template's question, from 0 to 1.

    Lin et al. 2024, "Evaluating Text-to-Visual Generation with Image-to-Text Generation", eq. 2,
    with the geometric mean over the answer's tokens and the end token, as in t2v_metrics.

    Args:
        checkpoint: config.json, weights and both tokenizers in the layout of transformers.
        share: see `T5Scorer`.
        attn_implementation: how attention is computed: "sdpa" or "eager".
        load_in_8bit: quantise the weights of T5 to 8 bits with bitsandbytes.
        load_in_4bit: quantise the weights of T5 to 4 bits with bitsandbytes.
        **options: options of `LocalScorer`.

    Raises:
        CheckpointError: a file is missing or of another model.
        InputError: both load_in_8bit and load_in_4bit are set.
        MissingPackageError: bitsandbytes is needed and not installed.

    >>> import t2v_eval
    >>> t2v_eval.load("instructblip-flant5-xl", load_in_8bit=True, load_in_4bit=True)
    Traceback (most recent call last):
    t2v_eval.errors.InputError: load_in_8bit and load_in_4bit: pass one of them
    """

    default_template = "vqascore-instructblip"

    def __init__(
        self,
        checkpoint: str,
        share: bool = True,
        attn_implementation: str = "sdpa",
        load_in_8bit: bool = False,
        load_in_4bit: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(share, **options)
        placement = Placement(attn_implementation, None, load_in_8bit, load_in_4bit)
        folder = self.locate_weights(checkpoint)
        config: Any = load_pretrained(AutoConfig, folder, "InstructBLIP")
        if config.model_type != "instructblip" or config.text_config.model_type != "t5":
            raise CheckpointError(
                f"{folder} is no InstructBLIP with T5, but {config.model_type} with "
                f"{config.text_config.model_type}"
            )
        self.dtype = large_dtype(options.get("dtype"), self.device, folder)
        tokenizer = _read_tokenizer(T5Tokenizer, folder)
        self._bert_tokenizer = _read_tokenizer(BertTokenizer, folder / "qformer_tokenizer")
        self.files = [*weight_files(folder), folder / "config.json", folder / "qformer_tokenizer"]
        self.files += [
            f for name in ("tokenizer.json", "spiece.model") if (f := folder / name).exists()
        ]
        rows = config.text_config.vocab_size
        check_vocabulary(tokenizer, rows, folder, tokenizer("").input_ids)
        bert, rows = self._bert_tokenizer, config.qformer_config.vocab_size
        check_vocabulary(bert, rows, folder / "qformer_tokenizer", bert("").input_ids)
        if tokenizer("").input_ids != [config.text_config.eos_token_id]:
            raise CheckpointError(
                f"the tokenizer of {folder} ends texts with {tokenizer('').input_ids}, but T5 with "
                f"[{config.text_config.eos_token_id}]; put the tokenizer of this checkpoint there"
            )
        self._side = config.vision_config.image_size
        self.identity_facts = placement.facts
        self.network = self._build(folder, config, placement)
        qformer = self.network.qformer
        self._keys_and_values = FusedKeysAndValues(
            lambda: qformer_cross_attentions(qformer),
            lambda states: self._query_image([*states], [[1, 2]]),
            qformer.config.encoder_hidden_size,
            self.device,
        )
        self.set_t5(self.network.language_model, tokenizer)

    @override
    def preprocess(self, image: Image.Image) -> Tensor:
        return to_pixels(resize_center_crop(image.convert("RGB"), self._side))

    @override
    def encode_vision(self, batch: Tensor) -> Tensor:
        """Return the keys and values of the Q-Former's cross-attentions for each image."""
        states = self.network.vision_model(pixel_values=batch).last_hidden_state
        keys_and_values: Tensor = self._keys_and_values(states.float())
        return keys_and_values

    @override
    def encode_prompts(self, states: Sequence[Tensor], questions: Sequence[str]) -> EncodedPrompts:
        tokens = [self._tokenize_question(question) for question in questions]
        queries = self._query_image(states, [row.qformer for row in tokens])
        ids, mask = self._pad([row.t5 for row in tokens], self.tokenizer)
        words = self.t5.get_input_embeddings()(ids)
        embedded = torch.cat([queries.to(words.dtype), words], 1)
        return EncodedPrompts(
            self.run_encoder(embedded, mask), mask, [row.truncated for row in tokens]
        )

    @override
    def tokenize_answer(self, answer: str) -> tuple[list[int], bool]:
        tokens = self._tokenize_literally(self.tokenizer, answer)
        return [*tokens[: MAX_ANSWER - 1], self.t5.config.eos_token_id], len(tokens) >= MAX_ANSWER

    @override
    def render_prompt(self, states: Tensor, question: str) -> str:
        tokens, queries = self._tokenize_question(question), self.network.query_tokens.shape[1]
        qformer_text = render_tokens(self._bert_tokenizer, tokens.qformer)
        t5_text = render_tokens(self.tokenizer, tokens.t5)
        return f"Q-Former: <image> {qformer_text}\nT5: <query> x {queries} {t5_text}"

    def _tokenize_question(self, question: str) -> _QuestionTokens:
        """Tokenize a question for the Q-Former and for T5."""
        bert = self._tokenize_literally(self._bert_tokenizer, question)
        t5 = self._tokenize_literally(self.tokenizer, question)
        first, last = self._bert_tokenizer.cls_token_id, self._bert_tokenizer.sep_token_id
        return _QuestionTokens(
            [first, *bert[2 - MAX_QUESTION :], last],
            [*t5[1 - MAX_QUESTION :], self.t5.config.eos_token_id],
            len(t5) >= MAX_QUESTION or len(bert) + 1 >= MAX_QUESTION,
        )

    def _query_image(self, states: Sequence[Tensor], questions: Sequence[Sequence[int]]) -> Tensor:
        """Return the Q-Former's output (B, Q, width), projected for T5, of images and questions."""
        ids, mask = self._pad(questions, self._bert_tokenizer)
        queries = self.network.query_tokens.expand(len(ids), -1, -1)
        hidden = self.network.qformer(
            input_ids=ids,
            attention_mask=mask.long(),
            query_embeds=queries,
            encoder_hidden_states=torch.stack(list(states)),
        ).last_hidden_state[:, : queries.shape[1]]
        projected: Tensor = self.network.language_projection(hidden)
        return projected

    def _pad(self, rows: Sequence[Sequence[int]], tokenizer: Any) -> tuple[Tensor, Tensor]:
        """Return padded token ids (B, L), and the mask (B, Q + L) of queries and tokens."""
        ids = pad_rows(rows, tokenizer.pad_token_id, self.device)
        lengths = torch.tensor([[len(row)] for row in rows], device=self.device, dtype=torch.long)
        mask = torch.arange(ids.shape[1], device=self.device) < lengths
        return ids, pad(mask, (self.network.query_tokens.shape[1], 0), value=True)

    @staticmethod
    def _tokenize_literally(tokenizer: Any, text: str) -> list[int]:
        """Tokenize a text literally: what looks like a special token is text."""
        tokens: list[int] = tokenizer(
            text, add_special_tokens=False, split_special_tokens=True
        ).input_ids
        return tokens

    def _build(self, folder: Path, config: Any, placement: Placement) -> Any:
        # Only T5 is large, so only T5 is quantised.
        skip = ("lm_head", "vision_model", "qformer", "language_projection")
        kind = InstructBlipForConditionalGeneration
        network = build_network(
            kind, folder, placement, self.device, self.dtype, skip, config=config
        )
        for small in (network.qformer, network.language_projection):
            small.float()
        network.query_tokens.data = network.query_tokens.data.float()
        if self.dtype is torch.float16:  # T5's feed-forward layers overflow in it
            for name, module in network.language_model.named_modules():
                if name.endswith("DenseReluDense.wo"):
                    module.float()
        return network


def _read_tokenizer(kind: Any, folder: Path) -> Any:
    """Load a tokenizer without its warning of long texts, which the scorer truncates and reports.

    Raises:
        CheckpointError: it is missing or of another kind.
    """
    names = ("tokenizer.json", "spiece.model", "vocab.txt")
    if not any((folder / name).exists() for name in names):
        raise CheckpointError(f"{folder} holds no tokenizer: expected {' or '.join(names)}")
    try:
        return kind.from_pretrained(folder, model_max_length=10**9)
    except Exception as error:  # its parsers raise many kinds for other tokenizers
        raise CheckpointError(
            f"{folder} holds no tokenizer of {kind.__name__}: {first_lines(error)}"
        ) from error
