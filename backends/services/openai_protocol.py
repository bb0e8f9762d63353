"""The protocol of OpenAI's chat completions, which many servers speak."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, ClassVar, Unpack

import openai

from t2v_eval.errors import InputError, ScoringError
from t2v_eval.remote.cost import Price
from t2v_eval.remote.request_pool import RetryError, seconds_to_wait

from .api_key import Key
from .base import FILES, FILTERED, Service, ServiceOptions
from .batches.openai import ChatDesk
from .bounded_reading import Reading, logs_without, reading
from .credentials import checked_address, directly, given_key, one_of
from .json_fields import NOT_JSON, entry, inner_error, rows, table, text_of, words
from .messages import How, Refusal, Reply, Said

NO_COMPLETION = "the service's answer is not a chat completion"
# What keeps a server from drawing in another way than the model says. OpenAI's own protocol has the
# first; others refuse what they do not know, and are then asked without it.
OPEN = {"top_k": -1, "min_p": 0, "repetition_penalty": 1}
DRAWING = ("top_p", "temperature", *OPEN)
_UNKNOWN = re.compile(
    r"(unknown|unrecogni[sz]ed|unsupported|unexpected|extra|additional|invalid)\W+(\w+\W+)?"
    r"(param|arg|field|input|propert|key)",
    re.IGNORECASE,
)
_ALWAYS_THINKS = re.compile(r"(o\d|gpt-5)(?!\w)")  # of OpenAI's models, which take no top_p
_MISPLACED = re.compile(r"\W*\w+\W*")


# How servers call it that an answer is whole, was cut, or was withheld; what they call otherwise
# is an answer of which nobody knows how much is there.
WHOLE = "stop|stop_?(?:string_?found|sequence)|eos|eos_?(?:found|token)|end|end_turn|completed?"
CUT = "length|max_tokens|max_output_tokens|model_length"
WITHHELD = "content_filter|sensitive|safety|guardrail\\w*"


class UntakenError(RetryError):
    """The service does not take parameters that it can be asked without."""

    def __init__(self, names: Collection[str], otherwise: Exception) -> None:
        super().__init__(str(otherwise))
        self.names, self.otherwise = set(names), otherwise


AsyncClient = reading(openai.DefaultAsyncHttpxClient)
Client = reading(openai.DefaultHttpxClient)


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
    key_variables: tuple[str, ...] = ("OPENAI_API_KEY",)
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
        self.identity_facts = {**self.identity_facts, **self._detail}
        self._extra = _json_object(extra_body)
        if self._extra:
            self.identity_facts["extra_body"] = json.dumps(self._extra, sort_keys=True)
        self._untaken = set[str]()
        self._client: openai.AsyncOpenAI

    @property
    def as_it_draws(self) -> dict[str, Any]:
        """What is said so that a server draws from all tokens, as likely as they are."""
        return {} if _ALWAYS_THINKS.match(self.served) else {"top_p": 1}

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
            http_client=AsyncClient(
                reading=Reading(self._key, self.timeout), **directly(self.base_url)
            ),
        ) as self._client:
            try:
                with logs_without(self._key):
                    yield
            finally:
                del self._client

    @contextmanager
    def desk(self) -> Iterator[ChatDesk]:
        with (
            openai.OpenAI(
                **self._client_options(),
                timeout=FILES,
                max_retries=self.limits.retries,
                http_client=Client(reading=Reading(self._key, FILES), **directly(self.base_url)),
            ) as client,
            logs_without(self._key),
        ):
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
        asked |= self.as_it_draws if how.temperature else {}
        asked |= {"logprobs": True, "top_logprobs": how.listed} if how.listed else {}
        asked |= {"n": how.samples} if how.samples > 1 else {}
        return asked | self._extra

    async def send(self, body: dict[str, Any]) -> Any:
        more = {name: said for name, said in body.items() if name in self._extra or name in OPEN}
        known = {name: said for name, said in body.items() if name not in more}
        ask = self._client.chat.completions.with_raw_response.create
        response = await ask(**known, extra_body=more)
        return self.parsed(response.text)

    async def ask(self, body: dict[str, Any]) -> Any:
        while True:
            sent = {name: said for name, said in body.items() if name not in self._untaken}
            try:
                return await super().ask(sent)
            except UntakenError as error:
                refused, otherwise = error.names & sent.keys(), error.otherwise
                if "temperature" in refused and sent["temperature"] != 1:
                    refused = set()
            if not refused:
                raise otherwise
            self._untaken |= refused
            self.another_request()

    def refused(self, no: Refusal) -> Exception:
        otherwise = super().refused(no)
        names = {name for name in DRAWING if name in no.message}
        if not names and (not no.message or _UNKNOWN.search(no.message)):
            names = set(OPEN)
        names = names - {"temperature"} or names  # the last to be left out
        taken = no.status not in (400, 422) or not names - self._extra.keys()
        return otherwise if taken else UntakenError(names - self._extra.keys(), otherwise)

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
            return RetryError(NOT_JSON)
        return None

    def reply(self, content: Any) -> Reply:
        if (error := inner_error(content)) is not None:
            raise self.inner(error)
        answers = rows(table(content).get("choices"))
        if not answers:
            raise self.no_answer(NO_COMPLETION, content)
        model = text_of(table(content).get("model"))
        return Reply([self._said(answer) for answer in answers], model or None)

    def used(self, content: Any) -> tuple[object, object, object]:
        usage = table(table(content).get("usage"))
        cached = table(usage.get("prompt_tokens_details")).get("cached_tokens")
        return usage.get("prompt_tokens"), usage.get("completion_tokens"), cached

    def _said(self, answer: Any) -> Said:
        choice, message = table(answer), table(table(answer).get("message"))
        ended, content = choice.get("finish_reason"), message.get("content")
        text, thought = _text(content), _text(message.get("reasoning_content"))
        thought = thought or _text(message.get("reasoning"))
        end = str(ended or "stop").casefold()
        whole, cut, withheld = (re.fullmatch(how, end) for how in (WHOLE, CUT, WITHHELD))
        misplaced = "</" in thought or (ended and whole and _MISPLACED.fullmatch(thought))
        text = text or (thought if misplaced else "")  # some servers take an answer for a thought
        refusal = message.get("refusal")
        for part in rows(content):
            refusal = refusal or table(part).get("refusal")
        problem: Exception | None = None
        if (error := inner_error(choice)) is not None or ended == "error":
            problem = self.inner(error or Refusal(0))
        elif withheld:
            problem = ScoringError(FILTERED)
        elif refusal:
            said = self.without_key(words(refusal) or "no reason given")
            problem = ScoringError(f"the model refuses to answer: {said[:80]}")
        elif not choice or not isinstance(content, (str, list, Mapping, type(None))):
            problem = self.no_answer(NO_COMPLETION, answer)
        elif not (whole or cut):
            said = self.without_key(words(ended)) or "in no way that is known"
            problem = RetryError(f"the service ended the answer early: {said}")
        first = table(next(iter(rows(table(choice.get("logprobs")).get("content"))), None))
        listed = [entry(row, "logprob") for row in rows(first.get("top_logprobs"))]
        drawn = entry(first, "logprob").token
        return Said(text, cut is not None, listed or None, drawn, bool(thought), problem)


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
    as_it_draws: ClassVar[dict[str, Any]] = {"top_p": 1, **OPEN}

    @classmethod
    def known_price(cls, model: str) -> Price | None:
        """None: a model of that name may cost anything elsewhere."""
        return None

    def find(
        self, base_url: str | None, key: str | None, key_file: str | os.PathLike[str] | None
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


def _text(content: object) -> str:
    """The text of a message, which may come in parts, thoughts among them."""
    if isinstance(content, str):
        return content
    parts = [content] if isinstance(content, Mapping) else rows(content)
    kinds = ("text", "output_text", None)
    told = [
        part if isinstance(part, str) else table(part).get("text")
        for part in parts
        if isinstance(part, str) or table(part).get("type") in kinds
    ]
    return "".join(map(text_of, told))


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
