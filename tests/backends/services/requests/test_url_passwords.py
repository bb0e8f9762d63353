"""A user and password in a URL are repeated nowhere: not in messages, names, reports or stores."""

from __future__ import annotations

import traceback
from importlib.util import find_spec

import pytest
from helpers.services.ask_server import SERVICES, Spoken
from helpers.services.loopback import Server
from helpers.toy import draw_image
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, MediaError
from t2v_eval.inputs.media import Media, name_of, open_media
from t2v_eval.scoring.plan import Block
from t2v_eval.utils.printable import redact_userinfo

SECRET = "s3cr3t-w0rd"
URLS = [
    f"http://user:{SECRET}@127.0.0.1:9/cat.png",
    f"https://user:a@{SECRET}@example.invalid/cat.png",
    f"http://user:a/{SECRET}@127.0.0.1/cat.png",
    f"http://user:a#{SECRET}@127.0.0.1/cat.png",
    f"http://{SECRET}@127.0.0.1/cat.png",
    f"ftp://user:{SECRET}@127.0.0.1/cat.png",
]


@pytest.fixture(params=SERVICES)
def spoken(request):
    return Spoken(request.param)


@pytest.mark.parametrize("url", URLS)
def test_of_an_image(url, spoken, tmp_path):
    store = t2v_eval.Store(tmp_path / "s.db")
    observed = [name_of(url)]
    with pytest.raises(MediaError) as error:
        open_media(url, allow_urls="private")
    observed += traceback.format_exception(error.value)
    with Server(spoken.right) as server:
        scorer = spoken.load(server, on_error="skip", allow_urls="private", store=store)
        outcome = scorer.evaluate_blocks([Block([url, draw_image(1)], ["a cat"])])
        assert outcome.counts.failed == 1
        with pytest.raises(MediaError) as error:
            spoken.load(server, allow_urls="private").generate(url, "Say.")
    observed += [repr(outcome.errors), *traceback.format_exception(error.value)]
    observed += [repr(row) for row in store.rows()]
    assert not [text for text in observed if SECRET in text]
    assert SECRET.encode() not in (tmp_path / "s.db").read_bytes()


@pytest.mark.parametrize("url", URLS[:1])
def test_on_the_command_line(url, tmp_path):
    table = tmp_path / "scores.csv"
    command = ["score", url, "-t", "a cat", "-m", "tiny-clip", "--allow-urls", "--no-store"]
    done = CliRunner().invoke(app, [*command, "--on-error", "skip", "--out", str(table)])
    assert SECRET not in done.output
    assert not table.exists() or SECRET not in table.read_text()


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("name", ["gpt-4o", "openai-compatible:m", "gemini-2.5-flash"])
def test_of_a_service(url, name, monkeypatch):
    if name.startswith("gemini") and not (find_spec("google") and find_spec("google.genai")):
        pytest.skip("google-genai is not installed")
    with pytest.raises(InputError) as error:
        t2v_eval.load(name, base_url=url, api_key="k")
    assert SECRET not in "".join(traceback.format_exception(error.value))
    option = CliRunner().invoke(
        app, ["score", "a.png", "-t", "a", "-m", name, "--option", f"base_url={url}"]
    )
    assert SECRET not in option.output


def test_in_words_of_a_service(spoken):
    words = f"cannot fetch {URLS[0]} for you"
    with Server(lambda request: spoken.error(400, words)) as server:
        scorer = spoken.load(server, on_error="skip")
        outcome = scorer.evaluate_blocks([Block([draw_image(1)], ["a cat"])])
    (reason,) = outcome.errors
    assert "cannot fetch http://***@127.0.0.1:9/cat.png for you" in reason


@pytest.mark.parametrize(
    "text",
    [
        "http://localhost:8000/v1",
        "http://[::1]:80/a@b",
        "https://example.com/@user/cat.png?size=1@2x",
        "see http://h:80, or write to me@example.com",
    ],
)
def test_what_is_no_password_stays(text):
    assert redact_userinfo(text) == text


def test_names_that_are_no_urls_stay(tmp_path):
    path = tmp_path / "user:name@host.png"
    draw_image(1).save(path)
    media = open_media(path)
    assert isinstance(media, Media) and str(path) in media.name
