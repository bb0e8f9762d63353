"""Gemini: what is sent, what its answers mean, and what it alone says no with.

What holds for every service is in test_api_faults.py, test_api_batch.py and test_api_keys.py.
"""

from __future__ import annotations

import base64
import json
import math
import subprocess
import sys

import pytest
import torch
from helpers.services.ask_server import Spoken, needs_gemini
from helpers.services.gemini_server import A_DAY, BAD_KEY, error, generated, right, sampled
from helpers.services.loopback import Reply, Server, p_yes
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.errors import InputError, ScoringError, ServiceError, TemplateError, UnsupportedError
from t2v_eval.inputs.media import open_media
from t2v_eval.registry import models
from t2v_eval.scoring.plan import Block

KEY = "AIzaSyTest-0123456789abcdefghijk"
TEXTS = ["a cat", 'two "quoted" dogs']


def serving(reply):
    return Server(lambda request: reply)


def ask(server, name="gemini-2.5-flash", **options):
    return Spoken("gemini").load(server, name, **{"api_key": KEY, **options})


@pytest.fixture(autouse=True)
def no_keys_of_the_machine(monkeypatch):
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@needs_gemini
def test_what_is_sent_and_the_probability_summed_over_forms(tmp_path):
    path = tmp_path / "a.jpg"
    draw_image(1).save(path)
    store = t2v_eval.Store(tmp_path / "s.db")
    with Server(right) as server:
        scores = ask(server, store=store)([path, draw_image(2)], TEXTS)
        assert len(server.requests) == 4
        again = ask(server, store=store, api_key=None)([path, draw_image(2)], TEXTS)
        assert torch.equal(scores, again) and len(server.requests) == 4
    sent = sorted(p_yes(request.images[0], request.question) for request in server.requests)
    torch.testing.assert_close(
        scores.flatten().sort().values, torch.tensor(sent), atol=1e-6, rtol=0
    )
    request = next(r for r in server.requests if TEXTS[1] in r.question)
    assert request.question == f'Does this figure show "{TEXTS[1]}"? Please answer yes or no.'
    assert request.path == "/v1beta/models/gemini-2.5-flash:generateContent"
    assert request.headers["x-goog-api-key"] == KEY
    files = [r.body["contents"][0]["parts"][1]["inlineData"] for r in server.requests]
    jpeg = base64.urlsafe_b64encode(path.read_bytes()).decode()
    assert {f["mime_type"] for f in files if f["data"] == jpeg} == {"image/jpeg"}
    assert {f["mime_type"] for f in files if f["data"] != jpeg} == {"image/png"}
    assert request.body["generationConfig"] == {
        "temperature": 1.0,
        "topP": 1.0,
        "maxOutputTokens": 1,
        "responseLogprobs": True,
        "logprobs": 20,
        "thinkingConfig": {"thinking_budget": 0},
    }
    assert all('"model": "served-model-1"' in row.detail for row in store.rows())


@needs_gemini
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
    for rule, expected in (("probability", probability), ("yes-no", yes_no)):
        with serving(Reply(generated(listed))) as server:
            value = float(ask(server, rule=rule, on_error="skip")(draw_image(1), "a cat"))
            assert (
                math.isnan(value)
                if expected is None
                else value == pytest.approx(expected, abs=1e-6)
            )


@needs_gemini
def test_what_is_not_listed_is_missing_with_its_upper_bound():
    bound = "'Yes' is not among the 3 listed tokens: its score is at most 2e-02"
    with serving(Reply(generated({"The": 0.9, "I": 0.05, "A": 0.0123}))) as server:
        with pytest.raises(ScoringError, match=bound):
            ask(server)(draw_image(1), "a cat")
        with pytest.raises(TemplateError, match="must be one word"):
            ask(server, answer_template="{}")(draw_image(1), "a cat")


@needs_gemini
def test_a_model_that_thinks_is_read_where_its_answer_begins():
    listed = {"Yes": 0.6, "No": 0.3}
    pro = "gemini-2.5-pro"
    with serving(Reply(generated(listed, before=["<ctrl94>", "<ctrl95>"]))) as server:
        scorer = ask(server, pro)
        assert float(scorer(draw_image(1), "a cat")) == pytest.approx(0.6)
        config = server.requests[0].body["generationConfig"]
        assert config["thinkingConfig"] == {"thinking_budget": 128}
        assert config["maxOutputTokens"] == 1 + 2 * 128 + 256
        assert "thinking=128" in scorer.id and "thinking=0" in ask(server).id
        assert "thinking=0" in ask(server, pro, thinking=0).id
    thought = generated({"Let": 0.6, "The": 0.3}, text="Yes", before=["<ctrl94>"])
    with serving(Reply(thought)) as server, pytest.raises(ScoringError, match="not known where"):
        ask(server, pro)(draw_image(1), "a cat")
    silent, why = Reply(generated(text="", ended="MAX_TOKENS")), "thought for as long as it could"
    with serving(silent) as server, pytest.raises(ScoringError, match=why):
        ask(server, pro)(draw_image(1), "a cat")
    must = error(400, "Budget 0 is invalid. This model only works in thinking mode.")
    with serving(must) as server, pytest.raises(UnsupportedError, match="such as `thinking=128"):
        ask(server, "gemini:some-model")(draw_image(1), "a cat")


