"""Read TOML files, with errors that name the file."""

from __future__ import annotations

import tomllib
from typing import Any, Protocol

from t2v_eval.errors import InputError
from t2v_eval.utils.text_file import decode_text


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
        raise InputError(f"{file} is not valid TOML: {error}") from error
