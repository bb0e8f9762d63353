"""Forms in which models answer: thoughts, boxes, tags and parts, and what is no answer at all."""

from __future__ import annotations

import json
import math

import pytest
import torch
from helpers.services.ask_server import SERVICES, Spoken
from helpers.services.gemini_server import answering, candidate
from helpers.services.loopback import Reply, Server
from helpers.services.openai_server import completion
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.errors import ScoringError, UnsupportedError

# Every form of an answer X: what a model writes, and what `generate` makes of it, where that is not
# X: a text is freed from thoughts and from a wrapper around the whole of it, and else as written.
FORMS: dict[str, tuple[str, str]] = {
    "bare": ("X", "X"),
    "thought": ("<think>\nIt shows it. No?\n</think>\n\nX", "X"),
    "opening lost": ("It shows it. Or no.\n</think>\n\nX", "X"),
    "empty thought": ("<think>\n\n</think>\n\nX", "X"),
    "two thoughts": ("<think>no</think><think>yes</think>X", "X"),
    "Magistral": ("[THINK]Is it? No.[/THINK]X", "X"),
    "Kimi": ("◁think▷Well, no.◁/think▷X", "X"),
    "thinking": ("<thinking>Hm, no.</thinking> X", "X"),
    "reasoning": ("<reasoning>Hm, no.</reasoning>\nX", "X"),
    "Seed": ("<seed:think>Hm, no.</seed:think>X", "X"),
    "Cohere": ("<|START_THINKING|>No?<|END_THINKING|><|START_RESPONSE|>X<|END_RESPONSE|>", "X"),
    "gpt-oss": ("<|channel|>analysis<|message|>No.<|end|><|channel|>final<|message|>X", "X"),
    "gpt-oss with all marks": (
        "<|channel|>analysis<|message|>No.<|end|><|start|>assistant<|channel|>final<|message|>X"
        "<|return|>",
        "X",
    ),
    "gpt-oss without marks": ("analysisWe need to say no.assistantfinalX", "X"),
    "Gemma 4": ("<|channel>thought\nHm, no.<channel|>X", "X"),
    "MedGemma": ("<unused94>thought\nNo.<unused95>X", "X"),
    "Sky": (
        "<|begin_of_thought|>No<|end_of_thought|><|begin_of_solution|>X<|end_of_solution|>",
        "X",
    ),
    "thought and tag": ("<think>no</think>\n<answer>X</answer>", "X"),
    "tag": ("<answer> X </answer>", "X"),
    "tag that a prompt opened": ("X</answer>", "X</answer>"),
    "tag in brackets": ("[ANSWER]X[/ANSWER]", "X"),
    "tag not closed": ("<answer>X", "X"),
    "tag of a grade": ("<score>X</score>", "X"),
    "words and tag of a verdict": (
        "It can be seen. <verdict>X</verdict>",
        "It can be seen. <verdict>X</verdict>",
    ),
    "LLaVA-CoT": (
        "<REASONING>No.</REASONING>\n\n<CONCLUSION> X </CONCLUSION>",
        "X",
    ),
    "box": (r"\boxed{X}", "X"),
    "box with text": (r"$\boxed{\text{X}}$", "X"),
    "box whose backslash was read as JSON's": ("\boxed{X}", "X"),
    "bullet": ("* X", "* X"),
    "HTML": ("<b>X</b>", "<b>X</b>"),
    "GLM": ("<|begin_of_box|>X<|end_of_box|>", "X"),
    "thought and GLM": ("<think>no</think><|begin_of_box|>X<|end_of_box|>", "X"),
    "box behind words": ("It can be seen. \\boxed{X}", "It can be seen. \\boxed{X}"),
    "bold": ("**X**", "**X**"),
    "bold with a stop": ("**X.**", "**X.**"),
    "quoted": ('"X"', '"X"'),
    "code": ("`X`", "`X`"),
    "label": ("Answer: X", "Answer: X"),
    "final label": ("Final answer: x", "Final answer: x"),
    "bold label": ("**Final Answer:** X.", "**Final Answer:** X."),
    "sentence": ("The answer is **X**.", "The answer is **X**."),
    "last line": ("There is a cat on a mat.\n\nAnswer: X", "There is a cat on a mat.\n\nAnswer: X"),
    "heading": ("### Answer\nX", "### Answer\nX"),
    "JSON": ('{"answer": "X"}', '{"answer": "X"}'),
    "JSON with reasons": (
        '{"reasoning": "no cat", "answer": "X"}',
        '{"reasoning": "no cat", "answer": "X"}',
    ),
    "fenced JSON": ('```json\n{"answer": "X"}\n```', '```json\n{"answer": "X"}\n```'),
    "end of turn": ("X<|im_end|>", "X"),
    "end of text": ("X</s>", "X"),
    "wide letters and spaces": ("\u200b\ufeff X \n", "X"),
}
NEITHER = [
    "",
    "I'm unable to view images.",
    "Sorry, I can't help with that.",
    "Désolé, je ne peux pas voir les images.",
    "No puedo ver la imagen.",
    "No, no puedo ver imágenes.",
    "抱歉，我无法查看图片。",
    "Ich kann keine Bilder sehen.",
    "Yes, but actually no",
    "Yes and no",
    "Yes/No",
    "Not sure",
    "No idea",
    "No doubt it does",
    "No image was provided.",
    "No, I cannot see any image.",
    "I cannot say yes or no",
    "Yes? It may be.",
    "Yesterday",
    "Nothing",
    "Maybe",
    "~~Yes~~",
    "<del>Yes</del>",
    "Yes</think>",
    '{"answer": "Yes", "answer": "No"}',
    '{"Yes": 0.3, "No": 0.7}',
    '{"Yes": 0.3}',
    "<answer>Yes</answer><answer>No</answer>",
    "Answer: Yes\nAnswer: No",
    "<think>\nIt shows it: yes",
    "[THINK]Yes",
    "◁think▷Yes",
    "<|channel|>analysis<|message|>Yes",
    "<think>a</think><think>Yes",
    "The picture shows a cat, yes.",
    "No, there is no image attached.",
    "No. The image failed to load.",
    "No, as a language model I don't have the ability to view images.",
    "No, please upload the image.",
    "Yes, I can help you with that.",
    "Yes. Please share the image first.",
    "No. Non riesco a vedere l'immagine.",
    "No. No veo ninguna imagen.",
    "No, 이미지를 볼 수 없습니다",
    "Yes, sort of",
    "Yes - 20%",
    "Yes, with low confidence",
    "Yes, this is wrong.",
    "Yes, it lacks a dog.",
    "No, that is correct.",
    "No, the image is too blurry to tell.",
    "No, it is impossible to tell.",
    "No, it is not possible to see the image.",
    "No. There is not enough information.",
    "No, the image failed to render.",
    "No, the content violates the policy.",
    "No, the request was blocked by the filter.",
    "<answer>Yes</answer> No",
    "\\boxed{Yes}, but it may be another cat",
]


