"""What images must show, by their prompt: objects, their number, colour and position.

A file has the layout of GenEval's evaluation_metadata.jsonl (Ghosh et al. 2023), an object a line:

```
{"tag": "counting", "prompt": "a photo of two dogs",
 "include": [{"class": "dog", "count": 2}], "exclude": [{"class": "dog", "count": 3}]}
```

A clause of `include` may also have a `color` and a `position`: a relation, and the number, from 0,
of the earlier clause that it is a relation to.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from t2v_eval.errors import InputError, TableError
from t2v_eval.stats.detection_rules import COLOURS, RELATIONS
from t2v_eval.utils.arguments import check_path
from t2v_eval.utils.text_file import parse_json, read_text

_EXAMPLE = '{"class": "dog", "count": 1}'


@dataclass(frozen=True, slots=True)
class Requirement:
    """What an image of a prompt must show.

    Attributes:
        prompt: the prompt.
        tag: its category; `counting` asks for more confident boxes.
        include: clauses that must hold: `class`, `count`, and perhaps `color` and `position`.
        exclude: clauses that must not: so many objects of a class, or more.

    >>> Requirement("a dog", "single_object", ({"class": "dog", "count": 1},)).classes
    ('dog',)
    """

    prompt: str
    tag: str
    include: Sequence[Mapping[str, Any]] = ()
    exclude: Sequence[Mapping[str, Any]] = ()

    @property
    def clauses(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """The clauses as `check_objects` takes them."""
        return {"include": self.include, "exclude": self.exclude}

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of all clauses, each once."""
        return tuple(dict.fromkeys(c["class"] for c in (*self.include, *self.exclude)))

    @property
    def has_colour(self) -> bool:
        """Whether a clause asks for a colour."""
        return any("color" in clause for clause in self.include)


class Requirements(Sequence[Requirement]):
    """The requirements of prompts, in order.

    Args:
        requirements: one for each prompt.
        name: what messages begin with, for example the file's name.

    Raises:
        InputError: there are none, or two that differ for the same prompt.

    >>> dog = Requirement("a dog", "single_object", ({"class": "dog", "count": 1},))
    >>> Requirements([dog]).of_prompt("a dog").tag
    'single_object'
    """

    def __init__(self, requirements: Iterable[Requirement], name: str = "requirements") -> None:
        self._requirements = tuple(requirements)
        self.name = name
        if not self._requirements:
            raise InputError(f"{name}: there are no requirements")
        self._of_prompt: dict[str, Requirement] = {}
        for requirement in self._requirements:
            if self._of_prompt.setdefault(requirement.prompt, requirement) != requirement:
                raise InputError(
                    f"{name}: the prompt {requirement.prompt!r} occurs twice, with different "
                    "clauses: keep one of them"
                )

    def __len__(self) -> int:
        """Return the number of requirements."""
        return len(self._requirements)

    def __iter__(self) -> Iterator[Requirement]:
        """Yield the requirements in order."""
        return iter(self._requirements)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        """Return a requirement, or several as a tuple."""
        return self._requirements[index]

    def of_prompt(self, prompt: str) -> Requirement:
        """Return what an image of a prompt must show.

        Raises:
            InputError: nothing is known of this prompt.
        """
        try:
            return self._of_prompt[prompt]
        except KeyError:
            raise InputError(
                f"{self.name}: nothing says what an image of {prompt!r} must show; add a line with "
                'this "prompt" and its "include" (prompts are compared exactly)'
            ) from None

    @property
    def hash(self) -> str:
        """A hash of all that the requirements say, 16 hexadecimal digits."""
        content = [[r.prompt, r.tag, *r.clauses.values()] for r in self._requirements]
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_requirements(path: str | os.PathLike[str]) -> Requirements:
    """Read what images must show.

    Args:
        path: a JSON Lines file; the top of this module says its layout. Empty lines do not count.

    Raises:
        TableError: the file cannot be read, or a line is not as it should be; the message has the
            line, the value and the remedy.

    >>> import tempfile
    >>> from pathlib import Path
    >>> line = {"tag": "colors", "prompt": "a red dog"}
    >>> line["include"] = [{"class": "dog", "count": 1, "color": "red"}]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "metadata.jsonl")
    ...     _ = file.write_text(json.dumps(line))
    ...     read_requirements(file)[0].classes
    ('dog',)
    """
    path = check_path("metadata", path)
    try:
        lines = read_text(path).split("\n")
    except FileNotFoundError:
        raise TableError(f"{path}: no such file") from None
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}") from error
    numbered = ((f"{path}, line {n}", line) for n, line in enumerate(lines, 1) if line.strip())
    requirements = [_requirement(parse_json(line, where), where) for where, line in numbered]
    if not requirements:
        raise TableError(f"{path} has no lines: write a JSON object for each prompt")
    try:
        return Requirements(requirements, str(path))
    except InputError as error:
        raise TableError(str(error)) from None


def _requirement(row: Any, where: str) -> Requirement:
    if not isinstance(row, dict):
        raise TableError(f'{where} is {type(row).__name__}, not an object with "prompt", "tag"')
    for key in ("prompt", "tag"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise TableError(f"{where}: {_value(row, key)}; write a text")
    include = _clauses(row, "include", where)
    exclude = _clauses(row, "exclude", where)
    if not include and not exclude:
        raise TableError(
            f'{where}: there is nothing to check; write "include": [{_EXAMPLE}] for the objects '
            "that an image must show"
        )
    return Requirement(row["prompt"], row["tag"], include, exclude)


def _clauses(row: Mapping[str, Any], key: str, where: str) -> tuple[Mapping[str, Any], ...]:
    listed = row.get(key, [])
    if not isinstance(listed, list):
        raise TableError(f"{where}: {_value(row, key)}; write a list such as [{_EXAMPLE}]")
    for number, clause in enumerate(listed):
        _check_clause(clause, number, f"{where}, clause {number} of {key!r}")
        if key == "exclude" and (extra := clause.keys() & {"color", "position"}):
            raise TableError(
                f"{where}, clause {number} of 'exclude': {min(extra)!r} is not checked there: "
                "leave it out"
            )
    return tuple(listed)


def _check_clause(clause: Any, number: int, where: str) -> None:
    if not isinstance(clause, dict):
        raise TableError(f"{where} is {clause!r}; write an object such as {_EXAMPLE}")
    if not isinstance(clause.get("class"), str) or not clause["class"].strip():
        raise TableError(f"{where}: {_value(clause, 'class')}; write the name of a class")
    count = clause.get("count")
    if type(count) is not int or count < 1:
        raise TableError(f"{where}: {_value(clause, 'count')}; write a whole number of 1 or more")
    if "color" in clause and clause["color"] not in COLOURS:
        raise TableError(f"{where}: {_value(clause, 'color')}; use one of {', '.join(COLOURS)}")
    if "position" not in clause:
        return
    position = clause["position"]
    if not (
        isinstance(position, list)
        and len(position) == 2
        and position[0] in RELATIONS
        and type(position[1]) is int
        and 0 <= position[1] < number
    ):
        raise TableError(
            f"{where}: {_value(clause, 'position')}; write a list of {', '.join(RELATIONS)} and "
            "the number, from 0, of an earlier clause"
        )


def _value(row: Mapping[str, Any], key: str) -> str:
    return f"{key!r} is {row[key]!r}" if key in row else f"there is no {key!r}"
