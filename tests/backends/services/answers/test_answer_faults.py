"""What one answer may hold that it should not: it costs its own cell at most, and no number."""

from __future__ import annotations

import copy
import json
import math

import pytest
from helpers.services.ask_server import SERVICES, Spoken, draw_images
from helpers.services.loopback import Reply, Server, wanted
from helpers.services.openai_server import completion, error, right, sampled
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.errors import InputError, ScoringError, ServiceError, T2VWarning, UnsupportedError
from t2v_eval.scoring.plan import Block

TEXTS = ["1 cats", "2 cats", "3 cats"]


@pytest.fixture(params=SERVICES)
def spoken(request):
    return Spoken(request.param)


@pytest.fixture
def openai():
    return Spoken("openai")


def listing(spoken, probabilities):
    """An answer of a service with these probabilities of its first token."""
    return (spoken.completion if spoken.name == "openai" else spoken.generated)(probabilities)


def listed(spoken, answer):
    """The rows of tokens in it, and what a log-probability is called there."""
    if spoken.name == "openai":
        return answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"], "logprob"
    return answer["candidates"][0]["logprobsResult"]["topCandidates"][0]["candidates"], (
        "logProbability"
    )


def score(spoken, body, **options):
    """The score of an answer, NaN where there is none, and why there is none."""
    text = body if isinstance(body, str) else json.dumps(body)
    with Server(lambda request: Reply(text)) as server:
        arguments = {"on_error": "skip", "retries": 0, "timeout": 30.0, **options}
        outcome = spoken.load(server, **arguments).evaluate_blocks(
            [Block([draw_image(1)], ["a cat"])]
        )
    return float(outcome.scores[0][0, 0]), " ".join(outcome.errors)


@pytest.mark.parametrize(
    "row",
    [
        {"token": "The", "VALUE": None},
        {"token": "The"},
        {"VALUE": -4.0},
        {"token": None, "VALUE": -4.0},
        {"token": 7, "VALUE": -4.0},
        {"token": "The", "VALUE": "-0.5"},
        {"token": "The", "VALUE": math.nan},
        {"token": "The", "VALUE": True},
        {"token": "The", "VALUE": [-1.0]},
        {"token": "The", "VALUE": -(10**400)},
        {"token": "The", "VALUE": -math.inf},
        {"token": ["Yes"], "VALUE": {}},
        {},
        None,
        "Yes",
        -0.1,
        [],
    ],
    ids=str,
)
def test_one_odd_entry_is_left_out(row, spoken):
    for rule, value in (("probability", 0.5), ("yes-no", 0.5 / 0.8)):
        answer = listing(spoken, {"Yes": 0.4, "No": 0.3, " yes": 0.1, "I": 0.05})
        rows, name = listed(spoken, answer)
        if isinstance(row, dict):
            row = {key.replace("VALUE", name): value for key, value in row.items()}
        rows.insert(2, row)
        result, reason = score(spoken, answer, rule=rule)
        assert result == pytest.approx(value, abs=1e-6), reason


def test_an_entry_that_is_listed_twice_counts_once(spoken):
    answer = listing(spoken, {"Yes": 0.3, "No": 0.2, " yes": 0.1})
    rows, name = listed(spoken, answer)
    rows.append(dict(rows[0]))  # as of the sampled token
    assert score(spoken, answer)[0] == pytest.approx(0.4)
    rows[-1][name] = math.log(0.25)  # another token of the same text
    assert score(spoken, answer)[0] == pytest.approx(0.65)


@pytest.mark.parametrize("odd", [None, "-0.5", math.nan, {}])
def test_an_answer_whose_own_number_is_odd_is_missing(odd, spoken):
    answer = listing(spoken, {"Yes": 0.4, "No": 0.3, " yes": 0.1})
    rows, name = listed(spoken, answer)
    rows[0][name] = odd
    result, reason = score(spoken, answer)
    assert math.isnan(result) and "gives no log-probability of 'Yes'" in reason


def test_a_token_that_cannot_be_read_may_be_the_answer(spoken):
    for remaining, value in (({"No": 0.3}, None), ({"yes": 0.1}, None), ({"yes": 0.5}, 0.5)):
        answer = listing(spoken, {**remaining, "Yes": 0.4})
        rows, _ = listed(spoken, answer)
        row = next(row for row in rows if row["token"] == "Yes")
        row["token"] = row["bytes"] = None
        result, reason = score(spoken, answer)
        if value is None:
            assert math.isnan(result) and "cannot be read, which may be the answer" in reason
        else:
            assert result == pytest.approx(value)
    assert score(spoken, listing(spoken, {"No": 0.3}))[0] == pytest.approx(0.7)


