"""Check that a TOML file of cards holds tables of names and families."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t2v_eval.errors import InputError
from t2v_eval.utils.toml import read_toml

TABLES = ("names", "families")
# No character that a glob, a terminal or a path reads in its own way.
_NAME, _FAMILY = r"\w[\w.:/@+-]*", r"\w[\w.+-]*"
_FORMS = {
    "names": "use letters, digits and . : / @ + - _",
    "families": "use letters, digits and . + - _",
}


def check_tables(table: Mapping[str, Any], file: Path) -> None:
    """Check that a file holds cards, and that each is a table.

    Args:
        table: the content of the file.
        file: its path, for messages.

    Raises:
        InputError: it does not.

    >>> check_tables({"names": {"mine": {"entry": "Mine"}}}, Path("mine.toml"))
    """
    if not any(key in table for key in TABLES):
        raise InputError(f"{file} holds no card: a card is a table [names.NAME] or [families.NAME]")
    for key, form in (("names", _NAME), ("families", _FAMILY)):
        cards = table.get(key, {})
        if not isinstance(cards, Mapping) or not all(
            isinstance(facts, Mapping) for facts in cards.values()
        ):
            raise InputError(f"{file}: {key} must hold tables, one [{key}.NAME] for each name")
        for name, facts in cards.items():
            if not re.fullmatch(form, name):
                raise InputError(f"{file}: {name!r} cannot be one of the {key}: {_FORMS[key]}")
            ends = facts.get("suffixes", table.get("suffixes", []))
            for end in ends if holds(ends, str) else ():
                if not re.fullmatch(r"\.\w[\w.-]*", end):
                    raise InputError(
                        f"{file}: {name!r} takes no ending {end!r}: it needs a full stop"
                    )


def read_refused(package: str) -> dict[str, str]:
    """Read the names that a package refuses, from a file `_refused.toml` in its folder.

    Args:
        package: an importable package.

    Returns:
        What an error says behind the name, by name.

    >>> read_refused("t2v_eval.backends")["llama-3.2-1b"]
    'reads text alone, and no images'
    """
    spec = importlib.util.find_spec(package)
    folders = (spec and spec.submodule_search_locations) or ()
    files = [file for folder in folders if (file := Path(folder, "_refused.toml")).is_file()]
    return {name: str(reason) for file in files for name, reason in read_toml(file).items()}


def holds(value: Any, kind: type) -> bool:
    """Return whether a value is a list of this type; True is not a number.

    >>> holds(["a"], str), holds([True], int)
    (True, False)
    """
    return isinstance(value, (list, tuple)) and all(type(item) is kind for item in value)
