"""API keys, and their redaction from text of a service before that is stored or logged."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

PLACEHOLDER = "[key]"
MAX_DUMMY_LENGTH = 5  # of a word such as "none" or "EMPTY", for servers that need no key
FRAGMENT_LENGTH = 8  # characters of a key that are redacted
ANCHOR_LENGTH = FRAGMENT_LENGTH // 2
MAX_ESCAPE_DEPTH = 3  # levels of escapes within escapes

# Escapes of a character in URLs, JSON and HTML.
ESCAPE = re.compile(
    r"%([0-9a-fA-F]{2})|\\+u00([0-9a-fA-F]{2})|\\+x([0-9a-fA-F]{2})|(&#?\w{2,6};)|\\+(\W)"
    r"|(\\[bfnrt])",
    re.ASCII,
)
KEY_PATTERN = re.compile(r"\b(?:sk-|AIza)(?=[\w*-]*[\d*])[\w*-]{4,}")


class Key:
    """A key that `repr`, tracebacks and pickles do not show.

    Args:
        key: the key, or a function that returns it, where it changes during a run.

    >>> Key("sk-0123456789").redact("invalid key sk-0123456789")
    'invalid key [key]'
    """

    __slots__ = ("_fragments", "reveal")

    def __init__(self, key: str | Callable[[], str]) -> None:
        self.reveal: Callable[[], str] = key if callable(key) else lambda: key
        self._fragments = _Fragments("")

    def __repr__(self) -> str:
        return "Key(hidden)"

    def occurs_in(self, text: str) -> bool:
        """Tell whether a text holds the key or a fragment of it, in any escaping."""
        fragments = self._current_fragments()
        return bool(fragments) and any(
            any(fragments.find_in(level)) for level in _unescaped_levels(text)
        )

    def redact(self, text: str) -> str:
        """Redact the key and its fragments; JSON stays valid JSON with the same numbers.

        Keys of 5 characters or fewer (such as "none") are not redacted.
        """
        if not self.occurs_in(text):
            return text
        if text.lstrip()[:1] in ("{", "["):
            try:
                return json.dumps(self._redact_json(json.loads(text)), ensure_ascii=False)
            except (ValueError, RecursionError):
                pass
        return self._redact_plain(text)

    def redact_message(self, message: str) -> str:
        """Redact the key, and anything that looks like a key, from a message."""
        return KEY_PATTERN.sub(PLACEHOLDER, self.redact(message))

    def _current_fragments(self) -> _Fragments:
        key = self.reveal()
        if self._fragments.key != key:
            self._fragments = _Fragments(key)
        return self._fragments

    def _redact_json(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, list):
            return [self._redact_json(item) for item in value]
        if isinstance(value, dict):
            return {self.redact(name): self._redact_json(item) for name, item in value.items()}
        return value

    def _redact_plain(self, text: str) -> str:
        fragments, spans = self._current_fragments(), list[tuple[int, int]]()
        chars, positions = text, [(n, n + 1) for n in range(len(text))]
        for _ in range(MAX_ESCAPE_DEPTH + 1):
            spans += [(positions[a][0], positions[b - 1][1]) for a, b in fragments.find_in(chars)]
            chars, positions = _unescape_with_positions(chars, positions)
        parts, end = list[str](), 0
        for start, stop in sorted(spans):
            if start >= end:
                parts += [text[end:start], PLACEHOLDER]
            end = max(end, stop)
        return "".join([*parts, text[end:]])


class _Fragments:
    """The fragments of a key to redact."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.length = min(FRAGMENT_LENGTH, len(key))
        is_secret = len(key) > MAX_DUMMY_LENGTH
        starts = range(len(key) - self.length + 1 if is_secret else 0)
        self.fragments = {key[n : n + self.length] for n in starts}
        self.anchors = {
            piece[n : n + ANCHOR_LENGTH] for piece in self.fragments for n in range(ANCHOR_LENGTH)
        }
        self.base64_forms = _base64_forms(key) if is_secret else set[str]()

    def __bool__(self) -> bool:
        return bool(self.fragments)

    def find_in(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield the spans of fragments in a text."""
        length, fragments = self.length, self.fragments
        # Every fragment of 8 contains 4 characters whose position is a multiple of 4.
        stride, quick = (ANCHOR_LENGTH, self.anchors) if length == FRAGMENT_LENGTH else (1, None)
        last = -1
        for at in range(0, len(text), stride):
            if quick is not None and text[at : at + ANCHOR_LENGTH] not in quick:
                continue
            for start in range(max(last + 1, at - ANCHOR_LENGTH, 0), at + stride):
                last = start
                if text[start : start + length] in fragments:
                    yield start, start + length
        for code in self.base64_forms:
            start = text.find(code)
            while start >= 0:
                yield start, start + len(code)
                start = text.find(code, start + 1)


def _base64_forms(key: str) -> set[str]:
    """Return the base64 forms of a key at any offset, without the characters at their ends."""
    forms = set()
    for offset in range(3):
        content = b"\0" * offset + key.encode()
        clean = slice(-(-offset * 8 // 6), len(content) * 8 // 6)
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            forms.add(encode(content).decode()[clean])
    return forms


def _unescaped_levels(text: str) -> Iterator[str]:
    """Yield the text, and the text with one more level of escapes undone each time."""
    for _ in range(MAX_ESCAPE_DEPTH + 1):
        yield text
        unescaped = ESCAPE.sub(_decode_escape, text)
        if unescaped == text:
            return
        text = unescaped


def _unescape_with_positions(
    text: str, positions: list[tuple[int, int]]
) -> tuple[str, list[tuple[int, int]]]:
    """Undo escapes; return the text and the original span of each character."""
    chars, new_positions, end = list[str](), list[tuple[int, int]](), 0
    for match in ESCAPE.finditer(text):
        start, stop = match.span()
        chars.append(text[end:start])
        new_positions += positions[end:start]
        character = _decode_escape(match)
        chars.append(character)
        new_positions += [(positions[start][0], positions[stop - 1][1])] * len(character)
        end = stop
    return "".join([*chars, text[end:]]), new_positions + positions[end:]


def _decode_escape(match: re.Match[str]) -> str:
    """Return the character that an escape stands for."""
    for code in match.groups()[:3]:
        if code is not None:
            return chr(int(code, 16))
    if match[4] is not None:
        return html.unescape(match[4])
    return match[5] if match[5] is not None else "\n"
