"""One judge over both engines: a small model that runs here, and a server of the tests."""

from __future__ import annotations

import base64
import io
import json
import math

import pytest
import torch
from helpers.judges import (
    Reciting,
    asked,
    card_of,
    over_service,
    shown,
    token_list,
    written_reply,
)
from helpers.models.tiny_vlm import TINY, qwen2_5_vl, save_tiny
from helpers.services import gemini_server
from helpers.services.loopback import Reply, Server
from helpers.toy import draw_image
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

import t2v_eval
from t2v_eval.backends.services.grade import is_same_model
from t2v_eval.errors import InputError, ScoringError, UnsupportedError
from t2v_eval.inputs.media import ImageGroup, embedded, open_media
from t2v_eval.scoring.generation import IMAGE_PLACE, Digit, Writing, Written
from t2v_eval.scoring.plan import Block

STYLE = {"pattern": "Style: {number}", "range": [1, 5]}
QUESTION = {"text": "Grade {}", "outputs": {"style": STYLE}}
JUDGE = {"score": "style", "questions": [QUESTION]}
PAIR_OUTPUT = {"pattern": r"<answer>(.*?)</answer>", "range": [0, 1]}
PAIR_OUTPUT["values"] = {"Image 1 is better": 1.0, "Image 2 is better": 0.0}


def judge(question=None, **keys):
    return {**JUDGE, "questions": [{**QUESTION, **(question or {})}], **keys}


# A model that runs here:


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory, qwen2_5_vl)


@pytest.fixture(scope="module")
def vlm(folder):
    return t2v_eval.load(f"hf-vlm:{folder}", device="cpu")


@pytest.fixture(scope="module")
def groups():
    sizes = [(60, 40), (30, 64), (90, 40), (12, 10)]
    images = [open_media(draw_image(n, size)) for n, size in enumerate(sizes)]
    return [
        ImageGroup.of(source=images[0], result=images[1]),
        ImageGroup.of(source=images[2], result=images[3]),
        ImageGroup.of(source=images[1], result=images[0]),
    ]


def conversation(prompt, count=2):
    """A prompt as contents of a message; without places, images come first."""
    parts = prompt.split(IMAGE_PLACE)
    content = [{"type": "image"}] * count if len(parts) == 1 else []
    for part in parts[:-1]:
        content += [{"type": "text", "text": part}, {"type": "image"}]
    return [{"role": "user", "content": [*content, {"type": "text", "text": parts[-1]}]}]


INTERLEAVED = f"The source: {IMAGE_PLACE}\nThe result {IMAGE_PLACE} is it a <cat>?"


@pytest.mark.parametrize(
    ("kind", "prompt"),
    [
        ("qwen2_vl", "Is it a cat?"),
        ("qwen2_5_vl", INTERLEAVED),
        ("qwen3_vl", INTERLEAVED),
        ("llava_onevision", "Is it a cat?"),
    ],
)
def test_two_images_are_the_row_that_the_processor_makes(kind, prompt, tmp_path_factory, groups):
    folder = save_tiny(tmp_path_factory, TINY[kind])
    scorer = t2v_eval.load(f"hf-vlm:{folder}", device="cpu", share=False)
    processor = AutoProcessor.from_pretrained(folder)
    images = [media.load().convert("RGB") for media in groups[0].images]
    text = processor.apply_chat_template(
        conversation(prompt), tokenize=False, add_generation_prompt=True
    )
    expected = processor(text=[text], images=[images], return_tensors="pt")
    (question,) = scorer._questions([(groups[0], prompt)], 4)
    row = question.row
    assert row.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(row[name], value.to(row[name].dtype)), name


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (f"A {IMAGE_PLACE} B", "places for 1 of 2 images"),
        (f"<|im_end|> {IMAGE_PLACE} {IMAGE_PLACE}", r"'<\|im_end\|>', a control token"),
    ],
)
def test_places_that_do_not_fit_are_refused(vlm, groups, prompt, message):
    with pytest.raises(InputError, match=message):
        vlm._questions([(groups[0], prompt)], 4)


