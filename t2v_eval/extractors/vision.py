"""Networks of vision alone: DINOv2, and any of timm."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import PIL
import torch
from PIL import Image
from torch import Tensor, nn

from t2v_eval.errors import CheckpointError, InputError, MissingPackageError
from t2v_eval.extractors.extractor import NetworkExtractor
from t2v_eval.local.checkpoint_files import loading
from t2v_eval.local.weights import check_keys, fingerprint, locate, read_tensors, weight_files

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


class _ClassToken(nn.Module):
    """The class token of a vision transformer of transformers, after its last normalisation."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        tokens: Tensor = self.network(pixel_values=pixels).last_hidden_state
        return tokens[:, 0]


def dinov2(
    checkpoint: str | os.PathLike[str] = "facebook/dinov2-large", **options: Any
) -> NetworkExtractor:
    """Load DINOv2; FID of its features is FD-DINOv2.

    As dgm-eval (Stein et al. 2023, "Exposing flaws of generative model evaluation metrics"): the
    class token of ViT-L/14 of images that Pillow resizes to 224 x 224, bicubic, without a crop.

    Args:
        checkpoint: a hub id or a folder in the layout of transformers.
        options: `device` and `batch_size` of `NetworkExtractor`.

    Raises:
        CheckpointError: the weights are missing or of another network.

    >>> dinov2("no/such/folder")
    Traceback (most recent call last):
        ...
    t2v_eval.errors.CheckpointError: checkpoint 'no/such/folder': no such file or directory, and \
not a hub id (ORG/NAME)
    """
    from transformers import AutoModel

    with loading():
        folder = locate(os.fspath(checkpoint))
        network = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    size = 224
    facts = {
        "network": "dinov2",
        "weights": fingerprint(weight_files(folder)),
        "resize": f"Pillow's bicubic to {size} x {size}",
        "versions": _versions("transformers"),
    }

    def prepare(image: Image.Image) -> Tensor:
        return normalised(image.resize((size, size), Image.Resampling.BICUBIC), _MEAN, _STD)

    return NetworkExtractor(_ClassToken(network), prepare, facts, **options)


def normalised(image: Image.Image, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return the pixels of an RGB image less a mean, divided by a standard deviation.

    Args:
        image: an RGB image.
        mean: of each channel, from 0 to 1.
        std: of each channel.

    Returns:
        Shape (3, H, W), float32.

    >>> normalised(Image.new("RGB", (1, 1), "white"), (0.5,) * 3, (0.5,) * 3).flatten()
    tensor([1., 1., 1.])
    """
    from torchvision.transforms import functional  # type: ignore[import-untyped]

    pixels: Tensor = functional.normalize(functional.to_tensor(image), list(mean), list(std))
    return pixels


def timm_network(
    name: str, checkpoint: str | os.PathLike[str] | None = None, **options: Any
) -> NetworkExtractor:
    """Load a network of timm without its classifier, with its own resizing and normalisation.

    Args:
        name: its name in timm, such as "tf_efficientnet_lite0.in1k".
        checkpoint: a file of its weights in place of those of the hub.
        options: `device` and `batch_size` of `NetworkExtractor`.

    Raises:
        InputError: timm has no such network.
        CheckpointError: the weights are missing, unsafe to unpickle, or of another network.
        MissingPackageError: timm is not installed.

    >>> timm_network("no-such-network")
    Traceback (most recent call last):
        ...
    t2v_eval.errors.InputError: timm has no network 'no-such-network': `timm.list_models()` lists \
them
    """
    try:
        timm: Any = import_module("timm")
    except ImportError as error:
        raise MissingPackageError(
            f"timm:{name} needs the package 'timm': pip install timm"
        ) from error
    if not timm.is_model(name.partition(".")[0]):
        raise InputError(f"timm has no network {name!r}: `timm.list_models()` lists them")
    network, weights = _timm_weights(timm, name, checkpoint)
    config = timm.data.resolve_model_data_config(network)
    facts = {
        "network": f"timm:{name}",
        "weights": weights,
        "resize": " ".join(f"{key}={config[key]}" for key in ("input_size", "crop_pct")),
        "versions": _versions("timm"),
    }
    prepare = timm.data.create_transform(**config, is_training=False)
    return NetworkExtractor(network, prepare, facts, **options)


def _timm_weights(
    timm: Any, name: str, checkpoint: str | os.PathLike[str] | None
) -> tuple[nn.Module, str]:
    """Return a network without its classifier, and a hash of its weights."""
    if checkpoint is None:
        try:
            network = timm.create_model(name, pretrained=True, num_classes=0)
        except Exception as error:  # the hub's client and timm raise many kinds
            why = str(error).rstrip(".")
            raise CheckpointError(
                f"the weights of timm:{name} cannot be had: {why}. Pass a file of them as "
                "`checkpoint='FILE'`"
            ) from error
        return network, tensors_hash(network)
    network = timm.create_model(name, pretrained=False, num_classes=0)
    path = locate(os.fspath(checkpoint))
    tensors = read_tensors(path)
    state = network.state_dict()
    check_keys(path, [key for key in state if key not in tensors])
    try:
        network.load_state_dict({key: tensors[key] for key in state})
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit timm:{name}: {error}") from error
    return network, fingerprint([Path(path)])


def tensors_hash(network: nn.Module) -> str:
    """Return a hash of the weights of a network.

    Args:
        network: the network.

    >>> len(tensors_hash(nn.Linear(2, 1, dtype=torch.float32)))
    32
    """
    from t2v_eval.utils.regular_file import digest

    return digest(*(t.detach().cpu().numpy().tobytes() for t in network.state_dict().values()))


def _versions(library: str) -> dict[str, str]:
    return {
        "torch": torch.__version__,
        library: version(library),
        "pillow": PIL.__version__,
    }
