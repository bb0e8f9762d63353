"""Download images within one time limit, from public addresses only unless more is allowed.

A URL in a table may come from anyone. Neither it nor its redirects may reach servers inside this
machine's network (SSRF), so the address of each connection is checked, not the host name.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any, Literal, TypeAlias
from urllib.parse import quote, urljoin, urlsplit

from t2v_eval.errors import MediaError
from t2v_eval.utils.printable import redact_userinfo

AllowUrls: TypeAlias = bool | Literal["private", "any"]

MAX_BYTES = 50 * 2**20
MAX_SECONDS = 30.0  # from the name's resolution to the last byte, redirects included
MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def download(url: str, name: str, allow: AllowUrls) -> bytes:
    """Download the content of a URL.

    Args:
        url: an http or https URL.
        name: its name in messages.
        allow: whether URLs may be downloaded at all; "private" and "any" also from addresses that
            are not public, such as 127.0.0.1 and 192.168.0.1.

    Raises:
        MediaError: downloads are not allowed, or it fails, takes too long or is too large.

    >>> try:
    ...     download("http://example.org/a.png", "images[0]", False)
    ... except MediaError as error:
    ...     print(str(error)[:22])
    images[0]: is a URL; p
    """
    if not allow:
        raise MediaError(f"{name}: is a URL; pass `allow_urls=True` to let the scorer download it")
    deadline = Deadline(MAX_SECONDS)
    try:
        for _ in range(MAX_REDIRECTS + 1):
            content = _get(url, deadline, allow in ("private", "any"))
            if isinstance(content, bytes):
                return content
            url = content.url
        raise _RefusedError(f"is redirected more than {MAX_REDIRECTS} times; pass where it leads")
    except _RefusedError as error:
        raise MediaError(f"{name}: {error}") from None
    except TimeoutError:
        raise MediaError(
            f"{name}: not downloaded within {MAX_SECONDS:g} s; download it and pass the file"
        ) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise MediaError(
            f"{name}: cannot be downloaded: {redact_userinfo(str(error)) or type(error).__name__}; "
            "check the address, or download it and pass the file"
        ) from error


class Deadline:
    """A moment by which a download must be finished.

    >>> 0 < Deadline(30).remaining() <= 30
    True
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds that remain.

        Raises:
            TimeoutError: no time remains.
        """
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the time is over")
        return seconds


class _RefusedError(Exception):
    """A URL is refused; the message says why."""


class _Redirect:
    def __init__(self, url: str) -> None:
        self.url = url


def _get(url: str, deadline: Deadline, private: bool) -> bytes | _Redirect:
    """Send one request; return the content, or the redirect."""
    parts = urlsplit(url)
    if redact_userinfo(url) != url:
        raise _RefusedError("holds a user or password; download it and pass the file")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _RefusedError("leads to no http or https address; pass one, or the file itself")
    connection, target = _connection(parts, deadline, private)
    try:
        connection.connect()
        connection.sock = _Bounded(connection.sock, deadline)
        agent = "t2v-eval (https images for evaluation)"
        connection.request("GET", target, headers={"User-Agent": agent, "Accept": "*/*"})
        response = connection.getresponse()
        if response.status in _REDIRECTS and (place := response.headers.get("Location")):
            return _Redirect(urljoin(url, place))
        if response.status != 200:
            raise _RefusedError(f"cannot be downloaded: status {response.status} {response.reason}")
        return _body(response)
    finally:
        connection.close()


def _connection(
    parts: Any, deadline: Deadline, private: bool
) -> tuple[http.client.HTTPConnection, str]:
    """Return a connection that is not yet open, and the request target."""
    host, port = parts.hostname.encode("idna").decode(), parts.port
    target = quote(parts.path or "/", safe="%/:;=@!$&'()*+,~")
    if parts.query:
        target += "?" + quote(parts.query, safe="%/:;=@!$&'()*+,~?[]")
    proxy = None if urllib.request.proxy_bypass(host) else _proxy(parts.scheme)
    if proxy is not None and not private:
        _check_literal(host)  # the proxy resolves names, and is trusted with that

    def connect(address: tuple[str, int], *_: Any, **__: Any) -> socket.socket:
        return _connect(address, deadline, private or proxy is not None)

    secure = parts.scheme == "https"
    # Without a port, http.client would take the end of an IPv6 address for one.
    server_host, server_port = proxy or (host, port or (443 if secure else 80))
    connection = (
        http.client.HTTPSConnection(server_host, server_port, context=ssl.create_default_context())
        if secure
        else http.client.HTTPConnection(server_host, server_port)
    )
    # http.client keeps the function that opens its sockets in this attribute.
    connection._create_connection = connect  # type: ignore[attr-defined]
    if proxy is not None and secure:
        connection.set_tunnel(host, port or 443)
    elif proxy is not None:
        url_host = f"[{host}]" if ":" in host else host
        target = f"http://{url_host}{f':{port}' if port else ''}{target}"
    return connection, target


def _proxy(scheme: str) -> tuple[str, int] | None:
    """Return the host and port of the environment's proxy for a scheme."""
    address = urllib.request.getproxies().get(scheme)
    if not address:
        return None
    parts = urlsplit(address if "://" in address else f"http://{address}")
    return (parts.hostname, parts.port or 80) if parts.hostname else None


