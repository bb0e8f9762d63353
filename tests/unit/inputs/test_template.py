"""Templates: placeholders, braces, names."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.errors import TemplateError, UnknownNameError
from t2v_eval.inputs.template import Template, Wrapper, get_template, templates, wrappers
from t2v_eval.registry import models


@pytest.mark.parametrize("slot", ["{}", "{0}", "{text}"])
def test_the_text_goes_wherever_a_placeholder_stands(slot):
    template = Template(f'Is "{slot}" here? I mean {slot}.', "Yes, {}")
    assert template.fill("a cat") == ('Is "a cat" here? I mean a cat.', "Yes, a cat")


@pytest.mark.parametrize("text", ["a {} b", "{text}", "{{x}}", "{unknown}", "}{", r"\1 \g<0>"])
def test_braces_in_a_caption_are_left_alone(text):
    assert Template("see {}", "{}").fill(text) == (f"see {text}", text)


def test_doubled_braces_are_literal_as_in_str_format():
    assert Template('{{"q": "{}"}}').fill("x")[0] == '{{"q": "{}"}}'.format("x")


@pytest.mark.parametrize("bad", ["{caption}", "{1}", "{text!r}", "{ }", '{"a": 1}'])
def test_an_unknown_placeholder_is_named_with_the_remedy(bad):
    with pytest.raises(TemplateError, match="question template .* unknown placeholder"):
        Template(f"Is {bad} here?")
    with pytest.raises(TemplateError, match="answer template"):
        Template("{}", bad)


def test_wrong_type():
    with pytest.raises(TemplateError, match="NoneType"):
        Template("{}", None)


def test_uses_text():
    assert Template("{}").uses_text
    assert Template("", "{0}").uses_text
    assert not Template("Is it?", "Yes {{}}").uses_text


def test_override_keeps_the_other_half():
    template = get_template("vqascore").override(answer="No")
    assert (template.question, template.answer) == (get_template("vqascore").question, "No")
    assert template.override() is template
    assert template.override(question="").question == ""


def test_names():
    assert {"plain", "clipscore", "vqascore", "visualgptscore"} <= templates().keys()
    assert all(template.source for template in templates().values())
    with pytest.raises(UnknownNameError, match="Did you mean 'vqascore'"):
        get_template("vqa-score")


def test_a_wrapper_that_is_taken_for_a_template_is_told_from_one():
    with pytest.raises(UnknownNameError, match="'llava-v1' is a wrapper.*pass it as `chat="):
        get_template("llava-v1")
    for name, item in wrappers().items():
        argument = "chat" if "<image>" in item.text else "system"
        with pytest.raises(UnknownNameError, match=f"`{argument}={re.escape(repr(name))}`"):
            get_template(name)
    assert Wrapper("kind", "You are kind.", "").option_name == "system"
    assert not templates().keys() & wrappers().keys()


def test_the_list_says_what_is_a_template_and_where_a_wrapper_goes():
    output = json.loads(CliRunner().invoke(app, ["list", "templates", "--json"]).stdout)
    kinds = {row["name"]: row["kind"] for row in output}
    assert kinds["llava-v1"] == "wrapper, chat=" and kinds["vqascore"] == "template"
    assert {*templates(), *wrappers(), *models.conventions()} == kinds.keys() and len(
        output
    ) == len(kinds)


def test_another_question_or_answer_has_neither_name_nor_source():
    template = Template("Is it {}?", "Yes", name="mine", source="a paper")
    for other in (template.override("What is {}?"), template.override(answer="No")):
        assert (other.name, other.source) == ("", "")
    assert template.override() is template
