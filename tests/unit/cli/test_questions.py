"""``t2v-eval questions``: what a user sees, JSON, the table, and refusals."""

import json

import pytest
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.inputs.questions.files import write_questions
from t2v_eval.inputs.questions.question import Question
from t2v_eval.inputs.tables import read_table


def call(*arguments, code=0):
    done = CliRunner().invoke(app, [str(a) for a in ("questions", *arguments)])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "questions.jsonl"
    texts = [
        Question("cube", "1", "a red cube", "Is there a [bold]cube?", type="entity"),
        Question("cube", "2", "a red cube", "Is it red?", parents=("1", "2"), type="colour"),
    ]
    write_questions(path, texts)
    return path


@pytest.fixture
def answers(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text(
        "item,id,answer,generator\ncube,1,no,a\ncube,2,yes,a\ncube,1,yes,b\ncube,2,,b\n"
    )
    return path


def test_check_names_problems_and_what_follows(file):
    printed = call("check", file).stdout
    assert "2 questions about 1 texts" in printed and "self-parent" in printed
    assert "row 2, question '2' of 'cube': depends on itself" in printed
    content = json.loads(call("check", file, "--json").stdout)
    assert content["problems"][0]["kind"] == "self-parent" and len(content["hash"]) == 16


def test_check_counts_texts_with_cycles_of_one_question_and_of_more(tmp_path):
    """In DSG-1k 38 texts have cycles: 35 of one question, where 44 questions are, and 3 of more."""
    pairs = [("a", "1", "1"), ("a", "2", "2"), ("b", "1", "2"), ("b", "2", "1"), ("c", "1", "1")]
    write_questions(
        tmp_path / "cycles.jsonl",
        [Question(i, key, f"text {i}", f"Is it {i}{key}?", parents=(p,)) for i, key, p in pairs],
    )
    printed = call("check", tmp_path / "cycles.jsonl").stdout
    assert "3 texts have cycles: 1 of two or more questions, 2 only of questions that" in printed
    content = json.loads(call("check", tmp_path / "cycles.jsonl", "--json").stdout)
    assert content["texts_with_cycles"] == 3
    kinds = [problem["kind"] for problem in content["problems"]]
    assert kinds.count("self-parent") == 3 and kinds.count("cycle") == 1


def test_check_of_questions_that_cannot_be_used(file):
    with file.open("a") as stream:
        stream.write('{"item": "cube", "text": "a red cube", "id": "1", "question": ""}\n')
    printed = call("check", file, code=2).stdout
    assert "no-question" in printed and "repeated-id" in printed and "row 3" in printed
    assert json.loads(call("check", file, "--json", code=2).stdout)["hash"] is None


def test_score_prints_means_and_says_what_is_missing(file, answers, tmp_path):
    out = tmp_path / "scores.csv"
    done = call("score", answers, "--questions", file, "--rule", "dsg", "--out", out)
    assert "0.0000" in done.stdout and "1 missing: question '2': the answer is empty" in done.stderr
    first, second = read_table(out)
    assert (first["image"], float(first["score"]), second["score"]) == ("a", 0.0, "")
    assert second["error"] == "question '2': the answer is empty"


def test_score_as_the_originals(file, answers):
    common = ("score", answers, "--questions", file, "--rule", "tifa", "--match", "exact")
    done = call(*common, "--where", "generator=b", "--json")
    content = json.loads(done.stdout)
    assert content["means"][0]["value"] == 0.5 and content["unread"] == 1
    assert "--match exact" in done.stderr and content["by_type"] == {"entity": 1.0, "colour": 0.0}


def test_refusals(file, answers, tmp_path):
    common = ("score", answers, "--questions", file, "--rule", "dsg")
    assert "COLUMN=GLOB" in call(*common, "--where", "generator", code=2).stderr
    assert "no column 'model'" in call(*common, "--where", "model=a", code=2).stderr
    assert "ends in .csv" in call(*common, "--out", tmp_path / "a.txt", code=2).stderr
    lacking = tmp_path / "lacking.csv"
    lacking.write_text("item,answer\ncube,yes\n")
    message = call("score", lacking, "--questions", file, "--rule", "dsg", code=2).stderr
    assert "no column id or question_id" in message
