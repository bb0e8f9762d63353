"""FGA-BLIP2: how well an image follows a prompt, and each element of the prompt.

Han et al. 2024, "EvalMuse-40K: A Reliable and Fine-Grained Benchmark with Comprehensive Human
Annotations for Text-to-Image Generation Model Evaluation", section 4. BLIP-2 whose matching head
was trained on people's ratings: of the whole prompt at the queries, and of its elements at their
tokens. As `FGA_Blip2.element_score` and eval.py of the authors' code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor
from typing_extensions import override

from t2v_eval.errors import CheckpointError, InputError
from t2v_eval.inputs.media import Media, MediaLike
from t2v_eval.local.base import Options
from t2v_eval.local.weights import HUB_FILES, check_keys, read_tensors, weight_files
from t2v_eval.scoring.generation import Explanation, TokenProbability

from .bert_text import VOCABULARY_FILES
from .blip2 import Blip2ITM

FILE, BASE = "fga_blip2.pth", "Salesforce/blip2-itm-vit-g-coco"
MAX_WORDS = 50
PUNCTUATION = re.compile(r"[.!\"()*#:;~]")
UNUSED = (  # what no score depends on; mask_proj guesses which tokens are elements
    "temp",
    "mask_proj.",
    "Qformer.cls.",
    "Qformer.bert.embeddings.position_ids",
)
# Renames the weights from LAVIS' names to those of transformers, in this order.
RENAMES = {
    "visual_encoder.blocks.": "vision_model.encoder.layers.",
    "visual_encoder.patch_embed.proj.": "vision_model.embeddings.patch_embedding.",
    "visual_encoder.cls_token": "vision_model.embeddings.class_embedding",
    "visual_encoder.pos_embed": "vision_model.embeddings.position_embedding",
    "ln_vision.": "vision_model.post_layernorm.",
    ".attn.proj.": ".attn.projection.",
    ".attn.": ".self_attn.",
    ".norm": ".layer_norm",
    "Qformer.bert.embeddings.LayerNorm.": "qformer.layernorm.",
    "Qformer.bert.embeddings.": "embeddings.",
    "Qformer.bert.": "qformer.",
    "attention.self.": "attention.attention.",
    "vision_proj.": "vision_projection.",
    "text_proj.": "text_projection.",
}


class FgaBlip2(Blip2ITM):
    """Score how well the image follows the text, from 1 to 5, as people rated it.

    `element_scores` rates parts of the text, and `explain` every token, by the probability that the
    image matches it. The text is read as by the authors: lower-case, without `.!"()*#:;~`, and its
    first 50 words.

    Args:
        checkpoint: a folder or hub id with fga_blip2.pth, or that file.
        base: a folder or hub id of BLIP-2 in the layout of transformers, with its configuration and
            tokenizer; and its vision tower, where the checkpoint has none, since it was frozen.
        **options: options of `LocalScorer`.

    Raises:
        CheckpointError: a file is missing or of another model.
        TemplateError: the template has an answer.

    >>> scorer = object.__new__(FgaBlip2)  # reading a text needs no weights
    >>> scorer.as_read('A cat (black), near "Rex".')
    'a cat black , near rex'
    """

    def __init__(self, checkpoint: str, base: str = BASE, **options: Unpack[Options]) -> None:
        self._base = base
        super().__init__(checkpoint, **options)
        self.max_tokens = self.network.config.qformer_config.max_position_embeddings

    @override
    def read(self, checkpoint: str) -> tuple[Path, dict[str, Tensor], list[Path]]:
        """Return the folder of `base`, the weights, those of `base` where none are, and files."""
        file = self.locate(checkpoint, (FILE,))
        file = file / FILE if file.is_dir() else file
        if not file.exists():
            raise CheckpointError(f"{file.parent} holds no {FILE}")
        tensors = _rename(read_tensors(file), file)
        if any(name.startswith("vision_model.encoder.") for name in tensors):
            patterns = ("config.json", *VOCABULARY_FILES)
            folder = self.locate(self._base, patterns, argument="base", revision=None)
            return folder, tensors, [file]
        folder = self.locate(self._base, HUB_FILES, argument="base", revision=None)
        return folder, {**read_tensors(folder), **tensors}, [*weight_files(folder), file]

    @override
    def as_read(self, text: str) -> str:
        """Return a text in lower case, without most punctuation, and its first 50 words."""
        words = re.sub(r"\s{2,}", " ", PUNCTUATION.sub(" ", text.lower()))
        return " ".join(words.rstrip("\n").strip(" ").split(" ")[:MAX_WORDS])

    @override
    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        self.note_truncated(t for t in texts if len(PUNCTUATION.sub(" ", t).split()) > MAX_WORDS)
        return super().tokenize(texts)

    @override
    def score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        ids, mask = self.tokenize_filled(texts)
        return self._rate(self._match(states, ids, mask))

    def element_scores(
        self, image: MediaLike, text: str, elements: Sequence[str]
    ) -> dict[str, float]:
        """Return the score of parts of a text: the mean over their tokens.

        Args:
            image: the image.
            text: its prompt.
            elements: parts of the prompt, as they stand in it.

        Returns:
            For each element the probability that the image matches it, from 0 to 1.

        Raises:
            InputError: an element is not in the text, as the model reads both.

        >>> import t2v_eval
        >>> scorer = t2v_eval.load("fga-blip2", checkpoint="/models/fga")  # doctest: +SKIP
        >>> scorer.element_scores("cat.jpg", "a black cat", ["black"])  # doctest: +SKIP
        {'black': 0.93}
        """
        tokens = self.explain(image, text)[0][0].tokens
        ids = self._ids(self.template.fill(text)[0])
        scores = {}
        for element in elements:
            part = self._ids(element)
            places = [n for n in range(len(ids)) if part and ids[n : n + len(part)] == part]
            if not places:
                raise InputError(
                    f"element {element!r} is not in the text {text!r} as the model reads them: "
                    f"{self.as_read(element)!r} in {self.as_read(text)!r}"
                )
            span = tokens[places[0] : places[0] + len(part)]
            scores[element] = sum(token.probability for token in span) / len(span)
        return scores

    @override
    def explain_image(self, image: Media, texts: Sequence[str], top: int) -> list[Explanation]:
        (state,) = self.encode_images(self.stack([self.prepare(image)]))
        return [self._explain(state, text) for text in texts]

    def _explain(self, state: Tensor, text: str) -> Explanation:
        ids, mask = self.tokenize_filled([text])
        matched = self._match([state], ids, mask)
        words = self._tokenizer.convert_ids_to_tokens(ids[0].tolist())
        inner = matched[0, -len(words) :].tolist()[1:-1]  # [CLS] and [SEP] are no elements
        tokens = [TokenProbability(*pair, ()) for pair in zip(words[1:-1], inner, strict=True)]
        return Explanation(float(self._rate(matched)), " ".join(words), tuple(tokens))

    def _match(self, states: Sequence[Tensor], ids: Tensor, mask: Tensor) -> Tensor:
        """Return the probabilities of a match (B, Q + L) at queries and tokens."""
        hidden = self.read_together(torch.stack(list(states)), ids, mask)
        probabilities: Tensor = self.network.itm_head(hidden).softmax(dim=-1)
        return probabilities[..., 1]

    def _rate(self, matched: Tensor) -> Tensor:
        """Map the mean over the queries to people's scale."""
        return matched[:, : self.network.config.num_query_tokens].mean(dim=1) * 4 + 1

    def _ids(self, text: str) -> list[int]:
        """Return the token ids of a text as it is read, without [CLS] and [SEP]."""
        tokens: list[int] = self.tokenize([text])[0][0].tolist()
        return tokens[1:-1]


def _rename(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Return the weights by transformers' names; keys of the vision tower have no bias.

    Raises:
        CheckpointError: there are weights of another model.
    """
    renamed = {}
    for name, value in tensors.items():
        if name.startswith(UNUSED) or name.endswith(".attn.v_bias"):
            continue
        if name.endswith(".attn.q_bias"):
            values = tensors[name.replace("q_bias", "v_bias")]
            value = torch.cat([value, torch.zeros_like(value), values])
            name = name.replace("q_bias", "qkv.bias")
        for old, new in RENAMES.items():
            name = name.replace(old, new)
        renamed[name] = value
    parts = ("vision_model.", "qformer.", "embeddings.", "vision_projection.", "text_projection.")
    prefixes = (*parts, "itm_head.", "query_tokens")
    check_keys(file, (), [name for name in renamed if not name.startswith(prefixes)])
    return renamed
