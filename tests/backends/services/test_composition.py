"""A scorer has a protocol and a question: any of one goes with any of the other."""

from __future__ import annotations

import threading

import pytest
from helpers.services.ask_server import SERVICES, Spoken, draw_images, texts
from helpers.services.loopback import Reply, Server
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.backends.services.build import QUESTIONS, build_scorer
from t2v_eval.backends.services.pairwise import PairwiseScorer
from t2v_eval.backends.services.scorer import ServiceScorer
from t2v_eval.errors import InputError
from t2v_eval.registry import models
from t2v_eval.scoring.scorer import Scorer


@pytest.fixture(params=SERVICES)
def spoken(request):
    return Spoken(request.param)


def protocol_of(spoken):
    return type(spoken.load("http://127.0.0.1:9").protocol)


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_by_every_protocol(question, spoken):
    words = {"probability": "Yes", "grade": "70", "preference": "A"}.get(question, "a")
    options = {"estimator": "sampling", "n": 1} if question == "probability" else {}
    with Server(lambda request: Reply(spoken.sampled(words))) as server:
        scorer = build_scorer(
            protocol_of(spoken),
            question,
            "served-model-1",
            base_url=server.address + spoken.path,
            api_key="k",
            **options,
        )
        if question == "preference":
            assert isinstance(scorer, PairwiseScorer)
            assert scorer.prefer(draw_image(1), draw_image(2), "a cat").value == 0.5
        else:
            expected = {"grade": 70.0}.get(question, 1.0)
            assert scorer(draw_image(1), "a cat").item() == expected


def test_two_scorers_share_a_protocol(spoken):
    """Each has connections of its own, also where both run at once."""
    results = {}
    with Server(spoken.right) as server:
        first = spoken.load(server)
        second = ServiceScorer(first.protocol, first.question, timeout=50.0)

        def score(name, scorer):
            results[name] = scorer(draw_images(2), texts(10)).tolist()

        threads = [
            threading.Thread(target=score, args=pair) for pair in (("a", first), ("b", second))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results["a"] == results["b"]


def test_cards_say_protocol_and_question():
    cards = [card for card in models.cards.values() if card.remote]
    cards += [card for card, _ in models._families.values() if card.remote]
    cards = [card for card in cards if ".services." in card.module]
    assert {card.entry for card in cards} == {"openai_scorer", "compatible_scorer", "gemini_scorer"}
    assert {card.args["question"] for card in cards} == QUESTIONS.keys() - {"text", "written"}


def test_classes_are_not_deep(spoken):
    for kind in (ServiceScorer, PairwiseScorer):
        assert kind.__mro__.index(Scorer) <= 5


@pytest.mark.parametrize(
    ("name", "option"),
    [("gpt-4o", "temperature"), ("gpt-4o-judge", "rule"), ("gpt-4o", "thinking")],
)
def test_an_option_of_another_question_or_protocol_is_refused(name, option):
    with pytest.raises(InputError, match=f"takes no `{option}=`"):
        t2v_eval.load(name, api_key="k", **{option: 1})
    with pytest.raises(InputError, match="question='size'"):
        t2v_eval.load(name, api_key="k", question="size")
