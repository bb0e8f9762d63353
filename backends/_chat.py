"""The protocol of OpenAI's chat completions, which many servers speak."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, ClassVar, Unpack

import openai

from t2v_eval.cost import Price
from t2v_eval.errors import InputError, ScoringError
from t2v_eval.pool import RetryError, seconds_to_wait

from ._asked import How, Refusal, Reply, Said
from ._chat_batch import ChatDesk
from ._given import Key, checked_address, directly, given_key, one_of
from ._service import FILTERED, Service, ServiceOptions

NO_COMPLETION = "the service's answer is not a chat completion"


class Chat(Service):
    """Asks one of OpenAI's models.

    Args:
        model: as the service calls it.
        openai_key: `api_key` under its name in t2v_metrics.
        detail: "low", "high" or "auto", as the service understands it; default: not said.
        extra_body: what else each question says, such as {"reasoning_effort": "minimal"}, or for
            a model of vLLM that thinks {"chat_template_kwargs": {"enable_thinking": False}}.
        options: see `Service`.
    """

    table = "openai"
    home = "https://api.openai.com/v1"
    home_variable = "OPENAI_BASE_URL"
    key_variables: ClassVar[tuple[str, ...]] = ("OPENAI_API_KEY",)
    no_key = ". A server that wants none is 'openai-compatible:...'"
    token_limit = "max_completion_tokens"

    def __init__(
        self,
        model: str,
        openai_key: str | None = None,
        detail: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        **options: Unpack[ServiceOptions],
    ) -> None:
        one_of("detail", detail, (None, "low", "high", "auto"))
        if openai_key:
            options["api_key"] = options.get("api_key") or openai_key
        super().__init__(model, **options)
        self._detail = {"detail": detail} if detail else {}
        self.facts = {**self.facts, **self._detail}
        self._extra = _json_object(extra_body)
        if self._extra:
            self.facts["extra_body"] = json.dumps(self._extra, sort_keys=True)
        self._client: openai.AsyncOpenAI

    def _client_options(self) -> dict[str, Any]:
        """What both clients are made with. An address of the user's gets nothing that variables of
        the environment say of another one."""
        names = ["OpenAI-Organization", "OpenAI-Project"]
        lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()
        names += [line.partition(":")[0].strip() for line in lines if ":" in line]
        unsent = dict.fromkeys(names, openai.Omit()) if self.own_address else {}
        return {
            "api_key": self.needed_key(),
            "base_url": self.base_url,
            "default_headers": unsent,
        }

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        async with openai.AsyncOpenAI(
            **self._client_options(),
            timeout=self.timeout,
            max_retries=0,  # the pool asks again
            http_client=openai.DefaultAsyncHttpxClient(**directly(self.base_url)),
        ) as self._client:
            try:
                yield
            finally:
                del self._client

    @contextmanager
    def desk(self) -> Iterator[ChatDesk]:
        with openai.OpenAI(
            **self._client_options(),
            timeout=max(self.timeout, 600.0),  # files are large
            max_retries=self.limits.retries,
            http_client=openai.DefaultHttpxClient(**directly(self.base_url)),
        ) as client:
            yield ChatDesk(client)

    def picture(self, content: bytes, mime: str) -> dict[str, Any]:
        url = f"data:{mime};base64,{base64.b64encode(content).decode()}"
        return {"type": "image_url", "image_url": {"url": url, **self._detail}}

    def wording(self, text: str) -> dict[str, Any]:
        return {"type": "text", "text": text}

    def body(self, parts: Sequence[Any], how: How) -> dict[str, Any]:
        asked = {
            "model": self.served,
            "messages": [{"role": "user", "content": [*parts]}],
            "temperature": how.temperature,
            self.token_limit: how.tokens,
        }
        asked |= {"logprobs": True, "top_logprobs": how.listed} if how.listed else {}
        asked |= {"n": how.samples} if how.samples > 1 else {}
        return asked | self._extra

    async def send(self, body: dict[str, Any]) -> dict[str, Any]:
        known = {name: said for name, said in body.items() if name not in self._extra}
        ask = self._client.chat.completions.with_raw_response.create
        response = await ask(**known, extra_body=self._extra)
        content = json.loads(response.text)
        if not isinstance(content, dict):
            raise RetryError(NO_COMPLETION)
        return content

    def refusal(self, error: Exception) -> Refusal | RetryError | None:
        if isinstance(error, RetryError):
            return error
        if isinstance(error, openai.APIStatusError):
            return _refusal(error)
        if isinstance(error, openai.APITimeoutError):
            return RetryError(f"no answer within {self.timeout:g} s")
        if isinstance(error, openai.APIConnectionError):
            return self.no_connection(error.__cause__ or error)
        if isinstance(error, (ValueError, openai.APIError)):
            return RetryError("the service's answer is not JSON")
        return None

    def reply(self, content: Mapping[str, Any]) -> Reply:
        choices = content.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise RetryError(NO_COMPLETION)
        model = content.get("model")
        said = [_said(choice) for choice in choices]
        return Reply(said, model if isinstance(model, str) else None)

    def used(self, content: Mapping[str, Any]) -> tuple[int, int, int]:
        def count(table: Any, name: str) -> int:
            found = table.get(name) if isinstance(table, Mapping) else None
            return found if isinstance(found, int) else 0

        usage = content.get("usage")
        details = usage.get("prompt_tokens_details") if isinstance(usage, Mapping) else None
        cached = count(details, "cached_tokens")
        return count(usage, "prompt_tokens"), count(usage, "completion_tokens"), cached


class Compatible(Chat):
    """Asks a server that speaks OpenAI's protocol, such as vLLM, SGLang or llama.cpp.

    One that wants "max_completion_tokens", such as Azure for its newer models, is asked as
    ``openai:MODEL`` with a `base_url`.

    Args:
        base_url: where it is, for example ``http://localhost:8000/v1``; of Azure,
            ``https://NAME.openai.azure.com/openai/v1``, where the model is the deployment.
        api_key: only where the server wants one; OPENAI_API_KEY is never sent.
    """

    # The picture first: all questions about it then share a prefix, which servers keep.
    image_first = True
    token_limit = "max_tokens"
    key_variables = ()

    @classmethod
    def known_price(cls, model: str) -> Price | None:
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
        return checked_address(base_url), Key(given_key(key, key_file) or "none")


def _json_object(extra_body: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        return dict(json.loads(json.dumps(extra_body or {})))
    except (TypeError, ValueError):
        raise InputError(f"extra_body={extra_body!r}; pass a mapping that JSON can hold") from None


def _said(choice: Any) -> Said:
    if not isinstance(choice, Mapping):
        raise RetryError(NO_COMPLETION)
    ended, message = choice.get("finish_reason"), choice.get("message")
    if ended == "content_filter":
        raise ScoringError(FILTERED)
    message = message if isinstance(message, Mapping) else {}
    if message.get("refusal"):
        raise ScoringError(f"the model refuses to answer: {str(message['refusal'])[:80]}")
    first = _first_token(choice)
    return Said(str(message.get("content") or ""), ended == "length", _listed(first), _token(first))


def _first_token(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is said of the first token, where it is."""
    try:
        first = choice["logprobs"]["content"][0]
    except (KeyError, TypeError, IndexError):
        return {}
    return first if isinstance(first, Mapping) else {}


