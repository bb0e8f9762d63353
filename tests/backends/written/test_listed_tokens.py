"""Grades by the probabilities of tokens that a service lists, and samples of one question."""

from __future__ import annotations

import json
import math

import pytest
from helpers.judges import over_service, token_list, written_reply
from helpers.services.loopback import Server
from helpers.services.openai_server import tokens
from helpers.toy import draw_image

from t2v_eval.errors import ScoringError
from t2v_eval.store import Store

STYLE = {"pattern": "Style: {number}", "range": [1, 5]}
JUDGE = {"score": "style", "questions": [{"text": "Grade {}", "outputs": {"style": STYLE}}]}
LIKELY = {"4": 0.6, "5": 0.3}
MEAN = (4 * 0.6 + 5 * 0.3) / 0.9


def digit(logprob, likeliest):
    """The digit 4 with a log-probability of its own, and the likeliest tokens in its place."""
    return {"token": "4", "logprob": logprob, "top_logprobs": tokens(likeliest)}


def part(*content):
    """A token that is a part of a character."""
    return {"token": "\ufffd", "logprob": -0.1, "bytes": [*content], "top_logprobs": []}


EMOJI = [part(0xF0, 0x9F), part(0x98, 0x80)]


@pytest.mark.parametrize(
    ("text", "listed", "grade"),
    [
        # What a server lists of the reasoning before is no part of the answer.
        ("Style: 4", ["Grades:", {"4": 1.0}, "</think>", "\n\n", "Style: ", LIKELY], MEAN),
        ("Style: 4", ["\n\n", "Style", ": ", LIKELY, "<|im_end|>"], MEAN),
        ("\U0001f600 Style: 4", [*EMOJI, " Style: ", LIKELY], MEAN),
        ("\U0001f600 Style: 4", ["\ufffd", " Style: ", LIKELY], "not one of the listed tokens"),
        ("Style: 10", ["Style: ", {"1": 0.9}, {"0": 0.9}], "10 as style, which is not one of"),
        ("Style: 10", ["Style: ", {"10": 0.9, "1": 0.1}], "10 as style, which goes from 1 to 5"),
        # The digit that is written has a probability, though it may not be among the likeliest.
        ("Style: 4", ["Style: ", digit(math.log(0.3), {"5": 0.6})], (4 * 0.3 + 5 * 0.6) / 0.9),
        ("Style: 4", ["Style: ", digit(-0.1, {"5": 0.9})], "no valid probabilities"),
        ("Style: 4", ["Style: ", digit(5.0, {"5": 0.9})], "no valid probabilities"),
        ("Style: 4", ["Style: ", digit(None, {"5": 0.9})], "no valid probabilities"),
        ("Style: 4", ["Style: ", digit(-0.1, {})], "no valid probabilities"),
    ],
)
def test_expected_grades_are_of_the_tokens_of_the_answer(text, listed, grade):
    rows = [
        row if "token" in row else token_list(row)["content"][0]  # of a dict, or a text
        for row in listed
    ]

    def behave(request):
        reply = written_reply(text)
        reply.body["choices"][0]["logprobs"] = {"content": rows}
        return reply

    with Server(behave) as server:
        scorer = over_service({**JUDGE, "expected": True}, server)
        if isinstance(grade, str):
            with pytest.raises(ScoringError, match=grade):
                scorer(draw_image(1), "a cat")
        else:
            assert scorer(draw_image(1), "a cat").item() == pytest.approx(grade)


def test_samples_are_of_one_model():
    """A router may send what is left of a question to another model."""

    def behave(request):
        return written_reply("Style: 4", model="m" if "n" in request.body else "m-2026-01-01")

    with Server(behave) as server:
        scorer = over_service({**JUDGE, "temperature": 1.0, "passes": 2}, server)
        with pytest.raises(ScoringError, match="'m' and 'm-2026-01-01' answered one question"):
            scorer(draw_image(1), "a cat")


def test_half_a_character_is_stored_as_a_mark(tmp_path):
    """A cut emoji is half of a pair of UTF-16, which no file can hold."""
    with Server(lambda _: written_reply("Style: 4\n\ud83d")) as server:
        scorer = over_service(JUDGE, server, store=tmp_path / "scores.sqlite")
        for _ in range(2):
            assert scorer(draw_image(1), "a cat").item() == 4
        (cell,) = Store(tmp_path / "scores.sqlite").scored_cells(scorer.id)
        assert json.loads(cell.detail)["written"] == ["Style: 4\n\ufffd"]
        assert len(server.requests) == 1
