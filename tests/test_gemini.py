"""Gemini: what is sent, what its answers mean, and that no failure becomes a number."""

from __future__ import annotations

import base64
import math
import subprocess
import sys
import time
from collections import Counter
from importlib.util import find_spec

import pytest
import torch
from openai_server import FAULTS, Reply, Server, p_yes
from toy import picture

import t2v_eval
from t2v_eval.errors import (
    InputError,
    ScoringError,
    ServiceError,
    TemplateError,
    UnsupportedError,
)
from t2v_eval.outcome import Counts
from t2v_eval.plan import Block
from t2v_eval.registry import models

KEY = "AIzaSyTest-0123456789abcdefghijk"
TEXTS = ["a cat", 'two "quoted" dogs']

needs_package = pytest.mark.skipif(
    not (find_spec("google") and find_spec("google.genai")),
    reason="google-genai is not installed: pip install 't2v-eval[gemini]'",
)


def content_of(request):
    question, image = request.body["contents"][0]["parts"]
    return image["inlineData"]["data"], question["text"]


def token(text, p):
    return {"token": text, "logProbability": math.log(p), "tokenId": 1}


def generated(listed=None, text=None, ended="STOP", before=(), **usage):
    """An answer whose first token, after those of `before`, has these probabilities."""
    ordered = sorted((listed or {}).items(), key=lambda pair: -pair[1])
    rows = [[token(name, 1.0)] for name in before] + [[token(*pair) for pair in ordered]]
    said = text if text is not None else (ordered[0][0] if ordered else "Yes")
    candidate = {"content": {"role": "model", "parts": [{"text": said}]}, "finishReason": ended}
    if listed:
        candidate["logprobsResult"] = {
            "topCandidates": [{"candidates": row} for row in rows],
            "chosenCandidates": [row[0] for row in rows],
        }
    counts = {"promptTokenCount": 270, "candidatesTokenCount": 1, **usage}
    return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": "gemini-served-1"}


def right(request):
    p = p_yes(*content_of(request))
    return Reply(generated({"Yes": 0.75 * p, " yes": 0.25 * p, "No": 0.99 - p, "The": 0.005}))


def refusing(status, message, name="INVALID_ARGUMENT", details=(), **headers):
    body = {"code": status, "message": message, "status": name, "details": [*details]}
    return Reply({"error": body}, status, {k.replace("_", "-"): v for k, v in headers.items()})


def serving(reply):
    return Server(lambda request: reply)


def address_of(server):
    return f"http://127.0.0.1:{server.port}"


def ask(server, name="gemini-2.5-flash", **options):
    given = {"base_url": address_of(server), "api_key": KEY, "backoff": 0.01, **options}
    return t2v_eval.load(name, **given)


@pytest.fixture(autouse=True)
def no_keys_of_the_machine(monkeypatch):
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@needs_package
def test_what_is_sent_and_the_probability_summed_over_forms(tmp_path):
    path = tmp_path / "a.jpg"
    picture(1).save(path)
    store = t2v_eval.Store(tmp_path / "s.db")
    with Server(right) as server:
        scores = ask(server, store=store)([path, picture(2)], TEXTS)
        assert len(server.requests) == 4
        again = ask(server, store=store, api_key=None)([path, picture(2)], TEXTS)
        assert torch.equal(scores, again) and len(server.requests) == 4
    sent = sorted(p_yes(*content_of(request)) for request in server.requests)
    torch.testing.assert_close(
        scores.flatten().sort().values, torch.tensor(sent), atol=1e-6, rtol=0
    )
    request = next(r for r in server.requests if TEXTS[1] in content_of(r)[1])
    assert content_of(request)[1] == f'Does this figure show "{TEXTS[1]}"? Please answer yes or no.'
    assert request.path == "/v1beta/models/gemini-2.5-flash:generateContent"
    assert request.headers["x-goog-api-key"] == KEY
    files = [r.body["contents"][0]["parts"][1]["inlineData"] for r in server.requests]
    jpeg = base64.urlsafe_b64encode(path.read_bytes()).decode()
    assert {f["mime_type"] for f in files if f["data"] == jpeg} == {"image/jpeg"}
    assert {f["mime_type"] for f in files if f["data"] != jpeg} == {"image/png"}
    assert request.body["generationConfig"] == {
        "temperature": 1.0,
        "maxOutputTokens": 1,
        "responseLogprobs": True,
        "logprobs": 20,
        "thinkingConfig": {"thinking_budget": 0},
    }
    assert all('"model": "gemini-served-1"' in row.detail for row in store.rows())


