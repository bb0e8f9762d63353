"""Keys are nowhere to be found, and neither they nor images go where the user did not say."""

from __future__ import annotations

import logging
import os
import pickle
import traceback

import pytest
from helpers.services.ask_server import SERVICES, Spoken, draw_images
from helpers.services.loopback import Reply, Server
from helpers.toy import draw_image
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, ServiceError
from t2v_eval.evaluation.benchmark import Benchmark, Item
from t2v_eval.registry import benchmarks

KEY = "private-0123456789abcdef"  # nothing in it looks like a key
VARIABLES = {"openai": "OPENAI_API_KEY", "gemini": "GEMINI_API_KEY"}
ADDRESSES = {"openai": "OPENAI_BASE_URL", "gemini": "GOOGLE_GEMINI_BASE_URL"}
NAMES = {"openai": "gpt-4o", "gemini": "gemini-2.5-flash"}
TELLING = f"what you sent was: Authorization: Bearer {KEY}, ?key={KEY}"
STATUSES = [400, 401, 403, 404, 408, 409, 418, 422, 429, 500, 503]
FAULTS = ["429 after", "hang", "cut", "malformed", "not a completion", "no logprobs"]


@pytest.fixture(params=SERVICES)
def spoken(request):
    """Every service that can be asked, by the protocol that it speaks."""
    return Spoken(request.param)


@pytest.fixture(autouse=True)
def no_variables_of_the_machine(monkeypatch):
    for name in [*os.environ]:
        if name.startswith(("OPENAI_", "GOOGLE_", "GEMINI_", "AZURE_")):
            monkeypatch.delenv(name)


class Few(Benchmark):
    """Two images with two texts each, the second of which goes wrong."""

    def items(self):
        return [Item([item], ["a dog", "a cat"]) for item in draw_images(2)]

    def metrics(self, items, scores):
        return {"mean": float(sum(item[0, 0] for item in scores))}


@pytest.fixture
def few():
    benchmarks.register("few", summary="few")(Few)
    yield
    del benchmarks._registered["few"]


def echoed(fault, spoken):
    """An error that tells the key."""
    return spoken.error(fault, TELLING) if fault in STATUSES else spoken.FAULTS[fault]()


