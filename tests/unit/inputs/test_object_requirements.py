"""Files that say what images must show: the published layout, and what is wrong in others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from t2v_eval.errors import InputError, TableError
from t2v_eval.inputs.object_requirements import Requirement, Requirements, read_requirements

PUBLISHED = Path(__file__).parents[2] / "fixtures" / "prompt_sets" / "evaluation_metadata.jsonl"
DOG = {"class": "dog", "count": 1}


def line(**fields):
    return {"tag": "t", "prompt": "a dog", "include": [DOG], **fields}


def test_lines_of_the_published_file_are_read():
    requirements = read_requirements(PUBLISHED)
    rows = [json.loads(text) for text in PUBLISHED.read_text().splitlines()]
    assert [r.prompt for r in requirements] == [row["prompt"] for row in rows]
    for requirement, row in zip(requirements, rows, strict=True):
        assert list(requirement.include) == row["include"] and requirement.tag == row["tag"]
        assert list(requirement.exclude) == row.get("exclude", [])


def test_other_line_ends_marks_and_empty_lines_change_nothing(tmp_path):
    text = json.dumps(line()) + "\r\n\r\n" + json.dumps(line(prompt="ein Bär")) + "\r\n \r\n\r\n"
    hashes = set()
    for n, content in enumerate(
        (text.encode("utf-8-sig"), text.replace("\r", "").encode(), text.encode("utf-16"))
    ):
        (tmp_path / f"{n}.jsonl").write_bytes(content)
        hashes.add(read_requirements(tmp_path / f"{n}.jsonl").hash)
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1], "line 2 is list, not an object"),
        ({"tag": "t"}, "line 2: there is no 'prompt'; write a text"),
        ({"prompt": "a dog", "include": [DOG]}, "line 2: there is no 'tag'"),
        (line(prompt=" "), "line 2: 'prompt' is ' '"),
        (line(include=[]), 'line 2: there is nothing to check; write "include"'),
        (line(include=DOG), "line 2: 'include' is {.*write a list"),
        (line(include=["dog"]), "clause 0 of 'include' is 'dog'; write an object"),
        (line(include=[{"count": 1}]), "clause 0 of 'include': there is no 'class'"),
        (line(include=[{"class": "dog"}]), "there is no 'count'; write a whole number"),
        (line(include=[{**DOG, "count": "2"}]), "'count' is '2'; write a whole number of 1"),
        (line(include=[{**DOG, "count": True}]), "'count' is True"),
        (line(include=[{**DOG, "count": 0}]), "'count' is 0"),
        (line(include=[{**DOG, "color": "grey"}]), "'color' is 'grey'; use one of red, orange"),
        (line(include=[{**DOG, "position": ["left of", 0]}]), "an earlier clause"),
        (line(include=[DOG, {**DOG, "position": ["near", 0]}]), r"'position' is \['near', 0\]"),
        (line(include=[DOG, {**DOG, "position": "left of"}]), "'position' is 'left of'; write a"),
        (line(exclude=[{**DOG, "color": "red"}]), "'color' is not checked there: leave it out"),
        (line(tag="other"), "the prompt 'a dog' occurs twice, with different clauses"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_with_the_remedy(row, message, tmp_path):
    path = tmp_path / "metadata.jsonl"
    path.write_text(f"{json.dumps(line())}\n{json.dumps(row)}\n")
    with pytest.raises(TableError, match=message) as caught:
        read_requirements(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(TableError, match="no such file"):
        read_requirements(tmp_path / "gone.jsonl")
    with pytest.raises(TableError, match="cannot be read"):
        read_requirements(tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n \n")
    with pytest.raises(TableError, match="has no lines"):
        read_requirements(tmp_path / "empty.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"tag": "t", "tag": "u"}\n')
    with pytest.raises(TableError, match="line 1: the key 'tag' occurs twice"):
        read_requirements(tmp_path / "bad.jsonl")
    with pytest.raises(InputError, match="there are no requirements"):
        Requirements([])


def test_the_hash_is_of_all_that_is_said():
    dog = Requirement("a dog", "t", (DOG,))
    others = [
        Requirement("a dog", "counting", (DOG,)),
        Requirement("a dog.", "t", (DOG,)),
        Requirement("a dog", "t", ({**DOG, "count": 2},)),
        Requirement("a dog", "t", (), (DOG,)),
    ]
    assert len({Requirements([r]).hash for r in (dog, *others)}) == 5
    assert Requirements([dog, dog]).of_prompt("a dog") is dog
