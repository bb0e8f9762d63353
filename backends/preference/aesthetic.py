"""LAION's aesthetic predictors: the rating of an image by people, about 1 to 10.

A head rates the normalised embedding of one of OpenAI's CLIPs; the text has no influence. Version 1
(LAION-AI/aesthetic-predictor, 2022) is one linear layer. Version 2 (Schuhmann 2022, "Improved
aesthetic predictor") is five, without activations or, in the file named relu, with a ReLU after
each but the last (train_predictor.py and simple_inference.py of its repository).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import linear, relu
from typing_extensions import override

from t2v_eval.errors import CheckpointError
from t2v_eval.local.base import Options
from t2v_eval.local.dual_encoder import unit
from t2v_eval.local.image_alone import ImageAloneScorer
from t2v_eval.local.weights import HUB_FILES, check_keys, read_tensors

from ..clip.open_clip import OpenClip

FILE = "sac+logos+ava1-l14-linearMSE.pth"


class Layout(NamedTuple):
    """The linear layers of a published head: the prefixes of their names, first to last.

    >>> Layout(prefixes=("",)).names
    ['weight', 'bias']
    """

    prefixes: Sequence[str]
    rectified: bool = False  # a ReLU after each layer but the last

    @property
    def names(self) -> list[str]:
        """The names of its weights, the weight and the bias of each layer in turn."""
        return [prefix + what for prefix in self.prefixes for what in ("weight", "bias")]


# The numbers that are left out are dropouts and, where there are more of them, ReLUs.
LAYOUTS = (
    Layout(("",)),
    Layout(("layers.0.", "layers.2.", "layers.4.", "layers.6.", "layers.7.")),
    Layout(("layers.0.", "layers.3.", "layers.6.", "layers.9.", "layers.11."), rectified=True),
)


class Aesthetic(ImageAloneScorer, OpenClip):
    """Score the predicted rating of the image, about 1 to 10; the text has no influence.

    Args:
        checkpoint: the file of the head, or a folder, hub id or URL of it; its layers follow from
            the names of its weights.
        clip: weights of the CLIP it was trained on, as the checkpoint of `OpenClip`; by default
            OpenAI's ViT-L/14.
        arch: the CLIP's network, as `OpenClip`; an archive of OpenAI's needs none.
        pretrained: OpenCLIP's tag of the CLIP's weights.
        file: the name of the head's file, where `checkpoint` is a folder with several.
        **options: options of `LocalScorer`.

    Raises:
        CheckpointError: a file is missing, or the head was trained on another CLIP.
        UnsupportedError: images or texts are compared among themselves.

    >>> scorer = object.__new__(Aesthetic)  # ratings stand for the images; texts have no influence
    >>> scorer.similarity(torch.tensor([[5.5], [6.0]]), scorer.encode_texts(["a", "b"])).tolist()
    [[5.5, 5.5], [6.0, 6.0]]
    """

    published = ("ViT-L-14", "openai")
    as_openai = True

    def __init__(
        self,
        checkpoint: str | os.PathLike[str],
        clip: str | os.PathLike[str] | None = None,
        arch: str | os.PathLike[str] | None = None,
        pretrained: str | None = None,
        file: str = FILE,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(clip, arch, pretrained, **options)
        self.network = self.network.visual
        place = self.locate(os.fspath(checkpoint), (file,), argument="checkpoint")
        source = _find_head(place, file) if place.is_dir() else place
        tensors = read_tensors(source)
        layout = min(LAYOUTS, key=lambda layout: len(tensors.keys() ^ set(layout.names)))
        names = layout.names
        check_keys(source, [n for n in names if n not in tensors], tensors.keys() - set(names))
        self.rectified = layout.rectified
        self.head = _layers(tensors, names, self.device)
        self.files = [*self.files, source]
        width, expected = self.network.output_dim, self.head[0][0].shape[1]
        if expected != width:
            raise CheckpointError(
                f"{source} rates embeddings of {expected} numbers, but those of `clip=` have "
                f"{width}; pass the CLIP it was trained on"
            )

    @override
    def locate(self, checkpoint: str, patterns: Sequence[str] = HUB_FILES, **hub: Any) -> Path:
        return super().locate(checkpoint, patterns, **{"argument": "clip", **hub})

    @override
    def preprocess(self, image: Image.Image) -> Tensor:
        prepared: Tensor = self.transform(image)
        return prepared

    @override
    def encode_images(self, batch: Tensor) -> Tensor:
        """Return the ratings (B, 1), which stand for the images."""
        return self.rate(self.network(batch))

    def rate(self, embeddings: Tensor) -> Tensor:
        """Return the ratings (B, 1) of embeddings (B, D) of any length, on the scorer's device.

        >>> scorer = object.__new__(Aesthetic)
        >>> scorer.head, scorer.rectified = [(torch.tensor([[2.0, 1.0]]), torch.zeros(1))], False
        >>> scorer.rate(torch.tensor([[30.0, 40.0]])).tolist()  # of [0.6, 0.8]
        [[2.0]]
        """
        rating = unit(embeddings.float())
        for number, (weight, bias) in enumerate(self.head):
            rating = linear(relu(rating) if self.rectified and number else rating, weight, bias)
        return rating


def _layers(
    tensors: Mapping[str, Tensor], names: Sequence[str], device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """Return the weight and the bias of each layer, in float32."""
    head = [tensors[name].to(device, torch.float32) for name in names]
    return list(zip(head[::2], head[1::2], strict=True))


def _find_head(folder: Path, name: str) -> Path:
    """Return the file of this name, or the only weight file in the folder."""
    candidates = [
        file for file in folder.iterdir() if file.suffix in (".pth", ".pt", ".safetensors")
    ]
    for file in candidates:
        if file.name == name or len(candidates) == 1:
            return file
    raise CheckpointError(f"{folder} holds no {name}")
