"""Cross-attention from text to image in BLIP: weights, and keys and values made once an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from t2v_eval.local.weights import fill

from ..common.transformers_internals import fill_position_ids
from ..common.versions import tolerance_for, use_where_equal


class _Columns(nn.Module):
    """Returns a slice of its input: keys or values that `FusedKeysAndValues` has computed."""

    def __init__(self, columns: slice) -> None:
        super().__init__()
        self.columns = columns

    @override
    def forward(self, states: Tensor) -> Tensor:
        return states[..., self.columns]


class FusedKeysAndValues(nn.Module):
    """Compute the keys and values of images for all cross-attentions of a network in one layer.

    Its output replaces the image states as the input of the network: each attention takes its keys
    and values from there, so they are computed once for all texts of an image.

    Args:
        locations: returns the key and value layers in pairs, as (parent module, attribute name).
        attend: returns the network's output for some text, given image states (B, L, width) or the
            output of this module for them.
        width: width of the image states.
        device: device of the network, which is in float32.

    >>> network = nn.ModuleDict({"key": nn.Linear(4, 2), "value": nn.Linear(4, 2)})
    >>> states = torch.rand(1, 3, 4)
    >>> expected = network["key"](states)
    >>> fused = FusedKeysAndValues(
    ...     lambda: [(network, "key"), (network, "value")],
    ...     lambda states: network["key"](states) + network["value"](states),
    ...     width=4,
    ...     device=torch.device("cpu"),
    ... )
    >>> torch.allclose(network["key"](fused(states)), expected, atol=1e-6)
    True
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

    @override
    def forward(self, states: Tensor) -> Tensor:
        """Return the keys and values (B, L, K) of image states (B, L, width).

        Where the fast path is off, return the image states unchanged.
        """
        fused: Tensor = states if self._fused is None else self._fused(states)
        return fused

    def _switch(self, on: bool) -> bool:
        if on:
            self._projections = [(*place, getattr(*place)) for place in self._locations()]
            fused = _concatenate([layer for *_, layer in self._projections])
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


def _concatenate(layers: Sequence[nn.Linear]) -> nn.Linear:
    """Return one layer whose output is that of all layers, side by side."""
    outputs = sum(layer.out_features for layer in layers)
    fused = nn.Linear(layers[0].in_features, outputs, device="meta")
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

    Args:
        model_class: a model class of transformers.
        config: its configuration.
        tensors: weights by the names of the network, and of other parts of the checkpoint.
        source: where they are from, for the message.
        **options: passed to `model_class`.

    Raises:
        CheckpointError: weights are missing, unexpected or of another shape.

    >>> from transformers import CLIPTextConfig, CLIPTextModel
    >>> build(CLIPTextModel, CLIPTextConfig(hidden_size=8, num_hidden_layers=1, vocab_size=9,
    ...       num_attention_heads=2), {}, Path("model.safetensors"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    t2v_eval.errors.CheckpointError: model.safetensors does not fit this model: it lacks weights ...
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
