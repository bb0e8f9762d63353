"""The probability of an answer from the log-probabilities of the first token."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from t2v_eval.errors import ScoringError, TemplateError

from .answer_text import OPPOSITE
from .messages import TokenLogprob

RULES = ("probability", "yes-no")
ROUNDING = 1e-3  # tolerance of a log-probability above 0
MAX_MASS = 1.01  # of rounded probabilities


@dataclass(frozen=True, slots=True)
class AnswerProbabilities:
    """Probabilities of an answer, summed over the listed first tokens.

    Attributes:
        answer: probability of the answer; None where no form of it is listed.
        opposite: probability of the opposite answer; None where no form of it is listed.
        mass: probability of all listed tokens.
        max_unlisted: upper bound for a token that is not listed: the smallest listed probability,
            without the sampled token, which some servers list however unlikely it is.
        num_tokens: number of listed tokens.
        unreadable: probability of listed tokens without valid text.
    """

    answer: float | None
    opposite: float | None
    mass: float
    max_unlisted: float
    num_tokens: int
    unreadable: float = 0.0

    @classmethod
    def from_logprobs(
        cls, top_logprobs: Sequence[TokenLogprob], answer: str, sampled_token: str | None = None
    ) -> AnswerProbabilities:
        """Sum the log-probabilities of tokens over the forms of an answer.

        Args:
            top_logprobs: the listed tokens; texts may repeat. A log-probability of -9999 or minus
                infinity means "very unlikely", so such a token counts as not listed. A token
                without a log-probability is ignored.
            answer: the expected answer, one word.
            sampled_token: the token that was sampled.

        Raises:
            ScoringError: the values are not log-probabilities, or that of a form of the answer is
                missing.

        >>> tokens = [("Yes", math.log(0.5)), (" yes", math.log(0.25)), ("Yes", -3.0)]
        >>> summed = AnswerProbabilities.from_logprobs([TokenLogprob(*t) for t in tokens], "Yes")
        >>> round(summed.answer, 4), summed.opposite
        (0.7998, None)
        """
        expected = normalize_token(answer)
        probabilities = _read_probabilities(top_logprobs, (expected, OPPOSITE.get(expected)))

        def probability_of(word: str | None) -> float | None:
            values = [p for token, p in probabilities if token and normalize_token(token) == word]
            return min(1.0, math.fsum(values)) if values else None

        others = [p for token, p in probabilities if token != sampled_token]
        mass = math.fsum(p for _, p in probabilities)
        if mass > MAX_MASS:
            raise ScoringError(f"the listed probabilities add up to {mass:.3g}, more than 1")
        mass = min(1.0, mass)
        return cls(
            probability_of(expected),
            probability_of(OPPOSITE[expected]) if expected in OPPOSITE else None,
            mass,
            min(others, default=1.0 - mass),
            len(probabilities),
            math.fsum(p for token, p in probabilities if token is None),
        )

    @property
    def is_single_token(self) -> bool:
        """Whether a single token has the whole probability."""
        return self.num_tokens == 1 and self.mass > 1.0 - 1e-6

    def score(self, rule: str, answer: str) -> float:
        """Return the score, from 0 to 1, by a rule of `RULES`.

        "probability": P(answer); where it is not listed, 1 - P(opposite).
        "yes-no": P(answer) / (P(answer) + P(opposite)); an unlisted opposite counts as 0.

        Raises:
            ScoringError: the listed tokens do not determine it; the message has an upper bound.
        """
        lower_bound = self.answer or 0.0
        if rule == "yes-no":
            lower_bound = min(lower_bound, self.opposite or 0.0)
        if self.unreadable > lower_bound:
            raise ScoringError(f"a listed token cannot be read, which may be the answer {answer!r}")
        if rule == "yes-no":
            if self.answer is not None:
                return self.answer / (self.answer + (self.opposite or 0.0))
            upper_bound = 1.0
            if self.opposite is not None:
                upper_bound = self.max_unlisted / (self.max_unlisted + self.opposite)
        elif self.answer is not None:
            return self.answer
        elif self.opposite is not None:
            return 1.0 - self.opposite
        else:
            upper_bound = self.max_unlisted
        raise ScoringError(
            f"the answer {answer!r} is not among the {self.num_tokens} listed tokens: its score is "
            f"at most {round_up(upper_bound)}"
        )


def _read_probabilities(
    top_logprobs: Sequence[TokenLogprob], forms: tuple[str, str | None]
) -> list[tuple[str | None, float]]:
    """Return the listed tokens and their probabilities; raise ScoringError for invalid values."""
    probabilities: list[tuple[str | None, float]] = []
    for token, logprob in top_logprobs:
        if logprob is None:
            if token is not None and normalize_token(token) in forms:
                raise ScoringError(f"the service gives no log-probability of {token!r}")
        elif logprob > ROUNDING:
            raise ScoringError(
                f"the service gives {token!r} a log-probability of {logprob:g}, which is above "
                "0, so not one"
            )
        elif (p := math.exp(min(0.0, logprob))) > 0:
            probabilities.append((token, p))
    if not probabilities:
        raise ScoringError("the service listed no log-probabilities for the first token")
    return probabilities


def check_answer(name: str, answer: str, rule: str) -> None:
    """Check that an answer template can be scored by its first token.

    Args:
        name: the name of the scorer, for messages.
        answer: the answer template.
        rule: a rule of `RULES`.

    Raises:
        TemplateError: it is not one word, or not one that the rule can score.

    >>> check_answer("gpt-4o", "Yes", "yes-no")
    """
    if not re.fullmatch(r"\s*\w+\s*", answer):
        raise TemplateError(
            f"{name!r} scores the first word of an answer, so the answer template must be "
            f"one word, such as 'Yes', not {answer!r}"
        )
    if rule == "yes-no" and normalize_token(answer) not in OPPOSITE:
        raise TemplateError(
            f"rule='yes-no' needs the answer Yes or No, not {answer!r}; use rule='probability'"
        )


def normalize_token(token: str) -> str:
    """Return a token in lower case without surrounding spaces, which "▁" and "Ġ" stand for.

    >>> normalize_token(" Yes"), normalize_token("▁YES"), normalize_token("yes.")
    ('yes', 'yes', 'yes.')
    """
    return token.strip().lstrip("▁Ġ").strip().casefold()


def round_up(value: float) -> str:
    """Format a value with one digit, rounded up, so that similar reasons count as one.

    >>> round_up(0.00123), round_up(0.5), round_up(0.0)
    ('2e-03', '5e-01', '0e+00')
    """
    if value <= 0:
        return "0e+00"
    power = 10.0 ** math.floor(math.log10(value))
    return f"{math.ceil(round(value / power, 6)) * power:.0e}"
