"""A key, and how it is taken out of what a service says before anything of that is kept."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

HIDDEN = "[key]"
SHORT = 5  # characters of a word such as "none" or "EMPTY", which servers without keys are sent
PIECE = 8  # characters of a key that are not kept
QUARTER = PIECE // 2
DEPTH = 3  # how often an escape may be escaped

# How protocols write a character otherwise: in an address, in JSON and in a page.
ESCAPE = re.compile(
    r"%([0-9a-fA-F]{2})|\\+u00([0-9a-fA-F]{2})|\\+x([0-9a-fA-F]{2})|(&#?\w{2,6};)|\\+(\W)"
    r"|(\\[bfnrt])",
    re.ASCII,
)
LOOKS_LIKE_ONE = re.compile(r"\b(?:sk-|AIza)(?=[\w*-]*[\d*])[\w*-]{4,}")


class Key:
    """A key that no `repr`, traceback or pickle shows by accident.

    Args:
        key: the key, or what tells it, where it changes in the course of a run.
    """

    __slots__ = ("_pieces", "reveal")

    def __init__(self, key: str | Callable[[], str]) -> None:
        self.reveal: Callable[[], str] = key if callable(key) else lambda: key
        self._pieces = _Pieces("")

    def __repr__(self) -> str:
        return "Key(hidden)"

    def shows(self, text: str) -> bool:
        """Whether a text holds the key or a piece of it, in whatever way it is written."""
        pieces = self._current()
        return bool(pieces) and any(any(pieces.within(level)) for level in _levels(text))

    def hidden(self, text: str) -> str:
        """The text without the key and its pieces; what is JSON stays so, with all its numbers."""
        if not self.shows(text):
            return text
        if text.lstrip()[:1] in ("{", "["):
            try:
                return json.dumps(self._walk(json.loads(text)), ensure_ascii=False)
            except (ValueError, RecursionError):
                pass
        return self._cut(text)

    def hidden_from(self, message: str) -> str:
        """A message without the key, or what looks like one."""
        return LOOKS_LIKE_ONE.sub(HIDDEN, self.hidden(message))

    def _current(self) -> _Pieces:
        key = self.reveal()
        if self._pieces.key != key:
            self._pieces = _Pieces(key)
        return self._pieces

    def _walk(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.hidden(value)
        if isinstance(value, list):
            return [self._walk(one) for one in value]
        if isinstance(value, dict):
            return {self.hidden(name): self._walk(one) for name, one in value.items()}
        return value

    def _cut(self, text: str) -> str:
        pieces, spans = self._current(), list[tuple[int, int]]()
        chars, places = text, [(n, n + 1) for n in range(len(text))]
        for _ in range(DEPTH + 1):
            spans += [(places[a][0], places[b - 1][1]) for a, b in pieces.within(chars)]
            chars, places = _unescaped(chars, places)
        kept, end = list[str](), 0
        for start, stop in sorted(spans):
            if start >= end:
                kept += [text[end:start], HIDDEN]
            end = max(end, stop)
        return "".join([*kept, text[end:]])


class _Pieces:
    """What must not be kept of a key."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.length = min(PIECE, len(key))
        known = len(key) > SHORT
        starts = range(len(key) - self.length + 1 if known else 0)
        self.pieces = {key[n : n + self.length] for n in starts}
        self.quarters = {piece[n : n + QUARTER] for piece in self.pieces for n in range(QUARTER)}
        self.coded = _coded(key) if known else set[str]()

    def __bool__(self) -> bool:
        return bool(self.pieces)

    def within(self, text: str) -> Iterator[tuple[int, int]]:
        """Where in a text they are."""
        length, pieces = self.length, self.pieces
        # Every whole piece holds four characters that begin at a multiple of four.
        stride, quick = (QUARTER, self.quarters) if length == PIECE else (1, None)
        last = -1
        for at in range(0, len(text), stride):
            if quick is not None and text[at : at + QUARTER] not in quick:
                continue
            for start in range(max(last + 1, at - QUARTER, 0), at + stride):
                last = start
                if text[start : start + length] in pieces:
                    yield start, start + length
        for code in self.coded:
            start = text.find(code)
            while start >= 0:
                yield start, start + len(code)
                start = text.find(code, start + 1)


def _coded(key: str) -> set[str]:
    """The key in base64, wherever in a longer text it stands: what does not depend on that."""
    found = set()
    for before in range(3):
        content = b"\0" * before + key.encode()
        clean = slice(-(-before * 8 // 6), len(content) * 8 // 6)
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(content).decode()[clean])
    return found


def _levels(text: str) -> Iterator[str]:
    """The text as it is, and as it reads where escapes are undone."""
    for _ in range(DEPTH + 1):
        yield text
        plain = ESCAPE.sub(_character, text)
        if plain == text:
            return
        text = plain


def _unescaped(text: str, places: list[tuple[int, int]]) -> tuple[str, list[tuple[int, int]]]:
    """The text without escapes, and where each of its characters comes from."""
    chars, found, end = list[str](), list[tuple[int, int]](), 0
    for match in ESCAPE.finditer(text):
        start, stop = match.span()
        chars.append(text[end:start])
        found += places[end:start]
        plain = _character(match)
        chars.append(plain)
        found += [(places[start][0], places[stop - 1][1])] * len(plain)
        end = stop
    return "".join([*chars, text[end:]]), found + places[end:]


def _character(match: re.Match[str]) -> str:
    """What an escape stands for."""
    for number in match.groups()[:3]:
        if number is not None:
            return chr(int(number, 16))
    if match[4] is not None:
        return html.unescape(match[4])
    return match[5] if match[5] is not None else "\n"
