"""HTTP clients that read responses with a size limit, a deadline and the key redacted."""

from __future__ import annotations

import codecs
import logging
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from t2v_eval.errors import ScoringError, ServiceError
from t2v_eval.remote.request_pool import RetryError
from t2v_eval.utils.printable import redact_userinfo

from .api_key import Key

MAX_ANSWER_BYTES = 8 * 2**20  # enough for 128 long completions
MAX_FILE_BYTES = 4 * 2**30
CHUNK_BYTES = 2**16  # decompressed before they are counted


class ReadLimits(NamedTuple):
    """How responses are read.

    Attributes:
        key: the key to redact.
        seconds: time for a whole response, however slowly its bytes arrive.
        max_bytes: the largest response, decompressed.

    >>> ReadLimits(Key("sk-0123456789"), seconds=60.0).seconds
    60.0
    """

    key: Key
    seconds: float
    max_bytes: int = MAX_ANSWER_BYTES


# Loggers that write response headers, where a program logs at level DEBUG.
LOGS = [f"{name}.{part}" for name in ("httpcore", "httpcore2") for part in ("http11", "proxy")]


@contextmanager
def redact_logs(key: Key) -> Iterator[None]:
    """Redact the key in what HTTP clients log, within a `with` block.

    >>> with redact_logs(Key("sk-0123456789")):
    ...     logging.getLogger(LOGS[0]).debug("key sk-0123456789")
    """

    def redact(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if key.occurs_in(message):
            record.msg, record.args = key.redact(message), ()
        return True

    loggers = [logging.getLogger(name) for name in LOGS]
    for logger in loggers:
        logger.addFilter(redact)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(redact)


def limit_client(client: Any) -> Any:
    """Return a subclass of an httpx client that limits responses.

    Responses are decompressed here with a limit, since the client itself would decompress a
    thousandfold without one.

    Args:
        client: a client class of either version of httpx, synchronous or not.

    Returns:
        A class whose constructor takes `read_limits` too, a `ReadLimits`.

    >>> import openai
    >>> limits = ReadLimits(Key("sk-0123456789"), seconds=60.0)
    >>> limited = limit_client(openai.DefaultHttpxClient)
    >>> with limited(read_limits=limits, timeout=5.0) as client:
    ...     client.timeout.read
    5.0
    """
    return _limit_async(client) if hasattr(client, "aclose") else _limit_sync(client)


# What clients read of the environment when they are made.
VARIABLES = ("HTTPS_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@contextmanager
def _environment_errors() -> Iterator[None]:
    """Make an error of proxies or certificates that the environment names a ServiceError."""
    try:
        yield
    except (ImportError, OSError, ValueError) as error:
        names = " and ".join(n for n in os.environ if n.upper() in VARIABLES) or "nothing"
        raise ServiceError(
            f"no connection can be opened: {redact_userinfo(str(error))}; of proxies and "
            f"certificates, the environment sets {names}"
        ) from None


def _limit_async(client: Any) -> Any:
    class AsyncClient(client):  # type: ignore[misc]
        def __init__(self, read_limits: ReadLimits, **options: Any) -> None:
            with _environment_errors():
                super().__init__(**options)
            self._read_limits = read_limits

        async def send(self, request: Any, *, stream: bool = False, **more: Any) -> Any:
            request.headers["accept-encoding"] = "gzip"
            response = await super().send(request, stream=True, **more)
            try:
                limits = self._read_limits
                decompress = _Decompressor(response, limits.max_bytes, limits.seconds)
                content = [part async for raw in response.aiter_raw() for part in decompress(raw)]
            finally:
                await response.aclose()
            return _read_response(response, b"".join(content), self._read_limits.key)

    return AsyncClient


def _limit_sync(client: Any) -> Any:
    class Client(client):  # type: ignore[misc]
        def __init__(self, read_limits: ReadLimits, **options: Any) -> None:
            with _environment_errors():
                super().__init__(**options)
            self._read_limits = read_limits

        def send(self, request: Any, *, stream: bool = False, **more: Any) -> Any:
            request.headers["accept-encoding"] = "gzip"
            response = super().send(request, stream=True, **more)
            if stream and response.is_success:  # a file, which is redacted line by line
                return _read_response(response, self._parts(response, MAX_FILE_BYTES), None)
            content = b"".join(self._parts(response, self._read_limits.max_bytes))
            return _read_response(response, content, self._read_limits.key)

        def _parts(self, response: Any, max_bytes: int) -> Iterator[bytes]:
            try:
                decompress = _Decompressor(response, max_bytes, self._read_limits.seconds)
                for raw in response.iter_raw():
                    yield from decompress(raw)
            finally:
                response.close()

    return Client


class _Decompressor:
    """Decompress a response chunk by chunk.

    Raises:
        ScoringError: it is too large, or its encoding was not requested.
        RetryError: it is damaged, or takes too long.
    """

    def __init__(self, response: Any, max_bytes: int, seconds: float) -> None:
        self.max_bytes, self.seconds, self.count = max_bytes, seconds, 0
        self.until = time.monotonic() + seconds
        packed = map(str.strip, response.headers.get("content-encoding", "").split(","))
        names = [name for name in packed if name.lower() not in ("", "identity")]
        if [name.lower() for name in names] not in ([], ["gzip"], ["x-gzip"]):
            raise ScoringError(f"the answer is packed as {', '.join(names)[:40]}, unasked")
        self._zip = zlib.decompressobj(wbits=31) if names else None

    def __call__(self, raw: bytes) -> Iterator[bytes]:
        if time.monotonic() > self.until:
            raise RetryError(f"no answer within {self.seconds:g} s")
        more = True
        while more:
            part, raw, more = raw, b"", False
            if self._zip is not None:
                try:
                    part = self._zip.decompress(part, CHUNK_BYTES)
                except zlib.error:
                    raise RetryError("the service's answer is damaged") from None
                raw = self._zip.unconsumed_tail
                more = bool(raw) or len(part) == CHUNK_BYTES
            self.count += len(part)
            if self.count > self.max_bytes:
                raise ScoringError(
                    f"the answer is larger than {self.max_bytes // 2**20} MiB, so it was not read"
                )
            yield part


def _read_response(response: Any, content: Any, key: Key | None) -> Any:
    """Return the response with the content that was read, as the client expects it."""
    dropped = ("content-encoding", "content-length", "transfer-encoding")
    headers = [(name, value) for name, value in response.headers.items() if name not in dropped]
    if key is not None:
        headers = [(name, key.redact(value)) for name, value in headers]
        content = content.removeprefix(codecs.BOM_UTF8)  # which is no part of JSON
        text = content.decode("utf-8", "replace")
        if key.occurs_in(text):
            content = key.redact(text).encode()
    copy = type(response)(
        response.status_code,
        headers=headers,
        content=content,
        request=response.request,
        extensions=response.extensions,
    )
    copy.history = response.history
    return copy
