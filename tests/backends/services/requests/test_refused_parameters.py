"""What a service refuses or says in passing: parameters, first tokens, byte order marks."""

from __future__ import annotations

import json

import pytest
import torch
from helpers.services.ask_server import SERVICES, Spoken, draw_images, texts
from helpers.services.loopback import Reply, Server, wanted
from helpers.toy import draw_image

from t2v_eval.errors import ScoringError, UnsupportedError
from t2v_eval.scoring.plan import Block

MODELS = {"openai": "gpt-4o", "gemini": "gemini-2.5-flash"}
WORDS = {"openai": "Unsupported parameter: 'top_p'", "gemini": "topP is not supported"}


@pytest.fixture(params=SERVICES)
def spoken(request):
    return Spoken(request.param)


def sent_params(request):
    """The sampling parameters of a request, in whichever protocol."""
    body = request.body if isinstance(request.body, dict) else {}
    return {name.replace("P", "_p") for name in body.get("generationConfig", body)}


def refusing(spoken, name="top_p", status=400, inner=False):
    """Answer requests without a parameter only."""

    def behave(request):
        if name not in sent_params(request):
            return spoken.right(request)
        words = WORDS[spoken.name].replace("top_p", name)
        refusal = spoken.error(status, words)
        return Reply({"error": {"code": status, "message": words}}) if inner else refusal

    return behave


@pytest.mark.parametrize("inner", [False, True])
def test_asked_one_by_one(inner, spoken):
    with Server(refusing(spoken, inner=inner)) as server:
        scorer = spoken.load(server, retries=0)
        scores = scorer(draw_images(2), texts(3))
        assert not scores.isnan().any()
        assert len(server.requests) == 7, "refused once, and remembered"
        scorer(draw_image(7), "a cat")
        assert len(server.requests) == 8, "in later calls too"


@pytest.mark.parametrize("inner", [False, True])
def test_asked_in_batches(inner, spoken, tmp_path):
    service = spoken.BatchService(refusing(spoken, inner=inner))
    options = {"batch": True, "poll": 0.01, "retries": 0, "store": tmp_path / "s.db"}
    with Server(service) as server:
        scorer = spoken.load(server, MODELS[spoken.name], **options)
        scores = scorer(draw_images(2), texts(3))
        assert len(service.batches) == 2, "once with the parameter and once without"
        assert len(service.cells) == 12
        plain = spoken.load(server, MODELS[spoken.name])
        server.behave = refusing(spoken)
        torch.testing.assert_close(scores, plain(draw_images(2), texts(3)))
        server.behave = service
        assert not scorer(draw_image(7), texts(2)).isnan().any()
        assert len(service.batches) == 3, "in later calls it is left out"


def test_a_batch_of_an_earlier_run_is_asked_again_too(spoken, tmp_path):
    service = spoken.BatchService(refusing(spoken), looks=10**6)
    options = {"batch": True, "poll": 0.01, "retries": 0, "store": tmp_path / "s.db"}
    with Server(service) as server:
        with pytest.raises(OSError, match="have not ended"):
            spoken.load(server, MODELS[spoken.name], max_seconds=0.001, **options)(
                draw_images(1), texts(2)
            )
        service.looks = next(iter(service.batches.values()))["looks"] = 1
        scores = spoken.load(server, MODELS[spoken.name], **options)(draw_images(1), texts(2))
    assert not scores.isnan().any()
    assert len(service.cells) == 4


def test_some_lines_of_a_batch(spoken, tmp_path):
    refuse = refusing(spoken)

    def behave(request):
        return refuse(request) if '"1 cats"' in request.question else spoken.right(request)

    service = spoken.BatchService(behave)
    with Server(service) as server:
        scorer = spoken.load(
            server, MODELS[spoken.name], batch=True, poll=0.01, store=tmp_path / "s.db"
        )
        assert not scorer(draw_images(2), texts(3)).isnan().any()
    assert len(service.cells) == 6 + 2, "only what was refused"


def test_what_is_refused_in_any_case_is_missing(spoken, tmp_path):
    refusal = spoken.error(400, WORDS[spoken.name])
    service = spoken.BatchService(lambda request: refusal)
    with Server(service) as server:
        scorer = spoken.load(
            server,
            MODELS[spoken.name],
            batch=True,
            poll=0.01,
            on_error="skip",
            store=tmp_path / "s.db",
        )
        outcome = scorer.evaluate_blocks([Block(draw_images(1), texts(2))])
        assert outcome.counts.failed == 2
        (reason,) = outcome.errors
        assert WORDS[spoken.name] in reason
        assert len(service.cells) == 4, "asked again once"
        server.behave = lambda request: refusal
        with pytest.raises(ScoringError, match="refuses it"):
            spoken.load(server)(draw_image(1), "a cat")


