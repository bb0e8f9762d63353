"""Scorers that rate several aspects; the score is one of the ratings, or all combined."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic

from torch import Tensor
from typing_extensions import TypeVar, override

from t2v_eval.errors import InputError
from t2v_eval.inputs.media import Media
from t2v_eval.scoring.generation import Explanation

from .question_only import QuestionOnlyScorer

State = TypeVar("State", default=Tensor)


@dataclass(frozen=True, slots=True)
class AspectExplanation(Explanation):
    """The ratings of all aspects, beside the score.

    >>> print(AspectExplanation(2.5, "a dog", (), {"dynamic degree": 2.5}))
    2.5000
    a dog
      dynamic degree 2.5000
    """

    aspects: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        rated = (f"  {aspect} {rating:.4f}" for aspect, rating in self.aspects.items())
        return "\n".join([f"{self.score:.4f}", self.prompt, *rated])


class AspectScorer(QuestionOnlyScorer[State], Generic[State]):
    """Rate all aspects; `explain`, the store and reports keep them beside the score.

    Subclasses call `choose_aspect`, and implement `rate` and `join`.

    Attributes:
        aspects: names of the ratings, in the order of `rate`.
        joined: name of the combined score that `join` computes.
        aspect: which of these the score is.

    >>> import torch
    >>> from PIL import Image
    >>> class Channels(AspectScorer):
    ...     aspects, joined, default_template = ("red", "green", "blue"), "sum", "plain"
    ...     def preprocess(self, image):
    ...         return torch.tensor(image.resize((1, 1)).getpixel((0, 0))) / 255
    ...     def encode_images(self, batch):
    ...         return list(batch)
    ...     def rate(self, states, texts):
    ...         return torch.stack(states)
    ...     def join(self, ratings):
    ...         return ratings.sum(1)
    >>> scorer = Channels(device="cpu")
    >>> scorer.choose_aspect("sum")
    >>> scorer(Image.new("RGB", (8, 8), "yellow"), ["a wall"])
    tensor([[2.]])
    >>> scorer.explain(Image.new("RGB", (8, 8), "yellow"), ["a wall"])[0][0].aspects
    {'red': 1.0, 'green': 1.0, 'blue': 0.0}
    """

    aspects: ClassVar[Sequence[str]]
    joined: ClassVar[str]
    aspect: str

    def choose_aspect(self, aspect: str) -> None:
        """Set which rating is the score.

        Args:
            aspect: one of `aspects`, or `joined`.

        Raises:
            InputError: the aspect is unknown.
        """
        if aspect not in (*self.aspects, self.joined):
            names = " or ".join(map(repr, (*self.aspects, self.joined)))
            raise InputError(f"`aspect={aspect!r}`: use {names}")
        self.aspect = aspect
        self.identity_facts = {**self.identity_facts, "aspect": aspect}

    @abstractmethod
    def rate(self, states: Sequence[State], texts: Sequence[str]) -> Tensor:
        """Rate P pairs of the state of an image and a text.

        Returns:
            (P, A) ratings, in the order of `aspects`.
        """

    @abstractmethod
    def join(self, ratings: Tensor) -> Tensor:
        """Combine ratings (P, A) into scores (P,)."""

    @override
    def score(self, states: Sequence[State], texts: Sequence[str]) -> Tensor:
        return self._score_of(self.rate(states, texts))

    @override
    def score_with_details(
        self, states: Sequence[State], texts: Sequence[str]
    ) -> tuple[Tensor, Sequence[str] | None]:
        ratings = self.rate(states, texts)
        rounded = [[float(f"{value:.6g}") for value in row] for row in ratings.tolist()]
        details = [json.dumps(dict(zip(self.aspects, row, strict=True))) for row in rounded]
        return self._score_of(ratings), details

    @override
    def explain_image(self, image: Media, texts: Sequence[str], top: int) -> list[Explanation]:
        (state,) = self.encode_images(self.stack([self.prepare(image)]))
        explained: list[Explanation] = []
        for text in texts:
            ratings = self.rate([state], [text])
            aspects = dict(zip(self.aspects, ratings[0].tolist(), strict=True))
            explained.append(AspectExplanation(float(self._score_of(ratings)), text, (), aspects))
        return explained

    def _score_of(self, ratings: Tensor) -> Tensor:
        if self.aspect == self.joined:
            return self.join(ratings)
        return ratings[:, self.aspects.index(self.aspect)]
