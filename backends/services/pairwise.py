"""An LLM judge of two images: which of them shows a text better, asked in both orders.

Models have a position bias: they favour the first or the second image. So each pair is asked for
twice with the images swapped, and contradictory answers are reported as inconsistent.
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

from .grade import BaseJudge, match_whole_answer
from .messages import Completion

CHOICE = re.compile(
    r"[^\w¬!≠~]*(?:(?:picture|image|video|option) )?(a|b|tie)[^\w?]*", re.IGNORECASE
)
CHOICE_SCORES = {"a": 1.0, "tie": 0.5, "b": 0.0}


class Preference(NamedTuple):
    """The preference for the first of two images.

    Attributes:
        value: mean of both answers: 1 for the first image, 0 for the second, 0.5 for a tie; NaN
            where an answer is missing.
        consistent: whether both answers agree; None where one is missing.
        shown_first, shown_second: the answer with the first image in that position.
        reason: why an answer is missing.
    """

    value: float
    consistent: bool | None
    shown_first: float
    shown_second: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ImagePair(Media):
    """Two images in the order in which they are sent."""

    first: Media
    second: Media

    @classmethod
    def from_images(cls, first: Media, second: Media) -> ImagePair:
        def load() -> Image.Image:
            raise MediaError("a pair of images is not one image")

        name = f"{first.name} and {second.name}"
        return cls(f"{first.key}+{second.key}", name, load, first, second)


class PreferenceJudge(BaseJudge):
    """Ask a model which of two images shows a text better.

    Use `prefer`; single images cannot be scored. The store keeps each answer under both images in
    order: 1 for the image that was shown first, 0 for the other, 0.5 for a tie.
    """

    default_template = "judge-pair"

    def prefer(
        self, image_a: MediaLike, image_b: MediaLike, text: str, **template: str | None
    ) -> Preference:
        """Return which image shows the text better, with two requests.

        Args:
            image_a, image_b: two images, of any type that `open_media` accepts.
            template: `question_template` or `template` for this call.

        Raises:
            InputError, MediaError: what was passed cannot be used.
            ScoringError: there is no answer; with ``on_error="skip"`` the value is NaN.
        """
        return self.prefer_all([(image_a, image_b, text)], **template)[0]

    def prefer_all(
        self, pairs: Iterable[tuple[MediaLike, MediaLike, str]], **template: str | None
    ) -> list[Preference]:
        """Return `prefer` for many (image_a, image_b, text), with concurrent requests."""
        blocks = []
        for n, (image_a, image_b, text) in enumerate(pairs):
            a, b = self._open(image_a, f"image_a[{n}]"), self._open(image_b, f"image_b[{n}]")
            if not isinstance(text, str):
                raise InputError(f"text[{n}] is {type(text).__name__}; pass one text")
            blocks.append(Block([ImagePair.from_images(a, b), ImagePair.from_images(b, a)], [text]))
        if not blocks:
            return []
        outcome = self.with_call_templates(template).evaluate_blocks(blocks)
        preferences = []
        for n, scores in enumerate(outcome.scores):
            first, second = float(scores[0, 0]), 1.0 - float(scores[1, 0])
            reasons = (outcome.failures.get((n, row, 0), "") for row in (0, 1))
            missing = math.isnan(first + second)
            agree = None if missing else first == second
            reason = "; ".join(dict.fromkeys(filter(None, reasons)))
            preferences.append(Preference((first + second) / 2, agree, first, second, reason))
        return preferences

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
        if not all(isinstance(media, ImagePair) for media in images):
            raise UnsupportedError(
                f"{self.name!r} compares two images and cannot score a single one: call "
                "prefer(image_a, image_b, text)"
            )
        return super().score_cells(images, texts, cells)

    def expected_tokens(self, media: Media, text: str) -> tuple[int, int] | None:
        if not isinstance(media, ImagePair):
            return None
        first = super().expected_tokens(media.first, text)
        second = super().expected_tokens(media.second, text)
        return first and second and (first[0] + second[0], self.max_answer_tokens)

    def pack(self, media: Media) -> Any:
        if not isinstance(media, ImagePair):
            return super().pack(media)
        return super().pack(media.first), super().pack(media.second)

    def build_question(self, image: Any, text: str) -> Any:
        return self.request_body(
            self.build_parts(self.template.fill(text)[0], *image), self._params
        )

    def parse_score(self, completion: Completion) -> float:
        return parse_choice(completion.text, completion.truncated)


def parse_choice(answer: str, truncated: bool = False) -> float:
    """Return 1.0 for the image shown first, 0.0 for the second, 0.5 for a tie.

    Raises:
        ScoringError: the answer is anything else, or truncated.

    >>> [parse_choice(answer) for answer in ("A", " **b**.", "Picture A.", "Tie")]
    [1.0, 0.0, 1.0, 0.5]
    """
    return CHOICE_SCORES[
        match_whole_answer(CHOICE, "neither A nor B nor tie", answer, truncated)[1].lower()
    ]
