"""A thousand requests that are malformed, too large or malicious disturb no other client."""

import asyncio
import base64
import json
import random

import numpy as np
from helpers.services.scoring_server import client_of, file_of, request_of, server_of
from helpers.toy import ToyEmbedding, draw_image, expected

from t2v_eval.server.requests import ServerLimits

REQUESTS = 1000
IMAGE, TEXT = draw_image(1), "a cat"
GOOD = request_of([IMAGE], [TEXT])
STRANGE = [
    *(None, True, -1, 0, 1e308, 10**400, "", "\x00", "\ud800", "{}", "{0.__class__}", [], [[]], {}),
    *({"base64": None}, {"base64": "A"}, {"base64": "AAAA" * 999}, {"url": "file:///etc/passwd"}),
    *({"url": "http://169.254.169.254/"}, {"frames": [{"frames": []}]}, {"frames": [], "fps": 0}),
    *(
        [{"base64": ""}] * 300,
        ["x"] * 300,
        "x" * 30_000,
        "..",
        "__class__",
        "A" * 5000,
        float("nan"),
    ),
]
RAW = [
    b"",
    b"null",
    b"[" * 100_000,
    b'{"images":' * 20_000,
    b"\xff\xfe{}",
    b"\x80\x04cos\nsystem\n(S'true'\ntR.",  # a pickle
    b'{"images": [], "images": []}',
    b"1" * 10_000,
    b'{"timeout": ' + b"9" * 5000 + b"}",
    b"{" + b'"a":1,' * 50_000 + b'"b":1}',
    b"A" * 3_000_000,  # beyond the limit
]
TYPES = [
    "application/json",
    "application/json; charset=utf-16",
    "text/plain",
    "",
    "application/x-pickle",
]
PATHS = ["/v1/score", "/v1/score/", "/v1/models", "/metrics", "/..", "/%00", "/v1/score?x=\u00e9"]


def damaged(content, chance):
    """A file with some bytes changed, or cut."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 20)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed[: chance.randint(1, len(changed))])


def bad_request(chance):
    """A method, a path, headers and a body."""
    path, kind = "/v1/score", "application/json"
    method = "POST"
    shape = chance.randrange(6)
    body = dict(GOOD)
    if shape == 0:
        content = chance.choice(RAW)
    elif shape == 1:  # a field of another type
        body[
            chance.choice([*GOOD, "models", "references", "pairs", "timeout", "template", "x"])
        ] = chance.choice(STRANGE)
        content = json.dumps(body).encode()
    elif shape == 2:  # an element of another type
        field = chance.choice(["images", "texts", "models", "references"])
        body[field] = [chance.choice(STRANGE) for _ in range(chance.randint(1, 3))]
        content = json.dumps(body).encode()
    elif shape == 3:  # a damaged image
        file = damaged(base64.b64decode(file_of(IMAGE)["base64"]), chance)
        body["images"] = [{"base64": base64.b64encode(file).decode()}]
        content = json.dumps(body).encode()
    elif shape == 4:  # damaged JSON
        content = damaged(json.dumps(body).encode(), chance)
    else:
        content = json.dumps(body).encode()
        path, kind = chance.choice(PATHS), chance.choice(TYPES)
        method = chance.choice(
            ["POST", "GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"]
        )
    headers = {"content-type": kind}
    if chance.random() < 0.1:
        headers["content-encoding"] = "gzip"
    if chance.random() < 0.1:
        headers["authorization"] = chance.choice(
            ["", "Bearer x", "Basic !", "Bearer " + "A" * 9999]
        )
    return method, path, headers, content


def test_bad_requests_are_answered_and_disturb_nobody():
    chance = random.Random(0)
    limits = ServerLimits(body_bytes=2_000_000)

    async def run(server):
        async with client_of(server) as client:

            async def bad():
                method, path, headers, content = bad_request(chance)
                response = await client.request(method, path, headers=headers, content=content)
                told = headers.get("authorization")
                if told is not None:
                    assert response.status_code == 401, (method, path, told)
                assert response.status_code != 500, (method, path, content[:300], response.text)
                if response.status_code == 200 and path == "/v1/score":
                    (result,) = response.json()["results"]
                    cells = np.ravel(result["scores"])
                    assert len(result["failures"]) == sum(value is None for value in cells)
                return response.status_code

            async def good():
                response = await client.post("/v1/score", json=GOOD)
                assert response.status_code == 200, response.text
                (result,) = response.json()["results"]
                np.testing.assert_allclose(result["scores"], [[expected(IMAGE, TEXT)]], atol=1e-6)
                return response.status_code

            statuses = []
            for _ in range(REQUESTS // 20):
                statuses += await asyncio.gather(*(bad() for _ in range(20)), good())
            return statuses

    with server_of([ToyEmbedding()], limits=limits) as server:
        statuses = asyncio.run(run(server))
        assert server.pending_bytes == 0
    assert len(statuses) == REQUESTS + REQUESTS // 20
    assert {400, 401, 404, 405, 413, 415} <= {*statuses}
