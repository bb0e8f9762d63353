"""Read the answers that people saved: votes become battles, and ratings a table."""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from t2v_eval.errors import InputError, TableError
from t2v_eval.stats.ratings.battles import Battle
from t2v_eval.utils.arguments import check_path
from t2v_eval.votes.key import CHOICES, READER, VERSION, Key, read_object, relative_path
from t2v_eval.votes.tasks import Task

VOTER = re.compile(r"[0-9a-f]{8}")
WINNER: Mapping[str | int, str] = {
    "left": "model_a",
    "right": "model_b",
    "tie": "tie",
    "both bad": "tie (bothbad)",
}
HIGHEST_OF_DEGRADED = 2  # the highest rating of an unrecognisable image that shows attention


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of a person on a page.

    Attributes:
        file: the file that the page saved.
        person: the name that the person gave, or else a random id; no two people of a page share
            one.
        choices: what was chosen, by the id of the task.
        key: the key of the page.

    >>> from t2v_eval.votes.tasks import TaskImage
    >>> task = Task("0123456789", "0", "a cat", (TaskImage("a", "a.png", degraded=True),))
    >>> answers = Answers(Path("r.json"), "Ann", {task.id: 1}, Key("rate", "8f6c", {task.id: task}))
    >>> answers.attention, answers.passed
    (1, 1)
    """

    file: Path
    person: str
    choices: Mapping[str, str | int]
    key: Key = field(repr=False)

    @property
    def attention(self) -> int:
        """The number of attention checks that were answered."""
        return sum(self.key.tasks[id].is_attention for id in self.choices)

    @property
    def passed(self) -> int:
        """The number of attention checks that were answered as they should be."""
        return sum(
            _passes(task, choice)
            for id, choice in self.choices.items()
            if (task := self.key.tasks[id]).is_attention
        )

    @property
    def attention_share(self) -> float:
        """The share of attention checks that were passed, 0 to 1; NaN where none was answered."""
        return self.passed / self.attention if self.attention else math.nan


def read_answers(paths: Sequence[str | Path], keys: Sequence[Key]) -> list[Answers]:
    """Read the files that pages saved, one for each person and page.

    Args:
        paths: the files.
        keys: the keys of the pages, all of one kind.

    Raises:
        TableError: a file cannot be read, is of another page, or was changed: an entry names no
            task of the page or no choice, or its checksum is wrong; or two files are of one person.
            The message names the file and the entry.
    """
    files: dict[tuple[str, str], Path] = {}
    voters, people = [], []
    for path in map(Path, paths):
        voter, answers = _read_file(path, keys)
        page = answers.key.page
        if (first := files.setdefault((page, voter), path)) is not path:
            raise TableError(
                f"{path} and {first} were saved by the same person ({voter}): pass the later one"
            )
        voters.append(voter)
        people.append(answers)
    names = Counter((answers.key.page, answers.person) for answers in people)
    return [
        replace(answers, person=f"{answers.person} ({voter})")
        if names[answers.key.page, answers.person] > 1
        else answers
        for voter, answers in zip(voters, people, strict=True)
    ]


def attentive(people: Sequence[Answers], minimum: float) -> list[Answers]:
    """Return the people who passed at least this share of their attention checks.

    Who answered none is among them, since nothing speaks against them.

    Args:
        people: of `read_answers`.
        minimum: a share, 0 to 1.

    Raises:
        InputError: the share is out of its range, or nobody is left.

    >>> from t2v_eval.votes.tasks import TaskImage
    >>> task = Task("0123456789", "0", "a cat", (TaskImage("a", "a.png", degraded=True),))
    >>> key = Key("rate", "8f6cbd9ab215", {task.id: task})
    >>> people = [Answers(Path("r.json"), f"rates {n}", {task.id: n}, key) for n in (1, 5)]
    >>> [answers.person for answers in attentive(people, 0.8)]
    ['rates 1']
    """
    if not 0 <= minimum <= 1:
        raise InputError(f"`min_attention={minimum!r}`: pass a share from 0 to 1")
    remaining = [person for person in people if not person.attention_share < minimum]
    if not remaining:
        raise InputError(
            f"`min_attention={minimum!r}`: nobody passed as many attention checks; the best share "
            f"is {max(person.attention_share for person in people):.2f}"
        )
    return remaining


def battles_of(people: Sequence[Answers]) -> list[Battle]:
    """Return votes as battles, without attention checks.

    ``model_a`` was on the left, ``model_b`` on the right; ``judge`` is the person.

    Raises:
        InputError: only attention checks were answered.

    >>> from t2v_eval.votes.tasks import TaskImage
    >>> task = Task("0123456789", "0", "a cat", (TaskImage("a", "a.png"), TaskImage("b", "b.png")))
    >>> key = Key("vote", "8f6cbd9ab215", {task.id: task})
    >>> battles_of([Answers(Path("v.json"), "Ann", {task.id: "both bad"}, key)])[0].winner
    'tie (bothbad)'
    """
    battles = [
        Battle(
            model_a=task.images[0].generator,
            model_b=task.images[1].generator,
            winner=WINNER[choice],
            prompt=task.text,
            judge=answers.person,
            image_a=task.images[0].path,
            image_b=task.images[1].path,
        )
        for answers in people
        for id, choice in answers.choices.items()
        if not (task := answers.key.tasks[id]).is_attention
    ]
    if not battles:
        raise InputError("only attention checks were answered: ask people to go on")
    return battles


def ratings_of(people: Sequence[Answers], folder: Path) -> list[dict[str, Any]]:
    """Return ratings as a table: a row for each image that was rated, a column for each person.

    Args:
        people: of `read_answers`; those of one name on several pages share a column.
        folder: the folder that paths of images are relative to.

    Returns:
        Rows with the columns ``image``, ``text``, ``prompt`` (its id), ``generator`` and, for each
        person, ``rater_NAME`` with 1 to 5, or None where there is no rating.

    Raises:
        InputError: only attention checks were rated.

    >>> from t2v_eval.votes.tasks import TaskImage
    >>> task = Task("0123456789", "0", "a cat", (TaskImage("a", "a/0.png"),))
    >>> key = Key("rate", "8f6cbd9ab215", {task.id: task})
    >>> ratings_of([Answers(Path("r.json"), "Ann", {task.id: 4}, key)], Path())
    [{'image': 'a/0.png', 'text': 'a cat', 'prompt': '0', 'generator': 'a', 'rater_Ann': 4}]
    """
    keys = {answers.key.page: answers.key for answers in people}
    choices = {(answers.key.page, answers.person): answers.choices for answers in people}
    raters = dict.fromkeys(answers.person for answers in people)
    rows = []
    for page, key in keys.items():
        for id, task in key.tasks.items():
            ratings = {f"rater_{rater}": choices.get((page, rater), {}).get(id) for rater in raters}
            if task.is_attention or not any(ratings.values()):
                continue
            image = task.images[0]
            rows.append(
                {
                    "image": relative_path(image.path, folder),
                    "text": task.text,
                    "prompt": task.prompt,
                    "generator": image.generator,
                    **ratings,
                }
            )
    if not rows:
        raise InputError("only attention checks were rated: ask people to go on")
    return rows


def is_saved_answers(path: str | Path) -> bool:
    """Return whether a file looks like one that a page saved.

    >>> is_saved_answers("no-such-file.json")
    False
    """
    try:
        content = read_object(check_path("path", path))
    except TableError:
        return False
    return isinstance(content.get("answers"), list) and content.get("kind") in list(CHOICES)


def _read_file(path: Path, keys: Sequence[Key]) -> tuple[str, Answers]:
    """Return the id of the person who saved a file, and the answers.

    Raises:
        TableError: see `read_answers`.
    """
    content = read_object(check_path("paths", path))
    key = _key_of(content, path, keys)
    voter, name = content.get("voter"), content.get("name")
    if not (isinstance(voter, str) and VOTER.fullmatch(voter)) or not isinstance(name, str):
        raise TableError(f"{path}: voter {voter!r} with name {name!r} is not as the page saves it")
    choices: dict[str, str | int] = {}
    for number, entry in enumerate(content["answers"], 1):
        try:
            id, choice = _checked(entry, key, voter, choices)
        except InputError as error:
            raise TableError(
                f"{path}, answer {number}: {error}; the file was changed: save it again from the "
                "page, or delete this answer"
            ) from None
        choices[id] = choice
    if not choices:
        raise TableError(f"{path} holds no answers: nothing was answered before it was saved")
    return voter, Answers(path, " ".join(name.split()) or voter, choices, key)


def _key_of(content: Mapping[str, Any], path: Path, keys: Sequence[Key]) -> Key:
    """Return the key of the page that saved a file.

    Raises:
        TableError: no page of these keys did.
    """
    kind, page = content.get("kind"), content.get("page")
    expected = keys[0].kind
    if content.get("version") != VERSION or not isinstance(content.get("answers"), list):
        raise TableError(
            f"{path} holds no answers: pass files that the page of `t2v-eval {expected}` saved"
        )
    if kind != expected:
        reader = next((READER[name] for name in READER if name == kind), "")
        hint = f"; `{reader}` reads it, with its own key" if reader else ""
        raise TableError(f"{path} is of a page of kind {kind!r}, the key of {expected!r}{hint}")
    for key in keys:
        if key.page == page:
            return key
    raise TableError(
        f"{path} is of page {page!r}, the key of page {' or '.join(repr(k.page) for k in keys)}: "
        "pass the key.json that was written with its page"
    )


def _checked(
    entry: Any, key: Key, voter: str, earlier: Mapping[str, str | int]
) -> tuple[str, str | int]:
    """Return the task and the choice of an answer.

    Raises:
        InputError: it is not as the page saves it.
    """
    if not isinstance(entry, dict):
        raise InputError(f"{entry!r} is no JSON object")
    id, choice, check = (entry.get(name) for name in ("task", "choice", "check"))
    if not isinstance(id, str) or id not in key.tasks:
        raise InputError(f"the page has no task {id!r}")
    if id in earlier:
        raise InputError(f"task {id!r} is answered twice")
    allowed = CHOICES[key.kind]
    if type(choice) is not type(allowed[0]) or choice not in allowed:
        raise InputError(f"choice {choice!r} is none of {', '.join(map(repr, allowed))}")
    if check != f"{zlib.crc32(f'{key.page} {voter} {id} {choice}'.encode()):08x}":
        raise InputError(f"choice {choice!r} of task {id!r} does not fit its checksum {check!r}")
    return id, choice


def _passes(task: Task, choice: str | int) -> bool:
    """Return whether an attention check is answered as it should be."""
    if len(task.images) == 1:
        return int(choice) <= HIGHEST_OF_DEGRADED
    return choice == ("right" if task.images[0].degraded else "left")