def _connect(address: tuple[str, int], deadline: Deadline, private: bool) -> socket.socket:
    """Connect to the first allowed address of a host that answers."""
    host, port = address
    resolved = within(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), deadline)
    allowed = [entry for entry in resolved if private or is_public(str(entry[4][0]))]
    if not allowed:
        raise _private(host, sorted({str(entry[4][0]) for entry in resolved}))
    error: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, endpoint in allowed:
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(deadline.remaining())
            opened.connect(endpoint)
            opened.settimeout(deadline.remaining())  # for TLS
            return opened
        except OSError as failure:
            opened.close()
            error = failure
        except BaseException:
            opened.close()
            raise
    raise error


def is_public(address: str) -> bool:
    """Return whether an IP address is public, not of this machine or a private network.

    >>> [is_public(a) for a in ("93.184.215.14", "10.0.0.1", "::ffff:127.0.0.1", "fe80::1%eth0")]
    [True, False, False, False]
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in _NAT64:
            embedded.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        if ipv4 := [inner for inner in embedded if inner is not None]:
            return all(is_public(str(inner)) for inner in ipv4)
        if ip.is_site_local or int(ip) < 2**32:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _check_literal(host: str) -> None:
    """Refuse a private address before it is requested from a proxy."""
    if host == "localhost" or host.endswith(".localhost"):
        raise _private(host, [host])
    try:
        # Other forms of IPv4, such as 2130706433 and 0x7f.1, too.
        address = socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        address = host
    try:
        public = is_public(address)
    except ValueError:
        return  # a name
    if not public:
        raise _private(host, [address])


def _private(host: str, addresses: list[str]) -> _RefusedError:
    return _RefusedError(
        f"{host} is at {', '.join(addresses) or 'no address'}, which is not public; where you "
        "trust every URL, pass `allow_urls='private'`"
    )


def within(work: Callable[[], Any], deadline: Deadline) -> Any:
    """Return what `work` returns, in a thread that is abandoned when the time is over.

    Args:
        work: a function.
        deadline: when to give up.

    Raises:
        TimeoutError: the time is over.
        Exception: what `work` raises.

    >>> within(lambda: 3, Deadline(30))
    3
    """
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except Exception as error:  # raised in the thread that waits
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True, name="t2v-resolve")
    thread.start()
    thread.join(deadline.remaining())
    if not outcome:
        raise TimeoutError("no address within the time")
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


def _body(response: http.client.HTTPResponse) -> bytes:
    content = bytearray()
    announced = response.length or 0
    while announced <= MAX_BYTES and (part := response.read1(2**16)):
        content += part
        if len(content) > MAX_BYTES:
            break
    if max(announced, len(content)) > MAX_BYTES:
        raise _RefusedError(f"larger than {MAX_BYTES >> 20} MiB; download it and pass the file")
    if response.length:  # what was announced and did not come
        raise http.client.HTTPException(f"{response.length} bytes are missing")
    return bytes(content)


class _Bounded:
    """A socket whose operations all end at the deadline; a socket's timeout restarts each time."""

    def __init__(self, opened: socket.socket, deadline: Deadline) -> None:
        self._socket, self._deadline = opened, deadline

    def sendall(self, content: bytes) -> None:
        self._socket.settimeout(self._deadline.remaining())
        self._socket.sendall(content)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_BoundedReader(self._socket, self._deadline))

    def close(self) -> None:
        self._socket.close()  # open until what `makefile` returned is closed too


class _BoundedReader(io.RawIOBase):
    def __init__(self, opened: socket.socket, deadline: Deadline) -> None:
        self._socket, self._deadline = opened, deadline
        self._raw = opened.makefile("rb", 0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(self._deadline.remaining())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
