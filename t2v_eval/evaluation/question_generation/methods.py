"""How the questions of one text are generated: the prompts of TIFA and DSG, step by step.

A method is a generator: it yields the prompts of a step, gets a reply to each, and returns the
questions at its end. The steps of many texts can so be asked together, and a reply that cannot be
read concerns one text. Sources: TIFA (Hu et al. 2023, sections 3.1 and 3.2) and Davidsonian Scene
Graph (Cho et al. 2024, section 3).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from t2v_eval.errors import InputError
from t2v_eval.inputs.questions.answers import YES_NO, normalise
from t2v_eval.inputs.questions.question import Question
from t2v_eval.inputs.questions.replies import (
    filter_questions,
    parse_dependencies,
    parse_questions,
    parse_tifa_reply,
    parse_tuples,
)
from t2v_eval.inputs.template import get_template

TIFA_START = "Entities:"
"""How the reply to the prompt of TIFA begins."""

_WORDS_OF_A_STATEMENT = 3  # of a text, for estimates


class Prompt(NamedTuple):
    """What a model is asked, and a reply in the expected form, from which costs are estimated.

    >>> Prompt("Is it?", "yes").typical_reply
    'yes'
    """

    text: str
    typical_reply: str


Steps: TypeAlias = Generator[Sequence[Prompt], Sequence[str], list[Question]]


def dsg_steps(item: str, text: str) -> Steps:
    """Generate the questions of a text as DSG does: statements, then questions and dependencies.

    Args:
        item: the name of the text.
        text: the text.

    Raises:
        InputError: a reply that cannot be read.

    >>> steps = dsg_steps("1", "a red cube")
    >>> len(next(steps))
    1
    >>> len(steps.send(["1 | entity - whole (cube)"]))
    2
    >>> try:
    ...     steps.send(["1 | Is there a cube?", "1 | 0"])
    ... except StopIteration as end:
    ...     print(end.value[0].question, end.value[0].type)
    Is there a cube? entity - whole
    """
    count = max(1, len(text.split()) // _WORDS_OF_A_STATEMENT)

    def typical(line: str) -> str:
        return "\n".join(f"{n} | {line}" for n in range(1, count + 1))

    (reply,) = yield [_prompt("dsg-propositions", text, typical("entity - whole (thing)"))]
    statements = _numbered_lines(reply)
    types = parse_tuples(statements)
    described = f"Description: {text}\nStatements:\n{statements}"
    question_reply, dependency_reply = yield [
        _prompt("dsg-questions", described, typical("Is there a thing in the image?")),
        _prompt("dsg-dependencies", described, typical("0")),
    ]
    questions = parse_questions(_numbered_lines(question_reply))
    dependencies = parse_dependencies(_numbered_lines(dependency_reply))
    for what, numbers in (("question", questions), ("dependency", dependencies)):
        if different := types.keys() ^ numbers.keys():
            problem = "has no" if min(different) in types else "is not listed, but has a"
            raise InputError(f"statement {min(different)} {problem} {what}")
    _check_language(text, questions.values())
    return [
        Question(
            item,
            str(n),
            text,
            questions[n],
            parents=tuple(str(parent) for parent in dependencies[n] if parent),
            type=kind,
        )
        for n, kind in types.items()
    ]


def tifa_steps(item: str, text: str) -> Steps:
    """Generate the questions of a text as TIFA does: with choices, in one reply.

    Args:
        item: the name of the text.
        text: the text.

    Raises:
        InputError: a reply that cannot be read.

    >>> [prompt] = next(tifa_steps("1", "a red cube"))
    >>> prompt.text.endswith("Description: a red cube")
    True
    """
    count = max(1, len(text.split()) // _WORDS_OF_A_STATEMENT)
    typical = (
        f"{TIFA_START} thing\nActivities: None\nColors: None\nCounting: None\n"
        "Other attributes: None\nQuestions are below:\n"
    )
    for n in range(count):
        typical += f"About thing {n} (object):\n"
        typical += f"Q: is there a thing {n}?\nChoices: yes, no\nA: yes\n"
        typical += f"Q: what is thing {n}?\nChoices: thing, dog, car, tree\nA: thing\n"
    (reply,) = yield [_prompt("tifa-questions", text, typical)]
    start = reply.find(TIFA_START)
    if start < 0:
        raise InputError(f"the reply has no line that begins with {TIFA_START!r}")
    lines = [line.strip() for line in reply[start:].split("\n")]
    listed = parse_tifa_reply("\n".join(line for line in lines if line and "```" not in line))
    if not listed:
        raise InputError("the reply has no question with choices and an answer")
    _check_language(text, [entry.question for entry in listed])
    return [
        Question(item, str(n), text, q.question, tuple(q.choices), q.answer, type=q.type)
        for n, q in enumerate(listed, 1)
    ]


def filter_steps(steps: Steps) -> Steps:
    """Add TIFA's filter to the steps of a text: the model must answer as expected from the text.

    Each question is asked twice about the text alone, with its choices and without. See
    `filter_questions` for what is left.

    Args:
        steps: the steps that generate the questions.

    Raises:
        InputError: as `steps`; or none of the questions is left.

    >>> [prompt] = next(filter_steps(tifa_steps("1", "a red cube")))
    >>> prompt.typical_reply.startswith("Entities:")
    True
    """
    questions = yield from steps
    prompts = [
        _prompt(template, f"Description: {q.text}\nQuestion: {q.question}{choices}", q.answer)
        for q in questions
        for template, choices in (
            ("tifa-filter-choice", f"\nChoices: {', '.join(q.choices)}"),
            ("tifa-filter-answer", ""),
        )
    ]
    replies = yield prompts
    chosen = {
        q.question: _choice(reply, q.choices)
        for q, reply in zip(questions, replies[::2], strict=True)
    }
    free = {q.question: normalise(reply) for q, reply in zip(questions, replies[1::2], strict=True)}
    entries = [{"question": q.question, "answer": q.answer} for q in questions]
    remaining = [questions[n] for n in filter_questions(entries, chosen, free)]
    if not remaining:
        raise InputError(f"the filter leaves none of its {len(questions)} questions")
    return remaining


METHODS: Mapping[str, Callable[[str, str], Steps]] = MappingProxyType(
    {"dsg": dsg_steps, "tifa": tifa_steps}
)
"""The methods by name."""


def _prompt(template: str, about: str, typical_reply: str) -> Prompt:
    return Prompt(get_template(template).fill(about)[0], typical_reply)


def _numbered_lines(reply: str) -> str:
    """Return the lines of a list, without what a model writes before and behind it.

    Raises:
        InputError: there is no list, or a number occurs twice.
    """
    lines = [line.strip() for line in reply.split("\n")]
    numbers = [(n, m[1]) for n, line in enumerate(lines) if (m := re.match(r"(\d+)\s*\|", line))]
    if not numbers:
        raise InputError("the reply has no line with a number and a bar")
    number, times = Counter(number for _, number in numbers).most_common(1)[0]
    if times > 1:
        raise InputError(f"the reply lists number {number} twice")
    listed = lines[numbers[0][0] : numbers[-1][0] + 1]
    return "\n".join(line for line in listed if line)


def _choice(reply: str, choices: Sequence[str]) -> str:
    """Return the choice that a reply names, or "" where it names none."""
    plain = normalise(reply)
    return next((choice for choice in choices if normalise(choice) == plain), "")


def _check_language(text: str, questions: Iterable[str]) -> None:
    """Raise InputError where a question has letters of a script that the text does not have."""
    scripts = _scripts(text) | _scripts("".join(YES_NO))
    for question in questions:
        if other := _scripts(question) - scripts:
            raise InputError(
                f"the question {question!r} is in another language than the text: it has letters "
                f"of {', '.join(sorted(other))}"
            )


def _scripts(text: str) -> set[str]:
    letters = {character for character in text if character.isalpha()}
    return {unicodedata.name(letter, "?").partition(" ")[0] for letter in letters}
