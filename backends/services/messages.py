"""What a question asks for and what comes back, in the terms of no service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from t2v_eval.errors import ScoringError

from .answer_text import MORE, behind_thoughts


class How(NamedTuple):
    """How a question is to be answered: `listed` likeliest tokens at the first position."""

    tokens: int
    temperature: float
    listed: int = 0
    samples: int = 1


class Said(NamedTuple):
    """One answer. `listed` are the log-probabilities of the likeliest first tokens, if they came,
    and `drawn` the first one that was; `cut` says that the answer was not finished, `thought` that
    thoughts came beside it, and `problem` why it is none."""

    text: str
    cut: bool = False
    listed: Sequence[Entry] | None = None
    drawn: str | None = None
    thought: bool = False
    problem: Exception | None = None

    def written(self, more: str = MORE) -> str:
        """What was written behind the thoughts; `more` is what to do where nothing was.

        Raises:
            ScoringError: nothing but thoughts, or nothing as far as it came.
        """
        text = behind_thoughts(self.text, more)
        if not text and (self.cut or self.thought or self.text.strip()):
            raise ScoringError(f"thinks and gives no answer; {more}")
        return text


class Reply(NamedTuple):
    """The answers to a question, and which model gave them, by its full name."""

    said: Sequence[Said]
    model: str | None = None

    def only(self) -> Said:
        """The answer, where one was asked for; raises its problem."""
        said = self.said[0]
        if said.problem is not None:
            raise said.problem
        return said

    @property
    def served_by(self) -> dict[str, str]:
        """For the store."""
        return {"model": self.model} if self.model else {}


class Entry(NamedTuple):
    """A listed token and its log-probability; None for what cannot be read."""

    token: str | None
    value: float | None


class Refusal(NamedTuple):
    """What a service says instead of an answer, as far as all of them say the same.

    `after` are seconds to wait; `key` and `spent` say that it refuses the key, or that the account
    is used up.
    """

    status: int
    message: str = ""
    after: float | None = None
    key: bool = False
    spent: bool = False
