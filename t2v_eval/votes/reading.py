"""Read the answers that people saved: votes become battles, and ratings a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t2v_eval.errors import InputError
from t2v_eval.stats.ratings.battles import Battle
from t2v_eval.votes.key import CHOICES, Key, relative_path
from t2v_eval.votes.saved import read_files
from t2v_eval.votes.tasks import Task

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
        return sum(self.key.tasks[task_id].is_attention for task_id in self.choices)

    @property
    def passed(self) -> int:
        """The number of attention checks that were answered as they should be."""
        return sum(
            _passes(task, choice)
            for task_id, choice in self.choices.items()
            if (task := self.key.tasks[task_id]).is_attention
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
        TableError: see `saved.read_files`.
    """
    return [
        Answers(saved.file, saved.person, saved.answers, saved.key)
        for saved in read_files(paths, keys, _choice)
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
        for task_id, choice in answers.choices.items()
        if not (task := answers.key.tasks[task_id]).is_attention
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
        for task_id, task in key.tasks.items():
            ratings = {
                f"rater_{rater}": choices.get((page, rater), {}).get(task_id) for rater in raters
            }
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


def _choice(entry: Mapping[str, Any], key: Key) -> tuple[str | int, str]:
    """Return the choice of an answer, and the text of its checksum.

    Raises:
        InputError: it is none that the page offers.
    """
    choice = entry.get("choice")
    allowed = CHOICES[key.kind]
    if type(choice) is not type(allowed[0]) or choice not in allowed:
        raise InputError(f"choice {choice!r} is none of {', '.join(map(repr, allowed))}")
    return choice, str(choice)


def _passes(task: Task, choice: str | int) -> bool:
    """Return whether an attention check is answered as it should be."""
    if len(task.images) == 1:
        return int(choice) <= HIGHEST_OF_DEGRADED
    return choice == ("right" if task.images[0].degraded else "left")
