"""The paths of a server: values, failures, limits, the token, and what it says of itself."""

import asyncio
import base64
import json
import threading

import jsonschema
import numpy as np
import pytest
import torch
from helpers.services.scoring_server import SENT, TOKEN, client_of, file_of, request_of, server_of
from helpers.toy import ToyEmbedding, draw_image, expected
from prometheus_client.parser import text_string_to_metric_families

from t2v_eval.cards import ModelCard
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.server.batching import ScoringQueue
from t2v_eval.server.requests import ServerLimits

IMAGES = [draw_image(seed) for seed in range(3)]
TEXTS = ["a cat", "two dogs"]


def named(name):
    return ModelCard(name, name, __name__)


class Gate(Scorer):
    """Scores the number of letters once it is opened, and remembers what it scored together."""

    version = "1"

    def __init__(self):
        super().__init__(card=named("gate"))
        self.entered, self.opened = threading.Event(), threading.Event()
        self.batches = []

    def score_cells(self, images, texts, cells):
        self.batches.append((len(images), len(texts), len(cells)))
        self.entered.set()
        assert self.opened.wait(60)
        for n, (_, j) in enumerate(cells.tolist()):
            yield ScoreChunk(np.array([n]), torch.tensor([float(len(texts[j]))]))


class Broken(Scorer):
    """Fails as a whole, and not as a scorer should."""

    version = "1"

    def score_cells(self, images, texts, cells):
        raise ZeroDivisionError


class Leaves(Scorer):
    """Ends the thread that scores with it."""

    version = "1"

    def score_cells(self, images, texts, cells):
        raise SystemExit("no GPU is left")


class NeedsReferences(Scorer):
    """The number of references of an image, plus the letters of the text."""

    uses_references = True
    version = "1"

    def score_cells(self, images, texts, cells):
        for n, (_, j) in enumerate(cells.tolist()):
            value = float(len(texts[j].references) * 100 + len(texts[j].text))
            yield ScoreChunk(np.array([n]), torch.tensor([value]))


def ask(server, *bodies, **headers):
    """The responses to requests that are sent at the same time."""

    async def post():
        async with client_of(server, **headers) as client:
            kind = {"content-type": "application/json"}
            posts = (client.post("/v1/score", content=json.dumps(b), headers=kind) for b in bodies)
            return await asyncio.gather(*posts)

    return asyncio.run(post())


def get(server, *paths, **headers):
    async def all_of():
        async with client_of(server, **headers) as client:
            return [await client.get(path) for path in paths]

    return asyncio.run(all_of())


@pytest.fixture(scope="module")
def server():
    scorers = [ToyEmbedding(card=named("toy")), NeedsReferences(), Broken()]
    with server_of(scorers) as made:
        yield made


def result_of(response):
    assert response.status_code == 200, response.text
    (result,) = response.json()["results"]
    return result


def test_scores_are_those_of_the_formula(server):
    (response,) = ask(server, request_of(IMAGES, TEXTS, models=["toy"]))
    result = result_of(response)
    cosines = [[expected(image, text) for text in TEXTS] for image in IMAGES]
    np.testing.assert_allclose(result["scores"], cosines, atol=1e-6)
    assert (result["failures"], result["error"]) == ([], None)
    assert result["id"] == ToyEmbedding(card=named("toy")).id


def test_pairs_are_one_list(server):
    (response,) = ask(server, request_of(IMAGES[:2], TEXTS, models=["toy"], pairs=True))
    cosines = [expected(*pair) for pair in zip(IMAGES, TEXTS, strict=False)]
    np.testing.assert_allclose(result_of(response)["scores"], cosines, atol=1e-6)


def test_templates_of_a_call_change_scores_and_id(server):
    body = request_of(IMAGES[:1], ["cat"], models=["toy"])
    usual, asked = ask(server, body, {**body, "question_template": "not a {}"})
    np.testing.assert_allclose(
        result_of(asked)["scores"], [[expected(IMAGES[0], "not a cat")]], atol=1e-6
    )
    assert result_of(asked)["id"] != result_of(usual)["id"]


