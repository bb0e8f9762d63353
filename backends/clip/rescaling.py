"""What published conventions make of the cosine: put one before a class that gives the cosine."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from t2v_eval.errors import InputError
from t2v_eval.local.base import EmbeddingScorer


class Trained(EmbeddingScorer):
    """A dual encoder that knows what its training put on the cosine to make it a logit."""

    scale: float
    bias: float | None


class Percent(EmbeddingScorer):
    """100 max(cos, 0)."""

    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        return 100 * super().similarity(images, texts).clamp(min=0)


class Half(EmbeddingScorer):
    """(cos + 1) / 2."""

    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        return (super().similarity(images, texts) / 2 + 0.5).clamp(min=0)


class Logits(Trained):
    """exp(logit scale) cos, and the bias where there is one."""

    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        return self.scale * super().similarity(images, texts) + (self.bias or 0)


class Probability(Logits):
    """Sigmoid of the logit: how likely image and text belong together.

    Raises:
        InputError: of a model whose training had no sigmoid.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.bias is None:
            raise InputError(
                f"{self.name!r} needs a model that was trained with a sigmoid, as SigLIP was; this "
                "one has no logit_bias, so its logits are no probabilities"
            )

    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        return super().similarity(images, texts).sigmoid()


def scale_and_bias(network: Any) -> tuple[float, float | None]:
    """What the training of a network put on its cosine."""
    bias = getattr(network, "logit_bias", None)
    scale: float = network.logit_scale.double().exp().item()
    return scale, None if bias is None else bias.item()
