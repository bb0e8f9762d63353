"""Parse the replies in which a language model lists questions, and filter what it lists.

The formats are those of the prompts of DSG (dsg/parse_utils.py of j-min/DSG) and TIFA
(tifascore/question_gen.py and question_filter.py of Yushi-Hu/tifa).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from t2v_eval.errors import InputError
from t2v_eval.inputs.questions.answers import as_digits

MINIMUM_F1 = 0.6
"""A free answer must share more words with the expected one than this F1, 0 to 1."""
_HEADER_LINES = 6  # of a TIFA reply, before the first question


def parse_tuples(reply: str) -> dict[int, str]:
    """Parse DSG's list of propositions, ``1 | entity - whole (lamp)``, without the brackets.

    Raises:
        InputError: a line is not a number, a bar and a text.

    >>> parse_tuples("output: 1 | entity - whole (lamp)")
    {1: 'entity - whole'}
    """
    return {number: text.partition("(")[0].strip() for number, text in _numbered(reply)}


def parse_questions(reply: str) -> dict[int, str]:
    """Parse DSG's list of questions, ``1 | Is there a lamp?``.

    Raises:
        InputError: as `parse_tuples`.

    >>> parse_questions("1 | Is there a lamp?")
    {1: 'Is there a lamp?'}
    """
    return dict(_numbered(reply))


def parse_dependencies(reply: str) -> dict[int, list[int]]:
    """Parse DSG's list of dependencies, ``2 | 1, 3``; 0 stands for none.

    What is not a number is left out (``5, background`` is 5), and so is 0 beside another number.

    Raises:
        InputError: as `parse_tuples`, or a line without a number.

    >>> parse_dependencies("1 | 0|".rstrip("|"))
    {1: [0]}
    """
    dependencies = {}
    for number, text in _numbered(reply):
        parts = [part.strip() for part in text.split(",")]
        listed = [part for part in parts if part.isnumeric() or part == "-"]
        if len(listed) > 1:
            listed = [part for part in listed if part != "0"]
        try:
            dependencies[number] = [int(part) for part in listed]
        except ValueError:
            raise InputError(f"the dependency {text!r} of {number} is no number") from None
        if not listed:
            raise InputError(f"the dependency {text!r} of {number} is no number")
    return dependencies


def _numbered(reply: str) -> list[tuple[int, str]]:
    """Return the number and the text of each line, behind the first ``output:`` if there is one."""
    _, mark, after = reply.partition("output:")
    lines = []
    for line in (after if mark else reply).strip().split("\n"):
        number, *texts = line.split("|")
        try:
            (text,) = texts
            lines.append((int(number), text.strip()))
        except ValueError:
            raise InputError(f"the line {line!r} is not a number, a bar and a text") from None
    return lines


class ListedQuestion(NamedTuple):
    """A question of a TIFA reply.

    >>> parse_tifa_reply("|||||".replace("|", chr(10)))
    []
    """

    element: str
    question: str
    choices: list[str]
    answer: str
    type: str


def parse_tifa_reply(reply: str) -> list[ListedQuestion]:
    r"""Parse TIFA's list of elements, questions, choices and answers.

    As in the original, six lines come before the first element, a question without choices or
    answer is left out, and so is a line that is none of the four.

    >>> lines = ["About cat (animal):", "Q: is there a cat?", "Choices: yes, no", "A: yes"]
    >>> parse_tifa_reply("\n".join([""] * 6 + lines))[0].choices
    ['yes', 'no']
    """
    listed = []
    element = kind = question = ""
    choices: list[str] = []
    for line in reply.split("\n")[_HEADER_LINES:]:
        if line.startswith("About "):
            element, _, kind = line[len("About ") : -1].partition(" (")
            kind = kind.partition(")")[0]
        elif line.startswith("Q: "):
            question = line[3:]
        elif line.startswith("Choices: "):
            choices = line[9:].split(", ")
        elif line.startswith("A: "):
            if element and question and choices:
                listed.append(ListedQuestion(element, question, choices, line[3:], kind))
            question, choices = "", []
    return listed


def filter_questions(
    questions: Sequence[Mapping[str, Any]],
    multiple_choice: Mapping[str, str],
    free_form: Mapping[str, str],
) -> list[int]:
    """Return the numbers of the questions that TIFA's filter leaves, from 0.

    A question whose text came before is dropped. The answer that a model that reads only the text
    chooses must be the expected one, and unless that is yes or no, its free answer must share more
    than 0.6 (F1 of the words) with it; number words count as digits where digits are expected.

    Args:
        questions: `question` and `answer` of each.
        multiple_choice: the answer chosen by the model, by question.
        free_form: its free answer, by question.

    >>> filter_questions([{"question": "q?", "answer": "cat"}], {"q?": "cat"}, {"q?": "a cat"})
    [0]
    """
    visited = set()
    positions = []
    for index, entry in enumerate(questions):
        question, answer = entry["question"], entry["answer"]
        if question in visited:
            continue
        visited.add(question)
        if multiple_choice[question] != answer:
            continue
        if answer not in ("yes", "no"):
            free = free_form[question].strip()
            free = as_digits(free) if answer.isnumeric() else free
            if _f1(answer.split(), free.split()) <= MINIMUM_F1:
                continue
        positions.append(index)
    return positions


def _f1(expected: Sequence[str], words: Sequence[str]) -> float:
    """Return TIFA's F1 of two lists of words, in which a repeated word counts each time."""
    right = sum(word in words for word in expected)
    additional = sum(word not in expected for word in words)
    if not right:
        return 0.0
    precision, recall = right / (right + additional), right / len(expected)
    return 2 * precision * recall / (precision + recall)
