"""Files of questions in the layouts of their authors: read, checked, written."""

import json

import pytest

from t2v_eval.errors import InputError, TableError, UnknownNameError
from t2v_eval.inputs.questions.files import read_questions, write_questions
from t2v_eval.inputs.questions.question import (
    ERRORS,
    TREATMENTS,
    Question,
    Questions,
    find_problems,
)

HEADER = (
    "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,"
    "question_natural_language\n"
)


def dsg_file(folder, *rows, item="cube"):
    lines = [
        f'{item},a red cube,,{key},"{on}",entity,whole,entity - whole (cube),Is it {key}?\n'
        for key, on in rows
    ]
    path = folder / "dsg.csv"
    path.write_text(HEADER + "".join(lines))
    return path


def kinds(questions):
    return [(p.question, p.kind) for p in questions.problems]


def test_dsg_zero_is_no_parent_and_lists_are_split(tmp_path):
    questions = read_questions(dsg_file(tmp_path, (1, "0"), (2, "1"), (3, "1, 2")))
    assert [q.parents for q in questions] == [(), ("1",), ("1", "2")]
    assert questions[0] == Question("cube", "1", "a red cube", "Is it 1?", type="entity - whole")
    assert not questions.problems


def test_a_dependency_that_is_no_number_leaves_its_text_without_dependencies(tmp_path):
    """As DSG's code, whose parser gives up the whole text."""
    path = dsg_file(tmp_path, (1, "0"), (2, "1"), (3, "2, ground"))
    with path.open("a") as stream:
        stream.write("other,a ball,,1,0,,,,Is there a ball?\nother,a ball,,2,1,,,,Is it red?\n")
    questions = read_questions(path)
    assert [q.parents for q in questions] == [(), (), (), (), ("1",)]
    assert kinds(questions) == [("3", "unparsable-dependency")]
    assert questions.problems[0].row == 3 and "'ground'" in questions.problems[0].message


def test_every_odd_dependency_is_named_once(tmp_path):
    path = dsg_file(tmp_path, (1, "1"), (2, "4"), (3, "9"), (4, "5"), (5, "2"))
    questions = read_questions(path)
    assert sorted(kinds(questions)) == [
        ("1", "self-parent"),
        ("2", "cycle"),
        ("2", "later-parent"),
        ("3", "missing-parent"),
        ("4", "later-parent"),
    ]
    cycle = next(p for p in questions.problems if p.kind == "cycle")
    assert cycle.message == "the cycle 2 -> 4 -> 5 -> 2"
    assert all(problem.kind in TREATMENTS for problem in questions.problems)


def test_the_first_row_of_dpg_bench_is_left_out_only_as_its_script_does(tmp_path):
    path = dsg_file(tmp_path, (1, "0"), (2, "1"))
    assert [q.id for q in read_questions(path)] == ["1", "2"]
    script = read_questions(path, layout="dpg-bench-script")
    assert [q.id for q in script] == ["2"] and kinds(script) == [("2", "missing-parent")]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"question": " "}, "no-question"),
        ({"answer": ""}, "no-answer"),
        ({"id": "1"}, "repeated-id"),
        ({"text": "another"}, "two-texts"),
        ({"weight": 0}, "bad-weight"),
    ],
)
def test_questions_that_cannot_be_used_are_errors_with_row_and_remedy(tmp_path, row, kind):
    path = tmp_path / "questions.jsonl"
    first = {"item": "cube", "text": "a cube", "id": "1", "question": "Is there a cube?"}
    second = {**first, "id": "2", "question": "Is it red?", **row}
    path.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    with pytest.raises(TableError, match="row 2, question") as raised:
        read_questions(path)
    assert ERRORS[kind] in str(raised.value) and str(path) in str(raised.value)


@pytest.mark.parametrize(
    "row",
    [{"weight": "2"}, {"parents": "1"}, {"choices": [1.5]}, {"question": ["?"]}, {"id": True}],
)
def test_values_of_the_wrong_type_are_errors_with_row_and_value(tmp_path, row):
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps({"text": "a cube", "id": "1", "question": "Is it?", **row}))
    (name,) = row
    with pytest.raises(TableError, match=f"row 1: '{name}' is"):
        read_questions(path)