@needs_gemini
def test_a_system_instruction_stands_beside_the_configuration():
    with serving(Reply(generated({"Yes": 0.6}))) as server:
        scorer = ask(server, system="You grade images.")
        scorer(draw_image(1), "a cat")
        body = server.requests[0].body
        assert body["systemInstruction"]["parts"] == [{"text": "You grade images."}]
        assert "systemInstruction" not in body["generationConfig"]
        assert "You grade images." in scorer.id and "system" not in ask(server).id
        image = scorer.pack(open_media(draw_image(1)))
        with scorer.batch_client() as client:
            request = client.request_line("1", scorer.build_question(image, "a cat"))["request"]
    assert request["systemInstruction"] == {"parts": [{"text": "You grade images."}]}
    assert "systemInstruction" not in request["generationConfig"]


@needs_gemini
def test_a_model_without_log_probabilities_is_refused_with_the_remedy():
    remedy = r"'gemini-x' at .* gives no log-prob.*top_logprobs=5.*estimator='sampling'"
    with serving(Reply(generated())) as server:
        with pytest.raises(UnsupportedError, match=remedy):
            ask(server, "gemini:gemini-x", on_error="skip")(
                [draw_image(n) for n in range(9)], TEXTS
            )
        assert len(server.requests) == 3
    message = error(400, "Logprobs is not enabled for models/gemini-x")
    with serving(message) as server:
        with pytest.raises(UnsupportedError, match="Logprobs is not enabled"):
            ask(server, "gemini:gemini-x", on_error="skip")(
                [draw_image(n) for n in range(9)], TEXTS
            )
        assert len(server.requests) == 1


@needs_gemini
def test_sampling_is_another_scorer_and_counts_answers(tmp_path):
    def behave(request):
        config = request.body["generationConfig"]
        assert "logprobs" not in config and config["temperature"] == 1.0
        return Reply(sampled(*("yes No Yes. Maybe".split() * 5)[: config.get("candidateCount", 1)]))

    store = t2v_eval.Store(tmp_path / "s.db")
    with Server(behave) as server:
        scorer = ask(server, estimator="sampling", n=12, max_tokens=4, store=store)
        assert float(scorer(draw_image(1), "a cat")) == pytest.approx(2 / 3), "of those that answer"
        counts = [r.body["generationConfig"]["candidateCount"] for r in server.requests]
        assert counts == [8, 4], "Gemini gives eight answers at most"
        assert "estimator=sampling n=12 max_tokens=4" in scorer.id and "rule=" not in scorer.id
        assert len(json.loads(next(store.rows()).detail)["samples"]) == 12
        few = ask(server, estimator="sampling", n=12, max_requests=3, on_error="skip")
        assert few([draw_image(1), draw_image(2)], "a cat").isnan().sum() == 1
        assert len(server.requests) == 2 + 3
        with pytest.raises(InputError, match="gives 8 answers at most; pass `n=8"):
            ask(server, estimator="sampling", n=12, batch=True)


@needs_gemini
def test_a_model_that_gives_one_answer_at_a_time_is_asked_as_often_as_needed():
    def behave(request):
        if "candidateCount" in request.body["generationConfig"]:
            return error(400, "Multiple candidates is not enabled for this model")
        return Reply(sampled("Yes" if len(server.requests) % 2 else "No"))

    with Server(behave) as server:
        scorer = ask(server, estimator="sampling", n=4, concurrency=1)
        assert float(scorer(draw_image(1), "a cat")) == 0.5
        assert len(server.requests) == 1 + 4


@needs_gemini
def test_judges(tmp_path):
    with serving(Reply(sampled("85"))) as server:
        judge = ask(server, "gemini-2.5-flash-judge", store=tmp_path / "s.db")
        assert float(judge(draw_image(1), "a cat")) == 85.0
        assert server.requests[0].body["generationConfig"]["temperature"] == 0.0
        assert "Give one number from 0 to 100" in server.requests[0].question
    with serving(Reply(sampled("A"))) as server:
        judge = ask(server, "gemini-preference:gemini-2.5-pro")
        result = judge.prefer(draw_image(1), draw_image(2), "a cat")
        assert (result.value, result.consistent) == (0.5, False)
        first, second = (request.images for request in server.requests)
        assert first == second[::-1] and len({*first}) == 2


