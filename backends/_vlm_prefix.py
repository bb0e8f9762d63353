"""What texts of one picture share: the keys and values of the picture and of their common start.

Starts of several pictures are rows of one batch. In the mode "packed", the ends of all texts of a
picture are packed into its row, after that start: a mask keeps them apart, and each counts its
positions from the end of the start, so that none knows of the others. In the mode "repeated",
which needs no such mask, every end has a row of its own and the start is repeated for it. So do
layers of linear attention, which remember a start as one state; a row must not be filled for them.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, LinearAttentionCacheLayerMixin

from ._vlm_inputs import LOOKS, Row

PACK = 4096  # tokens of texts that are read at a time
End: TypeAlias = tuple[int, list[int]]  # the number of its start, and its tokens


class StartLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of a start, to which what is read after it is added for that time only."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys: Tensor
        self.values: Tensor
        self.keys, self.values = keys, values
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        return torch.cat([self.keys, key_states], -2), torch.cat([self.values, value_states], -2)


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
        # Without a config no layer forgets, sliding or not; with one, some are linear.
        config = language_of(network).config
        cache: Any = DynamicCache(config=config) if has_memory(network) else DynamicCache()
        network(**inputs, past_key_values=cache, use_cache=True)
        self.layers = cache.layers
        self.width = inputs["input_ids"].shape[1]
        self.looks = inputs[LOOKS][:, -1:] if LOOKS in inputs else None
        # Models whose pictures take fewer positions than tokens leave the difference here.
        shift = getattr(network, "rope_deltas", None)
        self.shifts = [0] * len(lengths) if shift is None else shift.flatten().tolist()

    def read(self, ends: Sequence[End]) -> list[Tensor]:
        """States (tokens, width) of each end."""
        states: dict[int, Tensor] = {}
        for pack in packs(ends, self.packed):
            read = self._read_packed if self.packed else self._read_repeated
            states |= zip(pack, read([ends[n] for n in pack]), strict=True)
        return [states[n] for n in range(len(ends))]

    def _read_packed(self, ends: Sequence[End]) -> list[Tensor]:
        rows = sorted({row for row, _ in ends})
        used, spans = dict.fromkeys(rows, 0), []
        for row, end in ends:
            spans.append((rows.index(row), slice(used[row], used[row] + len(end))))
            used[row] += len(end)
        shape = len(rows), max(used.values())
        ids, places, owner = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
        for n, (span, (_, end)) in enumerate(zip(spans, ends, strict=True)):
            ids[span], places[span] = torch.tensor(end), torch.arange(len(end))
            owner[span] = n + 1  # filling has 0
        states = self._run(rows, self.width, ids, places, owner)
        return [states[span] for span in spans]

    def _read_repeated(self, ends: Sequence[End]) -> list[Tensor]:
        row = ends[0][0]
        longest = max(len(end) for _, end in ends)
        ids = torch.tensor([end + end[-1:] * (longest - len(end)) for _, end in ends])
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
            torch.tensor([of[row] for row in rows], device=device)[:, None]
            for of in (self.lengths, self.shifts)
        )
        embedded = self.network.get_input_embeddings()(ids)
        mask = None
        if owner is not None:
            mask = self._masks(language.config, lengths, places, owner.to(device), embedded.dtype)
        # A decoder that looks at the picture from within is told at what by the model around it.
        read, told = language, {}
        if self.looks is not None:
            again = self.looks[list(rows)].expand(-1, ids.shape[1], *self.looks.shape[2:])
            read, told = self.network, {LOOKS: again}
        states: Tensor = read(
            inputs_embeds=embedded,
            position_ids=places + lengths + shifts,
            attention_mask=mask,
            past_key_values=self._cache(rows, width),
            use_cache=True,
            **told,
        ).last_hidden_state
        return states

    def _cache(self, rows: Sequence[int], width: int) -> Any:
        """The starts of these rows, of which copies are made layer by layer, when it is read."""
        cache: Any = DynamicCache()
        looking = getattr(language_of(self.network).config, "cross_attention_layers", ())
        for number, layer in enumerate(self.layers):
            if isinstance(layer, LinearAttentionCacheLayerMixin):
                cache.layers.append(copy.deepcopy(layer))
                cache.layers[-1].reorder_cache(torch.tensor(rows))
                continue
            kept: Sequence[Tensor] = (layer.keys, layer.values)
            if len(set(rows)) == 1:  # without a copy, however often it is repeated
                kept = [of[rows[0], None].expand(len(rows), -1, -1, -1) for of in kept]
            elif len(rows) < len(self.lengths):
                kept = [of[list(rows)] for of in kept]
            if number not in looking:
                kept = [of[:, :, :width] for of in kept]
            cache.layers.append(StartLayer(*kept))
        return cache

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
        full = _additive(allowed, dtype)
        kinds = kinds_of(config)
        if "sliding_attention" not in kinds:
            return full
        near = _additive(allowed & (distance < config.sliding_window), dtype)
        if not getattr(config, "layer_types", None):  # all layers are of one kind
            return near
        return {"full_attention": full, "sliding_attention": near}


def language_of(network: Any) -> Any:
    """The part of a model that reads; None where it is not apart from the rest."""
    return getattr(network, "language_model", None) or getattr(network, "text_model", None)


def has_memory(network: Any) -> bool:
    """Whether layers of a model remember what they read as one state."""
    return "linear_attention" in _kinds(network)


def can_share(network: Any) -> bool:
    """Whether the layers of a model are such that a start can be shared."""
    return bool(kinds := _kinds(network)) and (
        kinds <= {"full_attention", "sliding_attention"}
        or kinds <= {"full_attention", "linear_attention"}
    )


def reach(network: Any) -> float:
    """How many tokens a row may have before its positions are turned otherwise, those before too.

    So do rotary embeddings of the kinds "longrope" and "dynamic", by the longest row of a batch: a
    start, or a row beside longer ones, must not be read apart from what makes it longer.
    """
    config: Any = getattr(language_of(network) or network, "config", None)
    turns = getattr(config, "rope_parameters", None) or {}
    if "rope_type" not in turns:  # by kind of layer
        turns = {kind: of for kind, of in turns.items() if isinstance(of, Mapping)}
    lengths = [
        min(of.get("original_max_position_embeddings") or math.inf, config.max_position_embeddings)
        for of in ([turns] if "rope_type" in turns else turns.values())
        if of.get("rope_type") == "longrope" or "dynamic" in str(of.get("rope_type"))
    ]
    return min(lengths, default=math.inf)


def begin_anew(network: Any) -> None:
    """Forget the longest row so far, by which "dynamic" positions are turned ever after."""
    for module in network.modules():
        if hasattr(module, "original_inv_freq") and "dynamic" in str(module.rope_type):
            turns = module.original_inv_freq.to(module.inv_freq.device)
            module.register_buffer("inv_freq", turns, persistent=False)
            module.max_seq_len_cached = module.original_max_seq_len


def _kinds(network: Any) -> set[str]:
    language = language_of(network)
    return set() if language is None else kinds_of(language.config)


def kinds_of(config: Any) -> set[str]:
    """Kinds of a decoder's layers; where they are not listed, a window is that of all."""
    window = getattr(config, "sliding_window", None)
    alike = "full_attention" if window is None else "sliding_attention"
    return set(getattr(config, "layer_types", None) or [alike])


def common_start(prompts: Sequence[list[int]]) -> list[int]:
    """The tokens that all prompts begin with, never all of a prompt."""
    most = min(map(len, prompts)) - 1
    columns = zip(*(prompt[:most] for prompt in prompts), strict=True)
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]


def packs(ends: Sequence[End], packed: bool) -> Iterator[list[int]]:
    """Numbers of ends that are read at a time: at most `PACK` tokens with filling, or one end.

    Where they are not packed, they are of one start.
    """
    if not packed:
        for row in dict.fromkeys(row for row, _ in ends):
            own = [n for n, (of, _) in enumerate(ends) if of == row]
            longest = max(len(ends[n][1]) for n in own)
            count = max(1, PACK // longest)
            yield from (own[n : n + count] for n in range(0, len(own), count))
        return
    pack: list[int] = []
    used: Counter[int] = Counter()
    for n, (row, end) in enumerate(ends):
        used[row] += len(end)
        if pack and len(used) * max(used.values()) > PACK:
            yield pack
            pack, used = [], Counter({row: len(end)})
        pack.append(n)
    yield pack


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]