def test_a_file_of_another_kind_is_refused_with_the_layouts(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("image,score\na.png,0.5\n")
    with pytest.raises(TableError, match="image, score.*\n(.*\n)*geneval2: prompt, vqa_list"):
        read_questions(path)
    with pytest.raises(UnknownNameError, match="geneval2"):
        read_questions(path, layout="geneval")


TEXTS = [
    Question("1", "1", "a red cube", "Is there a cube?", type="entity - whole"),
    Question("1", "2", "a red cube", "Is it red?", type="attribute - color", parents=("1",)),
    Question("2", "1", "zwei Bälle", "Gibt es Bälle?", type="entity - whole"),
]


def test_what_a_layout_holds_comes_back(tmp_path):
    full = [
        *TEXTS,
        Question("2", "b", "zwei Bälle", "How many?", (), "two", ("1",), "count", 2.5, "many"),
    ]
    for name, layout, questions in (
        ("ours.jsonl", "t2v-eval", full),
        ("dsg.csv", "dsg", TEXTS),
        ("tifa.json", "tifa", [Question(q.item, q.id, q.text, q.question) for q in full[:3]]),
        (
            "geneval2.jsonl",
            "geneval2",
            [
                Question(
                    "two cubes", "1", "two cubes", "How many?", (), "two", (), "count", 1.0, ""
                ),
                Question("two cubes", "2", "two cubes", "Any?", ("Yes", "No"), "Yes", (), "object"),
            ],
        ),
        (
            "anime.json",
            "oneig",
            [
                Question("anime_0", k, "", f"{k}?", ("Yes", "No"), "Yes", on, tag="anime")
                for k, on in (("1", ()), ("2", ("1",)))
            ],
        ),
    ):
        write_questions(tmp_path / name, questions, layout=layout)
        again = read_questions(tmp_path / name)
        assert list(again) == questions, layout
        assert again.hash == Questions(questions).hash


def test_the_texts_of_oneig_are_read_from_its_repository(tmp_path):
    (tmp_path / "OneIG-Bench.csv").write_text(
        "category,id,prompt_en\nPortrait,000,two people\nAnime_Stylization,000,a girl\n"
    )
    folder = tmp_path / "scripts" / "alignment" / "Q_D"
    folder.mkdir(parents=True)
    content = {"000": {"question": '{"1": "Is there a girl?"}', "dependency": '{"1": [0]}'}}
    (folder / "anime.json").write_text(json.dumps(content))
    (question,) = read_questions(folder / "anime.json")
    assert (question.text, question.item, question.parents) == ("a girl", "anime_000", ())


@pytest.mark.parametrize(
    ("question", "dependency", "message"),
    [
        ("[1]", "{}", r"row 1, question is \[1\], not an object"),
        ('{"1": "Is it?"}', '{"1": 0}', "row 1: the dependency of '1' is 0, not a list"),
    ],
)
def test_values_of_oneig_that_are_no_objects_are_errors(tmp_path, question, dependency, message):
    path = tmp_path / "anime.json"
    path.write_text(json.dumps({"000": {"question": question, "dependency": dependency}}))
    with pytest.raises(TableError, match=message):
        read_questions(path)


def test_ids_that_pandas_wrote_are_those_of_dependencies(tmp_path):
    questions = read_questions(dsg_file(tmp_path, ("1.0", "0"), ("2.0", "1")))
    assert [(q.id, q.parents) for q in questions] == [("1", ()), ("2", ("1",))]
    assert not questions.problems


def test_cycles_are_shortest_and_named_once():
    parents = {"0": ("3",), "1": ("0",), "2": ("1", "0"), "3": ("2",), "4": ("5",), "5": ("4", "3")}
    questions = [Question("1", key, "a", f"{key}?", parents=on) for key, on in parents.items()]
    cycles = [p.message for p in find_problems(questions) if p.kind == "cycle"]
    assert cycles == ["the cycle 0 -> 3 -> 2 -> 0", "the cycle 4 -> 5 -> 4"]


def test_what_a_layout_cannot_hold_is_an_error(tmp_path):
    question = Question("1", "1", "two cubes", "How many?", (), "two")
    with pytest.raises(InputError, match=r"expects 'two' of any answer.*\.jsonl"):
        write_questions(tmp_path / "a.csv", [question], layout="dsg")
    with pytest.raises(InputError, match=r"ends in \.csv"):
        write_questions(tmp_path / "a.jsonl", [question], layout="dsg")
    assert not list(tmp_path.iterdir())


def test_the_hash_changes_with_anything_that_a_question_says():
    hashes = {Questions(TEXTS).hash, Questions(TEXTS[:2]).hash}
    for change in ({"answer": "no"}, {"parents": ()}, {"weight": 2.0}, {"question": "Red?"}):
        fields = {name: getattr(TEXTS[1], name) for name in TEXTS[1].__slots__}
        hashes.add(Questions([TEXTS[0], Question(**{**fields, **change}), TEXTS[2]]).hash)
    assert len(hashes) == 6


def test_questions_are_found_by_their_text():
    questions = Questions(TEXTS)
    assert [q.id for q in questions.of_text("a red cube")] == ["1", "2"]
    with pytest.raises(InputError, match="no question about the text 'a blue cube'"):
        questions.of_text("a blue cube")
