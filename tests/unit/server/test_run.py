"""A server behind a socket: slow clients, many clients, signals, and the command."""

import asyncio
import json
import signal
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace

import httpx2
import numpy as np
import pytest
import torch
from helpers.processes import COMMAND, HANGING, Forked
from helpers.services.scoring_server import SENT, TOKEN, file_of, request_of, serving
from helpers.toy import ToyEmbedding, draw_image, expected
from typer.testing import CliRunner

from t2v_eval.cards import ModelCard
from t2v_eval.cli.main import app
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.server.requests import ServerLimits
from t2v_eval.server.run import SILENT_SECONDS

CLIENTS, REQUESTS = 8, 200


def connect(address):
    host, _, port = address.removeprefix("http://").rpartition(":")
    opened = socket.create_connection((host, int(port)), timeout=60)
    return opened


def read_all(opened):
    """What the server sends until it closes the connection."""
    content = b""
    while part := opened.recv(65536):
        content += part
    return content


def test_many_clients_lose_nothing_and_get_their_own_answers():
    images = [draw_image(seed) for seed in range(20)]
    files = [file_of(image) for image in images]
    lost, wrong = Counter(), Counter()

    def client(number):
        with httpx2.Client(base_url=address, headers=SENT, timeout=60) as http:
            for n in range(number, REQUESTS, CLIENTS):
                picked = [(n * 7 + k) % len(images) for k in range(3)]
                texts = [f"text {n}", "the same"]
                body = {"images": [files[k] for k in picked], "texts": texts}
                response = http.post("/v1/score", json=body)
                lost[response.status_code != 200] += 1
                cosines = [[expected(images[k], text) for text in texts] for k in picked]
                scores = response.json()["results"][0]["scores"]
                wrong[not np.allclose(scores, cosines, atol=1e-6)] += 1

    with serving([ToyEmbedding()]) as address, ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(client, range(CLIENTS)))
    assert lost == wrong == {False: REQUESTS}


@pytest.fixture
def clock(monkeypatch):
    """The time of event loops, which a test sets ahead: `ahead` is in seconds."""
    clock, now = SimpleNamespace(ahead=0.0), asyncio.BaseEventLoop.time
    monkeypatch.setattr(asyncio.BaseEventLoop, "time", lambda loop: now(loop) + clock.ahead)
    return clock


def test_slow_clients_are_closed_and_disturb_nobody(clock):
    head = f"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    begun = f"{head}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
    image, limits = draw_image(0), ServerLimits()

    def ask():
        body = request_of([image], ["a cat"])
        response = httpx2.post(f"{address}/v1/score", json=body, headers=SENT, timeout=60)
        (result,) = response.json()["results"]
        np.testing.assert_allclose(result["scores"], [[expected(image, "a cat")]], atol=1e-6)

    def read_until_closed(opened):
        opened.settimeout(0.2)
        while True:
            try:
                return read_all(opened)
            except TimeoutError:
                clock.ahead += SILENT_SECONDS

    with serving([ToyEmbedding()], limits=limits) as address, ExitStack() as stack:
        slow = [stack.enter_context(connect(address)) for _ in range(60)]
        for n, opened in enumerate(slow):
            opened.sendall([b"", head.encode(), begun.encode()][n % 3])
        ask()  # The server has read what came before.
        clock.ahead += SILENT_SECONDS
        for n, opened in enumerate(slow):
            assert n % 3 == 2 or read_all(opened) == b""
        ask()
        clock.ahead += limits.body_seconds - SILENT_SECONDS
        for opened in slow[2::3]:
            assert opened.recv(12) == b"HTTP/1.1 408"
            read_until_closed(opened)
        ask()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /v1/score HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"\x00" * 1000,
    ],
    ids=range(7),
)
def test_what_is_no_http_is_refused(sent, shared_address):
    with connect(shared_address) as opened:
        opened.sendall(sent)
        try:
            opened.shutdown(socket.SHUT_WR)
            answer = read_all(opened)
        except OSError:  # the server has closed the connection
            answer = b""
    assert not answer or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 401"))
    assert httpx2.get(f"{shared_address}/healthz", timeout=60).status_code == 200