def test_a_token_is_read_from_its_bytes_where_it_has_no_text(openai):
    answer = completion({"Yes": 0.4, "yes": 0.1})
    del listed(openai, answer)[0][0]["token"]
    assert score(openai, answer)[0] == pytest.approx(0.5)


@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("value", [5.0, 0.01, 10**400, math.inf])
def test_probabilities_that_cannot_be_are_no_score(where, value, spoken):
    answer = listing(spoken, {"Yes": 0.4, "No": 0.3, "The": 0.1})
    rows, name = listed(spoken, answer)
    rows[where][name] = value
    result, reason = score(spoken, answer)
    assert math.isnan(result) and "which is above 0" in reason


def test_what_is_rounded_is_allowed_and_no_more(spoken):
    answer = listing(spoken, {"Yes": 0.99, "No": 1e-9})
    rows, name = listed(spoken, answer)
    rows[0][name] = 0.0009
    assert score(spoken, answer)[0] == 1.0
    assert score(spoken, listing(spoken, {"Yes": 0.505, "No": 0.504}))[0] == pytest.approx(0.505)
    result, reason = score(spoken, listing(spoken, {"Yes": 0.6, "No": 0.5}))
    assert math.isnan(result) and "add up to 1.1, more than 1" in reason


def test_a_server_that_cuts_probabilities_short_is_told_of_once(spoken):
    def behave(request):
        answer = listing(spoken, {"Yes": 1.0, "No": 0.5, "The": 0.5})
        rows, name = listed(spoken, answer)
        for row in rows[1:]:
            row[name] = -9999.0
        if '"2 cats"' in request.question:
            del rows[1:]
        return Reply(answer)

    with Server(behave) as server:
        scorer = spoken.load(server)
        with pytest.warns(T2VWarning, match="one token all of the probability") as reported:
            assert scorer(draw_image(1), TEXTS).tolist() == [[1.0, 1.0, 1.0]]
            scorer(draw_image(2), TEXTS)
        assert len(reported) == 1
        server.behave = lambda request: Reply(listing(spoken, {"Yes": 1 - 1e-9, "No": 1e-9}))
        assert spoken.load(server)(draw_image(3), "a cat").item() == 1.0, "sure, and not cut short"


INNER = [
    ({"code": 502, "message": "Upstream is gone"}, "the service answers 502: Upstream is gone"),
    ({"code": "503", "message": "Overloaded"}, "the service answers 503: Overloaded"),
    ({"code": "server_error", "message": "Oops"}, "the service answers with an error: Oops"),
    ({"code": 401, "message": "No auth"}, "the service answers 401: No auth"),
    ({"code": 404, "message": "No model"}, "the service answers 404: No model"),
    ({"code": 10**400, "message": "Odd"}, "the service answers with an error: Odd"),
    ({"message": {"message": "Deep"}}, "the service answers with an error: Deep"),
    ("Something broke", "the service answers with an error: Something broke"),
    (True, "the service answers with an error: no reason given"),
    ([{"message": "Listed"}], "the service answers with an error: Listed"),
]


@pytest.mark.parametrize(("problem", "message"), INNER, ids=str)
def test_an_error_within_an_answer_is_asked_again_and_says_so(problem, message, spoken):
    body = {"choices": None, "candidates": None, "error": problem}
    result, reason = score(spoken, body)
    assert math.isnan(result) and reason == f"{message} (tried 1 times)"

    def behave(request):
        return Reply(body) if request.number <= 3 else spoken.right(request)

    with Server(behave) as server:
        scores = spoken.load(server)(draw_image(1), TEXTS)
        assert not scores.isnan().any() and len(server.requests) == 6


def test_an_error_of_empty_fields_is_none(spoken):
    answer = listing(spoken, {"Yes": 0.4, "No": 0.3})
    answer["error"] = {"message": "", "type": "", "param": "", "code": None}
    assert score(spoken, answer)[0] == pytest.approx(0.4)


