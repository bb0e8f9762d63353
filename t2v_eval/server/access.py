"""Who may use a server: the token, and the addresses that a server without one answers to."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from t2v_eval.errors import InputError
from t2v_eval.server.metrics import Metrics
from t2v_eval.utils.text_file import read_text

FREE_PATH = "/healthz"
MIN_TOKEN = 16  # characters


def read_token(path: Path) -> str:
    """Return the token that a file holds.

    Raises:
        InputError: the file cannot be read, or holds no token of 16 characters or more.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "token"
    ...     _ = file.write_text("0123456789abcdef0123456789abcdef")
    ...     len(read_token(file))
    32
    """
    try:
        token = read_text(path).strip()
    except (OSError, ValueError) as error:
        raise InputError(f"`token_file={str(path)!r}` cannot be read: {error}") from None
    if len(token) < MIN_TOKEN or not all("!" <= character <= "~" for character in token):
        raise InputError(
            f"`token_file={str(path)!r}` must hold one token of {MIN_TOKEN} characters or more and "
            "nothing else; `openssl rand -hex 32` makes one"
        )
    return token


def check_host(host: str, token: str) -> None:
    """Check that a server without a token listens on this machine alone.

    Raises:
        InputError: other machines could use it.

    >>> check_host("127.0.0.1", "")
    >>> check_host("0.0.0.0", "")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    t2v_eval.errors.InputError: `host='0.0.0.0'`: other machines could use ...
    """
    if not token and not is_loopback(host):
        raise InputError(
            f"`host={host!r}`: other machines could use the server without a token; pass "
            "`token_file=`, or leave `host=` out"
        )


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, reached by itself.

    >>> is_loopback("Localhost"), is_loopback("::1"), is_loopback("example.org")
    (True, True, False)
    """
    try:
        return host.lower() == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class Access:
    """ASGI middleware that answers requests without the token itself, and counts all of them.

    The token is sent as ``Authorization: Bearer TOKEN``, or as the password of basic
    authentication, which browsers ask for. Without a token, only requests that name this machine
    as their host are answered, so that no web page can reach the server by a name of its own.

    Args:
        app: the application behind it.
        token: the token; "" for none.
        paths: the paths of the application, for the measurements.
        metrics: counts the requests.

    >>> access = Access(None, "0123456789abcdef", ["/healthz"], Metrics())
    >>> access.refusal("/healthz", {}), access.refusal("/metrics", {})
    (0, 401)
    >>> access.refusal("/metrics", {"authorization": "Bearer 0123456789abcdef"})
    0
    """

    def __init__(self, app: ASGIApp, token: str, paths: Collection[str], metrics: Metrics) -> None:
        self._app, self._paths, self._metrics = app, paths, metrics
        self._digest = _digest(token.encode()) if token else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 500

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff")]
            await send(message)

        try:
            if refusal := self.refusal(scope["path"], Headers(scope=scope)):
                await _refuse(refusal, send_counted)
            else:
                await self._app(scope, receive, send_counted)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.count_request(path, status, time.monotonic() - start)

    def refusal(self, path: str, headers: Mapping[str, str]) -> int:
        """Return the status of a refusal: 401 without the token, 403 for another host, else 0."""
        if path == FREE_PATH:
            return 0
        if self._digest:
            sent = _sent_token(headers.get("authorization", ""))
            return 0 if hmac.compare_digest(_digest(sent), self._digest) else 401
        host = headers.get("host", "").strip()
        name = host[1:].partition("]")[0] if host[:1] == "[" else host.partition(":")[0]
        return 0 if is_loopback(name) else 403


def _digest(token: bytes) -> bytes:
    """Return a hash, whose comparison does not depend on the length of the token."""
    return hashlib.sha256(token).digest()


def _sent_token(authorization: str) -> bytes:
    scheme, _, value = authorization.partition(" ")
    value = value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return value.encode("latin-1", "replace") if scheme.lower() == "bearer" else b""


async def _refuse(status: int, send: Send) -> None:
    message = {
        401: "send the token of this server as `Authorization: Bearer TOKEN`",
        403: "a server without a token answers only to localhost, by that name or address",
    }[status]
    headers = [(b"content-type", b"application/json")]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="t2v-eval", charset="UTF-8"'))
    body = json.dumps({"error": {"message": message}}).encode()
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
