"""Files that people saved: votes become battles, ratings a table; a changed file is an error."""

import json
import zlib
from pathlib import Path

import pytest

from t2v_eval.errors import InputError, TableError
from t2v_eval.votes.key import Key
from t2v_eval.votes.reading import attentive, battles_of, ratings_of, read_answers
from t2v_eval.votes.tasks import Task, TaskImage

PAGE = "0123456789ab"


def pair(task_id, left, right, text="a cat", degraded=None):
    images = [TaskImage(g, f"{g}/0.png", k == degraded) for k, g in enumerate((left, right))]
    return Task(task_id, "7", text, tuple(images))


def single(task_id, generator, prompt="7", degraded=False):
    return Task(
        task_id, prompt, f"prompt {prompt}", (TaskImage(generator, f"{generator}.png", degraded),)
    )


VOTES = Key(
    "vote",
    PAGE,
    {
        task.id: task
        for task in (
            pair("p1", "a", "b"),
            pair("p2", "b", "a", "a dog"),
            pair("p3", "a", "c"),
            pair("p4", "c", "b"),
            pair("c1", "a", "a", degraded=0),
            pair("c2", "b", "b", degraded=1),
        )
    },
)
RATINGS = Key(
    "rate",
    PAGE,
    {
        t.id: t
        for t in (single("r1", "a"), single("r2", "b", "8"), single("c1", "a", degraded=True))
    },
)


def saved(folder, choices, by="aaaaaaaa", name="", **changes):
    """Write a file as the page does."""
    answers = [
        {
            "task": task_id,
            "choice": choice,
            "check": f"{zlib.crc32(f'{PAGE} {by} {task_id} {choice}'.encode()):08x}",
        }
        for task_id, choice in choices.items()
    ]
    content = {"version": 1, "kind": "vote", "page": PAGE, "voter": by, "name": name}
    path = folder / f"votes-{by}.json"
    path.write_text(json.dumps(content | {"answers": answers} | changes))
    return path


def test_votes_become_battles_of_what_was_left_and_right(tmp_path):
    first = saved(
        tmp_path,
        {"p1": "left", "c1": "right", "p2": "right", "p3": "tie", "p4": "both bad"},
        name=" Ann ",
    )
    second = saved(tmp_path, {"p2": "left"}, "bbbbbbbb")
    people = read_answers([first, second], [VOTES])
    assert [battle[:7] for battle in battles_of(people)] == [
        ("a", "b", "model_a", "a cat", "Ann", "a/0.png", "b/0.png"),
        ("b", "a", "model_b", "a dog", "Ann", "b/0.png", "a/0.png"),
        ("a", "c", "tie", "a cat", "Ann", "a/0.png", "c/0.png"),
        ("c", "b", "tie (bothbad)", "a cat", "Ann", "c/0.png", "b/0.png"),
        ("b", "a", "model_a", "a dog", "bbbbbbbb", "b/0.png", "a/0.png"),
    ]
    (tmp_path / "checks").mkdir()
    (person,) = read_answers([saved(tmp_path / "checks", {"c1": "right"})], [VOTES])
    with pytest.raises(InputError, match="only attention checks were answered"):
        battles_of([person])


def test_ratings_become_a_table_of_a_column_for_each_person(tmp_path):
    first = saved(tmp_path, {"r1": 4, "c1": 2, "r2": 1}, name="Ann", kind="rate")
    second = saved(tmp_path, {"r2": 5, "c1": 5}, "bbbbbbbb", kind="rate")
    people = read_answers([first, second], [RATINGS])
    assert [(p.passed, p.attention) for p in people] == [(1, 1), (0, 1)]
    assert ratings_of(people, Path("out")) == [
        {"image": "../a.png", "text": "prompt 7", "prompt": "7", "generator": "a",
         "rater_Ann": 4, "rater_bbbbbbbb": None},
        {"image": "../b.png", "text": "prompt 8", "prompt": "8", "generator": "b",
         "rater_Ann": 1, "rater_bbbbbbbb": 5},
    ]  # fmt: skip
    assert len(ratings_of(people[1:], Path())) == 1  # images that someone rated


@pytest.mark.parametrize(
    ("choice", "passed"), [("left", 1), ("right", 1), ("tie", 0), ("both bad", 0)]
)
def test_attention_is_shown_by_choosing_the_intact_image(tmp_path, choice, passed):
    (person,) = read_answers([saved(tmp_path, {"c1": choice, "c2": choice, "p1": "tie"})], [VOTES])
    assert (person.attention, person.passed) == (2, passed)


def test_people_who_passed_too_few_attention_checks_are_left_out(tmp_path):
    people = read_answers(
        [
            saved(tmp_path, {"c1": "right", "c2": "left"}, "aaaaaaaa"),
            saved(tmp_path, {"c1": "right", "c2": "right"}, "bbbbbbbb"),
            saved(tmp_path, {"c1": "left"}, "cccccccc"),
            saved(tmp_path, {"p1": "left"}, "dddddddd"),
        ],
        [VOTES],
    )
    for minimum, left in ((0, "abcd"), (0.5, "abd"), (0.51, "ad"), (1, "ad")):
        assert [person.person[0] for person in attentive(people, minimum)] == [*left]
    with pytest.raises(
        InputError, match="nobody passed as many attention checks; the best share is"
    ):
        attentive(people[1:3], 0.9)
    for minimum in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="`min_attention=.*`: pass a share from 0 to 1"):
            attentive(people, minimum)


