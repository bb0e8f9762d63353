"""What a judge writes is its grade or missing with a reason, for every card and both engines."""

from __future__ import annotations

import base64
import io
import math
import tomllib
from pathlib import Path

import pytest
from helpers.failing_judges import BEHAVIOURS, FAILURES
from helpers.judges import KEY, Reciting, shown, written_reply
from helpers.services.loopback import Server
from helpers.services.openai_server import tokens
from PIL import Image

import t2v_eval
from t2v_eval.inputs.media import ImageGroup, open_media
from t2v_eval.registry import models
from t2v_eval.scoring.generation import IMAGE_PLACE, Digit, Written

HERE = Path(__file__).parent
RIGHT = tomllib.loads((HERE / "right.toml").read_text(encoding="utf-8"))
JUDGES = {
    repr(card.args["judge"]): name
    for name, card in reversed(models.cards.items())
    if card.entry == "load_written_scorer"
}
CARDS = [*JUDGES.values()]  # of cards that differ in their model alone, the first
TEXT = "a cat\nAttribute - Color: the lamp is red\nLayout: it is left\nQuantity: a book"
pytestmark = pytest.mark.filterwarnings("ignore:waiting")  # for a server on a busy machine
SURE = 0.9999  # probability of a digit that is written


class Case:
    """An answer to each question of a judge, and the score that it gives; None for none."""

    def __init__(self, first, second, score=None, truncated=False):
        self.answers, self.score, self.truncated = (first, second), score, truncated


def cases(name):
    """Wrong answers of a card, with right ones between them."""
    form = RIGHT[name]
    second = form.get("second", "")
    right, other = (form["form"].replace("§", form[grade]) for grade in ("grade", "other"))
    good = Case(right, second, form["score"])
    texts = [form["form"].replace("§", grade) for grade in FAILURES["grades"]]
    texts += FAILURES["texts"] + form["wrong"]
    texts += [
        around.replace("{right}", right).replace("{other}", other) for around in FAILURES["around"]
    ]
    wrong = [Case(text, second) for text in texts]
    wrong += [Case(right, second, truncated=True)]
    wrong += [Case(right, text) for text in FAILURES["texts"] if second]
    more = [Case(text, second, score) for text, score in form["more"]]
    listed = [good, *more]
    for n, case in enumerate(wrong):
        listed += [case, good] if n % 20 == 0 else [case]
    return listed


def numbered(n):
    """An image from whose first pixel its number can be read."""
    return Image.new("RGB", (8, 6), (n // 256, n % 256, 7))


def number_in(image):
    first, second, _ = image.convert("RGB").getpixel((0, 0))
    return 256 * first + second


def inputs(roles, count):
    images = [open_media(numbered(n)) for n in range(count)]
    if not roles:
        return images
    source = open_media(numbered(60000))
    return [ImageGroup.of(**dict.fromkeys(roles, source) | {roles[-1]: i}) for i in images]


def place(scorer, prompt):
    """Which question of a judge a prompt is, with or without the places of its images."""
    fill = [question.fill(TEXT).replace(IMAGE_PLACE, "") for question in scorer.judge.questions]
    return fill.index(prompt.replace(IMAGE_PLACE, ""))


class Standing(Reciting):
    """A model that runs here and writes the answer of the case that an image shows."""

    def __init__(self, listed):
        super().__init__(lambda prompt: [])
        self.listed, self.judge = listed, None

    def write_passes(self, images, prompts, writing):
        for n, (media, prompt) in enumerate(zip(images, prompts, strict=True)):
            last = media.images[-1] if isinstance(media, ImageGroup) else media
            case = self.listed[number_in(last.load())]
            text = case.answers[place(self, prompt)]
            digits = [Digit(k, c, {c: 1.0}) for k, c in enumerate(text) if c.isdigit()]
            yield [n], [[Written(text, case.truncated, digits)]]


def check(scores, listed, result):
    wrong = {}
    for n, case in enumerate(listed):
        score = float(scores[n, 0])
        if case.score is None:
            fits = math.isnan(score) and result.failures[0, n, 0]
        else:
            fits = score == pytest.approx(case.score, rel=1e-3)
        if not fits:
            wrong[n] = case.answers, case.score, score, result.failures.get((0, n, 0))
    assert not wrong, wrong


def test_there_are_as_many_as_were_promised():
    assert len({*FAILURES["grades"]}) + len({*FAILURES["texts"]}) + len(FAILURES["around"]) >= 200
    assert sum(len(form["more"]) + 1 for form in RIGHT.values()) >= 55
    assert {*RIGHT} == {*CARDS}, "each card has its right answers"


@pytest.mark.parametrize("name", CARDS)
def test_a_model_that_runs_here(name):
    listed = cases(name)
    model = Standing(listed)
    scorer = t2v_eval.load(name, vlm=model, wording="ours", on_error="skip")
    model.judge = scorer.judge
    block = t2v_eval.scoring.plan.Block(inputs(scorer.image_roles, len(listed)), [TEXT])
    result = scorer.evaluate_blocks([block], progress=False)
    check(result.scores[0], listed, result)


def answered(text, truncated):
    """A reply with a text, whose tokens are its characters."""
    reply = written_reply(text, end="length" if truncated else "stop")
    content = [
        {"token": c, "logprob": -0.1, "top_logprobs": tokens({c: SURE}) if c.isdigit() else []}
        for c in text
    ]
    reply.body["choices"][0]["logprobs"] = {"content": content} if content else None
    return reply


@pytest.mark.parametrize("name", CARDS)
def test_a_service(name):
    """Each card meets every behaviour of a server and a part of the wrong answers."""
    right = Case(*cases(name)[0].answers, cases(name)[0].score)
    skip = CARDS.index(name) % 11
    listed = [right, *(case for n, case in enumerate(cases(name)) if n % 11 == skip)]
    strange = {}  # a run stops where only failures come, so there are right answers between
    for behaviour in BEHAVIOURS.values():
        strange[len(listed)] = behaviour
        listed += [Case("", ""), right]

    def behave(request):
        image = base64.b64decode(shown(request)[-1].partition(",")[2])
        n = number_in(Image.open(io.BytesIO(image)))
        if n in strange:
            return strange[n](right.answers[0])
        parts = request.body["messages"][-1]["content"]
        prompt = "".join(part.get("text", "") for part in parts)
        return answered(listed[n].answers[place(scorer, prompt)], listed[n].truncated)

    with Server(behave) as server:
        scorer = t2v_eval.load(
            name,
            vlm="openai-compatible:m",
            base_url=server.url,
            api_key=KEY,
            wording="ours",
            on_error="skip",
            retries=0,
            backoff=0.001,
            concurrency=2,  # failures and right answers come in turn
        )
        block = t2v_eval.scoring.plan.Block(inputs(scorer.image_roles, len(listed)), [TEXT])
        result = scorer.evaluate_blocks([block], progress=False)
    check(result.scores[0], listed, result)
