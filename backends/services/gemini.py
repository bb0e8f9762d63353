"""Gemini as a scorer: the probability of its answer, its grades, and which picture it prefers."""

from __future__ import annotations

import re

from t2v_eval.errors import UnsupportedError
from t2v_eval.remote.scorer import Answer

from .gemini_protocol import Gemini
from .grade import Judge
from .messages import Reply
from .pairwise import PreferenceJudge
from .yes_no import WordScorer

VERTEX = (
    ". Google's Developer API is reported to refuse log-probabilities of Gemini 2.5, and Vertex AI "
    'to give them: pass vertexai=True, project="..." and location="us-central1"'
)


class GeminiScorer(WordScorer, Gemini):
    """How likely one of Google's models answers Yes; see `WordScorer` and `Gemini`."""

    def unable(self, message: str) -> Exception | None:
        return self._or_vertex(super().unable(message))

    def answer(self, reply: Reply, text: str) -> Answer:
        try:
            return super().answer(reply, text)
        except UnsupportedError as error:
            problem = self._or_vertex(error) or error
        raise problem

    def _or_vertex(self, error: Exception | None) -> Exception | None:
        """The error, with what would help where the other API gives log-probabilities."""
        unlisted = isinstance(error, UnsupportedError) and "no log-probabilities" in str(error)
        if self.vertex is not None or not unlisted or re.search("Vertex", str(error)):
            return error
        return UnsupportedError(f"{error}{VERTEX}")


class GeminiJudge(Judge, Gemini):
    """The grade that one of Google's models writes; see `Judge` and `Gemini`."""


class GeminiPreference(PreferenceJudge, Gemini):
    """Which picture one of Google's models prefers; see `PreferenceJudge` and `Gemini`."""
