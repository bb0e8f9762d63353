"""Make foreign names, texts and messages safe to show in terminals, charts and Markdown."""

from __future__ import annotations

import json
import re
from unicodedata import category

_ESCAPED_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_ALLOWED = "\n\t\u200c\u200d"
# The user information of a URL ends at the last "@" before the path. A password with an unescaped
# "/", "?" or "#" ends the host early for a parser, so what stands there is no host and port.
_USERINFO = re.compile(
    r"(?<=://)(?:[^\s/?#@\"'<>]*@)+"
    r"|(?<=://)[^\s/?#@:\[\"'<>]*:(?!\d{0,5}(?:[/?#\s\"'<>),;.]|\Z))[^\s@\"'<>]*@(?:[^\s/?#@\"'<>]*@)*"
)


def printable(text: object) -> str:
    r"""Escape characters that a terminal would act on or not show, as JSON does.

    These are control characters, direction marks and characters without width. Joiners, which many
    scripts need, line feeds and tabs stay.

    >>> print(printable("\x1b[31mred, \u202eback, \udce9"))
    \u001b[31mred, \u202eback, \udce9
    """
    return "".join(
        json.dumps(c)[1:-1] if c not in _ALLOWED and category(c) in _ESCAPED_CATEGORIES else c
        for c in str(text)
    )


def whole_characters(text: str) -> str:
    r"""Join the halves of characters in a text, and replace one without the other by U+FFFD.

    No file and no store holds half a character.

    >>> whole_characters("\ud83d\ude00 \ud83d")
    '😀 \ufffd'
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def redact_userinfo(text: str) -> str:
    """Replace the user and password of each URL in a text.

    Args:
        text: a URL, or a message that may hold some.

    Returns:
        The text with ``***@`` in place of ``user:password@``.

    >>> redact_userinfo("https://user:secret@example.com/@me/cat.png: status 404")
    'https://***@example.com/@me/cat.png: status 404'
    >>> redact_userinfo("http://localhost:8000/v1")
    'http://localhost:8000/v1'
    """
    return _USERINFO.sub("***@", text)
