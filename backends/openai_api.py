"""VQAScore by asking a service that speaks OpenAI's chat completions.

One token is generated for each picture and text. The score is the probability of the answer, summed
over its forms ("Yes", "yes", " Yes") among the 20 likeliest tokens; Lin et al. 2024, eq. 2.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
from typing_extensions import Unpack

from t2v_eval.cost import Price
from t2v_eval.errors import InputError, ScoringError, ServiceError, TemplateError, UnsupportedError
from t2v_eval.media import Media
from t2v_eval.pool import RetryError, seconds_to_wait
from t2v_eval.remote import Answer, ApiOptions, ApiScorer

from ._answers import OPPOSITE, RULES, Listed, plain_form, share
from ._data_url import data_url, smaller
from ._prices import picture_tokens, price_of, text_tokens

HOME = "https://api.openai.com/v1"
AGAIN = (408, 409, 429)  # and every 5xx
PROBES = 3  # answers without log-probabilities before the model is taken to have none
SAMPLES = 16


class OpenAIScorer(ApiScorer[str]):
    """Asks one of OpenAI's models.

    Args:
        model: as the service calls it.
        api_key: default: the file `key_file`, then the environment variable OPENAI_API_KEY.
            `openai_key` is the same under its name in t2v_metrics.
        base_url: another address of the service; the variable's key is not sent there. Default:
            the environment variable OPENAI_BASE_URL, then OpenAI's own.
        rule: "probability" of the answer, or "yes-no", its share of yes and no.
        top_logprobs: how many tokens the service lists, 20 at most.
        estimator: "logprobs", or "sampling" for models that tell none: the share of `n` answers.
        max_tokens: of an answer; one is enough where the model does not think first.
        max_pixels: make larger pictures smaller before they are sent; default: never.
        price: US dollars for a million tokens, in and out, where the table is not right.
        detail: "low", "high" or "auto", as the service understands it; default: not said.
    """

    default_template = "vqascore"
    image_first = False  # the reference puts the question first
    token_limit = "max_completion_tokens"

    def __init__(
        self,
        model: str,
        api_key: str | None = None,
        openai_key: str | None = None,
        key_file: str | os.PathLike[str] | None = None,
        base_url: str | None = None,
        rule: str = "probability",
        top_logprobs: int = 20,
        estimator: str = "logprobs",
        n: int = SAMPLES,
        max_tokens: int = 1,
        max_pixels: int | None = None,
        detail: str | None = None,
        price: Sequence[float] | None = None,
        **options: Unpack[ApiOptions],
    ) -> None:
        super().__init__(**options)
        _one_of("rule", rule, RULES)
        _one_of("estimator", estimator, ("logprobs", "sampling"))
        _one_of("detail", detail, (None, "low", "high", "auto"))
        _between("top_logprobs", top_logprobs, 1, 20)
        _between("n", n, 1, 1000)
        _between("max_tokens", max_tokens, 1, 10**6)
        _between("max_pixels", max_pixels or 1, 1, 10**9)
        self.served, self.rule, self.max_pixels = model, rule, max_pixels
        self.price = self.known_price(model) if price is None else _given(price)
        if self.max_cost is not None and self.price is None:
            raise InputError(
                f"max_cost= needs a price, and that of {model!r} is not known here: pass "
                "price=[in, out], US dollars for a million tokens, or use max_requests="
            )
        self.base_url, self._key = self.find(base_url, api_key or openai_key, key_file)
        self.facts = {"server": self.base_url} if self.base_url != HOME else {}
        self.facts |= {"model": model, "order": "image-text" if self.image_first else "text-image"}
        self.facts |= {"detail": detail} if detail else {}
        self.facts |= {"max_pixels": str(max_pixels)} if max_pixels else {}
        self._detail = {"detail": detail} if detail else {}
        self._asking: dict[str, Any] = {"model": model, "temperature": 1}
        self._samples = n if estimator == "sampling" else 0
        if self._samples:
            self.facts |= {"estimator": "sampling", "n": str(n), "max_tokens": str(max_tokens)}
            self._asking[self.token_limit] = max_tokens
        else:
            self.facts |= {"rule": rule, "top_logprobs": str(top_logprobs)}
            self._asking |= {self.token_limit: 1, "logprobs": True, "top_logprobs": top_logprobs}
        self._max_tokens = max_tokens
        self._client: openai.AsyncOpenAI
        self._without = 0  # answers without log-probabilities; -1 once one came with them

    @classmethod
    def find(
        cls, base_url: str | None, key: str | None, key_file: str | os.PathLike[str] | None
    ) -> tuple[str, Key]:
        """Where to ask, and with which key."""
        given = key or (_read_key(key_file) if key_file else "")
        if base_url is None:
            base_url = os.environ.get("OPENAI_BASE_URL") or HOME
            given = given or os.environ.get("OPENAI_API_KEY", "").strip()
        return _checked(base_url), Key(given)

    @staticmethod
    def known_price(model: str) -> Price | None:
        """What the table beside this file says."""
        return price_of(model)

    def expected_tokens(self, media: Media, text: str) -> tuple[int, int] | None:
        image = media.load()
        width, height = smaller(image.width, image.height, self.max_pixels)
        tokens = picture_tokens(self.served, width, height, self._detail.get("detail"))
        if tokens is None:
            return None
        each = self._samples or 1
        return tokens + text_tokens(self.template.fill(text)[0]), each * self._max_tokens

    def check_template(self) -> None:
        super().check_template()
        answer = self.template.answer
        if not re.fullmatch(r"\s*\w+\s*", answer):
            raise TemplateError(
                f"{self.name!r} scores the first word of an answer, so the answer template must be "
                f"one word, such as 'Yes', not {answer!r}"
            )
        if self.rule == "yes-no" and plain_form(answer) not in OPPOSITE:
            raise TemplateError(
                f"rule='yes-no' needs the answer Yes or No, not {answer!r}; use rule='probability'"
            )

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        if not self._key.reveal():  # said now, since what is in the store needs none
            raise InputError(
                "a key is needed: pass api_key= or key_file=, or set OPENAI_API_KEY (which is not "
                "sent to a base_url= of yours). A server that wants none is 'openai-compatible:...'"
            )
        # A redirect would carry pictures to a host that nobody named. Retries are the pool's.
        http = openai.DefaultAsyncHttpxClient(follow_redirects=False)
        async with openai.AsyncOpenAI(
            api_key=self._key.reveal(),
            base_url=self.base_url,
            timeout=self.timeout,
            max_retries=0,
            http_client=http,
        ) as self._client:
            try:
                yield
            finally:
                del self._client

    def pack(self, media: Media) -> str:
        return data_url(media, self.load_image(media), self.image_mode, self.max_pixels)

    async def score_cell(self, image: str, text: str) -> Answer:
        question, answer = self.template.fill(text)
        body = {"messages": self._messages(image, question), **self._asking}
        if self._samples:
            return await self._sampled(body, answer)
        content = await self._ask(body)
        choice = _choices(content)[0]
        listed = _listed(choice)
        if listed is None:
            raise self._no_logprobs(choice)
        self._without = -1
        found = Listed.of(listed, answer)
        kept = {"answer": found.answer, "opposite": found.opposite, "listed": found.mass}
        return Answer(found.score(self.rule, answer), json.dumps(kept | _served(content)))

    async def _sampled(self, body: dict[str, Any], answer: str) -> Answer:
        samples: list[str] = []
        while len(samples) < self._samples:
            content = await self._ask({**body, "n": self._samples - len(samples)})
            samples += [_said(choice) for choice in _choices(content)]
        return Answer(share(samples, answer), json.dumps({"samples": samples} | _served(content)))

    def _messages(self, image: str, question: str) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = [
            {"type": "text", "text": question},
            {"type": "image_url", "image_url": {"url": image, **self._detail}},
        ]
        return [{"role": "user", "content": parts[::-1] if self.image_first else parts}]

    async def _ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """One request: its answer as JSON, or what there is to do about it."""
        problem: Exception
        try:
            response = await self._client.chat.completions.with_raw_response.create(**body)
            content = json.loads(response.text)
            if isinstance(content, dict):
                self.note_usage(*_used(content))
                return content
            problem = RetryError("the service's answer is not a chat completion")
        except openai.APIStatusError as error:
            problem = self._refused(error)
        except openai.APITimeoutError:
            problem = RetryError(f"no answer within {self.timeout:g} s")
        except openai.APIConnectionError as error:
            cause = type(error.__cause__ or error).__name__
            problem = RetryError(f"no connection to {self.base_url} ({cause})")
        except (ValueError, openai.APIError):
            problem = RetryError("the service's answer is not JSON")
        raise problem  # not within `except`: what the service said may hold the key

    def _refused(self, error: openai.APIStatusError) -> Exception:
        status, headers = error.status_code, error.response.headers
        message, code = self._message(error)
        if status in (401, 403):
            return ServiceError(
                f"{self.base_url} refuses the key (status {status}); check api_key=, "
                "key_file= or OPENAI_API_KEY, and that it may use the model "
                f"{self.served!r}"
            )
        if status == 404:
            return ServiceError(
                f"{self.base_url} does not know the model {self.served!r} or the address: {message}"
            )
        if code == "insufficient_quota":
            return ServiceError(f"the account at {self.base_url} is used up: {message}")
        if status in AGAIN or status >= 500:
            waits = headers.get("retry-after-ms"), headers.get("retry-after")
            after = seconds_to_wait(waits[1])
            if waits[0] is not None and (ms := seconds_to_wait(waits[0])) is not None:
                after = ms / 1000
            return RetryError(f"the service answers {status}", after, too_many=status == 429)
        if status == 400 and re.search(r"log_?probs", message) and not self._samples:
            return self._needs_sampling(message)
        if 300 <= status < 400:
            return ServiceError(
                f"{self.base_url} points to another address, which is not followed; "
                "pass the one that is meant as base_url="
            )
        return ScoringError(f"the service refuses it (status {status}): {message}")

    def _message(self, error: openai.APIStatusError) -> tuple[str, str]:
        """What the service says, without the key, and its code."""
        body = error.body if isinstance(error.body, Mapping) else {}
        message = str(body.get("message") or "no reason given")
        return self._key.hidden(message)[:300], str(body.get("code") or "")

    def _no_logprobs(self, choice: Mapping[str, Any]) -> Exception:
        if choice.get("finish_reason") == "content_filter":
            return ScoringError("the service's content filter withheld the answer")
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


class CompatibleScorer(OpenAIScorer):
    """Asks a server that speaks OpenAI's protocol, such as vLLM, SGLang or llama.cpp.

    Args:
        base_url: where it is, for example ``http://localhost:8000/v1``.
        api_key: only where the server wants one; OPENAI_API_KEY is never sent.
    """

    # The picture first: all questions about it then share a prefix, which servers keep.
    image_first = True
    token_limit = "max_tokens"

    @staticmethod
    def known_price(model: str) -> Price | None:
        """None: a model of that name may cost anything elsewhere."""
        return None

    @classmethod
    def find(
        cls, base_url: str | None, key: str | None, key_file: str | os.PathLike[str] | None
    ) -> tuple[str, Key]:
        if not base_url:
            raise InputError(
                "base_url= is needed: where the server is, for example http://localhost:8000/v1"
            )
        return _checked(base_url), Key(key or (_read_key(key_file) if key_file else "none"))


class Key:
    """A key that no `repr`, traceback or pickle shows by accident."""

    __slots__ = ("reveal",)

    def __init__(self, key: str) -> None:
        self.reveal: Callable[[], str] = lambda: key

    def __repr__(self) -> str:
        return "Key(hidden)"

    def hidden(self, message: str) -> str:
        """The message without the key, or what looks like one."""
        return re.sub(r"\bsk-[\w*-]+", "[key]", message.replace(self.reveal() or "[key]", "[key]"))


def _read_key(path: str | os.PathLike[str]) -> str:
    try:
        key = Path(path).expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"key_file={os.fspath(path)!r} cannot be read: {error}") from None
    if not key or any(character.isspace() for character in key):
        raise InputError(f"key_file={os.fspath(path)!r} must hold one key and nothing else")
    return key


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError("base_url must be an address such as http://localhost:8000/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InputError(
            "base_url must be an address alone, without user, password or anything after '?': it "
            "is part of the scorer's id. Pass the key as api_key="
        )
    return url.rstrip("/")


def _choices(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    choices = content.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise RetryError("the service's answer is not a chat completion")
    return choices


def _said(choice: Mapping[str, Any]) -> str:
    message = choice.get("message")
    return str(message.get("content") or "") if isinstance(message, Mapping) else ""


def _used(content: Mapping[str, Any]) -> tuple[int, int, int]:
    """Tokens that went in and came out, and how many of the first were cached."""

    def count(table: Any, name: str) -> int:
        found = table.get(name) if isinstance(table, Mapping) else None
        return found if isinstance(found, int) else 0

    usage = content.get("usage")
    details = usage.get("prompt_tokens_details") if isinstance(usage, Mapping) else None
    cached = count(details, "cached_tokens")
    return count(usage, "prompt_tokens"), count(usage, "completion_tokens"), cached


def _given(price: Sequence[float]) -> Price:
    if (
        isinstance(price, str)
        or len(price) != 2
        or not all(isinstance(dollars, (int, float)) and dollars >= 0 for dollars in price)
    ):
        raise InputError(
            f"price={price!r}; pass two numbers: US dollars for a million tokens in, out"
        )
    return Price(price[0], price[1])


def _served(content: Mapping[str, Any]) -> dict[str, str]:
    """Which model answered, by its full name."""
    return {"model": content["model"]} if isinstance(content.get("model"), str) else {}


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


def _one_of(what: str, value: object, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        named = [repr(choice) for choice in choices if choice]
        raise InputError(f"{what}={value!r}; use {' or '.join(named)}")


def _between(what: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{what}={value!r}; pass a whole number from {low} to {high}")
