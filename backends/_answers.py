"""What the log-probabilities of a first token, or sampled answers, say about an answer."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from t2v_eval.errors import ScoringError, TemplateError

RULES = ("probability", "yes-no")
OPPOSITE = {"yes": "no", "no": "yes"}


@dataclass(frozen=True, slots=True)
class Listed:
    """What the listed tokens say: probability of the answer, of its opposite, and of all of them.

    None where no form of it is listed. `bound` is the smallest listed probability, but for that of
    the token that was drawn, which some servers list however unlikely it was: what is not listed
    has no more than that.
    """

    answer: float | None
    opposite: float | None
    mass: float
    bound: float
    tokens: int

    @classmethod
    def of(
        cls, listed: Sequence[tuple[str, float]], answer: str, drawn: str | None = None
    ) -> Listed:
        """Sum the log-probabilities of tokens over the forms of an answer.

        Args:
            listed: tokens as text, of which several may be the same. A log-probability of -9999,
                as services write it, or of minus infinity says "very unlikely" and no number, so
                that such a token counts as not listed.

        >>> half, quarter = math.log(0.5), math.log(0.25)
        >>> found = Listed.of([("Yes", half), (" yes", quarter), ("Yes", -3.0)], "Yes")
        >>> round(found.answer, 4), found.opposite
        (0.7998, None)
        """
        unknown = any(math.isnan(value) for _, value in listed)
        numbers = [(token, math.exp(min(0.0, value))) for token, value in listed]
        probabilities = [(token, p) for token, p in numbers if p > 0]
        if unknown or not probabilities:
            raise ScoringError("the service listed no log-probabilities for the first token")

        def of(word: str | None) -> float | None:
            found = [p for token, p in probabilities if plain_form(token) == word]
            return min(1.0, math.fsum(found)) if found else None

        wanted = plain_form(answer)
        others = [p for token, p in probabilities if token != drawn]
        mass = min(1.0, math.fsum(p for _, p in probabilities))
        return cls(
            of(wanted),
            of(OPPOSITE[wanted]) if wanted in OPPOSITE else None,
            mass,
            min(others, default=1.0 - mass),
            len(probabilities),
        )

    def score(self, rule: str, answer: str) -> float:
        """The score by a rule of `RULES`.

        "probability": of the answer; where it is not listed, one minus that of its opposite.
        "yes-no": of the answer as a share of both. An opposite that is not listed counts as 0.

        Raises:
            ScoringError: it cannot be known, and how large it is at most.
        """
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


def share(samples: Iterable[str], answer: str) -> float:
    """How many of the sampled answers begin with the word, of those that are not empty.

    A sample that was cut while its model thought is empty, and no answer.

    Raises:
        ScoringError: most of them are empty.

    >>> share(["Yes.", "yes, it does", "No", "**Yes**", ""], "Yes")
    0.75
    """
    words = [re.match(r"\W*(\w*)", sample) for sample in samples]
    said = [word[1].casefold() if word is not None else "" for word in words]
    answered = [word for word in said if word]
    if 2 * len(answered) < len(said) or not answered:
        raise ScoringError(
            f"{len(said) - len(answered)} of {len(said)} sampled answers are empty; a model that "
            "thinks first needs a larger max_tokens="
        )
    return answered.count(plain_form(answer)) / len(answered)


def rounded_up(value: float) -> str:
    """One digit, never less than the value, so that like reasons can be counted together.

    >>> rounded_up(0.00123), rounded_up(0.5), rounded_up(0.0)
    ('2e-03', '5e-01', '0e+00')
    """
    if value <= 0:
        return "0e+00"
    power = 10.0 ** math.floor(math.log10(value))
    return f"{math.ceil(round(value / power, 6)) * power:.0e}"
