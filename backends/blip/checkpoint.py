"""What BLIP and BLIP-2 share: BERT's tokenizer and the image side of cross-attention.

Texts are tokenized by BERT (uncased) to at most 35 tokens with [CLS] and [SEP], as by the authors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import BertTokenizer

from t2v_eval.errors import CheckpointError, TemplateError
from t2v_eval.local.base import LocalScorer
from t2v_eval.local.pair_scorer import PairScorer
from t2v_eval.local.weights import fill

from ..common.transformers_internals import fill_position_ids
from ..common.versions import tolerance_for, use_where_equal

MAX_TOKENS = 35
VOCABULARY_FILES = ("vocab.txt", "tokenizer.json")
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


class BertTextScorer(LocalScorer):
    """A scorer whose texts are tokenized by BERT; call `set_tokenizer` before scoring."""

    def set_tokenizer(self, folder: Path, added: Sequence[str], rows: int) -> Path:
        """Build the tokenizer from the vocabulary in `folder`, and return the vocabulary's file.

        Only the vocabulary is read, since published folders add tokens that the authors' models do
        not have.

        Args:
            folder: holds vocab.txt or tokenizer.json.
            added: the special tokens that the authors add to BERT's.
            rows: number of token embeddings of the model.

        Raises:
            CheckpointError: there is no vocabulary, or it is of another model.
        """
        files = [folder / name for name in VOCABULARY_FILES]
        file = next((file for file in files if file.exists()), files[0])
        try:
            vocabulary = _read_vocabulary(file)
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            expected = " or ".join(VOCABULARY_FILES)
            raise CheckpointError(f"{folder} holds no {expected} of BERT: {error}") from error
        self._tokenizer: Any = BertTokenizer(vocab=vocabulary)
        self._tokenizer.add_tokens(list(added), special_tokens=True)
        if len(self._tokenizer) > rows:
            raise CheckpointError(
                f"{file} has {len(self._tokenizer)} tokens with {', '.join(added)}, but the model "
                f"has embeddings for {rows}; put the vocabulary of this checkpoint there"
            )
        if missing := [token for token in SPECIAL_TOKENS if token not in vocabulary]:
            raise CheckpointError(
                f"{file} is not the vocabulary of BERT: it lacks {', '.join(missing)}; put that of "
                "this checkpoint there"
            )
        if out_of_range := [
            n for n in vocabulary.values() if type(n) is not int or not 0 <= n < rows
        ]:
            raise CheckpointError(
                f"{file} has {len(vocabulary)} tokens, one with the id {out_of_range[0]}, but the "
                f"model has embeddings for {rows}; put the vocabulary of this checkpoint there"
            )
        return file

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return token ids (B, L) and attention mask (B, L) of texts, truncated where too long."""
        # One token more than fits tells truncated texts from those that just fit.
        rows = self._tokenizer(list(texts), truncation=True, max_length=MAX_TOKENS + 1).input_ids
        self.note_truncated(t for t, row in zip(texts, rows, strict=True) if len(row) > MAX_TOKENS)
        rows = [
            row if len(row) <= MAX_TOKENS else [*row[: MAX_TOKENS - 1], row[-1]] for row in rows
        ]
        ids = pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True)
        mask = torch.arange(ids.shape[1]) < torch.tensor(
            [[len(row)] for row in rows], dtype=torch.long
        )
        return ids.to(self.device), mask.long().to(self.device)


class BertTextPairScorer(BertTextScorer, PairScorer[Tensor]):
    """A scorer that encodes the filled question together with the image, without an answer."""

    def tokenize_filled(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return `tokenize` of texts with the template applied."""
        return self.tokenize([self.template.fill(text)[0] for text in texts])

    def check_template(self) -> None:
        super().check_template()
        if self.template.answer:
            raise TemplateError(
                f"{self.name!r} reads the text and gives no answer, so the answer template "
                f"{self.template.answer!r} has no meaning; pass a question_template alone"
            )


def _read_vocabulary(file: Path) -> dict[str, int]:
    content = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        return dict(json.loads(content)["model"]["vocab"])
    return {token: number for number, token in enumerate(content.removesuffix("\n").split("\n"))}


class _Columns(nn.Module):
    """Returns a slice of its input: keys or values that `FusedKeysAndValues` has computed."""

    def __init__(self, columns: slice) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, states: Tensor) -> Tensor:
        return states[..., self.columns]


class FusedKeysAndValues(nn.Module):
    """Computes the keys and values of images for all cross-attentions of a network in one layer.

    Its output replaces the image states as the input of the network: each attention takes its keys
    and values from there, so they are computed once for all texts of an image.

    Args:
        locations: returns the key and value layers in pairs, as (parent module, attribute name).
        attend: returns the network's output for some text, given image states (B, L, width) or the
            output of this module for them.
        width: of the image states.
        device: of the network, which is in float32.
    """

    def __init__(
        self,
        locations: Callable[[], list[tuple[Any, str]]],
        attend: Callable[[Tensor], Tensor],
        width: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        self._locations = locations
        self._fused: nn.Linear | None = None
        self._projections: list[tuple[Any, str, nn.Linear]] = []

        def probe() -> Tensor:
            states = torch.randn(
                1, 9, width, generator=torch.Generator().manual_seed(0), dtype=torch.float32
            )
            return attend(self(states.to(device)))

        path = "keys and values of images made once for all texts"
        use_where_equal("transformers", path, self._switch, probe, tolerance_for(torch.float32))
        self._projections = []  # or their weights would be in memory twice
        del self._locations

    def forward(self, states: Tensor) -> Tensor:
        fused: Tensor = states if self._fused is None else self._fused(states)
        return fused

    def _switch(self, on: bool) -> bool:
        if on:
            self._projections = [(*place, getattr(*place)) for place in self._locations()]
            fused = _fused([layer for *_, layer in self._projections])
            start = 0
            for holder, name, layer in self._projections:
                setattr(holder, name, _Columns(slice(start, start + layer.out_features)))
                start += layer.out_features
            self._fused = fused
        else:
            self._fused = None
            for holder, name, layer in self._projections:
                setattr(holder, name, layer)
        return on


def _fused(layers: Sequence[nn.Linear]) -> nn.Linear:
    fused = nn.Linear(layers[0].in_features, sum(x.out_features for x in layers), device="meta")
    fused.weight = nn.Parameter(torch.cat([layer.weight for layer in layers]), False)
    fused.bias = nn.Parameter(torch.cat([layer.bias for layer in layers]), False)
    return fused


def build(
    model_class: Callable[..., Any],
    config: Any,
    tensors: Mapping[str, Tensor],
    source: Path,
    **options: Any,
) -> Any:
    """Build a network of transformers in float32; weights of other parts are ignored.

    Raises:
        CheckpointError: weights are missing, unexpected or of another shape.
    """
    with torch.device("meta"):
        network = model_class(config, **options)
    parts = {name.partition(".")[0] for name in network.state_dict()}
    weights = {
        name: value.float()
        for name, value in tensors.items()
        if name.partition(".")[0] in parts and not name.endswith("position_ids")
    }
    fill(network, weights, source)
    fill_position_ids(network)
    return network
