"""Long texts that a model was trained with, read from its authors' script, which is not run."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

from t2v_eval.errors import CheckpointError, InputError
from t2v_eval.utils.text_file import read_text


def read_constants(file: Path, names: Sequence[str]) -> list[str]:
    """Return the strings that a Python file assigns to names.

    Args:
        file: the script.
        names: of its variables.

    Raises:
        CheckpointError: it is no such script.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     script = Path(folder, "prompts.py")
    ...     _ = script.write_text("QUESTION = 'Is it a {text}?'")
    ...     read_constants(script, ["QUESTION"])
    ['Is it a {text}?']
    """
    try:
        tree = ast.parse(read_text(file))
    except (InputError, OSError, ValueError, SyntaxError, RecursionError) as error:
        raise CheckpointError(f"{file} is no Python script: {error}") from error
    texts = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }
    if missing := [name for name in names if name not in texts]:
        raise CheckpointError(f"{file} has no text called {', '.join(missing)}")
    return [texts[name] for name in names]
