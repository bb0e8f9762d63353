"""Shared prefixes: the keys and values of an image and of the tokens its prompts begin with.

Scores are read behind them here, and `generate` writes behind them with `Prefix.cache`.

Prefixes of several images are rows of one batch. In the mode "packed", the suffixes of all prompts
of an image are packed into its row, behind the prefix: a mask keeps them apart, and the positions
of each count from the end of the prefix, so that no suffix depends on another. In the mode
"repeated", which needs no such mask, every suffix has a row of its own with a copy of the prefix.
Linear-attention layers are read that way too: they keep one recurrent state per prefix, so their
rows must not be padded.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ...common.transformers_internals import (
    attention_masks,
    cache_argument,
    cached_layers,
    language_of,
    position_offsets,
    prefix_cache,
    set_position_offsets,
)
from .inputs import CROSS_ATTENTION_MASK, Row

MAX_BATCH_TOKENS = 4096  # tokens of suffixes that are read at a time
Suffix: TypeAlias = tuple[int, list[int]]  # the number of its prefix, and its tokens


class Prefix:
    """Read prefixes once, and then any number of suffixes behind them.

    Args:
        network: the model without its head.
        inputs: all inputs of the model for B prefixes, `input_ids` (B, P) among them.
        lengths: how many of the P tokens belong to each prefix; the rest is padding.
        packed: whether suffixes are packed into the row of their prefix.

    >>> from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaModel
    >>> small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
    >>> small |= {"num_attention_heads": 2, "vocab_size": 9}
    >>> vision, text = CLIPVisionConfig(**small), LlamaConfig(**small)
    >>> network = LlavaModel(LlavaConfig(vision_config=vision, text_config=text)).eval()
    >>> row = {"input_ids": torch.tensor([[1, 2, 3]]), "attention_mask": torch.ones(1, 3).long()}
    >>> with torch.inference_mode():
    ...     states = Prefix(network, row, [3]).read([(0, [4, 5]), (0, [6])])
    ...     alone = network(torch.tensor([[1, 2, 3, 6]])).last_hidden_state[0, -1:]
    >>> torch.allclose(states[1], alone, atol=1e-5)
    True
    """

    def __init__(
        self, network: Any, inputs: Row, lengths: Sequence[int], packed: bool = True
    ) -> None:
        self.network, self.lengths, self.packed = network, lengths, packed
        self.layers = cached_layers(network, inputs)
        self.width = inputs["input_ids"].shape[1]
        mask = inputs.get(CROSS_ATTENTION_MASK)
        self.cross_attention_mask = None if mask is None else mask[:, -1:]
        self.offsets = position_offsets(network, len(lengths))

    def read(self, suffixes: Sequence[Suffix]) -> list[Tensor]:
        """Return the hidden states (T, D) of each suffix of T tokens."""
        states: dict[int, Tensor] = {}
        for batch in micro_batches(suffixes, self.packed):
            read = self._read_packed if self.packed else self._read_repeated
            states |= zip(batch, read([suffixes[n] for n in batch]), strict=True)
        return [states[n] for n in range(len(suffixes))]

    def cache(self, rows: Sequence[int], copies: int = 1) -> Any:
        """Return a cache behind which `generate` writes, of prefixes of one length.

        Args:
            rows: the prefixes.
            copies: how many texts are written behind each.
        """
        set_position_offsets(self.network, [self.offsets[row] for row in rows])
        repeated = [row for row in rows for _ in range(copies)]
        width = self.lengths[rows[0]]
        return prefix_cache(
            self.network, self.layers, repeated, width, len(self.lengths), grows=True
        )

    def extend(self, row: int, tokens: Sequence[int]) -> Prefix:
        """Return a prefix of one row: that of `row` with more tokens."""
        longer, cache = copy.copy(self), self.cache([row])
        longer.width = self.lengths[row] + len(tokens)
        longer.lengths, longer.offsets = [longer.width], [self.offsets[row]]
        if self.cross_attention_mask is not None:
            longer.cross_attention_mask = self.cross_attention_mask[[row]]
        if tokens:
            ids = torch.tensor([tokens], dtype=torch.long)
            self._run([row], cache, ids, torch.arange(len(tokens))[None])
        longer.layers = cache.layers
        return longer

    def _read_packed(self, suffixes: Sequence[Suffix]) -> list[Tensor]:
        rows = sorted({row for row, _ in suffixes})
        used, spans = dict.fromkeys(rows, 0), []
        for row, tokens in suffixes:
            spans.append((rows.index(row), slice(used[row], used[row] + len(tokens))))
            used[row] += len(tokens)
        shape = len(rows), max(used.values())
        ids, positions, owner = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
        for n, (span, (_, tokens)) in enumerate(zip(spans, suffixes, strict=True)):
            ids[span] = torch.tensor(tokens, dtype=torch.long)
            positions[span] = torch.arange(len(tokens))
            owner[span] = n + 1  # padding has 0
        cache = self._fixed_cache(rows, self.width)
        states = self._run(rows, cache, ids, positions, owner)
        return [states[span] for span in spans]

    def _read_repeated(self, suffixes: Sequence[Suffix]) -> list[Tensor]:
        row = suffixes[0][0]
        longest = max(len(tokens) for _, tokens in suffixes)
        ids = torch.tensor(
            [tokens + tokens[-1:] * (longest - len(tokens)) for _, tokens in suffixes],
            dtype=torch.long,
        )
        positions = torch.arange(longest).expand(len(suffixes), -1)
        rows = [row] * len(suffixes)
        states = self._run(rows, self._fixed_cache(rows, self.lengths[row]), ids, positions)
        return [state[: len(tokens)] for (_, tokens), state in zip(suffixes, states, strict=True)]

    def _fixed_cache(self, rows: Sequence[int], width: int) -> Any:
        return prefix_cache(self.network, self.layers, rows, width, len(self.lengths))

    def _run(
        self,
        rows: Sequence[int],
        cache: Any,
        ids: Tensor,
        positions: Tensor,
        owner: Tensor | None = None,
    ) -> Tensor:
        """Return the hidden states (B, Q, D) of tokens behind B prefixes, which `cache` holds."""
        language = language_of(self.network)
        embeddings = self.network.get_input_embeddings()
        device = embeddings.weight.device
        ids, positions = ids.to(device), positions.to(device)
        lengths, offsets = (
            torch.tensor([values[row] for row in rows], device=device, dtype=torch.long)[:, None]
            for values in (self.lengths, self.offsets)
        )
        embedded, mask = embeddings(ids), None
        if owner is not None:
            mask = self._masks(
                language.config, lengths, positions, owner.to(device), embedded.dtype
            )
        # Cross-attention decoders (Mllama) need `cross_attention_mask`, which only the outer model
        # passes on to them.
        masked = self.cross_attention_mask is not None
        decoder = self.network if masked else language
        options = {cache_argument(decoder): cache}
        if self.cross_attention_mask is not None:
            tiles = self.cross_attention_mask[list(rows)]
            options[CROSS_ATTENTION_MASK] = tiles.expand(-1, ids.shape[1], *tiles.shape[2:])
        states: Tensor = decoder(
            inputs_embeds=embedded,
            position_ids=positions + lengths + offsets,
            attention_mask=mask,
            use_cache=True,
            **options,
        ).last_hidden_state
        return states

    def _masks(
        self, config: Any, lengths: Tensor, positions: Tensor, owner: Tensor, dtype: torch.dtype
    ) -> Tensor | dict[str, Tensor]:
        """Let each suffix token attend to its prefix, and to its own suffix up to itself."""
        prefix = torch.arange(self.width, device=positions.device).expand(len(positions), -1)
        positions = positions + lengths
        distance = positions[:, :, None] - torch.cat([prefix, positions], 1)[:, None]
        allowed = distance >= 0
        allowed[:, :, : self.width] &= (prefix < lengths)[:, None]
        allowed[:, :, self.width :] &= owner[:, :, None] == owner[:, None]
        return attention_masks(config, allowed, distance, dtype)


def common_prefix(prompts: Sequence[list[int]]) -> list[int]:
    """Return the tokens that all prompts begin with, at most all but the last of the shortest.

    >>> common_prefix([[1, 2, 3], [1, 2, 4, 5]])
    [1, 2]
    >>> common_prefix([[1, 2], [1, 2]])
    [1]
    """
    limit = min(map(len, prompts)) - 1
    columns = zip(*(prompt[:limit] for prompt in prompts), strict=True)
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]


def micro_batches(suffixes: Sequence[Suffix], packed: bool) -> Iterator[list[int]]:
    """Yield the numbers of suffixes that are read together.

    A batch has at most `MAX_BATCH_TOKENS` tokens with padding, or one suffix. Where suffixes are
    not packed, all of a batch have the same prefix.

    >>> list(micro_batches([(0, [1]), (1, [2]), (0, [3])], packed=False))
    [[0, 2], [1]]
    """
    if not packed:
        for row in dict.fromkeys(row for row, _ in suffixes):
            same_row = [n for n, (other, _) in enumerate(suffixes) if other == row]
            longest = max(len(suffixes[n][1]) for n in same_row)
            count = max(1, MAX_BATCH_TOKENS // longest)
            yield from (same_row[n : n + count] for n in range(0, len(same_row), count))
        return
    batch: list[int] = []
    used: Counter[int] = Counter()
    for n, (row, tokens) in enumerate(suffixes):
        used[row] += len(tokens)
        if batch and len(used) * max(used.values()) > MAX_BATCH_TOKENS:
            yield batch
            batch, used = [], Counter({row: len(tokens)})
        batch.append(n)
    yield batch
