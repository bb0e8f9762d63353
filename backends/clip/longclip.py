"""CLIP that reads captions of 248 tokens: LongCLIP, and SPECS, which is trained from it.

Zhang et al. 2024, "Long-CLIP: Unlocking the Long-Text Capability of CLIP", section 3.2: the first
20 positions stay as CLIP learnt them, those behind are learnt anew, in a table of their own. (That
its training starts from CLIP's 77 positions, stretched, is no part of scoring.) Chen et al. 2025,
"SPECS: Specificity-Enhanced CLIP-Score for Long Image Caption Evaluation".
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from t2v_eval.local.base import EmbeddingScorer
from t2v_eval.local.weights import check_keys, read_tensors

from ..common.checkpoint import is_transformers_checkpoint
from .hf_clip import HfClip
from .open_clip import OpenClip
from .rescaling import Half

KEPT = 20  # positions
TABLES = ("positional_embedding", "positional_embedding_res")


class LongClip(OpenClip):
    """Cosine of image and long caption, from weights in the authors' own layout.

    Args: as `OpenClip`; nothing besides `checkpoint` is needed.
    """

    weights = ("longclip-L.pt", "longclip-B.pt", "spec.pt")

    def read_openai(self, file: Path) -> dict[str, Tensor]:
        tensors = read_tensors(file)
        check_keys(file, [name for name in TABLES if name not in tensors])
        kept, learnt = (tensors.pop(name) for name in TABLES)
        return {**tensors, TABLES[0]: torch.cat([kept[:KEPT], learnt[KEPT:]])}


class Specs(Half, LongClip):
    """(cos + 1) / 2 of image and long caption.

    Args: as `LongClip`.
    """


class HfSpecs(Half, HfClip):
    """As `Specs`, from weights in the layout of transformers.

    Args: as `HfClip`.
    """


def long_clip(checkpoint: str | os.PathLike[str], **options: Any) -> EmbeddingScorer:
    """LongCLIP.

    Args:
        checkpoint: a file, folder or hub id in the authors' layout or that of transformers.
    """
    if is_transformers_checkpoint(checkpoint, options):
        return HfClip(checkpoint=os.fspath(checkpoint), **options)
    return LongClip(checkpoint=checkpoint, **options)


def specs(checkpoint: str | os.PathLike[str], **options: Any) -> EmbeddingScorer:
    """SPECS.

    Args: as `long_clip`.
    """
    if is_transformers_checkpoint(checkpoint, options):
        return HfSpecs(checkpoint=os.fspath(checkpoint), **options)
    return Specs(checkpoint=checkpoint, **options)
