"""Gemini through Vertex AI: where it is asked, with what, and what is said where that fails."""

from __future__ import annotations

import os
import traceback
from types import SimpleNamespace

import pytest
import torch
from helpers.services.ask_server import draw_images, needs_gemini, texts
from helpers.services.gemini_server import error, generated, right
from helpers.services.loopback import Reply, Server, wanted
from helpers.toy import draw_image
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, ServiceError, UnsupportedError

pytestmark = needs_gemini

TOKEN = "ya29.A0ARrdaM-token-0123456789"
PATH = (
    "/v1beta1/projects/my-project/locations/us-central1/publishers/google/models/"
    "gemini-2.5-flash:generateContent"
)


@pytest.fixture
def credentials():
    from google.oauth2.credentials import Credentials

    return Credentials(TOKEN)


@pytest.fixture(autouse=True)
def machine(monkeypatch, credentials):
    """A machine that is signed in, with keys of the Developer API besides."""
    for name in [*os.environ]:
        if name.startswith(("GOOGLE_", "GEMINI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GEMINI_API_KEY", "key-of-the-other-api")
    monkeypatch.setattr("google.auth.default", lambda **_: (credentials, "its-project"))


def ask(address, name="gemini-2.5-flash", **options):
    arguments = {"vertexai": True, "project": "my-project", "location": "us-central1"}
    arguments |= {"base_url": address, "timeout": 60.0, "retries": 1, "backoff": 0.01}
    return t2v_eval.load(name, **(arguments | options))


def test_what_is_sent_and_what_it_means():
    with Server(right) as server:
        scorer = ask(server.address)
        scores = scorer(draw_images(2), texts(3))
        result = scores.flatten().sort().values
        answers = torch.tensor(sorted(wanted(r) for r in server.requests), dtype=torch.float32)
        torch.testing.assert_close(result, answers, atol=1e-6, rtol=0)
        assert {request.path for request in server.requests} == {PATH}
        for request in server.requests:
            assert request.headers["authorization"] == f"Bearer {TOKEN}"
            assert "x-goog-api-key" not in request.headers
            assert "key-of-the-other-api" not in str(request)
        config = server.requests[0].body["generationConfig"]
        assert config["responseLogprobs"] is True and config["logprobs"] == 20


def test_the_id_says_which_api_answered_and_not_who_pays(tmp_path):
    developer = t2v_eval.load("gemini-2.5-flash", api_key="k")
    vertex = t2v_eval.load("gemini-2.5-flash", vertexai=True, project="a", location="us-central1")
    other = t2v_eval.load("gemini-2.5-flash", vertexai=True, project="b", location="europe-west4")
    assert "api=vertex" in vertex.id and "api=" not in developer.id
    assert vertex.id == other.id != developer.id
    assert vertex.price == developer.price is not None
    for name in ("gemini-judge:m", "gemini-preference:m", "gemini:m"):
        assert "api=vertex" in t2v_eval.load(name, vertexai=True, project="a").id


@pytest.mark.parametrize(
    ("location", "address"),
    [
        (None, "https://aiplatform.googleapis.com"),
        ("global", "https://aiplatform.googleapis.com"),
        ("us-central1", "https://us-central1-aiplatform.googleapis.com"),
        ("eu", "https://aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_where_it_is_asked(location, address, monkeypatch):
    options = {"location": location} if location else {}
    named = t2v_eval.load("gemini-2.5-flash", vertexai=True, project="p", **options)
    assert named.base_url == address and "server=" not in named.id
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "True")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    if location:
        monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", location)
    assert t2v_eval.load("gemini-2.5-flash").base_url == address


def test_variables_decide_as_for_the_client_itself(monkeypatch):
    with Server(right) as server:
        monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
        monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", server.address)
        monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "us-central1")
        t2v_eval.load("gemini-2.5-flash")(draw_image(1), "a cat")
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
        t2v_eval.load("gemini-2.5-flash")(draw_image(1), "a cat")
        paths = [request.path for request in server.requests]
        assert paths == [PATH.replace("my-project", "its-project"), PATH]
        with Server(right) as elsewhere:
            options = {"api_key": "k", "base_url": elsewhere.address}
            t2v_eval.load("gemini-2.5-flash", **options)(draw_image(1), "a cat")
            assert elsewhere.requests[0].path.startswith("/v1beta/models/")
            assert TOKEN not in str(elsewhere.requests)
        monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "0")
        assert "api=vertex" not in t2v_eval.load("gemini-2.5-flash").id


def test_credentials_and_a_key_that_are_passed(credentials, monkeypatch):
    monkeypatch.setattr("google.auth.default", lambda **_: pytest.fail("was not to be asked"))
    with Server(right) as server:
        ask(server.address, credentials=credentials)(draw_image(1), "a cat")
        keyed = t2v_eval.load(
            "gemini-2.5-flash", vertexai=True, api_key="k-of-vertex", base_url=server.address
        )
        keyed(draw_image(1), "a cat")
        last = server.requests[-1]
        assert (
            last.headers["x-goog-api-key"] == "k-of-vertex" and "authorization" not in last.headers
        )
        assert last.path == "/v1beta1/publishers/google/models/gemini-2.5-flash:generateContent"


def test_credentials_go_nowhere_in_the_clear():
    with pytest.raises(InputError, match="to https addresses only, not to http://example.com"):
        ask("http://example.com")
    assert ask("https://gateway.example.com").base_url == "https://gateway.example.com"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vertexai": "yes"}, "`vertexai='yes'`; pass True or False"),
        ({"vertexai": False}, "`project=`, `location=` and `credentials=` are of Vertex AI"),
        ({"vertexai": None}, "pass `vertexai=True` too"),
        ({"location": "evil.com/"}, "`location='evil.com/'` is no location"),
        ({"project": "a/../b"}, "`project='a/../b'` is no project"),
        ({"api_key": "k"}, "pass `api_key=` alone"),
        ({"batch": True, "store": "s.db"}, "takes files from Cloud Storage alone: leave `batch="),
    ],
)
def test_what_cannot_be_is_refused_at_once(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        ask("http://127.0.0.1:9", **options)


def test_who_is_not_signed_in_is_told_how(monkeypatch):
    from google.auth import exceptions

    def default(**_):
        raise exceptions.DefaultCredentialsError("none were found")

    monkeypatch.setattr("google.auth.default", default)
    scorer = ask("http://127.0.0.1:9")
    with pytest.raises(InputError, match="needs credentials: run `gcloud auth application-default"):
        scorer(draw_image(1), "a cat")
    monkeypatch.setattr("google.auth.default", lambda **_: (SimpleNamespace(token="t"), None))
    with pytest.raises(InputError, match="needs a project: pass `project="):
        ask("http://127.0.0.1:9", project=None)(draw_image(1), "a cat")


def test_a_token_that_cannot_be_renewed_stops_the_run(credentials, monkeypatch):
    from google.auth import exceptions

    credentials.token = None

    def refresh(request):
        raise exceptions.RefreshError("reauthentication is needed")

    monkeypatch.setattr(credentials, "refresh", refresh)
    with (
        Server(right) as server,
        pytest.raises(ServiceError, match="refuses the credentials: reauth.*gcloud auth"),
    ):
        ask(server.address, on_error="skip")(draw_images(3), texts(3))


@pytest.mark.parametrize(("status", "message"), [(401, "expired"), (403, "aiplatform is off")])
def test_a_refusal_names_the_project_and_shows_no_token(status, message):
    with (
        Server(lambda request: error(status, f"{message} for {TOKEN}")) as server,
        pytest.raises(ServiceError, match=rf"\(status {status}\).*'my-project'") as refused,
    ):
        ask(server.address)(draw_image(1), "a cat")
    assert TOKEN not in "".join(traceback.format_exception(refused.value))


def test_a_token_that_is_echoed_is_not_kept(tmp_path):
    echo = {**generated({"Yes": 0.5, "No": 0.4}), "modelVersion": f"m {TOKEN}"}
    store = t2v_eval.Store(tmp_path / "s.db")
    with Server(lambda request: Reply(echo)) as server:
        ask(server.address, store=store)(draw_image(1), "a cat")
    assert [row.detail for row in store.rows()] and TOKEN[5:13] not in str([*store.rows()])


def test_where_the_developer_api_gives_no_log_probabilities_vertex_is_named():
    remedy = "`vertexai=True`, `project="
    message = error(400, "Logprobs is not enabled for models/gemini-2.5-flash")
    options = {"vertexai": False, "project": None, "location": None, "api_key": "k"}
    for reply in (message, Reply(generated())):
        with Server(lambda request, reply=reply: reply) as server:
            with pytest.raises(UnsupportedError, match=remedy):
                ask(server.address, on_error="skip", **options)(draw_images(3), texts(3))
            with pytest.raises(UnsupportedError, match="no log-probabilities") as refused:
                ask(server.address, on_error="skip")(draw_images(3), texts(3))
            assert remedy not in str(refused.value), "which was asked"


def test_from_the_command_line(tmp_path, monkeypatch):
    draw_image(1).save(tmp_path / "a.png")
    with Server(right) as server:
        monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", server.address)
        command = ["score", str(tmp_path / "a.png"), "-t", "a cat", "-m", "gemini-2.5-flash"]
        for option in ("vertexai=true", "project=my-project", "location=us-central1"):
            command += ["--option", option]
        done = CliRunner().invoke(app, [*command, "--no-store"])
        assert done.exit_code == 0, done.output
        assert [request.path for request in server.requests] == [PATH]
        assert "1 answers, 300 tokens in, 1 tokens out, 0.0001 US dollars" in done.output
