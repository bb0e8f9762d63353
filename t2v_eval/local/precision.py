"""The default precision of large models."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from t2v_eval.local.devices import pick_dtype
from t2v_eval.local.weights import weight_files
from t2v_eval.utils.torch_internals import computes_bfloat16

HALF = ("BF16", "F16")


def large_dtype(
    requested: str | torch.dtype | None, device: torch.device, folder: Path
) -> torch.dtype:
    """Return the requested dtype, or else bfloat16 where it is fast and loses little, or float32.

    On a GPU with bfloat16 that is always so, since such models are trained in it; on a CPU with
    bfloat16, if the weights in `folder` are in half precision.

    Args:
        requested: the user's dtype, or None.
        device: where the model runs.
        folder: its checkpoint.

    Raises:
        InputError: `requested` is not a floating-point dtype.

    >>> large_dtype("float16", torch.device("cpu"), Path("checkpoint"))
    torch.float16
    """
    if (chosen := pick_dtype(requested)) is not None:
        return chosen
    if computes_bfloat16(device) and (device.type == "cuda" or in_half_precision(folder)):
        return torch.bfloat16
    return torch.float32


def in_half_precision(folder: Path) -> bool:
    """Return whether most numbers in a checkpoint's first weight file are bfloat16 or float16.

    Args:
        folder: a checkpoint folder, or a weight file.

    Raises:
        CheckpointError: there is no weight file.

    >>> import tempfile
    >>> from safetensors.torch import save_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     weights = {"weight": torch.zeros(4, dtype=torch.bfloat16)}
    ...     save_file(weights, Path(folder) / "model.safetensors")
    ...     in_half_precision(Path(folder))
    True
    """
    file, numbers = weight_files(folder)[0], Counter[bool]()
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118  (it is no mapping)
                    stored = opened.get_slice(name)
                    numbers[stored.get_dtype() in HALF] += math.prod(stored.get_shape())
        else:
            loaded = torch.load(file, map_location="meta", mmap=True, weights_only=True)
            for value in loaded.values():
                numbers[value.itemsize == 2] += value.numel()
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, AttributeError):
        return False  # reading the whole file reports what is wrong
    return numbers[True] > numbers[False]
