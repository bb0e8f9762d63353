"""Texts that services write: one that fails costs no other, and what was answered is handed out."""

from __future__ import annotations

import json

import pytest
from helpers.services.ask_server import SERVICES, Spoken, draw_images
from helpers.services.loopback import Reply, Server
from helpers.toy import draw_image

from t2v_eval.errors import MediaError, ScoringError, ServiceError, T2VWarning

PROMPTS = [f"Say {n}." for n in range(6)]


@pytest.fixture(params=SERVICES)
def spoken(request):
    return Spoken(request.param)


def failing(spoken, prompt, reply):
    """Write a text about every prompt but one."""

    def behave(request):
        return reply if prompt in request.question else Reply(spoken.sampled(request.question))

    return behave


def test_one_that_fails_is_none(spoken):
    refusal = spoken.error(400, "not allowed")
    with Server(failing(spoken, "Say 2.", refusal)) as server:
        scorer = spoken.load(server, on_error="skip")
        with pytest.warns(T2VWarning) as reported:
            answers = scorer.generate(draw_images(6), PROMPTS)
    assert answers == [None if prompt == "Say 2." else prompt for prompt in PROMPTS]
    (message,) = [str(item.message) for item in reported]
    assert "1 of 6 texts are missing; the first reason: images[2] (" in message
    assert "with 'Say 2.': the service refuses it (status 400): not allowed" in message


def test_an_error_names_image_and_text_and_keeps_the_others(spoken):
    refusal = spoken.error(400, "not allowed")
    with Server(failing(spoken, "Say 2.", refusal)) as server:
        scorer = spoken.load(server, concurrency=1)
        with pytest.raises(
            ScoringError, match=r"images\[2\] .* with 'Say 2.': .*not allowed"
        ) as error:
            scorer.generate(draw_images(6), PROMPTS)
    answers = json.loads(error.value.detail)
    assert answers[:3] == ["Say 0.", "Say 1.", None]
    # Requests that were under way when the error arrived may have been answered.
    assert all(answer in (None, prompt) for answer, prompt in zip(answers, PROMPTS, strict=True))


def test_no_text_at_all_is_none(spoken):
    """A call of a tool, or an image, is no text that was written."""
    nothing = spoken.sampled("Say 2.")
    if "choices" in nothing:
        nothing["choices"][0]["message"]["content"] = None
    else:
        nothing["candidates"][0]["content"] = {"role": "model"}
    reported = pytest.warns(T2VWarning, match="'Say 2.': the service's answer has no text")
    with Server(failing(spoken, "Say 2.", Reply(nothing))) as server, reported:
        answers = spoken.load(server, on_error="skip").generate(draw_images(6), PROMPTS)
    assert answers == [None if prompt == "Say 2." else prompt for prompt in PROMPTS]


def test_an_image_that_cannot_be_opened(spoken, tmp_path):
    images = [draw_image(1), tmp_path / "none.png", draw_image(2)]
    with Server(failing(spoken, "Never", Reply())) as server:
        with pytest.warns(T2VWarning, match=r"1 of 3 texts are missing.*no such file"):
            answers = spoken.load(server, on_error="skip").generate(images, "Say.")
        with pytest.raises(MediaError, match=r"images\[1\] .*no such file"):
            spoken.load(server).generate(images, "Say.")
    assert answers == ["Say.", None, "Say."]


def test_what_was_answered_before_the_service_stopped_is_handed_out(spoken):
    def behave(request):
        if request.number > 3:
            return spoken.error(401, "bad key")
        return Reply(spoken.sampled(request.question))

    with Server(behave) as server:
        scorer = spoken.load(server, on_error="skip", concurrency=1)
        with pytest.warns(T2VWarning, match=r"3 of 6 texts are missing; .* refuses the key"):
            answers = scorer.generate(draw_images(6), PROMPTS)
        assert answers == [*PROMPTS[:3], None, None, None]
        with pytest.raises(ServiceError, match="refuses the key"):
            scorer.generate(draw_images(6), PROMPTS)
