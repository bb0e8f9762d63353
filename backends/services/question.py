"""The question of a scorer: what a service is asked, and how its answer becomes a score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from t2v_eval.inputs.template import Template
from t2v_eval.remote.scorer import CellScore

from .messages import Response, SamplingParams
from .protocol import ServiceProtocol


class Question(ABC):
    """What a service is asked about an image and a text.

    It knows no protocol: methods get the protocol of the service that is asked, for what their
    messages say.

    Args:
        params: the parameters of a request; `num_samples` is the number of completions that a score
            needs.
        facts: what decides scores, as facts of a scorer's id.
        max_answer_tokens: tokens of all completions of a score, for estimates.

    >>> from t2v_eval.backends.services.openai_protocol import CompatibleProtocol
    >>> from t2v_eval.backends.services.scorer import ServiceScorer
    >>> class LengthOfAnswer(Question):
    ...     default_template = "plain"
    ...
    ...     def __init__(self):
    ...         super().__init__(SamplingParams(99, 0.0), {"question": "length"}, 99)
    ...
    ...     def check_template(self, name, template):
    ...         pass
    ...
    ...     def score_response(self, response, answer, protocol):
    ...         return CellScore(float(len(response.single().text)))
    >>> protocol = CompatibleProtocol("my-model", base_url="http://localhost:8000/v1")
    >>> ServiceScorer(protocol, LengthOfAnswer()).read_score(
    ...     {"choices": [{"message": {"content": "A cat."}, "finish_reason": "stop"}]}, "a cat"
    ... )
    CellScore(value=6.0, detail=None)
    """

    default_template: ClassVar[str]

    def __init__(
        self, params: SamplingParams, facts: dict[str, str], max_answer_tokens: int
    ) -> None:
        self.params, self.facts, self.max_answer_tokens = params, facts, max_answer_tokens

    @abstractmethod
    def check_template(self, name: str, template: Template) -> None:
        """Check the template of a scorer.

        Args:
            name: the name of the scorer, for messages.
            template: the template.

        Raises:
            TemplateError: the question cannot use it.
        """

    @abstractmethod
    def score_response(
        self, response: Response, answer: str, protocol: ServiceProtocol
    ) -> CellScore:
        """Return the score that a response gives.

        Args:
            response: the response, without errors of the service.
            answer: the expected answer, from the template.
            protocol: the protocol of the service.

        Raises:
            RetryError: the question may be asked again.
            ScoringError: there is no score.
            UnsupportedError: no question will have a score.
        """

    def explain_rejection(self, message: str, protocol: ServiceProtocol) -> Exception | None:
        """Return the error where the service rejects a parameter of the question, else None."""
        return None

    def caution(self, protocol: ServiceProtocol) -> str:
        """Return a warning about the responses so far, once; "" where there is none."""
        return ""
