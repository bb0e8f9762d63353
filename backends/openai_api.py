"""VQAScore by asking a service that speaks OpenAI's chat completions.

One token is generated for each picture and text. The score is the probability of the answer, summed
over its forms ("Yes", "yes", " Yes") among the 20 likeliest tokens; Lin et al. 2024, eq. 2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from typing_extensions import Unpack

from t2v_eval.errors import ScoringError, UnsupportedError
from t2v_eval.pool import RetryError
from t2v_eval.remote import Answer

from ._answers import RULES, Listed, check_answer, share
from ._chat import (
    FILTERED,
    Chat,
    ChatOptions,
    Compatible,
    choices_of,
    said,
    served_by,
)
from ._given import between, one_of

PROBES = 3  # answers without log-probabilities before the model is taken to have none
SAMPLES = 16


class OpenAIScorer(Chat):
    """Asks one of OpenAI's models.

    Args:
        model: as the service calls it.
        rule: "probability" of the answer, or "yes-no", its share of yes and no.
        top_logprobs: how many tokens the service lists, 20 at most.
        estimator: "logprobs", or "sampling" for models that tell none: the share of `n` answers.
        max_tokens: of a sampled answer; one is enough where the model does not think first.
        options: see `Chat`.
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
        **options: Unpack[ChatOptions],
    ) -> None:
        super().__init__(model, **options)
        one_of("rule", rule, RULES)
        one_of("estimator", estimator, ("logprobs", "sampling"))
        between("top_logprobs", top_logprobs, 1, 20)
        between("n", n, 1, 1000)
        between("max_tokens", max_tokens, 1, 10**6)
        self.rule = rule
        self._asking: dict[str, Any] = {"model": model, "temperature": 1}
        self._samples = n if estimator == "sampling" else 0
        if self._samples:
            how = {"estimator": "sampling", "n": str(n), "max_tokens": str(max_tokens)}
            self._asking[self.token_limit] = max_tokens
            self.answer_tokens = n * max_tokens
        else:
            how = {"rule": rule, "top_logprobs": str(top_logprobs)}
            self._asking |= {self.token_limit: 1, "logprobs": True, "top_logprobs": top_logprobs}
        self.facts = {**self.facts, **how}
        self._without = 0  # answers without log-probabilities; -1 once one came with them

    def check_template(self) -> None:
        super().check_template()
        check_answer(self.name, self.template.answer, self.rule)

    def body(self, image: str, text: str) -> dict[str, Any]:
        question, _ = self.template.fill(text)
        more = {"n": self._samples} if self._samples else {}
        return {"messages": self.messages(image, question), **self._asking, **more}

    def read(self, content: Mapping[str, Any], text: str) -> Answer:
        _, answer = self.template.fill(text)
        if self._samples:
            samples = [said(choice) for choice in choices_of(content)]
            if len(samples) < self._samples:
                raise ScoringError(f"only {len(samples)} of {self._samples} samples came")
            kept: dict[str, Any] = {"samples": samples}
            return Answer(share(samples, answer), json.dumps(kept | served_by(content)))
        choice = choices_of(content)[0]
        listed = _listed(choice)
        if listed is None:
            raise self._no_logprobs(choice)
        self._without = -1
        found = Listed.of(listed, answer)
        kept = {"answer": found.answer, "opposite": found.opposite, "listed": found.mass}
        return Answer(found.score(self.rule, answer), json.dumps(kept | served_by(content)))

    async def score_cell(self, image: str, text: str) -> Answer:
        body = self.body(image, text)
        content = await self.ask(body)
        choices = choices_of(content)
        while self._samples and len(choices) < self._samples:  # servers that know no n
            more = await self.ask({**body, "n": self._samples - len(choices)})
            choices = [*choices, *choices_of(more)]
        return self.read({**content, "choices": choices}, text)

    def unable(self, message: str) -> Exception | None:
        if re.search(r"log_?probs", message) and not self._samples:
            return self._needs_sampling(message)
        return None

    def _no_logprobs(self, choice: Mapping[str, Any]) -> Exception:
        if choice.get("finish_reason") == "content_filter":
            return ScoringError(FILTERED)
        if self._without >= 0:
            self._without += 1
        if self._without >= PROBES:
            return self._needs_sampling("it answered without them")
        return RetryError("the answer came without log-probabilities")

    def _needs_sampling(self, why: str) -> UnsupportedError:
        return UnsupportedError(
            f"the model {self.served!r} at {self.base_url} gives no log-probabilities "
            f"({why}). Pass estimator='sampling' with n={SAMPLES} to score by the share of sampled "
            "answers (other numbers under another id), or choose a model that has them, such as "
            "'gpt-4o'"
        )


class CompatibleScorer(Compatible, OpenAIScorer):
    """Asks a server that speaks OpenAI's protocol; see `Compatible`."""


def _listed(choice: Mapping[str, Any]) -> dict[str, float] | None:
    """Log-probabilities of the likeliest tokens at the first position.

    The token that was drawn is left out where it is none of them: what is missing from the list is
    then still less likely than all that is in it.
    """
    try:
        rows = choice["logprobs"]["content"][0]["top_logprobs"]
        return {str(row["token"]): float(row["logprob"]) for row in rows} or None
    except (KeyError, TypeError, IndexError, ValueError, AttributeError):
        return None
