"""Scorers with Gemini: probabilities, grades and preferences."""

from __future__ import annotations

import re

from t2v_eval.errors import UnsupportedError
from t2v_eval.remote.scorer import CellScore

from .gemini_protocol import GeminiProtocol
from .grade import Judge
from .messages import Response
from .pairwise import PreferenceJudge
from .yes_no import AnswerProbabilityScorer

VERTEX = (
    ". Google's Developer API is reported to refuse log-probabilities of Gemini 2.5, and Vertex AI "
    'to give them: pass vertexai=True, project="..." and location="us-central1"'
)


class GeminiScorer(AnswerProbabilityScorer, GeminiProtocol):
    """Score with the probability of an answer of one of Google's models."""

    def explain_rejection(self, message: str) -> Exception | None:
        return self._or_vertex(super().explain_rejection(message))

    def score_response(self, response: Response, text: str) -> CellScore:
        try:
            return super().score_response(response, text)
        except UnsupportedError as error:
            problem = self._or_vertex(error) or error
        raise problem

    def _or_vertex(self, error: Exception | None) -> Exception | None:
        """Add the advice to use Vertex AI to an error about missing log-probabilities."""
        unlisted = isinstance(error, UnsupportedError) and "no log-probabilities" in str(error)
        if self.vertex is not None or not unlisted or re.search("Vertex", str(error)):
            return error
        return UnsupportedError(f"{error}{VERTEX}")


class GeminiJudge(Judge, GeminiProtocol):
    """Score with the grade of one of Google's models."""


class GeminiPreference(PreferenceJudge, GeminiProtocol):
    """Compare two images with one of Google's models."""
