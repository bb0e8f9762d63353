"""A service that says the key, in whatever way and wherever: no piece of it is kept anywhere."""

from __future__ import annotations

import base64
import json
import logging
import re
import traceback
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

import pytest
import torch
from helpers.services.ask_server import SERVICES, Spoken, draw_images, needs_gemini
from helpers.services.loopback import Reply, Server
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.backends.services.api_key import Key
from t2v_eval.scoring.plan import Block

KEY = "Zq7/xW+wV9=kL2~tR8uYb4NcM6pQs1Dg"  # has characters that addresses and JSON escape
WAYS = {
    "whole": KEY,
    "half": KEY[:16],
    "pieces": " ".join(KEY[n : n + 8] for n in range(0, 32, 8)),
    "within a word": f"abc{KEY[3:15]}xyz",
    "in an address": quote(KEY, safe=""),
    "in a form": quote_plus(KEY),
    "per cent": "".join(f"%{ord(c):02X}" for c in KEY),
    "per cent twice": quote(quote(KEY, safe=""), safe=""),
    "JSON": "".join(f"\\u{ord(c):04x}" for c in KEY),
    "JSON twice": json.dumps(json.dumps(KEY)).replace("/", r"\/"),
    "in a page": KEY.replace("/", "&#x2F;").replace("+", "&#43;"),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of more": base64.b64encode(f"user:{KEY}:".encode()).decode(),
}
PIECES = {KEY[n : n + 8] for n in range(len(KEY) - 7)}
CODED = base64.b64encode(KEY.encode()).decode()[:40]


# How a key is found does not depend on the service, so that only one says it in every way; where it
# may be said does, so that the other says it in two ways.
PAIRS = [("openai", way) for way in WAYS]
PAIRS += [pytest.param("gemini", way, marks=needs_gemini) for way in ("pieces", "base64 of more")]
in_every_way = pytest.mark.parametrize(("spoken", "way"), PAIRS, indirect=["spoken"])


@pytest.fixture(params=SERVICES)
def spoken(request):
    return Spoken(request.param)


def key_fragments(text):
    """Pieces of the key in a text, read in each way in which it may be written."""
    forms = [text]
    for _ in range(4):
        text = unquote(text).replace("\\/", "/").replace("&#x2F;", "/").replace("&#43;", "+")
        text = re.sub(r"\\+u00([0-9a-f]{2})", lambda m: chr(int(m[1], 16)), text)
        forms.append(text)
    return {piece for piece in PIECES | {CODED} if any(piece in form for form in forms)}


def answers(spoken, message):
    """Answers and errors that say something, by where."""
    valid = json.loads(json.dumps(spoken.right_body))
    if spoken.name == "openai":
        named = {**valid, "model": message, "id": message, "system_fingerprint": message}
        refused = json.loads(json.dumps(valid))
        refused["choices"][0]["message"]["refusal"] = f"I cannot, says {message}"
    else:
        named = {**valid, "modelVersion": message, "responseId": message}
        refused = {"promptFeedback": {"blockReason": message}, **valid}
    return {
        "model": Reply(named),
        "headers": Reply(valid, headers={"x-echo": message, "x-request-id": message}),
        "refusal": Reply(refused),
        "content": Reply(spoken.sampled(f"It is {message}")),
        **{
            str(status): spoken.error(status, f"{message} is wrong")
            for status in (400, 404, 422, 500)
        },
    }


@pytest.fixture
def say(spoken):
    class Protocol:
        name, right_body = spoken.name, None
        sampled, error = staticmethod(spoken.sampled), staticmethod(spoken.error)

    listed = {"Yes": 0.5, "No": 0.4}
    created = spoken.completion if spoken.name == "openai" else spoken.generated
    Protocol.right_body = created(listed)
    return lambda message: answers(Protocol, message)


