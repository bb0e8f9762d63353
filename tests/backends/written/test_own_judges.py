"""Judges as people write them: what is no judge is refused when it is loaded, and odd patterns read
what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.judges import Reciting, card_of
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.backends.written import written_scorer
from t2v_eval.backends.written.reading import Output, join, names_in, read_outputs
from t2v_eval.errors import InputError, ScoringError
from t2v_eval.scoring.generation import Written
from t2v_eval.scoring.plan import Block

GRADE = {"pattern": "Q:{number}", "range": [1, 5]}
CHOICE = {"A": 1.0, "B": 0.0}


def load(tmp_path, output=GRADE, question=None, judge=None, **keys):
    """Load a judge of one question from a file with these tables."""
    asked = {"text": "Grade {}", "outputs": {"q": output}} | (question or {})
    table = {"judge": {"score": "q", "questions": [asked]} | (judge or {})} | keys
    file = tmp_path / "mine.toml"
    file.write_text("".join(f"{key} = {toml(value)}\n" for key, value in table.items()))
    access = {"api_key": "k"} if "vlm" in keys else {"vlm": "gpt-4o", "api_key": "k"}
    return t2v_eval.load(str(file), **access)


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return str(value) if isinstance(value, float) else json.dumps(value)


def test_an_adapter_belongs_to_the_model_of_its_card(tmp_path, monkeypatch):
    """A merged copy that a user names does not get it a second time."""
    asked = []

    def load_writer(vlm, writing, options):
        asked.append((vlm, {k: options[k] for k in ("adapter", "system") if k in options}))

    monkeypatch.setattr(written_scorer, "load_writer", load_writer)
    monkeypatch.setattr(written_scorer, "WrittenScorer", lambda *_, **__: Reciting(lambda _: []))
    system = {"system": "You are a helpful assistant."}
    for options in ({}, {"vlm": "hf-vlm:merged"}, {"vlm": "gpt-4o"}):
        t2v_eval.load("editscore-qwen3-vl-4b", wording="ours", **options)
    file = tmp_path / "mine.toml"
    local = {"adapter": "org/mine"}
    table = {"judge": {"score": "q", "questions": [{"text": "Grade {}", "outputs": {"q": GRADE}}]}}
    for key, value in {**table, "vlm": "hf-vlm:org/base", "local": local}.items():
        with file.open("a") as stream:
            stream.write(f"{key} = {toml(value)}\n")
    t2v_eval.load(str(file))
    adapter = {"adapter": "EditScore/EditScore-Qwen3-VL-4B-Instruct"}
    assert asked == [
        ("hf-vlm:Qwen/Qwen3-VL-4B-Instruct", {**adapter, **system}),
        ("hf-vlm:merged", system),
        ("gpt-4o", {}),
        ("hf-vlm:org/base", local),
    ]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"vlm": 5}, "vlm = 5 of the file must be a text"),
        ({"vlm": "mine.toml"}, "vlm='mine.toml'` is a judge itself; name the model that writes"),
        ({"question": {"authors": {}}}, "`authors` is for cards of packages"),
        ({"local": "cpu"}, "local = 'cpu' of the file must be a table"),
        ({"system": ["a"]}, "system = .* must be a text"),
        ({"question": {"text": ["a"]}}, "text = .* must be a text"),
        ({"question": {"outputs": ["a"]}}, "outputs = .* must be a table"),
        ({"question": {"outputs": {"q": 5}}}, "the output must be a table, not 5"),
        ({"judge": {"questions": {"text": "a"}}}, r"must be a list: .* \[\[judge.questions\]\]"),
        ({"question": {"text": " "}}, "the text of a question is empty"),
        ({"question": {"text": "Grade {text: it"}}, "a lone brace at '{text: it'"),
        ({"judge": {"images": ["first", "second"]}}, r"'q' goes from 1 to 5: set its rescale"),
        ({"question": {"text": "{source} as {}"}}, r"as images = \['source', 'result'\]"),
        ({"kind": "edits"}, "kind = 'edits'; use one of .*edit"),
        ({"kind": "edit"}, r"needs images = \['source', 'result'\]"),
        ({"judge": {"questions": ["a"]}}, "the question must be a table, not 'a'"),
        ({"judge": {"expected": "no"}}, "expected = 'no' .* must be a true or false"),
        ({"judge": {"max_new_tokens": True}}, "max_new_tokens = True"),
        ({"judge": {"top_p": 0}}, "top_p = 0: use a number above 0, up to 1"),
        ({"judge": {"top_k": 20}}, "`top_k` need a `temperature`"),
        ({"judge": {"images": ["a", "b"]}}, r"images = \['a', 'b'\]: use \['first', 'second'\]"),
        ({"judge": {"images": ["source", "source"]}}, r"images = \['source', 'source'\]"),
        ({"judge": {"score": {"mean": ["q"], "weights": 3}}}, "weights are a list of numbers"),
        ({"judge": {"score": {"mean": ["q"], "weights": [float("inf")]}}}, "weights are a list"),
        ({"judge": {"score": {"mean": ["q"], "min": ["q"]}}}, "a table with mean, min"),
        (
            {"output": GRADE | {"range": [-1, 1]}, "judge": {"score": {"sqrt": "q"}}},
            "sqrt of 'q', which may be -1",
        ),
        ({"output": GRADE | {"range": [0.5, 5]}, "judge": {"expected": True}}, "of one digit"),
        ({"output": {"pattern": "Q:{number}"}}, "lacks 'range'"),
        ({"output": GRADE | {"range": [5, 1]}}, r"range = \[5.0, 1.0\]; use \[low, high\]"),
        ({"output": GRADE | {"range": ["1", "5"]}}, "range has '1' in the place of a number"),
        ({"output": GRADE | {"range": [1, float("nan")]}}, "range has nan"),
        ({"output": GRADE | {"range": [-1e308, 1e308]}}, "range = "),
        ({"output": GRADE | {"rescale": [0, float("nan")]}}, "rescale has nan"),
        ({"output": GRADE | {"rescale": [1, 1]}}, "rescale = "),
        ({"output": GRADE | {"values": {"good": 1}}}, "has a place for a number, {number}; leave"),
        ({"output": GRADE | {"pattern": "(?:Q:{number})"}}, "not where it ends before {number}"),
        ({"output": GRADE | {"pattern": "(?P<number>Q){number}"}}, "names a group"),
        ({"output": GRADE | {"pattern": "Q:(.*)", "values": {"a": "b"}}}, "a has 'b' in the place"),
        (
            {"output": GRADE | {"pattern": "Q:(.*)", "values": {"a": 6}}},
            "a value is 6, and `range`",
        ),
        ({"output": GRADE | {"pattern": "Q:.*", "values": {"a": 5}}}, r"has no group \(...\)"),
        ({"output": GRADE | {"pattern": "Q:.*", "points": True}}, r"has no group \(...\)"),
        ({"output": GRADE | {"pattern": "Q:{number}|R:{number}"}}, "several places for a number"),
        ({"output": GRADE | {"pattern": "Q:{number}?"}}, "several places for a number"),
        (
            {"output": GRADE | {"pattern": "Q:(.*)", "values": {"A": 1, "a": 2}}},
            "the phrase 'a' means several grades; case does not count",
        ),
        (
            {"output": GRADE | {"json": "q", "values": {"tie": 1}, "none": "Tie"}},
            "the phrase 'tie' means several grades",
        ),
        ({"output": {"json": "$.q", "range": [1, 5]}}, r"use NAME, NAME.NAME or NAME\[0\]"),
        ({"output": {"json": "q[0].r", "range": [1, 5]}}, r"use NAME, NAME.NAME or NAME\[0\]"),
    ],
)
def test_what_is_no_judge_is_refused_when_it_is_loaded(tmp_path, tables, message):
    with pytest.raises(InputError, match=message):
        load(tmp_path, **tables)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"max_tokens": 99}, "`max_tokens=` is set by the judge .* pass `max_new_tokens=`"),
        ({"question": "text"}, "`question=` is set by the judge"),
        ({"grades": 5}, "`grades=` is set by the judge"),
        ({"rule": "yes-no"}, r"takes no `rule=`(?!.*did you mean `rule=`)"),
        ({"system": 5}, "`system=5`; pass a text"),
    ],
)
def test_an_option_that_is_none_of_a_judge_is_refused(option, message):
    judge = {"score": "q", "questions": [{"text": "Grade {}", "outputs": {"q": GRADE}}]}
    for vlm in ("openai-compatible:m", "gpt-4o"):
        with pytest.raises(InputError, match=message):
            card_of(judge, vlm=vlm, base_url="http://localhost:9/v1", api_key="k", **option)


def test_tables_that_are_too_deep_are_no_judge(tmp_path):
    file = tmp_path / "deep.toml"
    for text in ("x = " + 3000 * "[", "x = " + 900 * "{a = "):
        file.write_text(text)
        with pytest.raises(InputError, match=r"deep\.toml is not valid TOML"):
            t2v_eval.load(str(file))


@pytest.mark.parametrize(
    ("options", "answer", "grade"),
    [
        # A number is no part of another one, whatever the pattern takes before it.
        ({"pattern": "Q:.*{number}"}, "Q: 14", "states 14"),
        ({"pattern": "Q:.*{number}"}, "Q: 3-4", "states no q"),
        ({"pattern": r"Q:\D*{number}"}, "Q: about 4.5", 4.5),
        # Without a label, the number is the whole answer.
        ({"pattern": "{number}"}, " 4\n", 4.0),
        ({"pattern": "{number}"}, "It is 4", "states no q"),
        ({"pattern": "{number}/10"}, "8/10", 8.0),
        ({"pattern": "{number}/10"}, "3,8/10", "states no q"),
        ({"pattern": "{number}/10"}, "3 to 4/10", "states no q"),
        ({"pattern": "(?i)q: {number}"}, "Q: 4\r\nAll is well.\r\n", 4.0),
        ({"pattern": "Q: {number}"}, "Q: 4" + " " * 50_000 + "x", "states no q"),
        ({"pattern": "Q: {number}", "none": "(none)"}, "Q: (none)", None),
        ({"pattern": "Q: {number}", "none": "N/A"}, "Q: N/A, or perhaps 3", "states no q"),
        ({"pattern": "Q: (.*)", "values": {"Very  good": 9.0}, "none": "-"}, "Q: very good", 9.0),
        ({"pattern": "Q: (.*)", "values": {"good": 9.0}, "none": "-"}, "Q: -", None),
        # A scale in the pattern is that of the answer, and ends the line as a number does.
        ({"pattern": "Q: {number}/10"}, "**Q: 8/10**.", 8.0),
        ({"pattern": "Q: {number}/10"}, "Q: 8/100", "states no q"),
        ({"pattern": "Q: {number}/10"}, "Q: 8/10.5", "states no q"),
        ({"pattern": "Q: {number}/10"}, "Q: 8/10 or 9/10", "states no q"),
        ({"pattern": "Q: {number} out of 10"}, "Q: 8 out of 100", "states no q"),
        ({"pattern": "Q: {number} of 10 *"}, "Q: 8 of 100", "states no q"),
        # So does what may stand behind it.
        ({"pattern": r"Q: \**{number}\**"}, "Q: **8**/10", 8.0),
        ({"pattern": r"Q: \**{number}\**"}, "Q: **8 or 9**", "states no q"),
        ({"pattern": r"Q: {number}\b"}, "Q: 8 or 9", "states no q"),
        ({"pattern": "Q: {number}(?:/10)?"}, "Q: 8/100", "states no q"),
        ({"pattern": "Q: {number}(?:/10)?"}, "Q: 8/10", 8.0),
        ({"pattern": "Q: {number}.*"}, "Q: 8, as it is sharp", 8.0),
        ({"pattern": "Q: {number} points"}, "Q: 8 points, as it is sharp", 8.0),
        ({"pattern": r"Q: \**(A|B)\**", "values": CHOICE}, "Q: **A**", 1.0),
        ({"pattern": r"Q: \**(A|B)\**", "values": CHOICE}, "Q: **A or B**", "states no q"),
        ({"pattern": r"Q: (A|B)(?:\.|$)", "values": CHOICE}, "Q: A. It is sharp.", 1.0),
        # What is no word is no label.
        ({"pattern": r"\b{number}\b"}, "4", 4.0),
        ({"pattern": r"\b{number}\b"}, "No image of 3 cats.", "no label before it"),
        ({"pattern": r"\s{number}"}, "error 5", "no label before it"),
        # A phrase is made of whole words, and ends the line; without a label, it is the answer.
        ({"pattern": "(A|B)", "values": CHOICE}, "b", 0.0),
        ({"pattern": "(A|B)", "values": CHOICE}, "I cannot see it.", "no label before it"),
        ({"pattern": "(good|bad)", "values": {"good": 1.0}}, "No good image.", "no label"),
        ({"pattern": "Q: (A|B)", "values": CHOICE}, "**Q: B**.\nA is dark.", 0.0),
        ({"pattern": "Q: (A|B)", "values": CHOICE}, "Q: Both", "states no q"),
        ({"pattern": "Q: (A|B)", "values": CHOICE}, "Q: a tie", "states no q"),
        ({"pattern": "Q: (A|B)", "values": CHOICE}, "Q: A or B", "states no q"),
        ({"pattern": "Q: (A|B)", "values": CHOICE}, "Q: A\nQ: none", "q several times"),
        ({"pattern": "Q:.*(A|B)", "values": CHOICE}, "Q: none, I have no idea", "states no q"),
        ({"pattern": "Q: (A|B)[.]?", "values": CHOICE}, "Q: Both.", "states no q"),
        (
            {"pattern": "Q: (good|good for it)", "values": {"good for it": 5.0}},
            "Q: good for it",
            5.0,
        ),
        ({"pattern": "答：{number}"}, "答：4。", 4.0),
        ({"pattern": "答：(好|坏)", "values": {"好": 1.0, "坏": 0.0}}, "答：坏）。", 0.0),
        ({"pattern": "答：(好|坏)。", "values": {"好": 1.0, "坏": 0.0}}, "答：坏。", 0.0),
        ({"pattern": r"Q: [()[\]](A|B)", "values": CHOICE}, "Q: (A", 1.0),
        ({"pattern": r"(\[.*\])", "points": True}, "[10, 0]", 5.0),
        ({"pattern": r"(\[.*\])", "points": True}, "It is no [10, 0]", "no label before it"),
        ({"pattern": "Q: (?:(good)|bad)", "values": {"good": 9.0}}, "Q: bad", "none of its values"),
        ({"json": "q", "values": {"A": 1.0, "B": 0.0}}, '{"q": "b"}', 0.0),
        ({"json": "q", "values": {"A": 1.0}}, '{"q": 1}', "none of its values"),
        ({"json": "q", "values": {"1": 9.0, "2": 0.0}}, '{"q": 1}', 9.0),
        ({"json": "q", "values": {"1": 9.0, "2": 0.0}}, '{"q": 1.0}', "none of its values"),
        ({"json": "q", "values": {"true": 9.0}}, '{"q": true}', 9.0),
        ({"json": "质量"}, '{"质量": 4}', 4.0),
        ({"json": "grades.text-alignment[0]"}, '{"grades": {"text-alignment": [4]}}', 4.0),
        ({"json": "q", "none": "n/a"}, '{"q": "N/A"}', None),
        ({"json": "q"}, '```JSON\n{"q": 4}\n```', 4.0),
        ({"json": "q"}, '{"q": 1' + 400 * "0" + "}", "states 1000"),
        ({"json": "q"}, '{"q": ' + 2000 * "[", "no JSON object"),
        ({"json": "q", "points": True}, '{"q": [10, 0]}', 5.0),
        ({"json": "q", "points": True}, '{"q": [' + 400 * "9" + ", 0]}", "states 9999"),
    ],
)
def test_odd_patterns_read_what_they_say(options, answer, grade):
    output = Output("q", (0, 10), **options)
    if isinstance(grade, str):
        with pytest.raises(ScoringError, match=grade):
            read_outputs(Written(answer), [output], points=2)
    else:
        assert read_outputs(Written(answer), [output], points=2) == {"q": grade}


def test_weights_may_stand_before_what_they_weigh_and_products_need_all_grades():
    rule = {"weights": [3, 1], "mean": ["a", "b"]}
    assert names_in(rule) == {"a", "b"}
    assert join(rule, {"a": 4.0, "b": 0.0}) == 3.0
    assert (
        join(rule, {"a": None, "b": 2.0}) == join({"min": ["a", "b"]}, {"a": None, "b": 2.0}) == 2
    )
    with pytest.raises(ScoringError, match="no grade that applies"):
        join({"product": ["a", "b"]}, {"a": None, "b": 2.0})


def test_a_text_without_points_is_not_asked_about():
    output = {"pattern": r"<score>(.*)</score>", "range": [0, 1], "points": True}
    judge = {"score": "q", "questions": [{"text": "Tick {points}", "outputs": {"q": output}}]}
    model = Reciting(lambda prompt: ["<score>[1, 0]</score>"])
    scorer = card_of(judge, vlm=model, on_error="skip")
    images, texts = [draw_image(1), draw_image(2)], ["a cat", "a cat\nred\n\nbig", "a dog\n"]
    result = scorer.evaluate_blocks([Block(images, texts)], progress=False)
    assert np.array_equal(result.scores[0], [[np.nan, 0.5, np.nan]] * 2, equal_nan=True)
    assert "no points" in result.failures[0, 0, 0] and len(model.prompts) == 2
    with pytest.raises(ScoringError, match="no points"):
        card_of(judge, vlm=model)(images, texts)
    assert len(model.prompts) == 2
