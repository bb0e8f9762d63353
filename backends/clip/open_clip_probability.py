"""OpenCLIP's SigLIP models as they were trained: sigmoid of the scaled and shifted cosine.

Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", section 3.2.
"""

from __future__ import annotations

from .open_clip import OpenClip
from .rescaling import Probability


class OpenClipProbability(Probability, OpenClip):
    """Score the probability that image and text match, 0 to 1, independently of other texts.

    Args:
        checkpoint: as `OpenClip`.
        arch: as `OpenClip`.
        pretrained: as `OpenClip`.

    Raises:
        InputError: the model was not trained with a sigmoid loss.

    >>> import torch
    >>> scorer = object.__new__(OpenClipProbability)  # the formula needs no weights
    >>> scorer.scale, scorer.bias = 10.0, -6.0
    >>> scorer.similarity(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]]))
    tensor([[0.5000]])
    """
