"""VQAScore with a service: the probability that an answer begins with a word.

Lin et al. 2024, eq. 2. One token is generated for each image and text. The score is the probability
of the answer, summed over its forms ("Yes", "yes", " Yes") among the likeliest tokens.
"""

from __future__ import annotations

import json
import re
from typing import Any

from typing_extensions import override

from t2v_eval.errors import InputError, ScoringError, UnsupportedError
from t2v_eval.inputs.template import Template
from t2v_eval.remote.request_pool import RetryError
from t2v_eval.remote.scorer import CellScore

from .answer_text import OPENS, OPPOSITE, answer_share
from .credentials import require_choice, require_int_in
from .logprobs import RULES, AnswerProbabilities, check_answer, normalize_token
from .messages import Completion, Response, SamplingParams
from .protocol import ServiceProtocol
from .question import Question

MAX_UNLISTED_ANSWERS = 3  # answers without log-probabilities; then the model counts as without
DEFAULT_NUM_SAMPLES = 16
WRAPS = re.compile(r"[<◁\[({\\$`*#\"'“|]|(?:analysis|thought)\Z")  # a first token around an answer
THINKS_FIRST = "thinks before it answers"
DISABLE_THINKING = (
    "for models of vLLM or SGLang by "
    'extra_body={"chat_template_kwargs": {"enable_thinking": false}}'
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
            f"rule={rule!r} is about log-probabilities; estimator='sampling' gives the share "
            "of all answers, so leave rule= out"
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

    >>> AnswerProbability(top_logprobs=5).params
    SamplingParams(max_tokens=1, temperature=1.0, top_logprobs=5, num_samples=1)
    """

    default_template = "vqascore"

    def __init__(self, rule: str = "probability", top_logprobs: int = 20) -> None:
        facts = {"rule": rule, "top_logprobs": str(top_logprobs)}
        super().__init__(SamplingParams(1, 1.0, top_logprobs), facts, 1)
        self.rule = rule
        # Answers without log-probabilities; -1 once one came with them.
        self._num_without_logprobs = 0
        self._truncated_sampling: list[bool] = []  # of answers; what was warned of is False

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
        self._num_without_logprobs = -1
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
        if unanswered or OPENS.match(likeliest):
            raise self._unanswered_error(THINKS_FIRST, protocol)
        if WRAPS.match(likeliest):
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
        if self._num_without_logprobs < 0:
            return ScoringError(f"the model {reason}, so its first token is no answer")
        off = f" Turn that off, {DISABLE_THINKING}, or pass" if reason == THINKS_FIRST else " Pass"
        return UnsupportedError(
            f"the model {protocol.model!r} at {protocol.base_url} {reason}, so its first token is "
            f"no answer.{off} estimator='sampling' with n={DEFAULT_NUM_SAMPLES} and a large "
            "max_tokens="
        )

    def _no_logprobs_error(self, completion: Completion, protocol: ServiceProtocol) -> Exception:
        if not completion.text and completion.truncated:
            return ScoringError(
                "it thought for as long as it could and gave no answer; a model that always "
                "thinks is asked with estimator='sampling' and a larger max_tokens="
            )
        if self._num_without_logprobs >= 0:
            self._num_without_logprobs += 1
        if self._num_without_logprobs >= MAX_UNLISTED_ANSWERS:
            return self._needs_sampling_error("it answered without them", protocol)
        return RetryError("the answer came without log-probabilities")

    def _needs_sampling_error(self, why: str, protocol: ServiceProtocol) -> UnsupportedError:
        return UnsupportedError(
            protocol.advise_on_logprobs(
                f"the model {protocol.model!r} at {protocol.base_url} gives no log-probabilities "
                f"of {self.params.top_logprobs} tokens ({why}). If it lists fewer, pass "
                "top_logprobs=5. If it gives none, pass estimator='sampling' with "
                f"n={DEFAULT_NUM_SAMPLES} to score by the share of sampled answers (other numbers "
                "under another id), or choose a model that has them, such as 'gpt-4o'"
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
