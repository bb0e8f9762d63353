"""Scores of answers that exist: by the rules, with what is missing counted and named."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from t2v_eval.errors import InputError, TableError
from t2v_eval.evaluation.answers import read_answers, reasons, score_answers
from t2v_eval.inputs.questions.files import read_questions
from t2v_eval.inputs.questions.question import Question, Questions
from t2v_eval.inputs.tables import write_table

DPG = Path(__file__).parents[2] / "goldens" / "dpg"
QUESTIONS = Questions(
    [
        Question("cube", "1", "a red cube", "Is there a cube?", type="entity", tag="one"),
        Question("cube", "2", "a red cube", "Is it red?", parents=("1",), type="colour", tag="one"),
        Question("cube", "3", "a red cube", "Is it a dark red?", parents=("2",), tag="one"),
        Question("balls", "1", "two balls", "How many balls?", (), "two", type="count", weight=3),
        Question("balls", "2", "two balls", "Are there balls?"),
    ]
)


def rows_of(item, *answers, **columns):
    return [{"item": item, "id": str(n), "answer": a, **columns} for n, a in enumerate(answers, 1)]


def scores_of(rows, rule="dsg", **options):
    scores = score_answers(rows, QUESTIONS, rule, **options)
    return {(text.image, text.item): text.score for text in scores.texts}


def test_each_rule_on_answers():
    rows = [*rows_of("cube", "no", "yes", "yes"), *rows_of("balls", "Two.", "no")]
    assert scores_of(rows, "tifa") == {("", "cube"): 2 / 3, ("", "balls"): 3 / 4}
    assert scores_of(rows)["", "cube"] == pytest.approx(1 / 3)
    assert scores_of(rows, dependency="transitive")["", "cube"] == 0
    assert scores_of(rows, dependency="none")["", "cube"] == pytest.approx(2 / 3)
    assert scores_of(rows, "tifa", match="exact")["", "balls"] == 0


def test_images_of_a_text_are_told_apart_by_columns():
    rows = [
        *rows_of("cube", "yes", "yes", "yes", t2i_model="a"),
        *rows_of("cube", "yes", "no", "no", t2i_model="b"),
    ]
    assert scores_of(rows)["a", "cube"] == 1 and scores_of(rows)["b", "cube"] == 1 / 3
    assert scores_of(rows)["b", "balls"] is None
    assert list(scores_of(rows, where={"t2i_model": "a", "item": "c*"})) == [("a", "cube")]
    plain = [{key: row[key] for key in ("item", "id", "answer")} for row in rows]
    with pytest.raises(InputError, match=r"question '1' of 'cube' is answered twice"):
        scores_of(plain)


def test_what_has_no_score_says_why():
    rows = [*rows_of("cube", "yes", ""), *rows_of("balls", "two", "perhaps")]
    scores = score_answers(rows, QUESTIONS, "dsg")
    assert [text.score for text in scores.texts] == [None, None]
    assert set(reasons(scores)) == {
        "question '2': the answer is empty",
        "question '2': the answer 'perhaps' is none of yes, no",
    }
    fewer = score_answers(rows_of("cube", "yes", "no"), QUESTIONS, "tifa", unanswered="zero")
    assert [text.score for text in fewer.texts] == [None, 0.0]
    assert list(reasons(fewer)) == ["question '3' has no answer"]
    exact = score_answers(rows_of("balls", "", "perhaps"), QUESTIONS, "dsg", match="exact")
    assert exact.unread == 2 and exact.texts[1].score == 0
    assert reasons(exact) == {"none of its questions has an answer": 1}
    options = {"match": "exact", "unanswered": "zero"}
    zero = score_answers(rows_of("balls", "", "no"), QUESTIONS, "dsg", **options)
    assert [text.score for text in zero.texts] == [0.0, 0.0]


def test_a_parent_that_is_not_there_leaves_dsg_without_a_score():
    questions = Questions([Question("1", "2", "a cube", "Is it red?", parents=("1",))])
    rows = [{"item": "1", "id": "2", "answer": "yes"}]
    (text,) = score_answers(rows, questions, "dsg").texts
    assert text.score is None and "depends on question '1'" in text.reason
    assert score_answers(rows, questions, "tifa").texts[0].score == 1
    assert score_answers(rows, questions, "dsg", dependency="none").texts[0].score == 1


def test_probabilities_are_values():
    rows = [
        {"item": "cube", "id": str(n), "probability": p} for n, p in enumerate(("0.5", 0.8, 1), 1)
    ]
    assert scores_of(rows, "soft-tifa-am")["", "cube"] == pytest.approx(np.mean([0.5, 0.8, 1]))
    assert scores_of(rows, "soft-tifa-gm")["", "cube"] == pytest.approx((0.5 * 0.8) ** (1 / 3))
    rows[0]["probability"] = "1.2"
    assert scores_of(rows, "soft-tifa-am")["", "cube"] is None


def test_means_by_image_and_tag_and_by_type():
    rows = [*rows_of("cube", "yes", "no", "yes"), *rows_of("balls", "two", "no")]
    scores = score_answers(rows, QUESTIONS, "tifa")
    means = {key: (mean.value, n, lacking) for key, (mean, n, lacking) in scores.means(50).items()}
    assert means == {
        ("", "all"): (pytest.approx((2 / 3 + 3 / 4) / 2), 2, 0),
        ("", "one"): (pytest.approx(2 / 3), 1, 0),
    }
    assert scores.by_type() == {"entity": 1.0, "colour": 0.0, "count": 1.0}
    assert [row["score"] for row in scores.rows()] == [2 / 3, 3 / 4]


def test_figures_are_those_that_the_script_of_dpg_bench_prints():
    """compute_dpg_bench.py ran as it is on drawn answers, and wrote all files but the questions."""
    printed = re.findall(r"^\t?(.+): ([\d.]+)$", (DPG / "results.txt").read_text(), re.M)
    printed = {name: pytest.approx(float(value) / 100) for name, value in printed}
    questions = read_questions(DPG / "dpg_bench.csv", layout="dpg-bench-script")
    options = {"match": "exact", "dependency": "in-order"}
    scores = score_answers(read_answers(DPG / "results_detail.txt"), questions, "dsg", **options)
    assert scores.means(50)["all images", "all"][0].value == printed.pop("DPG-Bench score")
    assert scores.by_type(last=True) | scores.by_type(broad=True, last=True) == printed
    assert scores.by_type()["entity - whole"] == pytest.approx(8 / 12), "of all parts"
    for line in (DPG / "results.txt").read_text().splitlines()[:3]:
        image, *parts, _ = line.split(", ")
        of_item = [text.score for text in scores.texts if text.item == Path(image).stem]
        assert of_item == pytest.approx(list(map(float, parts)))


def test_a_line_that_the_script_of_dpg_bench_does_not_write_is_an_error(tmp_path):
    path = tmp_path / "results_detail.txt"
    path.write_text("a/1.png, (0, 0, 4, 4), Is it, perhaps, red?, yes, it is\na/1.png, red?, no\n")
    with pytest.raises(TableError, match=r"line 2 is 'a/1.png, red\?, no', not 'IMAGE, \(LEFT"):
        read_answers(path)
    path.write_text(path.read_text().splitlines()[0])
    answer = {"question": "Is it, perhaps, red?", "answer": "yes, it is"}
    assert read_answers(path) == [{"item": "1", "image": "(0, 0, 4, 4)"} | answer]


def test_the_answers_of_a_report_are_those_of_its_scores(tmp_path):
    def detail(**more):
        question = {"id": "1", "question": "Is there a cube?", "expected": "yes"}
        return json.dumps([{**question, "answer": None, "value": None, "error": None, **more}])

    questions = Questions(list(QUESTIONS)[:1])
    rows = [
        {"item": "7", "text": "a red cube", "image": n, "scorer": "tifa", "detail": answers}
        for n, answers in enumerate(
            [detail(value=0.25), detail(answer="Yes.", value=1.0), detail(error="it is cut"), ""]
        )
    ]
    path = tmp_path / "scores.csv"
    write_table(path, rows)
    scores = score_answers(read_answers(path), questions, "tifa")
    assert [text.score for text in scores.texts] == [0.25, 1.0, None]
    assert list(reasons(scores)) == ["question '1': it is cut"]
    write_table(path, [{**rows[0], "detail": "{}"}])
    with pytest.raises(TableError, match="row 1: the detail of 'tifa' is no list of answers"):
        read_answers(path)


def test_the_result_of_tifa_is_read_as_it_writes_it(tmp_path):
    path = tmp_path / "result.json"
    details = {
        "cube": {
            "Is there a cube?": {"free_form_vqa": "a cube", "multiple_choice_vqa": "yes"},
            "Is it red?": {"free_form_vqa": "?", "multiple_choice_vqa": "no"},
            "Is it a dark red?": {"free_form_vqa": "no", "multiple_choice_vqa": "no"},
        }
    }
    path.write_text(json.dumps({"tifa_average": 1 / 3, "question_details": details}))
    rows = read_answers(path)
    assert scores_of(rows, "tifa", match="exact")["", "cube"] == pytest.approx(1 / 3)
    path.write_text(json.dumps({"question_details": {"cube": {"Is it red?": {}}}}))
    with pytest.raises(TableError, match="'Is it red\\?' of 'cube' has no 'multiple_choice_vqa'"):
        read_answers(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "vqa"}, "soft-tifa-gm"),
        ({"match": "fuzzy"}, "exact, normalised, nearest"),
        ({"match": "nearest"}, "needs `choose=`"),
        ({"unanswered": "one"}, "missing, zero"),
        ({"where": {"model": "a"}}, "no column 'model'"),
        ({"where": {"item": "x*"}}, r"no answer has item x\*"),
    ],
)
def test_options_that_do_not_exist_are_errors(options, message):
    with pytest.raises(InputError, match=message):
        score_answers(rows_of("cube", "yes"), QUESTIONS, options.pop("rule", "dsg"), **options)


def test_an_answer_to_no_question_is_an_error():
    with pytest.raises(InputError, match="'cube' has no question '9'"):
        scores_of([{"item": "cube", "id": "9", "answer": "yes"}])
