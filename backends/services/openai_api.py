"""Scorers with GPT and servers that speak its protocol: probabilities, grades and preferences."""

from __future__ import annotations

from typing import Any

from .build import build_scorer
from .openai_protocol import CompatibleProtocol, OpenAIProtocol
from .scorer import ServiceScorer


def openai_scorer(model: str, question: str = "probability", **options: Any) -> ServiceScorer:
    """Build a scorer that asks one of OpenAI's models.

    Args:
        model: the service's name of the model.
        question: "probability" of an answer, "grade", "preference" between two images, or
            "text", which scores nothing; see `QUESTIONS`.
        options: see `OpenAIProtocol`, the question (`answer_question`, `Grade`, `PairwiseChoice`)
            and `ServiceScorer`.

    Raises:
        InputError: an option is not valid.

    >>> openai_scorer("gpt-4o", api_key="sk-...").protocol.model
    'gpt-4o'
    """
    return build_scorer(OpenAIProtocol, question, model, **options)


def compatible_scorer(model: str, question: str = "probability", **options: Any) -> ServiceScorer:
    """Build a scorer that asks a model on a server that speaks OpenAI's protocol.

    Args:
        model: the server's name of the model.
        question: "probability" of an answer, "grade", "preference" between two images, or
            "text", which scores nothing; see `QUESTIONS`.
        options: see `CompatibleProtocol`, the question (`answer_question`, `Grade`,
            `PairwiseChoice`) and `ServiceScorer`.

    Raises:
        InputError: an option is not valid.

    >>> compatible_scorer("my-model", base_url="http://localhost:8000/v1").base_url
    'http://localhost:8000/v1'
    """
    return build_scorer(CompatibleProtocol, question, model, **options)
