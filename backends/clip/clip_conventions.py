"""CLIPScore as libraries other than its authors' report it: 100 max(cos, 0), logits, directions.

`torchmetrics` scales to 100, puts no prefix before the caption, and clips at 0; ours clips each
pair, theirs the mean of all pairs. Of a caption that is too long it drops the end token, upon which
every long caption gets the same score: ours keeps it.
"""

from __future__ import annotations

import os
from typing import Any

from t2v_eval.local.base import EmbeddingScorer

from ..common.checkpoint import is_transformers_checkpoint
from .hf_clip import HfClip
from .open_clip import OpenClip
from .rescaling import Logits, Percent


class ClipScore100(Percent, HfClip):
    """100 max(cos, 0) of image and caption, without a prefix.

    Args: as `HfClip`.
    """


class HfClipLogits(Logits, HfClip):
    """`logits_per_image` of a CLIP of the Hugging Face hub.

    Args: as `HfClip`.
    """


class OpenClipLogits(Logits, OpenClip):
    """`logits_per_image` of a CLIP in OpenAI's or OpenCLIP's own layout.

    Args: as `OpenClip`.
    """


def clip_logits(checkpoint: str | os.PathLike[str], **options: Any) -> EmbeddingScorer:
    """exp(logit scale) cos, what CLIP itself takes the softmax of over captions.

    Args:
        checkpoint: in the layout of transformers (as `HfClip`), of OpenAI or of OpenCLIP (as
            `OpenClip`, with its other arguments).
    """
    if "arch" not in options and is_transformers_checkpoint(checkpoint, options):
        return HfClipLogits(checkpoint=os.fspath(checkpoint), **options)
    return OpenClipLogits(checkpoint=checkpoint, **options)


class ClipDirectional(HfClip):
    """`directional_similarity` of an edit; called as other scorers are, it gives the cosine.

    Gal et al. 2022, "StyleGAN-NADA: CLIP-Guided Domain Adaptation of Image Generators", eq. 3; as
    in diffusers' guide to evaluation.

    Args: as `HfClip`.
    """
