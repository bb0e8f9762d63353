"""Scorers with Gemini: probabilities, grades and preferences."""

from __future__ import annotations

from typing import Any

from .build import build_scorer
from .gemini_protocol import gemini_protocol
from .scorer import ServiceScorer


def gemini_scorer(model: str, question: str = "probability", **options: Any) -> ServiceScorer:
    """Build a scorer that asks one of Google's models.

    Args:
        model: the service's name of the model.
        question: "probability" of an answer, "grade", "preference" between two images, or
            "text", which scores nothing; see `QUESTIONS`.
        options: see `gemini_protocol`, the question (`answer_question`, `Grade`, `PairwiseChoice`)
            and `ServiceScorer`.

    Raises:
        InputError: an option is not valid.

    >>> gemini_scorer("gemini-2.5-flash", api_key="k").protocol.model
    'gemini-2.5-flash'
    """
    return build_scorer(gemini_protocol, question, model, **options)
