"""An LLM judge of two images: which of them shows a text better, asked in both orders.

Models have a position bias: they favour the first or the second image. So each pair is asked for
twice with the images swapped, and contradictory answers are reported as inconsistent.
"""

from __future__ import annotations

import re
from typing import Any

from typing_extensions import override

from t2v_eval.inputs.media import PAIR, ImageGroup, Media
from t2v_eval.scoring.preferences import PreferenceMixin

from .grade import WrittenAnswer, match_whole_answer
from .messages import Completion
from .scorer import ServiceScorer

CHOICE = re.compile(
    r"[^\w¬!≠~]*(?:(?:picture|image|video|option) )?(a|b|tie)[^\w?+]*", re.IGNORECASE
)
CHOICE_SCORES = {"a": 1.0, "tie": 0.5, "b": 0.0}


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


class PairwiseScorer(PreferenceMixin, ServiceScorer):
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
