"""Published rescalings of the cosine, as mix-ins: name one before a class that scores by cosine.

For example ``class Specs(HalfShiftedCosine, LongClip): ...``. CLIPScore's 2.5 max(cos, 0) is in
`clipscore.py`.
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

    >>> import t2v_eval
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu")  # has both
    >>> scorer.scale > 1, scorer.bias
    (True, None)
    """

    scale: float
    bias: float | None


class PercentCosine(EmbeddingScorer):
    """Score 100 max(cos, 0), from 0 to 100.

    >>> import torch
    >>> from t2v_eval.backends.clip.clip_conventions import ClipScore100
    >>> scorer = object.__new__(ClipScore100)  # a PercentCosine; the formula needs no weights
    >>> images, texts = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [-0.6, 0.8]])
    >>> scorer.similarity(images, texts)
    tensor([[60.0000,  0.0000]])
    """

    @override
    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        return 100 * super().similarity(images, texts).clamp(min=0)


class HalfShiftedCosine(EmbeddingScorer):
    """Score (cos + 1) / 2, from 0 to 1.

    Chen et al. 2025, "SPECS: Specificity-Enhanced CLIP-Score for Long Image Caption Evaluation".

    >>> import torch
    >>> from t2v_eval.backends.clip.longclip import Specs
    >>> scorer = object.__new__(Specs)  # a HalfShiftedCosine; the formula needs no weights
    >>> images, texts = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    >>> scorer.similarity(images, texts)
    tensor([[0.8000, 0.5000]])
    """

    @override
    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        return (super().similarity(images, texts) / 2 + 0.5).clamp(min=0)


class Logits(CalibratedEncoder):
    """Score the logit exp(logit scale) cos + bias, without bounds.

    >>> import torch
    >>> from t2v_eval.backends.clip.clip_conventions import HfClipLogits
    >>> scorer = object.__new__(HfClipLogits)  # a Logits; the formula needs no weights
    >>> scorer.scale, scorer.bias = 10.0, -4.0
    >>> scorer.similarity(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]]))
    tensor([[2.]])
    """

    @override
    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        return self.scale * super().similarity(images, texts) + (self.bias or 0)


class Probability(Logits):
    """Score the sigmoid of the logit, from 0 to 1: the probability that image and text match.

    Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", section 3.2.

    Raises:
        InputError: the model was not trained with a sigmoid loss.

    >>> import torch
    >>> from t2v_eval.backends.clip.hf_clip import HfClipProbability
    >>> scorer = object.__new__(HfClipProbability)  # a Probability; the formula needs no weights
    >>> scorer.scale, scorer.bias = 10.0, -6.0
    >>> scorer.similarity(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]]))
    tensor([[0.5000]])
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
    """Return exp(logit scale) and the logit bias (None without one) of a network.

    >>> import torch
    >>> from types import SimpleNamespace
    >>> scale_and_bias(SimpleNamespace(logit_scale=torch.tensor(0.0)))
    (1.0, None)
    """
    bias = getattr(network, "logit_bias", None)
    scale: float = network.logit_scale.double().exp().item()
    return scale, None if bias is None else bias.item()
