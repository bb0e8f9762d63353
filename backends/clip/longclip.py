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
    """Score the cosine of image and long caption, from weights in the authors' layout; -1 to 1.

    Args:
        checkpoint: as `OpenClip`; no other argument is needed.

    Raises:
        CheckpointError: the weights are not of a LongCLIP.

    >>> LongClip.weights
    ('longclip-L.pt', 'longclip-B.pt', 'spec.pt')
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
    """Score (cos + 1) / 2 of image and long caption, 0 to 1.

    Args:
        checkpoint: as `LongClip`.

    >>> scorer = object.__new__(Specs)  # the formula needs no weights
    >>> scorer.similarity(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]]))
    tensor([[0.8000]])
    """


class HfSpecs(HalfShiftedCosine, HfClip):
    """Score as `Specs`, from weights in the layout of transformers.

    Args:
        checkpoint: as `HfClip`.
        processor: as `HfClip`.

    >>> scorer = object.__new__(HfSpecs)  # the formula needs no weights
    >>> scorer.similarity(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([[0.5000]])
    """


def long_clip(checkpoint: str | os.PathLike[str], **options: Any) -> EmbeddingScorer:
    """Load LongCLIP.

    Args:
        checkpoint: a file, folder or hub id in the authors' layout or that of transformers.
        **options: options of `LongClip` or `HfClip`.

    >>> import t2v_eval
    >>> folder = t2v_eval.load("tiny-clip", device="cpu").files[0].parent
    >>> type(long_clip(folder, device="cpu")).__name__
    'HfClip'
    """
    if is_transformers_checkpoint(checkpoint, options):
        return HfClip(checkpoint=os.fspath(checkpoint), **options)
    return LongClip(checkpoint=checkpoint, **options)


def specs(checkpoint: str | os.PathLike[str], **options: Any) -> EmbeddingScorer:
    """Load SPECS.

    Args:
        checkpoint: a file, folder or hub id in the authors' layout or that of transformers.
        **options: options of `Specs` or `HfSpecs`.

    >>> import t2v_eval
    >>> folder = t2v_eval.load("tiny-clip", device="cpu").files[0].parent
    >>> type(specs(folder, device="cpu")).__name__
    'HfSpecs'
    """
    if is_transformers_checkpoint(checkpoint, options):
        return HfSpecs(checkpoint=os.fspath(checkpoint), **options)
    return Specs(checkpoint=checkpoint, **options)
