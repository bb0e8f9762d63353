"""Scorers that see the image alone: the text may be left out, and has no influence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from t2v_eval.errors import UnsupportedError
from t2v_eval.local.dual_encoder import EmbeddingScorer


class ImageAloneScorer(EmbeddingScorer):
    """A model that gives an image a score. Subclasses write `preprocess` and `encode_images`.

    `encode_images` returns the scores (B, 1), which stand for the images. Options are those of
    `LocalScorer`.

    >>> from PIL import Image
    >>> class Brightness(ImageAloneScorer):
    ...     def preprocess(self, image):
    ...         return torch.tensor([image.convert("L").resize((1, 1)).getpixel((0, 0))]) / 255
    ...     def encode_images(self, batch):
    ...         return batch
    >>> Brightness(device="cpu")(Image.new("L", (8, 8), 255))
    tensor([[1.]])
    """

    uses_text = False
    sharing_mode = "images scored once"

    @override
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.empty(len(texts), 0, dtype=torch.float32)

    @override
    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        if texts.shape[-1]:
            raise UnsupportedError(
                f"{self.name!r} rates single images and cannot compare images or texts"
            )
        return images.expand(-1, len(texts))