def test_files_of_several_pages_are_read_with_their_keys(tmp_path):
    other = Key("rate", "ffffffffffff", {"r9": single("r9", "b", "9")})
    check = f"{zlib.crc32(b'ffffffffffff bbbbbbbb r9 5'):08x}"
    files = [
        saved(tmp_path, {"r1": 4}, name="Ann", kind="rate"),
        saved(
            tmp_path,
            {},
            "bbbbbbbb",
            "Ann",
            kind="rate",
            page="ffffffffffff",
            answers=[{"task": "r9", "choice": 5, "check": check}],
        ),
        saved(tmp_path, {"r2": 2}, "cccccccc", "Ben", kind="rate"),
    ]
    rows = ratings_of(read_answers(files, [RATINGS, other]), Path())
    assert [(row["prompt"], row["rater_Ann"], row["rater_Ben"]) for row in rows] == [
        ("7", 4, None),
        ("8", None, 2),
        ("9", 5, None),
    ]
    with pytest.raises(
        TableError, match="bbbbbbbb.json is of page 'ffffffffffff', the key of page"
    ):
        read_answers(files, [RATINGS])


def test_people_of_one_name_are_told_apart(tmp_path):
    files = [
        saved(tmp_path, {"p1": "left"}, "aaaaaaaa", "Ann"),
        saved(tmp_path, {"p1": "left"}, "bbbbbbbb", "Ann\n"),
        saved(tmp_path, {"p1": "left"}, "cccccccc", "dddddddd"),
        saved(tmp_path, {"p1": "left"}, "dddddddd"),
    ]
    assert [person.person for person in read_answers(files, [VOTES])] == [
        "Ann (aaaaaaaa)",
        "Ann (bbbbbbbb)",
        "dddddddd (cccccccc)",
        "dddddddd (dddddddd)",
    ]


def test_two_files_of_one_person_are_refused(tmp_path):
    (tmp_path / "more").mkdir()
    files = [saved(tmp_path, {"p1": "left"}), saved(tmp_path / "more", {"p1": "left", "p2": "tie"})]
    with pytest.raises(
        TableError, match=r"more/votes-aaaaaaaa.json and .* by the same person .*later"
    ):
        read_answers(files, [VOTES])


GOOD = {
    "task": "p1",
    "choice": "left",
    "check": f"{zlib.crc32(f'{PAGE} aaaaaaaa p1 left'.encode()):08x}",
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": [GOOD, GOOD]}, "answer 2: task 'p1' is answered twice"),
        ({"answers": [GOOD | {"task": "p9"}]}, "answer 1: the page has no task 'p9'"),
        ({"answers": [GOOD | {"task": ["p1"]}]}, r"answer 1: the page has no task \['p1'\]"),
        (
            {"answers": [GOOD | {"choice": "right"}]},
            "'right' of task 'p1' does not fit its ch",
        ),
        (
            {"answers": [GOOD | {"choice": "model_a"}]},
            "choice 'model_a' is none of 'left', 'right'",
        ),
        ({"answers": [GOOD | {"choice": 1}]}, "choice 1 is none of"),
        ({"answers": [{"task": "p1"}]}, "choice None is none of"),
        ({"answers": [GOOD, "x"]}, "answer 2: 'x' is no JSON object"),
        ({"voter": "bbbbbbbb", "answers": [GOOD]}, "does not fit its checksum"),
        ({"voter": "../etc"}, "voter '../etc' with name '' is not as the page saves it"),
        ({"name": 3}, "voter 'aaaaaaaa' with name 3"),
        (
            {"page": "ffffffffffff"},
            "is of page 'ffffffffffff', the key of page '0123456789ab': pass",
        ),
        (
            {"kind": "rate"},
            "is of a page of kind 'rate', the key of 'vote'; `t2v-eval ratings` reads",
        ),
        ({"kind": [1]}, r"is of a page of kind \[1\]"),
        ({"version": 3}, "holds no answers: pass files that the page of `t2v-eval vote` saved"),
        ({"answers": None}, "holds no answers: pass files"),
        ({"answers": []}, "nothing was answered before it was saved"),
    ],
)
def test_a_changed_file_is_an_error_that_names_file_and_answer(tmp_path, changes, message):
    path = saved(tmp_path, {"p1": "left"}, **changes)
    with pytest.raises(TableError, match=message) as raised:
        read_answers([path], [VOTES])
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("choice", [0, 6, "4", 4.0, True, None])
def test_a_rating_is_a_whole_number_from_1_to_5(tmp_path, choice):
    path = saved(tmp_path, {"r1": choice}, kind="rate")
    with pytest.raises(TableError, match="answer 1: choice .* is none of 1, 2, 3, 4, 5"):
        read_answers([path], [RATINGS])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"[1, 2]", "holds list, not a JSON object"),
        (b"\xff\xfe\x00", "text|JSON"),
        (b'{"a": 1, "a": 2}', "the key 'a' occurs twice"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_a_file_that_no_page_saved_says_so(tmp_path, content, message):
    path = tmp_path / "votes.json"
    path.write_bytes(content)
    with pytest.raises(TableError, match=message):
        read_answers([path], [VOTES])
    with pytest.raises(TableError, match="no such file"):
        read_answers([tmp_path / "none.json"], [VOTES])
    with pytest.raises(TableError, match="cannot be read"):
        read_answers([tmp_path], [VOTES])


def test_text_that_was_copied_is_read_in_the_encoding_of_an_editor(tmp_path):
    path = saved(tmp_path, {"p1": "left"}, name="Jürgen")
    path.write_bytes(json.loads(path.read_text()) and path.read_text().encode("utf-16"))
    assert read_answers([path], [VOTES])[0].person == "Jürgen"
