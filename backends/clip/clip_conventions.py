"""CLIPScore in the conventions of other libraries: 100 max(cos, 0), and logits.

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
    """Score 100 max(cos, 0) of image and caption, without a prefix; from 0 to 100.

    As `torchmetrics.multimodal.CLIPScore`, but for the two differences above.

    Args:
        checkpoint: as `HfClip`.
        processor: as `HfClip`.

    >>> import t2v_eval
    >>> from PIL import Image
    >>> red, texts = Image.new("RGB", (48, 48), "red"), ["a red circle"]
    >>> cosine = t2v_eval.load("tiny-clip", device="cpu")
    >>> scorer = ClipScore100(checkpoint=str(cosine.files[0].parent), device="cpu")
    >>> bool((scorer([red], texts) - 100 * cosine([red], texts).clamp(min=0)).abs() < 1e-3)
    True
    """


class HfClipLogits(Logits, HfClip):
    """Score exp(logit scale) cos, as `logits_per_image` of a CLIP of the Hugging Face hub.

    Args:
        checkpoint: as `HfClip`.
        processor: as `HfClip`.

    >>> import t2v_eval
    >>> folder = t2v_eval.load("tiny-clip", device="cpu").files[0].parent
    >>> HfClipLogits(checkpoint=str(folder), device="cpu").scale > 1
    True
    """


class OpenClipLogits(Logits, OpenClip):
    """Score exp(logit scale) cos with a CLIP in OpenAI's or OpenCLIP's own layout.

    Args:
        checkpoint: as `OpenClip`.
        arch: as `OpenClip`.
        pretrained: as `OpenClip`.

    >>> import json
    >>> import open_clip
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from safetensors.torch import save_file
    >>> config = {"embed_dim": 8, "vision_cfg": {"layers": 1, "width": 8, "head_width": 8,
    ...           "patch_size": 8, "image_size": 16},
    ...           "text_cfg": {"width": 8, "heads": 1, "layers": 1}}
    >>> with TemporaryDirectory() as folder:
    ...     arch, weights = Path(folder, "arch.json"), Path(folder, "weights.safetensors")
    ...     _ = arch.write_text(json.dumps(config))
    ...     save_file(open_clip.CLIP(**config).state_dict(), weights)
    ...     scorer = OpenClipLogits(weights, arch, device="cpu")
    >>> round(scorer.scale, 2)  # 1 / 0.07, as a CLIP is initialised
    14.29
    """


def clip_logits(checkpoint: str | os.PathLike[str], **options: Any) -> EmbeddingScorer:
    """Load a CLIP that scores exp(logit scale) cos, the logit of CLIP's softmax over captions.

    Args:
        checkpoint: in the layout of transformers (as `HfClip`), of OpenAI or of OpenCLIP (as
            `OpenClip`).
        **options: options of `HfClip` or `OpenClip`.

    >>> import t2v_eval
    >>> folder = t2v_eval.load("tiny-clip", device="cpu").files[0].parent
    >>> type(clip_logits(folder, device="cpu")).__name__
    'HfClipLogits'
    """
    if "arch" not in options and is_transformers_checkpoint(checkpoint, options):
        return HfClipLogits(checkpoint=os.fspath(checkpoint), **options)
    return OpenClipLogits(checkpoint=checkpoint, **options)
