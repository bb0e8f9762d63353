"""VQAScore with InstructBLIP-FlanT5: P(answer | image, question).

Dai et al. 2023, "InstructBLIP: Towards General-purpose Vision-Language Models with Instruction
Tuning". A Q-Former reads the question while it looks at the image; T5 reads its queries and the
question. As in t2v_metrics, the short side of an image becomes 224 pixels and its middle is taken,
and a question that is too long loses its beginning.
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

from t2v_eval.errors import CheckpointError
from t2v_eval.local.base import Options
from t2v_eval.local.checkpoint_files import first_lines
from t2v_eval.local.precision import large_dtype
from t2v_eval.local.weights import weight_files
from t2v_eval.scoring.generation import render_tokens

from ..common.images import resize_center_crop, to_pixels
from ..common.pretrained import Placement, build_network
from ..common.processors import check_vocabulary
from ..common.transformers_internals import qformer_cross_attentions
from ..flant5.t5 import Read, T5Scorer, pad_rows
from .checkpoint import KeysAndValues

QUESTION, ANSWER = 128, 256  # tokens that are read, with the special ones


class _Asked(NamedTuple):
    """The tokens of a question as the Q-Former and as T5 reads them, and whether they were cut."""

    seen: list[int]
    read: list[int]
    cut: bool


class InstructBlipFlanT5(T5Scorer):
    """Scores by the probability of the template's answer to the template's question.

    Args:
        checkpoint: config.json, weights and both tokenizers in the layout of transformers.
        share: see `T5Scorer`.
        attn_implementation: how attention is computed: "sdpa" or "eager".
        load_in_8bit, load_in_4bit: quantise the weights of T5 with bitsandbytes.
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
        folder = self.locate_weights(checkpoint)
        try:
            config: Any = AutoConfig.from_pretrained(folder)
        except Exception as error:  # whatever transformers makes of another file
            raise CheckpointError(
                f"{folder} has no config.json of InstructBLIP: {first_lines(error)}"
            ) from error
        if config.model_type != "instructblip" or config.text_config.model_type != "t5":
            raise CheckpointError(
                f"{folder} is no InstructBLIP with T5, but {config.model_type} with "
                f"{config.text_config.model_type}"
            )
        self.dtype = large_dtype(options.get("dtype"), self.device, folder)
        reader = _read_tokenizer(T5Tokenizer, folder)
        self._bert_tokens = _read_tokenizer(BertTokenizer, folder / "qformer_tokenizer")
        self.files = [*weight_files(folder), folder / "config.json", folder / "qformer_tokenizer"]
        self.files += [
            f for name in ("tokenizer.json", "spiece.model") if (f := folder / name).exists()
        ]
        rows = config.text_config.vocab_size
        check_vocabulary(reader, rows, folder, reader("").input_ids)
        rows, own = config.qformer_config.vocab_size, folder / "qformer_tokenizer"
        check_vocabulary(self._bert_tokens, rows, own, self._bert_tokens("").input_ids)
        if reader("").input_ids != [config.text_config.eos_token_id]:
            raise CheckpointError(
                f"the tokenizer of {folder} ends texts with {reader('').input_ids}, but T5 with "
                f"[{config.text_config.eos_token_id}]; put the tokenizer of this checkpoint there"
            )
        self._side = config.vision_config.image_size
        placement = Placement(attn_implementation, None, load_in_8bit, load_in_4bit)
        self.identity_facts = placement.facts
        self.network = self._build(folder, config, placement)
        qformer = self.network.qformer
        self._keys_and_values = KeysAndValues(
            lambda: qformer_cross_attentions(qformer),
            lambda states: self._look([*states], [[1, 2]]),
            qformer.config.encoder_hidden_size,
            self.device,
        )
        self.set_t5(self.network.language_model, reader)

    def preprocess(self, image: Image.Image) -> Tensor:
        return to_pixels(resize_center_crop(image.convert("RGB"), self._side))

    def see(self, batch: Tensor) -> Tensor:
        """Keys and values of the Q-Former's cross-attentions for each image."""
        states = self.network.vision_model(pixel_values=batch).last_hidden_state
        hoisted: Tensor = self._keys_and_values(states.float())
        return hoisted

    def read(self, states: Sequence[Tensor], questions: Sequence[str]) -> Read:
        asked = [self._ask(question) for question in questions]
        queries = self._look(states, [one.seen for one in asked])
        ids, mask = self._pad([one.read for one in asked], self.tokenizer)
        words = self.t5.get_input_embeddings()(ids)
        embedded = torch.cat([queries.to(words.dtype), words], 1)
        return Read(self.encode(embedded, mask), mask, [one.cut for one in asked])

    def say(self, answer: str) -> tuple[list[int], bool]:
        tokens = self._plain(self.tokenizer, answer)
        return [*tokens[: ANSWER - 1], self.t5.config.eos_token_id], len(tokens) >= ANSWER

    def prompt(self, states: Tensor, question: str) -> str:
        asked, queries = self._ask(question), self.network.query_tokens.shape[1]
        seen, read = (
            render_tokens(self._bert_tokens, asked.seen),
            render_tokens(self.tokenizer, asked.read),
        )
        return f"Q-Former: <image> {seen}\nT5: <query> x {queries} {read}"

    def _ask(self, question: str) -> _Asked:
        """What the Q-Former and what T5 reads of a question."""
        bert = self._plain(self._bert_tokens, question)
        t5 = self._plain(self.tokenizer, question)
        first, last = self._bert_tokens.cls_token_id, self._bert_tokens.sep_token_id
        return _Asked(
            [first, *bert[2 - QUESTION :], last],
            [*t5[1 - QUESTION :], self.t5.config.eos_token_id],
            len(t5) >= QUESTION or len(bert) + 1 >= QUESTION,
        )

    def _look(self, states: Sequence[Tensor], questions: Sequence[Sequence[int]]) -> Tensor:
        """What the Q-Former tells T5 of each image, with the question in mind (B, Q, width)."""
        ids, mask = self._pad(questions, self._bert_tokens)
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
        """Tokens (B, L), and where there are queries or tokens (B, Q + L)."""
        ids = pad_rows(rows, tokenizer.pad_token_id, self.device)
        lengths = torch.tensor([[len(row)] for row in rows], device=self.device, dtype=torch.long)
        mask = torch.arange(ids.shape[1], device=self.device) < lengths
        return ids, pad(mask, (self.network.query_tokens.shape[1], 0), value=True)

    @staticmethod
    def _plain(tokenizer: Any, text: str) -> list[int]:
        """Tokens of a text in which nothing is a control token."""
        tokens: list[int] = tokenizer(
            text, add_special_tokens=False, split_special_tokens=True
        ).input_ids
        return tokens

    def _build(self, folder: Path, config: Any, placement: Placement) -> Any:
        # Only T5 is large, so that only it is quantised.
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
    """A tokenizer that does not complain of long texts, which the scorer cuts and reports.

    Raises:
        CheckpointError: it is not there.
    """
    names = ("tokenizer.json", "spiece.model", "vocab.txt")
    if not any((folder / name).exists() for name in names):
        raise CheckpointError(f"{folder} holds no tokenizer: expected {' or '.join(names)}")
    try:
        return kind.from_pretrained(folder, model_max_length=10**9)
    except Exception as error:  # whatever its parsers make of another kind of tokenizer
        raise CheckpointError(
            f"{folder} holds no tokenizer of {kind.__name__}: {first_lines(error)}"
        ) from error
