"""An LLM judge of two images: which of them shows a text better, asked in both orders.

Models have a position bias: they favour the first or the second image. So each pair is asked for
twice with the images swapped, and contradictory answers are reported as inconsistent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from typing_extensions import override

from t2v_eval.errors import InputError, MediaError
from t2v_eval.inputs.media import PAIR, ImageGroup, Media, MediaLike, open_media
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.results import Progress

from .grade import WrittenAnswer, match_whole_answer
from .messages import Completion
from .scorer import ServiceScorer

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
        shown_first: the answer with the first image before the second.
        shown_second: the answer with the first image behind the second.
        reason: why an answer is missing.

    >>> Preference(1.0, True, 1.0, 1.0).consistent
    True
    """

    value: float
    consistent: bool | None
    shown_first: float
    shown_second: float
    reason: str = ""


class PairwiseChoice(WrittenAnswer):
    """Ask which of two images shows a text better.

    Args:
        max_tokens: length of an answer; a model that reasons first needs many.
        temperature: 0 for the likeliest answer; some reasoning models accept 1 only.

    >>> PairwiseChoice().parse_score(Completion("B"))
    0.0
    """

    default_template = "judge-pair"

    @override
    def parse_score(self, completion: Completion) -> float:
        return parse_choice(completion.text, completion.truncated)


class PairwiseScorer(ServiceScorer):
    """Ask a model which of two images shows a text better.

    Use `prefer`; single images cannot be scored. The store keeps each answer under both images in
    order: 1 for the image that was shown first, 0 for the other, 0.5 for a tie.

    Args:
        protocol: the protocol of the service.
        question: a `PairwiseChoice`.
        options: see `ServiceScorer`.

    >>> from t2v_eval.backends.services.openai_protocol import CompatibleProtocol
    >>> protocol = CompatibleProtocol("my-model", base_url="http://localhost:8000/v1")
    >>> scorer = PairwiseScorer(protocol, PairwiseChoice())
    >>> scorer.template.question.partition(".")[0]
    'Here are two pictures, A and B'
    """

    image_roles = PAIR

    def prefer(
        self, image_a: MediaLike, image_b: MediaLike, text: str, **template: str | None
    ) -> Preference:
        """Return which image shows the text better, with two requests.

        Args:
            image_a: an image of any type that `open_media` accepts.
            image_b: the image to compare it with.
            text: the description to compare them by.
            template: `question_template` or `template` for this call.

        Returns:
            The preference for the first image.

        Raises:
            InputError: an argument is not valid; a `MediaError` for an image.
            ScoringError: an answer is missing; with ``on_error="skip"`` the value is NaN.
        """
        return self.prefer_all([(image_a, image_b, text)], None, **template)[0]

    def prefer_all(
        self,
        pairs: Iterable[tuple[MediaLike, MediaLike, str]],
        progress: Progress | bool | None = None,
        **template: str | None,
    ) -> list[Preference]:
        """Compare many pairs, with concurrent requests.

        Args:
            pairs: (image_a, image_b, text) of each.
            progress: called with the counts as they grow; or whether to show a bar, by default in
                a terminal or a notebook.
            template: see `prefer`.

        Returns:
            A `Preference` for each pair.

        Raises:
            InputError, ScoringError: see `prefer`.
        """
        blocks = self.pair_blocks(pairs)
        if not blocks:
            return []
        outcome = self.with_call_options(template).evaluate_blocks(blocks, progress)
        preferences = []
        for n, scores in enumerate(outcome.scores):
            first, second = float(scores[0, 0]), 1.0 - float(scores[1, 0])
            reasons = (outcome.failures.get((n, row, 0), "") for row in (0, 1))
            missing = math.isnan(first + second)
            agree = None if missing else first == second
            reason = "; ".join(dict.fromkeys(filter(None, reasons)))
            preferences.append(Preference((first + second) / 2, agree, first, second, reason))
        return preferences

    def pair_blocks(self, pairs: Iterable[tuple[MediaLike, MediaLike, str]]) -> list[Block]:
        """Return a block for each pair, whose images are the pair in both orders.

        Args:
            pairs: (image_a, image_b, text) of each.

        Raises:
            InputError: a text is none; a `MediaError` for an image.
        """
        blocks = []
        for n, (image_a, image_b, text) in enumerate(pairs):
            a, b = self._open(image_a, f"image_a[{n}]"), self._open(image_b, f"image_b[{n}]")
            if not isinstance(text, str):
                raise InputError(f"text[{n}] is {type(text).__name__}; pass one text")
            blocks.append(
                Block([ImageGroup.of(first=x, second=y) for x, y in ((a, b), (b, a))], [text])
            )
        return blocks

    def _open(self, image: MediaLike, position: str) -> Media:
        try:
            return open_media(image, position, self.allow_urls)
        except MediaError as error:
            if self.on_error == "raise":
                raise
            return Media.broken(position, error)

    @override
    def expected_tokens(self, media: Media, text: str) -> tuple[int, int] | None:
        if not isinstance(media, ImageGroup):
            return None
        estimate = super().expected_tokens
        first, second = (estimate(image, text) for image in media.images)
        return first and second and (first[0] + second[0], first[1])

    @override
    def pack(self, media: Media) -> Any:
        pack = super().pack
        return tuple(map(pack, media.images)) if isinstance(media, ImageGroup) else pack(media)

    @override
    def build_question(self, image: Any, text: str) -> Any:
        return self._request(image, text, self.question.params.num_samples)


def parse_choice(answer: str, truncated: bool = False) -> float:
    """Return 1.0 for the image shown first, 0.0 for the second, 0.5 for a tie.

    Args:
        answer: the text.
        truncated: whether the length limit ended it.

    Raises:
        ScoringError: the answer is anything else, or truncated.

    >>> [parse_choice(answer) for answer in ("A", " **b**.", "Picture A.", "Tie")]
    [1.0, 0.0, 1.0, 0.5]
    """
    return CHOICE_SCORES[
        match_whole_answer(CHOICE, "neither A nor B nor tie", answer, truncated)[1].lower()
    ]
