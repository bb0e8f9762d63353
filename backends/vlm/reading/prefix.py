"""What texts of one picture share: the keys and values of the picture and of their common start.

Starts of several pictures are rows of one batch. In the mode "packed", the ends of all texts of a
picture are packed into its row, after that start: a mask keeps them apart, and each counts its
positions from the end of the start, so that none knows of the others. In the mode "repeated",
which needs no such mask, every end has a row of its own and the start is repeated for it. So do
layers of linear attention, which remember a start as one state; a row must not be filled for them.
"""

from __future__ import annotations

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
)
from .inputs import CROSS_ATTENTION_MASK, Row

MAX_BATCH_TOKENS = 4096  # tokens of texts that are read at a time
Suffix: TypeAlias = tuple[int, list[int]]  # the number of its start, and its tokens


class Prefix:
    """The starts, read once.

    Args:
        inputs: all the model takes for them, `input_ids` (B, P) among it.
        lengths: how many of these P tokens are those of each start; the rest is filling.
        packed: whether ends are packed.
    """

    def __init__(
        self, network: Any, inputs: Row, lengths: Sequence[int], packed: bool = True
    ) -> None:
        self.network, self.lengths, self.packed = network, lengths, packed
        self.layers = cached_layers(network, inputs)
        self.width = inputs["input_ids"].shape[1]
        self.looks = (
            inputs[CROSS_ATTENTION_MASK][:, -1:] if CROSS_ATTENTION_MASK in inputs else None
        )
        self.shifts = position_offsets(network, len(lengths))

    def read(self, ends: Sequence[Suffix]) -> list[Tensor]:
        """States (tokens, width) of each end."""
        states: dict[int, Tensor] = {}
        for pack in micro_batches(ends, self.packed):
            read = self._read_packed if self.packed else self._read_repeated
            states |= zip(pack, read([ends[n] for n in pack]), strict=True)
        return [states[n] for n in range(len(ends))]

    def _read_packed(self, ends: Sequence[Suffix]) -> list[Tensor]:
        rows = sorted({row for row, _ in ends})
        used, spans = dict.fromkeys(rows, 0), []
        for row, end in ends:
            spans.append((rows.index(row), slice(used[row], used[row] + len(end))))
            used[row] += len(end)
        shape = len(rows), max(used.values())
        ids, places, owner = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
        for n, (span, (_, end)) in enumerate(zip(spans, ends, strict=True)):
            ids[span], places[span] = torch.tensor(end, dtype=torch.long), torch.arange(len(end))
            owner[span] = n + 1  # filling has 0
        states = self._run(rows, self.width, ids, places, owner)
        return [states[span] for span in spans]

    def _read_repeated(self, ends: Sequence[Suffix]) -> list[Tensor]:
        row = ends[0][0]
        longest = max(len(end) for _, end in ends)
        ids = torch.tensor(
            [end + end[-1:] * (longest - len(end)) for _, end in ends], dtype=torch.long
        )
        places = torch.arange(longest).expand(len(ends), -1)
        states = self._run([row] * len(ends), self.lengths[row], ids, places)
        return [state[: len(end)] for (_, end), state in zip(ends, states, strict=True)]

    def _run(
        self,
        rows: Sequence[int],
        width: int,
        ids: Tensor,
        places: Tensor,
        owner: Tensor | None = None,
    ) -> Tensor:
        """States (B, Q, D) of what comes after the first `width` tokens of starts."""
        language = language_of(self.network)
        device = self.network.get_input_embeddings().weight.device
        ids, places = ids.to(device), places.to(device)
        lengths, shifts = (
            torch.tensor([of[row] for row in rows], device=device, dtype=torch.long)[:, None]
            for of in (self.lengths, self.shifts)
        )
        embedded = self.network.get_input_embeddings()(ids)
        mask = None
        if owner is not None:
            mask = self._masks(language.config, lengths, places, owner.to(device), embedded.dtype)
        # A decoder that looks at the picture from within is told at what by the model around it.
        cache = prefix_cache(self.network, self.layers, rows, width, len(self.lengths))
        read, told = language, {cache_argument(language): cache}
        if self.looks is not None:
            again = self.looks[list(rows)].expand(-1, ids.shape[1], *self.looks.shape[2:])
            read, told = (
                self.network,
                {cache_argument(self.network): cache, CROSS_ATTENTION_MASK: again},
            )
        states: Tensor = read(
            inputs_embeds=embedded,
            position_ids=places + lengths + shifts,
            attention_mask=mask,
            use_cache=True,
            **told,
        ).last_hidden_state
        return states

    def _masks(
        self, config: Any, lengths: Tensor, places: Tensor, owner: Tensor, dtype: torch.dtype
    ) -> Tensor | dict[str, Tensor]:
        """What each token of an end may see: its start, and its own end up to itself."""
        start = torch.arange(self.width, device=places.device).expand(len(places), -1)
        positions = places + lengths
        distance = positions[:, :, None] - torch.cat([start, positions], 1)[:, None]
        allowed = distance >= 0
        allowed[:, :, : self.width] &= (start < lengths)[:, None]
        allowed[:, :, self.width :] &= owner[:, :, None] == owner[:, None]
        return attention_masks(config, allowed, distance, dtype)


def common_prefix(prompts: Sequence[list[int]]) -> list[int]:
    """The tokens that all prompts begin with, never all of a prompt."""
    most = min(map(len, prompts)) - 1
    columns = zip(*(prompt[:most] for prompt in prompts), strict=True)
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]


def micro_batches(ends: Sequence[Suffix], packed: bool) -> Iterator[list[int]]:
    """Numbers of ends that are read at a time: at most `MAX_BATCH_TOKENS` tokens with
    filling, or one end.

    Where they are not packed, they are of one start.
    """
    if not packed:
        for row in dict.fromkeys(row for row, _ in ends):
            own = [n for n, (of, _) in enumerate(ends) if of == row]
            longest = max(len(ends[n][1]) for n in own)
            count = max(1, MAX_BATCH_TOKENS // longest)
            yield from (own[n : n + count] for n in range(0, len(own), count))
        return
    pack: list[int] = []
    used: Counter[int] = Counter()
    for n, (row, end) in enumerate(ends):
        used[row] += len(end)
        if pack and len(used) * max(used.values()) > MAX_BATCH_TOKENS:
            yield pack
            pack, used = [], Counter({row: len(end)})
        pack.append(n)
    yield pack