def _token(first: Mapping[str, Any]) -> str | None:
    return str(first["token"]) if "token" in first else None


def _listed(first: Mapping[str, Any]) -> list[tuple[str, float]] | None:
    """Log-probabilities of the likeliest tokens; different ones may be the same as text."""
    try:
        return [(str(row["token"]), float(row["logprob"])) for row in first["top_logprobs"]]
    except (KeyError, TypeError, ValueError):
        return None


def _refusal(error: openai.APIStatusError) -> Refusal:
    headers = error.response.headers
    after = seconds_to_wait(headers.get("retry-after"))
    if (ms := seconds_to_wait(headers.get("retry-after-ms"))) is not None:
        after = ms / 1000
    body = error.body
    if isinstance(body, list) and body and isinstance(body[0], Mapping):  # as Google words it
        body = body[0].get("error")
    spent = isinstance(body, Mapping) and body.get("code") == "insufficient_quota"
    message = _message(body)
    key = error.status_code == 400 and message.startswith("API key not valid")
    return Refusal(error.status_code, message, after, key, spent)


def _message(body: object) -> str:
    """What a refusal says; servers have several forms. A page for browsers says nothing."""
    if isinstance(body, Mapping):
        told = body.get("message") or body.get("detail") or body.get("error") or ""
        return told if isinstance(told, str) else json.dumps(told)
    return body if isinstance(body, str) and not body.lstrip().startswith("<") else ""
