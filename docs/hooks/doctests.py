"""Extension of griffe: examples in docstrings become code blocks."""

from __future__ import annotations

import re
from typing import Any

import griffe

# A doctest: lines from one that begins with >>> to the next empty line.
EXAMPLE = re.compile(r"(?:^|(?<=\n))(?P<indent> *)>>> .*?(?=\n\s*\n|\Z)", re.DOTALL)


class Doctests(griffe.Extension):
    """Put every doctest outside an ``Examples:`` section into a fenced block."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(docstring: str) -> str:
    """Return a docstring with its doctests in fenced blocks."""
    return EXAMPLE.sub(lambda m: f"{m['indent']}```pycon\n{m[0]}\n{m['indent']}```", docstring)
