"""Turn a table of TOML into a dataclass, with errors that name the key and what it takes."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from t2v_eval.errors import InputError, UnknownNameError

T = TypeVar("T")

DESCRIPTIONS = {
    str: "a text in quotes",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def read_table_as(
    kind: type[T], table: Mapping[str, Any], where: str, leave_out: Sequence[str] = ()
) -> T:
    """Return a dataclass whose fields are the keys of a table.

    Args:
        kind: a dataclass whose fields are texts, numbers, booleans, choices (`Literal`), tuples of
            these, dataclasses, or tuples of dataclasses; None is a key that is not there.
        table: the table.
        where: how messages begin: the file, and the table in it.
        leave_out: fields that are no keys.

    Raises:
        UnknownNameError: a key is unknown; the message names the nearest.
        InputError: a key is missing, or its value is of another type.

    >>> @dataclasses.dataclass
    ... class Size:
    ...     width: int
    >>> read_table_as(Size, {"width": 512}, "plan.toml")
    Size(width=512)
    >>> try:
    ...     read_table_as(Size, {"widht": 512}, "plan.toml")
    ... except UnknownNameError as error:
    ...     print(error)
    there is no key called 'widht'. Did you mean 'width'? In plan.toml.
    """
    hints = get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name not in leave_out}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            remedy = (
                f"In {where}." if len(fields) < 2 else f"In {where}; it takes {', '.join(fields)}."
            )
            raise UnknownNameError.nearest("key", key, fields, remedy)
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in table:
            raise InputError(
                f"{where}: the key {name} is missing: it is {_description(hints[name])}"
            )
    return kind(**{key: _value(hints[key], table[key], f"{where}: {key}") for key in table})


def _value(hint: Any, value: Any, where: str) -> Any:
    """Return a value as the type that a field has."""
    hint = _without_none(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise InputError(f"{where} is {value!r}: write a table of keys and values")
        return read_table_as(hint, value, where)
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        if not isinstance(value, list):
            raise InputError(f"{where} is {value!r}: write {_description(hint)}")
        return tuple(_value(inner, item, f"{where} {n}") for n, item in enumerate(value, 1))
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if value not in choices:
            raise InputError(f"{where} is {value!r}: write {_description(hint)}")
        return value
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        raise InputError(f"{where} is {value!r}: write {_description(hint)}")
    return value


def _description(hint: Any) -> str:
    hint = _without_none(hint)
    if get_origin(hint) is Literal:
        return " or ".join(f'"{choice}"' for choice in get_args(hint))
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        return "a list of tables" if dataclasses.is_dataclass(inner) else 'a list, as ["a", "b"]'
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        keys = ", ".join(f.name for f in dataclasses.fields(hint))
        return f"a table with the keys {keys}"
    return DESCRIPTIONS[hint]


def _without_none(hint: Any) -> Any:
    """Return a type without None, which no key can hold."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(inner for inner in get_args(hint) if inner is not type(None))
    return hint
