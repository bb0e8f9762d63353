"""Answers of any length are read in time that grows with their length."""

from __future__ import annotations

import multiprocessing

import pytest

from t2v_eval.backends.services.answer_text import match_answer
from t2v_eval.backends.services.grade import parse_grade
from t2v_eval.backends.services.pairwise import parse_choice
from t2v_eval.errors import ScoringError

LONG = [
    "<answer>",
    r"\boxed{",
    "<think>",
    "<think>a</think>",
    " ",
    "*",
    "`",
    "<|",
    "Answer:\n",
    "(",
    "{",
]
LONG += [
    "a ",
    "\n",
    "Yes ",
    "[",
    "_",
    "!",
    "the ",
    "<|channel|>final",
    "<seed:",
    "a_",
    "$ ",
    "$",
    "#",
]


@pytest.mark.parametrize("head", ["", "Yes", "```", "<answer>", "$"])
def test_an_answer_of_any_length_is_read_in_no_time(head):
    with multiprocessing.get_context("fork").Pool(1) as pool:  # which a search without end stops
        for part in LONG:
            for count in (2_500, 100_000):
                text = head + part * count + "x"
                assert pool.apply_async(in_all_ways, (text,)).get(20), part


def in_all_ways(text):
    """What each question makes of a text."""
    result = set()
    for read in (
        lambda text: match_answer(text, "Yes"),
        lambda text: match_answer(text, "Blue"),
        parse_grade,
        parse_choice,
    ):
        try:
            result.add(read(text))
        except ScoringError:
            result.add(None)
    return result
