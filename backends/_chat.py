"""A service that speaks OpenAI's chat completions: what is sent, what refusals mean, and keys."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import openai
from typing_extensions import Unpack

from t2v_eval.cost import Price
from t2v_eval.errors import InputError, ScoringError, ServiceError
from t2v_eval.media import Media
from t2v_eval.outcome import Scored
from t2v_eval.plan import Cells, Text
from t2v_eval.pool import RetryError, seconds_to_wait
from t2v_eval.remote import Answer, ApiOptions, ApiScorer

from ._batch import batch_cells
from ._data_url import data_url, smaller
from ._given import Key, between, checked_address, directly, given_price, one_of, read_key
from ._prices import picture_tokens, price_of, text_tokens

HOME = "https://api.openai.com/v1"
AGAIN = (408, 409, 429)  # and every 5xx
FILTERED = "the service's content filter withheld the answer"


class ChatOptions(ApiOptions, total=False):
    """What every scorer takes that asks such a service; see `Chat`."""

    api_key: str | None
    openai_key: str | None
    key_file: str | os.PathLike[str] | None
    base_url: str | None
    max_pixels: int | None
    detail: str | None
    price: Sequence[float] | None
    batch: bool
    poll: float


class Chat(ApiScorer[str]):
    """Asks one of OpenAI's models about a picture.

    Nothing is sent to any other host than the service's: redirects are not followed, and a proxy of
    the environment (HTTPS_PROXY) is used for an https address only, as a tunnel that it cannot read
    into; an http address is asked directly, whatever HTTP_PROXY says.

    Args:
        model: as the service calls it.
        api_key: default: the file `key_file`, then the environment variable OPENAI_API_KEY.
            `openai_key` is the same under its name in t2v_metrics.
        base_url: another address of the service; the variable's key is not sent there. Default:
            the environment variable OPENAI_BASE_URL, then OpenAI's own.
        max_pixels: make larger pictures smaller before they are sent; default: never.
        detail: "low", "high" or "auto", as the service understands it; default: not said.
        price: US dollars for a million tokens, in and out, where the table is not right.
        batch: ask through the Batch API: half the price, answered within a day; needs a store. A
            run that is interrupted goes on with what it submitted.
        poll: seconds between two looks at a batch.
        options: see `ApiScorer`.
    """

    image_first = False  # the reference puts the question first
    token_limit = "max_completion_tokens"
    answer_tokens = 1  # at most, for an estimate

    def __init__(
        self,
        model: str,
        api_key: str | None = None,
        openai_key: str | None = None,
        key_file: str | os.PathLike[str] | None = None,
        base_url: str | None = None,
        max_pixels: int | None = None,
        detail: str | None = None,
        price: Sequence[float] | None = None,
        batch: bool = False,
        poll: float = 30.0,
        **options: Unpack[ApiOptions],
    ) -> None:
        super().__init__(**options)
        one_of("detail", detail, (None, "low", "high", "auto"))
        between("max_pixels", max_pixels or 1, 1, 10**9)
        self.served, self.max_pixels = model, max_pixels
        self.price = self.known_price(model) if price is None else given_price(price)
        if self.max_cost is not None and self.price is None:
            raise InputError(
                f"max_cost= needs a price, and that of {model!r} is not known here: pass "
                "price=[in, out], US dollars for a million tokens, or use max_requests="
            )
        self.batch, self.poll = batch, poll
        if batch and (self.max_cost is not None or self.limits.max_requests is not None):
            raise InputError(
                "a batch is submitted as a whole, so batch=True keeps no max_cost= or "
                "max_requests=; see what it would cost with --dry-run"
            )
        if batch and self.price is not None:
            self.price = self.price.half()
        self.base_url, self._key = self.find(base_url, api_key or openai_key, key_file)
        self.facts = {"server": self.base_url} if self.base_url != HOME else {}
        self.facts |= {"model": model, "order": "image-text" if self.image_first else "text-image"}
        self.facts |= {"detail": detail} if detail else {}
        self.facts |= {"max_pixels": str(max_pixels)} if max_pixels else {}
        self._detail = {"detail": detail} if detail else {}
        self._client: openai.AsyncOpenAI

    @classmethod
    def find(
        cls, base_url: str | None, key: str | None, key_file: str | os.PathLike[str] | None
    ) -> tuple[str, Key]:
        """Where to ask, and with which key."""
        given = key or (read_key(key_file) if key_file else "")
        if base_url is None:
            base_url = os.environ.get("OPENAI_BASE_URL") or HOME
            given = given or os.environ.get("OPENAI_API_KEY", "").strip()
        return checked_address(base_url), Key(given)

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
        return tokens + text_tokens(self.template.fill(text)[0]), self.answer_tokens

    def _needed_key(self) -> str:
        if not self._key.reveal():  # said now, since what is in the store needs none
            raise InputError(
                "a key is needed: pass api_key= or key_file=, or set OPENAI_API_KEY (which is not "
                "sent to a base_url= of yours). A server that wants none is 'openai-compatible:...'"
            )
        return self._key.reveal()

    def blocking_client(self) -> openai.OpenAI:
        """For the few requests of batches, which the client itself repeats."""
        return openai.OpenAI(
            api_key=self._needed_key(),
            base_url=self.base_url,
            timeout=max(self.timeout, 600.0),  # files are large
            max_retries=self.limits.retries,
            http_client=openai.DefaultHttpxClient(**directly(self.base_url)),
        )

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        key = self._needed_key()
        http = openai.DefaultAsyncHttpxClient(**directly(self.base_url))
        async with openai.AsyncOpenAI(
            api_key=key,
            base_url=self.base_url,
            timeout=self.timeout,
            max_retries=0,  # the pool asks again
            http_client=http,
        ) as self._client:
            try:
                yield
            finally:
                del self._client

    def pack(self, media: Media) -> str:
        return data_url(media, self.load_image(media), self.image_mode, self.max_pixels)

    @abstractmethod
    def body(self, image: str, text: str) -> dict[str, Any]:
        """What is asked for a cell."""

    @abstractmethod
    def read(self, content: Mapping[str, Any], text: str) -> Answer:
        """What the service's answer means; raises as `score_cell`."""

    async def score_cell(self, image: str, text: str) -> Answer:
        return self.read(await self.ask(self.body(image, text)), text)

    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[Scored]:
        if self.batch:
            return batch_cells(self, images, texts, cells)
        return super().score_cells(images, texts, cells)

    async def complete(self, image: str, prompt: str, max_new_tokens: int) -> str:
        content = await self.ask(self.to_write(image, prompt, max_new_tokens))
        text, ended = written(content)
        if not text and ended == "length":
            raise ScoringError(
                f"nothing was written within {max_new_tokens} tokens; a model that thinks first "
                "needs more"
            )
        return text

    def to_write(self, image: str, prompt: str, tokens: int) -> dict[str, Any]:
        """What is asked for a text, without drawing at random."""
        asking = {"model": self.served, "temperature": 0, self.token_limit: tokens}
        return {"messages": self.messages(image, prompt), **asking}

    def without_key(self, message: str) -> str:
        """What a service says, without the key."""
        return self._key.hidden(message)

    @staticmethod
    def used(content: Mapping[str, Any]) -> tuple[int, int, int]:
        """Tokens that went in and came out, and how many of the first were cached."""
        return _used(content)

    def messages(self, image: str, question: str) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = [
            {"type": "text", "text": question},
            {"type": "image_url", "image_url": {"url": image, **self._detail}},
        ]
        return [{"role": "user", "content": parts[::-1] if self.image_first else parts}]

    async def ask(self, body: dict[str, Any]) -> dict[str, Any]:
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
            problem = self.refused(error)
        except openai.APITimeoutError:
            problem = RetryError(f"no answer within {self.timeout:g} s")
        except openai.APIConnectionError as error:
            cause = type(error.__cause__ or error).__name__
            problem = RetryError(f"no connection to {self.base_url} ({cause})")
        except (ValueError, openai.APIError):
            problem = RetryError("the service's answer is not JSON")
        raise problem  # not within `except`: what the service said may hold the key

    def refused(self, error: openai.APIStatusError) -> Exception:
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
        if status == 400 and (why := self.unable(message)) is not None:
            return why
        if 300 <= status < 400:
            return ServiceError(
                f"{self.base_url} points to another address, which is not followed; "
                "pass the one that is meant as base_url="
            )
        return ScoringError(f"the service refuses it (status {status}): {message}")

    def unable(self, message: str) -> Exception | None:
        """What to say where the service refuses what every question asks for."""
        return None

    def _message(self, error: openai.APIStatusError) -> tuple[str, str]:
        """What the service says, without the key, and its code."""
        body = error.body if isinstance(error.body, Mapping) else {}
        message = str(body.get("message") or "no reason given")
        return self._key.hidden(message)[:300], str(body.get("code") or "")


class Compatible(Chat):
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
        return checked_address(base_url), Key(key or (read_key(key_file) if key_file else "none"))


def choices_of(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    choices = content.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise RetryError("the service's answer is not a chat completion")
    return choices


def said(choice: Mapping[str, Any]) -> str:
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


def written(content: Mapping[str, Any]) -> tuple[str, str]:
    """What the model wrote, and why it ended."""
    choice = choices_of(content)[0]
    if choice.get("finish_reason") == "content_filter":
        raise ScoringError(FILTERED)
    return said(choice), str(choice.get("finish_reason") or "")


def served_by(content: Mapping[str, Any]) -> dict[str, str]:
    """Which model answered, by its full name."""
    return {"model": content["model"]} if isinstance(content.get("model"), str) else {}
