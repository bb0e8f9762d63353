"""OpenCLIP's SigLIP models as they were trained: sigmoid of the scaled and shifted cosine.

Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", section 3.2.
"""

from __future__ import annotations

from .open_clip import OpenClip
from .rescaling import Probability


class OpenClipProbability(Probability, OpenClip):
    """Scores the probability that image and text match, 0 to 1, independently of other texts.

    Args: as `OpenClip`.
    """
