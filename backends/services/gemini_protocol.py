"""The protocol of Gemini, of Google's Developer API and of Vertex AI.

It needs the package google-genai (``pip install 't2v-eval[gemini]'``, Python 3.11 or newer).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, ClassVar, Unpack
from urllib.parse import urlsplit

import google.genai
import httpx2
from google.genai import errors, types
from typing_extensions import override

from t2v_eval.errors import ScoringError, ServiceError, UnsupportedError
from t2v_eval.remote.cost import tokens
from t2v_eval.remote.request_pool import Limits, RetryError, seconds_to_wait

from .api_key import Key
from .batches.gemini import GeminiBatchClient
from .bounded_reading import ReadLimits, limit_client, redact_logs
from .credentials import client_kwargs, require_int_in, require_text
from .json_fields import as_list, as_mapping, as_text, parse_inner_error, parse_token_logprob
from .messages import (
    SAMPLING_PARAMS,
    Completion,
    ErrorInfo,
    InnerError,
    ListedDigit,
    Response,
    SamplingParams,
    TokenLogprob,
    digit_places,
    with_sampled,
)
from .protocol import (
    FILE_TIMEOUT,
    FILTERED_MESSAGE,
    AccessOptions,
    ExplainRejection,
    ServiceProtocol,
)
from .vertex import Vertex, choose_vertex, sign_in_error

FINISHED = ("STOP", "MAX_TOKENS")
CONTROL = re.compile(r"<ctrl\d+>")  # a token that begins or ends the reasoning
OPEN_REASONING = re.compile(r"<ctrl94>(?!.*<ctrl95>)", re.DOTALL)
MIN_THINKING = 128  # minimum of models that always reason
USE_VERTEX = (
    ". Google's Developer API is reported to refuse log-probabilities of Gemini 2.5, and Vertex AI "
    'to give them: pass `vertexai=True`, `project="..."` and `location="us-central1"`'
)
NO_CONTENT = "the service's answer is not what generateContent answers"

AsyncClient = limit_client(httpx2.AsyncClient)
Client = limit_client(httpx2.Client)


class GeminiProtocol(ServiceProtocol):
    """Google's generateContent, of the Developer API.

    A reasoning model samples its reasoning, so its scores differ from run to run; `thinking` is 0
    wherever a model allows it.

    Args:
        model: the service's name of the model.
        thinking: maximum of reasoning tokens before the answer. Default: 0, and 128 for the "pro"
            models, which always reason.
        system: a system instruction before each question; default: none.
        access: see `ServiceProtocol`.

    Raises:
        InputError: an option is not valid.

    >>> GeminiProtocol("gemini-2.5-pro", api_key="k").settings
    {'thinking': '128'}
    """

    price_table = "google"
    default_base_url = "https://generativelanguage.googleapis.com"
    base_url_variable = "GOOGLE_GEMINI_BASE_URL"
    key_variables: ClassVar[tuple[str, ...]] = (
        "GOOGLE_API_KEY",
        "GEMINI_API_KEY",
    )  # Google's order
    api_version: ClassVar[str] = "v1beta"

    def __init__(
        self,
        model: str,
        thinking: int | None = None,
        system: str | None = None,
        **access: Unpack[AccessOptions],
    ) -> None:
        super().__init__(model, **access)
        if thinking is None:
            thinking = MIN_THINKING if "pro" in model.split("-") else 0
        require_int_in("thinking", thinking, 0, 2**15)
        self.num_reasoning_tokens = thinking
        require_text("system", system)
        self.system = system or None
        self.settings = {"thinking": str(thinking), **({"system": repr(system)} if system else {})}
        self.max_samples = 8

    def _client_options(self) -> dict[str, Any]:
        """Return the arguments of a client that say who asks."""
        return {"api_key": self.require_key(), "vertexai": False}

    def _client_for(self, seconds: float, **options: Any) -> google.genai.Client:
        about = types.HttpOptions(
            base_url=self.base_url,
            api_version=self.api_version,
            timeout=math.ceil(seconds * 1000),
            **options,
        )
        return google.genai.Client(http_options=about, **self._client_options())

    @override
    @asynccontextmanager
    async def connect(
        self, timeout: float, limits: Limits
    ) -> AsyncIterator[google.genai.client.AsyncClient]:
        once = types.HttpRetryOptions(attempts=1)  # the pool asks again
        connections = httpx2.Limits(max_connections=limits.concurrency)
        async with AsyncClient(
            read_limits=ReadLimits(self._key, timeout),
            limits=connections,
            **client_kwargs(self.base_url),
        ) as http:
            client = self._client_for(timeout, retry_options=once, httpx_async_client=http)
            try:
                with redact_logs(self._key):
                    yield client.aio
            finally:
                client.close()

    @override
    @contextmanager
    def batch_client(self, limits: Limits) -> Iterator[GeminiBatchClient]:
        again = types.HttpRetryOptions(attempts=limits.retries + 1, initial_delay=limits.backoff)
        # The service chooses the upload address of a file.
        hooks = {"request": [lambda request: self._check_same_host(str(request.url))]}
        read_limits = ReadLimits(self._key, FILE_TIMEOUT)
        with Client(
            read_limits=read_limits, event_hooks=hooks, **client_kwargs(self.base_url)
        ) as http:
            client = self._client_for(FILE_TIMEOUT, retry_options=again, httpx_client=http)
            address = f"{self.base_url}/v1beta"
            with redact_logs(self._key):
                yield GeminiBatchClient(client, self.model, http, address, self._key)

    def _check_same_host(self, url: str) -> None:
        if urlsplit(url)[:2] != urlsplit(self.base_url)[:2]:
            host = urlsplit(url).hostname
            raise ServiceError(
                f"{self.base_url} asks to send the images to {host}, another host, so nothing was "
                "sent; pass the right address as `base_url=`"
            )

    @override
    def image_part(self, content: bytes, mime: str) -> types.Part:
        return types.Part.from_bytes(data=content, mime_type=mime)

    @override
    def text_part(self, text: str) -> types.Part:
        return types.Part.from_text(text=text)

    @override
    def request_body(self, parts: Sequence[Any], params: SamplingParams) -> dict[str, Any]:
        # Models exceed their reasoning budget a little.
        room = 2 * self.num_reasoning_tokens + 256 if self.num_reasoning_tokens else 0
        settings: dict[str, Any] = {"temperature": params.temperature}
        settings |= {"top_p": 1.0, **params.chosen} if params.temperature else {}
        settings |= (
            {"response_logprobs": True, "logprobs": params.top_logprobs}
            if params.top_logprobs
            else {}
        )
        settings |= {"candidate_count": params.num_samples} if params.num_samples > 1 else {}
        config = types.GenerateContentConfig(
            max_output_tokens=params.max_tokens + room,
            thinking_config=types.ThinkingConfig(thinking_budget=self.num_reasoning_tokens),
            system_instruction=self.system,
            **settings,
        )
        return {"contents": types.Content(role="user", parts=[*parts]), "config": config}

    @override
    def sampling_params(self, body: dict[str, Any]) -> dict[str, Any]:
        config = body["config"].model_dump(include=SAMPLING_PARAMS, exclude_none=True)
        return dict(config)

    @override
    def omit_params(self, body: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
        config = body["config"].model_copy(update=dict.fromkeys(names))
        return {**body, "config": config}

    @override
    async def send(self, client: google.genai.client.AsyncClient, body: dict[str, Any]) -> Any:
        # The raw response: the package's own types reject a response with one odd number.
        raw = body["config"].model_copy(update={"should_return_http_response": True})
        response = await client.models.generate_content(
            model=self.model, contents=body["contents"], config=raw
        )
        http_response = response.sdk_http_response
        return self.parse_json((http_response and http_response.body) or "")

    @override
    def parse_error(self, error: Exception) -> ErrorInfo | RetryError | TimeoutError | None:
        if isinstance(error, errors.APIError):
            return _parse_api_error(error)
        if isinstance(error, httpx2.TimeoutException):
            return TimeoutError()
        if isinstance(error, httpx2.TransportError):
            return self.connection_error(error)
        if isinstance(error, (ValueError, TypeError, AttributeError, KeyError)):
            return RetryError(NO_CONTENT)
        return None

    @override
    def classify_error(self, info: ErrorInfo, explain: ExplainRejection) -> Exception:
        if info.status == 400 and re.search("multiple candidates", info.message, re.IGNORECASE):
            self.max_samples = 1
            return RetryError("the service gives one answer to a question")
        return super().classify_error(info, explain)

    @override
    def explain_rejection(self, message: str) -> Exception | None:
        if "thinking" in message.lower():
            return UnsupportedError(
                f"the model {self.model!r} does not accept `thinking={self.num_reasoning_tokens}`: "
                f"{message} Pass another number, such as `thinking={MIN_THINKING}` (its scores "
                "then depend on sampled reasoning)"
            )
        if message.startswith(FAILED_PRECONDITION):
            return ServiceError(f"{self.base_url} serves no one with this account: {message}")
        return super().explain_rejection(message)

    @override
    def advise_on_logprobs(self, message: str) -> str:
        return message if "Vertex" in message else f"{message}{USE_VERTEX}"

    @override
    def parse_response(self, content: Any) -> Response:
        answer = as_mapping(content)
        if block_reason := as_mapping(answer.get("promptFeedback")).get("blockReason"):
            reason = self.error_text(block_reason) or "no reason given"
            raise ScoringError(f"the service's content filter refuses the question ({reason})")
        candidates = as_list(answer.get("candidates"))
        if not candidates:
            raise self.invalid_answer(NO_CONTENT, content)
        model = as_text(answer.get("modelVersion"))
        return Response(
            [self._parse_completion(as_mapping(candidate)) for candidate in candidates],
            model or None,
        )

    @override
    def parse_usage(self, content: Any) -> tuple[object, object, object]:
        usage = as_mapping(as_mapping(content).get("usageMetadata"))
        names = ("candidatesTokenCount", "thoughtsTokenCount")
        counts = [tokens(usage[name]) for name in names if usage.get(name) is not None]
        valid = [count for count in counts if count is not None]
        output_tokens = sum(valid) if len(valid) == len(counts) else -1
        return usage.get("promptTokenCount"), output_tokens, usage.get("cachedContentTokenCount")

    def _parse_completion(self, candidate: Mapping[str, Any]) -> Completion:
        finish_reason = candidate.get("finishReason")
        parts = [
            as_mapping(part) for part in as_list(as_mapping(candidate.get("content")).get("parts"))
        ]
        text = "".join(as_text(part.get("text")) for part in parts if not part.get("thought"))
        has_reasoning = any(part.get("thought") for part in parts)
        error: Exception | None = None
        if (inner_error := parse_inner_error(candidate)) is not None:
            error = InnerError(inner_error)
        elif not isinstance(finish_reason, (str, type(None))) or not (
            finish_reason or candidate.get("content")
        ):
            error = self.invalid_answer(NO_CONTENT, candidate)
        elif finish_reason is not None and finish_reason not in FINISHED:
            error = ScoringError(f"{FILTERED_MESSAGE} ({self.error_text(finish_reason)})")
        sampled_tokens = _sampled_tokens(candidate)
        top_logprobs, sampled_token = _parse_logprobs(candidate, sampled_tokens)
        has_reasoning |= OPEN_REASONING.search("".join(sampled_tokens)) is not None
        return Completion(
            text,
            finish_reason == "MAX_TOKENS",
            top_logprobs,
            sampled_token,
            has_reasoning,
            error,
            _listed_digits(candidate, text),
            not any(isinstance(part.get("text"), str) for part in parts),
        )


class VertexProtocol(GeminiProtocol):
    """Google's generateContent, of Vertex AI, with credentials or a key of its own.

    Args:
        model: the service's name of the model.
        vertex: project, location and credentials.
        options: see `GeminiProtocol`.

    Raises:
        InputError: an option is not valid, or credentials would be sent in the clear.

    >>> settings = Vertex("my-project", "us-central1", credentials=None, has_key=False)
    >>> VertexProtocol("gemini-2.5-flash", settings).base_url
    'https://us-central1-aiplatform.googleapis.com'
    """

    base_url_variable = "GOOGLE_VERTEX_BASE_URL"
    key_variables = ()
    api_version = "v1beta1"
    batch_problem = (
        "`batch=True` is not possible through Vertex AI, which takes files from Cloud "
        "Storage alone: leave `batch=` out, or pass `vertexai=False` and a key of the "
        "Developer API"
    )

    def __init__(
        self,
        model: str,
        vertex: Vertex,
        thinking: int | None = None,
        system: str | None = None,
        **access: Unpack[AccessOptions],
    ) -> None:
        self.vertex, self.default_base_url = vertex, vertex.default_base_url
        super().__init__(model, thinking, system, **access)
        # Part of the id: the same model may give other numbers there.
        self.settings = {"api": "vertex", **self.settings}
        if not vertex.has_key:
            vertex.check_address(self.base_url)

    @override
    def _client_options(self) -> dict[str, Any]:
        if self.vertex.has_key:
            return {"api_key": self.require_key(), "vertexai": True}
        return {"vertexai": True, **self.vertex.client_options()}

    @override
    @asynccontextmanager
    async def connect(
        self, timeout: float, limits: Limits
    ) -> AsyncIterator[google.genai.client.AsyncClient]:
        if not self.vertex.has_key:  # loaded where needed; the token is redacted as a key is
            self._key = Key(self.vertex.load_credentials())
        async with super().connect(timeout, limits) as client:
            yield client

    @override
    def classify_exception(self, error: Exception, explain: ExplainRejection) -> Exception:
        return sign_in_error(error) or super().classify_exception(error, explain)

    @override
    def classify_error(self, info: ErrorInfo, explain: ExplainRejection) -> Exception:
        if info.status in (401, 403):
            return self.vertex.credentials_error(
                self.base_url, info.status, self.redact_message(info.message)
            )
        return super().classify_error(info, explain)

    @override
    def advise_on_logprobs(self, message: str) -> str:
        return message


def gemini_protocol(
    model: str,
    thinking: int | None = None,
    system: str | None = None,
    vertexai: bool | None = None,
    project: str | None = None,
    location: str | None = None,
    credentials: Any = None,
    **access: Unpack[AccessOptions],
) -> GeminiProtocol:
    """Return the protocol of the Developer API or of Vertex AI.

    Args:
        model: the service's name of the model.
        thinking: see `GeminiProtocol`.
        system: see `GeminiProtocol`.
        vertexai: use Vertex AI, which gives log-probabilities where the Developer API is reported
            to refuse them. Default: the variable GOOGLE_GENAI_USE_VERTEXAI, where neither an
            address nor a key is passed.
        project: the project of Vertex AI. Default: GOOGLE_CLOUD_PROJECT, or that of the
            credentials.
        location: the location of Vertex AI. Default: GOOGLE_CLOUD_LOCATION, or "global".
        credentials: google-auth's credentials. Default: the application default credentials,
            unless an `api_key` is passed.
        access: see `ServiceProtocol`.

    Raises:
        InputError: an option is not valid, or options contradict each other.

    >>> gemini_protocol("gemini-2.5-flash", vertexai=True, project="p").default_base_url
    'https://aiplatform.googleapis.com'
    """
    has_key = bool(access.get("api_key") or access.get("key_file"))
    address = access.get("base_url") or os.environ.get(GeminiProtocol.base_url_variable)
    elsewhere = has_key or bool(address)  # where the Developer API, or its like, is
    vertex = choose_vertex(vertexai, project, location, credentials, has_key, elsewhere)
    if vertex is None:
        return GeminiProtocol(model, thinking, system, **access)
    return VertexProtocol(model, vertex, thinking, system, **access)


def _sampled_tokens(candidate: Mapping[str, Any]) -> list[str]:
    rows = as_list(as_mapping(candidate.get("logprobsResult")).get("chosenCandidates"))
    return [as_text(as_mapping(row).get("token")) for row in rows]


def _parse_logprobs(
    candidate: Mapping[str, Any], sampled_tokens: Sequence[str]
) -> tuple[list[TokenLogprob] | None, str | None]:
    """Return the listed tokens at the start of the answer, and the sampled one."""
    answer_start = next(
        (n for n, token in enumerate(sampled_tokens) if not CONTROL.fullmatch(token)), None
    )
    candidate_lists = as_list(as_mapping(candidate.get("logprobsResult")).get("topCandidates"))
    if answer_start is None or answer_start >= len(candidate_lists):
        return None, None
    top_logprobs = [
        parse_token_logprob(row, "logProbability")
        for row in as_list(as_mapping(candidate_lists[answer_start]).get("candidates"))
    ]
    return top_logprobs or None, sampled_tokens[answer_start]


def _listed_digits(candidate: Mapping[str, Any], text: str) -> list[ListedDigit] | None:
    result = as_mapping(candidate.get("logprobsResult"))
    chosen = [as_mapping(row) for row in as_list(result.get("chosenCandidates"))]
    lists = as_list(result.get("topCandidates"))
    places = digit_places(text, [as_text(row.get("token")).encode() for row in chosen])
    if places is None or not lists:
        return None
    digits = []
    for number, start in places:
        rows = as_list(as_mapping(lists[number] if number < len(lists) else None).get("candidates"))
        likeliest = [parse_token_logprob(row, "logProbability") for row in rows]
        sampled = parse_token_logprob(chosen[number], "logProbability")
        token = as_text(chosen[number].get("token")).strip()
        digits.append(ListedDigit(start, token, with_sampled(likeliest, sampled)))
    return digits


FAILED_PRECONDITION = "FAILED_PRECONDITION"


def _parse_api_error(error: errors.APIError) -> ErrorInfo:
    headers = getattr(error.response, "headers", None)
    retry_after = (
        seconds_to_wait(headers.get("retry-after")) if isinstance(headers, Mapping) else None
    )
    body = error.details.get("error") if isinstance(error.details, Mapping) else None
    body = body if isinstance(body, Mapping) else {}
    details = body.get("details")
    invalid_key = quota_exhausted = False
    for detail in details if isinstance(details, list) else []:
        if not isinstance(detail, Mapping):
            continue
        invalid_key |= detail.get("reason") == "API_KEY_INVALID"
        quota_exhausted |= "PerDay" in json.dumps(detail.get("violations") or "")
        if re.fullmatch(r"[\d.]+s", str(detail.get("retryDelay"))):
            retry_after = seconds_to_wait(str(detail["retryDelay"])[:-1])
    message = str(error.message or "")
    if body.get("status") == FAILED_PRECONDITION:
        message = f"{FAILED_PRECONDITION}: {message}"
    return ErrorInfo(
        int(error.code),
        message,
        retry_after,
        invalid_key,
        quota_exhausted and int(error.code) == 429,
    )
