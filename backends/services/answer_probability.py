"""VQAScore with a service: the probability that an answer begins with a word.

Lin et al. 2024, eq. 2. One token is generated for each image and text. The score is the probability
of the answer, summed over its forms ("Yes", "yes", " Yes") among the likeliest tokens.
The rules for local models are in `backends/vlm/reading/rules.py`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from t2v_eval.errors import InputError, ScoringError, TemplateError, UnsupportedError
from t2v_eval.inputs.template import Template
from t2v_eval.remote.request_pool import RetryError
from t2v_eval.remote.scorer import CellScore

from .answer_text import OPPOSITE, REASONING_START, answer_share
from .credentials import require_choice, require_int_in
from .messages import Completion, Response, SamplingParams, TokenLogprob
from .protocol import ServiceProtocol
from .scorer import Question, UnlistedAnswers

RULES = ("probability", "yes-no")
ROUNDING = 1e-3  # tolerance of a log-probability above 0
MAX_MASS = 1.01  # of rounded probabilities
DEFAULT_NUM_SAMPLES = 16
# A first token that opens a wrapper of the answer.
WRAPPER_START = re.compile(r"[<◁\[({\\$`*#\"'“|]|(?:analysis|thought)\Z")
REASONS_FIRST = "thinks before it answers"
DISABLE_THINKING = (
    "for models of vLLM or SGLang by "
    '`extra_body={"chat_template_kwargs": {"enable_thinking": false}}`'
)
TRUNCATED_SAMPLING = (
    "the model {!r} at {} gives one token all of the probability and the others none, as where a "
    "server draws with a top_k or top_p of its own (vLLM takes them from the model's "
    "generation_config, unless it is started with --generation-config vllm)"
)


def answer_question(
    rule: str = "probability",
    top_logprobs: int = 20,
    estimator: str = "logprobs",
    n: int = DEFAULT_NUM_SAMPLES,
    max_tokens: int = 1,
) -> Question:
    """Return the question for the probability of an answer, from 0 to 1.

    Args:
        rule: "probability" of the answer, or "yes-no", its share of yes and no.
        top_logprobs: number of tokens to list, 1 to 20.
        estimator: "logprobs", or, for models without log-probabilities, "sampling": the share of
            the answer among `n` sampled ones.
        n: number of samples.
        max_tokens: length of a sampled answer; 1 is enough for a model that does not reason first.

    Raises:
        InputError: an option is not valid, or options contradict each other.

    >>> answer_question(rule="yes-no").facts
    {'rule': 'yes-no', 'top_logprobs': '20'}
    >>> answer_question(estimator="sampling", n=8).params.num_samples
    8
    """
    require_choice("rule", rule, RULES)
    require_choice("estimator", estimator, ("logprobs", "sampling"))
    if estimator == "sampling" and rule != "probability":
        raise InputError(
            f"`rule={rule!r}` is about log-probabilities; `estimator='sampling'` gives the share "
            "of all answers, so leave `rule=` out"
        )
    require_int_in("top_logprobs", top_logprobs, 1, 20)
    require_int_in("n", n, 1, 1000)
    require_int_in("max_tokens", max_tokens, 1, 10**6)
    if estimator == "sampling":
        return SampledAnswer(n, max_tokens)
    return AnswerProbability(rule, top_logprobs)


class AnswerProbability(Question):
    """Score with the probability of an answer, from the log-probabilities of its first token.

    Args:
        rule: "probability" of the answer, or "yes-no", its share of yes and no.
        top_logprobs: number of tokens to list, 1 to 20.

    >>> AnswerProbability(top_logprobs=5).params[:4]
    (1, 1.0, 5, 1)
    """

    default_template = "vqascore"

    def __init__(self, rule: str = "probability", top_logprobs: int = 20) -> None:
        facts = {"rule": rule, "top_logprobs": str(top_logprobs)}
        super().__init__(SamplingParams(1, 1.0, top_logprobs), facts, 1)
        self.rule = rule
        self._unlisted = UnlistedAnswers()
        self._truncated_sampling: list[bool] = []  # one for each answer; False once warned of

    @override
    def check_template(self, name: str, template: Template) -> None:
        check_answer(name, template.answer, self.rule)

    @override
    def score_response(
        self, response: Response, answer: str, protocol: ServiceProtocol
    ) -> CellScore:
        completion = response.single()
        if completion.top_logprobs is None:
            raise self._no_logprobs_error(completion, protocol)
        readable = [
            (row.logprob, row.token or "")
            for row in completion.top_logprobs
            if row.logprob is not None
        ]
        if not readable:
            raise RetryError("the log-probabilities that came cannot be read")
        self._check_first_token(completion, max(readable)[1].strip(), answer, protocol)
        self._unlisted.are_listed = True
        probabilities = AnswerProbabilities.from_logprobs(
            completion.top_logprobs, answer, completion.sampled_token
        )
        is_single = probabilities.is_single_token and self.params.top_logprobs > 1
        if is_single and not self._truncated_sampling:
            self._truncated_sampling.append(True)
        details = {
            "answer": probabilities.answer,
            "opposite": probabilities.opposite,
            "listed": probabilities.mass,
        }
        detail = json.dumps(details | response.details)
        try:
            return CellScore(probabilities.score(self.rule, answer), detail)
        except ScoringError as error:
            error.detail = detail
            raise

    def _check_first_token(
        self, completion: Completion, likeliest: str, answer: str, protocol: ServiceProtocol
    ) -> None:
        """Raise where the first token belongs to reasoning or to a wrapper of the answer."""
        forms = (normalize_token(answer), OPPOSITE.get(normalize_token(answer)))
        sampled = normalize_token(completion.sampled_token or "")
        unanswered = completion.has_reasoning and not completion.text and sampled not in forms
        if unanswered or REASONING_START.match(likeliest):
            raise self._unanswered_error(REASONS_FIRST, protocol)
        if WRAPPER_START.match(likeliest):
            raise self._unanswered_error(f"begins its answers with {likeliest[:20]!r}", protocol)
        if not _begins(completion.text, sampled):
            # Where reasoning is listed too, the first token does not belong to the answer.
            raise ScoringError(
                f"the first listed token {completion.sampled_token!r} does not begin the answer "
                f"{completion.text[:40]!r}, so it is not known where the answer begins"
            )

    @override
    def caution(self, protocol: ServiceProtocol) -> str:
        if not any(self._truncated_sampling):
            return ""
        self._truncated_sampling[:] = [False]
        return TRUNCATED_SAMPLING.format(protocol.model, protocol.base_url)

    @override
    def explain_rejection(self, message: str, protocol: ServiceProtocol) -> Exception | None:
        if re.search(r"log_?probs", message, re.IGNORECASE):
            return self._needs_sampling_error(message, protocol)
        return None

    def _unanswered_error(self, reason: str, protocol: ServiceProtocol) -> Exception:
        if self._unlisted.are_listed:
            return ScoringError(f"the model {reason}, so its first token is no answer")
        off = f" Turn that off, {DISABLE_THINKING}, or pass" if reason == REASONS_FIRST else " Pass"
        return UnsupportedError(
            f"the model {protocol.model!r} at {protocol.base_url} {reason}, so its first token is "
            f"no answer.{off} `estimator='sampling'` with `n={DEFAULT_NUM_SAMPLES}` and a large "
            "`max_tokens=`"
        )

    def _no_logprobs_error(self, completion: Completion, protocol: ServiceProtocol) -> Exception:
        if not completion.text and completion.truncated:
            return ScoringError(
                "it thought for as long as it could and gave no answer; a model that always "
                "thinks is asked with `estimator='sampling'` and a larger `max_tokens=`"
            )
        return self._unlisted.error(
            self._needs_sampling_error("it answered without them", protocol)
        )

    def _needs_sampling_error(self, why: str, protocol: ServiceProtocol) -> UnsupportedError:
        return UnsupportedError(
            protocol.advise_on_logprobs(
                f"the model {protocol.model!r} at {protocol.base_url} gives no log-probabilities "
                f"of {self.params.top_logprobs} tokens ({why}). If it lists fewer, pass "
                "`top_logprobs=5`. If it gives none, pass `estimator='sampling'` with "
                f"`n={DEFAULT_NUM_SAMPLES}` to score by the share of sampled answers (other "
                "numbers under another id), or choose a model that has them, such as 'gpt-4o'"
            )
        )


class SampledAnswer(Question):
    """Score with the share of an answer among sampled ones.

    Args:
        n: number of samples.
        max_tokens: length of an answer; 1 is enough for a model that does not reason first.

    >>> SampledAnswer(n=4, max_tokens=100).max_answer_tokens
    400
    """

    default_template = "vqascore"

    def __init__(self, n: int = DEFAULT_NUM_SAMPLES, max_tokens: int = 1) -> None:
        facts = {"estimator": "sampling", "n": str(n), "max_tokens": str(max_tokens)}
        facts["unread"] = "left-out"
        super().__init__(SamplingParams(max_tokens, 1.0, num_samples=n), facts, n * max_tokens)

    @override
    def check_template(self, name: str, template: Template) -> None:
        check_answer(name, template.answer, "probability")

    @override
    def score_response(
        self, response: Response, answer: str, protocol: ServiceProtocol
    ) -> CellScore:
        expected = self.params.num_samples
        completions = response.completions[:expected]
        if len(completions) < expected:
            raise ScoringError(f"only {len(completions)} of {expected} samples came")
        retry_errors = [
            completion.error
            for completion in completions
            if isinstance(completion.error, RetryError)
        ]
        if 2 * len(retry_errors) > len(completions):
            raise retry_errors[0]
        samples = [
            (completion.text, completion.truncated)
            if completion.error is None
            else ScoringError(str(completion.error))
            for completion in completions
        ]
        details: dict[str, Any] = {"samples": [completion.text for completion in completions]}
        try:
            value, unread = answer_share(samples, answer)
        except ScoringError as error:
            error.detail = json.dumps(details | response.details)
            raise
        return CellScore(value, json.dumps(details | {"unread": unread} | response.details))


def _begins(text: str, token: str) -> bool:
    """Tell whether a normalized token may be the first one of a text; either may be empty."""
    start = normalize_token(text)
    return start.startswith(token) or token.startswith(start)


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

    >>> listed = AnswerProbabilities(0.6, 0.2, mass=0.9, max_unlisted=0.05, num_tokens=4)
    >>> listed.score("probability", "Yes"), round(listed.score("yes-no", "Yes"), 6)
    (0.6, 0.75)
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
            top_logprobs: the listed tokens; texts may repeat, and an equal entry counts once. A
                log-probability of -9999 or minus infinity means "very unlikely", so such a token
                counts as not listed. A token without a log-probability is ignored.
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
        probabilities = read_probabilities(top_logprobs, (expected, OPPOSITE.get(expected)))

        def probability_of(word: str | None) -> float | None:
            values = [p for token, p in probabilities if token and normalize_token(token) == word]
            return min(1.0, math.fsum(values)) if values else None

        others = [p for token, p in probabilities if token != sampled_token]
        mass = min(1.0, math.fsum(p for _, p in probabilities))
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


def read_probabilities(
    top_logprobs: Sequence[TokenLogprob], forms: Collection[str | None]
) -> list[tuple[str | None, float]]:
    """Return the listed tokens and their probabilities.

    Args:
        top_logprobs: the listed tokens; an equal entry counts once.
        forms: the forms of an answer, whose probabilities must be valid.

    Raises:
        ScoringError: they are not probabilities, or one of an answer is missing.

    >>> read_probabilities([TokenLogprob("4", 0.0), TokenLogprob("4", 0.0)], ["4"])
    [('4', 1.0)]
    """
    probabilities: list[tuple[str | None, float]] = []
    # Some servers list the sampled token a second time.
    for token, logprob in dict.fromkeys(top_logprobs):
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
    if (mass := math.fsum(p for _, p in probabilities)) > MAX_MASS:
        raise ScoringError(f"the listed probabilities add up to {mass:.3g}, more than 1")
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
            f"`rule='yes-no'` needs the answer Yes or No, not {answer!r}; use `rule='probability'`"
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
