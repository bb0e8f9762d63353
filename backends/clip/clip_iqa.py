"""CLIP-IQA: the softmax of an image over two opposite descriptions, such as good and bad.

Wang et al. 2023, "Exploring CLIP for Assessing the Look and Feel of Images", section 3, as
torchmetrics computes it with a CLIP of the Hugging Face hub. (The paper's own network, a ResNet-50
without its position embedding, is another.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from t2v_eval.errors import InputError, UnsupportedError
from t2v_eval.scoring.plan import Text, caption_text
from t2v_eval.store import text_key

from .hf_clip import HfClip


class ClipIqa(HfClip):
    """Score how much closer an image is to the better of two descriptions, from 0 to 1.

    The score is the softmax of 100 cos over both descriptions, at the better one. A text is the
    name of a property, such as "quality", or two descriptions of your own, the better one first:
    "Super good photo.|Super bad photo.".

    Args:
        pairs: the two descriptions of each property by its name, the better description first.
        **options: options of `HfClip`.

    Raises:
        InputError: a text is neither a property's name nor two descriptions.
        UnsupportedError: images are compared among themselves, or texts.

    >>> import t2v_eval
    >>> from PIL import Image
    >>> folder = t2v_eval.load("tiny-clip", device="cpu").files[0].parent
    >>> scorer = ClipIqa(pairs={"red": ("a red square", "a blue square")}, checkpoint=str(folder))
    >>> scores = scorer([Image.new("RGB", (48, 48), "red")], ["red", "a blue square|a red square"])
    >>> round(float(scores.sum()), 4)
    1.0
    """

    def __init__(self, *, pairs: Mapping[str, Sequence[str]], **options: Any) -> None:
        super().__init__(**options)
        self.pairs = pairs
        self.identity_facts = {"pairs": text_key(repr(sorted(pairs.items())))}

    @override
    def embed_captions(self, texts: Sequence[Text]) -> Tensor:
        """Embed both descriptions of each text.

        Returns:
            (N, 2, D) embeddings.
        """
        pairs = [self._pair(caption_text(text)) for text in texts]
        embeddings = self.embed_texts([description for pair in pairs for description in pair])
        return torch.stack([embeddings[::2], embeddings[1::2]], dim=1)

    @override
    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        if texts.ndim != 3:
            raise UnsupportedError(f"{self.name!r} compares images with pairs of descriptions")
        better, worse = (super(ClipIqa, self).similarity(images, t) for t in texts.unbind(1))
        return (100 * (better - worse)).sigmoid()

    def _pair(self, text: str) -> Sequence[str]:
        pair = self.pairs.get(text) or text.split("|")
        if len(pair) != 2:
            raise InputError(
                f"{self.name!r} cannot score the text {text[:60]!r}: pass the name of a property "
                f"({', '.join(self.pairs)}) or two descriptions as 'better|worse'"
            )
        return pair
