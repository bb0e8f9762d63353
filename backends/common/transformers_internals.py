"""Every use of undocumented parts of transformers, but for vision (`vlm/transformers_vision.py`).

They are in one module so that a new version of transformers changes one module here.
`test_transformers_internals.py` has a test for each of them. An argument that has had several names
is chosen by the signature, never by the version.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from torch import Tensor, nn
from transformers import DynamicCache, DynamicLayer, cache_utils
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.initialization import no_init_weights
from transformers.modeling_outputs import BaseModelOutput
from typing_extensions import override

CACHE = ("cache", "past_key_values")  # names of the argument that takes one, the newest first
LINEAR: Any = getattr(cache_utils, "LinearAttentionCacheLayerMixin", ())


def parameter_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a function's parameters; a method's own object is among them.

    >>> parameter_names(position_offsets)
    ('network', 'count')
    """
    return _parameter_names(getattr(function, "__func__", function))


@lru_cache(maxsize=1024)
def _parameter_names(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(signature(function).parameters)


def cache_argument(network: Any) -> str:
    """Return the name of the parameter of `network` that takes a key-value cache.

    >>> class Decoder:
    ...     def forward(self, input_ids, past_key_values=None): ...
    >>> cache_argument(Decoder())
    'past_key_values'
    """
    for part in (network, language_of(network)):
        names = () if part is None else parameter_names(type(part).forward)
        for name in CACHE:
            if name in names:
                return name
    return CACHE[0]


@contextmanager
def empty_weights() -> Iterator[None]:
    """Let networks that are built meanwhile have weights without values, on the meta device.

    Buffers have their values, and no weights are tied. With accelerate alone, transformers would
    initialise each weight, which computes nothing there but loads the compiler of PyTorch.

    >>> from transformers import T5Config, T5EncoderModel
    >>> config = T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    >>> with empty_weights():
    ...     network = T5EncoderModel(config)
    >>> network.shared.weight.device
    device(type='meta')
    """
    with no_init_weights(), init_empty_weights(include_buffers=False):
        yield


def attention_of(network: Any) -> str:
    """Return the attention implementation of a network by transformers' name ("sdpa", ...).

    >>> from transformers import T5Config, T5EncoderModel
    >>> config = T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    >>> attention_of(T5EncoderModel._from_config(config, attn_implementation="eager"))
    'eager'
    """
    return str(network.config._attn_implementation)


def encoder_output(states: Tensor) -> Any:
    """Wrap the states of an encoder as `generate` takes them.

    Args:
        states: (B, L, width).

    >>> encoder_output(torch.zeros(1, 2, 3)).last_hidden_state.shape
    torch.Size([1, 2, 3])
    """
    return BaseModelOutput(last_hidden_state=states)


# Cross-attention


def t5_cross_attentions(t5: Any) -> list[tuple[Any, str]]:
    """Return the cross-attentions of T5's decoder, each as (parent module, attribute name).

    >>> from transformers import T5Config, T5ForConditionalGeneration
    >>> config = T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    >>> [(parent, name)] = t5_cross_attentions(T5ForConditionalGeneration(config))
    >>> type(getattr(parent, name)).__name__
    'T5Attention'
    """
    return [(block.layer[1], "EncDecAttention") for block in t5.decoder.block]


def qformer_cross_attentions(qformer: Any) -> list[tuple[Any, str]]:
    """Return a Q-Former's key and value projections as (parent module, attribute name).

    Of each layer with cross-attention, the key and then the value.

    >>> from transformers import Blip2QFormerConfig, Blip2QFormerModel
    >>> config = Blip2QFormerConfig(vocab_size=8, hidden_size=8, num_hidden_layers=2,
    ...     num_attention_heads=2, intermediate_size=8, encoder_hidden_size=6)
    >>> [name for _, name in qformer_cross_attentions(Blip2QFormerModel(config))]
    ['key', 'value']
    """
    return [
        (layer.crossattention.attention, name)
        for layer in qformer.encoder.layer
        if layer.has_cross_attention
        for name in ("key", "value")
    ]


def blip_cross_attentions(text: Any) -> list[tuple[Any, str]]:
    """Return the key and value projections of BLIP's text encoder, in the same form.

    >>> from transformers import BlipTextConfig, BlipTextModel
    >>> config = BlipTextConfig(vocab_size=8, hidden_size=8, encoder_hidden_size=6,
    ...     num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, is_decoder=True,
    ...     bos_token_id=1, sep_token_id=2)
    >>> [(parent, name), _] = blip_cross_attentions(BlipTextModel(config))
    >>> name, getattr(parent, name).in_features
    ('key', 6)
    """
    layers = text.encoder.layer
    return [(layer.crossattention.self, name) for layer in layers for name in ("key", "value")]


class AbsorbedCrossAttention(nn.Module):
    """T5's cross-attention `original`, computed without keys and values.

    With a query q, encoder states e and attention weights a: q·(Wₖe) = (Wₖᵀq)·e and
    Σ a(Wᵥe) = Wᵥ(Σ ae), so the projections can be absorbed into the query and the output.

    Args:
        original: a `T5Attention` whose projections are not quantised.

    >>> from transformers import T5Config, T5ForConditionalGeneration
    >>> config = T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    >>> holder, name = t5_cross_attentions(T5ForConditionalGeneration(config).eval())[0]
    >>> original, states = getattr(holder, name), torch.rand(1, 64, 8)
    >>> query = torch.rand(1, 1, 8)
    >>> expected, *_ = original(query, key_value_states=states)
    >>> output, *_ = AbsorbedCrossAttention(original)(query, key_value_states=states)
    >>> torch.allclose(output, expected, atol=1e-4)
    True
    """

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.original = original

    @override
    def forward(
        self,
        hidden_states: Tensor,
        mask: Tensor | None = None,
        key_value_states: Any = None,
        position_bias: Tensor | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Compute what `T5Attention` computes; T5 neither scales nor has positions here.

        Args:
            hidden_states: (B, T, width) of the answer.
            mask: (B, 1, 1 or T, L): boolean, True where attended, or additive.
            key_value_states: (B, L, width) of the encoder.
            position_bias: returned unchanged.
            **options: any that is not None, such as a cache (which needs keys and values) or an
                unknown one, is left to the original.

        Returns:
            The output (B, T, width), the position bias, and None in place of attention weights.
        """
        original = self.original
        (_, tokens, width), length = hidden_states.shape, key_value_states.shape[1]
        heads, size = original.n_heads, original.key_value_proj_dim
        work = tokens * width * (heads * length + heads * size)
        unknown = any(value is not None for value in options.values())
        if unknown or not _is_cheaper(work, tokens, width, length, heads * size):
            output: tuple[Tensor, Tensor | None, Tensor | None] = original(
                hidden_states,
                mask=mask,
                key_value_states=key_value_states,
                position_bias=position_bias,
                **options,
            )
            return output
        return self._attend(hidden_states, mask, key_value_states), position_bias, None

    def _attend(self, hidden_states: Tensor, mask: Tensor | None, states: Tensor) -> Tensor:
        """Return the output (B, T, width) of attention to encoder states (B, L, width)."""
        original = self.original
        (batch, tokens, width), length = hidden_states.shape, states.shape[1]
        heads, size = original.n_heads, original.key_value_proj_dim
        queries = original.q(hidden_states).view(batch, tokens, heads, size)
        projected_queries = torch.einsum(
            "bthd,hdw->bhtw", queries, original.k.weight.view(heads, size, width)
        )
        logits = (
            (projected_queries.flatten(1, 2) @ states.mT).view(batch, heads, tokens, length).float()
        )
        if mask is not None and mask.dtype is torch.bool:
            logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
        elif mask is not None:
            logits = logits + mask
        attended = logits.softmax(-1).to(states.dtype).flatten(1, 2) @ states
        values = torch.einsum(
            "bhtw,hdw->bthd",
            attended.view(batch, heads, tokens, width),
            original.v.weight.view(heads, size, width),
        )
        output: Tensor = original.o(values.flatten(2))
        return output


def absorb_cross_attention(t5: Any, on: bool = True) -> bool:
    """Replace the cross-attentions of a T5 by `AbsorbedCrossAttention`, or put the originals back.

    Args:
        t5: a `T5ForConditionalGeneration`, changed in place.
        on: whether to replace them.

    Returns:
        Whether they are absorbed now; quantised ones never are.

    >>> from transformers import T5Config, T5ForConditionalGeneration
    >>> config = T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    >>> t5 = T5ForConditionalGeneration(config)
    >>> absorb_cross_attention(t5), absorb_cross_attention(t5, on=False)
    (True, False)
    """
    places = t5_cross_attentions(t5)
    if on and any(type(getattr(*place).k) is not nn.Linear for place in places):
        return False
    for holder, name in places:
        attention = getattr(holder, name)
        if isinstance(attention, AbsorbedCrossAttention) is not on:
            setattr(holder, name, AbsorbedCrossAttention(attention) if on else attention.original)
    return on


def _is_cheaper(work: int, tokens: int, width: int, length: int, inner: int) -> bool:
    """Return whether absorbing (`work` operations) is cheaper than computing keys and values.

    Matrices of few rows are multiplied at about two thirds of the speed of larger ones.
    """
    return 3 * work <= 2 * length * inner * (width + tokens)


# Caches of keys and values


class PrefixLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of a prefix; those of suffixes are appended for one call.

    Args:
        keys: (B, heads, P, head width).
        values: the same shape.
        grows: whether what is appended is stored.

    >>> layer = PrefixLayer(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4))
    >>> layer.update(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 4))[0].shape, layer.keys.shape
    (torch.Size([1, 2, 4, 4]), torch.Size([1, 2, 3, 4]))
    """

    def __init__(self, keys: Tensor, values: Tensor, grows: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys: Tensor
        self.values: Tensor
        self.keys, self.values, self.grows = keys, values, grows
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True

    @override
    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        states = torch.cat([self.keys, key_states], -2), torch.cat([self.values, value_states], -2)
        if self.grows:
            self.keys, self.values = states
        return states


def cached_layers(network: Any, inputs: Mapping[str, Any]) -> list[Any]:
    """Run `network` on its inputs and return the layers of its cache.

    Args:
        network: a model without its head.
        inputs: all its inputs, by name.

    >>> from transformers import LlamaConfig, LlamaModel
    >>> from types import SimpleNamespace
    >>> config = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8,
    ...     num_hidden_layers=2, num_attention_heads=2)
    >>> class Network(LlamaModel):
    ...     language_model = SimpleNamespace(config=config)
    >>> layers = cached_layers(Network(config), {"input_ids": torch.tensor([[1, 2, 3]])})
    >>> len(layers), layers[0].keys.shape
    (2, torch.Size([1, 2, 3, 4]))
    """
    # Without a config, sliding layers keep all tokens; linear attention needs the config.
    config = language_of(network).config
    cache: Any = DynamicCache(config=config) if has_linear_attention(network) else DynamicCache()
    network(**inputs, **{cache_argument(network): cache}, use_cache=True)
    layers: list[Any] = cache.layers
    return layers


def prefix_cache(
    network: Any,
    layers: Sequence[Any],
    rows: Sequence[int],
    width: int,
    count: int,
    grows: bool = False,
) -> Any:
    """Return a cache of the first `width` tokens of some prefixes.

    The cache is copied layer by layer as it is used, not here; `layers` stay as they are.

    Args:
        network: the model whose cache it is.
        layers: the result of `cached_layers`, with `count` prefixes in a batch.
        rows: the prefixes to take, each as often as it is named.
        width: tokens of a prefix, padding included.
        count: the prefixes in `layers`.
        grows: whether the cache stores the tokens that are read behind a prefix.

    >>> from types import SimpleNamespace
    >>> network = SimpleNamespace(language_model=SimpleNamespace(config=SimpleNamespace()))
    >>> states = torch.zeros(2, 1, 5, 4)  # two prefixes of five tokens with their padding
    >>> cache = prefix_cache(network, [PrefixLayer(states, states)], [0, 0, 1], width=3, count=2)
    >>> cache.layers[0].keys.shape
    torch.Size([3, 1, 3, 4])
    """
    cache: Any = DynamicCache()
    cross_layers = getattr(language_of(network).config, "cross_attention_layers", ())
    for number, layer in enumerate(layers):
        if isinstance(layer, LINEAR):
            cache.layers.append(copy.deepcopy(layer))
            cache.layers[-1].reorder_cache(torch.tensor(rows, dtype=torch.long))
            continue
        prefix: Sequence[Tensor] = (layer.keys, layer.values)
        if len(set(rows)) == 1:  # a view, however often it is repeated
            prefix = [states[rows[0], None].expand(len(rows), -1, -1, -1) for states in prefix]
        elif list(rows) != list(range(count)):
            prefix = [states[list(rows)] for states in prefix]
        if number not in cross_layers:
            prefix = [states[:, :, :width] for states in prefix]
        keys, values = prefix
        cache.layers.append(PrefixLayer(keys, values, grows))
    return cache


def position_offsets(network: Any, count: int) -> list[int]:
    """Return, for each of `count` prefixes read last, position minus token count after it.

    Models whose images take fewer positions than tokens keep it in an attribute.

    >>> from types import SimpleNamespace
    >>> position_offsets(SimpleNamespace(rope_deltas=torch.tensor([[-3]])), 1)
    [-3]
    >>> position_offsets(SimpleNamespace(), 2)
    [0, 0]
    """
    shift = getattr(network, "rope_deltas", None)
    return [0] * count if shift is None else list(shift.flatten().tolist())


def set_position_offsets(network: Any, offsets: Sequence[int]) -> None:
    """Make the next tokens of a batch continue prefixes with these `position_offsets`.

    >>> from types import SimpleNamespace
    >>> network = SimpleNamespace(rope_deltas=torch.tensor([[-3]]))
    >>> set_position_offsets(network, [-2, -5])
    >>> network.rope_deltas.tolist()
    [[-2], [-5]]
    """
    shift = getattr(network, "rope_deltas", None)
    if shift is not None:
        network.rope_deltas = torch.tensor(offsets, dtype=shift.dtype, device=shift.device)[:, None]


# Decoders


def language_of(network: Any) -> Any:
    """Return the language model within a vision-language model, or None.

    >>> from types import SimpleNamespace
    >>> language_of(SimpleNamespace(language_model="decoder")), language_of(SimpleNamespace())
    ('decoder', None)
    """
    return getattr(network, "language_model", None) or getattr(network, "text_model", None)


def has_linear_attention(network: Any) -> bool:
    """Return whether any layer is linear attention, which keeps one recurrent state per prefix.

    >>> from types import SimpleNamespace
    >>> config = SimpleNamespace(layer_types=["linear_attention", "full_attention"])
    >>> has_linear_attention(SimpleNamespace(language_model=SimpleNamespace(config=config)))
    True
    """
    return "linear_attention" in _layer_types(network)


def can_share_prefix(network: Any) -> bool:
    """Return whether all layers are of types whose prefix can be shared among suffixes.

    >>> from types import SimpleNamespace
    >>> config = SimpleNamespace(layer_types=["chunked_attention"])
    >>> can_share_prefix(SimpleNamespace(language_model=SimpleNamespace(config=config)))
    False
    """
    return bool(types := _layer_types(network)) and (
        types <= {"full_attention", "sliding_attention"}
        or types <= {"full_attention", "linear_attention"}
    )


def _layer_types(network: Any) -> set[str]:
    language = language_of(network)
    return set() if language is None else layer_types_of(language.config)


def layer_types_of(config: Any) -> set[str]:
    """Return the layer types of a decoder; where they are not listed, a window applies to all.

    >>> from types import SimpleNamespace
    >>> layer_types_of(SimpleNamespace(sliding_window=512))
    {'sliding_attention'}
    """
    window = getattr(config, "sliding_window", None)
    alike = "full_attention" if window is None else "sliding_attention"
    return set(getattr(config, "layer_types", None) or [alike])


def attention_masks(
    config: Any, allowed: Tensor, distance: Tensor, dtype: torch.dtype
) -> Tensor | dict[str, Tensor]:
    """Build the additive attention masks of a decoder, by layer type where it has several.

    Args:
        config: the configuration of the decoder.
        allowed: (B, Q, K), True where a query may attend to a key.
        distance: (B, Q, K), position of the query minus position of the key, for sliding windows.
        dtype: dtype of the masks.

    Returns:
        (B, 1, Q, K) of 0 and the smallest number of the type, or a mask for each layer type.

    >>> from types import SimpleNamespace
    >>> allowed = torch.tensor([[[True, False]]])
    >>> attention_masks(SimpleNamespace(), allowed, torch.zeros(1, 1, 2), torch.float32) == 0
    tensor([[[[ True, False]]]])
    """
    full = _additive(allowed, dtype)
    if "sliding_attention" not in layer_types_of(config):
        return full
    near = _additive(allowed & (distance < config.sliding_window), dtype)
    if not getattr(config, "layer_types", None):  # all layers are of one type
        return near
    return {"full_attention": full, "sliding_attention": near}


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]


def max_stable_length(network: Any) -> float:
    """Return the length beyond which longrope or dynamic RoPE rescales all rotary frequencies.

    They depend on the longest row of a batch, so that beyond this length neither a prefix nor a
    row of a batch may be encoded apart from the rest. Infinite for other kinds of RoPE.

    >>> from types import SimpleNamespace
    >>> rope = {"rope_type": "longrope", "original_max_position_embeddings": 4096}
    >>> config = SimpleNamespace(rope_parameters=rope, max_position_embeddings=131072)
    >>> max_stable_length(SimpleNamespace(config=config))
    4096
    """
    config: Any = getattr(language_of(network) or network, "config", None)
    rope_params = getattr(config, "rope_parameters", None) or {}
    if "rope_type" not in rope_params:  # one entry per layer type
        rope_params = {
            kind: params for kind, params in rope_params.items() if isinstance(params, Mapping)
        }
    lengths = [
        min(
            params.get("original_max_position_embeddings") or math.inf,
            config.max_position_embeddings,
        )
        for params in ([rope_params] if "rope_type" in rope_params else rope_params.values())
        if params.get("rope_type") == "longrope" or "dynamic" in str(params.get("rope_type"))
    ]
    return min(lengths, default=math.inf)


def reset_dynamic_rope(network: Any) -> None:
    """Reset "dynamic" RoPE to its original frequencies; else it keeps those of the longest row.

    >>> rope = nn.Linear(1, 1)
    >>> rope.rope_type, rope.original_max_seq_len = "dynamic", 4096
    >>> rope.original_inv_freq, rope.inv_freq = torch.tensor([1.0]), torch.tensor([0.5])
    >>> del rope.inv_freq
    >>> rope.register_buffer("inv_freq", torch.tensor([0.5]))
    >>> reset_dynamic_rope(rope)
    >>> rope.inv_freq
    tensor([1.])
    """
    for module in network.modules():
        if hasattr(module, "original_inv_freq") and "dynamic" in str(module.rope_type):
            inv_freq = module.original_inv_freq.to(module.inv_freq.device)
            module.register_buffer("inv_freq", inv_freq, persistent=False)
            module.max_seq_len_cached = module.original_max_seq_len


def fill_position_ids(network: nn.Module) -> None:
    """Fill the `position_ids` buffers of a network, which are in no checkpoint.

    >>> network = nn.Linear(1, 1)
    >>> network.register_buffer("position_ids", torch.empty(1, 3, dtype=torch.long))
    >>> fill_position_ids(network)
    >>> network.position_ids.tolist()
    [[0, 1, 2]]
    """
    for module in network.modules():
        if isinstance(position_ids := getattr(module, "position_ids", None), Tensor):
            positions = torch.arange(position_ids.shape[-1], device=_device_of(network))
            module.position_ids = positions.expand(1, -1)


def _device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


# Code beside a checkpoint


def load_remote_class(reference: str, folder: Path) -> Any:
    """Load a class from the Python code of a checkpoint folder; the code runs here.

    Args:
        reference: "module.Class", as `auto_map` of config.json has it.
        folder: the folder of the checkpoint.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "modeling.py").write_text("class Network: width = 8")
    ...     load_remote_class("modeling.Network", Path(folder)).width
    8
    """
    return get_class_from_dynamic_module(reference, str(folder))


def adapt_to_transformers_5(network: Any) -> None:
    """Adapt a class written for transformers 4 to loading by transformers 5.

    Version 5 sets an attribute in `post_init`, which older classes need not call, and passes more
    arguments to `tie_weights`.

    >>> class Network:
    ...     def tie_weights(self):
    ...         return "tied"
    >>> adapt_to_transformers_5(Network)
    >>> Network().tie_weights(missing_keys=set()), Network.all_tied_weights_keys
    ('tied', {})
    """
    if not hasattr(network, "all_tied_weights_keys"):
        network.all_tied_weights_keys = {}
    tie = network.tie_weights
    if len(signature(tie).parameters) == 1:
        network.tie_weights = lambda self, *args, **options: tie(self)
