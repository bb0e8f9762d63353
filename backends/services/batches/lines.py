"""The lines of a file that a service sends bit by bit, whatever state it is in."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator

MOST = 8 * 2**20  # characters of a line
UNREAD = "?"  # in the place of a line that is longer; it is no JSON


def lines(content: Iterable[bytes], most: int = MOST) -> Iterator[str]:
    """The lines that are not blank, in whichever Unicode they are written.

    >>> [*lines([b'{"a": 1}', b'\\n\\n{"b"', b': 2}'])]
    ['{"a": 1}', '{"b": 2}']
    """
    parts, size = list[str](), 0
    for text in _decoded(content):
        for n, part in enumerate(text.split("\n")):
            if n:
                yield from _line(parts, size > most)
                parts, size = [], 0
            size += len(part)
            if size <= most:
                parts.append(part)
    yield from _line(parts, size > most)


def _line(parts: list[str], long: bool) -> Iterator[str]:
    line = UNREAD if long else "".join(parts)
    if line.strip():
        yield line


def _decoded(content: Iterable[bytes]) -> Iterator[str]:
    """The text of a file; what is no text in its coding is replaced, so that a line that holds such
    a thing can be read all the same."""
    decoder: codecs.IncrementalDecoder | None = None
    begun = b""
    for part in content:
        if decoder is None:
            begun += part
            if len(begun) < 4:  # which tell the coding
                continue
            decoder, part = _decoder(begun), begun
        yield decoder.decode(part)
    if decoder is None:
        decoder = _decoder(begun)
        yield decoder.decode(begun)
    yield decoder.decode(b"", final=True)


def _decoder(begun: bytes) -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder(json.detect_encoding(begun))("replace")