def test_several_questions_about_an_image_encode_it_once(folder, groups, monkeypatch):
    """Texts are those of questions that encode it each, likeliest and sampled ones."""
    shared, alone = (
        t2v_eval.load(f"hf-vlm:{folder}", device="cpu", share=share) for share in (True, False)
    )
    tower, encoded = type(shared.network.base_model.visual), []
    forward = tower.forward
    monkeypatch.setattr(tower, "forward", lambda *a, **k: encoded.append(1) or forward(*a, **k))
    judge = {"score": "style", "questions": []}
    for n in range(3):
        output = {**STYLE, "pattern": f"Style {n}: {{number}}"}
        judge["questions"].append({"text": f"Grade {n} {{}}", "outputs": {f"style{n}": output}})
    judge |= {"score": "style0", "images": ["source", "result"], "max_new_tokens": 6}
    for more in ({}, {"temperature": 1.0, "passes": 2}):
        texts, calls = [], []
        for model in (shared, alone):
            encoded.clear()
            scorer = card_of({**judge, **more}, vlm=model, on_error="skip")
            judged = scorer.judge_images(groups[:2], [["a cat", "a dog"]] * 2)
            texts.append([j.texts for row in judged for j in row])
            calls.append(len(encoded))
        assert texts[0] == texts[1] and len({*map(str, texts[0])}) == 4
        model = shared
        assert calls == [0 if more else 2, 12], "two groups, each of two texts and three questions"


def test_texts_are_those_of_the_network_whatever_else_is_asked(folder, vlm, groups):
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    prompts = ["Is it a cat?", "two dogs", "a boat"]
    together = {}
    with torch.inference_mode():
        for numbers, texts in vlm.write_passes(groups, prompts, Writing(6)):
            together |= zip(numbers, texts, strict=True)
        for n, (group, prompt) in enumerate(zip(groups, prompts, strict=True)):
            text = processor.apply_chat_template(
                conversation(prompt), tokenize=False, add_generation_prompt=True
            )
            images = [media.load().convert("RGB") for media in group.images]
            inputs = processor(text=[text], images=[images], return_tensors="pt")
            result = model.generate(**inputs, max_new_tokens=6, do_sample=False)[0]
            new = result[inputs["input_ids"].shape[1] :]
            expected = processor.decode(new, skip_special_tokens=True).strip()
            ended = model.generation_config.eos_token_id in new.tolist()
            assert together[n] == [Written(expected, not ended)]


def test_sampled_texts_depend_on_their_own_prompt_alone(vlm, groups):
    writing = Writing(5, temperature=1.0, passes=3)
    with torch.inference_mode():
        together = {}
        for numbers, texts in vlm.write_passes(groups, ["a cat"] * 3, writing):
            together |= zip(numbers, texts, strict=True)
        ((_, (alone,)),) = vlm.write_passes(groups[1:2], ["a cat"], writing)
    assert together[1] == alone and len({text.text for text in alone}) > 1


@pytest.mark.parametrize("among", [{"top_k": 1}, {"top_p": 1e-6}])
def test_a_text_that_is_sampled_among_one_token_is_the_likeliest(vlm, groups, among):
    with torch.inference_mode():
        ((_, likeliest),) = vlm.write_passes(groups[:1], ["a cat"], Writing(5))
        ((_, sampled),) = vlm.write_passes(
            groups[:1], ["a cat"], Writing(5, temperature=2.0, **among)
        )
    assert sampled == likeliest


