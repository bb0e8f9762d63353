"""Code blocks of the documentation: find them, run them, and compare what they print.

    PYTHONPATH=. python tests/helpers/doc_blocks.py docs/tutorials/own-ratings.md ...

writes what the blocks of a page print into the ``text`` blocks that follow them. Comments that
readers do not see say what is special about the next block:

    <!-- not run: REASON -->    it needs a download or a service; its names are checked all the same
    <!-- exit N -->             its last command ends with this exit code
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
COMMENT = re.compile(r"<!-- (not run|exit)[: ]\s*(.*?) -->\s*\Z")
NUMBER = re.compile(r"\d+\.\d+(?:e[+-]?\d+)?")
HOME = "/home/you/"  # stands for the folder that a page was run in
TOLERANCE = 5e-3  # scores of the embedded models move in the third decimal between versions


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    code: str
    title: str
    not_run: bool
    exit_code: int
    span: tuple[int, int]
    indent: str

    @property
    def runs(self) -> bool:
        return self.language in ("python", "sh") and not self.title and not self.not_run


def blocks_of(text: str) -> list[Block]:
    """Find the blocks of a page."""
    result = []
    for match in FENCE.finditer(text):
        comment = COMMENT.search(text[: match.start()])
        kind, value = comment.groups() if comment else ("", "")
        result.append(
            Block(
                match["language"],
                textwrap.dedent(match["code"]),
                match["title"] or "",
                kind == "not run",
                int(value) if kind == "exit" else 0,
                match.span("code"),
                match["indent"],
            )
        )
    return result


def commands_of(block: Block) -> list[list[str]]:
    """Split a ``sh`` block into the words of its commands, without comments."""
    joined = block.code.replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in joined.splitlines()]
    return [line for line in lines if line]


def run_page(text: str, folder: Path) -> Iterator[tuple[Block, str]]:
    """Run the blocks of a page in order; yield each expected output with the actual one.

    Raises:
        AssertionError: a command ends with another exit code than the page says.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    # On a slow machine a command would print lines of progress, which pages do not show.
    never = mock.patch("t2v_eval.cli.progress.EVERY_SECONDS", 1e6)
    with contextlib.chdir(folder), _import_path(folder), never:
        for block in blocks_of(text):
            if block.title and not block.not_run:
                path = folder / block.title
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.code, encoding="utf-8")
            elif block.runs:
                printed = _run(block, namespace).replace(f"{folder}/", HOME)
            elif block.language == "text" and printed:
                yield block, printed
                printed = ""


def _run(block: Block, namespace: dict[str, Any]) -> str:
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        if block.language == "python":
            exec(compile(block.code, "<block>", "exec"), namespace)
            return stream.getvalue()
        codes = [_call(words) for words in commands_of(block)]
    assert codes[-1] == block.exit_code, (
        f"{block.code}\nended with {codes[-1]}:\n{stream.getvalue()}"
    )
    assert not any(codes[:-1]), f"{block.code}\n{stream.getvalue()}"
    return stream.getvalue()


def _call(words: list[str]) -> int:
    """Run ``t2v-eval``, ``python`` or ``cat`` in this process; return the exit code."""
    from t2v_eval.cli.main import main

    program, *arguments = [name for word in words for name in _expand(word)]
    if program == "cat":
        for path in arguments:
            print(Path(path).read_text(encoding="utf-8"), end="")
        return 0
    kept, hook = sys.argv, sys.excepthook
    sys.argv = [program, *arguments] if program == "t2v-eval" else arguments
    try:
        if program == "t2v-eval":
            main()
        elif program == "python":
            runpy.run_path(arguments[0], run_name="__main__")
        else:
            raise AssertionError(f"{program!r} is no command that pages may run")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv, sys.excepthook = kept, hook
    return 0


def _expand(word: str) -> list[str]:
    """Expand a pattern of file names, as a shell does."""
    matches = sorted(str(path) for path in Path().glob(word)) if "*" in word else []
    return matches or [word]


@contextlib.contextmanager
def _import_path(folder: Path) -> Iterator[None]:
    """Let blocks import the files of a page, and forget them afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if file.startswith(str(folder)):
                del sys.modules[name]


def same_output(expected: str, actual: str) -> bool:
    """Whether two outputs are the same but for spaces and small differences of numbers."""
    if NUMBER.sub("#", _plain(expected)) != NUMBER.sub("#", _plain(actual)):
        return False
    pairs = zip(NUMBER.findall(expected), NUMBER.findall(actual), strict=True)
    return all(abs(float(a) - float(b)) <= TOLERANCE * max(1, abs(float(a))) for a, b in pairs)


def _plain(text: str) -> str:
    return " ".join(re.sub("─+", "─", text).split())


def update(page: Path) -> None:
    """Write what the blocks of a page print into it."""
    text = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        outputs = list(run_page(text, Path(name).resolve()))
    for block, printed in reversed(outputs):
        lines = "\n".join(line.rstrip() for line in printed.strip("\n").splitlines()).strip("\n")
        start, end = block.span
        text = text[:start] + textwrap.indent(lines + "\n", block.indent) + text[end:]
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("XDG_CACHE_HOME", tempfile.mkdtemp())
    for argument in sys.argv[1:]:
        update(Path(argument))