def test_too_many_is_too_many_wherever_it_is_said(spoken):
    for problem in (
        {"code": 429, "message": "Slow down"},
        {"code": "rate_limit_exceeded", "message": "Slow down"},
        {"status": "RESOURCE_EXHAUSTED", "message": "Slow down"},
    ):

        def behave(request, problem=problem):
            full = Reply({"choices": None, "error": problem})
            return full if request.tries <= 3 else spoken.right(request)

        with Server(behave) as server:
            # Being asked to slow down is no failure of a question.
            scores = spoken.load(server, retries=0)(draw_image(1), "a cat")
            assert not scores.isnan().any()
        with Server(lambda request, body={"error": problem}: Reply(body)) as server:
            scorer = spoken.load(server, patience=0, on_error="skip")
            outcome = scorer.evaluate_blocks([Block([draw_image(1)], ["a cat"])])
        assert outcome.errors == {"the service answers 429: Slow down (tried 1 times)": 1}


def test_a_refusal_within_an_answer_is_not_asked_again(spoken):
    body = {"error": {"code": 400, "message": "No such picture"}}
    with Server(lambda request: Reply(body)) as server:
        scorer = spoken.load(server, on_error="skip")
        outcome = scorer.evaluate_blocks([Block([draw_image(1)], TEXTS)])
        assert outcome.errors == {"the service refuses it (status 400): No such picture": 3}
        assert len(server.requests) == 3


def test_a_choice_that_ended_in_an_error_is_asked_again(openai):
    def behave(request):
        answer = right(request).body
        if request.number <= 3:
            choice = {"finish_reason": "error", "message": {"content": ""}, "logprobs": None}
            answer["choices"] = [choice]
            if request.number > 1:
                choice["error"] = {"code": 502, "message": "Provider returned error"}
        return Reply(answer)

    with Server(behave) as server:
        scores = openai.load(server)(draw_image(1), TEXTS)
        assert sorted(scores[0].tolist()) == pytest.approx(
            sorted({r.cell: wanted(r) for r in server.requests}.values())
        )
    ended = {"finish_reason": "error", "error": {"code": 502, "message": "Provider: no"}}
    _, reason = score(openai, completion(choices=[ended]))
    assert reason == "the service answers 502: Provider: no (tried 1 times)"


DEEP = "[" * 100_000 + "]" * 100_000
ODD = [
    "",
    "null",
    "[]",
    "5",
    '"Yes"',
    DEEP,
    f'{{"choices": {DEEP}}}',
    '{"choices": {}, "candidates": {}}',
    '{"choices": {"0": {}}, "candidates": 5}',
    '{"choices": [null], "candidates": [null]}',
    '{"choices": [[]], "candidates": [[]]}',
    '{"choices": ["Yes"], "candidates": ["Yes"]}',
    '{"choices": [{"message": null}], "candidates": [{"content": null}]}',
    '{"choices": [{"message": {"content": 7}}], "candidates": [{"finishReason": 7}]}',
    '{"choices": [{"message": []}], "candidates": [{"content": [], "finishReason": []}]}',
    '{"choices": [{"logprobs": 1, "finish_reason": {}}], "candidates": [{"logprobsResult": 1}]}',
    '{"choices": 1, "choices": 2}',
    "<html><head><title>Sign in</title></head><body>Log in here</body></html>",
    '{"detail": "Sign in"}',
    "\ufffd\ufffd\x00",
    "NaN",
    "9" * 5000,
]


@pytest.mark.parametrize("body", ODD, ids=lambda body: body[:40])
def test_an_answer_of_whatever_form_costs_its_own_cell(body, spoken):
    def behave(request):
        return Reply(body) if '"2 cats"' in request.question else spoken.right(request)

    with Server(behave) as server:
        scorer = spoken.load(server, on_error="skip", retries=1, timeout=30.0)
        outcome = scorer.evaluate_blocks([Block([draw_image(1)], TEXTS)])
        requests = {r.question: wanted(r) for r in server.requests}
    result = outcome.scores[0][0]
    assert math.isnan(result[1])
    right = [value for question, value in sorted(requests.items()) if '"2 cats"' not in question]
    assert [result[0], result[2]] == pytest.approx(right, abs=1e-6)
    (reason,) = outcome.errors
    if "Sign in" in body:
        assert "Sign in" in reason, "what the service says"


