"""What the log-probabilities of a first token say about an answer."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from t2v_eval.errors import ScoringError, TemplateError

from .answer_text import OPPOSITE
from .messages import Entry

RULES = ("probability", "yes-no")
ROUNDED = 1e-3  # as far above 0 a log-probability may lie
MOST_MASS = 1.01  # of rounded probabilities


@dataclass(frozen=True, slots=True)
class Listed:
    """What the listed tokens say: probability of the answer, of its opposite, and of all of them.

    None where no form of it is listed. `bound` is the smallest listed probability, but for that of
    the token that was drawn, which some servers list however unlikely it was: what is not listed
    has no more than that. `unread` is the probability of tokens that cannot be read.
    """

    answer: float | None
    opposite: float | None
    mass: float
    bound: float
    tokens: int
    unread: float = 0.0

    @classmethod
    def of(cls, listed: Sequence[Entry], answer: str, drawn: str | None = None) -> Listed:
        """Sum the log-probabilities of tokens over the forms of an answer.

        Args:
            listed: tokens as text, of which several may be the same. A log-probability of -9999,
                as services write it, or of minus infinity says "very unlikely" and no number, so
                that such a token counts as not listed. A token without one is left out.

        Raises:
            ScoringError: they are no probabilities, or there is none for a form of the answer.

        >>> half, quarter = math.log(0.5), math.log(0.25)
        >>> rows = [Entry("Yes", half), Entry(" yes", quarter), Entry("Yes", -3.0)]
        >>> found = Listed.of(rows, "Yes")
        >>> round(found.answer, 4), found.opposite
        (0.7998, None)
        """
        wanted = plain_form(answer)
        probabilities: list[tuple[str | None, float]] = []
        for token, value in listed:
            if value is None:
                if token is not None and plain_form(token) in (wanted, OPPOSITE.get(wanted)):
                    raise ScoringError(f"the service gives no log-probability of {token!r}")
            elif value > ROUNDED:
                raise ScoringError(
                    f"the service gives {token!r} a log-probability of {value:g}, which none can be"
                )
            elif (p := math.exp(min(0.0, value))) > 0:
                probabilities.append((token, p))
        if not probabilities:
            raise ScoringError("the service listed no log-probabilities for the first token")

        def of(word: str | None) -> float | None:
            found = [p for token, p in probabilities if token and plain_form(token) == word]
            return min(1.0, math.fsum(found)) if found else None

        others = [p for token, p in probabilities if token != drawn]
        mass = math.fsum(p for _, p in probabilities)
        if mass > MOST_MASS:
            raise ScoringError(f"the listed probabilities add up to {mass:.3g}, which none can")
        mass = min(1.0, mass)
        return cls(
            of(wanted),
            of(OPPOSITE[wanted]) if wanted in OPPOSITE else None,
            mass,
            min(others, default=1.0 - mass),
            len(probabilities),
            math.fsum(p for token, p in probabilities if token is None),
        )

    @property
    def alone(self) -> bool:
        """Whether a single token has all of the probability."""
        return self.tokens == 1 and self.mass > 1.0 - 1e-6

    def score(self, rule: str, answer: str) -> float:
        """The score by a rule of `RULES`.

        "probability": of the answer; where it is not listed, one minus that of its opposite.
        "yes-no": of the answer as a share of both. An opposite that is not listed counts as 0.

        Raises:
            ScoringError: it cannot be known, and how large it is at most.
        """
        least = self.answer or 0.0
        if rule == "yes-no":
            least = min(least, self.opposite or 0.0)
        if self.unread > least:
            raise ScoringError(f"a listed token cannot be read, which may be the answer {answer!r}")
        if rule == "yes-no":
            if self.answer is not None:
                return self.answer / (self.answer + (self.opposite or 0.0))
            most = 1.0 if self.opposite is None else self.bound / (self.bound + self.opposite)
        elif self.answer is not None:
            return self.answer
        elif self.opposite is not None:
            return 1.0 - self.opposite
        else:
            most = self.bound
        raise ScoringError(
            f"the answer {answer!r} is not among the {self.tokens} listed tokens: its score is at "
            f"most {rounded_up(most)}"
        )


def check_answer(name: str, answer: str, rule: str) -> None:
    """Raise TemplateError unless the answer template of `name` can be scored by its first token."""
    if not re.fullmatch(r"\s*\w+\s*", answer):
        raise TemplateError(
            f"{name!r} scores the first word of an answer, so the answer template must be "
            f"one word, such as 'Yes', not {answer!r}"
        )
    if rule == "yes-no" and plain_form(answer) not in OPPOSITE:
        raise TemplateError(
            f"rule='yes-no' needs the answer Yes or No, not {answer!r}; use rule='probability'"
        )


def plain_form(token: str) -> str:
    """A token without the spaces around it and in lower case; "▁" and "Ġ" stand for a space.

    >>> plain_form(" Yes"), plain_form("▁YES"), plain_form("yes.")
    ('yes', 'yes', 'yes.')
    """
    return token.strip().lstrip("▁Ġ").strip().casefold()


def rounded_up(value: float) -> str:
    """One digit, never less than the value, so that like reasons can be counted together.

    >>> rounded_up(0.00123), rounded_up(0.5), rounded_up(0.0)
    ('2e-03', '5e-01', '0e+00')
    """
    if value <= 0:
        return "0e+00"
    power = 10.0 ** math.floor(math.log10(value))
    return f"{math.ceil(round(value / power, 6)) * power:.0e}"
