"""A LoRA adapter of the package peft, added to the weights of a model without that package.

Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1. The scale of
`use_rslora` is that of Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for Fine-Tuning
with LoRA".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from t2v_eval.errors import CheckpointError, UnsupportedError
from t2v_eval.local.checkpoint_files import read_json
from t2v_eval.local.weights import read_tensors

from ..video.checkpoint import LORA_A, LORA_B, merge_lora

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
# Settings that change more than matrices, with the values that leave them off.
PLAIN: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    **dict.fromkeys(("use_dora", "fan_in_fan_out", "lora_bias"), (False,)),
    **dict.fromkeys(("modules_to_save", "trainable_token_indices"), ([],)),
}
# Parts of names that versions of transformers add or leave out.
_RENAMED = {"base_model", "model", "language_model"}
_HALF = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")


class LoraAdapter:
    """Updates of weights, as peft stores them.

    Args:
        folder: holds `ADAPTER_FILES`.

    Raises:
        CheckpointError: a file is missing or damaged, or holds more than updates of matrices.

    >>> LoraAdapter(Path("gone"))
    Traceback (most recent call last):
    t2v_eval.errors.CheckpointError: gone holds no adapter_config.json
    """

    def __init__(self, folder: Path) -> None:
        self.files = [folder / name for name in ADAPTER_FILES]
        for file in self.files:
            if not file.exists():
                raise CheckpointError(f"{folder} holds no {file.name}")
        self._config = read_json(self.files[0])
        self._check_config()

    def _check_config(self) -> None:
        kind = self._config.get("peft_type")
        others = [
            key for key, plain in PLAIN.items() if self._config.get(key) not in (None, *plain)
        ]
        if kind != "LORA" or others:
            key = others[0] if others else "peft_type"
            raise CheckpointError(
                f"{self.files[0]} says {key} = {self._config.get(key)!r}, which is not read here: "
                "merge it into the weights (merge_and_unload of the package peft)"
            )

    def _read_updates(self) -> dict[str, dict[str, Tensor]]:
        """Return both halves of each update, by the plain name of its module."""
        updates: dict[str, dict[str, Tensor]] = {}
        for name, tensor in read_tensors(self.files[1]).items():
            half = _HALF.fullmatch(name)
            if half is None:
                raise CheckpointError(f"{self.files[1]} has {name}, which is no update of a matrix")
            updates.setdefault(_plain(half[1]), {})[half[2]] = tensor
        return updates

    def merge(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Yield weights by name, those that the adapter updates with their updates.

        Raises:
            CheckpointError: an update has no weight, or several, or is of another shape.
            UnsupportedError: a weight is on disk.
        """
        updates = self._read_updates()
        unused = {*updates}
        for name, weight in weights:
            module = _plain(name.removesuffix(".weight"))
            if module not in updates or not name.endswith(".weight"):
                yield name, weight
                continue
            if module not in unused:
                raise CheckpointError(f"{self.files[1]} has an update of several {module}")
            if weight.is_meta:
                raise UnsupportedError(
                    f"{name} is on disk, where an adapter cannot change it: leave `device_map=` out"
                )
            unused.remove(module)
            yield name, self._updated(module, weight, updates[module])
        if unused:
            raise CheckpointError(
                f"{self.files[1]} updates {min(unused)}, which this model does not have"
            )

    def apply(self, network: nn.Module) -> None:
        """Add the updates to the weights of a network.

        Raises:
            CheckpointError, UnsupportedError: see `merge`.
        """
        parameters = dict(network.named_parameters())
        for name, weight in self.merge(parameters.items()):
            parameters[name].data = weight.data

    def _updated(self, module: str, weight: Tensor, halves: Mapping[str, Tensor]) -> Tensor:
        endings = {"A": LORA_A, "B": LORA_B}
        tensors = {module + endings[h]: half.to(weight.device) for h, half in halves.items()}
        tensors[f"{module}.weight"] = weight.data
        return merge_lora(tensors, self.files[1], self._alpha(module, halves))[f"{module}.weight"]

    def _alpha(self, module: str, halves: Mapping[str, Tensor]) -> float:
        """Return the scale of an update times its rank, which is that of its matrices."""
        patterns = self._config.get("alpha_pattern") or {}
        own = (a for key, a in patterns.items() if re.match(rf"(.*\.)?({_plain(key)})$", module))
        alpha = float(next(own, self._config["lora_alpha"]))
        rank = len(halves["A"]) if "A" in halves else 1
        return float(alpha * rank**0.5) if self._config.get("use_rslora") else alpha


def _plain(name: str) -> str:
    """Return the name of a module without the parts that versions of transformers differ in."""
    return ".".join(part for part in name.split(".") if part not in _RENAMED)
