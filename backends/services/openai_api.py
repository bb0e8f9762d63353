"""GPT, and whatever speaks its protocol, as a scorer: probabilities, grades and preferences."""

from __future__ import annotations

from .grade import Judge
from .openai_protocol import Chat, Compatible
from .pairwise import PreferenceJudge
from .yes_no import WordScorer


class OpenAIScorer(WordScorer, Chat):
    """How likely one of OpenAI's models answers Yes; see `WordScorer` and `Chat`."""


class CompatibleScorer(WordScorer, Compatible):
    """How likely a model on a server answers Yes; see `WordScorer` and `Compatible`."""


class OpenAIJudge(Judge, Chat):
    """The grade that one of OpenAI's models writes; see `Judge` and `Chat`."""


class CompatibleJudge(Judge, Compatible):
    """The grade that a model on a server writes; see `Judge` and `Compatible`."""


class OpenAIPreference(PreferenceJudge, Chat):
    """Which picture one of OpenAI's models prefers; see `PreferenceJudge` and `Chat`."""


class CompatiblePreference(PreferenceJudge, Compatible):
    """Which picture a model on a server prefers; see `PreferenceJudge` and `Compatible`."""
