"""Text in images by any reader: readings, measures, failures, the store and ids."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import torch
from helpers.failing_judges import BEHAVIOURS
from helpers.judges import written_reply
from helpers.models.tiny_ocr import READERS
from helpers.services.loopback import Reply, Server
from helpers.services.openai_server import sampled
from helpers.toy import draw_image
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

import t2v_eval
from t2v_eval.backends.text_rendering.text_scorer import TextRenderingScorer
from t2v_eval.errors import (
    CheckpointError,
    InputError,
    MediaError,
    ScoringError,
    TableError,
    UnsupportedError,
)
from t2v_eval.inputs.media import open_media
from t2v_eval.inputs.target_texts import TargetTexts
from t2v_eval.local.function import from_function
from t2v_eval.scoring.plan import Block
from t2v_eval.store import Store

SIGN, NOTE = "a sign that says 'OPEN DAILY'", 'a note "open"'
READS = ["open daily!", "Open", "", "No text recognized.", "CLOSED"]
# Word recall of both prompts, by hand.
RECALL = [[1.0, 1.0], [0.5, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]


class Reader:
    """A function that reads images by their colour, and counts them."""

    def __init__(self, reads=READS):
        self.reads, self.seen = reads, 0

    def __call__(self, images, prompts):
        self.seen += len(images)
        return [self.reads[image.getpixel((0, 0))[0]] for image in images]


@pytest.fixture(scope="module")
def images():
    return [Image.new("RGB", (8, 8), (n, 0, 0)) for n in range(len(READS))]


def load(reader, **options):
    function = from_function(reader, "colours", version="1")
    return t2v_eval.load("text-rendering", reader=function, **options)


def test_each_image_is_read_once_and_another_measure_reads_none(images, tmp_path):
    reader, store = Reader(), tmp_path / "scores.db"
    assert load(reader, store=store)(images, [SIGN, NOTE]).tolist() == RECALL
    assert reader.seen == len(images)
    again = load(other := Reader(), measure="word-accuracy", store=store)
    assert again(images, [SIGN, "'open' again"]).tolist() == [
        [0.5, 1.0], [0.5, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0],
    ]  # fmt: skip
    assert other.seen == 0
    details = [json.loads(row.detail) for row in Store(store).rows("text-rendering*") if row.detail]
    assert {"read": "open daily!", "targets": ["OPEN DAILY"]} in details


def test_what_should_be_written_is_quoted_the_text_itself_or_in_a_file(images, tmp_path):
    scorer = load(Reader(), on_error="skip")
    result = scorer.evaluate_blocks([Block(images[:2], [SIGN, "a shop's sign"])])
    assert np.isnan(result.scores[0][:, 1]).all() and (result.scores[0][:, 0] == [1, 0.5]).all()
    (reason,) = result.errors
    assert "a shop's sign" in reason and "target='text'" in reason
    reader = Reader()
    assert load(reader, on_error="skip")(images, "a shop's sign").isnan().all()
    assert reader.seen == 0, "no image is read for a text that has no score"
    with pytest.raises(InputError, match="no text in quotation marks"):
        load(reader)(images, [SIGN, "a shop's sign"])
    assert reader.seen == 0
    assert load(Reader(), target="text")(images[1], ["open", "Open daily"]).tolist() == [[1, 0.5]]
    file = tmp_path / "texts.jsonl"
    file.write_text('{"prompt": "a shop", "text": ["open", "daily", "now"]}')
    in_file = load(Reader(), target=file)
    assert in_file(images[0], "a shop").tolist() == [[pytest.approx(2 / 3)]]
    with pytest.raises(InputError, match="has no text for the prompt 'a car'"):
        in_file(images[0], "a car")
    with pytest.raises(TableError, match="no such file"):
        load(Reader(), target="gone.jsonl")


def test_the_id_says_what_decides_a_score(images):
    options = [
        {},
        {"measure": "ned"},
        {"target": "text"},
        {"target": TargetTexts({SIGN: ["OPEN"]})},
        {"instruction": "Read."},
        {"max_tokens": 9},
    ]
    ids = [load(Reader(), **option).id for option in options]
    other = from_function(Reader(), "colours", version="2")
    ids.append(t2v_eval.load("text-rendering", reader=other).id)
    assert len({*ids}) == len(ids)
    assert load(Reader(), target="quotes").id == ids[0]


def test_an_explanation_shows_what_was_read_and_the_targets(images):
    ((explained,),) = load(Reader()).explain(images[1], SIGN)
    assert (explained.score, explained.read, explained.targets) == (0.5, "Open", ("OPEN DAILY",))
    assert str(explained).endswith("read: 'Open'\n  target: 'OPEN DAILY'")


def test_a_reader_that_fails_on_an_image_leaves_the_others_alone(images, tmp_path):
    def read(paths, prompts):
        if any(image.getpixel((0, 0))[0] == 1 for image in paths):
            raise RuntimeError("no model for this colour")
        return Reader()(paths, prompts)

    scores = load(read, on_error="skip")(images, [SIGN])
    assert scores.isnan()[:, 0].tolist() == [n == 1 for n in range(len(images))]
    with pytest.raises(ScoringError, match="no model for this colour"):
        load(read)(images, [SIGN])
    with pytest.raises(ScoringError, match="returned str for 1 images"):
        load(lambda paths, prompts: "OPEN")(images[:1], [SIGN])
    (tmp_path / "broken.png").write_bytes(b"no image")
    paths = [images[0], tmp_path / "broken.png"]
    with pytest.raises(MediaError, match=r"broken\.png"):
        load(Reader())(paths, SIGN)
    assert load(Reader(), on_error="skip")(paths, SIGN).isnan().tolist() == [[False], [True]]


def test_options_that_there_are_not(images):
    for options, error, message in (
        ({"measure": "bleu"}, InputError, "`measure='bleu'`"),
        ({"instruction": " "}, InputError, "what the reader is asked"),
        ({"max_tokens": 0}, InputError, "at least 1"),
        ({"device": "cpu"}, InputError, "`device=` is an option of a reader that is named"),
        ({"question_template": "Is it {}?"}, InputError, "leave templates out"),
    ):
        with pytest.raises(error, match=message):
            load(Reader(), **options)
    with pytest.raises(UnsupportedError, match="'tiny-clip' reads no images"):
        t2v_eval.load("text-rendering", reader="tiny-clip", device="cpu")
    with pytest.raises(UnsupportedError, match="question='text'"):
        t2v_eval.load("text-rendering", reader=t2v_eval.load("gpt-4o", api_key="k"))
    with pytest.raises(InputError, match="has a store but no version"):
        unversioned = from_function(Reader(), "colours")
        t2v_eval.load("text-rendering", reader=unversioned, store="s.db")
    with pytest.raises(UnsupportedError, match="says what was read"):
        load(Reader()).generate(images[0], "Read.")


ANSWERS = {
    "read": lambda: sampled("OPEN daily"),
    "empty": lambda: sampled(""),
    "none": lambda: sampled("No text recognized"),
    "cut": lambda: cut("OPEN dai"),
    "refused": lambda: refused("I cannot help with that."),
}


def cut(text):
    content = sampled(text)
    content["choices"][0]["finish_reason"] = "length"
    return content


@pytest.mark.parametrize(
    ("reading", "score"),
    [
        ("<think>Is it CAFÉ, or OPEN?</think>OPEN", 0.5),
        ("<think>CAFÉ OPEN", "thinks without an end"),
        ("<think>CAFÉ OPEN</think>", "is reasoning alone"),
        ("cafe\u0301 OPEN<|im_end|>", 1.0),
        ("café OPEN \ud83d", 1.0),  # half of an emoji, which no store holds
        ("```text\ncafé\nOPEN\n```", 1.0),
        ('<table border="1"><tr><td>CAFÉ</td><td><b>OP</b>EN</td></tr></table>', 1.0),
        ("CAFÉ<br/>OPEN", 1.0),
        ("<CAFÉ> OPEN", 1.0),
        ("", 0.0),
    ],
)
def test_a_thought_is_no_reading_and_an_accent_may_be_a_character_of_its_own(
    images, reading, score, tmp_path
):
    options = {"on_error": "skip", "store": tmp_path / "s.db"}
    scorer = load(lambda images, prompts: [reading] * len(images), **options)
    result = scorer.evaluate_blocks([Block(images[:1], ["a sign 'CAFÉ', below 'OPEN'"])])
    if isinstance(score, str):
        assert np.isnan(result.scores[0]).all() and score in "".join(result.errors)
    else:
        assert result.scores[0].tolist() == [[score]]


def refused(text):
    content = sampled("")
    content["choices"][0]["message"]["refusal"] = text
    return content


@pytest.mark.parametrize(
    ("read", "refuses"),
    [
        ("I'm sorry, but I can't assist with that request.", True),
        ("Sorry, I cannot help with this image.", True),
        ("I am unable to view images.", True),
        ("I can’t clearly read the text.", True),
        ("As an AI language model, I cannot see images.", True),
        ("I don't see any image. Could you upload it?", True),
        ("No image was provided.", True),
        ("The image failed to load.", True),
        ("This content may violate our policies.", True),
        ("对不起，我无法评估这张图片。", True),
        ("申し訳ありませんが、評価できません。", True),
        ("Es tut mir leid, aber ich kann das nicht lesen.", True),
        ("Sorry, we're closed", False),
        ("I'M SORRY", False),
        ("SORRY FOR THE INCONVENIENCE", False),
        ("I can do it!", False),
        ("I can't wait for summer", False),
        ("No images or food", False),
        ("The image of a king", False),
        ("This content is free", False),
    ],
)
def test_a_refusal_is_no_reading(read, refuses):
    scorer = load(lambda images, prompts: [read] * len(images), on_error="skip")
    block = Block([Image.new("RGB", (8, 8))], ["a sign 'sorry'"])
    result = scorer.evaluate_blocks([block], progress=False)
    assert bool(np.isnan(result.scores[0]).item()) is refuses
    assert not refuses or "refusal" in result.failures[0, 0, 0]


def test_a_service_reads_each_image_once_and_what_is_no_reading_is_missing(tmp_path):
    inputs = [draw_image(seed) for seed in range(len(ANSWERS))]
    known = {}

    def answer(request):
        kind = known.setdefault(request.images[0], [*ANSWERS][len(known)])
        return Reply(ANSWERS[kind]())

    with Server(answer) as server:
        scorer = t2v_eval.load(
            "text-rendering",
            reader="openai-compatible:reads",
            base_url=server.url,
            api_key="k",
            concurrency=1,
            retries=0,
            store=tmp_path / "s.db",
            on_error="skip",
        )
        blocks = [Block(inputs, [SIGN, NOTE])]
        assert scorer.estimate([*blocks, Block([draw_image(9)], ["a dog"])]).requests == len(inputs)
        result = scorer.evaluate_blocks(blocks)
        assert scorer.estimate(blocks).requests == 1  # the refused one, which is tried again
    expected = [[1, 1], [0, 0], [0, 0], [np.nan] * 2, [np.nan] * 2]
    np.testing.assert_array_equal(result.scores[0], np.float32(expected))
    assert result.usage["requests"] == len(inputs)
    assert any("is cut at 1024 tokens" in reason for reason in result.errors)
    assert any("cannot help" in reason or "refus" in reason for reason in result.errors)


@pytest.mark.filterwarnings("ignore:waiting")
def test_no_failing_server_gives_a_reading():
    """Only an empty text is one, of an image without text; no text at all is a failure."""
    behaviours = [*BEHAVIOURS]  # each between right answers, since a run of failures ends
    images = [Image.new("RGB", (8, 8), (n, 0, 0)) for n in range(2 * len(behaviours))]

    def behave(request):
        content = base64.b64decode(request.images[0].partition(",")[2])
        number, is_wrong = divmod(Image.open(io.BytesIO(content)).getpixel((0, 0))[0], 2)
        right = "OPEN DAILY"
        return BEHAVIOURS[behaviours[number]](right) if is_wrong else written_reply(right)

    with Server(behave) as server:
        access = {"base_url": server.url, "api_key": "k", "retries": 0, "backoff": 0.001}
        options = {"concurrency": 1, "on_error": "skip", **access}
        scorer = t2v_eval.load("text-rendering", reader="openai-compatible:m", **options)
        scores = scorer(images, SIGN)[:, 0].tolist()
    read = {behaviours[n // 2]: score for n, score in enumerate(scores) if n % 2}
    assert {name for name, score in read.items() if not np.isnan(score)} == {"empty content"}
    assert read["empty content"] == 0 and {*scores[::2]} == {1.0}


@pytest.fixture(scope="module", params=READERS)
def ocr(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    READERS[request.param](folder)
    return request.param, folder


def test_small_models_read_as_transformers_generates(ocr):
    name, folder = ocr
    scorer = t2v_eval.load(name, checkpoint=str(folder), device="cpu", max_tokens=6)
    given = [draw_image(seed, size) for seed, size in enumerate([(60, 40), (60, 40), (30, 50)])]
    media = [open_media(image) for image in given]
    replies = scorer.reader.writer.write_about(media, [scorer.instruction] * 3, 6)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    for image, reply in zip(given, replies, strict=True):
        if name == "got-ocr2":
            inputs, ends = processor(image, return_tensors="pt"), ["<|im_end|>", "<|endoftext|>"]
            options = {"stop_strings": ends, "tokenizer": processor.tokenizer}
        else:
            content = [{"type": "image", "image": image}]
            content.append({"type": "text", "text": scorer.instruction})
            inputs = processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
            options = {}
        with torch.inference_mode():
            tokens = model.generate(**inputs, max_new_tokens=6, do_sample=False, **options)[0]
        new = tokens[inputs["input_ids"].shape[1] :]
        expected = processor.decode(new, skip_special_tokens=True).strip()
        assert reply == (expected, len(new) < 6)
    skipping = TextRenderingScorer(scorer.reader, on_error="skip")
    assert skipping(given, SIGN).isnan()[:, 0].tolist() == [not whole for _, whole in replies]


def test_got_ocr_is_no_other_model(tmp_path):
    READERS["glm-ocr"](tmp_path)
    with pytest.raises(CheckpointError, match=r"'glm_ocr', not 'got_ocr2'.*`reader='hf-vlm:"):
        t2v_eval.load("got-ocr2", checkpoint=str(tmp_path), device="cpu")
