"""Reading JSON of a service, which may hold anything in any place."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .answer_text import unique
from .messages import Entry, Refusal

MOST = 100  # characters of what a service says
NOT_JSON = "the service's answer is not JSON"
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_TOO_MANY = re.compile(r"rate.?limit|too.?many|exhausted", re.IGNORECASE)


def parsed(text: str) -> Any:
    """What JSON says.

    Raises:
        ValueError: it is no JSON, too deep, or contradicts itself.
    """
    try:
        return json.loads(text, object_pairs_hook=unique)
    except RecursionError:
        raise ValueError("too deep") from None


def table(value: object) -> Mapping[str, Any]:
    """A table, or an empty one where something else stands."""
    return value if isinstance(value, Mapping) else {}


def rows(value: object) -> Sequence[Any]:
    """A list, or an empty one where something else stands."""
    return value if isinstance(value, list) else []


def text_of(value: object) -> str:
    return value if isinstance(value, str) else ""


def words(content: object) -> str:
    """What a service says where an answer should be: a message, or the text of a page; may be "".

    >>> words({"error": {"message": "Overloaded"}}), words("<html><p>Bad gateway</p></html>")
    ('Overloaded', 'Bad gateway')
    """
    for _ in range(3):
        if isinstance(content, list):
            content = content[0] if content else ""
        if isinstance(content, Mapping):
            names = ("error", "message", "detail", "msg")
            content = next((content[name] for name in names if content.get(name)), "")
    said = content if isinstance(content, str) else ""
    seen = (letter if letter.isprintable() else " " for letter in _MARKUP.sub(" ", said[:10_000]))
    return " ".join("".join(seen).split())[:MOST]


def number(value: object) -> float | None:
    """A number as it stands in JSON; None where none does. One beyond all bounds is infinite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    return None if math.isnan(found) else found


def entry(row: object, name: str) -> Entry:
    """A row of a list of likely tokens, whose log-probability is called `name`."""
    found = table(row)
    token = found.get("token")
    if not isinstance(token, str):
        try:
            token = bytes(rows(found.get("bytes"))).decode() or None
        except (TypeError, ValueError):
            token = None
    return Entry(token, number(found.get(name)))


def inner_error(content: object) -> Refusal | None:
    """The error that stands in an answer of status 200; its status is 0 where it tells none.

    >>> inner_error({"choices": None, "error": {"code": 429, "message": "Slow down"}})[:2]
    (429, 'Slow down')
    >>> inner_error({"error": {"code": "rate_limit_exceeded"}})[0], inner_error({"error": None})
    (429, None)
    """
    if isinstance(content, list) and len(content) == 1:  # as Google words it
        content = content[0]
    outer = table(content)
    error = outer if outer.get("object") == "error" else outer.get("error")
    if not error:
        return None
    told = [table(error).get(name) for name in ("code", "status", "type")]
    status = 0
    for code in told:
        if isinstance(code, str) and re.fullmatch(r"[1-5]\d\d", code):
            code = int(code)
        if isinstance(code, int) and 400 <= code < 600:
            status = status or code
        elif isinstance(code, str) and _TOO_MANY.search(code):
            status = status or 429
    return Refusal(status, words({"error": error}))
