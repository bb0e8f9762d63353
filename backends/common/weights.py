"""Read the weights of a checkpoint in the precision that they run in, and select some by name."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from t2v_eval.local.weights import read_tensors, weight_files


def read_weights(folder: Path, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Read all tensors of a checkpoint, cast and moved to the device file by file.

    So only one file at a time is in memory in the precision it is stored in.

    Args:
        folder: holds safetensors or pickled weights, with an index where there are several files.
        device: where the tensors go.
        dtype: their precision; with float16, the layers of T5 that overflow in it stay in float32.

    Returns:
        The tensors by the names of the checkpoint.

    Raises:
        CheckpointError: a file is missing or damaged.

    >>> from tempfile import TemporaryDirectory
    >>> from safetensors.torch import save_file
    >>> with TemporaryDirectory() as folder:
    ...     save_file({"scale": torch.tensor([1.5])}, Path(folder) / "model.safetensors")
    ...     read_weights(Path(folder), torch.device("cpu"), torch.bfloat16)
    {'scale': tensor([1.5000], dtype=torch.bfloat16)}
    """

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
    """Remove from `tensors` those whose names start with `prefix`, and return them.

    >>> tensors = {"tower.weight": torch.ones(1), "head.weight": torch.ones(1)}
    >>> list(pop_prefixed(tensors, "tower.")), list(tensors)
    (['tower.weight'], ['head.weight'])
    """
    return {name: tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
