"""Toy images as a benchmark and scorers that know the answers, for tests of what is reported."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from helpers.toy import ToyEmbedding, draw_image

from t2v_eval.evaluation.benchmark import Benchmark, Item, Scores
from t2v_eval.inputs.media import Media
from t2v_eval.registry import benchmarks, models
from t2v_eval.scoring.plan import Cells, Text
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer

HOSTILE = "<script>alert(1)</script> & 'quotes' \"$x$\" {{ 7*7 }}"


class Toys(Benchmark):
    """n items of two images and two texts; image i belongs to text i."""

    headline = "right"
    chance: Mapping[str, float] = {"right": 0.25}

    def __init__(self, *, n: int = 12, broken: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.n, self.broken = n, broken

    def items(self) -> Sequence[Item]:
        return [
            Item(
                images=[
                    b"no picture" if n < self.broken else draw_image(2 * n),
                    draw_image(2 * n + 1),
                ],
                texts=[f"{n} left {HOSTILE}", f"{n} right"],
                tags=("even" if n % 2 == 0 else "odd", *((HOSTILE,) if n < 3 else ())),
                id=f"toy-{n}",
            )
            for n in range(self.n)
        ]

    def metrics(self, items: Sequence[Item], scores: Scores) -> Mapping[str, float]:
        cells = np.stack(scores)
        cells = cells[~np.isnan(cells).any(axis=(1, 2))]
        right = (cells[:, 0, 0] > cells[:, 0, 1]) & (cells[:, 1, 1] > cells[:, 1, 0])
        return {
            "right": float(right.mean()) if len(cells) else float("nan"),
            "undefined": float("nan"),
        }


class Knows(Scorer):
    """Scores 0.9 where image and text belong together, 0.1 elsewhere; the other way if wrong."""

    def __init__(self, wrong: int = 0, stop: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.wrong, self.stop = wrong, stop

    def identity(self) -> dict[str, str]:
        return {"wrong": str(self.wrong), **super().identity()}

    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        for position, (i, j) in enumerate(cells.tolist()):
            if self.stop and position == self.stop:
                raise KeyboardInterrupt
            at = np.array([position])
            try:
                self.load_image(images[i])
            except Exception as error:
                yield ScoreChunk(at, None, str(error).partition(":")[2].strip() or str(error))
                continue
            text = str(texts[j])
            number, side = int(text.split()[0]), text.split()[1]
            right = self.side(images[i]) == side
            if self.wrong and number % self.wrong == 0:
                right = not right
            yield ScoreChunk(at, torch.tensor([0.9 if right else 0.1]))

    def side(self, media: Media) -> str:
        return "left" if media.load().tobytes() in _left_images() else "right"


class Guesses(Knows):
    """Wrong on every third item."""

    version = "1"

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"wrong": 3, **options})


@functools.cache
def _left_images() -> set[bytes]:
    return {draw_image(2 * n).tobytes() for n in range(60)}


def register() -> None:
    """Give the toys names, for commands that take names."""
    note = "They show toys, and nothing else."
    benchmarks.register("toy-items", summary="toy pictures", note=note)(Toys)
    models.register("toy-oracle", kind="oracle", summary="right but one in `wrong`")(Knows)
    models.register("toy-guesser", kind="oracle")(Guesses)
    models.register("toy-colours", kind="clip", summary="colours and letters")(ToyEmbedding)


@pytest.fixture(scope="module", autouse=True)
def named_toys() -> Iterator[None]:
    """The names, in the tests of the modules that import this, and no longer."""
    before = [dict(registry._registered) for registry in (models, benchmarks)]
    register()
    yield
    models._registered, benchmarks._registered = before