def test_bytes_that_are_no_text_are_no_answer(openai, monkeypatch):
    broken = b'{"choices": [{"message": {"content": "\xff\xfe"}}'
    body = broken.decode("latin-1")
    with Server(lambda request: Reply(body)) as server:
        plain = server._send

        async def send(writer, reply):
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
                % (len(broken), broken)
            )
            await writer.drain()
            return True

        monkeypatch.setattr(server, "_send", send)
        assert plain is not None
        scores = openai.load(server, on_error="skip", retries=0)(draw_image(1), "a cat")
    assert scores.isnan().all()


def use(spoken, answer, name, value):
    """Have an answer say something of what it used."""
    names = {"in": ("prompt_tokens", "promptTokenCount")}
    names["out"] = ("completion_tokens", "candidatesTokenCount")
    key = names[name][spoken.name == "gemini"]
    answer["usage" if spoken.name == "openai" else "usageMetadata"][key] = value
    return answer


@pytest.mark.parametrize("name", ["in", "out"])
@pytest.mark.parametrize("value", [10**400, -(10**400), -1000, -1, "300", 300.5, [], {}, True])
def test_counts_that_cannot_be_end_no_run_and_lower_no_cost(name, value, spoken):
    costs = []

    def behave(request):
        costs.append(scorer.usage.cost)
        answer = spoken.right(request).body
        return Reply(use(spoken, answer, name, value) if request.number % 2 == 0 else answer)

    with Server(behave) as server:
        each = 301 / 1e6
        scorer = spoken.load(server, price=[1.0, 1.0], concurrency=1, on_error="skip")
        scores = scorer(draw_images(2), TEXTS)
        assert not scores.isnan().any()
        assert costs == sorted(costs)
        assert scorer.usage.cost == pytest.approx(6 * each), "as the dearest that was told"
        assert all(count >= 0 for count in scorer.usage.total.values())
        limited = spoken.load(
            server, price=[1.0, 1.0], concurrency=1, on_error="skip", max_cost=4.5 * each
        )
        scorer = limited
        assert limited(draw_images(2), TEXTS).isnan().sum() == 2, "the limit is kept"
        assert limited.usage.cost <= 4.5 * each


def test_counts_that_never_can_be_end_a_run_with_a_limit(spoken):
    def behave(request):
        return Reply(use(spoken, spoken.right(request).body, "in", -5))

    with Server(behave) as server:
        scorer = spoken.load(server, price=[1.0, 1.0], max_cost=1.0, on_error="skip")
        with pytest.raises(ServiceError, match="`max_cost=` cannot be kept"):
            scorer(draw_images(9), TEXTS)
        assert not spoken.load(server)(draw_images(1), TEXTS).isnan().any()


def test_more_cached_tokens_than_there_are_cost_nothing_below_nothing(openai):
    answer = completion({"Yes": 0.5})
    answer["usage"]["prompt_tokens_details"] = {"cached_tokens": 10**6}
    with Server(lambda request: Reply(answer)) as server:
        scorer = t2v_eval.load("gpt-4o", base_url=server.url, api_key="k")
        scorer(draw_image(1), "a cat")
    assert scorer.usage.cost == pytest.approx((300 * 1.25 + 10) / 1e6)
    assert scorer.usage.total["cached_tokens"] == 300


OPEN = {"temperature": 1, "top_p": 1, "top_k": -1, "min_p": 0, "repetition_penalty": 1}


def test_a_server_is_asked_to_draw_as_the_model_says(openai):
    with Server(right) as server:
        openai.load(server)(draw_image(1), "a cat")
        sampler = openai.load(server, estimator="sampling", n=2)
        server.behave = lambda request: Reply(sampled("Yes", "No"))
        sampler(draw_image(1), "a cat")
        for request in server.requests:
            assert {name: request.body.get(name) for name in OPEN} == OPEN
        custom = openai.load(
            server, extra_body={"top_k": 5, "top_p": 0.5}, estimator="sampling", n=2
        )
        custom(draw_image(1), "a cat")
        sent = {name: server.requests[-1].body[name] for name in OPEN}
        assert sent == {**OPEN, "top_k": 5, "top_p": 0.5}, "what the user says goes before"
        server.behave = lambda request: Reply(sampled("50"))
        openai.load(server, "openai-compatible-judge:m")(draw_image(1), "a cat")
        assert not {"top_p", "top_k"} & server.requests[-1].body.keys(), "which draws nothing"
        server.behave = lambda request: Reply(sampled("Yes", "No"))
        for model in ("gpt-5-mini", "o3"):
            openai.load(server, f"openai:{model}", estimator="sampling", n=2)(
                draw_image(1), "a cat"
            )
            assert "top_p" not in server.requests[-1].body, "of which it knows that it takes none"


