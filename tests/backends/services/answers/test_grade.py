"""Grades that a model writes: what is asked, what counts as a grade, and what does not."""

from __future__ import annotations

import json

import pytest
from helpers.services.loopback import Reply, Server
from helpers.services.openai_server import FAULTS, error, sampled
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.errors import ScoringError, TemplateError, UnknownNameError, UnsupportedError
from t2v_eval.registry import models

KEY = "sk-test-0123456789abcdef"


def ask(server, name="gpt-4o-judge", **options):
    return t2v_eval.load(
        name, **{"base_url": server.url, "api_key": KEY, "backoff": 0.01, **options}
    )


def writing(text, ended="stop"):
    reply = sampled(text)
    reply["choices"][0]["finish_reason"] = ended
    return Server(lambda request: Reply(reply))


def test_a_grade_is_what_the_model_writes(tmp_path):
    def behave(request):
        if request.tries == 1:
            return FAULTS["503"]()
        return Reply(sampled("80" if "a cat" in request.question else "15"))

    store = t2v_eval.Store(tmp_path / "s.db")
    with Server(behave) as server:
        scores = ask(server, store=store)([draw_image(1), draw_image(2)], ["a cat", "a dog"])
        assert scores.tolist() == [[80.0, 15.0], [80.0, 15.0]]
        body = server.requests[-1].body
        assert (body["temperature"], body["max_completion_tokens"]) == (0, 16)
        assert "logprobs" not in body
        assert 'Text: "a ' in server.requests[0].question
        assert "number from 0 to 100" in server.requests[0].question
    assert {json.loads(row.detail)["written"] for row in store.rows()} == {"80", "15"}


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "high",
        "101",
        "-5",
        "85 because it shows a cat",
        "between 60 and 70",
        "8 5",
        "1e2",
        "nan",
    ],
)
def test_what_is_no_grade_is_missing_and_no_number(answer):
    with writing(answer) as server:
        with pytest.raises(ScoringError, match="the judge wrote no number from 0 to 100 but"):
            ask(server)(draw_image(1), "a cat")
        assert ask(server, on_error="skip")(draw_image(1), "a cat").isnan()


@pytest.mark.parametrize(
    ("answer", "ended", "message"),
    [
        ("Let me think", "length", "pass a larger `max_tokens="),
        ("", "content_filter", "content filter withheld"),
    ],
)
def test_an_answer_that_was_cut_or_withheld_says_so(answer, ended, message):
    with writing(answer, ended) as server, pytest.raises(ScoringError, match=message):
        ask(server)(draw_image(1), "a cat")


def test_a_model_that_always_draws_is_asked_to_when_the_user_says_so(tmp_path):
    only_one = "Unsupported value: 'temperature' does not support 0 with this model."

    def behave(request):
        return Reply(sampled("60")) if request.body["temperature"] else error(400, only_one)

    with Server(behave) as server:
        with pytest.raises(UnsupportedError, match=r"draws its answers at random.*temperature=1"):
            ask(server, "openai-judge:gpt-5", on_error="skip")(
                [draw_image(1), draw_image(2)], "a cat"
            )
        judge = ask(server, "openai-judge:gpt-5", temperature=1, max_tokens=999)
        assert judge(draw_image(1), "a cat").item() == 60
        assert "max_tokens=999 temperature=1" in judge.id and "temperature" not in ask(server).id


def test_it_is_never_taken_for_a_probability():
    card = models.card("gpt-4o-judge")
    assert (card.kind, card.range) == ("judge", "0 to 100")
    with pytest.raises(UnknownNameError, match="of kind 'judge'"):
        t2v_eval.VQAScore("gpt-4o-judge", api_key=KEY)
    with writing("50") as server:
        judge, requests = ask(server), ask(server, "gpt-4o")
        assert judge.id != requests.id and judge.id.startswith("gpt-4o-judge ")
        with pytest.raises(TemplateError, match="reads what the model writes"):
            judge(draw_image(1), "a cat", answer_template="Yes")
        custom = ask(server, "openai-compatible-judge:m", api_key=None)
        assert custom(draw_image(1), "a cat", question_template="From 0 to 100: {}?").item() == 50
        assert server.requests[-1].question == "From 0 to 100: a cat?"
        assert server.requests[-1].body["max_tokens"] == 16
    assert models.card("openai-judge:gpt-5-mini").args["model"] == "gpt-5-mini"
