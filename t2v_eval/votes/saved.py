"""Read the files that pages save, whatever their answers are: strictly, one for each person."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from t2v_eval.errors import InputError, TableError
from t2v_eval.utils.arguments import check_path
from t2v_eval.votes.key import READER, VERSION, Key, read_object

Answer = TypeVar("Answer")
Parser: TypeAlias = Callable[[Mapping[str, Any], Key], tuple[Answer, str]]
"""Takes an entry of a file and the key of its page, and returns the answer and the text of its \
checksum; raises InputError where the entry is not as the page saves it."""

VOTER = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class SavedFile(Generic[Answer]):
    """What a person saved on a page.

    Attributes:
        file: the file that the page saved.
        voter: eight random hexadecimal digits, by which the page tells people apart.
        person: the name that the person gave, or else `voter`; no two people of a page share one.
        answers: by the id of the task.
        key: the key of the page.

    >>> key = Key("rate", "8f6cbd9ab215", {})
    >>> SavedFile(Path("r.json"), "0123abcd", "Ann", {"0123456789": 5}, key).person
    'Ann'
    """

    file: Path
    voter: str
    person: str
    answers: Mapping[str, Answer]
    key: Key


def read_files(
    paths: Sequence[str | Path], keys: Sequence[Key], parse: Parser[Answer]
) -> list[SavedFile[Answer]]:
    """Read the files that pages saved, one for each person and page.

    Args:
        paths: the files.
        keys: the keys of the pages, all of one kind.
        parse: what reads an answer.

    Raises:
        TableError: a file cannot be read, is of another page, or was changed: an entry names no
            task of the page or is no answer, or its checksum is wrong; or two files are of one
            person. The message names the file and the entry.
    """
    files: dict[tuple[str, str], Path] = {}
    people = []
    for path in map(Path, paths):
        saved = _read_file(path, keys, parse)
        if (first := files.setdefault((saved.key.page, saved.voter), path)) is not path:
            raise TableError(
                f"{path} and {first} were saved by the same person ({saved.voter}): pass the "
                "later one"
            )
        people.append(saved)
    names = Counter((saved.key.page, saved.person) for saved in people)
    return [
        replace(saved, person=f"{saved.person} ({saved.voter})")
        if names[saved.key.page, saved.person] > 1
        else saved
        for saved in people
    ]


def is_saved_answers(path: str | Path) -> bool:
    """Return whether a file looks like one that a page saved.

    >>> is_saved_answers("no-such-file.json")
    False
    """
    try:
        content = read_object(check_path("path", path))
    except TableError:
        return False
    return isinstance(content.get("answers"), list) and content.get("kind") in list(READER)


def _read_file(path: Path, keys: Sequence[Key], parse: Parser[Answer]) -> SavedFile[Answer]:
    """Read a file.

    Raises:
        TableError: see `read_files`.
    """
    content = read_object(check_path("paths", path))
    key = _key_of(content, path, keys)
    voter, name = content.get("voter"), content.get("name")
    if not (isinstance(voter, str) and VOTER.fullmatch(voter)) or not isinstance(name, str):
        raise TableError(f"{path}: voter {voter!r} with name {name!r} is not as the page saves it")
    answers: dict[str, Answer] = {}
    for number, entry in enumerate(content["answers"], 1):
        try:
            task_id = _task_id(entry, key, answers)
            answers[task_id], signed = parse(entry, key)
            check = entry.get("check")
            if check != checksum(key.page, voter, task_id, signed):
                raise InputError(
                    f"{signed!r} of task {task_id!r} does not fit its checksum {check!r}"
                )
        except InputError as error:
            raise TableError(
                f"{path}, answer {number}: {error}; the file was changed: save it again from the "
                "page, or delete this answer"
            ) from None
    if not answers:
        raise TableError(f"{path} holds no answers: nothing was answered before it was saved")
    return SavedFile(path, voter, " ".join(name.split()) or voter, answers, key)


def checksum(page: str, voter: str, task: str, answer: str) -> str:
    """Return the CRC-32 by which an answer that was changed by mistake is noticed.

    >>> checksum("8f6cbd9ab215", "0123abcd", "0123456789", "left")
    'd4007c27'
    """
    text = f"{page} {voter} {task} {answer}"
    return f"{zlib.crc32(text.encode(errors='replace')):08x}"


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


def _task_id(entry: Any, key: Key, earlier: Mapping[str, Any]) -> str:
    """Return the id of the task of an entry.

    Raises:
        InputError: the page has no such task, or it is answered twice.
    """
    if not isinstance(entry, dict):
        raise InputError(f"{entry!r} is no JSON object")
    task_id = entry.get("task")
    if not isinstance(task_id, str) or task_id not in key.tasks:
        raise InputError(f"the page has no task {task_id!r}")
    if task_id in earlier:
        raise InputError(f"task {task_id!r} is answered twice")
    return task_id
