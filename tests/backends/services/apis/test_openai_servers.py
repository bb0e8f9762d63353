"""Servers that speak OpenAI's protocol each in a way of their own."""

from __future__ import annotations

import json
import math

import pytest
from helpers.services.loopback import Reply, Server
from helpers.services.openai_requests import TEXTS, ask, saying
from helpers.services.openai_server import completion
from helpers.toy import draw_image

from t2v_eval.errors import ScoringError, ServiceError, UnsupportedError


@pytest.mark.parametrize("rule", ["probability", "yes-no"])
@pytest.mark.parametrize("unlikely", [-9999.0, -math.inf])
def test_very_unlikely_is_no_probability(rule, unlikely):
    answer = completion({"The": 0.9, "I": 0.05, "Yes": 0.01})
    rows = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    rows[-1]["logprob"] = unlikely
    missing = pytest.raises(ScoringError, match="'Yes' is not among the 2 listed tokens")
    with Server(lambda request: Reply(json.dumps(answer))) as server, missing:
        ask(server, rule=rule)(draw_image(1), "a cat")


def test_a_log_probability_that_is_no_number_is_no_score():
    answer = completion({"Yes": 0.6, "No": 0.2})
    rows = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    rows[0]["logprob"] = math.nan
    with Server(lambda request: Reply(json.dumps(answer))) as server:
        assert ask(server, on_error="skip")(draw_image(1), "a cat").isnan()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"object": "error", "message": "No vision tower"}, "No vision tower"),  # vLLM
        ({"detail": "No vision tower"}, "No vision tower"),  # FastAPI
        ({"detail": [{"msg": "No vision tower"}]}, r"\[.*No vision tower"),
        ({"error": "No vision tower"}, "No vision tower"),
        ([{"error": {"code": 400, "message": "No vision tower"}}], "No vision tower"),  # Google
        ("No vision tower", "No vision tower"),
        ("<html>Bad request</html>", "no reason given"),
    ],
)
def test_what_a_server_says_is_read_in_every_form(body, message):
    text = pytest.raises(ScoringError, match=rf"refuses it \(status 400\): {message}")
    with Server(lambda request: Reply(body, 400)) as server, text:
        ask(server)(draw_image(1), "a cat")


def test_a_model_that_thinks_first_is_refused_with_the_remedy():
    with saying({"<think>": 0.99, "Yes": 0.001}) as server:
        with pytest.raises(UnsupportedError, match=r"thinks before.*enable_thinking.*max_tokens="):
            ask(server, on_error="skip")([draw_image(n) for n in range(4)], TEXTS)
        assert len(server.requests) == 1
    with saying({"Yes": 0.9, "<think>": 0.001}) as server:
        assert float(ask(server)(draw_image(1), "a cat")) == pytest.approx(0.9)


def test_a_key_that_a_server_calls_a_bad_request_stops_the_run():
    message = [{"error": {"code": 400, "message": "API key not valid. Please pass a valid one."}}]
    refused = pytest.raises(ServiceError, match=r"refuses the key \(status 400\); check `api_key=")
    with Server(lambda request: Reply(message, 400)) as server, refused:
        ask(server, on_error="skip")([draw_image(n) for n in range(4)], TEXTS)
