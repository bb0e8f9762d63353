"""CLIPScore in the conventions of other libraries: 100 max(cos, 0), logits, directional similarity.

`torchmetrics` scales to 100, uses no prefix and clips at 0. Two differences remain: it clips the
mean over pairs, where each pair is clipped here; and it cuts the end token off a caption that is
too long, so that all long captions score the same, where the end token is kept here.
"""

from __future__ import annotations

import os
from typing import Any

from t2v_eval.local.dual_encoder import EmbeddingScorer

from ..common.pretrained import is_transformers_checkpoint
from .hf_clip import HfClip
from .open_clip import OpenClip
from .rescaling import Logits, PercentCosine


class ClipScore100(PercentCosine, HfClip):
    """Scores 100 max(cos, 0) of image and caption, without a prefix; from 0 to 100.

    Args: as `HfClip`.
    """


class HfClipLogits(Logits, HfClip):
    """Scores `logits_per_image` of a CLIP of the Hugging Face hub.

    Args: as `HfClip`.
    """


class OpenClipLogits(Logits, OpenClip):
    """Scores `logits_per_image` of a CLIP in OpenAI's or OpenCLIP's own layout.

    Args: as `OpenClip`.
    """


def clip_logits(checkpoint: str | os.PathLike[str], **options: Any) -> EmbeddingScorer:
    """Load a CLIP that scores exp(logit scale) cos, the logit of CLIP's softmax over captions.

    Args:
        checkpoint: in the layout of transformers (as `HfClip`), of OpenAI or of OpenCLIP (as
            `OpenClip`, with its other arguments).
    """
    if "arch" not in options and is_transformers_checkpoint(checkpoint, options):
        return HfClipLogits(checkpoint=os.fspath(checkpoint), **options)
    return OpenClipLogits(checkpoint=checkpoint, **options)


class ClipDirectional(HfClip):
    """Measures edits by `directional_similarity`; called as other scorers are, it gives the cosine.

    Gal et al. 2022, "StyleGAN-NADA: CLIP-Guided Domain Adaptation of Image Generators", eq. 3; as
    in the evaluation guide of diffusers.

    Args: as `HfClip`.
    """