def test_references_are_those_of_each_image(server):
    body = request_of(IMAGES[:2], TEXTS, models=["NeedsReferences"], references=[["a"], ["b", "c"]])
    missing = {name: value for name, value in body.items() if name != "references"}
    response, refused = ask(server, body, missing)
    assert result_of(response)["scores"] == [[105.0, 108.0], [205.0, 208.0]]
    assert refused.status_code == 400
    assert "`references`" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ({"base64": base64.b64encode(b"no image").decode()}, "not an image"),
        ({"base64": ""}, "empty"),
        ({"frames": [file_of(IMAGES[0])] * 2, "fps": 2}, "is a video"),
        (file_of(draw_image(0, (60, 60))), "60 x 60 pixels; this server takes 3000"),
    ],
)
def test_an_image_that_fails_is_null_with_its_reason_and_alone(image, reason):
    body = request_of(IMAGES[:1], TEXTS)
    with server_of([ToyEmbedding()], limits=ServerLimits(pixels=3000)) as server:
        for pairs in (False, True):
            body["pairs"], body["images"] = pairs, [file_of(IMAGES[0]), image]
            (response,) = ask(server, body)
            result = result_of(response)
            places = [(f["image"], f["text"]) for f in result["failures"]]
            if pairs:
                assert result["scores"][1] is None and result["scores"][0] is not None
                assert places == [(1, 1)]
            else:
                assert result["scores"][1] == [None, None] and None not in result["scores"][0]
                assert places == [(1, 0), (1, 1)]
            assert all(reason in failure["reason"] for failure in result["failures"])


def test_one_scorer_that_fails_leaves_the_others_alone(server):
    body = request_of(IMAGES, TEXTS, models=["Broken", "toy"])
    both, alone = ask(server, body, {**body, "models": ["Broken"]})
    broken, toy = both.json()["results"]
    assert (broken["scores"], broken["id"]) == (None, None)
    assert broken["error"] == {"status": 500, "message": "'Broken' failed (ZeroDivisionError)"}
    assert toy["error"] is None and np.shape(toy["scores"]) == (3, 2)
    assert alone.status_code == 500 and "ZeroDivisionError" in alone.json()["error"]["message"]


def test_a_scorer_that_leaves_is_asked_again():
    body = request_of(IMAGES, TEXTS)
    with server_of([Leaves()]) as server:
        for _ in range(2):
            (response,) = ask(server, body)
            assert response.status_code == 500
            assert response.json()["error"]["message"] == "'Leaves' failed (SystemExit)"


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"models": ["toi"]}, 404, "did you mean 'toy'"),
        ({"models": ["toy", "toy"]}, 400, "twice"),
        ({"images": []}, 400, "at least one image"),
        ({"images": [{"base64": "?"}]}, 400, "not base64"),
        ({"images": [{"base64": "iVBO\nRw0K"}]}, 400, "without line breaks"),
        ({"images": [{"base64": "data:image/png;base64,iVBO"}]}, 400, "without `data:...,`"),
        ({"images": [{"url": "https://example.org/a.png"}]}, 400, "takes no URLs"),
        ({"images": [{"path": "/etc/passwd"}]}, 400, "must be"),
        ({"images": [{"frames": [{"url": "http://a.org"}]}]}, 400, 'must be an image: {"base64"'),
        ({"images": [{"frames": [{"frames": []}]}]}, 400, 'must be an image: {"base64"'),
        ({"texts": ["\ud800"]}, 400, "surrogate"),
        ({"texts": ["a" * 20_001]}, 413, "20001 characters"),
        ({"texts": ["a"] * 257}, 413, "257 entries"),
        ({"texts": ["a"] * 256, "images": [file_of(IMAGES[0])] * 17}, 413, "4352 images times"),
        ({"texts": ["a"], "pairs": True}, 400, "3 images and 1 texts"),
        ({"timeout": 0}, 400, "`timeout`"),
        ({"batch_size": 4}, 400, "no field 'batch_size'"),
        ({"question_template": "a {name}"}, 400, "unknown placeholder"),
        ({"template": "no-such"}, 400, "no template called"),
        ({"texts": None, "models": ["toy"]}, 400, "pass texts too"),
    ],
)
def test_a_request_that_is_not_valid_says_why(server, change, status, message):
    (response,) = ask(server, {**request_of(IMAGES, TEXTS, models=["toy"]), **change})
    assert response.status_code == status
    assert message.lower() in response.json()["error"]["message"].lower()


