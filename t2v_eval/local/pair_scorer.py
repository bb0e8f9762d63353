"""Scorers that read image and text together; features of the image alone are computed once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor
from typing_extensions import override

from t2v_eval.inputs.media import Media
from t2v_eval.local.base import LocalScorer
from t2v_eval.local.batching import Failure
from t2v_eval.scoring.plan import Cells, Text, by_length, caption_text
from t2v_eval.scoring.results import ScoreChunk

State = TypeVar("State")


class PairScorer(LocalScorer, Generic[State]):
    """A model that reads image and text together.

    Subclasses write `preprocess`, `encode_images` (what depends on the image alone, computed once
    for each image) and `score`. Options are those of `LocalScorer`.

    >>> import torch
    >>> from PIL import Image
    >>> class Brightness(PairScorer):
    ...     default_template = "plain"
    ...     def preprocess(self, image):
    ...         return torch.tensor(image.convert("L").resize((1, 1)).getpixel((0, 0))) / 255
    ...     def encode_images(self, batch):
    ...         return list(batch)
    ...     def score(self, states, texts):
    ...         pairs = zip(states, texts)
    ...         return torch.stack([s if "bright" in text else 1 - s for s, text in pairs])
    >>> Brightness(device="cpu")(Image.new("L", (8, 8), 255), ["a bright wall", "a dark wall"])
    tensor([[1., 0.]])
    """

    sharing_mode = "images encoded once"
    uploads_ahead = True

    @abstractmethod
    def encode_images(self, batch: Tensor) -> Sequence[State]:
        """Encode what depends on the image alone.

        Args:
            batch: model inputs (B, ...), on the scorer's device in its dtype.

        Returns:
            The state of each image, such as its features; it may be cached between calls.
        """

    @abstractmethod
    def score(self, states: Sequence[State], texts: Sequence[str]) -> Tensor:
        """Score P aligned pairs with texts of similar length.

        Args:
            states: the state of each pair's image.
            texts: each pair's text, to which the template is not yet applied.

        Returns:
            (P,) scores.
        """

    def score_with_details(
        self, states: Sequence[State], texts: Sequence[str]
    ) -> tuple[Tensor, Sequence[str] | None]:
        """Score as `score` does, and return what else the model says of each pair, as JSON.

        Returns:
            (P,) scores, and P details; None where there are none.
        """
        return self.score(states, texts), None

    @override
    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        rows, spans = by_length(cells, texts)
        media = [images[i] for i in rows]
        for states, failed in self._cached_states(
            media, lambda b: self.encode_images(self.stack(b))
        ):
            for n, reason in failed.items():
                yield ScoreChunk(spans[n], None, reason)
            pairs = [
                (int(p), media[n].name, state, caption_text(texts[cells[p, 1]]))
                for n, state in states.items()
                for p in spans[n]
            ]
            pairs.sort(key=lambda pair: len(pair[3]))
            for part, values in self.batch.run_adaptive(
                pairs,
                lambda b: self.score_with_details([s for _, _, s, _ in b], [t for *_, t in b]),
                self._cache.clear,
            ):
                positions = np.array([p for p, *_ in pairs[part]])
                if isinstance(values, Failure):
                    _, name, _, text = pairs[part.start]
                    yield ScoreChunk(
                        positions, None, self._failure_reason(f"{name} with {text[:60]!r}", values)
                    )
                else:
                    yield ScoreChunk(positions, values[0], details=values[1])

    @override
    def score_pixels(self, pixels: Tensor, texts: Sequence[str]) -> Tensor:
        return self.score(self.encode_images(self.inputs_of(pixels)), texts)
