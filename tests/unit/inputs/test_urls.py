"""URLs of images: only where allowed, within one time limit, and from public addresses."""

from __future__ import annotations

import http.server
import io
import socket
import threading

import numpy as np
import pytest
from helpers.toy import ToyEmbedding, draw_image
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, MediaError
from t2v_eval.inputs import urls
from t2v_eval.inputs.media import decode, open_media


def png() -> bytes:
    stream = io.BytesIO()
    draw_image(0).save(stream, "PNG")
    return stream.getvalue()


def pixels(source, **options):
    return np.asarray(decode(open_media(source, **options)))


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/gone.png":
            self.send_error(404)
            return
        place, _, target = self.path.partition("?to=")
        if place == "/redirect":
            self.send_response(302)
            self.send_header("Location", target or self.path)
            self.end_headers()
            return
        content = png()
        more = 1000 if self.path == "/cut.png" else 0
        self.send_response(200)
        if self.path != "/endless.png":
            self.send_header("Content-Length", str(len(content) + more))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def without_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_urls_are_fetched_only_when_allowed_and_within_limits(address, monkeypatch):
    with pytest.raises(MediaError, match="allow_urls=True"):
        pixels(f"{address}/a.png")
    for path in ("a.png", "a picture \u00fc.png?size=1 2", "endless.png", "redirect?to=/a.png"):
        np.testing.assert_array_equal(
            pixels(f"{address}/{path}", allow_urls="private"), draw_image(0)
        )
    with pytest.raises(MediaError, match="gone.png.*404"):
        pixels(f"{address}/gone.png", allow_urls="private")
    with pytest.raises(MediaError, match="cut.png.*1000 bytes are missing"):
        pixels(f"{address}/cut.png", allow_urls="private")
    with pytest.raises(MediaError, match="cannot be downloaded"):
        pixels("http://127.0.0.1:1/a.png", allow_urls="private")
    with pytest.raises(MediaError, match="redirected more than 5 times"):
        pixels(f"{address}/redirect", allow_urls="private")
    monkeypatch.setattr(urls, "MAX_BYTES", 10)
    for path in ("a.png", "endless.png"):
        with pytest.raises(MediaError, match="larger than"):
            pixels(f"{address}/{path}", allow_urls="private")


@pytest.mark.parametrize("stage", ["nothing", "headers", "body", "chunks"])
def test_a_server_that_drips_is_given_up_after_the_whole_time(stage, monkeypatch):
    """A byte now and then, each well within the time that one read may take."""
    start = {
        "nothing": b"",
        "headers": b"HTTP/1.1 200 OK\r\nX-Long: ",
        "body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    }[stage]
    drop = {"nothing": b"", "chunks": b"1\r\nx\r\n"}.get(stage, b"x")
    closed = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        opened, _ = listener.accept()
        with opened:
            opened.recv(4096)
            opened.sendall(start)
            while not closed.wait(0.02):
                try:
                    opened.sendall(drop)
                except OSError:
                    return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    monkeypatch.setattr(urls, "MAX_SECONDS", 0.5)
    try:
        with pytest.raises(MediaError, match="not downloaded within 0.5 s"):
            pixels(f"http://127.0.0.1:{listener.getsockname()[1]}/a", allow_urls="private")
    finally:
        closed.set()
        thread.join()
        listener.close()


def test_a_name_that_is_never_resolved_is_given_up(monkeypatch):
    waiting = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: waiting.wait())
    monkeypatch.setattr(urls, "MAX_SECONDS", 0.2)
    with pytest.raises(MediaError, match="not downloaded within"):
        pixels("http://slow.example/a.png", allow_urls=True)
    waiting.set()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
    ],
)
def test_this_machine_is_not_reached_by_any_spelling(host, address):
    port = address.rpartition(":")[2]
    with pytest.raises(MediaError, match="not public.*allow_urls='private'|cannot be downloaded"):
        pixels(f"http://{host}:{port}/a.png", allow_urls=True)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://[::1]/a.png", ("::1", 80)),
        ("https://[::ffff:7f00:1]/a.png", ("::ffff:7f00:1", 443)),
        ("http://[fd00::1]:8080/a.png", ("fd00::1", 8080)),
        ("http://images.example/a.png", ("images.example", 80)),
    ],
)
def test_an_address_is_asked_as_a_whole_where_no_port_is_named(url, place, monkeypatch):
    requests = []

    def connect(address, deadline, private):
        requests.append(address)
        raise OSError("out of order")

    monkeypatch.setattr(urls, "_connect", connect)
    with pytest.raises(MediaError, match="out of order"):
        pixels(url, allow_urls=True)
    assert requests == [place]


