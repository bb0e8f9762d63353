"""Inception v3 with the weights of FID, as it was trained in TensorFlow in 2015.

The network of torchvision, with the poolings of the original graph: averages that leave out the
padding in blocks A, C and the first E, and a maximum in the second E (as in pytorch-fid,
inception.py). Weights are those of torch-fidelity, converted from TensorFlow's.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import PIL
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d
from torchvision.models import inception as blocks  # type: ignore[import-untyped]
from torchvision.models import inception_v3 as torchvision_inception

from t2v_eval.errors import CheckpointError, InputError
from t2v_eval.extractors.extractor import NetworkExtractor
from t2v_eval.extractors.resizing import RESIZERS
from t2v_eval.local.weights import check_keys, locate, read_tensors

WEIGHTS = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth"
)
"""Where the weights of FID are; the end of the name is the start of their SHA-256."""

_CLASSES = 1008


def _average(x: Tensor) -> Tensor:
    return avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)


class _BlockA(blocks.InceptionA):  # type: ignore[misc]
    def forward(self, x: Tensor) -> Tensor:
        parts = (
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            self.branch_pool(_average(x)),
        )
        return torch.cat(parts, dim=1)


class _BlockC(blocks.InceptionC):  # type: ignore[misc]
    def forward(self, x: Tensor) -> Tensor:
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        parts = (
            self.branch1x1(x),
            self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))),
            self.branch7x7dbl_5(self.branch7x7dbl_4(double)),
            self.branch_pool(_average(x)),
        )
        return torch.cat(parts, dim=1)


class _BlockE(blocks.InceptionE):  # type: ignore[misc]
    def pool(self, x: Tensor) -> Tensor:
        return _average(x)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        parts = (
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(self.pool(x)),
        )
        return torch.cat(parts, dim=1)


class _LastBlock(_BlockE):
    def pool(self, x: Tensor) -> Tensor:
        return max_pool2d(x, kernel_size=3, stride=1, padding=1)


_ORDER = (
    "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 maxpool1 Conv2d_3b_1x1 Conv2d_4a_3x3 maxpool2 "
    "Mixed_5b Mixed_5c Mixed_5d Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e Mixed_7a Mixed_7b "
    "Mixed_7c avgpool"
).split()


class FidInception(nn.Module):
    """Maps resized pixels to the 2,048 features of FID, and to the logits of the inception score.

    The logits are without the bias of the last layer, as in torch-fidelity ("logits_unbiased").

    >>> network = FidInception().eval()
    >>> features, logits = network(torch.zeros(1, 3, 299, 299, dtype=torch.float32))
    >>> features.shape, logits.shape
    (torch.Size([1, 2048]), torch.Size([1, 1008]))
    """

    def __init__(self) -> None:
        super().__init__()
        network = torchvision_inception(
            weights=None, num_classes=_CLASSES, aux_logits=False, init_weights=False
        )
        for name, size in (("5b", 32), ("5c", 64), ("5d", 64)):
            channels = {"5b": 192, "5c": 256, "5d": 288}[name]
            setattr(network, f"Mixed_{name}", _BlockA(channels, pool_features=size))
        for name, size in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
            setattr(network, f"Mixed_{name}", _BlockC(768, channels_7x7=size))
        network.Mixed_7b, network.Mixed_7c = _BlockE(1280), _LastBlock(2048)
        for name in _ORDER:
            setattr(self, name, getattr(network, name))
        self.fc: nn.Linear = network.fc

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features and logits.

        Args:
            pixels: shape (B, 3, 299, 299), from 0 to 255.

        Returns:
            Shapes (B, 2048) and (B, 1008).
        """
        x = (pixels - 128) / 128
        for name in _ORDER:
            x = cast(nn.Module, getattr(self, name))(x)
        features = x.flatten(1)
        return features, features @ self.fc.weight.T


def inception_v3(
    checkpoint: str | os.PathLike[str] = WEIGHTS,
    resize: str = "clean",
    **options: Any,
) -> NetworkExtractor:
    """Load the network of FID.

    Args:
        checkpoint: its weights: a file, or an https URL. A name that ends in a dash and 8
            hexadecimal digits is checked with them, as PyTorch's hub does.
        resize: "clean", "legacy" or "tf1"; see `resizing`.
        options: `device` and `batch_size` of `NetworkExtractor`.

    Raises:
        InputError: no such resizer.
        CheckpointError: the weights are missing, unsafe to unpickle, or not those of the network.

    >>> inception_v3(resize="bicubic")
    Traceback (most recent call last):
        ...
    t2v_eval.errors.InputError: `resize='bicubic'`: pass 'clean', 'legacy' or 'tf1'
    """
    if resize not in RESIZERS:
        raise InputError(f"`resize={resize!r}`: pass 'clean', 'legacy' or 'tf1'")
    path = locate(os.fspath(checkpoint))
    weights = _sha256(path)
    expected = path.stem.rpartition("-")[2]
    is_hash = len(expected) == 8 and not set(expected) - set("0123456789abcdef")
    if is_hash and not weights.startswith(expected):
        raise CheckpointError(
            f"{path} is damaged, or not what its name says: its SHA-256 begins with "
            f"{weights[:8]}, not {expected}. Download it again"
        )
    network = FidInception()
    _fill(network, read_tensors(path), path)
    facts = {
        "network": "inception-v3",
        "weights": weights,
        "resize": resize,
        "versions": {
            "torch": torch.__version__,
            "torchvision": version("torchvision"),
            "pillow": PIL.__version__,
        },
    }
    return NetworkExtractor(network, RESIZERS[resize], facts, **options)


def _fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    state = network.state_dict()
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    missing = [name for name in state if name not in tensors and name not in counters]
    check_keys(path, missing, [name for name in tensors if name not in state])
    try:
        network.load_state_dict(dict(tensors), strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit inception-v3: {error}") from error


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise CheckpointError(f"{path} is no file; pass the weights of FID as one file")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
