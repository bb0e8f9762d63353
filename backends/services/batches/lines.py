"""Read the lines of a batch file from chunks of bytes, even where the file is damaged."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator

from ..json_fields import BOM

MAX_LINE_CHARS = 8 * 2**20
TOO_LONG = "?"  # replaces a longer line; not valid JSON


def iter_lines(content: Iterable[bytes], max_chars: int = MAX_LINE_CHARS) -> Iterator[str]:
    r"""Yield the lines that are not blank, from UTF-8, UTF-16 or UTF-32, without byte order marks.

    Args:
        content: the content of the file, in parts.
        max_chars: a longer line becomes `TOO_LONG`.

    >>> [*iter_lines([b'{"a": 1}', b'\n\n{"b"', b': 2}'])]
    ['{"a": 1}', '{"b": 2}']
    """
    parts, size = list[str](), 0
    for text in _decoded(content):
        for n, part in enumerate(text.split("\n")):
            if n:
                yield from _line(parts, size > max_chars)
                parts, size = [], 0
            size += len(part)
            if size <= max_chars:
                parts.append(part)
    yield from _line(parts, size > max_chars)


def _line(parts: list[str], long: bool) -> Iterator[str]:
    line = TOO_LONG if long else "".join(parts).removeprefix(BOM)
    if line.strip():
        yield line


def _decoded(content: Iterable[bytes]) -> Iterator[str]:
    """Decode a file; invalid bytes are replaced, so that the rest of their line can be read."""
    decoder: codecs.IncrementalDecoder | None = None
    head = b""
    for part in content:
        if decoder is None:
            head += part
            if len(head) < 4:  # which determine the encoding
                continue
            decoder, part = _decoder(head), head
        yield decoder.decode(part)
    if decoder is None:
        decoder = _decoder(head)
        yield decoder.decode(head)
    yield decoder.decode(b"", final=True)


def _decoder(head: bytes) -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder(json.detect_encoding(head))("replace")
