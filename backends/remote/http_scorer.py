"""A scorer that runs in a server of this library (`t2v_eval.server`), asked over HTTP."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Unpack
from urllib.parse import unquote

from typing_extensions import override

from t2v_eval.errors import InputError, ScoringError, ServiceError, UnknownNameError
from t2v_eval.inputs.media import ImageGroup, Media, Video
from t2v_eval.inputs.template import Template
from t2v_eval.remote.request_pool import RetryError, seconds_to_wait
from t2v_eval.remote.scorer import ApiOptions, ApiScorer, CellScore, isolate_answer_errors
from t2v_eval.scoring.plan import Caption, Text, caption_text
from t2v_eval.utils.printable import redact_userinfo
from t2v_eval.utils.regular_file import File, read_bytes

from ..services.api_key import Key
from ..services.bounded_reading import MAX_ANSWER_BYTES, ReadLimits, redact_logs
from ..services.credentials import check_base_url, client_kwargs, resolve_api_key
from ..services.image_encoding import image_file
from ..services.json_fields import (
    as_list,
    as_mapping,
    as_number,
    as_text,
    extract_message,
    parse_json,
)
from ..services.openai_protocol import AsyncClient, Client

FORM = "write remote:http://HOST:PORT/MODEL"
PREFIX = "remote "  # of the id: numbers of a server never stand for those computed here
RETRY_STATUS = (408, 429)  # and every 5xx
TEXTS_PER_REQUEST = 64


class HttpScorer(ApiScorer[dict[str, Any]]):
    """Ask a server for the scores of a scorer that it runs.

    Each request holds an image and its texts; the server scores the requests of all clients
    together. The id is that of the scorer behind it, so that a store reuses scores wherever that
    scorer is served. Answers of a scorer with another id end the run.

    Args:
        address: ``http://HOST:PORT/MODEL``, where MODEL is a name of the server's scorers.
        token: the server's token.
        token_file: a file that holds it and nothing else.
        options: see `ApiScorer`; templates are those of the server's scorer by default.

    Raises:
        InputError: the address is not valid.
        ServiceError: the server does not answer, or refuses the token.
        UnknownNameError: it has no such scorer.

    >>> HttpScorer("http://127.0.0.1:9/tiny-clip")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    t2v_eval.errors.ServiceError: no connection to http://127.0.0.1:9 (...); is it running there?
    """

    uses_text: bool  # type: ignore[misc]  # as the scorer behind it
    uses_references: bool  # type: ignore[misc]

    def __init__(
        self,
        address: str,
        token: str | None = None,
        token_file: str | Path | None = None,
        **options: Unpack[ApiOptions],
    ) -> None:
        template = options.pop("template", None)
        question, answer = (
            options.pop("question_template", None),
            options.pop("answer_template", None),
        )
        super().__init__(**options)
        self.base_url, self.model_name = split_address(address)
        self._key = Key(resolve_api_key(token, token_file, "`token=`", "token_file"))
        self._client: Any  # while a run is connected
        facts, self._limits = self._facts()
        self._server_id = as_text(facts.get("encoder_id"))
        self._default = Template(as_text(facts.get("question")), as_text(facts.get("answer")))
        self.uses_text = facts.get("uses_text") is not False
        self.uses_references = facts.get("uses_references") is True
        self.image_roles = tuple(map(as_text, as_list(facts.get("image_roles"))))
        mode = facts.get("image_mode")
        if mode not in ("seen", "original") or (self.image_mode, mode) == ("original", "seen"):
            raise InputError(
                f"`image_mode={self.image_mode!r}`: the server reads images in mode {mode!r}; "
                "start it with `image_mode=` for another one"
            )
        self.image_mode = mode
        base = self.named_template(template) if template else self._default
        self.template = base.override(question, answer)
        limits = [as_number(self._limits.get(name)) or 1 for name in ("texts", "cells")]
        # References are those of an image and a text.
        limits += [1] if self.uses_references else [TEXTS_PER_REQUEST]
        self.texts_per_question = int(max(1, min(limits)))

    @property
    @override
    def encoder_id(self) -> str:
        return PREFIX + self._server_id

    @override
    def check_versioned(self) -> None:
        pass  # the server's id says when numbers change

    def _facts(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Ask the server for the facts of its scorer, and its limits."""
        read_limits = ReadLimits(self._key, self.timeout)
        with (
            redact_logs(self._key),
            Client(
                read_limits=read_limits, timeout=self.timeout, **client_kwargs(self.base_url)
            ) as client,
        ):
            try:
                response = client.get(f"{self.base_url}/v1/models", headers=self._headers())
                content = self._content(response.status_code, response.headers, response.text)
            except ServiceError:
                raise
            except (RetryError, ScoringError) as error:
                raise ServiceError(f"{self.base_url}: {error}") from None
            except Exception as error:  # of the client
                problem = self._connection_error(error)
                raise ServiceError(f"{problem}; is it running there?") from None
        models = {as_text(as_mapping(m).get("name")): m for m in as_list(content.get("models"))}
        if not models:
            raise ServiceError(f"{self.base_url} is no server of t2v-eval; {FORM}")
        if self.model_name not in models:
            raise UnknownNameError.nearest(
                "model",
                self.model_name,
                models,
                f"{self.base_url} has {', '.join(map(repr, models))}.",
            )
        facts = as_mapping(models[self.model_name])
        if not as_text(facts.get("encoder_id")):
            raise ServiceError(f"{self.base_url} does not say what decides its scores")
        return facts, as_mapping(content.get("limits"))

    def _headers(self) -> dict[str, str]:
        token = self._key.reveal()
        return {"authorization": f"Bearer {token}"} if token else {}

    @override
    def redact_text(self, text: str) -> str:
        return self._key.redact(text)

    @override
    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        async with AsyncClient(
            read_limits=ReadLimits(self._key, self.timeout, MAX_ANSWER_BYTES),
            timeout=self.timeout,
            **client_kwargs(self.base_url),
        ) as self._client:
            with redact_logs(self._key):
                try:
                    yield
                finally:
                    del self._client

    @override
    def pack(self, media: Media) -> dict[str, Any]:
        if isinstance(media, ImageGroup):
            return dict(zip(media.roles, map(self.pack, media.images), strict=True))
        if not isinstance(media, Video):
            content, _ = image_file(media, self.load_image(media), self.image_mode, None)
            return _file(content)
        if isinstance(media.source, tuple):
            return {"frames": [self.pack(frame) for frame in media.source], "fps": media.fps or 1.0}
        if isinstance(media.source, File):
            media.source.check(media.name)
            return _file(read_bytes(media.source.path))
        return _file(media.source)

    @override
    async def score_cell(self, image: dict[str, Any], text: str) -> CellScore:
        (result,) = await self.score_texts(image, [text])
        if isinstance(result, ScoringError):
            raise result
        return result

    @override
    async def score_texts(
        self, image: dict[str, Any], texts: Sequence[Text]
    ) -> list[CellScore | ScoringError]:
        body: dict[str, Any] = {
            "models": [self.model_name],
            "images": [image],
            "timeout": self.timeout,
        }
        if self.uses_text:
            body["texts"] = [caption_text(text) for text in texts]
        if self.uses_references and isinstance(texts[0], Caption):
            body["references"] = [list(texts[0].references)]
        if (self.template.question, self.template.answer) != (
            self._default.question,
            self._default.answer,
        ):
            body["question_template"] = self.template.question
            body["answer_template"] = self.template.answer
        content = await self._post(json.dumps(body))
        with isolate_answer_errors():
            return self._read_scores(content, len(texts))

    async def _post(self, body: str) -> Mapping[str, Any]:
        limit = as_number(self._limits.get("body_bytes"))
        if limit is not None and len(body) > limit:
            raise ScoringError(
                f"the image and its texts are {len(body)} bytes; {self.base_url} takes {limit:g}"
            )
        headers = {"content-type": "application/json", **self._headers()}
        problem: Exception
        try:
            response = await self._client.post(
                f"{self.base_url}/v1/score", content=body, headers=headers
            )
            return self._content(response.status_code, response.headers, response.text)
        except (RetryError, ScoringError, ServiceError):
            raise
        except Exception as error:  # of the client, or of what reads the response
            problem = self._connection_error(error)
        raise problem  # outside `except`: the cause may hold the token

    def _content(self, status: int, headers: Mapping[str, str], text: str) -> Mapping[str, Any]:
        """Return the JSON of a response; errors of the server become exceptions."""
        try:
            content = as_mapping(parse_json(text))
        except ValueError:
            content = {}
        message = self._key.redact_message(extract_message(content))[:300]
        if status == 200:
            if not content:
                raise RetryError("the server's answer is not JSON")
            return content
        if status in (401, 403):
            raise ServiceError(
                f"{self.base_url} refuses the request (status {status}): {message}; check `token=`"
            )
        if status == 404 or 300 <= status < 400:
            raise ServiceError(f"{self.base_url} answers {status}: {message}; {FORM}")
        if status in RETRY_STATUS or status >= 500:
            after = seconds_to_wait(headers.get("retry-after"))
            reason = f"the server answers {status}: {message}"
            raise RetryError(reason, after, rate_limited=status == 429)
        raise ScoringError(f"the server refuses it (status {status}): {message}")

    def _connection_error(self, error: BaseException) -> RetryError:
        unreachable, cause = False, error
        while True:
            unreachable |= type(cause).__name__ == "ConnectError"
            below = cause.__cause__ or cause.__context__
            if below is None:
                break
            cause = below
        reason = (isinstance(cause, OSError) and cause.strerror) or type(cause).__name__
        return RetryError(f"no connection to {self.base_url} ({reason})", unreachable=unreachable)

    def _read_scores(
        self, content: Mapping[str, Any], count: int
    ) -> list[CellScore | ScoringError]:
        (result,) = as_list(content.get("results"))
        expected = self.id.removeprefix(PREFIX)
        if (answered := as_text(as_mapping(result).get("id"))) != expected:
            raise ServiceError(
                f"{self.base_url} now has another {self.model_name!r} than when the scorer was "
                f"loaded: {answered!r}, not {expected!r}; load it again"
            )
        (scores,) = result["scores"]
        reasons = {
            failure["text"]: as_text(failure["reason"]) for failure in as_list(result["failures"])
        }
        if len(scores) != (count if self.uses_text else 1):
            raise RetryError("the server's answer has scores of other texts")
        return [_score(value, reasons.get(n, "")) for n, value in enumerate(scores)]


def split_address(address: str) -> tuple[str, str]:
    """Return the address of a server and the name of its scorer.

    Raises:
        InputError: it is not of the form ``http://HOST:PORT/MODEL``.

    >>> split_address("http://localhost:8000/hf-clip:openai/clip-vit-base-patch32")
    ('http://localhost:8000', 'hf-clip:openai/clip-vit-base-patch32')
    """
    scheme, colons, rest = address.partition("://")
    host, _, name = rest.partition("/")
    redacted = redact_userinfo(address)
    if redacted != address:
        raise InputError(f"{redacted!r} holds a user or password: pass the token as `token=`")
    base_url = check_base_url(f"{scheme}{colons}{host}", f"{redacted!r}")
    if not name:
        raise InputError(f"{address!r} names no scorer of the server; {FORM}")
    return base_url, unquote(name)


def _file(content: bytes) -> dict[str, Any]:
    return {"base64": base64.b64encode(content).decode()}


def _score(value: object, reason: str) -> CellScore | ScoringError:
    number = as_number(value)
    if number is None or not math.isfinite(number):
        return ScoringError(reason or "the server has no score of it")
    return CellScore(number)