@needs_package
@pytest.mark.parametrize(
    ("listed", "probability", "yes_no"),
    [
        ({"Yes": 0.5, "yes": 0.2, " Yes": 0.1, "YES": 0.05, "No": 0.1}, 0.85, 0.85 / 0.95),
        ({"No": 0.7, " no": 0.2, "The": 0.05}, 0.1, None),
        ({"The": 0.6, "I": 0.3}, None, None),
        ({"not": 0.6, "know": 0.3, "Yesterday": 0.1}, None, None),
    ],
)
def test_the_two_rules(listed, probability, yes_no):
    for rule, wanted in (("probability", probability), ("yes-no", yes_no)):
        with serving(Reply(generated(listed))) as server:
            value = float(ask(server, rule=rule, on_error="skip")(picture(1), "a cat"))
            assert math.isnan(value) if wanted is None else value == pytest.approx(wanted, abs=1e-6)


@needs_package
def test_what_is_not_listed_is_missing_with_its_upper_bound():
    bound = "'Yes' is not among the 3 listed tokens: its score is at most 2e-02"
    with serving(Reply(generated({"The": 0.9, "I": 0.05, "A": 0.0123}))) as server:
        with pytest.raises(ScoringError, match=bound):
            ask(server)(picture(1), "a cat")
        with pytest.raises(TemplateError, match="must be one word"):
            ask(server, answer_template="{}")(picture(1), "a cat")


@needs_package
def test_a_model_that_thinks_is_read_where_its_answer_begins():
    listed = {"Yes": 0.6, "No": 0.3}
    pro = "gemini-2.5-pro"
    with serving(Reply(generated(listed, before=["<ctrl94>", "<ctrl95>"]))) as server:
        scorer = ask(server, pro)
        assert float(scorer(picture(1), "a cat")) == pytest.approx(0.6)
        config = server.requests[0].body["generationConfig"]
        assert config["thinkingConfig"] == {"thinking_budget": 128}
        assert config["maxOutputTokens"] == 1 + 2 * 128 + 256
        assert "thinking=128" in scorer.id and "thinking=0" in ask(server).id
        assert "thinking=0" in ask(server, pro, thinking=0).id
    thought = generated({"Let": 0.6, "The": 0.3}, text="Yes", before=["<ctrl94>"])
    with serving(Reply(thought)) as server, pytest.raises(ScoringError, match="not known where"):
        ask(server, pro)(picture(1), "a cat")
    silent, why = Reply(generated(text="", ended="MAX_TOKENS")), "thought for as long as it could"
    with serving(silent) as server, pytest.raises(ScoringError, match=why):
        ask(server, pro)(picture(1), "a cat")
    must = refusing(400, "Budget 0 is invalid. This model only works in thinking mode.")
    with serving(must) as server, pytest.raises(UnsupportedError, match="such as thinking=128"):
        ask(server, "gemini:some-model")(picture(1), "a cat")


@needs_package
def test_a_model_without_log_probabilities_is_refused_with_the_remedy():
    remedy = r"gemini-x.*top_logprobs=5.*'openai-compatible:gemini-x' with estimator='sampling'"
    with serving(Reply(generated())) as server:
        with pytest.raises(UnsupportedError, match=remedy):
            ask(server, "gemini:gemini-x", on_error="skip")([picture(n) for n in range(9)], TEXTS)
        assert len(server.requests) == 3
    said = refusing(400, "Logprobs is not enabled for models/gemini-x")
    with serving(said) as server:
        with pytest.raises(UnsupportedError, match="Logprobs is not enabled"):
            ask(server, "gemini:gemini-x", on_error="skip")([picture(n) for n in range(9)], TEXTS)
        assert len(server.requests) == 1


