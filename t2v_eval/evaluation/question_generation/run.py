"""Generate the questions of many texts: each step of all texts is asked together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from t2v_eval.errors import InputError
from t2v_eval.evaluation.question_generation.language_model import (
    AskAll,
    Replies,
    ask,
    estimate_replies,
)
from t2v_eval.evaluation.question_generation.methods import METHODS, Prompt, Steps, filter_steps
from t2v_eval.inputs.questions.question import Question
from t2v_eval.remote.cost import Estimate
from t2v_eval.remote.scorer import ApiScorer, shared_limits
from t2v_eval.scoring.results import Progress
from t2v_eval.scoring.scorer import Scorer


@dataclass(frozen=True, slots=True)
class QuestionGeneration:
    """The questions of some texts, and why others have none.

    Attributes:
        questions: the questions, text by text.
        failures: the reason by item.
        usage: requests, tokens and cost of a service.

    >>> QuestionGeneration([], {"1": "the reply is empty"}).failures["1"]
    'the reply is empty'
    """

    questions: list[Question]
    failures: Mapping[str, str]
    usage: Mapping[str, float] = field(default_factory=dict)


def generate_questions(
    texts: Mapping[str, str],
    method: str,
    writer: Scorer,
    *,
    qa_filter: bool = False,
    progress: Callable[[str], Progress | bool | None] = lambda step: None,
) -> QuestionGeneration:
    """Let a language model write the questions of texts.

    Equal texts are asked about once. A text whose replies cannot be read has no questions and
    stops no other; replies in the store of `writer` are not asked for again, even those that cannot
    be read.

    Args:
        texts: the texts by the names of their items.
        method: "dsg" or "tifa".
        writer: the model, from `language_model.load_writer`.
        qa_filter: whether TIFA's filter drops questions that the model answers differently.
        progress: returns what is called with the counts of a step, as for `ask`.

    Raises:
        InputError: an unknown method.
        ServiceError: the service answers no prompt at all; replies before are in the store.

    >>> import numpy as np
    >>> from t2v_eval.scoring.results import ScoreChunk
    >>> class Silent(Scorer):
    ...     def score_cells(self, images, texts, cells):
    ...         yield ScoreChunk(np.arange(len(cells)), None, "it says nothing")
    >>> generate_questions({"1": "a red cube"}, "dsg", Silent(on_error="skip")).failures
    {'1': 'it says nothing'}
    """
    usage: Counter[str] = Counter()
    step = 0

    def ask_all(prompts: Mapping[str, str]) -> Replies:
        nonlocal step
        step += 1
        replies = ask(writer, list(prompts), progress(f"step {step}, {len(prompts)} prompts"))
        usage.update(replies.usage)
        return replies

    with shared_limits(writer):
        questions, failures = _run(_steps(texts, method, qa_filter), ask_all)
    return QuestionGeneration(questions, failures, dict(usage))


def estimate_questions(
    texts: Mapping[str, str], method: str, writer: ApiScorer[Any], *, qa_filter: bool = False
) -> Estimate:
    """Estimate the requests and the cost of `generate_questions`; send nothing.

    The first prompts are known. Those of later steps are taken from stored replies, or else from
    typical ones: a statement or element for each three words of a text. Output tokens are the most
    that replies may have.

    Args:
        texts: as for `generate_questions`, and so are the others.
        method: "dsg" or "tifa".
        writer: a model behind an API.
        qa_filter: whether there is a filter.

    Raises:
        InputError: an unknown method.

    >>> from t2v_eval.api import ScorerOptions
    >>> from t2v_eval.evaluation.question_generation.language_model import load_writer
    >>> from t2v_eval.registry import models
    >>> writer = load_writer(models.card("gpt-4o"), ScorerOptions(specific={"api_key": "k"}))
    >>> estimate_questions({"1": "a red cube"}, "dsg", writer).requests
    3
    """
    estimates: list[Estimate] = []

    def ask_all(prompts: Mapping[str, str]) -> Replies:
        replies, estimate = estimate_replies(writer, prompts)
        estimates.append(estimate)
        return replies

    _run(_steps(texts, method, qa_filter), ask_all)
    return _total(estimates)


def _steps(texts: Mapping[str, str], method: str, qa_filter: bool) -> dict[str, Steps]:
    """Return the steps of each text by item; of equal texts, those of the first."""
    if method not in METHODS:
        raise InputError(f"`method={method!r}`; use {' or '.join(map(repr, METHODS))}")
    first_items: dict[str, str] = {}
    for item, text in texts.items():
        first_items.setdefault(text, item)
    steps = {item: METHODS[method](item, text) for text, item in first_items.items()}
    return {item: filter_steps(s) for item, s in steps.items()} if qa_filter else steps


def _run(
    steps_by_item: Mapping[str, Steps], ask_all: AskAll
) -> tuple[list[Question], dict[str, str]]:
    """Run the steps of all items, each step of all together; return questions and failures."""
    questions: dict[str, list[Question]] = {}
    failures: dict[str, str] = {}
    pending: dict[str, Sequence[Prompt]] = {i: next(steps) for i, steps in steps_by_item.items()}
    while pending:
        prompts = [prompt for listed in pending.values() for prompt in listed]
        replies = ask_all({prompt.text: prompt.typical_reply for prompt in prompts}).by_prompt
        following: dict[str, Sequence[Prompt]] = {}
        for item, listed in pending.items():
            listed_replies = [replies[prompt.text] for prompt in listed]
            problems = [reply.problem for reply in listed_replies if reply.problem]
            if problems:
                failures[item] = problems[0]
                continue
            try:
                following[item] = steps_by_item[item].send([r.text for r in listed_replies])
            except StopIteration as end:
                questions[item] = end.value
            except InputError as error:
                failures[item] = str(error)
        pending = following
    in_order = {item: failures[item] for item in steps_by_item if item in failures}
    return [q for item in steps_by_item for q in questions.get(item, ())], in_order


def _total(estimates: Sequence[Estimate]) -> Estimate:
    def total(values: Sequence[float | None]) -> Any:
        return None if None in values else sum(value or 0 for value in values)

    return Estimate(
        cells=total([e.cells for e in estimates]),
        stored=total([e.stored for e in estimates]),
        requests=total([e.requests for e in estimates]),
        input_tokens=total([e.input_tokens for e in estimates]),
        output_tokens=total([e.output_tokens for e in estimates]),
        us_dollars=total([e.us_dollars for e in estimates]),
        as_of=estimates[0].as_of if estimates else "",
    )
