"""Read the text files of users, in UTF-8 or in the UTF-16 and UTF-32 of other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from t2v_eval.errors import TableError
from t2v_eval.utils.regular_file import read_bytes


def decode_text(content: bytes, name: object, errors: str = "strict") -> str:
    r"""Decode a text file: UTF-8, or UTF-16 or UTF-32, with or without a byte order mark.

    Args:
        content: the file's bytes.
        name: the file's name in messages.
        errors: what happens to bytes that are no UTF-8 text, as for `bytes.decode`.

    Returns:
        The text, without byte order mark and with its own line ends.

    Raises:
        TableError: bytes are no text of the encoding; the message has the offset of the first.

    >>> decode_text(b"\xef\xbb\xbfa cat", "a.txt"), decode_text("ein Bär".encode("utf-16"), "a.txt")
    ('a cat', 'ein Bär')
    """
    encoding = json.detect_encoding(content)  # by the mark, or by where the zero bytes are
    if encoding == "utf-8":
        encoding = "utf-8-sig"
    try:
        return content.decode(encoding, errors if encoding == "utf-8-sig" else "strict")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TableError(
            f"{name} is not {encoding[:6].rstrip('-').upper()} text in line {line}, at byte "
            f"{error.start}: save it as UTF-8"
        ) from None


def read_text(path: Path) -> str:
    r"""Return the text of a regular file, with line ends as "\n".

    Raises:
        OSError: as `open_regular`.
        TableError: as `decode_text`.
    """
    text = decode_text(read_bytes(path), path)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_json(text: str, name: object) -> Any:
    """Parse JSON in which no key of an object occurs twice.

    Args:
        text: the JSON.
        name: what messages begin with, for example the file's name.

    Raises:
        TableError: it is not JSON, or a key occurs twice, of whose values only one would be read.

    >>> parse_json('{"a": [1, null]}', "a.json")
    {'a': [1, None]}
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise TableError(f"{name}: the key {twice!r} occurs twice")
        return content

    try:
        return json.loads(text, object_pairs_hook=unique)
    except TableError:
        raise
    except (ValueError, RecursionError) as error:
        raise TableError(f"{name} is not JSON: {error}") from None
