"""OpenAI's images API for a server of the tests: an image whose colour follows from its request."""

from __future__ import annotations

import base64
import hashlib
import io
from typing import Any

from helpers.services.loopback import Reply, Request
from PIL import Image


def colour(prompt: str, seed: int | None = None) -> tuple[int, int, int]:
    """The colour of the image of a prompt."""
    red, green, blue = hashlib.blake2b(f"{prompt} {seed}".encode(), digest_size=3).digest()
    return red, green, blue


def file(prompt: str, seed: int | None = None, form: str = "PNG") -> bytes:
    """The image of a prompt as a file."""
    stream = io.BytesIO()
    Image.new("RGB", (48, 48), colour(prompt, seed)).save(stream, form)
    return stream.getvalue()


def answer(**data: Any) -> Reply:
    """An answer with one image."""
    return Reply({"created": 1, "data": [data], "usage": {"total_tokens": 9}})


def right(request: Request) -> Reply:
    """The image of a request, in base64."""
    content = file(request.body["prompt"], request.body.get("seed"))
    return answer(b64_json=base64.b64encode(content).decode())