@pytest.fixture(params=SERVICES)
def spoken(request):
    return Spoken(request.param)


def ask(spoken, server, kind="", **options):
    name = {"openai": "openai-compatible", "gemini": "gemini"}[spoken.name]
    return spoken.load(server, f"{name}{kind}:m", **{"max_tokens": 99, "timeout": 60.0, **options})


def sampling(spoken, server, n=1, **options):
    return ask(spoken, server, estimator="sampling", n=n, **options)


def writing(spoken, *texts):
    return Server(lambda request: Reply(spoken.sampled(*texts)))


def answering_with(spoken, texts, **answers):
    """A server that writes the text of a caption, with its X replaced."""

    def behave(request):
        requests = " ".join(part.get("text", "") for part in request._parts)
        name = next(name for name in texts if f'"{name}"' in requests)
        return Reply(spoken.sampled(wrote(texts[name], answers["x"])))

    return Server(behave)


def wrote(pattern, answer):
    return pattern.replace("X", answer).replace(" x", f" {answer.lower()}")


def column(scorer, texts):
    """The scores of an image by caption."""
    return dict(zip(texts, scorer(draw_image(1), [*texts])[0].tolist(), strict=True))


@pytest.mark.parametrize(
    ("x", "requests", "value"),
    [
        ("Yes", {}, 1.0),
        ("No", {}, 0.0),
        ("Blue", {"question_template": 'Colour? "{}"', "answer_template": "Blue"}, 1.0),
        ("Red", {"question_template": 'Colour? "{}"', "answer_template": "Blue"}, 0.0),
    ],
)
def test_every_form_of_an_answer_is_read_in_samples(x, requests, value, spoken):
    texts = {name: pattern for name, (pattern, _) in FORMS.items()}
    with answering_with(spoken, texts, x=x) as server:
        result = column(sampling(spoken, server, on_error="skip", **requests), texts)
    assert result == dict.fromkeys(texts, value)