@pytest.mark.parametrize("fault", [*STATUSES, *FAULTS])
def test_a_key_is_nowhere_to_be_found(fault, spoken, few, tmp_path, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    (tmp_path / "key").write_text(f"{KEY}\n")

    def behave(request):
        return echoed(fault, spoken) if "a cat" in request.question else spoken.right(request)

    observed = []
    out = tmp_path / "out"
    options = {"api_key": None, "key_file": tmp_path / "key", "store": out / "s.db"}
    out.mkdir()
    with Server(behave) as server:
        for on_error in ("skip", "raise"):
            more = {"on_error": on_error, "retries": 1, "patience": 1.0}
            scorer = spoken.load(server, NAMES[spoken.name], **options, **more)
            spoken.time_out_where_stuck(scorer, server)
            try:
                report = t2v_eval.compare(scorer, "few")
                report.write(out)
            except t2v_eval.T2VError as problem:
                observed += [*traceback.format_exception(problem), problem.args]
            observed += [scorer.id, scorer, vars(scorer), scorer.card, scorer.identity()]
        assert all(KEY in str(request.headers) for request in server.requests)
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        pickle.dumps(scorer)
    message = capfd.readouterr()
    for text in (repr(observed), str(observed), message.out, message.err, caplog.text):
        assert KEY not in text
    assert len([*out.iterdir()]) >= 1
    for path in out.iterdir():
        assert KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_the_command_line_shows_no_key(debug, spoken, few, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLES[spoken.name], KEY)
    draw_image(1).save(tmp_path / "a.png")
    for fault in (401, 400, 500):
        with Server(lambda request, fault=fault: echoed(fault, spoken)) as server:
            monkeypatch.setenv(ADDRESSES[spoken.name], server.address + spoken.path)
            command = [*debug, "score", str(tmp_path / "a.png"), "-t", "a cat", "--no-store"]
            command += ["-m", NAMES[spoken.name], "--option", "retries=0"]
            done = CliRunner().invoke(app, command)
        assert done.exit_code == (1 if debug else 2)
        error = "".join(traceback.format_exception(done.exception))
        assert KEY not in error + done.output
        assert str(fault) in (error if debug else done.output)


def test_an_address_holds_no_key(spoken):
    with Server(spoken.right) as server:
        for address in (server.url.replace("//", f"//me:{KEY}@"), f"{server.url}?key={KEY}"):
            with pytest.raises(InputError, match="an address alone") as refused:
                t2v_eval.load(NAMES[spoken.name], base_url=address)
            assert KEY not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("wrong", [f"{KEY} {KEY}", f"{KEY}\n{KEY}", f"“{KEY}”"])
def test_what_cannot_be_a_key_is_refused_and_not_shown(wrong, spoken, tmp_path, monkeypatch):
    (tmp_path / "key").write_text(wrong)
    monkeypatch.setenv(VARIABLES[spoken.name], wrong)
    for options in ({"api_key": wrong}, {"key_file": tmp_path / "key"}, {}):
        with pytest.raises(InputError, match="must hold one key and nothing else") as refused:
            t2v_eval.load(NAMES[spoken.name], **options)
        assert KEY not in "".join(traceback.format_exception(refused.value))
    with Server(spoken.right) as server:
        spoken.load(server, api_key=f" {KEY}\n")(draw_image(1), "a cat")
        assert KEY in str(server.requests[0].headers)


def test_two_keys_share_what_is_stored(spoken, tmp_path):
    with Server(spoken.right) as server:
        first, second = (
            spoken.load(server, api_key=key, store=tmp_path / "s.db") for key in ("one", "two")
        )
        assert first.id == second.id
        assert first(draw_image(1), "a cat") == second(draw_image(1), "a cat")
        assert len(server.requests) == 1


def test_a_redirect_is_not_followed(spoken):
    with Server(spoken.right) as elsewhere:
        away = Reply({}, 307, {"location": f"{elsewhere.address}/v1/chat/completions"})
        with (
            Server(lambda request: away) as server,
            pytest.raises(ServiceError, match="points to another address, which is not followed"),
        ):
            spoken.load(server)(draw_image(1), "a cat")
        assert elsewhere.requests == []


def test_the_variable_that_names_an_address_does_so_and_base_url_goes_before_it(
    spoken, monkeypatch
):
    monkeypatch.setenv(VARIABLES[spoken.name], KEY)
    with Server(spoken.right) as named, Server(spoken.right) as elsewhere:
        monkeypatch.setenv(ADDRESSES[spoken.name], named.address + spoken.path)
        scorer = t2v_eval.load(NAMES[spoken.name])
        scorer(draw_image(1), "a cat")
        assert f"server={named.address}" in scorer.id, "so that it is seen"
        spoken.load(elsewhere, NAMES[spoken.name], api_key="other")(draw_image(1), "a cat")
        with pytest.raises(InputError, match=r"not sent to a `base_url=` of yours"):
            spoken.load(elsewhere, NAMES[spoken.name], api_key=None)(draw_image(1), "a cat")
        assert [len(server.requests) for server in (named, elsewhere)] == [1, 1]
        assert KEY not in str(elsewhere.requests[0].headers)


def test_nothing_else_of_the_environment_decides_where_to_ask_or_is_sent(spoken, monkeypatch):
    with Server(spoken.right) as server, Server(spoken.right) as elsewhere:
        for name in ("AZURE_OPENAI_ENDPOINT", "OPENAI_API_BASE", "GOOGLE_VERTEX_BASE_URL"):
            monkeypatch.setenv(name, elsewhere.url)
        for name in ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "OPENAI_ADMIN_KEY"):
            monkeypatch.setenv(name, KEY)
        monkeypatch.setenv("OPENAI_API_TYPE", "azure")
        monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", KEY)
        monkeypatch.setenv("OPENAI_ORG_ID", KEY)
        monkeypatch.setenv("OPENAI_PROJECT_ID", KEY)
        monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Gateway: {KEY}")
        spoken.load(server)(draw_image(1), "a cat")
        spoken.load(server, NAMES[spoken.name])(draw_image(1), "a cat")
        assert elsewhere.requests == []
        assert KEY not in str([request.headers for request in server.requests])
