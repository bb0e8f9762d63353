"""Published rescalings of the cosine, as mix-ins: name one before a class that scores by cosine.

class Specs(HalfShiftedCosine, LongClip): ...
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import override

from t2v_eval.errors import InputError
from t2v_eval.local.dual_encoder import EmbeddingScorer


class CalibratedEncoder(EmbeddingScorer):
    """A dual encoder with the scale and bias by which its training made a logit of the cosine.

    Attributes:
        scale: exp(logit scale).
        bias: the logit bias of SigLIP; None without one.
    """

    scale: float
    bias: float | None


class PercentCosine(EmbeddingScorer):
    """Scores 100 max(cos, 0), from 0 to 100."""

    @override
    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        return 100 * super().similarity(images, texts).clamp(min=0)


class HalfShiftedCosine(EmbeddingScorer):
    """Scores (cos + 1) / 2, from 0 to 1."""

    @override
    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        return (super().similarity(images, texts) / 2 + 0.5).clamp(min=0)


class Logits(CalibratedEncoder):
    """Scores the logit exp(logit scale) cos + bias, without bounds."""

    @override
    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        return self.scale * super().similarity(images, texts) + (self.bias or 0)


class Probability(Logits):
    """Scores the sigmoid of the logit, from 0 to 1: the probability that image and text match.

    Raises:
        InputError: the model was not trained with a sigmoid loss.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.bias is None:
            raise InputError(
                f"{self.name!r} needs a model trained with a sigmoid loss, as SigLIP was; this one "
                "has no logit_bias, so the sigmoid of its logits is no probability"
            )

    @override
    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        return super().similarity(images, texts).sigmoid()


def scale_and_bias(network: Any) -> tuple[float, float | None]:
    """Return exp(logit scale) and the logit bias (None without one) of a network."""
    bias = getattr(network, "logit_bias", None)
    scale: float = network.logit_scale.double().exp().item()
    return scale, None if bias is None else bias.item()
