"""Questions about the images of texts, and what is odd about them."""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import NamedTuple

from t2v_eval.errors import InputError
from t2v_eval.inputs.questions.answers import YES_NO


@dataclass(frozen=True, slots=True)
class Question:
    """A question about the images of a text, with its expected answer.

    `item` names the text and `id` the question within it. `choices` are the answers to choose from,
    none where any may be given. `parents` are the ids of the questions of the same text that it
    depends on. `type` is its category (``attribute - color``), `tag` that of its text, and `weight`
    what it weighs in means, above 0.

    >>> Question("1", "1", "a red cube", "Is the cube red?").answer
    'yes'
    """

    item: str
    id: str
    text: str
    question: str
    choices: tuple[str, ...] = YES_NO
    answer: str = YES_NO[0]
    parents: tuple[str, ...] = ()
    type: str = ""
    weight: float = 1.0
    tag: str = ""


class Problem(NamedTuple):
    """What is odd about a question; `kind` is a key of `TREATMENTS` or `ERRORS`.

    `row` is that of the file, from 1 without the header, and 0 where there is no file.

    >>> Problem(3, "cube", "2", "self-parent", "depends on itself").place
    "row 3, question '2' of 'cube'"
    """

    row: int
    item: str
    question: str
    kind: str
    message: str

    @property
    def place(self) -> str:
        """The row, the question and the item, for messages."""
        named = f"question {self.question!r} of {self.item!r}"
        return f"row {self.row}, {named}" if self.row else named


TREATMENTS: Mapping[str, str] = MappingProxyType(
    {
        "self-parent": "a cycle of one question; nothing changes: answered wrongly, it counts 0 "
        "anyway",
        "cycle": "of two or more questions; `dependency='direct'` looks at the parents of each "
        "question alone; with `dependency='transitive'` a wrong answer zeroes all other questions "
        "of the cycle",
        "missing-parent": "dsg gives the text no score, since the answer to the parent is not "
        "known (DSG's code stops); `dependency='none'` and the other rules ignore it",
        "later-parent": "only `dependency='in-order'` depends on the order: it looks at the value "
        "of the parent before that was zeroed",
        "unparsable-dependency": "dsg ignores all dependencies of the text, as DSG's code does",
        "repeated-question": "it counts each time (TIFA's filter drops the second)",
        "repeated-text": "a scorer asks the questions of the first item with the text",
        "answer-no-choice": "every reply that is one of the choices is wrong, and every reply with "
        "`match='nearest'`",
        "no-text": "rules can be applied to answers; a scorer finds questions by their text",
    }
)
"""Oddities with which questions can be used, and how each rule treats them."""

ERRORS: Mapping[str, str] = MappingProxyType(
    {
        "no-question": "write the question",
        "no-answer": "write the expected answer",
        "repeated-id": "give each question of a text its own id",
        "two-texts": "give each text its own item",
        "bad-weight": "use a finite number above 0",
        "bad-value": "correct the value",
    }
)
"""Problems with which questions cannot be used, and the remedy of each."""


