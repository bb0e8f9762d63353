"""Edits over HTTP: the requests, the client, and what is refused on both sides."""

import asyncio
import base64

import jsonschema
import numpy as np
import pytest
import torch
from helpers.services.loopback import Reply, Server
from helpers.services.scoring_server import TOKEN, client_of, file_of, server_of, serving
from helpers.toy import ToyEdit, ToyEmbedding, draw_image, expected

import t2v_eval
from t2v_eval.errors import InputError, MediaError, UnsupportedError
from t2v_eval.inputs.media import PAIR
from t2v_eval.scoring.plan import Block
from t2v_eval.server.openapi import document
from t2v_eval.server.requests import ServerLimits
from t2v_eval.store import Store

IMAGES = [draw_image(seed) for seed in range(4)]
FILES = [file_of(image) for image in IMAGES]
TEXTS = ["a cat", "two dogs"]
EDITS = [t2v_eval.Edit(IMAGES[0], IMAGES[1]), t2v_eval.Edit(IMAGES[2], IMAGES[3])]
BROKEN = {"base64": "bm8gaW1hZ2U="}


def edit(source, result):
    return {"source": source, "result": result}


def by_hand(texts=TEXTS):
    """The score of `ToyEdit` by its formula."""
    return [
        [expected(IMAGES[b + 1], text) - expected(IMAGES[b], text) for text in texts]
        for b in (0, 2)
    ]


def ask(server, images, model="ToyEdit", **fields):
    async def post():
        async with client_of(server) as client:
            body = {"models": [model], "images": images, "texts": TEXTS, **fields}
            return await client.post("/v1/score", json=body)

    return asyncio.run(post())


@pytest.fixture(scope="module")
def server():
    with server_of([ToyEdit(), ToyEmbedding()], limits=ServerLimits(images=4)) as server:
        yield server


def test_an_edit_of_a_request_has_the_score_of_the_formula(server):
    images = [edit(*FILES[:2]), edit(*FILES[2:])]
    (result,) = ask(server, images).json()["results"]
    np.testing.assert_allclose(result["scores"], by_hand(), atol=1e-6)
    (pairs,) = ask(server, images, pairs=True).json()["results"]
    np.testing.assert_allclose(pairs["scores"], np.diag(by_hand()), atol=1e-6)
    schema = document(ServerLimits())
    request = {"$ref": "#/components/schemas/ScoreRequest", "components": schema["components"]}
    jsonschema.validate({"images": images}, request, jsonschema.Draft202012Validator)


@pytest.mark.parametrize("broken", [edit(BROKEN, FILES[0]), edit(FILES[0], BROKEN)])
def test_an_edit_without_one_of_its_images_fails_alone(server, broken):
    (result,) = ask(server, [broken, edit(*FILES[2:])]).json()["results"]
    assert result["scores"][0] == [None, None]
    np.testing.assert_allclose(result["scores"][1], by_hand()[1], atol=1e-6)
    role = "source" if broken["source"] is BROKEN else "result"
    assert all(f"images[0].{role}" in failure["reason"] for failure in result["failures"])


@pytest.mark.parametrize(
    ("images", "model", "status", "message"),
    [
        ([{"source": FILES[0]}], "ToyEdit", 400, "the image before and after an edit"),
        ([edit(edit(*FILES[:2]), FILES[0])], "ToyEdit", 400, "`images[0].source` must be an image"),
        ([edit(FILES[0], "a.png")], "ToyEdit", 400, "`images[0].result` must be"),
        ([{**edit(*FILES[:2]), "text": "x"}], "ToyEdit", 400, "must be {"),
        ([edit(FILES[0], {"url": "http://a.org/a"})], "ToyEdit", 400, "takes no URLs"),
        ([edit(*FILES[:2])] * 3, "ToyEdit", 413, "3 edits of 2 images; this server takes 4"),
        ([edit(*FILES[:2])], "ToyEmbedding", 400, "scores images, and `images[0]` is an edit"),
        ([edit(*FILES[:2]), FILES[0]], "ToyEdit", 400, 'no edit: send {"source": IMAGE, "result"'),
    ],
)  # fmt: skip
def test_what_is_no_edit_is_refused(server, images, model, status, message):
    response = ask(server, images, model)
    assert response.status_code == status, response.text
    assert message in response.json()["error"]["message"]


def test_either_image_of_an_edit_may_be_an_address(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    content = base64.b64decode(FILES[0]["base64"])
    limits = ServerLimits(allow_urls="private")
    with Server(lambda _: Reply(content)) as host, server_of([ToyEdit()], limits=limits) as server:
        url, gone = {"url": f"{host.address}/a.png"}, {"url": "http://127.0.0.1:1/a.png"}
        (result,) = ask(server, [edit(url, FILES[1]), edit(FILES[2], gone)]).json()["results"]
    np.testing.assert_allclose(result["scores"][0], by_hand()[0], atol=1e-6)
    assert result["scores"][1] == [None, None]
    assert "images[1].result" in result["failures"][0]["reason"]


def test_the_client_sends_edits(tmp_path):
    here, gone = ToyEdit(), t2v_eval.Edit(IMAGES[0], tmp_path / "gone.png")
    with serving([here, ToyEmbedding()]) as address:
        options = {"token": TOKEN, "store": tmp_path / "s.sqlite"}
        there = t2v_eval.load(f"remote:{address}/ToyEdit", **options)
        torch.testing.assert_close(there(EDITS, TEXTS), here(EDITS, TEXTS))
        np.testing.assert_allclose(there(EDITS, TEXTS), by_hand(), atol=1e-6)
        assert there.id == f"remote {here.id}"
        assert len([*Store(tmp_path / "s.sqlite").rows()]) == 4
        with pytest.raises(UnsupportedError, match=r"scores edits.*t2v_eval\.Edit"):
            there(IMAGES[0], TEXTS)
        with pytest.raises(MediaError, match=r"images\[0\]\.result"):
            there([gone], TEXTS)
        there.on_error = "skip"
        result = there.evaluate_blocks([Block.of([gone, EDITS[1]], TEXTS)])
        assert np.isnan(result.scores[0]).tolist() == [[True, True], [False, False]]
        images = t2v_eval.load(f"remote:{address}/ToyEmbedding", token=TOKEN)
        with pytest.raises(UnsupportedError, match="scores single images"):
            images(EDITS, TEXTS)


def test_a_scorer_that_compares_two_images_is_not_served():
    pairs = ToyEdit()
    pairs.image_roles = PAIR
    with pytest.raises(InputError, match="'ToyEdit' compares images"), server_of([pairs]):
        pass
