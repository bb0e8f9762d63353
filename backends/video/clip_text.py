"""Text towers of CLIP in other layouts: ViCLIP's, and MobileCLIP's, which InternVideo2 reads.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision",
section 2.4: a causal transformer, whose state at the end token is projected.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu
from typing_extensions import override

from t2v_eval.errors import CheckpointError

from ..clip.open_clip_internals import clip_tokenizer, count_tokens, spell_as_openai
from .layers import attend


class TowerSizes(NamedTuple):
    """Sizes of a transformer.

    Attributes:
        width: of the states.
        hidden: width of the feed-forward layers.
        heads: of each attention.
        layers: number of layers.

    >>> TowerSizes(512, 2048, 8, 12).width
    512
    """

    width: int
    hidden: int
    heads: int
    layers: int


def quick_gelu(states: Tensor) -> Tensor:
    """Apply the approximation of GELU that CLIP was trained with.

    >>> quick_gelu(torch.tensor([0.0, 100.0])).tolist()
    [0.0, 100.0]
    """
    return states * torch.sigmoid(1.702 * states)


class _FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden)
        self.c_proj = nn.Linear(hidden, width)

    @override
    def forward(self, states: Tensor) -> Tensor:
        output: Tensor = self.c_proj(quick_gelu(self.c_fc(states)))
        return output


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width, dtype=torch.float32))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width, dtype=torch.float32))
        self.out_proj = nn.Linear(width, width)

    @override
    def forward(self, states: Tensor, causal: bool) -> Tensor:
        projected = nn.functional.linear(states, self.in_proj_weight, self.in_proj_bias)
        query, key, value = projected.chunk(3, dim=-1)
        output: Tensor = self.out_proj(attend(query, key, value, self.heads, causal=causal))
        return output


class _Block(nn.Module):
    def __init__(self, sizes: TowerSizes) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(sizes.width)
        self.attn = _Attention(sizes.width, sizes.heads)
        self.ln_2 = nn.LayerNorm(sizes.width)
        self.mlp = _FeedForward(sizes.width, sizes.hidden)

    @override
    def forward(self, states: Tensor, causal: bool) -> Tensor:
        states = states + self.attn(self.ln_1(states), causal)
        output: Tensor = states + self.mlp(self.ln_2(states))
        return output


class ClipTransformer(nn.Module):
    """The transformer of CLIP, with quick-GELU, by OpenAI's names.

    >>> ClipTransformer(TowerSizes(8, 16, 2, 1))(torch.zeros(1, 3, 8)).shape
    torch.Size([1, 3, 8])
    """

    def __init__(self, sizes: TowerSizes) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(_Block(sizes) for _ in range(sizes.layers))

    @override
    def forward(self, states: Tensor, causal: bool = False) -> Tensor:
        """Map states (B, L, width) to the same shape."""
        for block in self.resblocks:
            states = block(states, causal)
        return states


class ClipTextTower(nn.Module):
    """The text tower of CLIP, by OpenAI's names.

    Args:
        sizes: of its transformer.
        vocabulary: number of tokens.
        context: number of positions.
        embedding: width of the embeddings.

    >>> tower = ClipTextTower(TowerSizes(8, 16, 2, 1), vocabulary=9, context=5, embedding=4)
    >>> tower(torch.tensor([[7, 1, 8, 0]])).shape
    torch.Size([1, 4])
    """

    def __init__(self, sizes: TowerSizes, vocabulary: int, context: int, embedding: int) -> None:
        super().__init__()
        width = sizes.width
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.empty(context, width, dtype=torch.float32))
        self.transformer = ClipTransformer(sizes)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embedding, dtype=torch.float32))

    @override
    def forward(self, ids: Tensor) -> Tensor:
        """Map token ids (B, L) to embeddings (B, D), from the state at the largest id."""
        states = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        states = self.ln_final(self.transformer(states, causal=True))
        embeddings: Tensor = states[torch.arange(len(ids)), ids.argmax(1)] @ self.text_projection
        return embeddings


class _MobileAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    @override
    def forward(self, states: Tensor) -> Tensor:
        query, key, value = self.qkv_proj(states).chunk(3, dim=-1)
        output: Tensor = self.out_proj(attend(query, key, value, self.heads, causal=True))
        return output


class _MobileBlock(nn.Module):
    def __init__(self, sizes: TowerSizes) -> None:
        super().__init__()
        width, hidden = sizes.width, sizes.hidden
        self.pre_norm_mha = nn.ModuleList(
            [nn.LayerNorm(width), _MobileAttention(width, sizes.heads)]
        )
        # Places 2 and 3 are the activation and a dropout, which have no weights.
        self.pre_norm_ffn = nn.ModuleDict(
            {"0": nn.LayerNorm(width), "1": nn.Linear(width, hidden), "4": nn.Linear(hidden, width)}
        )

    @override
    def forward(self, states: Tensor) -> Tensor:
        norm, attention = self.pre_norm_mha
        states = states + attention(norm(states))
        ffn = self.pre_norm_ffn
        output: Tensor = states + ffn["4"](gelu(ffn["1"](ffn["0"](states))))
        return output


class MobileClipText(nn.Module):
    """The text tower of MobileCLIP-B, by its authors' names.

    Vasu et al. 2024, "MobileCLIP: Fast Image-Text Models through Multi-Modal Reinforced Training".

    Args:
        sizes: of its transformer.
        vocabulary: number of tokens.
        context: number of positions.
        embedding: width of the embeddings.

    >>> tower = MobileClipText(TowerSizes(8, 16, 2, 1), vocabulary=9, context=5, embedding=4)
    >>> tower(torch.tensor([[7, 1, 8, 0]])).shape
    torch.Size([1, 4])
    """

    def __init__(self, sizes: TowerSizes, vocabulary: int, context: int, embedding: int) -> None:
        super().__init__()
        width = sizes.width
        self.embedding_layer = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.empty(context, width, dtype=torch.float32))
        self.transformer = nn.ModuleList(_MobileBlock(sizes) for _ in range(sizes.layers))
        self.final_layer_norm = nn.LayerNorm(width)
        self.projection_layer = nn.Parameter(torch.empty(width, embedding, dtype=torch.float32))

    @override
    def forward(self, ids: Tensor) -> Tensor:
        """Map token ids (B, L) to embeddings (B, D), from the state at the largest id."""
        states = self.embedding_layer(ids) + self.positions[: ids.shape[1]]
        for block in self.transformer:
            states = block(states)
        states = self.final_layer_norm(states)
        embeddings: Tensor = states[torch.arange(len(ids)), ids.argmax(1)] @ self.projection_layer
        return embeddings


class ClipTokens:
    """CLIP's tokenizer: ids up to the longest text, and which texts were cut.

    Args:
        context: how many tokens of a text are read, with start and end.
        rows: number of token embeddings of the tower.
        merges: a gzipped list of merges in the place of CLIP's, with one line of heading.
        as_openai: whether the end token is spelled as by OpenAI.

    Raises:
        CheckpointError: the tower has embeddings for fewer tokens.

    >>> tokens = ClipTokens(context=8, rows=49408)
    >>> ids, cut = tokens(["a cat", "a cat and " * 9], str)
    >>> ids.shape, len(cut)
    (torch.Size([2, 8]), 1)
    """

    def __init__(
        self, context: int, rows: int, merges: Path | None = None, as_openai: bool = False
    ) -> None:
        options = {} if merges is None else {"bpe_path": str(merges)}
        try:
            self.tokenizer: Any = clip_tokenizer(context, **options)
        except (OSError, EOFError, ValueError, IndexError, gzip.BadGzipFile) as error:
            raise CheckpointError(f"{merges} is no gzipped list of merges: {error}") from error
        if as_openai:
            spell_as_openai(self.tokenizer)
        self.context = context
        if len(self.tokenizer.encoder) > rows + 2 * as_openai:
            raise CheckpointError(
                f"{merges or 'the tokenizer of CLIP'} has {self.tokenizer.vocab_size} tokens, and "
                f"the model has embeddings for {rows}; put the merges of these weights beside them"
            )

    def __call__(
        self, texts: Sequence[str], as_read: Callable[[str], str]
    ) -> tuple[Tensor, list[str]]:
        """Return ids (B, L) of texts, and the texts that were cut.

        Args:
            texts: B texts.
            as_read: returns a text as the model reads it.
        """
        read = [as_read(text) for text in texts]
        ids: Tensor = self.tokenizer(read)
        full = [n for n in range(len(texts)) if ids[n, -1]]
        cut = [texts[n] for n in full if count_tokens(self.tokenizer, read[n]) > self.context]
        # The towers are causal: what comes after the last end token changes nothing.
        return ids[:, : int(ids.argmax(1).max()) + 1], cut
