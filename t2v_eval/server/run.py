"""Run a server until it is stopped, by uvicorn."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from t2v_eval.errors import InputError
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.server.access import check_host
from t2v_eval.server.app import ScoringServer
from t2v_eval.server.requests import ServerLimits

SILENT_SECONDS = 15.0  # after which a connection without a request is closed
MAX_HEADER_BYTES = 1 << 16


class TimedProtocol(H11Protocol):
    """HTTP/1.1 that closes connections on which no request arrives completely enough to begin.

    uvicorn itself waits for the headers of a request for ever, so that a client which sends them
    byte by byte, or not at all, would hold its connection.

    >>> TimedProtocol.silent_seconds
    15.0
    """

    silent_seconds = SILENT_SECONDS

    def connection_made(self, transport: Any) -> None:
        """Begin to watch a connection."""
        super().connection_made(transport)
        self._watch(None)

    def _watch(self, waiting_after: object) -> None:
        """Close the connection if no request has begun since the last look.

        Args:
            waiting_after: the request after which it waited then, or the connection itself.
        """
        if self.transport.is_closing():
            return
        waits = self.cycle is None or self.cycle.response_complete
        last = (self.cycle or self) if waits else None
        if waits and last is waiting_after:
            self.transport.close()
        else:
            self.loop.call_later(self.silent_seconds, self._watch, last)


def listen(host: str, port: int) -> socket.socket:
    """Open the socket of a server.

    Raises:
        InputError: the address is in use, or not one of this machine.

    >>> with listen("127.0.0.1", 0) as opened:
    ...     opened.getsockname()[0]
    '127.0.0.1'
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"`port={port}` of `host={host!r}` cannot be opened: {reason}; pass another one"
        ) from None


def address_of(opened: socket.socket) -> str:
    """Return the address of a server's socket.

    >>> with listen("127.0.0.1", 0) as opened:
    ...     address_of(opened).rpartition(":")[0]
    'http://127.0.0.1'
    """
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def config_of(server: ScoringServer) -> uvicorn.Config:
    """Return the settings of uvicorn: limits of headers and connections, and no other features."""
    return uvicorn.Config(
        server.app,
        http=TimedProtocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_graceful_shutdown=int(server.limits.seconds + server.limits.body_seconds),
    )


def serve(
    scorers: Sequence[Scorer],
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str = "",
    limits: ServerLimits | None = None,
    on_start: Callable[[str], None] = print,
) -> None:
    """Score over HTTP until Ctrl-C or SIGTERM; requests that have arrived are answered first.

    Args:
        scorers: loaded scorers of different names; each scores in a thread of its own.
        host: the address to listen on.
        port: the port to listen on; 0 for any that is free.
        token: what clients must send; only a server that this machine alone can reach may do
            without.
        limits: what requests may hold.
        on_start: called with the address of the server.

    Raises:
        InputError: the address cannot be opened, or other machines could use a server without a
            token.

    >>> serve([], host="0.0.0.0")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    t2v_eval.errors.InputError: `host='0.0.0.0'`: other machines could use the server ...
    """
    check_host(host, token)
    with listen(host, port) as opened:
        server = uvicorn.Server(config_of(ScoringServer(scorers, token, limits)))
        on_start(address_of(opened))
        server.run(sockets=[opened])
