"""The key of a page: which generator made which image of each task."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from t2v_eval.errors import InputError, TableError
from t2v_eval.utils.arguments import check_path
from t2v_eval.utils.text_file import parse_json, read_text
from t2v_eval.votes.tasks import Task, TaskImage

VERSION = 1
HEAD = ("version", "kind", "page", "tasks")  # what every key holds

Kind: TypeAlias = Literal["vote", "rate", "review"]
CHOICES: Mapping[Kind, tuple[str | int, ...]] = {
    "vote": ("left", "right", "tie", "both bad"),
    "rate": (1, 2, 3, 4, 5),
}
"""What people may choose, by the command that wrote the page."""

READER: Mapping[Kind, str] = {
    "vote": "t2v-eval rank",
    "rate": "t2v-eval ratings",
    "review": "t2v-eval flags",
}
"""The command that reads what the page of a command saves."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a page does not say.

    Attributes:
        kind: "vote" for pairs, "rate" for single images, "review" for flags of single images.
        page: the id of the page.
        tasks: its tasks by id.
        details: what else pages of the kind say of themselves, as JSON has it.

    >>> task = Task("0123456789", "0", "a cat", (TaskImage("sdxl", "sdxl/0.png"),))
    >>> Key("rate", "8f6cbd9ab215", {task.id: task}).tasks["0123456789"].text
    'a cat'
    """

    kind: Kind
    page: str
    tasks: Mapping[str, Task]
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self, folder: Path) -> str:
        """Return it as JSON; paths are relative to `folder`, where they can be."""
        tasks = {}
        for task_id, task in self.tasks.items():
            degraded = [k for k, image in enumerate(task.images) if image.degraded]
            tasks[task_id] = {
                "prompt": task.prompt,
                "text": task.text,
                "images": [
                    {"generator": image.generator, "image": relative_path(image.path, folder)}
                    for image in task.images
                ],
            } | ({"degraded": degraded[0]} if degraded else {})
        head = {"version": VERSION, "kind": self.kind, "page": self.page}
        content = {**head, **self.details, "tasks": tasks}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def relative_path(path: str, folder: Path) -> str:
    """Return a path relative to a folder; on another drive, the whole path.

    >>> relative_path("images/a.png", Path("out"))
    '../images/a.png'
    """
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return str(Path(path).resolve())


def read_key(path: str | Path, kind: Kind | None = None) -> Key:
    """Read a key; the paths of its images are relative to the working directory, or absolute.

    Args:
        path: ``key.json`` of `t2v-eval vote`, `t2v-eval rate` or `t2v-eval review`.
        kind: the kind that the caller can use; None for any.

    Raises:
        TableError: it cannot be read, is no key, or is of the other kind.
    """
    path = check_path("path", path)
    content = read_object(path)
    try:
        if content["version"] != VERSION:
            raise InputError(f"version {content['version']!r} is not {VERSION}")
        if content["kind"] not in READER:
            raise InputError(f"kind {content['kind']!r} is none of {', '.join(READER)}")
        tasks = {
            task_id: _task(task_id, task, path.parent) for task_id, task in content["tasks"].items()
        }
        details = {name: content[name] for name in content if name not in HEAD}
        key = Key(content["kind"], str(content["page"]), tasks, details)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        why = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise TableError(
            f"{path} is no key: {why}; pass the key.json that `t2v-eval {kind or 'vote'}` "
            "wrote beside its page"
        ) from error
    if kind is not None and key.kind != kind:
        raise TableError(
            f"{path} is the key of a page of `t2v-eval {key.kind}`, whose files "
            f"`{READER[key.kind]}` reads"
        )
    return key


def _task(task_id: str, content: Mapping[str, Any], folder: Path) -> Task:
    images: Sequence[Mapping[str, str]] = content["images"]
    if len(images) not in (1, 2):
        raise InputError(f"task {task_id!r} has {len(images)} images")
    degraded = content.get("degraded")
    return Task(
        task_id,
        content["prompt"],
        content["text"],
        tuple(
            TaskImage(image["generator"], str(folder / image["image"]), k == degraded)
            for k, image in enumerate(images)
        ),
    )


def read_object(path: Path) -> Mapping[str, Any]:
    """Return the JSON object that a file holds.

    Raises:
        TableError: there is no such file, or it holds no JSON object.
    """
    try:
        content = parse_json(read_text(path), path)
    except FileNotFoundError:
        raise TableError(f"{path}: no such file") from None
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}") from error
    if not isinstance(content, dict):
        raise TableError(f"{path} holds {type(content).__name__}, not a JSON object")
    return content