def test_a_redirect_leads_to_no_private_address(address, monkeypatch):
    port = address.rpartition(":")[2]
    monkeypatch.setattr(urls, "is_public", lambda place: place == "127.0.0.1")
    np.testing.assert_array_equal(pixels(f"{address}/a.png", allow_urls=True), draw_image(0))
    for target in (f"http://127.0.0.2:{port}/a.png", f"//127.0.0.3:{port}/a.png"):
        with pytest.raises(MediaError, match=r"127.0.0.\d is at 127.0.0.\d, which is not public"):
            pixels(f"{address}/redirect?to={target}", allow_urls=True)
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/a.png", "gopher://127.0.0.1/"):
        with pytest.raises(MediaError, match="leads to no http or https address"):
            pixels(f"{address}/redirect?to={target}", allow_urls=True)


def test_a_name_is_what_it_resolves_to(address, monkeypatch):
    port = int(address.rpartition(":")[2])
    resolved = {"inside.example": ["127.0.0.1"], "both.example": ["10.0.0.1", "127.0.0.1"]}

    def resolve(host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in resolved[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(MediaError, match="inside.example is at 127.0.0.1, which is not public"):
        pixels(f"http://inside.example:{port}/a.png", allow_urls=True)
    with pytest.raises(MediaError, match="both.example is at 10.0.0.1, 127.0.0.1, which"):
        pixels(f"http://both.example:{port}/a.png", allow_urls=True)
    # Only those of its addresses that are public are connected to.
    monkeypatch.setattr(urls, "is_public", lambda place: place == "127.0.0.1")
    for host in resolved:
        np.testing.assert_array_equal(
            pixels(f"http://{host}:{port}/a.png", allow_urls=True), draw_image(0)
        )


@pytest.mark.parametrize(
    ("place", "public"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("::ffff:8.8.8.8", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("fc00::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("::", False),
        ("::127.0.0.1", False),
        ("::ffff:192.168.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::127.0.0.1", False),
        ("64:ff9b::10.0.0.1", False),
    ],
)
def test_public_addresses(place, public):
    assert urls.is_public(place) is public


def test_through_a_proxy_private_addresses_are_refused_too(address, monkeypatch):
    monkeypatch.setenv("http_proxy", address)
    monkeypatch.delenv("no_proxy", raising=False)
    # The proxy, which is our server, answers for any name.
    np.testing.assert_array_equal(
        pixels("http://any.example/a.png", allow_urls=True), draw_image(0)
    )
    for host in ("127.0.0.1", "localhost", "2130706433", "[::1]", "192.168.0.1"):
        with pytest.raises(MediaError, match="not public"):
            pixels(f"http://{host}/a.png", allow_urls=True)


def test_what_else_is_no_address(address):
    for url in ("http:///a.png", "http://user:word@127.0.0.1/a.png", "http://[/a.png"):
        with pytest.raises(MediaError, match="no http or https|holds a user|cannot be"):
            pixels(url, allow_urls="private")


def test_a_scorer_takes_four_answers_and_the_command_line_two(address, tmp_path):
    with pytest.raises(InputError, match="`allow_urls='all'`; use True, False, 'private' or 'any'"):
        ToyEmbedding(allow_urls="all")
    result = ToyEmbedding(allow_urls="private", on_error="skip")([f"{address}/a.png"], "a cat")
    assert result.isfinite().all()
    refused = ToyEmbedding(allow_urls=True, on_error="skip")([f"{address}/a.png"], "a cat")
    assert refused.isnan().all()
    command = ["score", "-m", "tiny-clip", f"{address}/a.png", "-t", "x", "--no-store"]
    for more, code in ((["--allow-urls"], 2), (["--option", "allow_urls=private"], 0)):
        assert CliRunner().invoke(app, [*command, *more]).exit_code == code, more
