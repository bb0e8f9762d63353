"""Read TOML files, with errors that name the file."""

from __future__ import annotations

import tomllib
from typing import Any, Protocol

from t2v_eval.errors import InputError
from t2v_eval.utils.text_file import decode_text

# What to do about the errors that are met most, by how the parser's messages begin.
HINTS = {
    "Invalid value": "; a text stands in quotes",
    "Unescaped '\\'": "; write it in single quotes, where a backslash is itself",
}


class _Readable(Protocol):
    def read_bytes(self) -> bytes: ...


def read_toml(file: _Readable) -> dict[str, Any]:
    """Return the content of a TOML file or package resource.

    Args:
        file: a path, or a resource of `importlib.resources`.

    Raises:
        InputError: it is not valid TOML, or no text; the message names the file.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "card.toml"
    ...     _ = file.write_text("size = 400")
    ...     read_toml(file)
    {'size': 400}
    """
    try:
        return tomllib.loads(decode_text(file.read_bytes(), file))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        remedy = next((hint for start, hint in HINTS.items() if str(error).startswith(start)), "")
        raise InputError(f"{file} is not valid TOML: {error}{remedy}") from error
