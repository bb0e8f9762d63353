"""Weights for Inception v3 that any version of any library can make: each from its name."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def drawn_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Draw weights of the shapes of a state dict, which keep activations in a usual range."""
    weights = {}
    for name, tensor in tensors.items():
        shape = tuple(tensor.shape)
        rng = np.random.RandomState(zlib.crc32(name.encode()))
        if name.endswith("num_batches_tracked"):
            continue
        if len(shape) > 1:
            values = rng.uniform(-1, 1, shape) * np.sqrt(6 / np.prod(shape[1:]))
        elif name.endswith("running_var"):
            values = rng.uniform(0.5, 1.5, shape)
        elif name.endswith("weight"):
            values = rng.uniform(0.8, 1.2, shape)
        else:
            values = rng.uniform(-0.2, 0.2, shape)
        weights[name] = torch.from_numpy(values.astype(np.float32))
    return weights
