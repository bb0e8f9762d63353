"""The HTTP interface: paths, the token, limits, and answers as JSON.

POST /v1/score    scores of images and texts
GET  /v1/models   the scorers, and the limits
GET  /metrics     measurements for Prometheus
GET  /docs        a page about these paths; /openapi.json describes them for programs
GET  /healthz     whether the server runs; the only path that needs no token
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from t2v_eval import __version__
from t2v_eval.errors import InputError, T2VError, UnknownNameError
from t2v_eval.inputs.media import EDIT
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.server.access import Access
from t2v_eval.server.batching import JobResult, QueueFullError, ScoringQueue
from t2v_eval.server.metrics import CONTENT_TYPE, Metrics
from t2v_eval.server.openapi import document, page
from t2v_eval.server.requests import RequestError, ScoreRequest, ServerLimits, parse_request

RETRY_AFTER = 1  # seconds that a client is asked to wait where a queue is full
PARSING_THREADS = 4
DOWNLOADING_THREADS = 16


class JsonResponse(Response):
    """JSON in ASCII, so that any text can be sent, and without NaN.

    >>> JsonResponse({"scores": [None, 0.5]}).body
    b'{"scores": [null, 0.5]}'
    """

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content, allow_nan=False).encode()


class ScoringServer:
    """Score the requests of several clients with loaded scorers.

    Args:
        scorers: the scorers, of different names.
        token: what clients must send; "" for no token.
        limits: what requests may hold.

    Attributes:
        app: the ASGI application.
        pending_bytes: bytes of the bodies of requests that are not answered.

    Raises:
        InputError: no scorer, two of one name, or one that compares two images.

    >>> import t2v_eval
    >>> server = ScoringServer([t2v_eval.load("tiny-clip", device="cpu")])
    >>> [route.path for route in server.app.routes][:2]
    ['/v1/score', '/v1/models']
    >>> server.close()
    """

    def __init__(
        self, scorers: Sequence[Scorer], token: str = "", limits: ServerLimits | None = None
    ) -> None:
        names = [scorer.name for scorer in scorers]
        if not names or len({*names}) < len(names):
            raise InputError(f"a server needs scorers of different names, not {names}")
        if other := [scorer.name for scorer in scorers if scorer.image_roles not in ((), EDIT)]:
            raise InputError(f"a server takes images and edits, and {other[0]!r} compares images")
        self.limits, self.metrics = limits or ServerLimits(), Metrics()
        self.pending_bytes = 0
        # Apart, so that slow addresses hold up no other requests.
        self._parsing = ThreadPoolExecutor(PARSING_THREADS, "t2v-eval-parse")
        self._downloading = ThreadPoolExecutor(DOWNLOADING_THREADS, "t2v-eval-download")
        self._queues: dict[str, ScoringQueue] = {}
        for scorer in scorers:
            observe = partial(self.metrics.observe, scorer.name)
            queue = ScoringQueue(scorer, self.limits.waiting, self.limits.cells, observe)
            self._queues[scorer.name] = queue
            self.metrics.watch(scorer.name, queue.__len__)
        routes = [
            Route("/v1/score", self._score, methods=["POST"]),
            Route("/v1/models", self._models),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._openapi),
            Route("/docs", self._docs),
            Route("/healthz", self._health),
        ]
        paths = {route.path for route in routes}
        self._description = self._describe()
        self.app = Starlette(
            routes=routes,
            middleware=[Middleware(Access, token=token, paths=paths, metrics=self.metrics)],
            exception_handlers={
                RequestError: _refusal,
                HTTPException: _http_error,
                ClientDisconnect: _disconnected,
                Exception: _internal_error,
            },
            lifespan=self._lifespan,
        )

    def close(self) -> None:
        """Score what waits, and end the threads."""
        for queue in self._queues.values():
            queue.close()
        self._parsing.shutdown()
        self._downloading.shutdown(cancel_futures=True)

    def waiting(self, name: str) -> int:
        """Return the number of requests that wait for the scorer of a name."""
        return len(self._queues[name])

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(self.close)

    def _describe(self) -> dict[str, Any]:
        """Return what clients need to know of the scorers and the limits."""
        models = []
        for name, queue in self._queues.items():
            scorer = queue.scorer
            models.append(
                {
                    "name": name,
                    "id": queue.default_id,
                    "encoder_id": scorer.encoder_id,
                    "kind": scorer.card.kind,
                    "range": scorer.card.range,
                    "uses_text": scorer.uses_text,
                    "uses_references": scorer.uses_references,
                    "image_roles": scorer.image_roles,
                    "image_mode": scorer.image_mode,
                    "question": scorer.template.question,
                    "answer": scorer.template.answer,
                }
            )
        names = ("body_bytes", "images", "texts", "cells", "text_chars", "pixels", "seconds")
        limits = {name: getattr(self.limits, name) for name in names}
        return {"version": __version__, "models": models, "limits": limits}

    async def _models(self, request: Request) -> Response:
        return JsonResponse(self._description)

    async def _health(self, request: Request) -> Response:
        return JsonResponse({"status": "ok"})

    async def _metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    async def _openapi(self, request: Request) -> Response:
        return JsonResponse(document(self.limits))

    async def _docs(self, request: Request) -> Response:
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        headers = {"content-security-policy": policy}
        return HTMLResponse(page(document(self.limits)), headers=headers)

    async def _score(self, request: Request) -> Response:
        start, received = time.monotonic(), 0
        try:
            body = bytearray()
            try:
                async with asyncio.timeout(self.limits.body_seconds):
                    async for part in self._parts(request):
                        received += len(part)
                        self.pending_bytes += len(part)
                        self._check_size(received)
                        body += part
            except TimeoutError:
                raise RequestError(
                    408, f"the body did not arrive within {self.limits.body_seconds:g} s"
                ) from None
            answer = self._answer(bytes(body), start)
            del body
            return await _while_connected(request, answer)
        except TimeoutError:
            raise _too_late() from None
        finally:
            self.pending_bytes -= received

    async def _downloaded(self, parsed: ScoreRequest) -> ScoreRequest:
        """Return a request with the images that it names by URLs."""
        loop = asyncio.get_running_loop()
        downloads = [
            loop.run_in_executor(self._downloading, download)
            for download in parsed.downloads.values()
        ]
        images = [*parsed.images]
        for n, media in zip(parsed.downloads, await asyncio.gather(*downloads), strict=True):
            images[n] = media
        return replace(parsed, images=images)

    async def _parts(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the parts of a body that is JSON and not larger than allowed."""
        headers = request.headers
        kind = headers.get("content-type", "").partition(";")[0].strip()
        if kind.lower() != "application/json":
            raise RequestError(415, "send JSON with `Content-Type: application/json`")
        if headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
            raise RequestError(415, "send the body without compression")
        announced = headers.get("content-length", "0")
        if announced.isascii() and announced.isdecimal():
            self._check_size(int(announced[:20]))
        async for part in request.stream():
            yield part

    def _check_size(self, size: int) -> None:
        if size > self.limits.body_bytes:
            raise RequestError(
                413, f"the body has more than {self.limits.body_bytes} bytes; send fewer images"
            )
        if self.pending_bytes > self.limits.pending_bytes:
            raise RequestError(
                429, "the requests that wait fill the memory; try again", RETRY_AFTER
            )

    async def _answer(self, body: bytes, start: float) -> Response:
        """Score with each scorer of a request, and answer with values or errors of each."""
        loop, until = asyncio.get_running_loop(), start + self.limits.seconds
        async with asyncio.timeout_at(_loop_time(until)):
            parsed = await loop.run_in_executor(self._parsing, parse_request, body, self.limits)
        del body
        until = min(until, start + parsed.seconds)
        async with asyncio.timeout_at(_loop_time(until)):
            parsed = await self._downloaded(parsed)
        names = parsed.models or [*self._queues]
        if unknown := [name for name in names if name not in self._queues]:
            error = UnknownNameError.nearest(
                "model", unknown[0][:200], self._queues, "GET /v1/models lists those of the server."
            )
            raise RequestError(404, str(error))
        if full := [n for n in names if len(self._queues[n]) >= self.limits.waiting]:
            raise RequestError(
                429, f"{self.limits.waiting} requests wait for {full[0]!r}", RETRY_AFTER
            )
        answers = await asyncio.gather(*(self._result(name, parsed, until) for name in names))
        results = [result for _, result in answers]
        status = max(status for status, _ in answers)
        if all(result["error"] for result in results):
            headers = {"retry-after": str(RETRY_AFTER)} if status == 429 else {}
            message = results[0]["error"]["message"]
            content = {"error": {"message": message}, "results": results}
            return JsonResponse(content, status, headers)
        return JsonResponse({"results": results})

    async def _result(
        self, name: str, parsed: ScoreRequest, until: float
    ) -> tuple[int, dict[str, Any]]:
        """Return the status and the result of one scorer."""
        queue = self._queues[name]
        try:
            blocks = parsed.blocks(queue.scorer)
            future: Future[JobResult] = queue.submit(blocks, parsed.templates, until)
            async with asyncio.timeout_at(_loop_time(until)):
                result = await asyncio.wrap_future(future)
        except TimeoutError:
            return _failed(name, 504, str(_too_late()))
        except QueueFullError as error:
            return _failed(name, 429, str(error))
        except T2VError as error:
            status = 400 if isinstance(error, (InputError, UnknownNameError)) else 500
            return _failed(name, status, str(error))
        return 200, {"model": name, "id": result.scorer_id, **_cells(parsed, result), "error": None}


