"""Read what people saved on a page of a review: the flags and notes of each image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from os.path import normpath
from pathlib import Path
from typing import Any

from t2v_eval.errors import InputError, TableError
from t2v_eval.evaluation.sampling import Sample
from t2v_eval.inputs.folders import files_in
from t2v_eval.review.flags import check_flags
from t2v_eval.review.result import Mark, ReviewedImage, ReviewResult
from t2v_eval.utils.arguments import check_path
from t2v_eval.votes.key import Key, read_key
from t2v_eval.votes.page import KEY_FILE
from t2v_eval.votes.saved import SavedFile, read_files

SAVED = "reviews-*.json"  # as pages call them


def read_review(
    files: str | Path | Sequence[str | Path],
    key: str | Path | None = None,
    confidence: float = 0.95,
) -> ReviewResult:
    """Read the reviews that people saved on one page.

    Args:
        files: the files, or the folder that holds them as ``reviews-*.json``.
        key: ``key.json`` of the page; by default the one in the folder of the first file.
        confidence: the coverage of intervals, between 0 and 1.

    Returns:
        The marks of each image that anybody reviewed, and from them rates, agreement and
        differences.

    Raises:
        InputError: there are no files, or the confidence is out of its range.
        TableError: a file or the key cannot be read, is of another page or kind, or was changed;
            the message names the file and the answer.

    >>> read_review([])
    Traceback (most recent call last):
    t2v_eval.errors.InputError: `files=[]`: pass what people saved on the page of a review, or the \
folder that holds it as reviews-*.json
    """
    if not 0 < confidence < 1:
        raise InputError(f"`confidence={confidence!r}`: pass a number between 0 and 1")
    paths = _files(files)
    for path in paths:
        if not path.exists():
            raise InputError(
                f"{path}: no such file or folder; pass what people saved on the page of a review"
            )
    key = check_path("key", key or paths[0].parent / KEY_FILE)
    content = read_key(key, "review")
    flags, sample, available = _details(content, key)
    people = read_files(paths, [content], _mark)
    return ReviewResult(
        page=content.page,
        files=tuple(map(str, paths)),
        sample=sample,
        available=available,
        flags=flags,
        raters=tuple(saved.person for saved in people),
        images=tuple(_images(content, people)),
        unseen={saved.person: len(content.tasks) - len(saved.answers) for saved in people},
        confidence=confidence,
    )


def _files(files: str | Path | Sequence[str | Path]) -> list[Path]:
    if isinstance(files, str | Path):
        path = check_path("files", files)
        paths = files_in(path, SAVED) if path.is_dir() else [path]
        if not paths:
            raise InputError(f"{path} holds no {SAVED}: put what people saved there")
        return paths
    if not files:
        raise InputError(
            f"`files=[]`: pass what people saved on the page of a review, or the folder that "
            f"holds it as {SAVED}"
        )
    return [check_path("files", file) for file in files]


def _details(key: Key, path: str | Path) -> tuple[tuple[str, ...], Sample, Mapping[str, int]]:
    """Return the flags of a page, its sample, and how many images each generator has.

    Raises:
        TableError: the key does not say them.
    """
    try:
        flags, sample = check_flags(key.details["flags"]), key.details["sample"]
        available = {str(name): int(n) for name, n in sample["available"].items()}
        return flags, Sample(sample["limit"], sample["seed"]), available
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise TableError(
            f"{path} says no flags or sample ({error}): pass the key.json that `t2v-eval review` "
            "wrote beside its page"
        ) from error


def _mark(entry: Mapping[str, Any], key: Key) -> tuple[Mark, str]:
    """Return the mark of an entry, and the text of its checksum.

    Raises:
        InputError: its flags are none of the page's, or its note is no text.
    """
    flags, note = entry.get("flags"), entry.get("note")
    allowed = key.details["flags"]
    if not isinstance(flags, list) or any(flag not in allowed for flag in flags):
        raise InputError(f"flags {flags!r} are not among {', '.join(allowed)}")
    if len(set(flags)) < len(flags):
        raise InputError(f"flags {flags!r} name one twice")
    if not isinstance(note, str):
        raise InputError(f"note {note!r} is no text")
    text = json.dumps([*flags, note], ensure_ascii=False, separators=(",", ":"))
    return Mark(tuple(flags), note), text


def _images(key: Key, people: Sequence[SavedFile[Mark]]) -> list[ReviewedImage]:
    images = []
    for task_id, task in key.tasks.items():
        marks = {
            saved.person: saved.answers[task_id] for saved in people if task_id in saved.answers
        }
        if marks:
            image = task.images[0]
            images.append(
                ReviewedImage(image.generator, normpath(image.path), task.prompt, task.text, marks)
            )
    return images
