"""The protocol of Gemini's own API.

It needs the package google-genai (``pip install 't2v-eval[gemini]'``, Python 3.11 or newer).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Unpack
from urllib.parse import urlsplit

import google.genai
import httpx2
from google.genai import errors, types

from t2v_eval.errors import ScoringError, ServiceError, UnsupportedError
from t2v_eval.media import Media
from t2v_eval.pool import RetryError, seconds_to_wait

from ._asked import How, Refusal, Reply, Said
from ._given import between, directly
from ._google_batch import GoogleDesk
from ._service import Service, ServiceOptions

ENDED = ("STOP", "MAX_TOKENS")
CONTROL = re.compile(r"<ctrl\d+>")  # stands where a model begins or ends to think
LEAST_THINKING = 128  # the least that models accept which always think
NO_CONTENT = "the service's answer is not what generateContent answers"


class Gemini(Service):
    """Asks one of Google's models.

    A model that thinks before it answers draws its thoughts at random, so its scores differ from
    run to run; `thinking` is 0 wherever a model allows it.

    Args:
        model: as the service calls it.
        thinking: how many tokens a model may think before it answers. Default: 0, and 128 for the
            "pro" models, which always think.
        options: see `Service`.
    """

    table = "google"
    home = "https://generativelanguage.googleapis.com"
    home_variable = "GOOGLE_GEMINI_BASE_URL"
    key_variables = ("GOOGLE_API_KEY", "GEMINI_API_KEY")  # in Google's own order
    most_samples = 8

    def __init__(
        self, model: str, thinking: int | None = None, **options: Unpack[ServiceOptions]
    ) -> None:
        super().__init__(model, **options)
        if thinking is None:
            thinking = LEAST_THINKING if "pro" in model.split("-") else 0
        between("thinking", thinking, 0, 2**15)
        self._thinking = thinking
        self.facts = {**self.facts, "thinking": str(thinking)}
        self._client: google.genai.client.AsyncClient

    def _client_for(self, seconds: float, **options: Any) -> google.genai.Client:
        about = types.HttpOptions(
            base_url=self.base_url,
            api_version="v1beta",
            timeout=math.ceil(seconds * 1000),
            **options,
        )
        return google.genai.Client(api_key=self.needed_key(), vertexai=False, http_options=about)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        once = types.HttpRetryOptions(attempts=1)  # the pool asks again
        limits = httpx2.Limits(max_connections=self.limits.concurrency)
        async with httpx2.AsyncClient(limits=limits, **directly(self.base_url)) as http:
            client = self._client_for(self.timeout, retry_options=once, httpx_async_client=http)
            self._client = client.aio
            try:
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
        with httpx2.Client(**directly(self.base_url), event_hooks=hooks) as http:
            files_are_large = max(self.timeout, 600.0)
            client = self._client_for(files_are_large, retry_options=again, httpx_client=http)
            yield GoogleDesk(client, self.served)

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
        asked |= {"response_logprobs": True, "logprobs": how.listed} if how.listed else {}
        asked |= {"candidate_count": how.samples} if how.samples > 1 else {}
        config = types.GenerateContentConfig(
            max_output_tokens=how.tokens + room,
            thinking_config=types.ThinkingConfig(thinking_budget=self._thinking),
            **asked,
        )
        return {"contents": types.Content(role="user", parts=[*parts]), "config": config}

    async def send(self, body: dict[str, Any]) -> types.GenerateContentResponse:
        return await self._client.models.generate_content(model=self.served, **body)

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

    def reply(self, content: types.GenerateContentResponse) -> Reply:
        blocked = content.prompt_feedback and content.prompt_feedback.block_reason
        if blocked:
            raise ScoringError(f"the service's content filter refuses the question ({blocked})")
        if not content.candidates:
            raise RetryError(NO_CONTENT)
        return Reply([self._said(one) for one in content.candidates], content.model_version)

    def used(self, content: types.GenerateContentResponse) -> tuple[int, int, int]:
        usage = content.usage_metadata
        if usage is None:
            return 0, 0, 0
        out = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
        return usage.prompt_token_count or 0, out, usage.cached_content_token_count or 0

    def _said(self, candidate: types.Candidate) -> Said:
        ended = candidate.finish_reason
        if candidate.content is None and ended is None:
            raise RetryError(NO_CONTENT)
        if ended is not None and ended.value not in ENDED:
            raise ScoringError(f"the service's content filter withheld the answer ({ended.value})")
        parts = (candidate.content and candidate.content.parts) or []
        text = "".join(part.text or "" for part in parts if not part.thought)
        cut = ended is not None and ended.value == "MAX_TOKENS"
        return Said(text, cut, *self._listed(candidate, text))

    def _listed(
        self, candidate: types.Candidate, text: str
    ) -> tuple[list[tuple[str, float]], str] | tuple[()]:
        """Log-probabilities of the likeliest tokens where the answer begins, and what was drawn."""
        result = candidate.logprobs_result
        rows = (result and result.top_candidates) or []
        drawn = [token.token or "" for token in (result and result.chosen_candidates) or []]
        begins = next((n for n, token in enumerate(drawn) if not CONTROL.fullmatch(token)), None)
        if begins is None or begins >= len(rows) or not rows[begins].candidates:
            return ()
        if self._thinking and not text.startswith(drawn[begins]):
            # Where thoughts are listed too, the first token is none of the answer.
            raise ScoringError(
                f"the first listed token {drawn[begins]!r} does not begin the answer "
                f"{text[:40]!r}, so it is not known where the answer begins"
            )
        listed = [
            (row.token, row.log_probability)
            for row in rows[begins].candidates or []
            if row.token is not None and row.log_probability is not None
        ]
        return listed, drawn[begins]


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
