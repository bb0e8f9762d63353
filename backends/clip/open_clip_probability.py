"""OpenCLIP's SigLIP models as they were trained: sigmoid of the scaled and shifted cosine.

Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", section 3.2.
"""

from __future__ import annotations

from .open_clip import OpenClip
from .rescaling import Probability


class OpenClipProbability(Probability, OpenClip):
    """How likely image and text belong together, whatever other texts there are.

    Args: as `OpenClip`.
    """
