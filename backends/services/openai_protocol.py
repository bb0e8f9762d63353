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
from typing_extensions import override

from t2v_eval.errors import InputError, ScoringError
from t2v_eval.remote.cost import Price
from t2v_eval.remote.request_pool import Limits, RetryError, seconds_to_wait

from .api_key import Key
from .batches.openai import OpenAIBatchClient
from .bounded_reading import MAX_ANSWER_BYTES, ReadLimits, limit_client, redact_logs
from .credentials import (
    check_base_url,
    client_kwargs,
    require_choice,
    require_text,
    resolve_api_key,
)
from .json_fields import (
    NOT_JSON,
    as_list,
    as_mapping,
    as_text,
    extract_message,
    parse_inner_error,
    parse_token_logprob,
)
from .messages import (
    NEUTRAL_PARAMS,
    SAMPLING_PARAMS,
    Completion,
    ErrorInfo,
    InnerError,
    ListedDigit,
    Response,
    SamplingParams,
    digit_places,
    with_sampled,
)
from .protocol import FILE_TIMEOUT, FILTERED_MESSAGE, AccessOptions, ServiceProtocol

NO_COMPLETION = "the service's answer is not a chat completion"
_REASONING_MODELS = re.compile(r"(o\d|gpt-5)(?!\w)")  # of OpenAI's models, which take no top_p
_SINGLE_WORD = re.compile(r"\W*\w+\W*")
# The request that vLLM repeats in a problem, whose parameters are not what it complains of.
_ECHO = re.compile(r", 'input': \{.*", re.DOTALL)

# Reasons by which servers say that an answer is complete, truncated or withheld. With any other
# reason it is not known how much of the answer is there.
COMPLETE = "stop|stop_?(?:string_?found|sequence)|eos|eos_?(?:found|token)|end|end_turn|completed?"
TRUNCATED = "length|max_tokens|max_output_tokens|model_length"
WITHHELD = "content_filter|sensitive|safety|guardrail\\w*"


AsyncClient = limit_client(openai.DefaultAsyncHttpxClient)
Client = limit_client(openai.DefaultHttpxClient)


