"""A proxy of the environment sees neither an image nor a key."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from helpers.services.gemini_server import right as right_gemini
from helpers.services.loopback import Reply, Server
from helpers.services.openai_server import BatchService, right
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.errors import ServiceError, T2VError

KEY = "sk-test-0123456789abcdef"
needs_package = pytest.mark.skipif(
    not (find_spec("google") and find_spec("google.genai")),
    reason="google-genai is not installed: pip install 't2v-eval[gemini]'",
)
NAMES = ["gpt-4o", "openai-compatible:m", pytest.param("gemini-2.5-flash", marks=needs_package)]


@pytest.fixture
def proxy(monkeypatch):
    """A proxy that the environment names for everything, and that lets nothing through."""
    for name in ("NO_PROXY", "no_proxy", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with Server(lambda request: Reply({}, 503)) as running:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{running.port}")
            monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{running.port}")
        yield running


@pytest.mark.parametrize("name", NAMES)
def test_an_http_address_is_asked_directly(name, proxy):
    gemini = name.startswith("gemini")
    with Server(right_gemini if gemini else right) as server:
        address = f"http://127.0.0.1:{server.port}" if gemini else server.url
        scores = t2v_eval.load(name, base_url=address, api_key=KEY)(draw_image(1), "a cat")
        assert not scores.isnan().any() and len(server.requests) == 1
    assert proxy.requests == []


def test_so_are_batches(proxy, tmp_path):
    with Server(BatchService(looks=1)) as server:
        options = {"base_url": server.url, "api_key": KEY, "store": tmp_path / "s.db"}
        scores = t2v_eval.load("gpt-4o", batch=True, poll=0.01, **options)(draw_image(1), "a cat")
        assert not scores.isnan().any()
    assert proxy.requests == []


@pytest.mark.parametrize("name", NAMES)
def test_an_https_address_goes_through_a_tunnel(name, proxy):
    scorer = t2v_eval.load(name, base_url="https://service.invalid/v1", api_key=KEY, retries=0)
    with pytest.raises(T2VError, match=r"no connection to https://service\.invalid/v1 \(Proxy"):
        scorer([draw_image(n) for n in range(4)], "a cat")
    assert {(r.method, r.path) for r in proxy.requests} == {("CONNECT", "service.invalid:443")}
    assert KEY not in repr(proxy.requests)
    assert all(request.body == b"" for request in proxy.requests)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ALL_PROXY", "socks5://user:s3cr3t@127.0.0.1:9", "'socksio' package is not installed"),
        ("https_proxy", "odd://user:s3cr3t@127.0.0.1:9", "Unknown scheme for proxy"),
        ("SSL_CERT_FILE", "/no/such/file", "No such file"),
    ],
)
@pytest.mark.parametrize("name", [*NAMES, "remote:https://service.invalid/m"])
def test_a_proxy_or_certificate_that_cannot_be_used_is_told(
    name, variable, value, message, monkeypatch
):
    if variable == "ALL_PROXY" and find_spec("socksio"):
        pytest.skip("proxies of SOCKS can be used here")
    for other in ("HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(other, raising=False)
        monkeypatch.delenv(other.lower(), raising=False)
    monkeypatch.setenv(variable, value)
    options = {"base_url": "https://service.invalid/v1", "api_key": KEY}
    options = {} if name.startswith("remote:") else options
    with pytest.raises(ServiceError, match=rf"{message}.*the environment sets.*{variable}") as told:
        t2v_eval.load(name, retries=0, **options)(draw_image(1), "a cat")
    assert "s3cr3t" not in str(told.value)
