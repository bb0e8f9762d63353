"""A server of scorers in this process: behind a socket, or without one."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx2
import uvicorn
from PIL import Image

from t2v_eval.scoring.scorer import Scorer
from t2v_eval.server.app import ScoringServer
from t2v_eval.server.requests import ServerLimits
from t2v_eval.server.run import address_of, config_of, listen

TOKEN = "correct-horse-battery-staple"
SENT = {"authorization": f"Bearer {TOKEN}"}


@contextmanager
def serving(
    scorers: Sequence[Scorer], token: str = TOKEN, limits: ServerLimits | None = None
) -> Iterator[str]:
    """Serve scorers in a thread until the end of the block; yield the address."""
    with listen("127.0.0.1", 0) as opened:
        config = config_of(ScoringServer(scorers, token, limits))
        config.loop = "asyncio"  # whose clock a test may set, also where uvloop is installed
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
        thread.start()
        try:
            yield address_of(opened)
        finally:
            server.should_exit = True
            thread.join(60)


@contextmanager
def server_of(
    scorers: Sequence[Scorer], token: str = TOKEN, limits: ServerLimits | None = None
) -> Iterator[ScoringServer]:
    """A server without a socket, whose threads end with the block."""
    server = ScoringServer(scorers, token, limits)
    try:
        yield server
    finally:
        server.close()


def client_of(server: ScoringServer, **headers: str) -> httpx2.AsyncClient:
    """A client that calls the application in this process, with the token by default."""
    transport = httpx2.ASGITransport(server.app, raise_app_exceptions=False)
    return httpx2.AsyncClient(
        transport=transport, base_url="http://localhost", headers=headers or SENT, timeout=60
    )


def file_of(image: Image.Image) -> dict[str, str]:
    """An image as a request holds it."""
    content = io.BytesIO()
    image.save(content, "PNG")
    return {"base64": base64.b64encode(content.getvalue()).decode()}


def request_of(images: Sequence[Image.Image], texts: Sequence[str], **more: Any) -> dict[str, Any]:
    """The body of a request."""
    return {"images": [file_of(image) for image in images], "texts": [*texts], **more}