@needs_gemini
@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (
            error(400, f"API key not valid: {KEY}", details=[BAD_KEY]),
            ServiceError,
            r"refuses the key \(status 400\).* GOOGLE_API_KEY, GEMINI_API_KEY",
        ),
        (error(429, "used up", details=[A_DAY]), ServiceError, "is used up"),
        (error(400, "not here", "FAILED_PRECONDITION"), ServiceError, "serves no one"),
        (error(400, f"odd picture {KEY}"), ScoringError, r"\(status 400\): odd picture \[key\]"),
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
            scorer(draw_image(1), "a cat")
        assert len(server.requests) == 1
    problem = refused.value
    observed = [
        problem,
        problem.__cause__,
        problem.__context__,
        scorer.id,
        vars(scorer),
        scorer.card,
    ]
    text = capfd.readouterr()
    assert KEY not in f"{observed!r} {observed} {text.out} {text.err}"
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.iterdir())


@needs_gemini
def test_the_wait_that_the_service_names_is_honoured():
    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.5s"}

    def behave(request):
        return error(429, "slow", details=[wait]) if request.number == 1 else right(request)

    with Server(behave) as server:
        ask(server)(draw_image(1), "a cat")
    assert server.requests[1].at - server.requests[0].at > 0.45


@needs_gemini
def test_where_a_key_comes_from(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="set GOOGLE_API_KEY or GEMINI_API_KEY"):
        t2v_eval.load("gemini-2.5-flash")(draw_image(1), "a cat")
    stored = tmp_path / "key"
    stored.write_text("from-file\n")
    with Server(right) as server:
        ask(server, api_key=None, key_file=stored)(draw_image(1), "a cat")
        monkeypatch.setenv("GEMINI_API_KEY", "from-gemini")
        with pytest.raises(InputError, match="not sent to a `base_url=` of yours"):
            ask(server, api_key=None)(draw_image(1), "a cat")
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.address)
        monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
        t2v_eval.load("gemini-2.5-flash")(draw_image(1), "a cat")
        monkeypatch.setenv("GOOGLE_API_KEY", "from-google")
        t2v_eval.load("gemini-2.5-flash")(draw_image(1), "a cat")
    sent = [request.headers["x-goog-api-key"] for request in server.requests]
    assert sent == ["from-file", "from-gemini", "from-google"]


@needs_gemini
def test_cost_is_counted_with_thoughts_and_limits_are_kept():
    answer = generated({"Yes": 0.9, "No": 0.1}, thoughtsTokenCount=99, cachedContentTokenCount=100)
    with serving(Reply(answer)) as server:
        scorer = ask(server, price=[1.0, 10.0])
        outcome = scorer.evaluate_blocks([Block([draw_image(1), draw_image(2)], TEXTS)])
        assert outcome.usage["output_tokens"] == 400
        assert outcome.usage["us_dollars"] == pytest.approx(4 * (300 * 1.0 + 100 * 10.0) / 1e6)
        few = ask(server, max_requests=1, on_error="skip")([draw_image(1), draw_image(2)], TEXTS)
        assert few.isnan().sum() == 3
        priced = ask(server, max_cost=1.0)
        priced(draw_image(1), "a cat")
        expected = (200 * 0.30 + 100 * 0.03 + 100 * 2.50) / 1e6
        assert priced.usage.cost == pytest.approx(expected), "of the table"
        with pytest.raises(InputError, match=r"that of 'gemini-9' is not known here: pass `price="):
            ask(server, "gemini:gemini-9", max_cost=1.0)


@needs_gemini
def test_generate_writes_a_text():
    with serving(Reply(generated(text="A noise picture."))) as server:
        assert ask(server).generate(draw_image(1), "Say.") == ["A noise picture."]
        config = server.requests[0].body["generationConfig"]
        assert (config["maxOutputTokens"], config["temperature"]) == (256, 0.0)
        assert "responseLogprobs" not in config


def test_names_and_the_message_without_the_package():
    assert {"gemini-2.5-flash", "gemini-2.5-pro"} <= set(models.names(kind="vqa"))
    arguments = models.card("gemini:gemini-2.0-flash").args
    assert arguments == {"model": "gemini-2.0-flash", "question": "probability"}
    code = (
        "import sys; sys.modules['google.genai'] = None\n"
        "import t2v_eval\n"
        "try: t2v_eval.load('gemini-2.5-flash', api_key='k')\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "'google-genai': pip install 't2v-eval[gemini]'" in done.stdout
