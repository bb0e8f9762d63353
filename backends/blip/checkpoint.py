"""What BLIP and BLIP-2 share: BERT's tokens and the image side of cross-attention.

Texts are read as by BERT (uncased), at most 35 tokens with [CLS] and [SEP], as their authors do.
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

CONTEXT = 35
VOCABULARY = ("vocab.txt", "tokenizer.json")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


class ReadingScorer(LocalScorer):
    """A scorer whose texts are read by BERT's tokenizer; `set_reader` comes first."""

    def set_reader(self, folder: Path, added: Sequence[str], rows: int) -> Path:
        """Read the vocabulary in `folder` and return its file.

        Only the vocabulary is taken, since published folders add tokens that the authors' models
        do not know.

        Args:
            added: the special tokens that the authors did add to BERT's.
            rows: how many tokens the model has embeddings for.

        Raises:
            CheckpointError: there is no vocabulary, or that of another model.
        """
        files = [folder / name for name in VOCABULARY]
        file = next((file for file in files if file.exists()), files[0])
        try:
            vocabulary = _read_vocabulary(file)
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            expected = " or ".join(VOCABULARY)
            raise CheckpointError(f"{folder} holds no {expected} of BERT: {error}") from error
        self._tokenizer: Any = BertTokenizer(vocab=vocabulary)
        self._tokenizer.add_tokens(list(added), special_tokens=True)
        if len(self._tokenizer) > rows:
            raise CheckpointError(
                f"{file} has {len(self._tokenizer)} tokens with {', '.join(added)}, but the model "
                f"knows {rows}; put the vocabulary of this checkpoint there"
            )
        if lacking := [token for token in SPECIAL if token not in vocabulary]:
            raise CheckpointError(
                f"{file} is not the vocabulary of BERT: it lacks {', '.join(lacking)}; put that of "
                "this checkpoint there"
            )
        if last := [n for n in vocabulary.values() if type(n) is not int or not 0 <= n < rows]:
            raise CheckpointError(
                f"{file} has {len(vocabulary)} tokens, one of them numbered {last[0]}, but the "
                f"model knows {rows}; put the vocabulary of this checkpoint there"
            )
        return file

    def read(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids (B, L) and which of them are no padding (B, L) of texts, cut if need be."""
        # One more than fits is asked for, which tells a text that was cut from one that just fits.
        rows = self._tokenizer(list(texts), truncation=True, max_length=CONTEXT + 1).input_ids
        self.note_truncated(t for t, row in zip(texts, rows, strict=True) if len(row) > CONTEXT)
        rows = [row if len(row) <= CONTEXT else [*row[: CONTEXT - 1], row[-1]] for row in rows]
        ids = pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True)
        mask = torch.arange(ids.shape[1]) < torch.tensor(
            [[len(row)] for row in rows], dtype=torch.long
        )
        return ids.to(self.device), mask.long().to(self.device)


class ReadingPairScorer(ReadingScorer, PairScorer[Tensor]):
    """Reads the filled question with the image; there is no answer."""

    def read_filled(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """As `read`, with the template applied."""
        return self.read([self.template.fill(text)[0] for text in texts])

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
    """Some columns of its input, which somebody else has computed."""

    def __init__(self, columns: slice) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, states: Tensor) -> Tensor:
        return states[..., self.columns]


class KeysAndValues(nn.Module):
    """Keys and values of images for all cross-attentions of a network, made by one layer.

    What it gives for an image is passed in the place of the image's states: each attention finds
    its keys and values there, however many texts are read with the image.

    Args:
        places: finds the layers that make them, in pairs; each by what holds it and its name there.
        read: what the network makes of some text and the states (B, L, width) of images, or of
            what this gives for them.
        width: of states.
        device: where the network is, in float32.
    """

    def __init__(
        self,
        places: Callable[[], list[tuple[Any, str]]],
        read: Callable[[Tensor], Tensor],
        width: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        self._places = places
        self._fused: nn.Linear | None = None
        self._own: list[tuple[Any, str, nn.Linear]] = []

        def probe() -> Tensor:
            drawn = torch.randn(
                1, 9, width, generator=torch.Generator().manual_seed(0), dtype=torch.float32
            )
            return read(self(drawn.to(device)))

        path = "keys and values of images made once for all texts"
        use_where_equal("transformers", path, self._switch, probe, tolerance_for(torch.float32))
        self._own = []  # or its weights would be in memory twice
        del self._places

    def forward(self, states: Tensor) -> Tensor:
        made: Tensor = states if self._fused is None else self._fused(states)
        return made

    def _switch(self, on: bool) -> bool:
        if on:
            self._own = [(*place, getattr(*place)) for place in self._places()]
            fused = _fused([layer for *_, layer in self._own])
            start = 0
            for holder, name, layer in self._own:
                setattr(holder, name, _Columns(slice(start, start + layer.out_features)))
                start += layer.out_features
            self._fused = fused
        else:
            self._fused = None
            for holder, name, layer in self._own:
                setattr(holder, name, layer)
        return on


def _fused(layers: Sequence[nn.Linear]) -> nn.Linear:
    fused = nn.Linear(layers[0].in_features, sum(x.out_features for x in layers), device="meta")
    fused.weight = nn.Parameter(torch.cat([layer.weight for layer in layers]), False)
    fused.bias = nn.Parameter(torch.cat([layer.bias for layer in layers]), False)
    return fused


def build(
    kind: Callable[..., Any],
    config: Any,
    tensors: Mapping[str, Tensor],
    source: Path,
    **options: Any,
) -> Any:
    """A network of transformers with these weights in float32; what is no part of it is left out.

    Raises:
        CheckpointError: weights of one of its parts are missing, too many or of another shape.
    """
    with torch.device("meta"):
        network = kind(config, **options)
    parts = {name.partition(".")[0] for name in network.state_dict()}
    own = {
        name: value.float()
        for name, value in tensors.items()
        if name.partition(".")[0] in parts and not name.endswith("position_ids")
    }
    fill(network, own, source)
    fill_position_ids(network)
    return network
