"""Run the Java programs that come with pycocoevalcap, on standard input and output.

The package's own wrappers write files beside its modules and wait for Java without a limit. Here
nothing is written, so that a read-only installation and several runs at a time work, and a program
that hangs is stopped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from t2v_eval.errors import MissingPackageError, ScoringError

TIMEOUT = 1800.0  # seconds; METEOR takes about 15 to start, and 10 for 1,000 captions


def find_java() -> str:
    """Return the path of Java: that of JAVA_HOME, or the first on the PATH.

    Raises:
        MissingPackageError: there is none.

    >>> Path(find_java()).name  # doctest: +SKIP
    'java'
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    java = java or shutil.which("java")
    if java is None:
        raise MissingPackageError(
            "there is no Java on the PATH or in JAVA_HOME: install Java 8 or newer, for example "
            "with `apt-get install default-jre-headless`"
        )
    return java


def package_folder() -> Path:
    """Return the folder of pycocoevalcap, which holds the Java archives.

    Raises:
        MissingPackageError: it is not installed.

    >>> package_folder().name  # doctest: +SKIP
    'pycocoevalcap'
    """
    spec = find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(
            "baselines of captions need the package 'pycocoevalcap': "
            "pip install 't2v-eval[captions]'"
        )
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def run_java(what: str, arguments: Sequence[str], text: str, timeout: float = TIMEOUT) -> list[str]:
    """Run Java with `text` as its input and return the lines that it prints.

    Args:
        what: what it computes, for messages.
        arguments: the arguments of Java.
        text: the standard input, written as UTF-8.
        timeout: seconds after which it is killed.

    Raises:
        MissingPackageError: there is no Java.
        ScoringError: Java cannot be started, fails, is killed, or is not done in time.

    >>> run_java("the version", ["--version"], "")[0]  # doctest: +SKIP
    'openjdk 17.0.15 2025-04-15'
    """
    command = [find_java(), "-Dfile.encoding=UTF-8", *arguments]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise ScoringError(
            f"{what}: Java was not done after {timeout:g} seconds and was stopped; pass fewer "
            "captions or a longer `timeout`"
        ) from None
    except OSError as error:
        raise ScoringError(f"{what}: {command[0]} cannot be started: {error.strerror}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["it printed nothing"]
        ended = (
            f"was killed by signal {-done.returncode}"
            if done.returncode < 0
            else f"failed with status {done.returncode}"
        )
        raise ScoringError(f"{what}: {command[0]} {ended}: {lines[0][:200]}")
    return done.stdout.decode(errors="replace").removesuffix("\n").split("\n")
