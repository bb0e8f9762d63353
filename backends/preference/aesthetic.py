"""LAION's aesthetic predictor, version 2: the rating of an image by people, from 1 to 10.

Schuhmann 2022, "Improved aesthetic predictor": five linear layers, without activations, on the
normalised embedding of OpenAI's CLIP ViT-L/14. The text has no influence.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import linear
from typing_extensions import override

from t2v_eval.errors import CheckpointError
from t2v_eval.local.base import Options
from t2v_eval.local.dual_encoder import unit
from t2v_eval.local.image_alone import ImageAloneScorer
from t2v_eval.local.weights import HUB_FILES, check_keys, read_tensors

from ..clip.open_clip import OpenClip

LAYERS = (0, 2, 4, 6, 7)  # linear layers of the published `Sequential`; the others are dropouts
FILE = "sac+logos+ava1-l14-linearMSE.pth"


class Aesthetic(ImageAloneScorer, OpenClip):
    """Score the predicted rating of the image, about 1 to 10; the text has no influence.

    Args:
        checkpoint: the file of the five layers, or a folder, hub id or URL of it.
        clip: weights of the CLIP they were trained on, as the checkpoint of `OpenClip`; by default
            OpenAI's ViT-L/14.
        arch: the CLIP's network, as `OpenClip`; an archive of OpenAI's needs none.
        **options: options of `LocalScorer`.

    Raises:
        CheckpointError: a file is missing, or the layers were trained on another CLIP.
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
        **options: Unpack[Options],
    ) -> None:
        super().__init__(clip, arch, **options)
        self.network = self.network.visual
        file = self.locate(os.fspath(checkpoint), (FILE,), argument="checkpoint")
        file = _find_predictor(file) if file.is_dir() else file
        tensors = read_tensors(file)
        names = [f"layers.{n}.{what}" for n in LAYERS for what in ("weight", "bias")]
        check_keys(file, [n for n in names if n not in tensors], tensors.keys() - set(names))
        head = [tensors[name].to(self.device, torch.float32) for name in names]
        self.head = list(zip(head[::2], head[1::2], strict=True))
        self.files = [*self.files, file]
        width = self.network.output_dim
        if head[0].shape[1] != width:
            raise CheckpointError(
                f"{file} rates embeddings of {head[0].shape[1]} numbers, but those of `clip=` have "
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
        rating = unit(self.network(batch).float())
        for weight, bias in self.head:
            rating = linear(rating, weight, bias)
        return rating


def _find_predictor(folder: Path) -> Path:
    """Return the file of the published name, or the only weight file in the folder."""
    candidates = [
        file for file in folder.iterdir() if file.suffix in (".pth", ".pt", ".safetensors")
    ]
    for file in candidates:
        if file.name == FILE or len(candidates) == 1:
            return file
    raise CheckpointError(f"{folder} holds no {FILE}")
