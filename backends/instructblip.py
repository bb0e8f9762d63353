"""VQAScore with InstructBLIP-FlanT5: P(answer | picture, question).

Dai et al. 2023, "InstructBLIP: Towards General-purpose Vision-Language Models with Instruction
Tuning". A Q-Former reads the question while it looks at the picture; T5 reads its queries and the
question. As in t2v_metrics, the short side of a picture becomes 224 pixels and its middle is taken,
and a question that is too long loses its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad
from transformers import (
    AutoConfig,
    BertTokenizer,
    InstructBlipForConditionalGeneration,
    T5Tokenizer,
)
from transformers.modeling_outputs import BaseModelOutput
from typing_extensions import Unpack

from t2v_eval.errors import CheckpointError, MediaError
from t2v_eval.local import Options, PairScorer
from t2v_eval.media import Media
from t2v_eval.weights import HUB_FILES, check_keys, weight_files

from ._blip import hoist_keys_and_values
from ._images import middle_square, to_pixels
from ._t5 import answer_probability, pad_rows

QUESTION, ANSWER = 128, 256  # tokens that are read, with the special ones


class InstructBlipFlanT5(PairScorer[Tensor]):
    """Scores by the probability of the template's answer to the template's question.

    Args:
        checkpoint: config.json, weights and both tokenizers in the layout of transformers.
    """

    default_template = "vqascore-instructblip"

    def __init__(self, checkpoint: str, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        folder = self._fetch(checkpoint)
        try:
            config: Any = AutoConfig.from_pretrained(folder)
        except (OSError, ValueError, StrictDataclassError) as error:
            raise CheckpointError(
                f"{folder} has no config.json of InstructBLIP: {error}"
            ) from error
        if config.model_type != "instructblip" or config.text_config.model_type != "t5":
            raise CheckpointError(
                f"{folder} is no InstructBLIP with T5, but {config.model_type} with "
                f"{config.text_config.model_type}"
            )
        self._t5_tokens = _read_tokenizer(T5Tokenizer, folder)
        self._bert_tokens = _read_tokenizer(BertTokenizer, folder / "qformer_tokenizer")
        self.files = [*weight_files(folder), folder / "config.json", folder / "qformer_tokenizer"]
        self.files += [
            f for name in ("tokenizer.json", "spiece.model") if (f := folder / name).exists()
        ]
        self._side = config.vision_config.image_size
        self.network = self._build(folder, config)
        self._keys_and_values = hoist_keys_and_values(
            layer.crossattention.attention
            for layer in self.network.qformer.encoder.layer
            if layer.has_cross_attention
        )
        self.t5: Any = self.network.language_model
        # The last product is always in float32: bfloat16 has too few digits for a probability.
        self._head = self.t5.lm_head.weight.float()

    @staticmethod
    def default_dtype(device: torch.device) -> torch.dtype:
        """bfloat16 on GPUs that have it, as the original; float32 elsewhere."""
        if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        return torch.float32

    def preprocess(self, image: Image.Image) -> Tensor:
        return to_pixels(middle_square(image.convert("RGB"), self._side))

    def encode_images(self, batch: Tensor) -> Sequence[Tensor]:
        """Keys and values of the Q-Former's cross-attentions for each picture."""
        states = self.network.vision_model(pixel_values=batch).last_hidden_state
        hoisted: Tensor = self._keys_and_values(states.float())
        return hoisted.unbind()

    def score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        questions, answers = zip(*map(self.template.fill, texts), strict=True)
        encoded, mask, cut = self._encode(states, questions)
        said = [self._plain(self._t5_tokens, answer) for answer in answers]
        self.note_truncated(
            text
            for text, one, answer in zip(texts, cut, said, strict=True)
            if one or len(answer) >= ANSWER
        )
        spoken = [[*row[: ANSWER - 1], self.t5.config.eos_token_id] for row in said]
        return answer_probability(self.t5, self._head, encoded, mask, spoken)

    def generate_texts(
        self, images: Sequence[Media], prompts: Sequence[str], max_new_tokens: int
    ) -> list[str]:
        pairs = list(zip(images, prompts, strict=True))
        parts = self.batch.batches(pairs, lambda part: self._generate(part, max_new_tokens))
        return [text for _, texts in parts for text in texts]

    def _generate(self, pairs: Sequence[tuple[Media, str]], max_new_tokens: int) -> list[str]:
        made = [self._prepare(image) for image, _ in pairs]
        for one in made:
            if isinstance(one, MediaError):
                raise one
        prompts = [prompt for _, prompt in pairs]
        encoded, mask, cut = self._encode(self.encode_images(self.stack(made)), prompts)
        self.note_truncated(p for p, one in zip(prompts, cut, strict=True) if one)
        tokens = self.t5.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
        return list(self._t5_tokens.batch_decode(tokens, skip_special_tokens=True))

    def _encode(
        self, states: Sequence[Tensor], questions: Sequence[str]
    ) -> tuple[Tensor, Tensor, list[bool]]:
        """Encoder states, their mask, and which questions lost their beginning."""
        read = [self._plain(self._t5_tokens, question) for question in questions]
        seen = [self._plain(self._bert_tokens, question) for question in questions]
        first, last = self._bert_tokens.cls_token_id, self._bert_tokens.sep_token_id
        queries = self._look(states, [[first, *ids[2 - QUESTION :], last] for ids in seen])
        end = self.t5.config.eos_token_id
        ids, mask = self._pad([[*row[1 - QUESTION :], end] for row in read], self._t5_tokens)
        words = self.t5.get_input_embeddings()(ids)
        encoded: Tensor = self.t5.encoder(
            inputs_embeds=torch.cat([queries.to(words.dtype), words], 1), attention_mask=mask
        ).last_hidden_state
        cut = [
            len(t5) >= QUESTION or len(bert) + 1 >= QUESTION
            for t5, bert in zip(read, seen, strict=True)
        ]
        return encoded, mask, cut

    def _look(self, states: Sequence[Tensor], questions: Sequence[Sequence[int]]) -> Tensor:
        """What the Q-Former tells T5 of each picture, with the question in mind (B, Q, width)."""
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
        lengths = torch.tensor([[len(row)] for row in rows], device=self.device)
        mask = torch.arange(ids.shape[1], device=self.device) < lengths
        return ids, pad(mask, (self.network.query_tokens.shape[1], 0), value=True)

    @staticmethod
    def _plain(tokenizer: Any, text: str) -> list[int]:
        """Tokens of a text in which nothing is a control token."""
        tokens: list[int] = tokenizer(
            text, add_special_tokens=False, split_special_tokens=True
        ).input_ids
        return tokens

    def _build(self, folder: Path, config: Any) -> Any:
        try:
            loaded: Any = InstructBlipForConditionalGeneration.from_pretrained(
                folder, config=config, dtype=self.dtype, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{folder} cannot be loaded: {error}") from error
        network, found = loaded
        check_keys(folder, sorted(found["missing_keys"]))
        for small in (network.qformer, network.language_projection):
            small.float()
        network.query_tokens.data = network.query_tokens.data.float()
        if self.dtype is torch.float16:  # T5's feed-forward layers overflow in it
            for name, module in network.language_model.named_modules():
                if name.endswith("DenseReluDense.wo"):
                    module.float()
        return network.to(self.device).eval().requires_grad_(False)

    def _fetch(self, source: str) -> Path:
        """The folder; pickles are downloaded only where there are no safetensors."""
        found = self.locate(source)
        if any(found.glob("*.safetensors")):
            return found
        return self.locate(source, (*HUB_FILES, "*.bin"))


def _read_tokenizer(kind: Any, folder: Path) -> Any:
    """A tokenizer that does not complain of long texts, which the scorer cuts and reports.

    Raises:
        CheckpointError: it is not there.
    """
    names = ("tokenizer.json", "spiece.model", "vocab.txt")
    if not any((folder / name).exists() for name in names):
        raise CheckpointError(f"{folder} holds no tokenizer: expected {' or '.join(names)}")
    return kind.from_pretrained(folder, model_max_length=10**9)
