"""Read battles from a table: which of two models won, for each row.

The columns are `model_a`, `model_b` and `winner` (model_a, model_b, tie or tie (bothbad)), and
optionally `prompt`, `judge`, `image_a`, `image_b`, and `a_first` and `b_first`, the verdicts of a
judge that saw the pair in both orders. A row without a winner whose column `error` says why is left
out. Spaces around names are ignored.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from t2v_eval.errors import InputError, TableError
from t2v_eval.inputs.tables import Row, read_rows
from t2v_eval.stats.ratings.battles import OUTCOMES, Battle, fault_of

NEEDED = ("model_a", "model_b", "winner")
VERDICTS = ("a_first", "b_first")
ERROR = "error"


class BattleTable(NamedTuple):
    """The battles of a table.

    Attributes:
        battles: of each usable row, in order.
        warnings: what a reader of the ratings should know.

    >>> BattleTable([Battle("a", "b", "tie")], []).battles[0].winner
    'tie'
    """

    battles: list[Battle]
    warnings: list[str]


def read_battles(path: str | Path, columns: Mapping[str, str] | None = None) -> BattleTable:
    """Read the battles of a table in any format of `read_table`.

    Args:
        path: the table; see the top of this module.
        columns: the table's own name of a column, by the name that is read here.

    Raises:
        TableError: the table cannot be read, lacks a column, or has a row that is no battle; the
            message has the row's number, from 1 without the header.
        InputError: `columns` names a column that is not read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "battles.csv"
    ...     _ = path.write_text("model_a,model_b,winner;flux,sdxl,tie".replace(";", chr(10)))
    ...     read_battles(path).battles
    [Battle(model_a='flux', model_b='sdxl', winner='tie', prompt='', judge='', image_a='', \
image_b='', a_first='', b_first='')]
    """
    names = _column_names(columns or {})
    rows, _ = read_rows(path)
    present = dict.fromkeys(name for row in rows for name in row)
    for name in (*NEEDED, *(columns or ())):
        if names[name] not in present:
            raise TableError(
                f"{path}: there is no column {names[name]!r}; the columns are "
                f"{', '.join(map(repr, present))}. Battles have the columns model_a, model_b and "
                f"winner; `columns={{{name!r}: ...}}` names another"
            )
    battles, failed = [], 0
    for number, row in enumerate(rows, 1):
        battle = Battle(*(_cell(row, names[name], path, number) for name in Battle._fields))
        if not battle.winner and _cell(row, names[ERROR], path, number):
            failed += 1
            continue
        if reason := _fault(battle):
            raise TableError(f"{path}, row {number}: {reason}")
        battles.append(battle)
    if not battles:
        raise TableError(f"{path}: all {failed} rows are failed comparisons; no battle is left")
    warnings = [f"{failed} of {len(rows)} comparisons failed and are left out"] if failed else []
    return BattleTable(battles, warnings + similar_names(battles))


def similar_names(battles: Iterable[Battle]) -> list[str]:
    """Return a warning for each two models whose names differ in case, spaces or form alone.

    >>> similar_names([Battle("GPT-4o", "gpt-4o", "tie")])
    ["'GPT-4o' and 'gpt-4o' differ in case, spaces or form alone, and count as two models"]
    """
    models = dict.fromkeys(model for battle in battles for model in battle[:2])
    first: dict[str, str] = {}
    warnings = []
    for model in models:
        plain = "".join(unicodedata.normalize("NFKC", model).casefold().split())
        other = first.setdefault(plain, model)
        if other != model:
            warnings.append(
                f"{other!r} and {model!r} differ in case, spaces or form alone, and count as two "
                "models"
            )
    return warnings


def _column_names(columns: Mapping[str, str]) -> dict[str, str]:
    keys = (*Battle._fields, ERROR)
    for name in columns:
        if name not in keys:
            raise InputError(f"no column of battles is called {name!r}: use {', '.join(keys)}")
    return {name: columns.get(name, name) for name in keys}


def _cell(row: Row, column: str, path: str | Path, number: int) -> str:
    value: Any = row.get(column)
    if value is None or value != value:
        return ""
    if isinstance(value, (dict, list, tuple)):
        raise TableError(f"{path}, row {number}: {column!r} is {type(value).__name__}, not a text")
    return str(value).strip()


def _fault(battle: Battle) -> str:
    """Return why a row cannot be used, or ""."""
    if reason := fault_of(*battle[:3]):
        return reason
    for name in VERDICTS:
        verdict = getattr(battle, name)
        if verdict and verdict not in OUTCOMES:
            return f"{name} {verdict!r} is none of {', '.join(map(repr, OUTCOMES))}"
    return ""
