"""VQAScore by asking: how likely a model's answer begins with a word; Lin et al. 2024, eq. 2.

One token is generated for each picture and text. The score is the probability of the answer, summed
over its forms ("Yes", "yes", " Yes") among the likeliest tokens.
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
from t2v_eval.remote.scorer import Answer
from t2v_eval.scoring.plan import Cells, Text
from t2v_eval.scoring.results import ScoreChunk

from .answer_text import OPENS, OPPOSITE, share
from .base import Service
from .credentials import between, one_of
from .logprobs import RULES, Listed, check_answer, plain_form
from .messages import How, Reply, Said

PROBES = 3  # answers without log-probabilities before the model is taken to have none
SAMPLES = 16
WRAPS = re.compile(r"[<◁\[({\\$`*#\"'“|]|(?:analysis|thought)\Z")  # of a first token
THINKS = "thinks before it answers"
THINKS_NOT = (
    "for models of vLLM or SGLang by "
    'extra_body={"chat_template_kwargs": {"enable_thinking": false}}'
)
CUT_SHORT = (
    "the model {!r} at {} gives one token all of the probability and the others none, as where a "
    "server draws with a top_k or top_p of its own (vLLM takes them from the model's "
    "generation_config, unless it is started with --generation-config vllm)"
)


class WordScorer(Service):
    """Asks a model for the probability of an answer.

    Args:
        model: as the service calls it.
        rule: "probability" of the answer, or "yes-no", its share of yes and no.
        top_logprobs: how many tokens the service lists, 20 at most.
        estimator: "logprobs", or "sampling" for models that tell none: the share of `n` answers.
        max_tokens: of a sampled answer; one is enough where the model does not think first.
        options: see `Service` and the protocol.
    """

    default_template = "vqascore"

    def __init__(
        self,
        model: str,
        rule: str = "probability",
        top_logprobs: int = 20,
        estimator: str = "logprobs",
        n: int = SAMPLES,
        max_tokens: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        one_of("rule", rule, RULES)
        one_of("estimator", estimator, ("logprobs", "sampling"))
        if estimator == "sampling" and rule != "probability":
            raise InputError(
                f"rule={rule!r} is about log-probabilities; estimator='sampling' gives the share "
                "of all answers, so leave rule= out"
            )
        between("top_logprobs", top_logprobs, 1, 20)
        between("n", n, 1, 1000)
        between("max_tokens", max_tokens, 1, 10**6)
        self.rule = rule
        self._sampled = estimator == "sampling"
        if self._sampled:
            how = {"estimator": "sampling", "n": str(n), "max_tokens": str(max_tokens)}
            how["unread"] = "left-out"
            self._how = How(max_tokens, 1.0, samples=n)
            self.answer_tokens = n * max_tokens
            self.requests_for_a_cell = math.ceil(n / self.most_samples)
        else:
            how = {"rule": rule, "top_logprobs": str(top_logprobs)}
            self._how = How(1, 1.0, top_logprobs)
        if self.batch and self.requests_for_a_cell > 1:
            raise InputError(
                f"n={n}: a question of a batch is asked once, and this service gives "
                f"{self.most_samples} answers at most; pass n={self.most_samples}"
            )
        self.identity_facts = {**self.identity_facts, **how}
        self._without = 0  # answers without log-probabilities; -1 once one came with them
        self._cut_short: list[bool] = []  # of answers; what was warned of is False

    def check_template(self) -> None:
        super().check_template()
        check_answer(self.name, self.template.answer, self.rule)

    def question(self, image: Any, text: str) -> Any:
        return self._question(image, text, self._how.samples)

    def _question(self, image: Any, text: str, samples: int) -> Any:
        how = self._how._replace(samples=min(samples, self.most_samples))
        return self.body(self.parts(self.template.fill(text)[0], image), how)

    def answer(self, reply: Reply, text: str) -> Answer:
        _, answer = self.template.fill(text)
        if self._sampled:
            return self._shared(reply, answer)
        said = reply.only()
        if said.listed is None:
            raise self._nothing_listed(said)
        known = [(row.value, row.token or "") for row in said.listed if row.value is not None]
        if not known:
            raise RetryError("the log-probabilities that came cannot be read")
        likeliest = max(known)[1].strip()
        forms = (plain_form(answer), OPPOSITE.get(plain_form(answer)))
        unanswered = said.thought and not said.text and plain_form(said.drawn or "") not in forms
        if unanswered or OPENS.match(likeliest):
            raise self._unanswered(THINKS)
        if WRAPS.match(likeliest):
            raise self._unanswered(f"begins its answers with {likeliest[:20]!r}")
        self._without = -1
        found = Listed.of(said.listed, answer, said.drawn)
        if found.alone and self._how.listed > 1 and not self._cut_short:
            self._cut_short.append(True)
        kept = {"answer": found.answer, "opposite": found.opposite, "listed": found.mass}
        detail = json.dumps(kept | reply.served_by)
        try:
            return Answer(found.score(self.rule, answer), detail)
        except ScoringError as error:
            error.detail = detail
            raise

    def _shared(self, reply: Reply, answer: str) -> Answer:
        """The share of the answer among samples, where enough of them can be read."""
        said = reply.said[: self._how.samples]
        if len(said) < self._how.samples:
            raise ScoringError(f"only {len(said)} of {self._how.samples} samples came")
        again = [one.problem for one in said if isinstance(one.problem, RetryError)]
        if 2 * len(again) > len(said):
            raise again[0]
        samples = [
            (one.text, one.cut) if one.problem is None else ScoringError(str(one.problem))
            for one in said
        ]
        kept: dict[str, Any] = {"samples": [one.text for one in said]}
        try:
            value, unread = share(samples, answer)
        except ScoringError as error:
            error.detail = json.dumps(kept | reply.served_by)
            raise
        return Answer(value, json.dumps(kept | {"unread": unread} | reply.served_by))

    async def score_cell(self, image: Any, text: str) -> Answer:
        content = await self.ask(self.question(image, text))
        with self.reading(content):
            reply = self.reply(content)
        while self._sampled and (missing := self._how.samples - len(reply.said)) > 0:
            self.another_request()
            content = await self.ask(self._question(image, text, missing))
            with self.reading(content):
                more = self.reply(content)
            reply = reply._replace(said=[*reply.said, *more.said])
        with self.reading(content):
            return self.answer(reply, text)

    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        for part in super().score_cells(images, texts, cells):
            if any(self._cut_short):
                self._cut_short[:] = [False]
                warnings.warn(CUT_SHORT.format(self.served, self.base_url), T2VWarning, 2)
            yield part

    def unable(self, message: str) -> Exception | None:
        if re.search(r"log_?probs", message, re.IGNORECASE) and not self._sampled:
            return self._needs_sampling(message)
        return super().unable(message)

    def _unanswered(self, why: str) -> Exception:
        if self._without < 0:
            return ScoringError(f"the model {why}, so its first token is no answer")
        off = f" Turn that off, {THINKS_NOT}, or pass" if why == THINKS else " Pass"
        return UnsupportedError(
            f"the model {self.served!r} at {self.base_url} {why}, so its first token is no "
            f"answer.{off} estimator='sampling' with n={SAMPLES} and a large max_tokens="
        )

    def _nothing_listed(self, said: Said) -> Exception:
        if not said.text and said.cut:
            return ScoringError(
                "it thought for as long as it could and gave no answer; a model that always "
                "thinks is asked with estimator='sampling' and a larger max_tokens="
            )
        if self._without >= 0:
            self._without += 1
        if self._without >= PROBES:
            return self._needs_sampling("it answered without them")
        return RetryError("the answer came without log-probabilities")

    def _needs_sampling(self, why: str) -> UnsupportedError:
        return UnsupportedError(
            f"the model {self.served!r} at {self.base_url} gives no log-probabilities of "
            f"{self._how.listed} tokens ({why}). If it lists fewer, pass top_logprobs=5. If it "
            f"tells none, pass estimator='sampling' with n={SAMPLES} to score by the share of "
            "sampled answers (other numbers under another id), or choose a model that has them, "
            "such as 'gpt-4o'"
        )
