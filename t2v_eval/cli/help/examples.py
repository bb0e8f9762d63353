"""An example of each command, at the end of its --help."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from t2v_eval.utils.toml import read_toml

EXAMPLES: dict[str, str] = read_toml(Path(__file__).with_name("examples.toml"))
"""The example of each command by its name, or by its module and name."""


def help_of(docstring: str | None) -> str | None:
    r"""Return a docstring whose paragraphs are lines, so that a terminal of any width folds them.

    >>> help_of("Score images.\n\nThe columns\n    are copied.")
    'Score images.\n\nThe columns are copied.'
    """
    if docstring is None:
        return None
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(docstring))
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
