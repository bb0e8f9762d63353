"""A judge: the grade from 0 to 100 that a model writes when it is given a rubric.

Other than a probability, a grade has few values, and a model that is asked again may write another
one. It needs no log-probabilities.
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from typing import Any

from t2v_eval.errors import ScoringError, TemplateError, UnsupportedError
from t2v_eval.remote.scorer import Answer

from .answer_text import MORE, stated
from .base import Service
from .credentials import between
from .messages import How, Reply, Said

# The number alone, perhaps in bold, "out of 100", or followed by a full stop.
# No other mark stands before it: "<85" and "~85" are not 85.
GRADE = re.compile(
    r"[\s*_`\"'“#:(\[$]*(\d+(?:\.\d+)?)(?: ?(?:/|out of) ?100)?[\s*_`\"'”.,;!)\]$%]*"
)


class Writer(Service):
    """Reads what a model writes, rather than how likely it is.

    Args:
        model: as the service calls it.
        max_tokens: of an answer; a model that thinks first needs many.
        temperature: 0 draws nothing at random; models that think first may take 1 alone.
        options: see `Service` and the protocol.
    """

    def __init__(
        self,
        model: str,
        max_tokens: int = 16,
        temperature: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        between("max_tokens", max_tokens, 1, 10**6)
        self._how = How(max_tokens, float(temperature))
        self.answer_tokens = max_tokens
        self.identity_facts = {**self.identity_facts, "max_tokens": str(max_tokens)}
        self.identity_facts |= {"temperature": f"{temperature:g}"} if temperature else {}

    def check_template(self) -> None:
        super().check_template()
        if self.template.answer:
            raise TemplateError(
                f"{self.name!r} reads what the model writes and no answer, so the answer template "
                f"{self.template.answer!r} has no meaning; pass a question_template alone"
            )

    def question(self, image: Any, text: str) -> Any:
        return self.body(self.parts(self.template.fill(text)[0], image), self._how)

    def answer(self, reply: Reply, text: str) -> Answer:
        said = reply.only()
        detail = json.dumps({"written": said.text, **reply.served_by})
        try:
            return Answer(self.meaning(said), detail)
        except ScoringError as error:
            error.detail = detail
            raise

    @abstractmethod
    def meaning(self, said: Said) -> float:
        """The score that was written.

        Raises:
            ScoringError: something else was.
        """

    def unable(self, message: str) -> Exception | None:
        if "temperature" in message and not self._how.temperature:
            return UnsupportedError(
                f"the model {self.served!r} draws its answers at random: {message} Pass "
                "temperature=1 (its scores then differ from run to run)"
            )
        return super().unable(message)


class Judge(Writer):
    """Asks a model for a grade."""

    default_template = "judge-100"

    def meaning(self, said: Said) -> float:
        return grade(said.text, said.cut)


def grade(answer: str, cut: bool = False) -> float:
    """The number that an answer consists of.

    Raises:
        ScoringError: it is anything else, or was cut, so that digits may be missing.

    >>> grade("85"), grade(" **62.5**."), grade("70/100"), grade("100 out of 100.")
    (85.0, 62.5, 70.0, 100.0)
    """
    found = whole(GRADE, "no number from 0 to 100", answer, cut)
    if float(found[1]) > 100:
        raise nothing_written("no number from 0 to 100", answer, cut)
    return float(found[1])


def whole(pattern: re.Pattern[str], what: str, answer: str, cut: bool) -> re.Match[str]:
    """An answer that has to be read whole.

    Raises:
        ScoringError: it is another one, or was cut.
    """
    try:
        found = pattern.fullmatch(stated(answer))
    except ScoringError as error:
        raise ScoringError(f"the judge {error}") from None
    if found is None or cut:
        raise nothing_written(what, answer, cut)
    return found


def nothing_written(what: str, answer: str, cut: bool) -> ScoringError:
    """What to say of an answer that is none."""
    more = f"; it was cut, so {MORE}" if cut else ""
    return ScoringError(f"the judge wrote {what} but {answer[:40]!r}{more}")
