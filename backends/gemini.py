"""VQAScore by asking Gemini: the probability of the answer among the likeliest first tokens.

It needs the package google-genai (``pip install 't2v-eval[gemini]'``, Python 3.11 or newer).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import google.genai
import httpx2
from google.genai import errors, types
from typing_extensions import Unpack

from t2v_eval.errors import InputError, ScoringError, ServiceError, UnsupportedError
from t2v_eval.media import Media
from t2v_eval.pool import RetryError, seconds_to_wait
from t2v_eval.remote import Answer, ApiOptions, ApiScorer

from ._answers import RULES, Listed, check_answer
from ._data_url import picture_file
from ._given import Key, between, checked_address, directly, given_price, one_of, read_key

HOME = "https://generativelanguage.googleapis.com"
AGAIN = (408, 409, 429)  # and every 5xx
ENDED = ("STOP", "MAX_TOKENS")
PROBES = 3  # answers without log-probabilities before the model is taken to have none
CONTROL = re.compile(r"<ctrl\d+>")  # stands where a model begins or ends to think
LEAST_THINKING = 128  # the least that models accept which always think


class GeminiScorer(ApiScorer["types.Part"]):
    """Asks one of Google's models about a picture, through its own API.

    A model that thinks before it answers draws its thoughts at random, so its scores differ from
    run to run; `thinking` is 0 wherever a model allows it.

    Nothing is sent to any other host than the service's: redirects are not followed, and a proxy of
    the environment (HTTPS_PROXY) is used for an https address only, as a tunnel that it cannot read
    into; an http address is asked directly, whatever HTTP_PROXY says.

    Args:
        model: as the service calls it.
        rule: "probability" of the answer, or "yes-no", its share of yes and no.
        top_logprobs: how many tokens the service lists, 20 at most.
        thinking: how many tokens a model may think before it answers. Default: 0, and 128 for the
            "pro" models, which always think.
        api_key: default: the file `key_file`, then the environment variable GOOGLE_API_KEY, then
            GEMINI_API_KEY.
        base_url: another address of the service; no variable's key is sent there. Default: the
            environment variable GOOGLE_GEMINI_BASE_URL, then Google's own.
        max_pixels: make larger pictures smaller before they are sent; default: never.
        price: US dollars for a million tokens, in and out; `max_cost` needs it.
        options: see `ApiScorer`.
    """

    default_template = "vqascore"

    def __init__(
        self,
        model: str,
        rule: str = "probability",
        top_logprobs: int = 20,
        thinking: int | None = None,
        api_key: str | None = None,
        key_file: str | os.PathLike[str] | None = None,
        base_url: str | None = None,
        max_pixels: int | None = None,
        price: Sequence[float] | None = None,
        **options: Unpack[ApiOptions],
    ) -> None:
        super().__init__(**options)
        one_of("rule", rule, RULES)
        between("top_logprobs", top_logprobs, 1, 20)
        between("max_pixels", max_pixels or 1, 1, 10**9)
        if thinking is None:
            thinking = LEAST_THINKING if "pro" in model.split("-") else 0
        between("thinking", thinking, 0, 2**15)
        self.price = None if price is None else given_price(price)
        if self.max_cost is not None and self.price is None:
            raise InputError(
                f"max_cost= needs a price, and that of {model!r} is not known here: pass "
                "price=[in, out], US dollars for a million tokens, or use max_requests="
            )
        self.served, self.rule, self.max_pixels = model, rule, max_pixels
        self._top, self._thinking = top_logprobs, thinking
        given = api_key or (read_key(key_file) if key_file else "")
        if base_url is None:
            base_url = os.environ.get("GOOGLE_GEMINI_BASE_URL") or HOME
            names = ("GOOGLE_API_KEY", "GEMINI_API_KEY")  # in Google's own order
            kept = [os.environ.get(name, "").strip() for name in names]
            given = given or next(filter(None, kept), "")
        self.base_url, self._key = checked_address(base_url), Key(given)
        self.facts = {"server": self.base_url} if self.base_url != HOME else {}
        self.facts |= {"model": model, "order": "text-image", "rule": rule}
        self.facts |= {"top_logprobs": str(top_logprobs), "thinking": str(thinking)}
        self.facts |= {"max_pixels": str(max_pixels)} if max_pixels else {}
        self._without = 0  # answers without log-probabilities; -1 once one came with them
        self._client: google.genai.client.AsyncClient

    def check_template(self) -> None:
        super().check_template()
        check_answer(self.name, self.template.answer, self.rule)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        if not self._key.reveal():  # said now, since what is in the store needs none
            raise InputError(
                "a key is needed: pass api_key= or key_file=, or set GEMINI_API_KEY or "
                "GOOGLE_API_KEY (which are not sent to a base_url= of yours)"
            )
        limits = httpx2.Limits(max_connections=self.limits.concurrency)
        async with httpx2.AsyncClient(limits=limits, **directly(self.base_url)) as http:
            options = types.HttpOptions(
                base_url=self.base_url,
                api_version="v1beta",
                timeout=math.ceil(self.timeout * 1000),
                retry_options=types.HttpRetryOptions(attempts=1),  # the pool asks again
                httpx_async_client=http,
            )
            client = google.genai.Client(
                api_key=self._key.reveal(), vertexai=False, http_options=options
            )
            self._client = client.aio
            try:
                yield
            finally:
                del self._client
                client.close()

    def pack(self, media: Media) -> types.Part:
        image = self.load_image(media)
        content, mime = picture_file(media, image, self.image_mode, self.max_pixels)
        return types.Part.from_bytes(data=content, mime_type=mime)

    async def score_cell(self, image: types.Part, text: str) -> Answer:
        question, answer = self.template.fill(text)
        asking: dict[str, Any] = {"response_logprobs": True, "logprobs": self._top}
        response = await self.ask(image, question, 1, temperature=1.0, **asking)
        candidate = self._candidate(response)
        listed = self._listed(candidate)
        found = Listed.of(listed, answer)
        self._without = -1
        kept: dict[str, Any] = {
            "answer": found.answer,
            "opposite": found.opposite,
            "listed": found.mass,
        }
        if response.model_version:
            kept["model"] = response.model_version
        return Answer(found.score(self.rule, answer), json.dumps(kept))

    async def complete(self, image: types.Part, prompt: str, max_new_tokens: int) -> str:
        response = await self.ask(image, prompt, max_new_tokens, temperature=0.0)
        candidate = self._candidate(response)
        text = _said(candidate)
        if not text and candidate.finish_reason == "MAX_TOKENS":
            raise ScoringError(f"nothing was written within {max_new_tokens} tokens")
        return text

    async def ask(
        self, image: types.Part, question: str, tokens: int, **asking: Any
    ) -> types.GenerateContentResponse:
        """One request: its answer, or what there is to do about it."""
        # Models think a little longer than they are allowed to.
        room = 2 * self._thinking + 256 if self._thinking else 0
        config = types.GenerateContentConfig(
            max_output_tokens=tokens + room,
            thinking_config=types.ThinkingConfig(thinking_budget=self._thinking),
            **asking,
        )
        parts = [types.Part.from_text(text=question), image]
        contents = types.Content(role="user", parts=parts)
        problem: Exception
        try:
            response = await self._client.models.generate_content(
                model=self.served, contents=contents, config=config
            )
            self.note_usage(*_used(response))
            return response
        except errors.APIError as error:
            problem = self.refused(error)
        except httpx2.TimeoutException:
            problem = RetryError(f"no answer within {self.timeout:g} s")
        except httpx2.TransportError as error:
            problem = RetryError(f"no connection to {self.base_url} ({type(error).__name__})")
        except (ValueError, TypeError, AttributeError, KeyError):
            problem = RetryError("the service's answer is not what generateContent answers")
        raise problem  # not within `except`: what the service said may hold the key

    def refused(self, error: errors.APIError) -> Exception:
        status = int(error.code)
        message = self._key.hidden(str(error.message or "no reason given"))[:300]
        said = _details(error)
        if status in (401, 403) or said.get("reason") == "API_KEY_INVALID":
            return ServiceError(
                f"{self.base_url} refuses the key (status {status}); check api_key=, key_file=, "
                "GEMINI_API_KEY or GOOGLE_API_KEY, and that it may use the model "
                f"{self.served!r}"
            )
        if status == 404:
            return ServiceError(
                f"{self.base_url} does not know the model {self.served!r} or the address: {message}"
            )
        if status == 429 and said.get("per_day"):
            return ServiceError(f"the account at {self.base_url} is used up: {message}")
        if status in AGAIN or status >= 500:
            after = seconds_to_wait(said.get("after"))
            return RetryError(f"the service answers {status}", after, too_many=status == 429)
        if 300 <= status < 400:
            return ServiceError(
                f"{self.base_url} points to another address, which is not followed; "
                "pass the one that is meant as base_url="
            )
        if re.search(r"log_?probs", message, re.IGNORECASE):
            return self._no_logprobs_at_all(message)
        if "thinking" in message.lower():
            return UnsupportedError(
                f"the model {self.served!r} does not accept thinking={self._thinking}: {message} "
                f"Pass another number, such as thinking={LEAST_THINKING} (its scores then "
                "depend on thoughts drawn at random)"
            )
        if said.get("status") == "FAILED_PRECONDITION":
            return ServiceError(f"{self.base_url} serves no one with this account: {message}")
        return ScoringError(f"the service refuses it (status {status}): {message}")

    def _candidate(self, response: types.GenerateContentResponse) -> types.Candidate:
        blocked = response.prompt_feedback and response.prompt_feedback.block_reason
        if blocked:
            raise ScoringError(f"the service's content filter refuses the question ({blocked})")
        if not response.candidates:
            raise RetryError("the service's answer is not what generateContent answers")
        candidate = response.candidates[0]
        ended = candidate.finish_reason
        if ended is not None and ended.value not in ENDED:
            raise ScoringError(f"the service's content filter withheld the answer ({ended.value})")
        return candidate

    def _listed(self, candidate: types.Candidate) -> dict[str, float]:
        """Log-probabilities of the likeliest tokens where the answer begins."""
        result = candidate.logprobs_result
        rows = (result and result.top_candidates) or []
        drawn = [token.token or "" for token in (result and result.chosen_candidates) or []]
        begins = next((n for n, token in enumerate(drawn) if not CONTROL.fullmatch(token)), None)
        if begins is None or begins >= len(rows) or not rows[begins].candidates:
            if not _said(candidate) and self._thinking:
                raise ScoringError("it thought for as long as it could and gave no answer")
            raise self._no_logprobs()
        if self._thinking and not _said(candidate).startswith(drawn[begins]):
            # Where thoughts are listed too, the first token is none of the answer.
            raise ScoringError(
                f"the first listed token {drawn[begins]!r} does not begin the answer "
                f"{_said(candidate)[:40]!r}, so it is not known where the answer begins"
            )
        listed: dict[str, float] = {}
        for row in rows[begins].candidates or []:
            if row.token is not None and row.log_probability is not None:
                listed[row.token] = row.log_probability
        return listed

    def _no_logprobs(self) -> Exception:
        if self._without >= 0:
            self._without += 1
        if self._without >= PROBES:
            return self._no_logprobs_at_all("it answered without them")
        return RetryError("the answer came without log-probabilities")

    def _no_logprobs_at_all(self, why: str) -> UnsupportedError:
        return UnsupportedError(
            f"the model {self.served!r} at {self.base_url} does not list top_logprobs={self._top} "
            f"log-probabilities ({why}). Pass fewer, such as top_logprobs=5, or choose a model "
            "that has them, such as 'gemini-2.5-flash', or score by sampled answers as "
            f"'openai-compatible:{self.served}' with estimator='sampling' and "
            f"base_url='{HOME}/v1beta/openai'"
        )


def _said(candidate: types.Candidate) -> str:
    """The text of an answer, without thoughts."""
    parts = (candidate.content and candidate.content.parts) or []
    return "".join(part.text or "" for part in parts if not part.thought)


def _used(response: types.GenerateContentResponse) -> tuple[int, int, int]:
    """Tokens that went in, that came out or were thought, and how many of the first were cached."""
    usage = response.usage_metadata
    if usage is None:
        return 0, 0, 0
    out = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
    return usage.prompt_token_count or 0, out, usage.cached_content_token_count or 0


def _details(error: errors.APIError) -> dict[str, str]:
    """What an error says besides its message."""
    found: dict[str, str] = {}
    headers = getattr(error.response, "headers", None)
    if isinstance(headers, Mapping) and headers.get("retry-after"):
        found["after"] = str(headers["retry-after"])
    body = error.details.get("error") if isinstance(error.details, Mapping) else None
    if not isinstance(body, Mapping):
        return found
    found["status"] = str(body.get("status") or "")
    listed = body.get("details")
    for detail in listed if isinstance(listed, list) else []:
        if not isinstance(detail, Mapping):
            continue
        if detail.get("reason"):
            found["reason"] = str(detail["reason"])
        if re.fullmatch(r"[\d.]+s", str(detail.get("retryDelay"))):
            found["after"] = str(detail["retryDelay"])[:-1]
        if "PerDay" in json.dumps(detail.get("violations") or ""):
            found["per_day"] = "yes"
    return found