async def _while_connected(request: Request, answer: Coroutine[Any, Any, Response]) -> Response:
    """Return an answer; where its client closes the connection first, stop and take no place."""
    answering, gone = asyncio.create_task(answer), asyncio.create_task(_disconnection(request))
    try:
        await asyncio.wait((answering, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientDisconnect
        return answering.result()
    finally:
        answering.cancel()
        gone.cancel()


async def _disconnection(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _cells(parsed: ScoreRequest, result: JobResult) -> dict[str, Any]:
    """Return the scores and failures of a request; a score that is missing is null."""
    if parsed.pairs:
        scores = [_value(block[0, 0]) for block in result.scores]
        places = {(k, k): reason for (k, _, _), reason in result.failures.items()}
        failures = sorted(places.items())
        return {"scores": scores, "failures": [_failure(*failure) for failure in failures]}
    rows = [[_value(value) for value in row] for row in result.scores[0]]
    places = {(i, j): reason for (_, i, j), reason in result.failures.items()}
    return {"scores": rows, "failures": [_failure(*failure) for failure in sorted(places.items())]}


def _value(score: Any) -> float | None:
    value = float(score)
    return value if value == value else None


def _failure(place: tuple[int, int], reason: str) -> dict[str, Any]:
    return {"image": place[0], "text": place[1], "reason": reason}


def _failed(name: str, status: int, message: str) -> tuple[int, dict[str, Any]]:
    error = {"status": status, "message": message}
    return status, {"model": name, "id": None, "scores": None, "failures": [], "error": error}


def _loop_time(until: float) -> float:
    """Return a time of `time.monotonic` as the event loop counts."""
    return asyncio.get_running_loop().time() + until - time.monotonic()


def _too_late() -> RequestError:
    return RequestError(504, "there was no answer within the time of the request; send less, later")


def error_response(
    status: int, message: str, headers: Mapping[str, str] | None = None
) -> JsonResponse:
    """Return an error as JSON.

    >>> error_response(404, "there is no such path").body
    b'{"error": {"message": "there is no such path"}}'
    """
    return JsonResponse({"error": {"message": message}}, status, dict(headers or {}))


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    after = error.retry_after
    return error_response(
        error.status, str(error), None if after is None else {"retry-after": str(after)}
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(error.status_code, error.detail, error.headers)


async def _disconnected(request: Request, error: Exception) -> Response:
    return error_response(400, "the connection was closed")  # which nobody reads


async def _internal_error(request: Request, error: Exception) -> Response:
    return error_response(500, f"the server failed ({type(error).__name__}); its log says why")
