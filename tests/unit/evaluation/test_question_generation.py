"""Questions of texts by a model that runs here: steps, replies that are cut, and the store."""

import pytest

from t2v_eval.errors import InputError
from t2v_eval.evaluation.question_generation.language_model import LocalWriter, ask
from t2v_eval.evaluation.question_generation.run import generate_questions
from t2v_eval.scoring.scorer import Scorer

REPLIES = {
    "smallest statements": "1 | entity - whole (cube)\n2 | attribute - color (cube, red)",
    "Turn each statement": "1 | Is there a cube?\n2 | Is the cube red?",
    "must be right": "1 | 0\n2 | 1, surface",
}


class Writes(Scorer):
    """A model that runs here; it counts what it writes."""

    version = "1"

    def __init__(self, **options):
        super().__init__(**options)
        self.prompts = []

    def score_cells(self, images, texts, cells):
        raise AssertionError("it only writes")

    def write_text(self, prompt, max_new_tokens):
        self.prompts.append(prompt)
        if "long" in prompt:
            return "1 | entity - whole (cu", False
        if "bad" in prompt:
            raise InputError("the prompt holds '<|im_end|>', a control token of this model")
        return next(reply for start, reply in REPLIES.items() if start in prompt), True


def test_a_local_model_writes_questions_once(tmp_path):
    model = Writes()
    writer = LocalWriter(model, 9, store=tmp_path / "s.db", on_error="skip")
    texts = {"0": "a red cube", "1": "a long tail", "2": "a bad cube", "3": "a red cube"}
    result = generate_questions(texts, "dsg", writer)
    assert [(q.item, q.id, q.parents) for q in result.questions] == [
        ("0", "1", ()), ("0", "2", ("1",)),
    ]  # fmt: skip
    assert result.failures == {
        "1": "the reply is cut at 9 tokens; pass more `max_tokens=`",
        "2": "the prompt holds '<|im_end|>', a control token of this model",
    }
    assert len(model.prompts) == 3 + 2  # three steps, and the first of two others
    again = Writes()
    writer = LocalWriter(again, 9, store=tmp_path / "s.db", on_error="skip")
    assert generate_questions(texts, "dsg", writer) == result
    assert len(again.prompts) == 1 and "bad" in again.prompts[0]  # what brought no reply
    longer = LocalWriter(Writes(), 10, store=tmp_path / "s.db")
    assert longer.id != writer.id


@pytest.mark.parametrize(
    ("text", "questions", "language"),
    [
        ("a red cube", "1 | Есть ли куб?\n2 | Он красный?", "CYRILLIC"),
        ("a sign that says 你好", "1 | Is there a sign?\n2 | Does it say 你好?", ""),
        ("a red cube", "1 | Is there a café?\n2 | Is it naïve?", ""),
    ],
)
def test_questions_in_the_script_of_another_language_are_refused(
    monkeypatch, text, questions, language
):
    monkeypatch.setitem(REPLIES, "Turn each statement", questions)
    result = generate_questions({"0": text}, "dsg", LocalWriter(Writes(), on_error="skip"))
    assert [language in reason for reason in result.failures.values()] == [True] * bool(language)


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(InputError, match="'dsg' or 'tifa'"):
        generate_questions({"0": "a cube"}, "vq2", LocalWriter(Writes()))
    with pytest.raises(InputError, match="at least 1"):
        LocalWriter(Writes(), 0)
    assert ask(LocalWriter(Writes()), ["smallest statements"]).usage == {}
