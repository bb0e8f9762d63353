"""Make foreign names, texts and messages safe to show in terminals, charts and Markdown."""

from __future__ import annotations

import json
from unicodedata import category

_ESCAPED_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_ALLOWED = "\n\t\u200c\u200d"


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