def test_probabilities_of_digits_are_those_of_the_network(folder, vlm, groups):
    """A random model writes no grades, so the tokens of an answer are given."""
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    (question,) = vlm._questions([(groups[0], "Is it a cat?")], 8)
    alone = t2v_eval.load(f"hf-vlm:{folder}", device="cpu", share=False)
    (with_pixels,) = alone._questions([(groups[0], "Is it a cat?")], 8)
    answer = vlm.prompt_builder.encode("dogs 3 apples 2")
    with torch.inference_mode():
        digits = vlm._digits(question, vlm._prefill([question], Writing(8)), answer, 4)
        row = with_pixels.row
        ids = torch.cat([row["input_ids"], torch.tensor([answer])], 1)
        inputs = {**row, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
        for name in ("token_type_ids", "mm_token_type_ids"):
            if name in row:
                zeros = torch.zeros((1, len(answer)), dtype=row[name].dtype)
                inputs[name] = torch.cat([row[name], zeros], 1)
        p = model(**inputs).logits[0].softmax(-1)
    text = vlm.prompt_builder.decode(answer)
    assert [text[digit.start] for digit in digits] == ["3", "2"] == [d.token for d in digits]
    length = row["input_ids"].shape[1]
    for digit in digits:
        place = next(
            n for n, t in enumerate(answer) if vlm.prompt_builder.decode([t]) == digit.token
        )
        best = p[length + place - 1].topk(4)
        expected: dict[str, float] = {}
        for token, value in zip(best.indices.tolist(), best.values.tolist(), strict=True):
            word = vlm.prompt_builder.tokenizer.decode([token]).strip()
            expected[word] = expected.get(word, 0.0) + value
        assert digit.probabilities == pytest.approx(expected, rel=1e-4)


def test_a_small_model_is_a_judge_that_the_store_remembers(vlm, tmp_path):
    store = t2v_eval.Store(tmp_path / "s.db")
    table = judge({"outputs": {"style": {**STYLE, "pattern": "(.*)", "values": {"x": 1.0}}}})
    scorer = card_of(table, vlm=vlm, on_error="skip", store=store)
    assert scorer([draw_image(1)], ["a cat"]).isnan().all(), "a random model states no grade"
    assert vlm.on_error == "raise", "that of the judge is its own"
    (detail,) = {row.detail for row in store.rows() if '"text"' in (row.detail or "")}
    assert json.loads(detail)["written"][0]["text"], "its text is kept all the same"


def test_an_edit_without_its_source_leaves_the_others_alone(vlm):
    table = judge({"text": "Grade {}: {source} {result}"}, images=["source", "result"])
    alone = {"text": "Grade {result}", "images": ["result"], "outputs": {"other": STYLE}}
    table |= {"questions": [*table["questions"], alone], "max_new_tokens": 8}
    scorer = card_of(table, vlm=vlm, on_error="skip")
    sources = [draw_image(1), "gone.png", embedded(b"", "row 3")]
    edits = [t2v_eval.Edit(source, draw_image(2)) for source in sources]
    failures = scorer.evaluate_blocks([Block(edits, ["a cat"])], progress=False).failures
    reasons = [failures[0, n, 0] for n in range(3)]
    assert "the judge" in reasons[0] and "no such file" in reasons[1] and "empty" in reasons[2]


# A service:


def test_a_question_that_is_too_long_is_an_error_and_not_cut(folder, groups):
    """A question whose end is cut asks for no form of an answer any more."""
    small = t2v_eval.load(f"hf-vlm:{folder}", device="cpu", context=200)
    table = judge({"text": "Grade {}. Write 'Style: 4'."}, max_new_tokens=8)
    scorer = card_of(table, vlm=small, on_error="skip")
    block = Block(groups[0].images[:1], ["a cat", "a cat " * 200])
    failures = scorer.evaluate_blocks([block], progress=False).failures
    assert "the judge" in failures[0, 0, 0], "it was asked"
    assert "tokens, and the model reads" in failures[0, 0, 1]


def saying(text, **options):
    return Server(lambda request: written_reply(text, **options))


def test_one_judge_over_both_engines():
    text = "<think>Style: 1</think>Style: 4"
    images, texts = [draw_image(1), draw_image(2)], ["a cat", "a {red} dog"]
    here = card_of(JUDGE, vlm=Reciting(lambda prompt: [text]))
    with saying(text) as server:
        served = over_service(JUDGE, server)
        assert served(images, texts).tolist() == here(images, texts).tolist() == [[4.0, 4.0]] * 2
        questions = sorted(asked(request) for request in server.requests)
    assert questions == ["Grade a cat"] * 2 + ["Grade a {red} dog"] * 2
    (explained,) = here.explain(images[0], ["a cat"])[0]
    assert "style: 4" in str(explained) and "written: '<think>" in str(explained)


def test_a_detail_names_the_model_that_wrote_it():
    with saying("Style: 4") as server:
        result = over_service(JUDGE, server).evaluate_blocks(
            [Block([draw_image(1)], ["a cat"])], progress=False
        )
    assert json.loads(result.details[0, 0, 0])["model"] == "m"


def test_another_reading_asks_no_model(tmp_path):
    store = t2v_eval.Store(tmp_path / "s.db")
    with saying("Style: 4, or 2") as server:
        strict = over_service(JUDGE, server, store=store, on_error="skip")
        assert strict(draw_image(1), "a cat").isnan().all()
        outputs = {"style": {"pattern": "Style: {number},", "range": [1, 5]}}
        lax = over_service(judge({"outputs": outputs}), server, store=store)
        assert lax(draw_image(1), "a cat").tolist() == [[4.0]]
        assert len(server.requests) == 1 and strict.id != lax.id
        other = over_service(
            judge({"text": "Grade again {}"}), server, store=store, on_error="skip"
        )
        other(draw_image(1), "a cat")
        assert len(server.requests) == 2, "another question is another text"


def test_edits_show_two_images_in_order_and_questions_may_show_one():
    table = {
        "images": ["source", "result"],
        "score": {"sqrt": {"product": [{"min": ["success", "preservation"]}, "natural"]}},
        "questions": [
            {
                "text": "Edit: {}",
                "outputs": {
                    "success": {"json": "score[0]", "range": [0, 25]},
                    "preservation": {"json": "score[1]", "range": [0, 25]},
                },
            },
            {
                "text": "Natural?",
                "images": ["result"],
                "outputs": {"natural": {"json": "score[0]", "range": [0, 25]}},
            },
        ],
    }
    edit = t2v_eval.Edit(draw_image(1), draw_image(2))

    def behave(request):
        text = '{"score": [16, 4]}' if asked(request).startswith("Edit") else '{"score": [9]}'
        return written_reply(text)

    with Server(behave) as server:
        scorer = over_service(table, server)
        assert scorer(edit, "make it red").tolist() == [[6.0]]
        both, single = sorted(map(shown, server.requests), key=len, reverse=True)
        assert len(both) == 2 and single == both[1:]
        first = base64.b64decode(both[0].partition(",")[2])
        assert Image.open(io.BytesIO(first)).convert("RGB").tobytes() == draw_image(1).tobytes()
        with pytest.raises(UnsupportedError, match=r"scores edits.*Edit\(source, result\)"):
            scorer(draw_image(1), "make it red")
        assert scorer.estimate([t2v_eval.scoring.plan.Block([edit], ["blue"])]).requests == 2


@pytest.mark.parametrize(
    ("answers", "value", "consistent"),
    [((1, 2), 1.0, True), ((2, 1), 0.0, True), ((1, 1), 0.5, False), ((1, 3), math.nan, None)],
)
def test_pairs_are_asked_in_both_orders(answers, value, consistent):
    table = {
        "images": ["first", "second"],
        "score": "better",
        "questions": [{"text": "Which? {}", "outputs": {"better": PAIR_OUTPUT}}],
    }
    orders = []

    def behave(request):
        if shown(request) not in orders:
            orders.append(shown(request))
        answer = answers[orders.index(shown(request))]
        return written_reply(f"<think>Hm.</think><answer>Image {answer} is better</answer>")

    with Server(behave) as server:
        scorer = over_service(table, server, on_error="skip", concurrency=1)
        result = scorer.prefer(draw_image(1), draw_image(2), "a cat")
    assert result.value == pytest.approx(value, nan_ok=True)
    assert result.consistent is consistent and orders[0] == orders[1][::-1]


def test_two_edits_are_compared_beside_their_source(vlm, tmp_path):
    """A service and a small model see the source before the results, in both orders."""
    source, good, bad = (draw_image(n) for n in range(3))
    edits = [t2v_eval.Edit(source, image) for image in (good, bad)]
    question = {"text": "Which? {}", "outputs": {"better": PAIR_OUTPUT}}
    table = {"images": ["source", "first", "second"], "score": "better", "questions": [question]}
    files, orders = [open_media(i) for i in (source, good, bad)], []

    def behave(request):
        pixels = [base64.b64decode(url.partition(",")[2]) for url in shown(request)]
        images = [Image.open(io.BytesIO(p)).convert("RGB").tobytes() for p in pixels]
        orders.append([[f.load().tobytes() for f in files].index(image) for image in images])
        return written_reply(f"<answer>Image {orders[-1].index(1)} is better</answer>")

    with Server(behave) as server:
        scorer = over_service(table, server)
        assert scorer.prefer(*edits, "make it red") == (1.0, True, 1.0, 1.0, "")
        assert sorted(orders) == [[0, 1, 2], [0, 2, 1]]
        with pytest.raises(UnsupportedError, match=r"call prefer\(Edit\(source, a\), Edit"):
            scorer.prefer(good, bad, "make it red")
        with pytest.raises(InputError, match="not the same image"):
            scorer.prefer(edits[0], t2v_eval.Edit(bad, good), "make it red")
        of_images = over_service({**table, "images": ["first", "second"]}, server)
        with pytest.raises(UnsupportedError, match="edits need a judge that sees their source"):
            of_images.prefer(*edits, "make it red")
    store = t2v_eval.Store(tmp_path / "s.db")
    here = card_of({**table, "max_new_tokens": 5}, vlm=vlm, on_error="skip", store=store)
    assert here.prefer(*edits, "make it red").reason.startswith("the judge's answer ")
    keys = {row.image for row in store.rows() if '"text"' in (row.detail or "")}
    assert len(keys) == 2, "both orders are written about"


def test_images_stand_where_a_question_places_them():
    text = "{{Before}}: {result}\nafter {source}{} is it?"
    table = judge({"text": text}, images=["source", "result"])
    source, result = draw_image(1), draw_image(2)
    with saying("Style: 3") as server:
        scorer = over_service(table, server)
        assert scorer(t2v_eval.Edit(source, result), "a {cat}").tolist() == [[3.0]]
        (request,) = server.requests
    parts = request.body["messages"][-1]["content"]
    texts = [part.get("text") for part in parts]
    assert texts == ["{Before}: ", None, "\nafter ", None, "a {cat} is it?"]
    first, second = (
        Image.open(io.BytesIO(base64.b64decode(u.partition(",")[2]))) for u in shown(request)
    )
    assert [i.convert("RGB").tobytes() for i in (first, second)] == [
        result.tobytes(),
        source.tobytes(),
    ]
    for wrong in ("{source} {}", "{source} {source} {result}"):
        with pytest.raises(InputError, match="place each of them once, or none"):
            card_of(judge({"text": wrong}, images=["source", "result"]), vlm="gpt-4o", api_key="k")


@pytest.mark.parametrize(
    ("texts", "score", "note"),
    [
        (("Style: 4", "Style: 2", "Style: 3"), 3.0, "3 of 3"),
        (("Style: 4", "None.", "Style: 3"), 3.5, "2 of 3"),
        (("Style: 4", "None.", "Style: 9"), None, "1 of 3"),
    ],
)
def test_passes_are_a_mean_of_those_that_can_be_read(texts, score, note):
    table = judge(temperature=0.7, passes=3)
    with Server(lambda request: written_reply(*texts[: request.body.get("n", 1)])) as server:
        scorer = over_service(table, server)
        if score is None:
            with pytest.raises(ScoringError, match=f"{note} passes can be read; ") as error:
                scorer(draw_image(1), "a cat")
            assert str(error.value).endswith(f"; it ends in {texts[-1]!r}")
        else:
            assert scorer(draw_image(1), "a cat").tolist() == [[score]]
            explained = scorer.explain(draw_image(1), "a cat")[0][0].judgement
            assert explained.fields()["passes"] == f"{note} can be read"
        assert server.requests[0].body["temperature"] == 0.7


def test_what_tokens_are_sampled_from_is_sent_and_a_part_of_the_id():
    sampled = judge(temperature=0.7, top_p=0.9, top_k=20)
    with saying("Style: 4") as server:
        scorer, full = over_service(sampled, server), over_service(judge(temperature=0.7), server)
        again = over_service(judge(), server, temperature=0.7, top_p=0.9, top_k=20)
        assert scorer.id == again.id != full.id and again.judge.writing == scorer.judge.writing
        scorer(draw_image(1), "a cat"), full(draw_image(1), "a cat")
        bodies = [request.body for request in server.requests]
    assert [(b["temperature"], b["top_p"], b["top_k"]) for b in bodies] == [
        (0.7, 0.9, 20),
        (0.7, 1, -1),
    ]
    with pytest.raises(UnsupportedError, match="API of 'gpt-4o' has no `top_k`: pass `top_k=0`"):
        card_of(sampled, vlm="gpt-4o", api_key="k")
    assert card_of(sampled, vlm="gpt-4o", api_key="k", top_k=0).writer.question.params.top_p == 0.9
    here = card_of(sampled, vlm=Reciting(lambda prompt: []))
    assert here.id != card_of(judge(temperature=0.7), vlm=Reciting(lambda prompt: [])).id
    refusal = Reply({"error": {"message": "Unsupported parameter: 'top_k'"}}, status=400)
    with (
        Server(
            lambda request: refusal if "top_k" in request.body else written_reply("4")
        ) as server,
        pytest.raises(UnsupportedError, match="takes no `top_k`: Unsupported.* Leave it out"),
    ):
        over_service(sampled, server)(draw_image(1), "a cat")


def test_expected_grades_are_weighted_by_the_probabilities_of_a_token():
    grades = {"4": 0.5, "5": 0.25, "2": 0.05, "Very": 0.2}
    expected = (4 * 0.5 + 5 * 0.25 + 2 * 0.05) / 0.8

    def behave(request):
        reply = written_reply("Style: 4")
        assert request.body["top_logprobs"] == 20
        reply.body["choices"][0]["logprobs"] = token_list("Style", ":", " ", grades)
        return reply

    with Server(behave) as server:
        scorer = over_service(judge(expected=True), server)
        assert scorer(draw_image(1), "a cat").item() == pytest.approx(expected)
    digit = Digit(7, "4", {"4": 0.5, "5": 0.25, "2": 0.05})
    here = card_of(
        judge(expected=True), vlm=Reciting(lambda _: [Written("Style: 4", False, [digit])])
    )
    assert here(draw_image(1), "a cat").item() == pytest.approx(expected)
    with saying("Style: 4") as server, pytest.raises(UnsupportedError, match="no probabilities"):
        over_service(judge(expected=True), server, retries=3)(draw_image(1), "a cat")


def of_gemini(tokens, text="Style: 4"):
    """Gemini's answer of these tokens, of which a dict is a digit with its probabilities."""
    answer = gemini_server.generated(text=text)
    chosen = [next(iter(t)) if isinstance(t, dict) else t for t in tokens]
    rows = [t if isinstance(t, dict) else {t: 1.0} for t in tokens]
    answer["candidates"][0]["logprobsResult"] = {
        "chosenCandidates": [gemini_server.token(token, 1.0) for token in chosen],
        "topCandidates": [
            {"candidates": [gemini_server.token(*pair) for pair in row.items()]} for row in rows
        ],
    }
    return answer


def test_expected_grades_of_gemini_are_those_behind_its_reasoning():
    grades = {"4": 0.5, "5": 0.25, "2": 0.05, "Very": 0.2}
    thought = ["<ctrl94>", "Style: ", {"1": 1.0}, "<ctrl95>"]
    answers = [
        of_gemini(["Style", ":", " ", grades]),
        of_gemini([*thought, "Style:", " ", grades]),
        of_gemini(["Another", " ", grades]),
    ]
    expected = (4 * 0.5 + 5 * 0.25 + 2 * 0.05) / 0.8
    with Server(lambda request: Reply(answers[0])) as server:
        options = {"base_url": server.address, "api_key": "k", "answers_as": "served-model-1"}
        options |= {"backoff": 0.0, "retries": 3}
        scorer = card_of(judge(expected=True), vlm="gemini:m", **options)
        for n in range(2):
            assert scorer(draw_image(n), "a cat").item() == pytest.approx(expected)
            del answers[0]
        config = server.requests[0].body["generationConfig"]
        assert config["responseLogprobs"] is True and config["logprobs"] == 20
        with pytest.raises(ScoringError, match="came without log-probabilities"):
            scorer(draw_image(2), "a cat")
        another = card_of(judge(expected=True), vlm="gemini:m", **options)
        with pytest.raises(UnsupportedError, match="lists no probabilities.*vertexai=True"):
            another(draw_image(2), "a cat")
        server.behave = lambda request: gemini_server.error(400, "Logprobs is not supported")
        with pytest.raises(UnsupportedError, match="lists no probabilities.*Logprobs is not"):
            scorer(draw_image(3), "a cat")


@pytest.mark.parametrize(
    ("answers_as", "known"),
    [("reward-7b", True), (["another", "Reward-7B"], True), ("reward", False), ((), False)],
)
def test_a_model_may_answer_under_other_names(answers_as, known):
    with Server(lambda _: written_reply("Style: 4", model="org/reward-7b-2026-09-01")) as server:
        scorer = over_service(judge(), server, answers_as=answers_as)
        assert (scorer.id == over_service(judge(), server).id) == (not answers_as)
        if known:
            assert scorer(draw_image(1), "a cat").item() == 4.0
        else:
            with pytest.raises(ScoringError, match="same, pass `answers_as='org/reward-7b-2026"):
                scorer(draw_image(1), "a cat")


@pytest.mark.parametrize(
    ("requested", "answered", "same"),
    [
        ("qwen/qwen2.5-vl-72b-instruct:free", "qwen/qwen2.5-vl-72b-instruct", True),
        ("google/gemini-2.5-flash:nitro", "gemini-2.5-flash-preview-09-2025", True),
        ("gemini-2.5-flash", "models/gemini-2.5-flash-001", True),
        ("GPT-4o", "gpt-4o-2024-11-20", True),
        ("llava:13b", "llava:7b", False),
        ("gpt-4o", "gpt-4o-mini-2024-07-18", False),
        ("gemini-2.5-flash", "gemini-2.5-flash-lite", False),
        ("qwen2.5-vl-72b:free", "qwen2.5-vl-7b:free", False),
    ],
)
def test_a_route_or_a_date_is_no_other_model(requested, answered, same):
    assert is_same_model(requested, answered) is same


# A judge of one's own:


def test_a_file_in_a_folder_is_a_judge_without_python(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text(
        """
        range = "0 to 10"
        [judge]
        score = { mean = ["light", "colour"] }
        [[judge.questions]]
        text = "Grade light and colour of {}."
        outputs.light = { json = "light", range = [0, 10] }
        outputs.colour = { json = "colour", range = [0, 10] }
        """
    )
    with saying('```json\n{"light": 4, "colour": 7}\n```') as server:
        access = {"vlm": "openai-compatible:m", "base_url": server.url}
        scorer = t2v_eval.load(str(tmp_path / "mine.toml"), **access)
        assert scorer(draw_image(1), "a cat").tolist() == [[5.5]]
    assert scorer.card.range == "0 to 10"
    for wrong, message in (
        ('score = "light"', "lacks 'questions'"),
        ('score = "no"\nquestions = []', "name each once"),
        ('scores = "light"', "unknown key 'scores'"),
    ):
        (tmp_path / "wrong.toml").write_text(f"[judge]\n{wrong}")
        with pytest.raises(InputError, match=message):
            t2v_eval.load(str(tmp_path / "wrong.toml"), vlm="gpt-4o", api_key="k")


def test_a_wrong_key_of_a_file_is_no_flag(tmp_path):
    """What a file says is not named as if it had been typed on the command line."""
    file = tmp_path / "mine.toml"
    file.write_text('[judge]\nscore = "q"\n[[judge.questions]]\ntext = "Q {}"\n')
    with file.open("a") as stream:
        stream.write('outputs.q = {pattern = "Q:", range = [1, 5]}\n')
    with pytest.raises(InputError, match=r"output 'q': pattern = 'Q:' has no place for a number"):
        t2v_eval.load(str(file), vlm="gpt-4o", api_key="k")
