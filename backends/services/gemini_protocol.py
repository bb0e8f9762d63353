"""The protocol of Gemini, of Google's Developer API and of Vertex AI.

It needs the package google-genai (``pip install 't2v-eval[gemini]'``, Python 3.11 or newer).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Unpack
from urllib.parse import urlsplit

import google.genai
import httpx2
from google.genai import errors, types

from t2v_eval.errors import InputError, ScoringError, ServiceError, UnsupportedError
from t2v_eval.inputs.media import Media
from t2v_eval.remote.cost import tokens
from t2v_eval.remote.request_pool import RetryError, seconds_to_wait

from .api_key import Key
from .base import FILES, FILTERED, Service, ServiceOptions
from .batches.gemini import GoogleDesk
from .bounded_reading import Reading, logs_without, reading
from .credentials import between, directly
from .json_fields import entry, inner_error, rows, table, text_of
from .messages import Entry, How, Refusal, Reply, Said
from .vertex import Vertex, sign_in_problem, vertex_of

ENDED = ("STOP", "MAX_TOKENS")
CONTROL = re.compile(r"<ctrl\d+>")  # stands where a model begins or ends to think
LEAST_THINKING = 128  # the least that models accept which always think
NO_CONTENT = "the service's answer is not what generateContent answers"

AsyncClient = reading(httpx2.AsyncClient)
Client = reading(httpx2.Client)


class Gemini(Service):
    """Asks one of Google's models.

    A model that thinks before it answers draws its thoughts at random, so its scores differ from
    run to run; `thinking` is 0 wherever a model allows it.

    Args:
        model: as the service calls it.
        thinking: how many tokens a model may think before it answers. Default: 0, and 128 for the
            "pro" models, which always think.
        vertexai: ask through Vertex AI, which gives log-probabilities where the Developer API is
            reported to refuse them. Default: what GOOGLE_GENAI_USE_VERTEXAI says, where neither an
            address nor a key is passed.
        project, location: of Vertex AI; default: GOOGLE_CLOUD_PROJECT, or the project of the
            credentials, and GOOGLE_CLOUD_LOCATION, or "global".
        credentials: of google-auth; default: the application default credentials. An `api_key`
            that is passed stands in their place.
        options: see `Service`.
    """

    table = "google"
    home = "https://generativelanguage.googleapis.com"
    home_variable = "GOOGLE_GEMINI_BASE_URL"
    key_variables: tuple[str, ...] = ("GOOGLE_API_KEY", "GEMINI_API_KEY")  # Google's own order
    vertex: Vertex | None
    most_samples = 8

    def __init__(
        self,
        model: str,
        thinking: int | None = None,
        vertexai: bool | None = None,
        project: str | None = None,
        location: str | None = None,
        credentials: Any = None,
        **options: Unpack[ServiceOptions],
    ) -> None:
        keyed = bool(options.get("api_key") or options.get("key_file"))
        address = options.get("base_url") or os.environ.get(self.home_variable)
        elsewhere = keyed or bool(address)  # where the Developer API, or its like, is
        self.vertex = vertex_of(vertexai, project, location, credentials, keyed, elsewhere)
        if self.vertex is not None:
            self.home, self.home_variable = self.vertex.home, "GOOGLE_VERTEX_BASE_URL"
            self.key_variables = ()
            if options.get("batch"):
                raise InputError(
                    "batch=True is not possible through Vertex AI, which takes files from Cloud "
                    "Storage alone: leave batch= out, or pass vertexai=False and a key of the "
                    "Developer API"
                )
        super().__init__(model, **options)
        if self.vertex is not None:
            self.identity_facts = {
                **self.identity_facts,
                "api": "vertex",
            }  # which may answer in other numbers
            if not keyed:
                self.vertex.check_address(self.base_url)
        if thinking is None:
            thinking = LEAST_THINKING if "pro" in model.split("-") else 0
        between("thinking", thinking, 0, 2**15)
        self._thinking = thinking
        self._untaken = set[str]()
        self.identity_facts = {**self.identity_facts, "thinking": str(thinking)}
        self._client: google.genai.client.AsyncClient

    def _client_for(self, seconds: float, **options: Any) -> google.genai.Client:
        about = types.HttpOptions(
            base_url=self.base_url,
            api_version="v1beta" if self.vertex is None else "v1beta1",
            timeout=math.ceil(seconds * 1000),
            **options,
        )
        if self.vertex is not None and not self.vertex.keyed:
            return google.genai.Client(vertexai=True, http_options=about, **self.vertex.given())
        api = self.vertex is not None
        return google.genai.Client(api_key=self.needed_key(), vertexai=api, http_options=about)

    def _signed_in(self) -> None:
        """Have credentials where those are needed; what they hold is then hidden as a key is."""
        if self.vertex is not None and not self.vertex.keyed:
            self._key = Key(self.vertex.signed_in())

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        once = types.HttpRetryOptions(attempts=1)  # the pool asks again
        limits = httpx2.Limits(max_connections=self.limits.concurrency)
        self._signed_in()
        how = Reading(self._key, self.timeout)
        async with AsyncClient(reading=how, limits=limits, **directly(self.base_url)) as http:
            client = self._client_for(self.timeout, retry_options=once, httpx_async_client=http)
            self._client = client.aio
            try:
                with logs_without(self._key):
                    yield
            finally:
                del self._client
                client.close()

    @contextmanager
    def desk(self) -> Iterator[GoogleDesk]:
        again = types.HttpRetryOptions(
            attempts=self.limits.retries + 1, initial_delay=self.limits.backoff
        )
        # The service says where a file goes to.
        hooks = {"request": [lambda request: self._stays(str(request.url))]}
        how = Reading(self._key, FILES)
        with Client(reading=how, event_hooks=hooks, **directly(self.base_url)) as http:
            client = self._client_for(FILES, retry_options=again, httpx_client=http)
            address = f"{self.base_url}/v1beta"
            with logs_without(self._key):
                yield GoogleDesk(client, self.served, http, address, self._key)

    def _stays(self, url: str) -> None:
        if urlsplit(url)[:2] != urlsplit(self.base_url)[:2]:
            host = urlsplit(url).hostname
            raise ServiceError(
                f"{self.base_url} wants the pictures to be sent to {host}, which is not done; "
                "pass the address that is meant as base_url="
            )

    def expected_tokens(self, media: Media, text: str) -> tuple[int, int] | None:
        found = super().expected_tokens(media, text)
        thoughts = self._thinking * self.requests_for_a_cell
        return found and (found[0], found[1] + thoughts)

    def picture(self, content: bytes, mime: str) -> types.Part:
        return types.Part.from_bytes(data=content, mime_type=mime)

    def wording(self, text: str) -> types.Part:
        return types.Part.from_text(text=text)

    def body(self, parts: Sequence[Any], how: How) -> dict[str, Any]:
        # Models think a little longer than they are allowed to.
        room = 2 * self._thinking + 256 if self._thinking else 0
        asked: dict[str, Any] = {"temperature": how.temperature}
        asked |= {"top_p": 1.0} if how.temperature and not self._untaken else {}
        asked |= {"response_logprobs": True, "logprobs": how.listed} if how.listed else {}
        asked |= {"candidate_count": how.samples} if how.samples > 1 else {}
        config = types.GenerateContentConfig(
            max_output_tokens=how.tokens + room,
            thinking_config=types.ThinkingConfig(thinking_budget=self._thinking),
            **asked,
        )
        return {"contents": types.Content(role="user", parts=[*parts]), "config": config}

    async def send(self, body: dict[str, Any]) -> Any:
        # As it came: the package's own types lose an answer for one odd number in it.
        raw = body["config"].model_copy(update={"should_return_http_response": True})
        response = await self._client.models.generate_content(
            model=self.served, contents=body["contents"], config=raw
        )
        came = response.sdk_http_response
        return self.parsed((came and came.body) or "")

    def problem(self, error: Exception) -> Exception:
        return sign_in_problem(error) or super().problem(error)

    def refusal(self, error: Exception) -> Refusal | RetryError | None:
        if isinstance(error, errors.APIError):
            return _refusal(error)
        if isinstance(error, httpx2.TimeoutException):
            return RetryError(f"no answer within {self.timeout:g} s")
        if isinstance(error, httpx2.TransportError):
            return self.no_connection(error)
        if isinstance(error, (ValueError, TypeError, AttributeError, KeyError)):
            return RetryError(NO_CONTENT)
        return None

    def refused(self, no: Refusal) -> Exception:
        if no.status == 400 and re.search("multiple candidates", no.message, re.IGNORECASE):
            self.most_samples = 1
            return RetryError("the service gives one answer to a question")
        if no.status == 400 and re.search("top_?p", no.message, re.IGNORECASE):
            self._untaken.add("top_p")
            return RetryError(f"the service takes no top_p: {self.without_key(no.message)[:100]}")
        if self.vertex is not None and no.status in (401, 403):
            return self.vertex.refused(self.base_url, no.status, self.without_key(no.message))
        return super().refused(no)

    def unable(self, message: str) -> Exception | None:
        if "thinking" in message.lower():
            return UnsupportedError(
                f"the model {self.served!r} does not accept thinking={self._thinking}: {message} "
                f"Pass another number, such as thinking={LEAST_THINKING} (its scores then "
                "depend on thoughts drawn at random)"
            )
        if message.startswith(NO_ONE):
            return ServiceError(f"{self.base_url} serves no one with this account: {message}")
        return super().unable(message)

    def reply(self, content: Any) -> Reply:
        if (error := inner_error(content)) is not None:
            raise self.inner(error)
        answer = table(content)
        if blocked := table(answer.get("promptFeedback")).get("blockReason"):
            why = self.words(blocked) or "no reason given"
            raise ScoringError(f"the service's content filter refuses the question ({why})")
        candidates = rows(answer.get("candidates"))
        if not candidates:
            raise self.no_answer(NO_CONTENT, content)
        model = text_of(answer.get("modelVersion"))
        return Reply([self._said(table(one)) for one in candidates], model or None)

    def used(self, content: Any) -> tuple[object, object, object]:
        usage = table(table(content).get("usageMetadata"))
        names = ("candidatesTokenCount", "thoughtsTokenCount")
        out = [tokens(usage[name]) for name in names if usage.get(name) is not None]
        known = [count for count in out if count is not None]
        written = sum(known) if len(known) == len(out) else -1
        return usage.get("promptTokenCount"), written, usage.get("cachedContentTokenCount")

    def _said(self, candidate: Mapping[str, Any]) -> Said:
        ended = candidate.get("finishReason")
        parts = [table(part) for part in rows(table(candidate.get("content")).get("parts"))]
        text = "".join(text_of(part.get("text")) for part in parts if not part.get("thought"))
        thought = any(part.get("thought") for part in parts)
        problem: Exception | None = None
        if (error := inner_error(candidate)) is not None:
            problem = self.inner(error)
        elif not isinstance(ended, (str, type(None))) or not (ended or candidate.get("content")):
            problem = self.no_answer(NO_CONTENT, candidate)
        elif ended is not None and ended not in ENDED:
            problem = ScoringError(f"{FILTERED} ({self.words(ended)})")
        try:
            listed, drawn = self._listed(candidate, text)
        except ScoringError as error:
            listed, drawn, problem = None, None, problem or error
        return Said(text, ended == "MAX_TOKENS", listed, drawn, thought, problem)

    def _listed(
        self, candidate: Mapping[str, Any], text: str
    ) -> tuple[list[Entry] | None, str | None]:
        """Log-probabilities of the likeliest tokens where the answer begins, and what was drawn."""
        result = table(candidate.get("logprobsResult"))
        drawn = [text_of(table(row).get("token")) for row in rows(result.get("chosenCandidates"))]
        begins = next((n for n, token in enumerate(drawn) if not CONTROL.fullmatch(token)), None)
        lists = rows(result.get("topCandidates"))
        if begins is None or begins >= len(lists):
            return None, None
        listed = [
            entry(row, "logProbability") for row in rows(table(lists[begins]).get("candidates"))
        ]
        if self._thinking and listed and not text.startswith(drawn[begins]):
            # Where thoughts are listed too, the first token is none of the answer.
            raise ScoringError(
                f"the first listed token {drawn[begins]!r} does not begin the answer "
                f"{text[:40]!r}, so it is not known where the answer begins"
            )
        return listed or None, drawn[begins]


NO_ONE = "FAILED_PRECONDITION"


def _refusal(error: errors.APIError) -> Refusal:
    headers = getattr(error.response, "headers", None)
    after = seconds_to_wait(headers.get("retry-after")) if isinstance(headers, Mapping) else None
    body = error.details.get("error") if isinstance(error.details, Mapping) else None
    body = body if isinstance(body, Mapping) else {}
    listed = body.get("details")
    key = spent = False
    for detail in listed if isinstance(listed, list) else []:
        if not isinstance(detail, Mapping):
            continue
        key |= detail.get("reason") == "API_KEY_INVALID"
        spent |= "PerDay" in json.dumps(detail.get("violations") or "")
        if re.fullmatch(r"[\d.]+s", str(detail.get("retryDelay"))):
            after = seconds_to_wait(str(detail["retryDelay"])[:-1])
    message = str(error.message or "")
    if body.get("status") == NO_ONE:
        message = f"{NO_ONE}: {message}"
    return Refusal(int(error.code), message, after, key, spent and int(error.code) == 429)