def test_requests_that_wait_are_scored_together_and_share_images():
    gate = Gate()
    with server_of([gate]) as server:

        async def post():
            async with client_of(server) as client:
                first = asyncio.create_task(client.post("/v1/score", json=bodies[0]))
                await asyncio.to_thread(gate.entered.wait, 60)
                others = [asyncio.create_task(client.post("/v1/score", json=b)) for b in bodies[1:]]
                while server.waiting("gate") < 8:
                    await asyncio.sleep(0.001)
                gate.opened.set()
                return [await task for task in (first, *others)]

        bodies = [request_of(IMAGES[:1], ["x" * n, "the same"]) for n in range(1, 10)]
        responses = asyncio.run(post())
    for n, response in enumerate(responses, 1):
        assert result_of(response)["scores"] == [[float(n), 8.0]]
    # One request, then eight of one image and nine texts, "the same" among them once.
    assert gate.batches == [(1, 2, 2), (1, 9, 9)]


def test_a_full_queue_is_429_and_a_deadline_504():
    gate = Gate()
    limits = ServerLimits(waiting=1)
    body = request_of(IMAGES[:1], ["four"])
    with server_of([gate], limits=limits) as server:

        async def post():
            async with client_of(server) as client:
                first = asyncio.create_task(client.post("/v1/score", json=body))
                await asyncio.to_thread(gate.entered.wait, 60)
                late = await client.post("/v1/score", json={**body, "timeout": 0.01})
                assert late.status_code == 504, late.text
                waiting = asyncio.create_task(client.post("/v1/score", json=body))
                while server.waiting("gate") < 1:
                    await asyncio.sleep(0.001)
                refused = await client.post("/v1/score", json=body)
                gate.opened.set()
                return refused, await first, await waiting

        refused, first, waiting = asyncio.run(post())
    assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
    assert result_of(first)["scores"] == result_of(waiting)["scores"] == [[4.0]]
    assert len(gate.batches) == 2  # the request whose client has gone was not scored


def test_memory_that_waiting_requests_fill_is_429():
    with server_of([ToyEmbedding()], limits=ServerLimits(pending_bytes=100)) as server:
        (refused,) = ask(server, request_of(IMAGES, TEXTS))
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        assert server.pending_bytes == 0


PATHS = ["/v1/score", "/v1/models", "/metrics", "/docs", "/openapi.json", "/", "/no-such", "/..%2f"]


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"bearer {TOKEN.upper()}",
        f"Token {TOKEN}",
        f"Basic {TOKEN}",
        "Basic " + base64.b64encode(f"{TOKEN}:".encode()).decode(),
        "Bearer caf\u00e9",
    ],
)
def test_nothing_is_answered_without_the_token(server, sent):
    headers = {"authorization": sent.encode("latin-1")} if sent else {"x-none": "1"}
    for response in [*get(server, *PATHS, **headers), *ask(server, {}, **headers)]:
        assert response.status_code == 401
        assert response.json() == {
            "error": {"message": "send the token of this server as `Authorization: Bearer TOKEN`"}
        }
    (health,) = get(server, "/healthz", **headers)
    assert (health.status_code, health.json()) == (200, {"status": "ok"})


def test_the_token_may_be_the_password_that_a_browser_asks_for(server):
    basic = "Basic " + base64.b64encode(f"anyone:{TOKEN}".encode()).decode()
    assert get(server, "/docs", authorization=basic)[0].status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("rebound.example.org", 403),
        ("127.0.0.1.example.org", 403),
        ("", 403),
    ],
)
def test_without_a_token_only_this_machine_by_its_own_name(host, status):
    with server_of([ToyEmbedding()], token="") as server:
        assert get(server, "/v1/models", host=host)[0].status_code == status


