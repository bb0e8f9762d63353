"""Compare an answer with the expected one: exactly, as the originals do, or normalised."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, get_args

from t2v_eval.errors import InputError

Match: TypeAlias = Literal["exact", "normalised", "nearest"]
MATCHES: tuple[str, ...] = get_args(Match)
"""How answers are compared; see `answer_value`."""

Choose: TypeAlias = Callable[[str, Sequence[str]], str]
"""Returns the choice that is nearest to an answer, as `SentenceEncoder.nearest` does."""

DEFAULT_ENCODER = "sentence-transformers/all-mpnet-base-v2"
"""The encoder by which TIFA finds the nearest choice."""

YES_NO = ("yes", "no")
"""The choices of a question that is answered with yes or no."""

NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
).split()
"""The words of the numbers from zero on that `as_digits` knows."""

_DIGITS = {word: str(number) for number, word in enumerate(NUMBER_WORDS)}
_EDGES = " \t\r\n.,;:!?\"'`*_()[]«»“”‘’…。、，！？：；"
_LONGEST = 200  # characters of an answer in a message


def answer_value(
    answer: str,
    expected: str,
    choices: Sequence[str] = (),
    match: str = "normalised",
    choose: Choose | None = None,
) -> float:
    """Return 1 where an answer is the expected one, and 0 where it is another.

    Args:
        answer: what a model replied.
        expected: the expected answer.
        choices: the answers to choose from; none where any answer may be given.
        match: `exact` compares character by character, so that every other text, even an empty
            one, is wrong, as DSG and TIFA do. `normalised` ignores case, white space, punctuation
            at the ends, an article in front and whether a number is a word; the first word of a
            reply to a question with the choices yes and no counts if a comma or full stop follows,
            unless the other of the two is in the rest.
            `nearest` takes every text that is none of the choices, even an empty one, for the
            choice that `choose` returns, as TIFA does.
        choose: returns the choice that is nearest to an answer; needed by `nearest`.

    Raises:
        InputError: an unknown `match`, or `nearest` without `choose`; or, normalised, a reply that
            is empty or none of the choices, which is no answer and so neither right nor wrong.

    >>> answer_value("Yes.", "yes"), answer_value("Yes.", "yes", match="exact")
    (1.0, 0.0)
    """
    if match == "nearest" and choices and answer not in choices:
        if choose is None:
            raise InputError("`match='nearest'` needs `choose=`, the choice nearest to an answer")
        answer = choose(answer, choices)
    if match in ("exact", "nearest"):
        return float(answer == expected)
    if match != "normalised":
        raise InputError(f"match={match!r} is none of {', '.join(MATCHES)}")
    reply = normalise(answer)
    choice_words = {normalise(choice) for choice in choices}
    if choice_words and reply not in choice_words and choice_words == set(YES_NO):
        first = re.match(r"\W*(\w+)\s*[,.;:!\n](.*)", answer, re.DOTALL)
        reply = normalise(first[1]) if first else reply
        words = set(re.findall(r"\w+", first[2].casefold())) if first else set()
        if reply in choice_words and words & (choice_words - {reply}):
            raise InputError(f"the answer {_excerpt(answer)!r} says both yes and no")
    if not reply:
        raise InputError("the answer is empty")
    if choice_words and reply not in choice_words | {normalise(expected)}:
        raise InputError(f"the answer {_excerpt(answer)!r} is none of {', '.join(choices)}")
    return float(reply == normalise(expected))


def _excerpt(answer: str) -> str:
    return answer if len(answer) <= _LONGEST else f"{answer[:_LONGEST]} ..."


def describe_answer(
    id: str,
    question: str,
    expected: str,
    answer: str | None = None,
    value: float | None = None,
    error: str | None = None,
    zeroed_by: str | None = None,
) -> str:
    """Return a question with its answer as a line of text.

    Args:
        id: the id of the question.
        question: the question.
        expected: the expected answer.
        answer: the generated answer; None where its probability was computed.
        value: the value of the question, 0 to 1; None where there is no answer.
        error: why there is none.
        zeroed_by: the id of the question whose wrong answer makes it count 0.

    >>> describe_answer("2", "Is it red?", "yes", value=0.9, zeroed_by="1")
    '2. Is it red? (yes: 0.9000, counts 0: 1 is wrong)'
    """
    line = f"{id}. {question}"
    if value is None:
        return f"{line} no answer: {error}"
    reply = "" if answer is None else f" {answer!r}"
    zeroed = "" if zeroed_by is None else f", counts 0: {zeroed_by} is wrong"
    return f"{line}{reply} ({expected}: {value:.4f}{zeroed})"


def normalise(answer: str) -> str:
    """Return an answer in lower case, without article and outer punctuation, numbers as digits.

    >>> normalise(" A Dog. "), normalise("Two")
    ('dog', '2')
    """
    plain = unicodedata.normalize("NFKC", answer).casefold().strip(_EDGES)
    plain = " ".join(plain.split())
    return as_digits(re.sub(r"^(?:an?|the) (?=.)", "", plain))


def as_digits(answer: str) -> str:
    """Return a number from zero to twenty that is a word as digits, and other texts as they are.

    >>> as_digits("four"), as_digits("four dogs")
    ('4', 'four dogs')
    """
    return _DIGITS.get(answer.casefold(), answer)
