"""Replies that list questions, and TIFA's filter, against the originals."""

import pytest
from helpers.question_goldens import numbered

from t2v_eval.errors import InputError
from t2v_eval.inputs.questions import replies

PARSERS = {
    "parse_tuple_output": replies.parse_tuples,
    "parse_dependency_output": replies.parse_dependencies,
    "parse_question_output": replies.parse_questions,
}


@pytest.mark.parametrize("case", **numbered("dsg_parse"))
def test_dsg_replies_are_parsed_as_by_its_code(case):
    parse = PARSERS[case["input"]["function"]]
    if "raises" in case["result"]:
        with pytest.raises(InputError):
            parse(case["input"]["text"])
        return
    parsed = {str(number): value for number, value in parse(case["input"]["text"]).items()}
    assert parsed == case["result"]["value"]


@pytest.mark.parametrize("case", **numbered("tifa_parse"))
def test_tifa_replies_are_parsed_as_by_its_code(case):
    parsed = [list(entry) for entry in replies.parse_tifa_reply(case["input"]["text"])]
    assert parsed == case["result"]["value"]


@pytest.mark.parametrize("case", **numbered("tifa_filter"))
def test_questions_are_filtered_as_by_its_code(case):
    assert replies.filter_questions(**case["input"]) == case["result"]
