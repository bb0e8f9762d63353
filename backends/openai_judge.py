"""A judge: the grade from 0 to 100 that a model writes when it is given a rubric.

Other than a probability, a grade has few values, and a model that is asked again may write another
one. It needs no log-probabilities.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from typing_extensions import Unpack

from t2v_eval.errors import ScoringError, TemplateError
from t2v_eval.remote import Answer

from ._chat import Chat, ChatOptions, Compatible, served_by, written
from ._given import between

# The number alone, perhaps in bold, "out of 100", or followed by a full stop.
GRADE = re.compile(r"\W*?(\d+(?:\.\d+)?)(?: ?(?:/|out of) ?100)?\W*")


class OpenAIJudge(Chat):
    """Asks one of OpenAI's models for a grade.

    Args:
        model: as the service calls it.
        max_tokens: of an answer; a model that thinks first needs many.
        options: see `Chat`.
    """

    default_template = "judge-100"

    def __init__(self, model: str, max_tokens: int = 16, **options: Unpack[ChatOptions]) -> None:
        super().__init__(model, **options)
        between("max_tokens", max_tokens, 1, 10**6)
        self.answer_tokens = max_tokens
        self.facts = {**self.facts, "max_tokens": str(max_tokens)}

    def check_template(self) -> None:
        super().check_template()
        if self.template.answer:
            raise TemplateError(
                f"{self.name!r} reads the grade that the model writes and no answer, so the answer "
                f"template {self.template.answer!r} has no meaning; pass a question_template alone"
            )

    def body(self, image: str, text: str) -> dict[str, Any]:
        return self.to_write(image, self.template.fill(text)[0], self.answer_tokens)

    def read(self, content: Mapping[str, Any], text: str) -> Answer:
        answer, ended = written(content)
        return Answer(grade(answer, ended), json.dumps({"written": answer} | served_by(content)))


class CompatibleJudge(Compatible, OpenAIJudge):
    """Asks a server that speaks OpenAI's protocol for a grade; see `Compatible`."""


def grade(answer: str, ended: str = "stop") -> float:
    """The number that an answer consists of.

    Raises:
        ScoringError: it is anything else, or was cut.

    >>> grade("85"), grade(" **62.5**."), grade("70/100"), grade("100 out of 100.")
    (85.0, 62.5, 70.0, 100.0)
    """
    found = GRADE.fullmatch(answer.strip())
    negative = answer.strip().startswith("-")
    if found is None or negative or float(found[1]) > 100:
        cut = "; it was cut, so pass a larger max_tokens=" if ended == "length" else ""
        raise ScoringError(f"the judge wrote no number from 0 to 100 but {answer[:40]!r}{cut}")
    return float(found[1])
