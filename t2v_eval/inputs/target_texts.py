"""The texts that an image should show: those in the quotes of its prompt, or those of a file.

A file is a table with the columns `prompt` and `text`, such as LongText-Bench's text_prompts.jsonl;
a `text` is one text, or in JSON a list of several.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from t2v_eval.errors import InputError, TableError
from t2v_eval.inputs.tables import read_table

# Opening marks and the marks that close each. Marks that are apostrophes too are in `_SINGLE`.
_DOUBLE = {
    '"': '"',
    "“": "”",
    "„": "“”",
    "‟": "”",
    "”": "”",
    "❝": "❞",
    "〝": "〞〟",
    "＂": "＂",
    "«": "»",
    "»": "«»",
    "‹": "›",
    "「": "」",
    "『": "』",
    "﹁": "﹂",
    "﹃": "﹄",
}
_SINGLE = {"'": "'", "‘": "’", "‚": "‘’"}
# Words that begin with an apostrophe.
_ELISIONS = r"(?:tis|twas|em|til|till|cause|bout|round|neath)\b"


def _double(mark: str, closing: str) -> str:
    """Return the pattern of a quote between marks; a mark of inches is none."""
    inner = rf"[^{closing}]" if mark in closing else rf"[^{mark}{closing}]"
    nested = rf"\\{mark}" if mark in closing else rf"{mark}[^{mark}{closing}]*[{closing}]"
    return rf"(?<!\d)(?!(?<=\d\s){mark}\s){mark}((?:{nested}|{inner})*)[{closing}]"


def _single(mark: str, closing: str) -> str:
    """Return the pattern of a quote between marks that are apostrophes, too.

    An apostrophe is within a word or at its end, on both sides of an n (rock 'n' roll), stands for
    the century of a decade ('90s), or begins a word that is known for it ('tis).
    """
    apostrophe = rf"{mark}(?:n[{closing}]\s|\d\d\b|\d\ds\b|{_ELISIONS})"
    # No other quote begins in it; an escaped mark has one reading, or many would take for ever.
    inner = rf"(?<=\s){apostrophe}|(?!\\{mark}|(?<=\s){mark}[^\s{closing}])."
    start = rf"(?<!\w){mark}(?!\d\ds\b(?![{closing}])|{_ELISIONS})(?=[^\s{mark}])"
    return rf"{start}((?:\\{mark}|{inner})+?)(?<=\S)(?<!\\)[{closing}](?!\w)"


_PATTERN = re.compile(
    "|".join(
        [
            *(_double(mark, closing) for mark, closing in _DOUBLE.items()),
            *(_single(mark, closing) for mark, closing in _SINGLE.items()),
        ]
    ),
    re.DOTALL | re.IGNORECASE,
)
_ESCAPED = re.compile(r"\\(?=[\"'])")


def quoted(prompt: str) -> tuple[str, ...]:
    """Return the texts in the quotation marks of a prompt, in order, without the marks.

    Marks are '...', "...", those of print, «...», and those of Chinese and Japanese. A quote within
    a quote is part of it, as is a mark behind a backslash. An apostrophe is no mark.

    >>> quoted("A shop's sign says 'Don't walk', a poster «OUVERT», a lamp 「営業中」")
    ("Don't walk", 'OUVERT', '営業中')
    """
    for mark in ('"', "'"):  # a program may have escaped all marks
        if not re.search(rf"(?<!\\){mark}", prompt):
            prompt = prompt.replace(f"\\{mark}", mark)
    texts = (match[match.lastindex or 0] for match in _PATTERN.finditer(prompt))
    return tuple(_ESCAPED.sub("", text).strip() for text in texts if text.strip())


class TargetTexts:
    """The texts that the images of prompts should show.

    Args:
        by_prompt: the texts of each prompt, one or more.
        name: what messages begin with, for example the file's name.

    Raises:
        InputError: a prompt has no text.

    >>> texts = TargetTexts({"a sign in the rain": ["OPEN", "7 to 9"]})
    >>> texts.of_prompt("a sign in the rain")
    ('OPEN', '7 to 9')
    """

    def __init__(
        self, by_prompt: Mapping[str, Iterable[str]], name: str = "the target texts"
    ) -> None:
        self.name = name
        self._by_prompt = {prompt: tuple(texts) for prompt, texts in by_prompt.items()}
        for prompt, texts in self._by_prompt.items():
            if not any(text.strip() for text in texts):
                raise InputError(f"{name}: no text of {prompt!r} has a letter")

    def of_prompt(self, prompt: str) -> tuple[str, ...]:
        """Return the texts that an image of a prompt should show.

        Raises:
            InputError: none are known.
        """
        try:
            return self._by_prompt[prompt]
        except KeyError:
            raise InputError(
                f"{self.name} has no text for the prompt {prompt[:60]!r} (prompts are compared "
                "exactly); add it, or take the quotes of prompts with `target='quotes'`"
            ) from None

    @property
    def hash(self) -> str:
        """A hash of all prompts and texts, 16 hexadecimal digits."""
        text = json.dumps(sorted(self._by_prompt.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_target_texts(path: str | os.PathLike[str]) -> TargetTexts:
    """Read a table of prompts and the texts that their images should show.

    Args:
        path: a file with the columns `prompt` and `text`; see the top of this module.

    Raises:
        TableError: the file cannot be read, a column is missing, or two rows say different things
            of one prompt.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "texts.jsonl")
    ...     _ = file.write_text('{"prompt": "a sign", "text": ["OPEN", "7 to 9"]}')
    ...     read_target_texts(file).of_prompt("a sign")
    ('OPEN', '7 to 9')
    """
    by_prompt: dict[str, tuple[str, ...]] = {}
    for number, row in enumerate(read_table(os.fspath(path), ("prompt", "text")), 1):
        where = f"{path}, row {number}"
        texts = texts_of(row, where)
        if by_prompt.setdefault(str(row["prompt"]), texts) != texts:
            raise TableError(f"{where}: its prompt has another text in an earlier row")
    return TargetTexts(by_prompt, str(path))


def texts_of(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Return the `text` of a row as a tuple of texts.

    Args:
        row: of a table.
        where: the row, for messages.

    Raises:
        TableError: it is no text and no list of texts, or has no letter.

    >>> texts_of({"text": "OPEN"}, "row 1"), texts_of({"text": ["OPEN", "7 to 9"]}, "row 2")
    (('OPEN',), ('OPEN', '7 to 9'))
    """
    value = row.get("text")
    listed: Sequence[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in listed) or not "".join(listed).strip():
        raise TableError(f"{where}: 'text' is {value!r}, not a text or a list of texts")
    return tuple(listed)
