"""CLIP that reads captions of 248 tokens: LongCLIP, and SPECS, which is trained from it.

Zhang et al. 2024, "Long-CLIP: Unlocking the Long-Text Capability of CLIP", section 3.2: the first
20 position embeddings are CLIP's, the others are trained anew and lie in a tensor of their own.
Chen et al. 2025, "SPECS: Specificity-Enhanced CLIP-Score for Long Image Caption Evaluation".
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from t2v_eval.local.dual_encoder import EmbeddingScorer
from t2v_eval.local.weights import check_keys, read_tensors

from ..common.pretrained import is_transformers_checkpoint
from .hf_clip import HfClip
from .open_clip import OpenClip
from .rescaling import HalfShiftedCosine

KEPT_POSITIONS = 20
TABLES = ("positional_embedding", "positional_embedding_res")


class LongClip(OpenClip):
    """Scores the cosine of image and long caption, from weights in the authors' layout.

    Args: as `OpenClip`; nothing besides `checkpoint` is needed.
    """

    weights = ("longclip-L.pt", "longclip-B.pt", "spec.pt")

    @override
    def read_openai(self, file: Path) -> dict[str, Tensor]:
        tensors = read_tensors(file)
        check_keys(file, [name for name in TABLES if name not in tensors])
        original, extended = (tensors.pop(name) for name in TABLES)
        return {
            **tensors,
            TABLES[0]: torch.cat([original[:KEPT_POSITIONS], extended[KEPT_POSITIONS:]]),
        }


class Specs(HalfShiftedCosine, LongClip):
    """Scores (cos + 1) / 2 of image and long caption, 0 to 1.

    Args: as `LongClip`.
    """


class HfSpecs(HalfShiftedCosine, HfClip):
    """Scores as `Specs`, from weights in the layout of transformers.

    Args: as `HfClip`.
    """


def long_clip(checkpoint: str | os.PathLike[str], **options: Any) -> EmbeddingScorer:
    """Load LongCLIP.

    Args:
        checkpoint: a file, folder or hub id in the authors' layout or that of transformers.
    """
    if is_transformers_checkpoint(checkpoint, options):
        return HfClip(checkpoint=os.fspath(checkpoint), **options)
    return LongClip(checkpoint=checkpoint, **options)


def specs(checkpoint: str | os.PathLike[str], **options: Any) -> EmbeddingScorer:
    """Load SPECS.

    Args: as `long_clip`.
    """
    if is_transformers_checkpoint(checkpoint, options):
        return HfSpecs(checkpoint=os.fspath(checkpoint), **options)
    return Specs(checkpoint=checkpoint, **options)
