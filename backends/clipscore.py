"""CLIPScore and RefCLIPScore: 2.5 max(cos, 0), and its harmonic mean with the best reference.

Hessel et al. 2021, "CLIPScore: A Reference-free Evaluation Metric for Image Captioning", eq. 1 and
section 3; details as in the authors' clipscore.py: the prefix, the order of the picture's
preparation, and that the references' part is neither weighted nor clipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import open_clip
import regex  # type: ignore[import-untyped]
import torch
from PIL import Image
from torch import Tensor

from t2v_eval.local import unit
from t2v_eval.plan import Caption, Text

from .open_clip import OpenClip

SPECIAL = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}


class ClipScore(OpenClip):
    """2.5 max(cos, 0) of the picture and "A photo depicts " + caption, with OpenAI's ViT-B/32.

    Args: as `OpenClip`.
    """

    default_template = "clipscore"
    published = ("ViT-B-32", "openai")
    caption_keys: ClassVar[tuple[str, ...]] = ("CLIPScore",)

    def preprocess(self, image: Image.Image) -> Tensor:
        # Resized and cropped before it becomes RGB: not the same for palettes, alpha and 1 bit.
        prepared: Tensor = self.transform(image)
        return prepared

    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        return 2.5 * super().similarity(images, texts).clamp(min=0)

    def load_tokenizer(self, text: dict[str, Any], folder: Path) -> Any:
        """OpenAI's tokenizer: OpenCLIP's with the end token spelled as OpenAI does."""
        tokenizer = super().load_tokenizer(text, folder)
        if isinstance(tokenizer, open_clip.SimpleTokenizer):
            pattern = tokenizer.pat.pattern
            for ours, theirs in SPECIAL.items():
                tokenizer.encoder[theirs] = tokenizer.encoder[ours]
                tokenizer.cache[theirs] = theirs
                pattern = pattern.replace(ours, regex.escape(theirs))
            tokenizer.pat = regex.compile(pattern, regex.IGNORECASE)
        return tokenizer


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
        score, nearest = super().similarity(images, texts[:, :-1]), texts[:, -1]
        mean = 2 * score * nearest / (score + nearest)
        mean = torch.where((score == 0) & (nearest == 0), 0.0, mean)
        return torch.where(nearest.isinf(), score, mean)