@pytest.mark.parametrize("x", ["85", "0"])
def test_every_form_of_an_answer_is_read_by_judges(x, spoken):
    texts = {name: pattern for name, (pattern, _) in FORMS.items()}
    with answering_with(spoken, texts, x=x) as server:
        result = column(ask(spoken, server, "-judge", on_error="skip"), texts)
    assert result == dict.fromkeys(texts, float(x))


@pytest.mark.parametrize(("x", "value"), [("A", 1.0), ("B", 0.0), ("Tie", 0.5)])
def test_every_form_of_an_answer_is_read_by_judges_of_two(x, value, spoken):
    texts = {name: pattern for name, (pattern, _) in FORMS.items()}
    with answering_with(spoken, texts, x=x) as server:
        judge = ask(spoken, server, "-preference", on_error="skip")
        result = judge.prefer_all([(draw_image(1), draw_image(2), name) for name in texts])
    assert {name: item.shown_first for name, item in zip(texts, result, strict=True)} == (
        dict.fromkeys(texts, value)
    )


def test_a_text_is_freed_from_thoughts_and_from_what_wraps_the_whole_of_it(spoken):
    texts = {name: pattern for name, (pattern, _) in FORMS.items()}
    with answering_with(spoken, texts, x="Yes") as server:
        prompts = [f'"{name}"' for name in texts]
        result = ask(spoken, server).generate([draw_image(1)] * len(texts), prompts)
    expected = {name: wrote(text, "Yes") for name, (_, text) in FORMS.items()}
    assert dict(zip(texts, result, strict=True)) == expected


def test_what_is_neither_yes_nor_no_is_missing_and_no_number(spoken, tmp_path):
    store = t2v_eval.Store(tmp_path / "s.db")
    texts = {f"caption {n}": text for n, text in enumerate(NEITHER)}
    with answering_with(spoken, texts, x="X") as server:
        result = column(sampling(spoken, server, store=store, on_error="skip"), texts)
        assert {texts[name] for name, score in result.items() if not math.isnan(score)} == set()
        result = column(ask(spoken, server, "-judge", on_error="skip"), texts)
        assert {texts[name] for name, score in result.items() if not math.isnan(score)} == set()
        judge = ask(spoken, server, "-preference", on_error="skip")
        chosen = judge.prefer_all([(draw_image(1), draw_image(2), name) for name in texts])
        assert all(math.isnan(item.value) and item.reason for item in chosen)
        assert len(server.requests) == 4 * len(texts), "and none is asked again"
    for row in store.rows():
        assert row.error.startswith("1 of 1 sampled answers cannot be read; the first: ")
        assert json.loads(row.detail)["samples"] == [texts[row.text]]