@pytest.mark.parametrize(
    ("says", "remaining"),
    [
        ("property 'top_k' is unsupported", 4),
        ("Unrecognized request argument supplied: top_k", 4),
        ([{"loc": ["body", "top_k"], "msg": "Extra inputs are not permitted"}], 4),
        ("Extra inputs are not permitted", 2),
        ("", 2),
        ("`temperature` and `top_p` cannot both be specified", 4),
        ("Unsupported parameter: 'temperature' is not supported with this model.", 4),
    ],
    ids=str,
)
def test_a_server_that_takes_less_is_asked_without_it(says, remaining, openai):
    named = [name for name in OPEN if name in json.dumps(says)]
    named = [name for name in named if name != "temperature"] or named
    refused = set(named) or {"top_k", "min_p", "repetition_penalty"}

    def behave(request):
        if refused & request.body.keys():
            return Reply({"detail": says}, 422)
        return right(request)

    with Server(behave) as server:
        scores = openai.load(server, retries=0)(draw_images(2), TEXTS)
        assert not scores.isnan().any()
        assert len(server.requests) == 7, "refused once"
        assert len(OPEN.keys() & server.requests[-1].body.keys()) == remaining


@pytest.mark.parametrize(
    "body",
    [
        {"detail": [{"loc": ["body"], "msg": "bad image", "input": {"logprobs": True, "n": 1}}]},
        {"object": "error", "message": "[{'msg': 'bad image', 'input': {'logprobs': True}}]"},
    ],
    ids=["FastAPI", "vLLM"],
)
def test_a_request_that_an_error_repeats_is_none_of_what_it_says(body, openai):
    def behave(request):
        return Reply(body, 422) if '"2 cats"' in request.question else right(request)

    with Server(behave) as server:
        scorer = openai.load(server, on_error="skip")
        outcome = scorer.evaluate_blocks([Block([draw_image(1)], TEXTS)])
        assert len(server.requests) == 3
    (reason,) = outcome.errors
    assert "(status 422)" in reason and "bad image" in reason and "logprobs" not in reason


def test_a_server_that_refuses_whatever_is_asked_is_not_asked_for_ever(openai):
    says = error(400, "Unsupported parameter: 'top_p' and 'temperature'")
    with Server(lambda request: says) as server:
        with pytest.raises(ScoringError, match=r"refuses it \(status 400\): Unsupported parameter"):
            openai.load(server)(draw_image(1), "a cat")
        assert len(server.requests) <= 3
        few = openai.load(server, max_requests=1, on_error="skip")
        assert few(draw_image(1), "a cat").isnan().all()


@pytest.mark.parametrize("spoken", SERVICES[1:], indirect=True)
def test_gemini_without_a_top_p(spoken):
    def behave(request):
        if "topP" in request.body["generationConfig"]:
            return spoken.error(400, "topP is not supported by this model")
        return spoken.right(request)

    with Server(behave) as server:
        assert not spoken.load(server)(draw_image(1), TEXTS).isnan().any()
        assert len(server.requests) == 4


def test_what_must_stop_a_run_still_does(spoken):
    plain = copy.deepcopy(spoken.FAULTS["no logprobs"]().body)
    with Server(lambda request: Reply(plain)) as server:
        with pytest.raises(UnsupportedError, match="gives no log-probabilities"):
            spoken.load(server, on_error="skip")(draw_images(9), TEXTS)
        assert len(server.requests) == 3
    odd = listing(spoken, {"Yes": 0.5})
    rows, name = listed(spoken, odd)
    rows[0][name] = None
    with (
        Server(lambda request: Reply(odd)) as server,
        pytest.raises(ServiceError, match="in a row"),
    ):
        # A list that cannot be read is no model without: it is asked again, until it is too much.
        spoken.load(server, on_error="skip", retries=1)(draw_images(9), TEXTS)
    with pytest.raises(InputError):
        spoken.load("http://127.0.0.1:9", n=0, estimator="sampling")
