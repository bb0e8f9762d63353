"""Read JSON of a service without trusting its types: any field may hold any value."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from t2v_eval.utils.printable import whole_characters

from .answer_text import reject_duplicate_keys
from .messages import ErrorInfo, TokenLogprob

MAX_MESSAGE_CHARS = 100
BOM = "\ufeff"  # some programs write it before a text in UTF-8
NOT_JSON = "the service's answer is not JSON"
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
_TOO_MANY = re.compile(r"rate.?limit|too.?many|exhausted", re.IGNORECASE)


def parse_json(text: str) -> Any:
    r"""Parse JSON; a byte order mark before it is ignored, and half a character becomes U+FFFD.

    >>> parse_json('\ufeff{"a": 1}')
    {'a': 1}
    >>> parse_json(r'"an emoji that is cut: \ud83d"')
    'an emoji that is cut: \ufffd'

    Raises:
        ValueError: the text is not valid JSON, nested too deeply, or has contradictory keys.
    """
    try:
        value = json.loads(text.removeprefix(BOM), object_pairs_hook=reject_duplicate_keys)
        if _HALF_CHARACTER.search(text) is None:
            return value
        return json.loads(whole_characters(json.dumps(value, ensure_ascii=False)))
    except RecursionError:
        raise ValueError("too deep") from None


def as_mapping(value: object) -> Mapping[str, Any]:
    """Return the value if it is a JSON object, else an empty one.

    >>> as_mapping({"a": 1}), as_mapping("a")
    ({'a': 1}, {})
    """
    return value if isinstance(value, Mapping) else {}


def as_list(value: object) -> Sequence[Any]:
    """Return the value if it is a JSON array, else an empty one.

    >>> as_list([1]), as_list("a")
    ([1], [])
    """
    return value if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Return the value if it is a string, else "".

    >>> as_text("a"), as_text(7)
    ('a', '')
    """
    return value if isinstance(value, str) else ""


def extract_message(content: object) -> str:
    """Return the message of a response without an answer, or the text of a page; may be "".

    >>> extract_message({"error": {"message": "Overloaded"}})
    'Overloaded'
    >>> extract_message("<html><p>Bad gateway</p></html>")
    'Bad gateway'
    """
    for _ in range(3):
        if isinstance(content, list):
            content = content[0] if content else ""
        if isinstance(content, Mapping):
            names = ("error", "message", "detail", "msg")
            content = next((content[name] for name in names if content.get(name)), "")
    message = content if isinstance(content, str) else ""
    printable = (
        character if character.isprintable() else " "
        for character in _MARKUP.sub(" ", message[:10_000])
    )
    return " ".join("".join(printable).split())[:MAX_MESSAGE_CHARS]


def as_number(value: object) -> float | None:
    """Return the value as a float; None if it is not a number, infinity beyond the range.

    >>> as_number(-1), as_number("-1"), as_number(10**400), as_number(True)
    (-1.0, None, inf, None)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        result = float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    return None if math.isnan(result) else result


def parse_token_logprob(row: object, logprob_field: str) -> TokenLogprob:
    """Parse a listed token.

    Args:
        row: the token and its log-probability, as JSON.
        logprob_field: the name of the field of the log-probability.

    >>> parse_token_logprob({"token": "Yes", "logprob": -0.5}, "logprob")
    TokenLogprob(token='Yes', logprob=-0.5)
    >>> parse_token_logprob({"token": "Yes", "logprob": None}, "logprob").logprob is None
    True
    """
    fields = as_mapping(row)
    token = fields.get("token")
    if not isinstance(token, str):
        try:
            token = bytes(as_list(fields.get("bytes"))).decode() or None
        except (TypeError, ValueError):
            token = None
    return TokenLogprob(token, as_number(fields.get(logprob_field)))


def parse_inner_error(content: object) -> ErrorInfo | None:
    """Return the error within a response of status 200; its status is 0 where it has none.

    >>> parse_inner_error({"choices": None, "error": {"code": 429, "message": "Slow down"}})[:2]
    (429, 'Slow down')
    >>> parse_inner_error({"error": {"code": "rate_limit_exceeded"}}).status
    429
    >>> parse_inner_error({"error": None}) is None
    True
    >>> parse_inner_error({"error": {"message": "", "code": None}}) is None  # as some proxies write
    True
    """
    if isinstance(content, list) and len(content) == 1:  # as Google words it
        content = content[0]
    outer = as_mapping(content)
    error = outer if outer.get("object") == "error" else outer.get("error")
    if not error or (isinstance(error, Mapping) and not any(error.values())):
        return None
    codes = [as_mapping(error).get(name) for name in ("code", "status", "type")]
    status = 0
    for code in codes:
        if isinstance(code, str) and re.fullmatch(r"[1-5]\d\d", code):
            code = int(code)
        if isinstance(code, int) and 400 <= code < 600:
            status = status or code
        elif isinstance(code, str) and _TOO_MANY.search(code):
            status = status or 429
    return ErrorInfo(status, extract_message({"error": error}))
