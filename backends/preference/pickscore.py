"""PickScore: human preference, learnt from choices between two images of one prompt.

Kirstain et al. 2023, "Pick-a-Pic: An Open Dataset of User Preferences for Text-to-Image
Generation", section 4: CLIP ViT-H/14, fine-tuned so that exp(logit scale) times the cosine is the
logit of being picked. Some report the cosine alone, which ranks alike.
"""

from __future__ import annotations

from typing import Unpack

from torch import Tensor
from typing_extensions import override

from t2v_eval.local.base import Options

from ..clip.hf_clip import HfClip
from .preference_logits import PreferenceScorer


class PickScore(PreferenceScorer, HfClip):
    """Score exp(logit scale) times the cosine of image and text, or the cosine.

    Args:
        checkpoint: a folder or hub id with configuration and weights.
        processor: a folder or hub id with tokenizer and image processor; by default those that lie
            beside the weights, or else those of the CLIP that PickScore was fine-tuned from.
        scaled: True scores the logit, without bounds; False the cosine, -1 to 1.
        **options: options of `LocalScorer`.

    Raises:
        CheckpointError: a file is missing, or the files do not belong to one model.

    >>> import t2v_eval
    >>> from PIL import Image
    >>> folder = t2v_eval.load("tiny-clip", device="cpu").files[0].parent  # any CLIP will do
    >>> scorer = PickScore(checkpoint=str(folder), device="cpu")
    >>> images = [Image.new("RGB", (48, 48), colour) for colour in ("red", "blue")]
    >>> round(float(scorer.probabilities(images, "a red square").sum()), 4)
    1.0
    """

    default_processor = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"

    def __init__(
        self,
        checkpoint: str,
        processor: str | None = None,
        scaled: bool = True,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(checkpoint=checkpoint, processor=processor, **options)
        self.identity_facts = {"scaled": str(scaled)}
        self.factor, self.logit_scale = (self.scale, 1.0) if scaled else (1.0, self.scale)

    @override
    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        return self.factor * super().similarity(images, texts)
