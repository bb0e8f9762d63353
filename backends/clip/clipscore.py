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

from t2v_eval.local.base import unit
from t2v_eval.scoring.plan import Caption, Text

from .open_clip import OpenClip


class ClipScore(OpenClip):
    """2.5 max(cos, 0) of the image and "A photo depicts " + caption, with OpenAI's ViT-B/32.

    Args: as `OpenClip`.
    """

    default_template = "clipscore"
    published = ("ViT-B-32", "openai")
    caption_keys: ClassVar[tuple[str, ...]] = ("CLIPScore",)
    as_openai = True

    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        return 2.5 * super().similarity(images, texts).clamp(min=0)


class RefClipScore(ClipScore):
    """Harmonic mean of CLIPScore and the greatest cosine of the caption and a human reference.

    0 where both are 0, which the original leaves undefined. As in the original, the second term is
    not clipped, so a caption unlike all its references can score below 0. A caption without
    references has its CLIPScore.

    Args: as `OpenClip`.
    """

    uses_references = True
    caption_keys = ("CLIPScore", "RefCLIPScore")

    def embed_captions(self, texts: Sequence[Text]) -> Tensor:
        """A caption is its embedding, followed by its greatest cosine with a reference."""
        captions = [Caption(text, ()) if isinstance(text, str) else text for text in texts]
        unique = list(dict.fromkeys(t for c in captions for t in (c.text, *c.references)))
        made = dict(zip(unique, self.embed_texts(unique).cpu().double(), strict=True))
        rows = []
        for caption in captions:
            own, nearest = made[caption.text], torch.tensor([torch.inf], dtype=torch.double)
            if caption.references:
                others = torch.stack([made[reference] for reference in caption.references])
                nearest = (unit(others) @ unit(own)).max().view(1)
            rows.append(torch.cat([own, nearest]))
        return torch.stack(rows)

    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        if images.shape[-1] == texts.shape[-1]:  # among themselves, nothing has references
            return super().similarity(images, texts)
        score, nearest = super().similarity(images, texts[:, :-1]), texts[:, -1]
        mean = 2 * score * nearest / (score + nearest)
        mean = torch.where((score == 0) & (nearest == 0), 0.0, mean)
        return torch.where(nearest.isinf(), score, mean)
