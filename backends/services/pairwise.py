"""A judge of two pictures: which of them shows a text better, asked in both orders.

Models favour a place, the first or the second, over the other. So each pair is asked for twice with
the pictures swapped, and answers that contradict each other are said to.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from PIL import Image

from t2v_eval.errors import InputError, MediaError, UnsupportedError
from t2v_eval.inputs.media import Media, MediaLike, open_media
from t2v_eval.scoring.plan import Block, Cells, Text
from t2v_eval.scoring.results import ScoreChunk

from .grade import Writer, whole
from .messages import Said

CHOICE = re.compile(
    r"[^\w¬!≠~]*(?:(?:picture|image|video|option) )?(a|b|tie)[^\w?]*", re.IGNORECASE
)
CHOSEN = {"a": 1.0, "tie": 0.5, "b": 0.0}


class Preference(NamedTuple):
    """Which of two pictures shows a text better.

    Attributes:
        value: 1 for the first, 0 for the second, 0.5 for neither: the mean of both answers; NaN
            where one of them is missing.
        consistent: whether both answers say the same; None where one of them is missing.
        shown_first, shown_second: what was answered when the first picture was shown in that place.
        reason: why an answer is missing.
    """

    value: float
    consistent: bool | None
    shown_first: float
    shown_second: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Pair(Media):
    """Two pictures in the order in which they are shown."""

    first: Media
    second: Media

    @classmethod
    def of(cls, first: Media, second: Media) -> Pair:
        def load() -> Image.Image:
            raise MediaError("a pair of pictures is not one picture")

        name = f"{first.name} and {second.name}"
        return cls(f"{first.key}+{second.key}", name, load, first, second)


class PreferenceJudge(Writer):
    """Asks a model which of two pictures shows a text better.

    Use `prefer`; it scores no single picture. The store keeps each answer under both pictures in
    their order: 1 for the one that was shown first, 0 for the other, 0.5 for a tie.
    """

    default_template = "judge-pair"

    def prefer(
        self, image_a: MediaLike, image_b: MediaLike, text: str, **template: str | None
    ) -> Preference:
        """Which picture shows the text better; two requests.

        Args:
            image_a, image_b: two pictures; see `open_media` for what counts as one.
            template: `question_template` or `template` for this call.

        Raises:
            InputError, MediaError: what was passed cannot be used.
            ScoringError: there is no answer; with ``on_error="skip"`` the value is NaN.
        """
        return self.prefer_all([(image_a, image_b, text)], **template)[0]

    def prefer_all(
        self, pairs: Iterable[tuple[MediaLike, MediaLike, str]], **template: str | None
    ) -> list[Preference]:
        """As `prefer`, for many (image_a, image_b, text), which are asked for together."""
        blocks = []
        for n, (image_a, image_b, text) in enumerate(pairs):
            a, b = self._open(image_a, f"image_a[{n}]"), self._open(image_b, f"image_b[{n}]")
            if not isinstance(text, str):
                raise InputError(f"text[{n}] is {type(text).__name__}; pass one text")
            blocks.append(Block([Pair.of(a, b), Pair.of(b, a)], [text]))
        if not blocks:
            return []
        outcome = self.with_call_templates(template).evaluate_blocks(blocks)
        found = []
        for n, scores in enumerate(outcome.scores):
            first, second = float(scores[0, 0]), 1.0 - float(scores[1, 0])
            reasons = (outcome.failures.get((n, row, 0), "") for row in (0, 1))
            missing = math.isnan(first + second)
            agree = None if missing else first == second
            reason = "; ".join(dict.fromkeys(filter(None, reasons)))
            found.append(Preference((first + second) / 2, agree, first, second, reason))
        return found

    def _open(self, image: MediaLike, position: str) -> Media:
        try:
            return open_media(image, position, self.allow_urls)
        except MediaError as error:
            if self.on_error == "raise":
                raise
            return Media.broken(position, error)

    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        if not all(isinstance(media, Pair) for media in images):
            raise UnsupportedError(
                f"{self.name!r} compares two pictures and scores no single one: call "
                "prefer(image_a, image_b, text)"
            )
        return super().score_cells(images, texts, cells)

    def expected_tokens(self, media: Media, text: str) -> tuple[int, int] | None:
        if not isinstance(media, Pair):
            return None
        first = super().expected_tokens(media.first, text)
        second = super().expected_tokens(media.second, text)
        return first and second and (first[0] + second[0], self.answer_tokens)

    def pack(self, media: Media) -> Any:
        if not isinstance(media, Pair):
            return super().pack(media)
        return super().pack(media.first), super().pack(media.second)

    def question(self, image: Any, text: str) -> Any:
        return self.body(self.parts(self.template.fill(text)[0], *image), self._how)

    def meaning(self, said: Said) -> float:
        return choice(said.text, said.cut)


def choice(answer: str, cut: bool = False) -> float:
    """1 for the picture shown first, 0 for the second, 0.5 for neither.

    Raises:
        ScoringError: the answer is anything else, or was cut.

    >>> choice("A"), choice(" **b**."), choice("Picture A."), choice("Tie")
    (1.0, 0.0, 1.0, 0.5)
    """
    return CHOSEN[whole(CHOICE, "neither A nor B nor tie", answer, cut)[1].lower()]