def test_the_words_of_too_many_are_kept(spoken):
    inner = Reply({"error": {"code": 429, "message": "Tokens per minute: 30000"}})
    for full in (spoken.error(429, "Tokens per minute: 30000"), inner):
        with Server(lambda request, full=full: full) as server:
            scorer = spoken.load(server, patience=0, on_error="skip")
            outcome = scorer.evaluate_blocks([Block([draw_image(1)], ["a cat"])])
        assert outcome.errors == {
            "the service answers 429: Tokens per minute: 30000 (tried 1 times)": 1
        }


@pytest.mark.parametrize(("before", "thinking"), [(["<ctrl94>"], 0), ([], 0), ([], 128)])
@pytest.mark.parametrize(
    ("listed", "value"), [({"Okay": 0.9, "Yes": 0.05}, None), ({"Yes": 0.9}, 0.9)]
)
def test_a_first_token_that_does_not_begin_the_answer(before, thinking, listed, value, spoken):
    if spoken.name == "gemini":
        answer = spoken.generated(listed, text="Yes, it does.", before=before)
        options = {"thinking": thinking}
    else:
        answer, options = spoken.completion(listed), {}
        answer["choices"][0]["message"]["content"] = "Yes, it does."
    with Server(lambda request: Reply(answer)) as server:
        scorer = spoken.load(server, on_error="skip", **options)
        outcome = scorer.evaluate_blocks([Block([draw_image(1)], ["a cat"])])
    if value is None:
        (reason,) = outcome.errors
        assert reason == (
            "the first listed token 'Okay' does not begin the answer 'Yes, it does.', so it is not "
            "known where the answer begins"
        )
    else:
        assert outcome.scores[0][0, 0] == pytest.approx(value)


@pytest.mark.parametrize("thinking", [0, 128])
def test_a_token_of_reasoning_that_was_cut_is_no_answer(thinking):
    pytest.importorskip("google.genai")
    spoken = Spoken("gemini")
    answer = spoken.generated(
        {"Hm": 0.9, "Yes": 0.05}, text="", ended="MAX_TOKENS", before=["<ctrl94>"]
    )
    thinks = pytest.raises(UnsupportedError, match="thinks before it answers")
    with Server(lambda request: Reply(answer)) as server, thinks:
        spoken.load(server, thinking=thinking)(draw_image(1), "a cat")


BOM = "\ufeff"


def test_answers_behind_a_byte_order_mark(spoken):
    def behave(request):
        return Reply(BOM + json.dumps(spoken.right(request).body))

    with Server(behave) as server:
        scores = spoken.load(server, retries=0)(draw_images(1), texts(2))
        expected = sorted(wanted(request) for request in server.requests)
    assert sorted(scores[0].tolist()) == pytest.approx(expected, abs=1e-6)
    words = BOM + json.dumps(spoken.error(400, "Not this one").body)
    refused = pytest.raises(ScoringError, match=r"\(status 400\): Not this one")
    with Server(lambda request: Reply(words, 400)) as server, refused:
        spoken.load(server)(draw_image(1), "a cat")


def test_files_behind_a_byte_order_mark(spoken, tmp_path):
    service = spoken.BatchService(looks=10**6)
    whole = service.kept
    store, key_file = tmp_path / "s.db", tmp_path / "key"
    key_file.write_text("sk-0123456789", encoding="utf-8-sig")

    def marked(content):
        """Hand out files of answers with a mark before each line."""
        is_question = {"body", "request"} & json.loads(content.split("\n")[0]).keys()
        return whole(content if is_question else BOM + content.replace("\n", f"\n{BOM}"))

    service.kept = marked
    options = {"batch": True, "poll": 0.01, "retries": 0, "store": store, "api_key": None}
    with Server(service) as server:
        options["key_file"] = key_file
        with pytest.raises(OSError, match="have not ended"):
            spoken.load(server, MODELS[spoken.name], max_seconds=0.001, **options)(
                draw_images(1), texts(3)
            )
        assert "sk-0123456789" in str(server.requests[0].headers)
        (entry,) = store.with_name("s.db.batches").glob("*.json")
        entry.write_text(entry.read_text(), encoding="utf-8-sig")
        service.looks = next(iter(service.batches.values()))["looks"] = 1
        scores = spoken.load(server, MODELS[spoken.name], **options)(draw_images(1), texts(3))
    assert not scores.isnan().any()
    assert len(service.cells) == 3, "the entry was read, so nothing was submitted again"
