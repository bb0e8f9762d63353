"""What a request may hold besides image files: URLs where the command allows them, and videos."""

import asyncio
import base64
import threading

import numpy as np
import pytest
import torch
from helpers.media.videos import by_hand, encode
from helpers.services.loopback import Reply, Server
from helpers.services.scoring_server import client_of, file_of, server_of
from helpers.toy import draw_image
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.errors import MediaError
from t2v_eval.inputs.video import Sampling, clip
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.server import run
from t2v_eval.server.requests import ServerLimits

IMAGE = draw_image(0)
RED = """
def red(images, texts):
    return [[image.convert("RGB").getpixel((3, 5))[0]] for image in images]
"""


def ask(server, *images):
    """The response to a request of images and one text."""

    async def post():
        async with client_of(server) as client:
            return await client.post("/v1/score", json={"images": [*images], "texts": ["a cat"]})

    return asyncio.run(post())


@pytest.fixture
def images_by_url(monkeypatch):
    """A server of images on this machine."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server(lambda request: Reply(base64.b64decode(file_of(IMAGE)["base64"]))) as server:
        yield server


@pytest.fixture
def answer(tmp_path, monkeypatch):
    """Returns what the server of a command answers, in this process."""
    (tmp_path / "red.py").write_text(RED)
    command = ["serve", "-m", f"{tmp_path / 'red.py'}:red", "--no-store", "--port", "0"]

    def invoke(options, *images):
        responses = []

        def serve(scorers, host, port, token, limits, on_start):
            with server_of(scorers, token, limits) as server:
                responses.append(ask(server, *images))

        monkeypatch.setattr(run, "serve", serve)
        done = CliRunner().invoke(app, [*command, *options], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return responses[0]

    return invoke


def test_urls_are_downloaded_only_where_the_command_allows_it(answer, images_by_url):
    url = {"url": f"{images_by_url.address}/a.png"}
    refused = answer([], url, file_of(IMAGE))
    assert refused.status_code == 400
    message = refused.json()["error"]["message"]
    assert message == "`images[0]`: this server takes no URLs; send the file as base64"
    assert images_by_url.requests == []

    # The flag means public addresses, which this machine's is not; the other image has its score.
    (public,) = answer(["--allow-urls"], url, file_of(IMAGE)).json()["results"]
    red = float(np.asarray(IMAGE)[5, 3, 0])
    assert public["scores"] == [[None], [red]]
    (failure,) = public["failures"]
    assert (failure["image"], "is not public" in failure["reason"]) == (0, True), failure
    assert images_by_url.requests == []

    gone = {"url": "http://127.0.0.1:1/a.png"}
    (every,) = answer(["--option", "allow_urls=private"], url, gone).json()["results"]
    assert every["scores"] == [[red], [None]]
    assert "cannot be downloaded" in every["failures"][0]["reason"]
    assert [request.path for request in images_by_url.requests] == ["/a.png"]


def test_the_time_of_a_request_counts_downloads(monkeypatch):
    opened, clock = threading.Event(), {"ahead": 0.0}

    async def post(server):
        async with client_of(server) as client:
            body = {"images": [{"url": f"{held.address}/a.png"}], "texts": ["a"], "timeout": 50}
            response = asyncio.ensure_future(client.post("/v1/score", json=body))
            while not held.requests:
                await asyncio.sleep(0.001)
            clock["ahead"] = 50.0
            done = await response
            opened.set()
            return done

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    now = asyncio.BaseEventLoop.time
    monkeypatch.setattr(asyncio.BaseEventLoop, "time", lambda loop: now(loop) + clock["ahead"])
    limits = ServerLimits(allow_urls="private")
    with (
        Server(lambda _: Reply(b""), hold=lambda _: not opened.is_set()) as held,
        server_of([Brightness()], limits=limits) as server,
    ):
        response = asyncio.run(post(server))
    assert response.status_code == 504, response.text


class Brightness(Scorer):
    """The mean of all pixels of sixteen frames."""

    version = "1"

    def score_cells(self, images, texts, cells):
        for n, (i, _) in enumerate(cells.tolist()):
            try:
                frames = clip(images[i], Sampling(count=16)).frames
            except MediaError as error:
                yield ScoreChunk(np.array([n]), None, str(error))
            else:
                value = np.mean([np.asarray(frame) for frame in frames])
                yield ScoreChunk(np.array([n]), torch.tensor([value]))


def test_a_video_file_has_the_score_of_a_local_call(tmp_path):
    path = encode(tmp_path / "fading.mp4", count=16)
    content, scorer = path.read_bytes(), Brightness()
    files = [{"base64": base64.b64encode(part).decode()} for part in (content, content[:200])]
    with server_of([scorer]) as server:
        (result,) = ask(server, *files).json()["results"]
    assert result["scores"] == [*scorer(path, "a cat").tolist(), [None]]
    assert result["scores"][0] == [pytest.approx(np.mean(by_hand(path)))]
    assert [failure["image"] for failure in result["failures"]] == [1]
