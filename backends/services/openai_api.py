"""Scorers with GPT and servers that speak its protocol: probabilities, grades and preferences."""

from __future__ import annotations

from .grade import Judge
from .openai_protocol import CompatibleProtocol, OpenAIProtocol
from .pairwise import PreferenceJudge
from .yes_no import AnswerProbabilityScorer


class OpenAIScorer(AnswerProbabilityScorer, OpenAIProtocol):
    """Score with the probability of an answer of one of OpenAI's models."""


class CompatibleScorer(AnswerProbabilityScorer, CompatibleProtocol):
    """Score with the probability of an answer of a model on a server."""


class OpenAIJudge(Judge, OpenAIProtocol):
    """Score with the grade of one of OpenAI's models."""


class CompatibleJudge(Judge, CompatibleProtocol):
    """Score with the grade of a model on a server."""


class OpenAIPreference(PreferenceJudge, OpenAIProtocol):
    """Compare two images with one of OpenAI's models."""


class CompatiblePreference(PreferenceJudge, CompatibleProtocol):
    """Compare two images with a model on a server."""
