"""Load a scorer up to its weights, to learn which files it reads without reading gigabytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from t2v_eval.errors import CheckpointError

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")


class WeightsReachedError(CheckpointError):
    """A scorer in a dry run is about to read the weights; all files before them were in order.

    >>> try:
    ...     raise WeightsReachedError("model.safetensors")
    ... except CheckpointError as error:
    ...     print(error)
    model.safetensors
    """


@dataclass(frozen=True, slots=True)
class Request:
    """The files that a scorer asks for.

    Attributes:
        source: a hub id, or the https URL of a file.
        patterns: globs of the files of a repository.
        revision: the commit, branch or tag of a repository.

    >>> Request("org/name", ("*.json",)).revision is None
    True
    """

    source: str
    patterns: Sequence[str]
    revision: str | None = None


class Reader(Protocol):
    """Returns a folder, or a file, that stands for what is requested.

    >>> class Nowhere:
    ...     def fetch(self, request):
    ...         return Path("nowhere")
    >>> reader: Reader = Nowhere()
    """

    def fetch(self, request: Request) -> Path:
        """Return the path of what is requested; weight files may be empty."""


@dataclass(frozen=True, slots=True)
class _DryRun:
    reader: Reader | None


_DRY_RUN: ContextVar[_DryRun | None] = ContextVar("dry_run", default=None)


@contextmanager
def stopping_at_weights(reader: Reader | None = None) -> Iterator[None]:
    """Let scorers that are loaded in this context stop where they read weights.

    Args:
        reader: what provides files that are not on this machine; by default as always.

    Raises:
        WeightsReachedError: the block loads a scorer, and came to its weights.

    >>> import t2v_eval
    >>> with stopping_at_weights():  # doctest: +ELLIPSIS
    ...     t2v_eval.load("tiny-clip")
    Traceback (most recent call last):
    t2v_eval.local.dry_loading.WeightsReachedError: ...model.safetensors
    """
    token = _DRY_RUN.set(_DryRun(reader))
    try:
        yield
    finally:
        _DRY_RUN.reset(token)


def dry_reader() -> Reader | None:
    """Return what provides files in the current dry run; None outside, and where nothing does.

    >>> dry_reader() is None
    True
    """
    run = _DRY_RUN.get()
    return None if run is None else run.reader


def stop_at(file: Path) -> None:
    """Stop a dry run at a weight file.

    Raises:
        WeightsReachedError: this is a dry run, and the file one of weights.

    >>> stop_at(Path("model.safetensors"))
    """
    if _DRY_RUN.get() is not None and file.suffix in WEIGHT_SUFFIXES:
        raise WeightsReachedError(str(file))
