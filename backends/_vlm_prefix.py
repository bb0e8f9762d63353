"""What texts of one picture share: the keys and values of the picture and of their common start.

The ends of all texts are packed into one row after that start. A mask keeps them apart, and each
counts its positions from the end of the start, so that none knows of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

LOOKS = "cross_attention_mask"  # the input that says which tiles of the picture a token looks at


class Prefix:
    """The start, read once: `inputs` are all the model takes for it, its `input_ids` (1, P) too."""

    def __init__(self, network: Any, inputs: Mapping[str, Tensor]) -> None:
        self.network = network
        self.length = inputs["input_ids"].shape[1]
        self.cache: Any = DynamicCache()  # without a config no layer forgets, sliding or not
        network(**inputs, past_key_values=self.cache, use_cache=True)
        self.kept = _tensors(self.cache)
        self.looks = inputs[LOOKS][:, -1:] if LOOKS in inputs else None
        # Models whose pictures take fewer positions than tokens leave the difference here.
        shift = getattr(network, "rope_deltas", None)
        self.shift = 0 if shift is None else int(shift.flatten()[0])

    def read(self, ends: Sequence[Sequence[int]]) -> Sequence[Tensor]:
        """States (tokens, width) of each end."""
        language = self.network.language_model
        device = self.kept[0][0].device
        ids = torch.tensor([token for end in ends for token in end], device=device)
        places = torch.cat([torch.arange(len(end)) for end in ends]).to(device) + self.length
        owner = torch.repeat_interleave(torch.tensor([len(end) for end in ends])).to(device)
        embedded = self.network.get_input_embeddings()(ids[None])
        # A decoder that looks at the picture from within is told at what by the model around it.
        read, told = language, {}
        if self.looks is not None:
            again = self.looks.expand(-1, len(ids), *self.looks.shape[2:])
            read, told = self.network, {LOOKS: again}
        try:
            states: Tensor = read(
                inputs_embeds=embedded,
                position_ids=places[None] + self.shift,
                attention_mask=self._masks(language.config, places, owner, embedded.dtype),
                past_key_values=self.cache,
                use_cache=True,
                **told,
            ).last_hidden_state
        finally:  # the cache forgets the ends, also those that did not fit into memory
            for layer, (keys, values) in zip(self.cache.layers, self.kept, strict=False):
                layer.keys, layer.values = keys, values
        return torch.split(states[0], [len(end) for end in ends])

    def _masks(
        self, config: Any, places: Tensor, owner: Tensor, dtype: torch.dtype
    ) -> Tensor | dict[str, Tensor]:
        """What each token of an end may see: the start, and its own end up to itself."""
        start = torch.arange(self.length, device=places.device)
        distance = places[:, None] - torch.cat([start, places])
        allowed = distance >= 0
        allowed[:, self.length :] &= owner[:, None] == owner
        full = _additive(allowed, dtype)
        kinds = set(getattr(config, "layer_types", None) or ())
        if "sliding_attention" not in kinds:
            return full
        near = _additive(allowed & (distance < config.sliding_window), dtype)
        return {"full_attention": full, "sliding_attention": near}


def can_share(network: Any) -> bool:
    """Whether the layers of a model are such that a start can be shared."""
    language = getattr(network, "language_model", None)
    if language is None:
        return False
    kinds = set(getattr(language.config, "layer_types", None) or ["full_attention"])
    return kinds <= {"full_attention", "sliding_attention"}


def _tensors(cache: Any) -> list[tuple[Tensor, Tensor]]:
    return [(layer.keys, layer.values) for layer in cache.layers]


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[None, None]
