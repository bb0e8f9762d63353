"""Build a scorer from a protocol, a question and the options of both, as cards name them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any

from .answer_probability import answer_question
from .credentials import require_choice
from .grade import Grade, WrittenSamples, WrittenText
from .pairwise import PairwiseChoice, PairwiseScorer
from .protocol import AccessOptions, ServiceProtocol
from .scorer import Question, ServiceScorer

QUESTIONS: dict[str, Callable[..., Question]] = {
    "probability": answer_question,
    "grade": Grade,
    "preference": PairwiseChoice,
    "text": WrittenText,
    "written": WrittenSamples,
}


def build_scorer(
    protocol: Callable[..., ServiceProtocol], question: str, model: str, **options: Any
) -> ServiceScorer:
    """Build a scorer that asks a question by a protocol.

    Args:
        protocol: a class of protocols, or a function that returns one.
        question: a name in `QUESTIONS`.
        model: the service's name of the model.
        options: options of the protocol, of the question and of `ServiceScorer`, each by its name.

    Returns:
        The scorer; a `PairwiseScorer` for the question "preference".

    Raises:
        InputError: an option is not valid.
        TypeError: no option has this name.

    >>> from t2v_eval.backends.services.openai_protocol import CompatibleProtocol
    >>> options = {"base_url": "http://localhost:8000/v1", "max_tokens": 8, "on_error": "skip"}
    >>> scorer = build_scorer(CompatibleProtocol, "grade", "my-model", **options)
    >>> scorer.protocol.base_url, scorer.question.params.max_tokens, scorer.on_error
    ('http://localhost:8000/v1', 8, 'skip')
    """
    require_choice("question", question, tuple(QUESTIONS))
    protocol_arguments = _arguments(protocol) | AccessOptions.__annotations__.keys()
    scorer_protocol = protocol(model, **_take(options, protocol_arguments))
    question_arguments = _arguments(QUESTIONS[question])
    scorer_question = QUESTIONS[question](**_take(options, question_arguments))
    if isinstance(scorer_question, PairwiseChoice):
        return PairwiseScorer(scorer_protocol, scorer_question, **options)
    return ServiceScorer(scorer_protocol, scorer_question, **options)


def _arguments(make: Callable[..., object]) -> set[str]:
    """Return the names of arguments, without `**options`."""
    parameters = inspect.signature(make).parameters.values()
    return {p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD}


def _take(options: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Remove the options with these names, and return them."""
    return {name: options.pop(name) for name in [*options] if name in names}
