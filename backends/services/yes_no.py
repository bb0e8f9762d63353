"""VQAScore with a service: the probability that an answer begins with a word.

Lin et al. 2024, eq. 2. One token is generated for each image and text. The score is the probability
of the answer, summed over its forms ("Yes", "yes", " Yes") among the likeliest tokens.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from t2v_eval.errors import InputError, ScoringError, T2VWarning, UnsupportedError
from t2v_eval.inputs.media import Media
from t2v_eval.remote.request_pool import RetryError
from t2v_eval.remote.scorer import CellScore
from t2v_eval.scoring.plan import Cells, Text
from t2v_eval.scoring.results import ScoreChunk

from .answer_text import OPENS, OPPOSITE, answer_share
from .base import Service
from .credentials import require_choice, require_int_in
from .logprobs import RULES, AnswerProbabilities, check_answer, normalize_token
from .messages import Completion, Response, SamplingParams

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


class AnswerProbabilityScorer(Service):
    """Score with the probability of an answer, from 0 to 1.

    Args:
        model: the service's name of the model.
        rule: "probability" of the answer, or "yes-no", its share of yes and no.
        top_logprobs: number of tokens to list, 1 to 20.
        estimator: "logprobs", or, for models without log-probabilities, "sampling": the share of
            the answer among `n` sampled ones.
        n: number of samples.
        max_tokens: length of a sampled answer; 1 is enough for a model that does not reason first.
        options: see `Service` and the protocol.
    """

    default_template = "vqascore"

    def __init__(
        self,
        model: str,
        rule: str = "probability",
        top_logprobs: int = 20,
        estimator: str = "logprobs",
        n: int = DEFAULT_NUM_SAMPLES,
        max_tokens: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
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
        self.rule = rule
        self._by_sampling = estimator == "sampling"
        if self._by_sampling:
            settings = {"estimator": "sampling", "n": str(n), "max_tokens": str(max_tokens)}
            settings["unread"] = "left-out"
            self._params = SamplingParams(max_tokens, 1.0, num_samples=n)
            self.max_answer_tokens = n * max_tokens
            self.requests_for_a_cell = math.ceil(n / self.max_samples)
        else:
            settings = {"rule": rule, "top_logprobs": str(top_logprobs)}
            self._params = SamplingParams(1, 1.0, top_logprobs)
        if self.batch and self.requests_for_a_cell > 1:
            raise InputError(
                f"n={n}: a question of a batch is asked once, and this service gives "
                f"{self.max_samples} answers at most; pass n={self.max_samples}"
            )
        self.identity_facts = {**self.identity_facts, **settings}
        self._num_without_logprobs = (
            0  # answers without log-probabilities; -1 once one came with them
        )
        self._truncated_sampling: list[bool] = []  # of answers; what was warned of is False

    def check_template(self) -> None:
        super().check_template()
        check_answer(self.name, self.template.answer, self.rule)

    def build_question(self, image: Any, text: str) -> Any:
        return self._question(image, text, self._params.num_samples)

    def _question(self, image: Any, text: str, samples: int) -> Any:
        params = self._params._replace(num_samples=min(samples, self.max_samples))
        return self.request_body(self.build_parts(self.template.fill(text)[0], image), params)

    def score_response(self, response: Response, text: str) -> CellScore:
        _, answer = self.template.fill(text)
        if self._by_sampling:
            return self._score_samples(response, answer)
        completion = response.single()
        if completion.top_logprobs is None:
            raise self._no_logprobs_error(completion)
        readable = [
            (row.logprob, row.token or "")
            for row in completion.top_logprobs
            if row.logprob is not None
        ]
        if not readable:
            raise RetryError("the log-probabilities that came cannot be read")
        self._check_first_token(completion, max(readable)[1].strip(), answer)
        self._num_without_logprobs = -1
        probabilities = AnswerProbabilities.from_logprobs(
            completion.top_logprobs, answer, completion.sampled_token
        )
        if (
            probabilities.is_single_token
            and self._params.top_logprobs > 1
            and not self._truncated_sampling
        ):
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

    def _check_first_token(self, completion: Completion, likeliest: str, answer: str) -> None:
        """Raise where the first token belongs to reasoning or to a wrapper of the answer."""
        forms = (normalize_token(answer), OPPOSITE.get(normalize_token(answer)))
        sampled = normalize_token(completion.sampled_token or "")
        unanswered = completion.has_reasoning and not completion.text and sampled not in forms
        if unanswered or OPENS.match(likeliest):
            raise self._unanswered_error(THINKS_FIRST)
        if WRAPS.match(likeliest):
            raise self._unanswered_error(f"begins its answers with {likeliest[:20]!r}")
        if not _begins(completion.text, sampled):
            # Where reasoning is listed too, the first token does not belong to the answer.
            raise ScoringError(
                f"the first listed token {completion.sampled_token!r} does not begin the answer "
                f"{completion.text[:40]!r}, so it is not known where the answer begins"
            )

    def _score_samples(self, response: Response, answer: str) -> CellScore:
        """Return the share of the answer among the samples."""
        completions = response.completions[: self._params.num_samples]
        if len(completions) < self._params.num_samples:
            raise ScoringError(
                f"only {len(completions)} of {self._params.num_samples} samples came"
            )
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

    async def score_cell(self, image: Any, text: str) -> CellScore:
        content = await self.ask(self.build_question(image, text))
        with self.catch_answer_errors(content):
            reply = self.parse_response(content)
        while (
            self._by_sampling and (missing := self._params.num_samples - len(reply.completions)) > 0
        ):
            self.reserve_request()
            content = await self.ask(self._question(image, text, missing))
            with self.catch_answer_errors(content):
                more = self.parse_response(content)
            reply = reply._replace(completions=[*reply.completions, *more.completions])
        with self.catch_answer_errors(content):
            return self.score_response(reply, text)

    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        for part in super().score_cells(images, texts, cells):
            if any(self._truncated_sampling):
                self._truncated_sampling[:] = [False]
                warnings.warn(
                    TRUNCATED_SAMPLING.format(self.model_name, self.base_url), T2VWarning, 2
                )
            yield part

    def explain_rejection(self, message: str) -> Exception | None:
        if re.search(r"log_?probs", message, re.IGNORECASE) and not self._by_sampling:
            return self._needs_sampling_error(message)
        return super().explain_rejection(message)

    def _unanswered_error(self, reason: str) -> Exception:
        if self._num_without_logprobs < 0:
            return ScoringError(f"the model {reason}, so its first token is no answer")
        off = f" Turn that off, {DISABLE_THINKING}, or pass" if reason == THINKS_FIRST else " Pass"
        return UnsupportedError(
            f"the model {self.model_name!r} at {self.base_url} {reason}, so its first token is no "
            f"answer.{off} estimator='sampling' with n={DEFAULT_NUM_SAMPLES} and a large "
            "max_tokens="
        )

    def _no_logprobs_error(self, completion: Completion) -> Exception:
        if not completion.text and completion.truncated:
            return ScoringError(
                "it thought for as long as it could and gave no answer; a model that always "
                "thinks is asked with estimator='sampling' and a larger max_tokens="
            )
        if self._num_without_logprobs >= 0:
            self._num_without_logprobs += 1
        if self._num_without_logprobs >= MAX_UNLISTED_ANSWERS:
            return self._needs_sampling_error("it answered without them")
        return RetryError("the answer came without log-probabilities")

    def _needs_sampling_error(self, why: str) -> UnsupportedError:
        return UnsupportedError(
            f"the model {self.model_name!r} at {self.base_url} gives no log-probabilities of "
            f"{self._params.top_logprobs} tokens ({why}). If it lists fewer, pass top_logprobs=5. "
            f"If it gives none, pass estimator='sampling' with n={DEFAULT_NUM_SAMPLES} to score by "
            "the share of sampled answers (other numbers under another id), or choose a model that "
            "has them, such as 'gpt-4o'"
        )


def _begins(text: str, token: str) -> bool:
    """Tell whether a normalized token may be the first one of a text; either may be empty."""
    start = normalize_token(text)
    return start.startswith(token) or token.startswith(start)
