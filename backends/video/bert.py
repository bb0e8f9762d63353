"""BERT whose last layers also read a video: the text encoder of UMT and InternVideo2.

Li et al. 2023, "Unmasked Teacher: Towards Training-Efficient Video Foundation Models", section 3.4:
the first layers read the text alone; the others begin from their states and attend to the video
too. As xbert.py of the authors with `mode` "text" and "fusion". Weights have the names of BERT.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from .checkpoint import check_heads, count_layers, shape_of
from .layers import attend

EPS = 1e-12


class BertSizes(NamedTuple):
    """Sizes of the text encoder.

    Attributes:
        vocabulary: number of token embeddings.
        positions: number of positions.
        types: number of token types.
        width: of the states.
        hidden: width of the feed-forward layers.
        heads: of each attention.
        layers: number of layers.
        fusion: the first layer that attends to the video.
        vision_width: of the tokens of the video.

    >>> sizes = BertSizes(30522, 512, 2, 768, 3072, 12, layers=12, fusion=9, vision_width=768)
    >>> sizes.layers - sizes.fusion  # layers that attend to the video
    3
    """

    vocabulary: int
    positions: int
    types: int
    width: int
    hidden: int
    heads: int
    layers: int
    fusion: int
    vision_width: int

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], prefix: str, heads: int, file: Path) -> BertSizes:
        """Read the sizes off the weights, whose names begin with `prefix`.

        Raises:
            CheckpointError: weights are missing, or do not fit together.
        """
        vocabulary, width = shape_of(tensors, f"{prefix}embeddings.word_embeddings.weight", 2, file)
        positions, _ = shape_of(tensors, f"{prefix}embeddings.position_embeddings.weight", 2, file)
        types, _ = shape_of(tensors, f"{prefix}embeddings.token_type_embeddings.weight", 2, file)
        layers = count_layers(tensors, f"{prefix}layer.", file)
        hidden, _ = shape_of(tensors, f"{prefix}layer.0.intermediate.dense.weight", 2, file)
        cross = "crossattention.self.key.weight"
        fusion = next((n for n in range(layers) if f"{prefix}layer.{n}.{cross}" in tensors), layers)
        _, vision_width = shape_of(tensors, f"{prefix}layer.{fusion}.{cross}", 2, file)
        check_heads(width, heads, "text", file)
        return cls(vocabulary, positions, types, width, hidden, heads, layers, fusion, vision_width)


class _Residual(nn.Module):
    """The end of a sub-layer: project, add what it began from, normalise."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, width)
        self.LayerNorm = nn.LayerNorm(width, EPS)

    def forward(self, states: Tensor, residual: Tensor) -> Tensor:
        output: Tensor = self.LayerNorm(self.dense(states) + residual)
        return output


class _Projections(nn.Module):
    def __init__(self, width: int, source_width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(source_width, width)
        self.value = nn.Linear(source_width, width)


class _Attention(nn.Module):
    def __init__(self, sizes: BertSizes, source_width: int) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.self = _Projections(sizes.width, source_width)
        self.output = _Residual(sizes.width, sizes.width)

    def forward(
        self, states: Tensor, source: Tensor, mask: Tensor | None, rows: Tensor | None = None
    ) -> Tensor:
        key, value = self.self.key(source), self.self.value(source)
        if rows is not None:
            key, value = key[rows], value[rows]
        attended = attend(self.self.query(states), key, value, self.heads, mask)
        output: Tensor = self.output(attended, states)
        return output


class _Intermediate(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, hidden)


class _Layer(nn.Module):
    def __init__(self, sizes: BertSizes, fuses: bool) -> None:
        super().__init__()
        self.attention = _Attention(sizes, sizes.width)
        self.crossattention = _Attention(sizes, sizes.vision_width) if fuses else None
        self.intermediate = _Intermediate(sizes.width, sizes.hidden)
        self.output = _Residual(sizes.hidden, sizes.width)

    def forward(
        self,
        states: Tensor,
        mask: Tensor,
        videos: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        states = self.attention(states, states, mask)
        if self.crossattention is not None and videos is not None:
            states = self.crossattention(states, videos, None, rows)
        output: Tensor = self.output(gelu(self.intermediate.dense(states)), states)
        return output


class _Embeddings(nn.Module):
    def __init__(self, sizes: BertSizes) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(sizes.vocabulary, sizes.width)
        self.position_embeddings = nn.Embedding(sizes.positions, sizes.width)
        self.token_type_embeddings = nn.Embedding(sizes.types, sizes.width)
        self.LayerNorm = nn.LayerNorm(sizes.width, EPS)

    def forward(self, ids: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1], device=ids.device)
        states: Tensor = self.LayerNorm(
            self.word_embeddings(ids)
            + self.token_type_embeddings.weight[0]
            + self.position_embeddings(positions)
        )
        return states


class FusionBert(nn.Module):
    """BERT whose layers from `fusion` on also attend to the tokens of a video.

    >>> sizes = BertSizes(vocabulary=9, positions=6, types=2, width=8, hidden=16, heads=2,
    ...                   layers=2, fusion=1, vision_width=4)
    >>> bert, ids = FusionBert(sizes), torch.ones(1, 3, dtype=torch.long)
    >>> states = bert.read(ids, ids)
    >>> bert.fuse(states, ids, torch.zeros(1, 5, 4), torch.tensor([0])).shape
    torch.Size([1, 3, 8])
    """

    def __init__(self, sizes: BertSizes) -> None:
        super().__init__()
        self.fusion = sizes.fusion
        self.embeddings = _Embeddings(sizes)
        self.layer = nn.ModuleList(_Layer(sizes, n >= sizes.fusion) for n in range(sizes.layers))

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the states (B, L, width) of texts alone.

        Args:
            ids: token ids (B, L).
            mask: (B, L), 1 for tokens and 0 for padding.
        """
        states: Tensor = self.embeddings(ids)
        for layer in self.layer[: self.fusion]:
            states = layer(states, _keys(mask))
        return states

    def fuse(self, states: Tensor, mask: Tensor, videos: Tensor, rows: Tensor) -> Tensor:
        """Return the states (P, L, width) of texts that attend to videos.

        Args:
            states: result of `read` for P texts (P, L, width).
            mask: (P, L), as for `read`.
            videos: tokens (V, N, vision width) of V videos; their keys and values are computed
                once for all their texts.
            rows: the video of each text (P,).
        """
        for layer in self.layer[self.fusion :]:
            states = layer(states, _keys(mask), videos, rows)
        return states


def _keys(mask: Tensor) -> Tensor:
    return mask[:, None, None, :].bool()
