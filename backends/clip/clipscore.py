"""CLIPScore and RefCLIPScore: 2.5 max(cos, 0), and its harmonic mean with the best reference.

Hessel et al. 2021, "CLIPScore: A Reference-free Evaluation Metric for Image Captioning", eq. 1 and
section 3; details as in the authors' clipscore.py: the prefix, the order of the image's
preparation, and that the references' part is neither weighted nor clipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from t2v_eval.local.dual_encoder import unit
from t2v_eval.scoring.plan import Caption, Text

from .open_clip import OpenClip


class ClipScore(OpenClip):
    """Score 2.5 max(cos, 0) of the image and "A photo depicts " + caption, from 0 to 2.5.

    Hessel et al. 2021, eq. 1. The CLIP is OpenAI's ViT-B/32.

    Args:
        checkpoint: as `OpenClip`.
        arch: as `OpenClip`.
        pretrained: as `OpenClip`.

    >>> scorer = object.__new__(ClipScore)  # the formula needs no weights
    >>> images, texts = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [-0.6, 0.8]])
    >>> scorer.similarity(images, texts)
    tensor([[1.5000, 0.0000]])
    """

    default_template = "clipscore"
    published = ("ViT-B-32", "openai")
    caption_keys: ClassVar[tuple[str, ...]] = ("CLIPScore",)
    as_openai = True

    @override
    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        return 2.5 * super().similarity(images, texts).clamp(min=0)


class RefClipScore(ClipScore):
    """Score the harmonic mean of CLIPScore and the caption's best cosine with a human reference.

    Hessel et al. 2021, section 3. 0 where both are 0, which the original leaves undefined. As in
    the original, the second term is not clipped, so a caption unlike all its references can score
    below 0. A caption without references has its CLIPScore.

    Args:
        checkpoint: as `OpenClip`.
        arch: as `OpenClip`.
        pretrained: as `OpenClip`.

    >>> scorer = object.__new__(RefClipScore)  # the formula needs no weights
    >>> image, caption = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.5]])
    >>> scorer.similarity(image, caption)  # 2 * 2.5 * 0.5 / (2.5 + 0.5)
    tensor([[0.8333]])
    """

    uses_references = True
    caption_keys = ("CLIPScore", "RefCLIPScore")

    @override
    def embed_captions(self, texts: Sequence[Text]) -> Tensor:
        """Embed captions, with the best cosine of each with a reference as a last number.

        Returns:
            (N, D + 1); the last number is infinite for a caption without references.
        """
        captions = [Caption(text, ()) if isinstance(text, str) else text for text in texts]
        unique = list(dict.fromkeys(t for c in captions for t in (c.text, *c.references)))
        embeddings = dict(zip(unique, self.embed_texts(unique).cpu().double(), strict=True))
        rows = []
        for caption in captions:
            embedding = embeddings[caption.text]
            nearest = torch.tensor([torch.inf], dtype=torch.double)
            if caption.references:
                others = torch.stack([embeddings[reference] for reference in caption.references])
                nearest = (unit(others) @ unit(embedding)).max().view(1)
            rows.append(torch.cat([embedding, nearest]))
        return torch.stack(rows)

    @override
    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        if images.shape[-1] == texts.shape[-1]:  # among themselves, nothing has references
            return super().similarity(images, texts)
        score, nearest = super().similarity(images, texts[:, :-1]), texts[:, -1]
        mean = 2 * score * nearest / (score + nearest)
        mean = torch.where((score == 0) & (nearest == 0), 0.0, mean)
        return torch.where(nearest.isinf(), score, mean)
