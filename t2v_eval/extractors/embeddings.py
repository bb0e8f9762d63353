"""Image embeddings of a dual encoder as features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from t2v_eval.api import load
from t2v_eval.errors import InputError
from t2v_eval.extractors.extractor import Extracted, Extractor
from t2v_eval.inputs.media import Media
from t2v_eval.local.dual_encoder import EmbeddingScorer
from t2v_eval.utils.torch_internals import inference


class EmbeddingExtractor(Extractor):
    """The image encoder of a dual encoder; its rows are not scaled to unit length.

    Args:
        name: the name of a scorer that embeds images and texts.
        options: as for `t2v_eval.load`.

    Raises:
        InputError: the scorer embeds no images, or several vectors for each.

    >>> from PIL import Image
    >>> from t2v_eval.inputs.media import open_media
    >>> extractor = EmbeddingExtractor("tiny-clip", device="cpu")
    >>> (batch,) = extractor.extract([open_media(Image.new("RGB", (48, 48)))])
    >>> batch.features.shape
    (1, 128)
    """

    def __init__(self, name: str, **options: Any) -> None:
        scorer = load(name, on_error="skip", **options)
        if not isinstance(scorer, EmbeddingScorer):
            raise InputError(
                f"`features={name!r}` embeds no images: pass a scorer of kind 'clip' "
                "(`t2v-eval list models --kind clip`)"
            )
        self._scorer = scorer

    @override
    def facts(self) -> dict[str, Any]:
        identity = self._scorer.identity()
        facts: dict[str, Any] = {"network": self._scorer.name, "resize": "as the network's own"}
        return facts | {key: identity[key] for key in ("weights", "dtype") if key in identity}

    @override
    def extract(self, media: Sequence[Media]) -> Iterator[Extracted]:
        with inference():
            for numbers, embeddings, failed in self._scorer.embed_images(media):
                rows = torch.as_tensor(embeddings, dtype=torch.float32).cpu().numpy()
                if rows.ndim != 2 and len(numbers):
                    raise InputError(
                        f"`features={self._scorer.name!r}` has several embeddings for each image: "
                        "pass a scorer of kind 'clip'"
                    )
                yield Extracted(list(numbers), rows.astype(np.float32), None, failed)