SAYS = {
    **{str(n): f"the service answers {n}" for n in (408, 409, 429, 500, 503)},
    "429 after": "the service answers 429",
    "hang": "no answer within 0.4 s",
    "cut": "no connection to http://127.0.0.1:",
    "malformed": "not what generateContent answers",
    "not a completion": "not what generateContent answers",
}


@needs_package
@pytest.mark.parametrize("fault", SAYS)
def test_what_passes_is_asked_again_and_what_does_not_is_missing(fault, tmp_path):
    lasting = [False]

    def behave(request):
        wrong = "a cat" in content_of(request)[1] if lasting[0] else request.tries == 1
        return FAULTS[fault]() if wrong else right(request)

    with Server(behave) as server:
        scores = ask(server, timeout=0.4)([picture(1), picture(2)], TEXTS)
        assert not scores.isnan().any()
        assert Counter(r.tries for r in server.requests) == {1: 4, 2: 4}
        lasting[0] = True
        store = t2v_eval.Store(tmp_path / "s.db")
        options = {"timeout": 0.4, "retries": 1, "patience": 1.0, "store": store}
        scorer = ask(server, on_error="skip", **options)
        outcome = scorer.evaluate_blocks([Block([picture(1), picture(2)], TEXTS)])
        assert outcome.counts == Counts(cells=4, computed=2, failed=2)
        assert all(SAYS[fault] in reason for reason in outcome.errors), outcome.errors
        assert [row.value is None for row in store.rows()] == [
            row.text == "a cat" for row in store.rows()
        ]
        server.behave = right
        before = len(server.requests)
        assert torch.equal(ask(server, **options)([picture(1), picture(2)], TEXTS), scores)
        assert len(server.requests) == before + 2


@needs_package
@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (refusing(401, "bad"), ServiceError, r"refuses the key \(status 401\); check api_key="),
        (refusing(403, "bad"), ServiceError, "refuses the key"),
        (
            refusing(400, f"API key not valid: {KEY}", details=[{"reason": "API_KEY_INVALID"}]),
            ServiceError,
            r"refuses the key \(status 400\)",
        ),
        (refusing(404, "models/x is not found"), ServiceError, "does not know the model"),
        (
            refusing(429, "used up", details=[{"violations": [{"quotaId": "RequestsPerDay"}]}]),
            ServiceError,
            "is used up",
        ),
        (refusing(400, "not here", "FAILED_PRECONDITION"), ServiceError, "serves no one"),
        (Reply({}, 307, {"location": "http://127.0.0.1:1/x"}), ServiceError, "another address"),
        (refusing(400, f"odd picture {KEY}"), ScoringError, r"\(status 400\): odd picture \[key\]"),
        (
            Reply({"promptFeedback": {"blockReason": "SAFETY"}}),
            ScoringError,
            "filter refuses the question",
        ),
        (
            Reply(generated({"Yes": 0.9, "No": 0.1}, ended="SAFETY")),
            ScoringError,
            r"withheld the answer \(SAFETY\)",
        ),
    ],
)
def test_what_is_refused_is_no_number_and_shows_no_key(reply, kind, message, tmp_path, capfd):
    with serving(reply) as server:
        scorer = ask(server, store=tmp_path / "s.db")
        with pytest.raises(kind, match=message) as refused:
            scorer(picture(1), "a cat")
        assert len(server.requests) == 1
    problem = refused.value
    seen = [problem, problem.__cause__, problem.__context__, scorer.id, vars(scorer), scorer.card]
    said = capfd.readouterr()
    assert KEY not in f"{seen!r} {seen} {said.out} {said.err}"
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.iterdir())


