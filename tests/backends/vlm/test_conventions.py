"""The questions of t2v_metrics 3.0 and 3.1, each by one name with any scorer that they had."""

from __future__ import annotations

import re

import pytest
from helpers.models.tiny_vlm import TINY, save_tiny
from helpers.toy import draw_image
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import UnknownNameError
from t2v_eval.inputs.template import get_template
from t2v_eval.registry import models

SMALL = 'Does this figure show "{}"? Please answer yes or no.'
CAPITAL = 'Does this figure show "{}"? Please answer Yes or No.'
IMAGE = 'Does this image show "{}"? Answer the question with Yes or No'
# Name: what 3.0 asked of it, and 3.1; as written in the files of these two releases.
ASKED = {
    "clip-flant5-xl": (SMALL, None),
    "llava-v1.5-7b": (SMALL, None),
    "llava-v1.6-13b": (SMALL, None),
    "sharegpt4v-7b": (SMALL, None),
    "instructblip-flant5-xl": (f"Question: {SMALL}", None),
    "gpt-4o": (SMALL, CAPITAL),
    "openai:gpt-4.1": (SMALL, CAPITAL),
    "gemini-2.5-flash": (SMALL, CAPITAL),
    "paligemma-3b-mix-448": (SMALL, CAPITAL),
    "mplug-owl3-7b": (SMALL, None),
    "internlmxcomposer25-7b": (SMALL, None),
    "internvideo2-chat-8b": (SMALL, None),
    "internvl2-8b": (CAPITAL, None),
    "internvl2.5-8b": (CAPITAL, None),
    "internvl3-8b": (CAPITAL, CAPITAL),
    "internvl3.5-8b": (None, CAPITAL),
    "llava-onevision-qwen2-7b-ov": (IMAGE, None),
    "llava-video-7b": (IMAGE, None),
    "llama-3.2-11b-vision-instruct": (IMAGE, None),
    "molmo-7b-d-0924": (IMAGE, None),
    "perception-lm-1b": (IMAGE, None),
    "tarsier2-7b": ('Does this video show "{}"? Answer the question with Yes or No.', None),
    "qwen2-vl-7b": ('Does this image show "{}"?', CAPITAL),
    "qwen2.5-vl-7b": ('Does this image show "{}"?', CAPITAL),
    "qwen3-vl-8b": (None, CAPITAL),
    "qwen3.5-4b": (None, CAPITAL),
    "qwen3-omni-30b-a3b": (None, CAPITAL),
    "gemma-3-4b-it": (None, CAPITAL),
    "gemma-4-12b-it": (None, CAPITAL),
    "molmo2-8b": (None, CAPITAL),
    "openai:ViT-L-14": ("{}", None),
    "blip2-itm": ("{}", None),
    "pickscore-v1-cosine": ("{}", None),
    "hpsv2": ("{}", None),
    "smolvlm2-256m": (None, None),
    "tiny-clip-flant5": (None, None),
    "pickscore-v1": (None, None),
    "image-reward": (None, None),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_card_has_the_question_of_each_version(name):
    questions = models.card(name).questions
    answer = "yes" if name.startswith("instructblip") else "Yes"
    for version, question in zip(("t2v-3.0", "t2v-3.1"), ASKED[name], strict=True):
        if question is None:
            assert version not in questions
            continue
        template = get_template(questions[version])
        assert template.question == question
        assert template.answer == ("" if question == "{}" else answer)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return save_tiny(tmp_path_factory, TINY["qwen2_5_vl"])


def test_a_version_is_a_template_of_a_call_of_a_scorer_and_of_the_command_line(qwen, tmp_path):
    options = {"checkpoint": qwen, "device": "cpu"}
    scorer = t2v_eval.load("qwen2.5-vl-3b", **options)
    old = t2v_eval.load("qwen2.5-vl-3b", template="t2v-3.0", **options)
    generated = t2v_eval.load(
        "qwen2.5-vl-3b", question_template='Does this image show "{}"?', **options
    )
    assert old.id == generated.id  # what is kept is kept under the question, however it was named
    assert scorer.with_template(template="t2v-3.1").id == scorer.id != old.id
    image = draw_image(0, (40, 60))
    scores = scorer(image, ["a cat"], template="t2v-3.0")
    assert scores == old(image, ["a cat"]) != scorer(image, ["a cat"])
    message = t2v_eval.template_sensitivity(scorer, [image] * 2, ["a cat"], ["t2v-3.0", "t2v-3.1"])
    assert message.scores["vqascore-bare"][0] == scores[0]
    image.save(tmp_path / "a.png")
    command = ["score", "-m", "qwen2.5-vl-3b", "--checkpoint", str(qwen), "--device", "cpu"]
    command += [str(tmp_path / "a.png"), "-t", "a cat", "--no-store", "--template", "t2v-3.0"]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0
    assert f"{scores.item():.4f}"[:5] in ran.stdout


def test_a_version_without_this_scorer_says_what_there_is(tmp_path):
    TINY["qwen3_vl"](tmp_path)
    with pytest.raises(UnknownNameError, match="'t2v-3.0' of 'qwen3-vl-2b'.*it has t2v-3.1"):
        t2v_eval.load("qwen3-vl-2b", checkpoint=tmp_path, device="cpu", template="t2v-3.0")
    clip = t2v_eval.load("tiny-clip", device="cpu")
    with pytest.raises(UnknownNameError, match="its card names no such template"):
        clip(draw_image(0), "a", template="t2v-3.1")
    with pytest.raises(UnknownNameError, match="no template called 't2v-2.9'"):
        clip(draw_image(0), "a", template="t2v-2.9")


def test_the_lists_say_which_version_a_card_follows():
    message = CliRunner().invoke(app, ["list", "models", "qwen2*-vl-7b"]).stdout.splitlines()[1:]
    assert {line.split()[0]: line.split()[-1] for line in message} == {
        "qwen2-vl-7b": "t2v-3.1",
        "qwen2.5-vl-7b": "t2v-3.1",
    }
    message = CliRunner().invoke(app, ["list", "models", "gpt-4o"]).stdout
    assert (
        re.search(r"^follows +t2v-3\.0$", message, re.MULTILINE)
        and "'t2v-3.1': 'vqascore-capital'" in message
    )