@pytest.mark.parametrize("text", ["<think>\nIt shows", "[THINK]Yes", "<|channel|>analysis No"])
def test_a_thought_that_was_cut_says_what_helps(text, spoken):
    with writing(spoken, text) as server:
        for scorer in (sampling(spoken, server), ask(spoken, server, "-judge")):
            with pytest.raises(ScoringError, match=r"thinks without an end.*larger `max_tokens="):
                scorer(draw_image(1), "a cat")
        with pytest.raises(ScoringError, match=r"without an end.* larger `max_new_tokens="):
            ask(spoken, server).generate(draw_image(1), "Does it?")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Yes, it does.", 1.0),
        ("yes it does", 1.0),
        ("Yes\n\nThere is a cat.", 1.0),
        ("Yes. The cat is on the left - and there is a dog.", 1.0),
        ("No, there is no cat.", 0.0),
        ("No it does not", 0.0),
        ("No: a dog.", 0.0),
        ('No, this image does not show "I love you, please".', 0.0),
        ('Yes, this figure shows "a sign that says no, sorry".', 1.0),
        ("No, that is not correct.", 0.0),
        ("Yes, I can see the cat.", 1.0),
        ("ＹＥＳ！", 1.0),
        ("<think>Hm</think>Yes — it does", 1.0),
    ],
)
def test_a_sentence_that_takes_nothing_back_is_an_answer(text, value, spoken):
    with writing(spoken, text) as server:
        assert sampling(spoken, server)(draw_image(1), "a cat").item() == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Two", 1.0),
        ("two.", 1.0),
        ("Two, one of them black.", 1.0),
        ("The two", 1.0),
        ("Three", 0.0),
        ("None.", 0.0),
        ("Two or three", None),
        ("There are two dogs.", None),
        ("Sorry", None),
        ("Sorry, I can't see it.", None),
        ("图片中有一只猫", None),
        ("", None),
    ],
)
def test_answers_to_other_questions(text, value, spoken):
    with writing(spoken, text) as server:
        options = {"question_template": "How many {}?", "answer_template": "Two"}
        score = sampling(spoken, server, on_error="skip", **options)(draw_image(1), "dogs").item()
    assert math.isnan(score) if value is None else score == value


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        (["Yes", "No", "Yes", "I can't see it"], 2 / 3),
        (["Yes", "<think>hm", "No", ""], 0.5),
        (["Yes", "", "Not sure", "I can't"], None),
        (["<think>It does.</think>Yes", "Yes", "\\boxed{No}", "**no**"], 0.5),
    ],
)
def test_a_share_is_of_the_samples_that_answer_if_half_of_them_do(texts, value, spoken, tmp_path):
    store = t2v_eval.Store(tmp_path / "s.db")
    with writing(spoken, *texts) as server:
        scorer = sampling(spoken, server, n=4, store=store, on_error="skip")
        result = scorer(draw_image(1), "a cat").item()
        assert "unread=left-out" in scorer.id
    (row,) = store.rows()
    if value is None:
        assert math.isnan(result) and row.error.startswith("3 of 4 sampled answers cannot be read")
    else:
        assert result == pytest.approx(value)
        unread = sum(text in ("I can't see it", "<think>hm", "") for text in texts)
        assert json.loads(row.detail)["unread"] == unread


def message(**text):
    text = {"role": "assistant", **text}
    choice = {"index": 0, "message": text, "logprobs": None, "finish_reason": "stop"}
    return {**completion(choices=[choice]), "model": "m"}


THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "Is it? No."}]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ({"content": [THOUGHT, {"type": "text", "text": "Yes"}]}, 1.0),
        ({"content": [{"type": "text", "text": "Y"}, {"type": "text", "text": "es"}]}, 1.0),
        ({"content": [{"type": "output_text", "text": "No"}]}, 0.0),
        ({"content": {"type": "text", "text": "Yes"}}, 1.0),
        ({"content": ["Yes"]}, 1.0),
        ({"content": "Yes", "reasoning_content": "Is it? No."}, 1.0),
        ({"content": "\n\nNo", "reasoning": "Is it? Yes."}, 0.0),
        ({"content": None, "reasoning_content": "Hm, no.\n</think>\n\nYes"}, 1.0),
        ({"content": None, "reasoning_content": "Yes"}, 1.0),
        ({"content": None, "reasoning_content": "Yes, it may well be"}, None),
        ({"content": None, "reasoning": "It shows it."}, None),
        ({"content": [THOUGHT]}, None),
        ({"content": [{"type": "refusal", "refusal": "I can't."}]}, None),
        ({"content": None, "refusal": "I'm sorry."}, None),
        ({"content": "Yes", "refusal": "I'm sorry."}, None),
        ({"content": None}, None),
        ({"content": 5}, None),
        ({}, None),
    ],
)
def test_an_answer_in_parts_and_thoughts_beside_it(text, value):
    with Server(lambda request: Reply(message(**text))) as server:
        scorer = sampling(Spoken("openai"), server, on_error="skip", retries=0)
        result = scorer(draw_image(1), "a cat").item()
    assert math.isnan(result) if value is None else result == value


@pytest.mark.parametrize(
    ("parts", "ended", "value"),
    [
        ([{"text": "Is it? No.", "thought": True}, {"text": "Yes"}], "STOP", 1.0),
        ([{"text": "N"}, {"text": "o", "thoughtSignature": "AB"}], "STOP", 0.0),
        ([{"text": "Is it? Yes.", "thought": True}], "MAX_TOKENS", None),
        ([{"inlineData": {}}], "STOP", None),
        ([], "SAFETY", None),
    ],
)
@pytest.mark.parametrize("spoken", SERVICES[1:], indirect=True)
def test_parts_of_gemini(parts, ended, value, spoken):
    answer = candidate("", ended)
    answer["content"]["parts"] = parts
    with Server(lambda request: Reply(answering([answer]))) as server:
        result = sampling(spoken, server, on_error="skip")(draw_image(1), "a cat").item()
    assert math.isnan(result) if value is None else result == value


def test_a_protocols_own_refusal_is_one_unread_sample_among_others(tmp_path):
    reply = completion(
        choices=[
            {"message": {"content": "Yes", "refusal": None}, "finish_reason": "stop"},
            {"message": {"content": None, "refusal": "I'm sorry."}, "finish_reason": "stop"},
            {"message": {"content": "No"}, "finish_reason": "stop"},
            {"message": {"content": ""}, "finish_reason": "content_filter"},
        ]
    )
    store = t2v_eval.Store(tmp_path / "s.db")
    with Server(lambda request: Reply(reply)) as server:
        result = sampling(Spoken("openai"), server, n=4, store=store)(draw_image(1), "a cat")
    assert result.item() == 0.5 and json.loads(next(store.rows()).detail)["unread"] == 2


@pytest.mark.parametrize("token", ["<think>", "[THINK]", "◁think▷", "<|channel|>", "<seed:think>"])
def test_a_first_token_that_opens_thoughts_is_none_of_the_answer(token, spoken):
    right = spoken.right
    with Server(
        lambda request: Reply(
            spoken.generated({token: 0.9, "Yes": 0.05})
            if spoken.name == "gemini"
            else completion({token: 0.9, "Yes": 0.05})
        )
    ) as server:
        with pytest.raises(UnsupportedError, match="thinks before it answers"):
            spoken.load(server)(draw_image(1), "a cat")
        thinking = server.behave
        # Among answers that have their first token, it is a matter of one of them.
        server.behave = lambda r: thinking(r) if '"2 cats"' in r.question else right(r)
        scores = spoken.load(server, on_error="skip")(draw_image(1), ["1 cats", "2 cats", "3 cats"])
    assert scores.isnan().tolist() == torch.tensor([[False, True, False]]).tolist()


