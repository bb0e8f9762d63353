"""Check the files of a checkpoint, and report damaged ones as `CheckpointError`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from t2v_eval.errors import CheckpointError, T2VError
from t2v_eval.local.dry_loading import stop_at

LARGEST_JSON = 2**28  # bytes; eight times the largest published tokenizer
POINTER = b"version https://git-lfs.github.com/spec/"
# JSON files that libraries read by themselves from a folder; each must hold an object.
DESCRIBING = re.compile(
    r"(config|generation_config|preprocessor_config|video_preprocessor_config|processor_config"
    r"|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template"
    r"|open_clip_config|med_config)\.json"
)
_LOCATED: ContextVar[list[Path] | None] = ContextVar("located", default=None)


def check_content(file: Path) -> None:
    """Check that a file is not empty and not a Git LFS pointer.

    A dry run stops here at the first file of weights.

    Raises:
        CheckpointError: it is, or it cannot be opened.

    >>> check_content(Path("nowhere") / "model.safetensors")
    Traceback (most recent call last):
        ...
    t2v_eval.errors.CheckpointError: nowhere has no model.safetensors
    """
    stop_at(file)
    try:
        with file.open("rb") as stream:
            start = stream.read(len(POINTER))
    except FileNotFoundError:
        raise CheckpointError(f"{file.parent} has no {file.name}") from None
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}") from error
    if not start:
        raise CheckpointError(f"{file} is empty: its download was not finished, so repeat it")
    if start == POINTER:
        raise CheckpointError(
            f"{file} is a Git LFS pointer, not the file itself: run `git lfs pull` in its "
            "repository, or download it again with `hf download`"
        )


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        CheckpointError: the file is missing, too large, or holds anything else.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "config.json"
    ...     _ = file.write_text('{"model_type": "clip"}')
    ...     read_json(file)
    {'model_type': 'clip'}
    """
    check_content(file)
    if (size := file.stat().st_size) > LARGEST_JSON:
        raise CheckpointError(f"{file} has {size} bytes, more than any file of its kind")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise CheckpointError(f"{file} is nested too deeply to be read") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{file} holds {_kind(content)} instead of an object with names and values"
        )
    return content


def check_descriptions(folder: Path) -> None:
    """Check the JSON files of a folder that libraries read by themselves.

    Args:
        folder: a checkpoint; one that is a file is not checked.

    Raises:
        CheckpointError: a file does not hold a JSON object.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "config.json").write_text("{}")
    ...     check_descriptions(Path(folder))
    """
    if folder.is_dir():
        for file in sorted(folder.iterdir()):
            if DESCRIBING.fullmatch(file.name) and file.is_file():
                read_json(file)


def shards(index: Path) -> list[Path]:
    """Return the weight files that an index names, in order.

    Raises:
        CheckpointError: the index is malformed, or names a file that is missing, of another kind
            or outside the checkpoint.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "1.safetensors").touch()
    ...     index = Path(folder) / "model.safetensors.index.json"
    ...     _ = index.write_text('{"weight_map": {"proj": "1.safetensors"}}')
    ...     [file.name for file in shards(index)]
    ['1.safetensors']
    """
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise CheckpointError(f"{index}: its weight_map is not a table of weights and their files")
    ending = ".safetensors" if index.name.endswith(".safetensors.index.json") else ".bin"
    for weight, name in table.items():
        if not isinstance(name, str):
            raise CheckpointError(f"{index}: the file of {weight!r} is {name!r}, which is no name")
    files = []
    for name in sorted(set(table.values())):
        file = index.parent / name
        if not _stays_inside(name) or not _is_own(file, index.parent):
            raise CheckpointError(
                f"{index} names {name!r}, which lies outside the checkpoint; put the file into "
                f"{index.parent}"
            )
        if not name.endswith(ending):
            raise CheckpointError(f"{index} names {name!r}, which is no {ending} file")
        files.append(file)
    if missing := [file.name for file in files if not file.is_file()]:
        raise CheckpointError(
            f"{index.parent}: {index.name} lists shards that are missing: {', '.join(missing)}; "
            "download them again"
        )
    return files


def _stays_inside(name: str) -> bool:
    parts = PurePosixPath(name), PureWindowsPath(name)
    return "\0" not in name and not any(p.anchor or p.drive or ".." in p.parts for p in parts)


def _is_own(file: Path, folder: Path) -> bool:
    """Return whether a file lies in the folder, or is a blob of it in the hub's cache."""
    root = folder.resolve()
    if root.parent.name == "snapshots":
        root = root.parent.parent
    try:
        return file.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a link to itself
        return False


def _kind(content: Any) -> str:
    kinds = {list: "a list", str: "a text", type(None): "null"}
    return kinds.get(type(content), "a number")


def located(path: Path) -> Path:
    """Record that the model which is being loaded reads this path, and return it.

    >>> with loading():
    ...     located(Path("folder")).name
    'folder'
    """
    paths = _LOCATED.get()
    if paths is not None:
        paths.append(path)
    return path


@contextmanager
def loading() -> Iterator[None]:
    """Convert exceptions of libraries that load a checkpoint to `CheckpointError`.

    An exception before any file of a checkpoint was located is raised unchanged.

    Raises:
        CheckpointError: the block raised after `located` was called.

    >>> with loading():
    ...     path = located(Path("folder"))
    ...     raise KeyError("vocab_size")
    Traceback (most recent call last):
        ...
    t2v_eval.errors.CheckpointError: folder cannot be loaded, KeyError: 'vocab_size'. Compare its \
files with the published ones; --debug, or the cause of this error, shows where it failed
    """
    token = _LOCATED.set([])
    try:
        yield
    except T2VError:
        raise
    except Exception as error:  # libraries raise anything for damaged files
        paths = dict.fromkeys(os.fspath(path) for path in _LOCATED.get() or ())
        if not paths:
            raise
        raise CheckpointError(
            f"{' with '.join(paths)} cannot be loaded, {type(error).__name__}: "
            f"{first_lines(error)}. Compare its files with the published ones; --debug, or the "
            "cause of this error, shows where it failed"
        ) from error
    finally:
        _LOCATED.reset(token)


def first_lines(error: BaseException, limit: int = 300) -> str:
    """Return the message of an exception, cut after `limit` characters.

    >>> first_lines(ValueError("too long a list"), limit=8)
    'too long ...'
    """
    text = " ".join(str(error).split()).rstrip(".")
    return text if len(text) <= limit else text[:limit] + " ..."
