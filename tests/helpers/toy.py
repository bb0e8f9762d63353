"""Scorers small enough to check by hand, for tests of everything around a scorer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from t2v_eval.errors import MediaError
from t2v_eval.inputs.media import EDIT, ImageGroup, Media
from t2v_eval.local.base import Options
from t2v_eval.local.dual_encoder import EmbeddingScorer
from t2v_eval.local.pair_scorer import PairScorer
from t2v_eval.local.prefix_sharing import PrefixSharingScorer
from t2v_eval.scoring.plan import Cells, Text
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer


def draw_image(seed: int, size: tuple[int, int] = (12, 10)) -> Image.Image:
    """A noise image that is the same on every machine."""
    pixels = np.random.RandomState(seed).randint(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def image_vector(image: Image.Image) -> Tensor:
    """Mean colour of the four quarters: what both toys know of an image."""
    small = image.convert("RGB").resize((2, 2), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small, np.float32).copy()).flatten() / 255


def text_vector(text: str) -> Tensor:
    """Counts of the text's bytes modulo 12, plus one."""
    return torch.bincount(torch.tensor([*text.encode()], dtype=torch.long) % 12, minlength=12) + 1.0


def expected(image: Image.Image, text: str) -> float:
    """The cosine that `ToyEmbedding` must give, written down once more."""
    a, b = image_vector(image).double().numpy(), text_vector(text).double().numpy()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


class ToyEmbedding(EmbeddingScorer):
    """Cosine of colour and letter counts; remembers what it encoded."""

    version = "1"

    def __init__(self, scale: float = 1.0, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self.scale = scale
        self.identity_facts = {"scale": str(scale)}
        self.image_calls: list[int] = []
        self.text_calls: list[str] = []

    def preprocess(self, image: Image.Image) -> Tensor:
        return image_vector(image)

    def encode_images(self, batch: Tensor) -> Tensor:
        self.image_calls.append(len(batch))
        return batch

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        self.text_calls.extend(texts)
        return torch.stack([text_vector(text) for text in texts]) * self.scale


class ToyEdit(Scorer):
    """The same cosine of what an edit made, less that of its source."""

    image_roles = EDIT
    version = "1"

    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        for n, (i, j) in enumerate(cells.tolist()):
            edit = images[i]
            assert isinstance(edit, ImageGroup)
            try:
                before, after = (expected(self.load_image(m), str(texts[j])) for m in edit.images)
            except MediaError as error:
                yield ScoreChunk(np.array([n]), None, str(error))
            else:
                yield ScoreChunk(np.array([n]), torch.tensor([after - before]))


class ToyPair(PairScorer[Tensor]):
    """The same cosine, read pair by pair; remembers what it scored."""

    version = "1"

    default_template = "vqascore"

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self.image_calls: list[int] = []
        self.pair_calls: list[int] = []
        self.fits = 10**9

    def preprocess(self, image: Image.Image) -> Tensor:
        return image_vector(image)

    def encode_images(self, batch: Tensor) -> Sequence[Tensor]:
        self.image_calls.append(len(batch))
        return list(batch)

    def score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        if len(texts) > self.fits:
            raise torch.OutOfMemoryError("out of memory, says the test")
        self.pair_calls.append(len(texts))
        filled = torch.stack([text_vector(self.template.fill(t)[0]) for t in texts])
        return torch.cosine_similarity(torch.stack(list(states)), filled)


@dataclass
class ToyPrompt:
    """The prompt of `ToyPrefix`, whose prefix is the state alone."""

    state: Tensor
    length: int = 2


class ToyPrefix(PrefixSharingScorer[Tensor, ToyPrompt]):
    """The same cosine, the image first; remembers the texts of each batch."""

    version = "1"

    default_template = "plain"

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self.text_calls: list[list[str]] = []

    def preprocess(self, image: Image.Image) -> Tensor:
        return image_vector(image)

    def encode_images(self, prepared: Sequence[Tensor]) -> Sequence[Tensor]:
        return list(prepared)

    def build_prompt(self, state: Tensor, texts: Sequence[str]) -> ToyPrompt:
        return ToyPrompt(state)

    def prefill(self, prompts: Sequence[ToyPrompt]) -> list[Tensor]:
        return [prompt.state for prompt in prompts]

    def score(self, prefilled: list[Tensor], pairs: Sequence[tuple[int, str]]) -> Tensor:
        self.text_calls.append([text for _, text in pairs])
        rows = torch.stack([prefilled[k] for k, _ in pairs])
        return torch.cosine_similarity(rows, torch.stack([text_vector(text) for _, text in pairs]))