@pytest.mark.parametrize("token", ["<|begin_of_box|>", "**", "<", "\\", "analysis", '"'])
def test_a_first_token_that_opens_what_holds_the_answer_is_none_of_it(token, spoken):
    created = spoken.generated if spoken.name == "gemini" else completion
    served = Server(lambda request: Reply(created({token: 0.9, "Yes": 0.05})))
    with served as server, pytest.raises(UnsupportedError, match=r"begins its answers .*sampling"):
        spoken.load(server)(draw_image(1), "a cat")


@pytest.mark.parametrize(
    ("listed", "value"), [({"Okay": 0.9, "Yes": 0.05}, None), ({"Yes": 0.9, "No": 0.05}, 0.9)]
)
def test_the_first_token_of_a_thought_that_is_told_apart_is_none_of_the_answer(listed, value):
    reply = completion(listed)
    reply["choices"][0]["message"] = {"content": None, "reasoning_content": next(iter(listed))}
    right = Spoken("openai").right
    with Server(lambda r: Reply(reply) if '"2 cats"' in r.question else right(r)) as server:
        scorer = Spoken("openai").load(server, on_error="skip")
        result = scorer(draw_image(1), ["1 cats", "2 cats"])[0, 1].item()
    assert math.isnan(result) if value is None else result == pytest.approx(value)


def test_a_grade_or_a_choice_that_was_cut_may_lack_its_end():
    reply = message(content="8")
    reply["choices"][0]["finish_reason"] = "length"
    with Server(lambda request: Reply(reply)) as server:
        with pytest.raises(
            ScoringError, match=r"but '8'; it was cut, so pass a larger `max_tokens="
        ):
            ask(Spoken("openai"), server, "-judge")(draw_image(1), "a cat")
        reply["choices"][0]["message"]["content"] = "A"
        with pytest.raises(ScoringError, match=r"but 'A'; it was cut"):
            ask(Spoken("openai"), server, "-preference").prefer(
                draw_image(1), draw_image(2), "a cat"
            )


@pytest.mark.parametrize("text", ["<85", "~85", "≈ 85", ">= 80", "\u22125", "85+", "8²", "8/10"])
def test_what_is_about_a_grade_is_none(text, spoken):
    with writing(spoken, text) as server, pytest.raises(ScoringError, match="wrote no number"):
        ask(spoken, server, "-judge")(draw_image(1), "a cat")


@pytest.mark.parametrize(
    "text",
    [
        '{"score": 8, "max_score": 10}',
        '{"rating": 4, "scale": "1-5"}',
        '{"grade": 8, "out_of": 10, "reasoning": "It is there."}',
        '{"score": 85, "confidence": 0.1}',
    ],
)
def test_a_grade_on_another_scale_is_none(text, spoken):
    with writing(spoken, text) as server, pytest.raises(ScoringError, match="wrote no number"):
        ask(spoken, server, "-judge")(draw_image(1), "a cat")


@pytest.mark.parametrize(
    ("ended", "priced"),
    [
        ("eos", True),
        (None, True),
        ("abort", False),
        ("sensitive", False),
        ("insufficient_system_resource", False),
        ({"odd": 1}, False),
        ("MAX_TOKENS", False),
    ],
)
def test_a_grade_counts_where_the_answer_is_known_to_be_whole(ended, priced):
    reply = message(content="8")
    reply["choices"][0]["finish_reason"] = ended
    with Server(lambda request: Reply(reply)) as server:
        result = ask(Spoken("openai"), server, "-judge", on_error="skip", retries=0)(
            draw_image(1), "a"
        )
    assert math.isnan(result.item()) is not priced


@pytest.mark.parametrize(("text", "value"), [("Yes", 1.0), ("Yes, it does, how", None)])
def test_a_sentence_that_was_cut_may_take_the_answer_back(text, value):
    reply = message(content=text)
    reply["choices"][0]["finish_reason"] = "length"
    with Server(lambda request: Reply(reply)) as server:
        result = sampling(Spoken("openai"), server, on_error="skip")(draw_image(1), "a cat").item()
    assert math.isnan(result) if value is None else result == value