class Questions(Sequence[Question]):
    """The questions of some texts, in order.

    Args:
        questions: the questions.
        problems: what the reader of a file noticed; what `find_problems` finds is added.
        rows: the row of the file of each question, for messages.
        name: what messages begin with, for example the file's name.

    Raises:
        InputError: there are none, or with problems of `ERRORS`; the message names the first ten.

    >>> questions = Questions([Question("1", "1", "a red cube", "Is the cube red?")])
    >>> len(questions), [question.id for question in questions.of_text("a red cube")]
    (1, ['1'])
    """

    def __init__(
        self,
        questions: Iterable[Question],
        problems: Sequence[Problem] = (),
        rows: Sequence[int] = (),
        name: str = "questions",
    ) -> None:
        self._questions = tuple(questions)
        self.name = name
        if not self._questions:
            raise InputError(f"{name}: there are no questions")
        self.problems = (*problems, *find_problems(self._questions, rows))
        fatal = [problem for problem in self.problems if problem.kind in ERRORS]
        if fatal:
            listed = "\n".join(
                f"{p.place}: {p.message}; {ERRORS[p.kind]}" for p in fatal[:_MOST_LISTED]
            )
            more = len(fatal) - _MOST_LISTED
            raise InputError(f"{name}: {listed}" + (f"\nand {more} more" if more > 0 else ""))
        self._of_item: dict[str, list[Question]] = {}
        self._of_text: dict[str, str] = {}
        for question in self._questions:
            self._of_item.setdefault(question.item, []).append(question)
            if question.text:
                self._of_text.setdefault(question.text, question.item)

    def __len__(self) -> int:
        """Return the number of questions."""
        return len(self._questions)

    def __iter__(self) -> Iterator[Question]:
        """Yield the questions in order."""
        return iter(self._questions)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        """Return a question, or several as a tuple."""
        return self._questions[index]

    @property
    def items(self) -> Mapping[str, Sequence[Question]]:
        """The questions of each item, in order."""
        return MappingProxyType(self._of_item)

    def of_text(self, text: str) -> Sequence[Question]:
        """Return the questions of a text.

        Raises:
            InputError: it has none.

        >>> questions = Questions([Question("1", "1", "a cube", "Is there a cube?")])
        >>> questions.of_text("a cube")[0].question
        'Is there a cube?'
        """
        try:
            return self._of_item[self._of_text[text]]
        except KeyError:
            raise InputError(
                f"{self.name}: there is no question about the text {text!r}; add its questions to "
                "the file (texts are compared exactly)"
            ) from None

    @property
    def hash(self) -> str:
        """A hash of all that the questions say, 16 hexadecimal digits, equal in every layout.

        >>> len(Questions([Question("1", "1", "a red cube", "Is the cube red?")]).hash)
        16
        """
        content = json.dumps([asdict(q) for q in self._questions], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def find_problems(questions: Sequence[Question], rows: Sequence[int] = ()) -> list[Problem]:
    """Return what is odd about questions: bad values, and dependencies that lead nowhere or back.

    Args:
        questions: the questions, in order.
        rows: the row of the file of each.

    >>> question = Question("1", "1", "a red cube", "Is the cube red?", parents=("1", "7"))
    >>> [problem.kind for problem in find_problems([question])]
    ['self-parent', 'missing-parent']
    """
    numbers = list(rows) or [0] * len(questions)
    problems: list[Problem] = []
    of_item: dict[str, list[tuple[int, Question]]] = {}
    of_text: dict[str, str] = {}
    known: set[tuple[str, str, str]] = set()
    for row, question in zip(numbers, questions, strict=True):
        earlier = of_item.setdefault(question.item, [])
        faults = [*_wrong_values(question), *_repetitions(question, known)]
        if earlier and question.text != earlier[0][1].text:
            text = f"the text is {question.text!r}, and before {earlier[0][1].text!r}"
            faults.append(("two-texts", text))
        if question.text and not earlier:
            first = of_text.setdefault(question.text, question.item)
            if first != question.item:
                faults.append(("repeated-text", f"its text is also that of {first!r}"))
        problems += [Problem(row, question.item, question.id, *pair) for pair in faults]
        earlier.append((row, question))
    for listed in of_item.values():
        problems += _dependency_problems(listed)
    return problems


def _wrong_values(question: Question) -> Iterator[tuple[str, str]]:
    if not question.question.strip():
        yield "no-question", "the question is empty"
    if not question.answer.strip():
        yield "no-answer", "the expected answer is empty"
    elif question.choices and question.answer not in question.choices:
        choices = ", ".join(question.choices)
        yield "answer-no-choice", f"the answer {question.answer!r} is none of {choices}"
    if not (question.weight > 0 and math.isfinite(question.weight)):
        yield "bad-weight", f"the weight is {question.weight}"
    if not question.text.strip():
        yield "no-text", "there is no text"


def _repetitions(question: Question, known: set[tuple[str, str, str]]) -> Iterator[tuple[str, str]]:
    """Yield what is repeated of earlier questions, whose ids and wordings are known; add those."""
    named, worded = (question.item, "id", question.id), (question.item, "", question.question)
    if named in known:
        yield "repeated-id", "another question of the item has this id"
    elif worded in known:
        yield "repeated-question", f"{question.question!r} is asked twice"
    known.update((named, worded))


def _dependency_problems(listed: Sequence[tuple[int, Question]]) -> Iterator[Problem]:
    """Yield the problems of the dependencies within an item."""
    position = {question.id: index for index, (_, question) in enumerate(listed)}
    parents = {question.id: question.parents for _, question in listed}
    for row, question in listed:
        for parent in question.parents:
            named = (row, question.item, question.id)
            if parent == question.id:
                yield Problem(*named, "self-parent", "depends on itself")
            elif parent not in position:
                message = f"depends on question {parent!r}, which is not there"
                yield Problem(*named, "missing-parent", message)
            elif position[parent] > position[question.id]:
                message = f"depends on question {parent!r}, which comes after it"
                yield Problem(*named, "later-parent", message)
        cycle = _cycle(question.id, parents)
        if cycle and position[question.id] == min(position[key] for key in cycle):
            path = " -> ".join((*cycle, cycle[0]))
            yield Problem(row, question.item, question.id, "cycle", f"the cycle {path}")


def _cycle(start: str, parents: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the shortest cycle of at least two questions through `start`, or nothing."""
    child_of = {start: ""}  # on the shortest way from `start`
    pending = deque([start])
    while pending:
        question = pending.popleft()
        for parent in parents.get(question, ()):
            if parent == start and question != start:
                path = [question]
                while path[-1] != start:
                    path.append(child_of[path[-1]])
                return tuple(reversed(path))
            if parent not in child_of:
                child_of[parent] = question
                pending.append(parent)
    return ()


_MOST_LISTED = 10  # problems in a message