@in_every_way
def test_no_piece_of_a_key_is_kept(way, say, spoken, tmp_path, capfd, caplog, recwarn):
    caplog.set_level(logging.DEBUG)
    message, observed = WAYS[way], []
    for where, reply in say(message).items():
        for kind, on_error in (("", "skip"), ("-judge", "raise")):
            name = {"openai": "openai-compatible{}:m", "gemini": "gemini{}:m"}[spoken.name]
            store = tmp_path / f"{where}{kind}.db"
            options = {"api_key": KEY, "store": store, "on_error": on_error, "retries": 0}
            with Server(lambda request, reply=reply: reply) as server:
                asking = spoken.load(server, name.format(kind), timeout=60.0, **options)
                try:
                    outcome = asking.evaluate_blocks([Block(draw_images(1), ["a cat"])])
                    observed += [outcome.details, outcome.errors, outcome.failures]
                    if where == "content":
                        observed.append(asking.generate(draw_images(1), "What?"))
                except t2v_eval.T2VError as problem:
                    observed += [*traceback.format_exception(problem), problem.args]
            observed += [(row.error, row.detail) for row in t2v_eval.Store(store).rows()]
    streams = capfd.readouterr()
    observed += [str(item.message) for item in recwarn]
    for text in (str(observed), repr(observed), streams.out, streams.err, caplog.text):
        assert not key_fragments(text), where
    for path in tmp_path.rglob("*"):
        assert not key_fragments(path.read_bytes().decode("latin-1")), path


@in_every_way
def test_nor_of_what_files_of_answers_say(way, say, spoken, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    replies = iter(say(WAYS[way]).values())
    service = spoken.BatchService(lambda request: next(replies))
    with Server(service) as server:
        name = {"openai": "gpt-4o", "gemini": "gemini-2.5-flash"}[spoken.name]
        options = {"store": tmp_path / "s.db", "batch": True, "poll": 0.01, "on_error": "skip"}
        asking = spoken.load(server, name, api_key=KEY, timeout=60.0, **options)
        outcome = asking.evaluate_blocks([Block(draw_images(2), [f"{n} cats" for n in range(4)])])
    assert outcome.counts.computed >= 2
    assert not key_fragments(str([outcome.details, outcome.errors, outcome.failures]) + caplog.text)
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        assert not key_fragments(path.read_bytes().decode("latin-1")), path


@pytest.mark.parametrize("key", ["EMPTY", "none", "sk-local-testing", "000000", "11111111"])
def test_ordinary_words_and_numbers_stay(key, spoken, tmp_path):
    words = "EMPTY, none of it: a local testing of sk-learn in 1,000,000 steps; 0.000001 %2F \\n"
    judged = Reply(spoken.sampled(words))
    name = {"openai": "openai-compatible-judge:m", "gemini": "gemini-judge:m"}[spoken.name]
    with Server(lambda request: judged) as server:
        judge = spoken.load(server, name, api_key=key, on_error="skip", timeout=60.0)
        assert judge.generate([draw_image(1)], "What?") == [words]
    with Server(spoken.right) as server:
        first = spoken.load(server, api_key=key)(draw_images(2), ["a cat", "a dog"])
        other = spoken.load(server, api_key="another")(draw_images(2), ["a cat", "a dog"])
        assert torch.equal(first, other) and not first.isnan().any()


def test_numbers_of_an_answer_stay_though_the_key_is_a_number(spoken):
    created = spoken.completion if spoken.name == "openai" else spoken.generated
    body = created({"Yes": 0.25, "No": 0.5})
    text = json.dumps({**body, "note": "00000000", "created": 1700000000})
    with Server(lambda request: Reply(text)) as server:
        scorer = spoken.load(server, api_key="00000000", timeout=60.0)
        assert float(scorer(draw_image(1), "a cat")) == pytest.approx(0.25)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_hidden_of_a_text_and_what_is_not(way):
    key = Key(KEY)
    hidden = key.redact(f"before {WAYS[way]} after")
    assert hidden.startswith("before ") and hidden.endswith(" after") and "[key]" in hidden
    assert not key_fragments(hidden)
    reported = key.redact(json.dumps({"n": 0.1, WAYS[way]: ["a\nb", {"said": WAYS[way]}]}))
    assert json.loads(reported)["n"] == 0.1 and not key_fragments(reported)
    for ordinary in ("", "a", KEY[:7], f"{KEY[:7]} {KEY[7:14]}", '{"a": "b\\n"}', "100 %"):
        assert key.redact(ordinary) == ordinary
