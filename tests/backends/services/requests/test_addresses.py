"""Addresses that a user may pass: what no client can ask is refused before anything is asked."""

from __future__ import annotations

import traceback
from importlib.util import find_spec

import httpx2
import pytest
from helpers.services.ask_server import needs_gemini

import t2v_eval
from t2v_eval.errors import InputError

NAMES = ["gpt-4o", "openai-compatible:m", pytest.param("gemini-2.5-flash", marks=needs_gemini)]
WRONG = {
    "http://localhost:99999/v1": "its port must be a number from 1 to 65535",
    "http://localhost:65536": "its port must be",
    "http://127.0.0.1:0/v1": "its port must be",
    "http://localhost:-1": "its port must be",
    "http://localhost:80a": "its port must be",
    "http://localhost:": "its port must be",
    "http://[::1]:99999/v1": "its port must be",
    "http://local host:8000/v1": "holds a space",
    " http://localhost:8000/v1": "holds a space",
    "http://localhost:8000/v1\n": "holds a space",
    "http://localhost:8000/my models": "holds a space",
    "http://local\thost": "holds a space",
    "http://b\u00fccher.example/v1": "write the name of a host that is not ASCII as xn--",
    "http://\u043e\u0440enai.com/v1": "xn--",
    "http://localhost:8000/\u00e9": "write",
    "http://localhost\\v1": "holds a space or another character",
    "http://<host>/v1": "another character",
    "http://{host}/v1": "another character",
    "http://[::1/v1": "its host is no address",
    "http://[::1::2]/v1": "its host is no address",
    "http://[localhost]/v1": "its host is no address",
    "http://::1/v1": "its port must be a number",
    "http://999.1.1.1/v1": "its host is no address",
    "http:///v1": "names no host",
    "http://": "names no host",
    "http://a..b/v1": "names no host",
    f"http://{'a' * 64}.com/v1": "names no host",
    f"http://{'a.' * 130}com/v1": "names no host",
    "http://%6c/v1": "names no host",
    "localhost:8000/v1": "such as .*; is http://localhost:8000/v1 meant",
    "127.0.0.1:8000": "is http://127.0.0.1:8000 meant",
    "api.openai.com/v1": "is https://api.openai.com/v1 meant",
    "https:/api.openai.com/v1": "such as http://localhost:8000/v1$",
    "ftp://host/v1": "must begin with http:// or https://, not with ftp://",
    "unix:///var/run/x": "not with unix://",
    "file:///etc/passwd": "not with file://",
    "": "",
    "   ": "address",
    "http://localhost:8000/v1/chat/completions": "Pass http://localhost:8000/v1$",
    "http://localhost:8000/v1/chat/completions//": "Pass http://localhost:8000/v1$",
    "https://x.y/v1beta/models/gemini-2.5-flash:generateContent": "Pass https://x.y$",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("address", WRONG)
def test_an_address_that_cannot_be_asked_is_refused_at_once(address, name):
    if not address:
        return  # as if none were passed, in which case the service's own or another message
    with pytest.raises(InputError, match=WRONG[address]):
        t2v_eval.load(name, base_url=address, api_key="k")


@pytest.mark.parametrize("name", NAMES)
def test_so_is_one_that_is_no_text_or_comes_from_a_variable(name, monkeypatch):
    for wrong in (8000, ["http://localhost"], b"http://localhost"):
        with pytest.raises(InputError, match="`base_url=` must be an address such as"):
            t2v_eval.load(name, base_url=wrong, api_key="k")
    if name != "openai-compatible:m":
        variable = "OPENAI_BASE_URL" if name == "gpt-4o" else "GOOGLE_GEMINI_BASE_URL"
        monkeypatch.setenv(variable, "http://localhost:99999/v1")
        with pytest.raises(InputError, match=f"{variable}: its port must be"):
            t2v_eval.load(name, api_key="k")


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:8000/v1",
        "HTTPS://Api.Example.COM:443/v1",
        "http://127.0.0.1/v1",
        "http://[::1]:8000/v1",
        "http://[2001:db8::1]",
        "https://xn--bcher-kva.example/v1",
        "https://my_host.internal/a%20b/v1",
        "https://name.openai.azure.com/openai/v1",
        "https://host.example./v1",
        "http://vllm:8000/models/org/name/v1",
    ],
)
@pytest.mark.parametrize("slashes", ["", "/", "///"])
def test_one_that_can_be_asked_is_taken_without_its_last_slashes(address, slashes):
    scorer = t2v_eval.load("openai-compatible:m", base_url=address + slashes)
    assert f"server={address} " in scorer.id
    assert httpx2.URL(scorer.base_url).host, "the client can read it"


def test_a_key_that_is_passed_in_its_place_is_not_shown():
    key = "sk-proj-0123456789abcdefghijklmnopq"
    for wrong in (key, f"http://user:{key}@host", f"http://host/?key={key}", f"http://{key * 3}"):
        with pytest.raises(InputError) as refused:
            t2v_eval.load("gpt-4o", base_url=wrong, api_key="k")
        assert key not in "".join(traceback.format_exception(refused.value))
    assert find_spec("openai")
