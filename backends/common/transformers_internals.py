"""All that is asked of transformers beyond its documented interface, but for what sees images
(`vlm/transformers_vision.py`), so that a version that changes it changes one module here.

`test_transformers_internals.py` has a test for each thing that is relied on. An argument that has
had several names is chosen by the signature, never by the version.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, DynamicLayer, cache_utils
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.modeling_outputs import BaseModelOutput

CACHE = ("cache", "past_key_values")  # names of the argument that takes one, the newest first
LINEAR: Any = getattr(cache_utils, "LinearAttentionCacheLayerMixin", ())


def takes(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a function's arguments."""
    return _takes(getattr(function, "__func__", function))


@lru_cache(maxsize=1024)
def _takes(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(signature(function).parameters)


def cache_argument(network: Any) -> str:
    """What a network calls the argument that takes a cache of keys and values."""
    for part in (network, language_of(network)):
        names = () if part is None else takes(type(part).forward)
        for name in CACHE:
            if name in names:
                return name
    return CACHE[0]


def attention_of(network: Any) -> str:
    """How a network computes attention, as transformers names it."""
    return str(network.config._attn_implementation)


def encoder_output(states: Tensor) -> Any:
    """States of an encoder as `generate` takes them."""
    return BaseModelOutput(last_hidden_state=states)


# Cross-attention


def t5_cross_attentions(t5: Any) -> list[tuple[Any, str]]:
    """Where the cross-attentions of T5's decoder are: each by what holds it, and its name there."""
    return [(block.layer[1], "EncDecAttention") for block in t5.decoder.block]


def qformer_cross_attentions(qformer: Any) -> list[tuple[Any, str]]:
    """Where the keys and values of a Q-Former's cross-attentions are made."""
    return [
        (layer.crossattention.attention, name)
        for layer in qformer.encoder.layer
        if layer.has_cross_attention
        for name in ("key", "value")
    ]


def blip_cross_attentions(text: Any) -> list[tuple[Any, str]]:
    """The same of BLIP's text encoder."""
    layers = text.encoder.layer
    return [(layer.crossattention.self, name) for layer in layers for name in ("key", "value")]


class Absorbed(nn.Module):
    """T5's cross-attention without keys and values; `plain` is the one with them.

    With q a query, e the states and a how much of each is looked at, q·(Wₖe) = (Wₖᵀq)·e and
    Σ a(Wᵥe) = Wᵥ(Σ ae).
    """

    def __init__(self, plain: Any) -> None:
        super().__init__()
        self.plain = plain

    def forward(
        self,
        hidden_states: Tensor,
        mask: Tensor | None = None,
        key_value_states: Any = None,
        position_bias: Tensor | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """As `T5Attention`; T5 neither scales here nor knows of positions, so only `mask` counts.

        Args:
            hidden_states: (B, T, width) of the answer.
            mask: (B, 1, 1 or T, L), which are looked at, or what is added.
            key_value_states: (B, L, width) of the encoder.
            options: with a cache, keys and values are made once for many tokens, and are needed;
                so they are with what is not known here.
        """
        plain, states = self.plain, key_value_states
        (batch, tokens, width), length = hidden_states.shape, states.shape[1]
        heads, size = plain.n_heads, plain.key_value_proj_dim
        work = tokens * width * (heads * length + heads * size)
        unknown = any(value is not None for value in options.values())
        if unknown or not _pays(work, tokens, width, length, heads * size):
            made: tuple[Tensor, Tensor | None, Tensor | None] = plain(
                hidden_states,
                mask=mask,
                key_value_states=states,
                position_bias=position_bias,
                **options,
            )
            return made
        queries = plain.q(hidden_states).view(batch, tokens, heads, size)
        asked = torch.einsum("bthd,hdw->bhtw", queries, plain.k.weight.view(heads, size, width))
        looks = (asked.flatten(1, 2) @ states.mT).view(batch, heads, tokens, length).float()
        if mask is not None and mask.dtype is torch.bool:
            looks = looks.masked_fill(~mask, torch.finfo(looks.dtype).min)
        elif mask is not None:
            looks = looks + mask
        seen = looks.softmax(-1).to(states.dtype).flatten(1, 2) @ states
        values = torch.einsum(
            "bhtw,hdw->bthd",
            seen.view(batch, heads, tokens, width),
            plain.v.weight.view(heads, size, width),
        )
        return plain.o(values.flatten(2)), position_bias, None


def absorb(t5: Any, on: bool = True) -> bool:
    """Make the cross-attentions of a T5 `Absorbed`, or plain again, and say which they are.

    They are left as they are where their weights are packed.
    """
    places = t5_cross_attentions(t5)
    if on and any(type(getattr(*place).k) is not nn.Linear for place in places):
        return False
    for holder, name in places:
        attention = getattr(holder, name)
        if isinstance(attention, Absorbed) is not on:
            setattr(holder, name, Absorbed(attention) if on else attention.plain)
    return on


def _pays(work: int, tokens: int, width: int, length: int, inner: int) -> bool:
    """Whether absorbing is less `work` than keys and values of all states, and using them.

    Thin matrices are multiplied at about two thirds of the speed of thick ones.
    """
    return 3 * work <= 2 * length * inner * (width + tokens)


# Caches of keys and values


class PrefixLayer(DynamicLayer):  # type: ignore[no-untyped-call]
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


def cached_layers(network: Any, inputs: Mapping[str, Any]) -> list[Any]:
    """The layers of a cache after a network has read its inputs."""
    # Without a config no layer forgets, sliding or not; with one, some are linear.
    config = language_of(network).config
    cache: Any = DynamicCache(config=config) if has_linear_attention(network) else DynamicCache()
    network(**inputs, **{cache_argument(network): cache}, use_cache=True)
    layers: list[Any] = cache.layers
    return layers


def prefix_cache(
    network: Any, layers: Sequence[Any], rows: Sequence[int], width: int, count: int
) -> Any:
    """The first `width` tokens of these rows, of `count` that were read, as a cache.

    Copies are made layer by layer, when it is read.
    """
    cache: Any = DynamicCache()
    looking = getattr(language_of(network).config, "cross_attention_layers", ())
    for number, layer in enumerate(layers):
        if isinstance(layer, LINEAR):
            cache.layers.append(copy.deepcopy(layer))
            cache.layers[-1].reorder_cache(torch.tensor(rows, dtype=torch.long))
            continue
        kept: Sequence[Tensor] = (layer.keys, layer.values)
        if len(set(rows)) == 1:  # without a copy, however often it is repeated
            kept = [of[rows[0], None].expand(len(rows), -1, -1, -1) for of in kept]
        elif len(rows) < count:
            kept = [of[list(rows)] for of in kept]
        if number not in looking:
            kept = [of[:, :, :width] for of in kept]
        cache.layers.append(PrefixLayer(*kept))
    return cache


def position_offsets(network: Any, count: int) -> list[int]:
    """By how much the places of texts after `count` starts, read last, differ from their tokens.

    Models whose images take fewer positions than tokens leave it in an attribute.
    """
    shift = getattr(network, "rope_deltas", None)
    return [0] * count if shift is None else list(shift.flatten().tolist())


# Decoders


def language_of(network: Any) -> Any:
    """The part of a model that reads; None where it is not apart from the rest."""
    return getattr(network, "language_model", None) or getattr(network, "text_model", None)


def has_linear_attention(network: Any) -> bool:
    """Whether layers of a model remember what they read as one state."""
    return "linear_attention" in _kinds(network)


def can_share_prefix(network: Any) -> bool:
    """Whether the layers of a model are such that a start can be shared."""
    return bool(kinds := _kinds(network)) and (
        kinds <= {"full_attention", "sliding_attention"}
        or kinds <= {"full_attention", "linear_attention"}
    )


def _kinds(network: Any) -> set[str]:
    language = language_of(network)
    return set() if language is None else kinds_of(language.config)


def kinds_of(config: Any) -> set[str]:
    """Kinds of a decoder's layers; where they are not listed, a window is that of all."""
    window = getattr(config, "sliding_window", None)
    alike = "full_attention" if window is None else "sliding_attention"
    return set(getattr(config, "layer_types", None) or [alike])


def attention_masks(
    config: Any, allowed: Tensor, distance: Tensor, dtype: torch.dtype
) -> Tensor | dict[str, Tensor]:
    """What a decoder takes to look only where it is allowed, and in windows only at what is near.

    Args:
        allowed: (B, Q, K).
        distance: (B, Q, K), how many places further on each token is than what it looks at.
    """
    full = _additive(allowed, dtype)
    if "sliding_attention" not in kinds_of(config):
        return full
    near = _additive(allowed & (distance < config.sliding_window), dtype)
    if not getattr(config, "layer_types", None):  # all layers are of one kind
        return near
    return {"full_attention": full, "sliding_attention": near}


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]


def max_stable_length(network: Any) -> float:
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


def reset_dynamic_rope(network: Any) -> None:
    """Forget the longest row so far, by which "dynamic" positions are turned ever after."""
    for module in network.modules():
        if hasattr(module, "original_inv_freq") and "dynamic" in str(module.rope_type):
            turns = module.original_inv_freq.to(module.inv_freq.device)
            module.register_buffer("inv_freq", turns, persistent=False)
            module.max_seq_len_cached = module.original_max_seq_len


def number_positions(network: nn.Module) -> None:
    """Write the numbers of positions, which are in no checkpoint, where a network keeps them."""
    for module in network.modules():
        if isinstance(numbers := getattr(module, "position_ids", None), Tensor):
            places = torch.arange(numbers.shape[-1], device=_device_of(network))
            module.position_ids = places.expand(1, -1)


def _device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


# Code beside a checkpoint


def class_beside(place: str, folder: Path) -> Any:
    """A class in the Python code of a checkpoint, which runs here."""
    return get_class_from_dynamic_module(place, str(folder))


def as_transformers_5(network: Any) -> None:
    """Let a class written for transformers 4 be loaded: 5 sets one attribute in `post_init`, which
    it need not call, and calls `tie_weights` with more arguments than it had.
    """
    if not hasattr(network, "all_tied_weights_keys"):
        network.all_tied_weights_keys = {}
    tie = network.tie_weights
    if len(signature(tie).parameters) == 1:
        network.tie_weights = lambda self, *args, **options: tie(self)
