"""What a service sends, read with a limit and without the key, whichever client asks for it."""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from t2v_eval.errors import ScoringError
from t2v_eval.remote.request_pool import RetryError

from .api_key import Key

MOST = 8 * 2**20  # bytes of an answer; 128 long ones in a reply have room
MOST_OF_A_FILE = 4 * 2**30
AT_ONCE = 2**16  # bytes that are unpacked before they are counted


class Reading(NamedTuple):
    """How answers are read.

    Args:
        key: what must not be kept of them.
        seconds: for all of an answer, however often a byte of it comes.
    """

    key: Key
    seconds: float


# What writes headers down as they come, where a program has asked for all that can be logged.
LOGS = [f"{name}.{of}" for name in ("httpcore", "httpcore2") for of in ("http11", "proxy")]


@contextmanager
def logs_without(key: Key) -> Iterator[None]:
    """Within it, what clients log of an answer before it is read here holds no key."""

    def redact(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if key.shows(message):
            record.msg, record.args = key.hidden(message), ()
        return True

    loggers = [logging.getLogger(name) for name in LOGS]
    for logger in loggers:
        logger.addFilter(redact)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(redact)


def reading(client: Any) -> Any:
    """A client of httpx, of either version, whose answers are read with a limit.

    Answers are unpacked here, since a client unpacks all of what it is sent, and may know packings
    that make a thousand megabytes of one.
    """
    if hasattr(client, "aclose"):

        class Client(client):  # type: ignore[misc]
            def __init__(self, reading: Reading, **options: Any) -> None:
                super().__init__(**options)
                self._reading = reading

            async def send(self, request: Any, *, stream: bool = False, **more: Any) -> Any:
                request.headers["accept-encoding"] = "gzip"
                response = await super().send(request, stream=True, **more)
                try:
                    unpacked = _Unpacked(response, MOST, self._reading.seconds)
                    content = [part async for raw in response.aiter_raw() for part in unpacked(raw)]
                finally:
                    await response.aclose()
                return _read(response, b"".join(content), self._reading.key)

    else:

        class Client(client):  # type: ignore[misc,no-redef]
            def __init__(self, reading: Reading, **options: Any) -> None:
                super().__init__(**options)
                self._reading = reading

            def send(self, request: Any, *, stream: bool = False, **more: Any) -> Any:
                request.headers["accept-encoding"] = "gzip"
                response = super().send(request, stream=True, **more)
                if stream and response.is_success:  # a file, whose lines are looked at singly
                    return _read(response, self._parts(response, MOST_OF_A_FILE), None)
                content = b"".join(self._parts(response, MOST))
                return _read(response, content, self._reading.key)

            def _parts(self, response: Any, most: int) -> Iterator[bytes]:
                try:
                    unpacked = _Unpacked(response, most, self._reading.seconds)
                    for raw in response.iter_raw():
                        yield from unpacked(raw)
                finally:
                    response.close()

    return Client


class _Unpacked:
    """Unpacks an answer bit by bit.

    Raises:
        ScoringError: it is too large, or packed in a way that was not asked for.
        RetryError: it is damaged, or takes too long.
    """

    def __init__(self, response: Any, most: int, seconds: float) -> None:
        self.most, self.seconds, self.count = most, seconds, 0
        self.until = time.monotonic() + seconds
        packed = response.headers.get("content-encoding", "").lower().split(",")
        names = [name.strip() for name in packed if name.strip() not in ("", "identity")]
        if names not in ([], ["gzip"], ["x-gzip"]):
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
                    part = self._zip.decompress(part, AT_ONCE)
                except zlib.error:
                    raise RetryError("the service's answer is damaged") from None
                raw = self._zip.unconsumed_tail
                more = bool(raw) or len(part) == AT_ONCE
            self.count += len(part)
            if self.count > self.most:
                raise ScoringError(
                    f"the answer is larger than {self.most // 2**20} MiB, so it was not read"
                )
            yield part


def _read(response: Any, content: Any, key: Key | None) -> Any:
    """The answer, as a client takes it."""
    gone = ("content-encoding", "content-length", "transfer-encoding")
    headers = [(name, value) for name, value in response.headers.items() if name not in gone]
    if key is not None:
        headers = [(name, key.hidden(value)) for name, value in headers]
        text = content.decode("utf-8", "replace")
        if key.shows(text):
            content = key.hidden(text).encode()
    made = type(response)(
        response.status_code,
        headers=headers,
        content=content,
        request=response.request,
        extensions=response.extensions,
    )
    made.history = response.history
    return made