class OpenAIProtocol(ServiceProtocol):
    """OpenAI's chat completions.

    Args:
        model: the service's name of the model.
        openai_key: `api_key` under its name in t2v_metrics.
        system: a system message before each question; default: none.
        detail: resolution of images, "low", "high" or "auto"; default: the service's.
        extra_body: further fields of each request, such as {"reasoning_effort": "minimal"}, or, for
            a reasoning model of vLLM, {"chat_template_kwargs": {"enable_thinking": False}}.
        access: see `ServiceProtocol`.

    Raises:
        InputError: an option is not valid.

    >>> OpenAIProtocol("gpt-4o", api_key="k", detail="low").settings
    {'detail': 'low'}
    """

    price_table = "openai"
    default_base_url = "https://api.openai.com/v1"
    base_url_variable = "OPENAI_BASE_URL"
    key_variables: ClassVar[tuple[str, ...]] = ("OPENAI_API_KEY",)
    missing_key_hint = ". A server that wants none is 'openai-compatible:...'"
    token_limit = "max_completion_tokens"
    max_answer_bytes = MAX_ANSWER_BYTES
    has_top_k = False

    def __init__(
        self,
        model: str,
        openai_key: str | None = None,
        detail: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        system: str | None = None,
        **access: Unpack[AccessOptions],
    ) -> None:
        require_choice("detail", detail, (None, "low", "high", "auto"))
        require_text("system", system)
        if openai_key:
            access["api_key"] = access.get("api_key") or openai_key
        super().__init__(model, **access)
        self._detail = {"detail": detail} if detail else {}
        self._extra = _json_object(extra_body)
        extra = {"extra_body": json.dumps(self._extra, sort_keys=True)} if self._extra else {}
        self._system = [{"role": "system", "content": system}] if system else []
        self.settings = {**self._detail, **extra, **({"system": repr(system)} if system else {})}

    @property
    def neutral_sampling(self) -> dict[str, Any]:
        """Parameters that make a server sample from the full distribution."""
        return {} if _REASONING_MODELS.match(self.model) else {"top_p": 1}

    def _client_options(self) -> dict[str, Any]:
        """Return the arguments of both clients.

        A custom address gets no headers that environment variables set for OpenAI's.
        """
        names = ["OpenAI-Organization", "OpenAI-Project"]
        lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()
        names += [line.partition(":")[0].strip() for line in lines if ":" in line]
        unsent = dict.fromkeys(names, openai.Omit()) if self.custom_address else {}
        return {
            "api_key": self.require_key(),
            "base_url": self.base_url,
            "default_headers": unsent,
        }

    @override
    @asynccontextmanager
    async def connect(self, timeout: float, limits: Limits) -> AsyncIterator[openai.AsyncOpenAI]:
        async with openai.AsyncOpenAI(
            **self._client_options(),
            timeout=timeout,
            max_retries=0,  # the pool asks again
            http_client=AsyncClient(
                read_limits=ReadLimits(self._key, timeout, self.max_answer_bytes),
                **client_kwargs(self.base_url),
            ),
        ) as client:
            with redact_logs(self._key):
                yield client

    @override
    @contextmanager
    def batch_client(self, limits: Limits) -> Iterator[OpenAIBatchClient]:
        with (
            openai.OpenAI(
                **self._client_options(),
                timeout=FILE_TIMEOUT,
                max_retries=limits.retries,
                http_client=Client(
                    read_limits=ReadLimits(self._key, FILE_TIMEOUT), **client_kwargs(self.base_url)
                ),
            ) as client,
            redact_logs(self._key),
        ):
            yield OpenAIBatchClient(client)

    @override
    def image_part(self, content: bytes, mime: str) -> dict[str, Any]:
        url = f"data:{mime};base64,{base64.b64encode(content).decode()}"
        return {"type": "image_url", "image_url": {"url": url, **self._detail}}

    @override
    def text_part(self, text: str) -> dict[str, Any]:
        return {"type": "text", "text": text}

    @override
    def request_body(self, parts: Sequence[Any], params: SamplingParams) -> dict[str, Any]:
        request = {
            "model": self.model,
            "messages": [*self._system, {"role": "user", "content": [*parts]}],
            "temperature": params.temperature,
            self.token_limit: params.max_tokens,
        }
        request |= {**self.neutral_sampling, **params.chosen} if params.temperature else {}
        if params.top_logprobs:
            request |= {"logprobs": True, "top_logprobs": params.top_logprobs}
        request |= {"n": params.num_samples} if params.num_samples > 1 else {}
        return request | self._extra

    @override
    async def send(self, client: openai.AsyncOpenAI, body: dict[str, Any]) -> Any:
        unnamed = self._extra.keys() | NEUTRAL_PARAMS.keys()  # not arguments of the client
        extra = {name: value for name, value in body.items() if name in unnamed}
        named = {name: value for name, value in body.items() if name not in extra}
        ask = client.chat.completions.with_raw_response.create
        response = await ask(**named, extra_body=extra)
        return self.parse_json(response.text)

    @override
    def sampling_params(self, body: dict[str, Any]) -> dict[str, Any]:
        omissible = SAMPLING_PARAMS - self._extra.keys()
        return {name: value for name, value in body.items() if name in omissible}

    @override
    def omit_params(self, body: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
        return {name: value for name, value in body.items() if name not in names}

    @override
    def parse_error(self, error: Exception) -> ErrorInfo | RetryError | TimeoutError | None:
        if isinstance(error, RetryError):
            return error
        if isinstance(error, openai.APIStatusError):
            return _parse_status_error(error)
        if isinstance(error, openai.APITimeoutError):
            return TimeoutError()
        if isinstance(error, openai.APIConnectionError):
            return self.connection_error(error.__cause__ or error)
        if isinstance(error, (ValueError, openai.APIError)):
            return RetryError(NOT_JSON)
        return None

    @override
    def parse_response(self, content: Any) -> Response:
        answers = as_list(as_mapping(content).get("choices"))
        if not answers:
            raise self.invalid_answer(NO_COMPLETION, content)
        model = as_text(as_mapping(content).get("model"))
        return Response([self._parse_completion(answer) for answer in answers], model or None)

    @override
    def parse_usage(self, content: Any) -> tuple[object, object, object]:
        usage = as_mapping(as_mapping(content).get("usage"))
        cached = as_mapping(usage.get("prompt_tokens_details")).get("cached_tokens")
        return usage.get("prompt_tokens"), usage.get("completion_tokens"), cached

    def _parse_completion(self, answer: Any) -> Completion:
        choice, message = as_mapping(answer), as_mapping(as_mapping(answer).get("message"))
        finish_reason, content = choice.get("finish_reason"), message.get("content")
        text, reasoning = _text(content), _text(message.get("reasoning_content"))
        reasoning = reasoning or _text(message.get("reasoning"))
        end = str(finish_reason or "stop").casefold()
        complete, truncated, withheld = (
            re.fullmatch(pattern, end) for pattern in (COMPLETE, TRUNCATED, WITHHELD)
        )
        single_word = finish_reason and complete and _SINGLE_WORD.fullmatch(reasoning)
        if not text and ("</" in reasoning or single_word):
            text = reasoning  # some servers take the answer for reasoning
        refusal = message.get("refusal")
        for part in as_list(content):
            refusal = refusal or as_mapping(part).get("refusal")
        error: Exception | None = None
        if (inner_error := parse_inner_error(choice)) is not None or finish_reason == "error":
            error = InnerError(inner_error or ErrorInfo(0))
        elif withheld:
            error = ScoringError(FILTERED_MESSAGE)
        elif refusal:
            explanation = self.redact_message(extract_message(refusal) or "no reason given")
            error = ScoringError(f"the model refuses to answer: {explanation[:80]}")
        elif not choice or not isinstance(content, (str, list, Mapping, type(None))):
            error = self.invalid_answer(NO_COMPLETION, answer)
        elif not (complete or truncated):
            explanation = self.redact_message(extract_message(finish_reason))
            explanation = explanation or "in no way that is known"
            error = RetryError(f"the service ended the answer early: {explanation}")
        tokens = as_list(as_mapping(choice.get("logprobs")).get("content"))
        first = as_mapping(next(iter(tokens), None))
        rows = as_list(first.get("top_logprobs"))
        top_logprobs = [parse_token_logprob(row, "logprob") for row in rows]
        sampled_token = parse_token_logprob(first, "logprob").token
        return Completion(
            text,
            truncated is not None,
            top_logprobs or None,
            sampled_token,
            bool(reasoning),
            error,
            _listed_digits(tokens, text) if tokens else None,
            not _texts(content),
        )


class CompatibleProtocol(OpenAIProtocol):
    """A server that speaks OpenAI's protocol, such as vLLM, SGLang or llama.cpp.

    Servers that need "max_completion_tokens", such as Azure for its newer models, are used as
    ``openai:MODEL`` with a `base_url`.

    Args:
        base_url: the address, for example ``http://localhost:8000/v1``; for Azure,
            ``https://NAME.openai.azure.com/openai/v1``, with the deployment as the model.
        api_key: only where the server needs one; OPENAI_API_KEY is never sent.
        options: see `OpenAIProtocol`.

    Raises:
        InputError: an option is not valid, or there is no address.

    >>> CompatibleProtocol("my-model", base_url="http://localhost:8000/v1/").address_facts
    {'server': 'http://localhost:8000/v1', 'model': 'my-model', 'order': 'image-text'}
    """

    # The image first: all questions about it share a prefix, which servers cache.
    image_first = True
    token_limit = "max_tokens"
    key_variables = ()
    has_top_k = True
    neutral_sampling: ClassVar[dict[str, Any]] = {"top_p": 1, **NEUTRAL_PARAMS}

    @override
    def table_price(self) -> Price | None:
        return None  # that of a model on another server is not known

    @override
    def resolve_endpoint(
        self, base_url: str | None, key: str | None, key_file: str | os.PathLike[str] | None
    ) -> tuple[str, Key]:
        if not base_url:
            raise InputError(
                "`base_url=` is needed: where the server is, for example http://localhost:8000/v1"
            )
        return check_base_url(base_url), Key(resolve_api_key(key, key_file) or "none")


def _listed_digits(tokens: Sequence[Any], text: str) -> list[ListedDigit]:
    listed = [as_mapping(token) for token in tokens]
    digits = []
    for number, start in digit_places(text, [_bytes_of(token) for token in listed]) or ():
        rows = as_list(listed[number].get("top_logprobs"))
        likeliest = [parse_token_logprob(row, "logprob") for row in rows]
        token = _bytes_of(listed[number]).decode().strip()
        sampled = parse_token_logprob(listed[number], "logprob")
        digits.append(ListedDigit(start, token, with_sampled(likeliest, sampled)))
    return digits


def _bytes_of(token: Mapping[str, Any]) -> bytes:
    """Return the bytes of a token, of which several may make one character."""
    try:
        return bytes(as_list(token.get("bytes"))) or as_text(token.get("token")).encode()
    except (TypeError, ValueError):
        return as_text(token.get("token")).encode()


def _json_object(extra_body: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        return dict(json.loads(json.dumps(extra_body or {})))
    except (TypeError, ValueError):
        raise InputError(
            f"`extra_body={extra_body!r}`; pass a mapping that JSON can hold"
        ) from None


def _text(content: object) -> str:
    return "".join(_texts(content))


def _texts(content: object) -> list[str]:
    """Return the texts of a message, which may come in parts, reasoning among them."""
    parts = content if isinstance(content, list) else [content]
    text_types = ("text", "output_text", None)
    texts = [
        part if isinstance(part, str) else as_mapping(part).get("text")
        for part in parts
        if isinstance(part, str) or as_mapping(part).get("type") in text_types
    ]
    return [text for text in texts if isinstance(text, str)]


def _parse_status_error(error: openai.APIStatusError) -> ErrorInfo:
    headers = error.response.headers
    retry_after = seconds_to_wait(headers.get("retry-after"))
    if (milliseconds := seconds_to_wait(headers.get("retry-after-ms"))) is not None:
        retry_after = milliseconds / 1000
    body = error.body
    if isinstance(body, list) and body and isinstance(body[0], Mapping):  # as Google words it
        body = body[0].get("error")
    quota_exhausted = isinstance(body, Mapping) and body.get("code") == "insufficient_quota"
    message = _error_message(body)
    invalid_key = error.status_code == 400 and message.startswith("API key not valid")
    return ErrorInfo(error.status_code, message, retry_after, invalid_key, quota_exhausted)


def _error_message(body: object) -> str:
    """Return the message of an error, of which servers have several forms; "" for HTML pages."""
    if isinstance(body, Mapping):
        message = body.get("message") or body.get("detail") or body.get("error") or ""
        if isinstance(message, list):
            message = [_without_input(entry) for entry in message]
        message = message if isinstance(message, str) else json.dumps(message)
        return _ECHO.sub("", message)
    return body if isinstance(body, str) and not body.lstrip().startswith("<") else ""


def _without_input(problem: object) -> object:
    """Return a problem as FastAPI lists it, without the request that it repeats."""
    if not isinstance(problem, Mapping):
        return problem
    return {name: value for name, value in problem.items() if name != "input"}
