"""The precision in which large models run, unless they are told."""

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


def large_dtype(asked: str | torch.dtype | None, device: torch.device, folder: Path) -> torch.dtype:
    """What was asked for, or else bfloat16 where that is fast and loses little, or else float32.

    On a GPU that has bfloat16 that is always so, as such models are trained in it; on a CPU that
    has it, where the weights in `folder` are in half precision themselves.

    Raises:
        InputError: what was asked for is no floating-point dtype.
    """
    if (chosen := pick_dtype(asked)) is not None:
        return chosen
    if computes_bfloat16(device) and (device.type == "cuda" or in_half_precision(folder)):
        return torch.bfloat16
    return torch.float32


def in_half_precision(folder: Path) -> bool:
    """Whether most numbers in the first weight file of a checkpoint are bfloat16 or float16.

    Raises:
        CheckpointError: there is no weight file.
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
        return False  # what is wrong with it is said when it is read whole
    return numbers[True] > numbers[False]