@pytest.fixture(scope="module")
def shared_address():
    with serving([ToyEmbedding()]) as address:
        yield address


class Gate(Scorer):
    """Scores the number of letters once it is opened, and remembers the texts."""

    version = "1"

    def __init__(self):
        super().__init__(card=ModelCard("gate", "gate", __name__))
        self.entered, self.opened = threading.Event(), threading.Event()
        self.texts = []

    def score_cells(self, images, texts, cells):
        self.texts += texts
        self.entered.set()
        assert self.opened.wait(HANGING)
        yield ScoreChunk(np.arange(len(cells)), torch.tensor([float(len(texts[0]))]))


def test_requests_of_clients_that_have_gone_are_not_scored():
    gate = Gate()

    def send(text):
        content = json.dumps(request_of([draw_image(0)], [text])).encode()
        head = f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
        opened = connect(address)
        opened.sendall(
            f"POST /v1/score HTTP/1.1\r\nHost: localhost\r\n{head}"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        return opened

    def wait_for(count):
        sample = f't2v_eval_waiting_requests{{model="gate"}} {count:.1f}\n'
        until = time.monotonic() + HANGING
        while sample not in httpx2.get(f"{address}/metrics", headers=SENT, timeout=60).text:
            assert time.monotonic() < until

    with serving([gate]) as address:
        first = send("first")
        assert gate.entered.wait(HANGING)
        others = [send("x" * n) for n in range(10)]
        wait_for(10)
        for opened in others[:9]:
            opened.close()
        wait_for(1)
        gate.opened.set()
        for opened, score in ((first, b"[[5.0]]"), (others[9], b"[[9.0]]")):
            with opened:
                content = b""
                while score not in content:
                    part = opened.recv(65536)
                    assert part, content
                    content += part
    assert gate.texts == ["first", "x" * 9]


SLOW = """
import pathlib, time

def slow(images, texts):
    pathlib.Path("begun").touch()
    while not pathlib.Path("go_on").exists():
        time.sleep(0.01)
    return [[image.width + len(text) for text in texts] for image in images]
"""


def test_sigterm_answers_what_has_arrived(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "token").write_text(TOKEN)
    command = "serve -m slow.py:slow --port 0 --token-file token --no-store".split()
    process = Forked(COMMAND, command, cwd=tmp_path)
    with ExitStack() as stack:
        stack.callback(process.kill)
        line = process.stderr.readline()
        assert line.startswith("serving slow at http://127.0.0.1:"), line
        address = line.split()[3].rstrip(";")
        answers = []

        def ask():
            body = request_of([draw_image(0)], ["a cat"])
            answers.append(httpx2.post(f"{address}/v1/score", json=body, headers=SENT, timeout=60))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        threads[0].start()
        until = time.monotonic() + HANGING
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.01)
        for thread in threads[1:]:
            thread.start()
        while True:  # until all four have arrived
            text = httpx2.get(f"{address}/metrics", headers=SENT, timeout=60).text
            if 't2v_eval_waiting_requests{model="slow"} 3.0' in text:
                break
            assert time.monotonic() < until, text
        process.send_signal(signal.SIGTERM)
        with pytest.raises(httpx2.TransportError):
            while time.monotonic() < until:
                httpx2.get(f"{address}/healthz", timeout=60)
        (tmp_path / "go_on").touch()
        for thread in threads:
            thread.join(HANGING)
        assert process.wait() == 143
        assert "requests that had arrived are answered" in process.stderr.read()
    assert [json.loads(a.text)["results"][0]["scores"] for a in answers] == [[[17.0]]] * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0: other machines"),
        (["--token-file", "gone"], "--token-file"),
        (["--token-file", "short"], "16 characters or more"),
        (["--timeout", "inf"], "--timeout inf; pass a finite number above 0"),
    ],
)
def test_mistakes_are_told_before_a_model_is_loaded(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_text("secret")
    done = CliRunner().invoke(app, ["serve", "-m", "clip-flant5-xxl", *arguments])
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert "secret" not in done.stderr


def test_a_port_in_use_is_told_before_a_model_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(app, ["serve", "-m", "clip-flant5-xxl", "--port", port])
    assert done.exit_code == 2
    assert "in use" in done.stderr
