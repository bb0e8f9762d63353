"""Questions of drawn scenes: true by an independent reading, and DSG on them beats chance."""

from __future__ import annotations

import json

import pytest
from sklearn.metrics import roc_auc_score

import t2v_eval
from t2v_eval.benchmarks.forms import drawn_scenes
from t2v_eval.benchmarks.forms.scene_questions import scene_questions, true_answers
from t2v_eval.benchmarks.scenes import Scenes
from t2v_eval.inputs.questions.files import read_questions, write_questions
from t2v_eval.scoring.plan import Block

RELATIONS = {"left of": "x", "right of": "x", "above": "y", "below": "y"}


def words(text):
    """The two phrases of a caption, and their relation, from its words alone."""
    for relation in RELATIONS:
        if relation in text:
            return [*text.split(f" {relation} "), relation]
    return [*text.split(" and "), ""]


def test_a_caption_has_a_question_for_each_phrase_and_one_for_its_relation():
    items = drawn_scenes.items(36, seed=3)
    by_text = {}
    for question in scene_questions(items):
        by_text.setdefault(question.text, []).append(question)
    for text, questions in by_text.items():
        first, second, relation = words(text)
        texts = [question.question for question in questions]
        expected = [first, second, *([text] if relation else [])]
        assert texts == [f'Does this figure show "{phrase}"?' for phrase in expected]
        assert [q.parents for q in questions] == [(), (), ("first", "second")][: len(texts)]
    assert set(by_text) == {text for item in items for text in item.texts}


def test_all_answers_are_yes_where_the_caption_is_true_and_not_all_where_it_is_not():
    for item in drawn_scenes.items(120, seed=7):
        for n, claim in enumerate(item.claims):
            assert all(true_answers(claim, item.scenes[n]).values())
            assert not all(true_answers(claim, item.scenes[1 - n]).values())


def test_the_questions_can_be_written_and_read(tmp_path):
    questions = Scenes(n=6).questions()
    assert not questions.problems
    write_questions(tmp_path / "scenes.jsonl", questions)
    assert read_questions(tmp_path / "scenes.jsonl").hash == questions.hash


@pytest.fixture(scope="module")
def result():
    items = drawn_scenes.items(30, seed=0)
    scorer = t2v_eval.load(
        "dsg", vlm="tiny-clip-flant5", questions=Scenes(n=30).questions(), device="cpu"
    )
    blocks = [Block(list(item.images), list(item.texts)) for item in items]
    return items, scorer.evaluate_blocks(blocks)


def test_dsg_tells_true_captions_from_false_ones(result):
    items, scored = result
    truth = [i == j for _ in items for i in range(2) for j in range(2)]
    scores = [float(value) for block in scored.scores for value in block.ravel()]
    assert roc_auc_score(truth, scores) > 0.75  # chance is 0.5


def test_single_answers_agree_with_the_scenes(result):
    items, scored = result
    truth, values = [], []
    for (n, i, j), detail in scored.details.items():
        true = true_answers(items[n].claims[j], items[n].scenes[i])
        for entry in json.loads(detail):
            truth.append(true[entry["id"]])
            values.append(entry["value"])
    assert roc_auc_score(truth, values) > 0.75
