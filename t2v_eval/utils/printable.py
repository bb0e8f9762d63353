"""Names, texts and messages of others, as terminals, charts and Markdown may show them."""

from __future__ import annotations

import json
from unicodedata import category

_ACTED_ON = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_FINE = "\n\t\u200c\u200d"


def printable(text: object) -> str:
    r"""The text with what a terminal would act on, or not show, spelt out as in JSON.

    Control characters, marks of direction and what has no width; not the joiners, which many
    scripts write with, and no new line or tab.

    >>> print(printable("\x1b[31mred, \u202eback, \udce9"))
    \u001b[31mred, \u202eback, \udce9
    """
    return "".join(
        json.dumps(c)[1:-1] if c not in _FINE and category(c) in _ACTED_ON else c for c in str(text)
    )