def test_a_page_of_another_site_cannot_post(server):
    async def post():
        async with client_of(server) as client:
            kinds = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "")
            return [
                await client.post("/v1/score", content=b"{}", headers={"content-type": kind})
                for kind in kinds
            ]

    assert {response.status_code for response in asyncio.run(post())} == {415}


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "Application/JSON; charset=UTF-8"},
        {"content-type": "application/json", "content-encoding": "Identity"},
    ],
)
def test_names_of_types_and_encodings_have_no_case(server, headers):
    async def post():
        async with client_of(server) as client:
            body = json.dumps(request_of(IMAGES[:1], TEXTS, models=["toy"]))
            return await client.post("/v1/score", content=body, headers=headers)

    assert np.shape(result_of(asyncio.run(post()))["scores"]) == (1, 2)


@pytest.mark.parametrize("inner", [False, True])
def test_a_field_that_is_there_twice_is_not_chosen_from(server, inner):
    twice = '"models": ["toy"], "texts": ["a dog"], "texts": ["a cat"]'
    image = json.dumps(file_of(IMAGES[0]))
    if inner:
        twice, image = '"models": ["toy"], "texts": ["a cat"]', image[:-1] + ', "base64": ""}'

    async def post():
        async with client_of(server) as client:
            kind = {"content-type": "application/json"}
            body = f'{{"images": [{image}], {twice}}}'
            return await client.post("/v1/score", content=body, headers=kind)

    response = asyncio.run(post())
    assert response.status_code == 400
    name = "base64" if inner else "texts"
    assert f"the field '{name}' more than once" in response.json()["error"]["message"]


def test_answers_are_as_openapi_describes_them(server):
    document = get(server, "/openapi.json")[0].json()
    schemas = document["components"]

    def check(response, name):
        schema = {"$ref": f"#/components/schemas/{name}", "components": schemas}
        jsonschema.validate(response.json(), schema, jsonschema.Draft202012Validator)

    body = request_of(IMAGES, TEXTS, models=["toy", "Broken"])
    request = {"$ref": "#/components/schemas/ScoreRequest", "components": schemas}
    jsonschema.validate(body, request, jsonschema.Draft202012Validator)
    for response in ask(server, body, {**body, "models": ["toy"], "texts": TEXTS[:3]}):
        check(response, "ScoreResponse")
    models, health, missing, page = get(server, "/v1/models", "/healthz", "/gone", "/docs")
    check(models, "Models")
    check(health, "Health")
    check(missing, "Error")
    described = {path.path for path in server.app.routes} - {"/docs", "/openapi.json"}
    assert set(document["paths"]) == described
    assert all(path in page.text for path in described)
    assert "<script" not in page.text and "http" not in page.text.replace("HTTP", "")


@pytest.mark.parametrize("scorer", [ToyEmbedding(card=named("toy")), Broken()])
def test_a_batch_is_counted_before_its_requests_are_answered(scorer):
    """A client that has its answer and asks for the metrics finds its request counted."""
    batches, submitted = [], threading.Event()

    def observe(requests, results):
        assert submitted.wait(60)
        batches.append((requests, [result.scores[0].size for result in results], future.done()))

    queue = ScoringQueue(scorer, observe=observe)
    future = queue.submit([Block.of(IMAGES[0], TEXTS)])
    submitted.set()
    queue.close()
    cells = [] if isinstance(scorer, Broken) else [2]
    assert batches == [(1, cells, False)] and future.done()


def test_metrics_count_requests_cells_and_batches():
    with server_of([ToyEmbedding(card=named("toy"))]) as server:
        ask(server, request_of(IMAGES, TEXTS), {"images": [{"base64": ""}], "texts": TEXTS})
        get(server, "/v1/models", "/secret/path")
        get(server, "/metrics", authorization="none")
        text = get(server, "/metrics", **SENT)[0].text
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["t2v_eval_requests_total", "/v1/score", "200"] == 2
    assert samples["t2v_eval_requests_total", "other", "404"] == 1
    assert samples["t2v_eval_requests_total", "/metrics", "401"] == 1
    assert samples["t2v_eval_cells_total", "toy", "scored"] == 6
    assert samples["t2v_eval_cells_total", "toy", "failed"] == 2
    assert samples["t2v_eval_batch_requests_sum", "toy"] == 2
    assert samples["t2v_eval_waiting_requests", "toy"] == 0
    assert "secret" not in text