@needs_package
def test_the_wait_that_the_service_names_is_honoured():
    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.5s"}

    def behave(request):
        return refusing(429, "slow", details=[wait]) if request.number == 1 else right(request)

    with Server(behave) as server:
        ask(server)(picture(1), "a cat")
    assert server.requests[1].at - server.requests[0].at > 0.45


@needs_package
def test_a_redirect_is_not_followed():
    with Server(right) as elsewhere:
        away = Reply({}, 307, {"location": f"{address_of(elsewhere)}/v1beta/models/x"})
        with serving(away) as server, pytest.raises(ServiceError, match="not followed"):
            ask(server)(picture(1), "a cat")
        assert not elsewhere.requests


@needs_package
def test_where_a_key_comes_from(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="set GEMINI_API_KEY or GOOGLE_API_KEY"):
        t2v_eval.load("gemini-2.5-flash")(picture(1), "a cat")
    kept = tmp_path / "key"
    kept.write_text("from-file\n")
    with Server(right) as server:
        ask(server, api_key=None, key_file=kept)(picture(1), "a cat")
        monkeypatch.setenv("GEMINI_API_KEY", "from-gemini")
        with pytest.raises(InputError, match="not sent to a base_url= of yours"):
            ask(server, api_key=None)(picture(1), "a cat")
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", address_of(server))
        monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
        t2v_eval.load("gemini-2.5-flash")(picture(1), "a cat")
        monkeypatch.setenv("GOOGLE_API_KEY", "from-google")
        t2v_eval.load("gemini-2.5-flash")(picture(1), "a cat")
    sent = [request.headers["x-goog-api-key"] for request in server.requests]
    assert sent == ["from-file", "from-gemini", "from-google"]


@needs_package
def test_cost_is_counted_with_thoughts_and_limits_are_kept():
    with pytest.raises(InputError, match="max_cost= needs a price"):
        t2v_eval.load("gemini-2.5-flash", max_cost=1.0)
    answer = generated({"Yes": 0.9, "No": 0.1}, thoughtsTokenCount=99)
    with serving(Reply(answer)) as server:
        scorer = ask(server, price=[1.0, 10.0])
        outcome = scorer.evaluate_blocks([Block([picture(1), picture(2)], TEXTS)])
        assert outcome.usage["output_tokens"] == 400
        assert outcome.usage["us_dollars"] == pytest.approx(4 * (270 * 1.0 + 100 * 10.0) / 1e6)
        few = ask(server, max_requests=1, on_error="skip")([picture(1), picture(2)], TEXTS)
        assert few.isnan().sum() == 3


@needs_package
def test_64_open_are_far_faster_than_one_after_the_other():
    with Server(right, latency=0.25) as server:
        rates = []
        for concurrency, images in ((1, 1), (64, 64)):
            scorer, started = ask(server, concurrency=concurrency), time.monotonic()
            scorer([picture(n) for n in range(images)], [f"{n} cats" for n in range(6)])
            rates.append(images * 6 / (time.monotonic() - started))
        assert server.most_open == 64
    assert rates[1] > 10 * rates[0]


@needs_package
def test_generate_writes_a_text():
    with serving(Reply(generated(text="A noise picture."))) as server:
        assert ask(server).generate(picture(1), "Say.") == ["A noise picture."]
        config = server.requests[0].body["generationConfig"]
        assert (config["maxOutputTokens"], config["temperature"]) == (256, 0.0)
        assert "responseLogprobs" not in config


def test_names_and_the_message_without_the_package():
    assert {"gemini-2.5-flash", "gemini-2.5-pro"} <= set(models.names(kind="vqa"))
    assert models.card("gemini:gemini-2.0-flash").args == {"model": "gemini-2.0-flash"}
    code = (
        "import sys; sys.modules['google.genai'] = None\n"
        "import t2v_eval\n"
        "try: t2v_eval.load('gemini-2.5-flash', api_key='k')\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "'gemini-2.5-flash' needs the package" in done.stdout, done.stderr
    assert "pip install 't2v-eval[gemini]'" in done.stdout
