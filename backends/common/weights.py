"""Read the weights of a checkpoint in the precision that they run in, and select some by name."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from t2v_eval.local.weights import read_tensors, weight_files


def read_weights(folder: Path, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Read all tensors, cast and moved to the device file by file."""

    def precision(name: str) -> torch.dtype:
        # T5's feed-forward layers overflow in float16; transformers keeps them in float32 too.
        wide = dtype is torch.float16 and name.endswith("DenseReluDense.wo.weight")
        return torch.float32 if wide else dtype

    return {
        name: tensor.to(device, precision(name))
        for file in weight_files(folder)
        for name, tensor in read_tensors(file).items()
    }


def pop_prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Remove from `tensors` those whose names start with `prefix`, and return them."""
    return {name: tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
