"""Which replies are right, wrong, or no answer at all."""

import pytest

from t2v_eval.errors import InputError
from t2v_eval.inputs.questions.answers import YES_NO, answer_value


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("yes", 1),
        (" Yes. ", 1),
        ("**YES**", 1),
        ("Yes, there is a cat.", 1),
        ("No, it is not", 0),
        ("no", 0),
        ("Ｙｅｓ", 1),
    ],
)
def test_replies_to_yes_or_no(reply, value):
    assert answer_value(reply, "yes", YES_NO) == value


@pytest.mark.parametrize("reply", ["", " ", "...", "maybe", "yesterday", "yes and no", "oui", "是"])
def test_a_reply_that_is_none_of_the_choices_is_no_answer(reply):
    with pytest.raises(InputError, match="empty|none of yes, no"):
        answer_value(reply, "yes", YES_NO)
    assert answer_value(reply, "yes", YES_NO, match="exact") == 0


def test_choices_and_free_answers():
    choices = ["surfer", "swimmer", "2"]
    assert answer_value("A surfer", "surfer", choices) == 1
    assert answer_value("the swimmer.", "surfer", choices) == 0
    assert answer_value("Two", "2", choices) == 1
    with pytest.raises(InputError, match="'a surfboard' is none of surfer"):
        answer_value("a surfboard", "surfer", choices)
    assert answer_value("Three", "3") == 1 and answer_value("many", "3") == 0
    assert answer_value("Yes", "yes", match="exact") == 0


def test_a_lengthy_reply_is_shortened_in_the_message():
    with pytest.raises(InputError) as raised:
        answer_value("word " * 10_000, "yes", YES_NO)
    assert len(str(raised.value)) < 400
    with pytest.raises(InputError, match="exact, normalised, nearest"):
        answer_value("yes", "yes", match="fuzzy")


@pytest.mark.parametrize(
    "reply", ["Yes, there is. No, wait.", "No. Yes!", "No, it is not; yes would be wrong"]
)
def test_a_reply_that_says_both_yes_and_no_is_no_answer(reply):
    with pytest.raises(InputError, match="says both yes and no"):
        answer_value(reply, "yes", YES_NO)
    assert answer_value(reply, "yes", YES_NO, match="exact") == 0.0  # as the originals


def test_the_first_word_counts_whatever_the_rest_means():
    assert answer_value("No, it does show it.", "yes", YES_NO) == 0.0
    assert answer_value("No, there is no cube.", "no", YES_NO) == 1.0
