"""What a scorer's id says: the facts that decide its numbers, as text that is the same in each run.

Stored scores are reused by id, so that an id which says nothing, changes from run to run or cannot
be written would give wrong scores or none. `local.weights.fingerprint` hashes the weights, which
`LocalScorer.identity` adds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Protocol

from t2v_eval.errors import InputError


class HasIdentity(Protocol):
    """A scorer, or what an id needs of it.

    >>> class Own:
    ...     __module__ = "my_script"
    ...     name, store, version = "own", None, "2"
    ...
    ...     def identity(self):
    ...         return {"weights": "v1"}
    >>> Own().identity()
    {'weights': 'v1'}
    """

    @property
    def name(self) -> str:
        """Return the name it is registered under."""

    @property
    def store(self) -> object | None:
        """Return where it keeps scores; None for nowhere."""

    def identity(self) -> Mapping[str, Any]:
        """Return what decides its numbers."""


def is_ours(scorer: type) -> bool:
    """Return whether a class is one of this library.

    >>> is_ours(dict)
    False
    """
    return scorer.__module__.startswith("t2v_eval.")


def check_versioned(scorer: HasIdentity) -> None:
    """Check that a class outside this library says when its numbers change.

    A hash of its source would miss helpers, arguments and attributes.

    Raises:
        InputError: it has neither a `version` nor an `identity` of its own, or its version is not
            a text or a finite number.

    >>> class Own:
    ...     __module__ = "my_script"
    ...     name, store, version = "own", None, "2"
    ...
    ...     def identity(self):
    ...         return {"weights": "v1"}
    >>> check_versioned(Own())
    """
    cls = type(scorer)
    attributes = vars(cls)
    if is_ours(cls):
        return
    version = attributes.get("version")
    if not _is_empty(version):
        _check_version(scorer.name, cls, version)
    elif "identity" not in attributes:
        raise InputError(
            f"{scorer.name!r} has a store, but its class {cls.__qualname__} "
            "does not say when its numbers change, so the store would return scores of an "
            'older formula. Write `version = "1"` in the class and raise it with each change of '
            "what it computes, or an `identity` that names all that its numbers depend on; or "
            "use no store (`store=None`)"
        )


def encoder_id(scorer: HasIdentity) -> str:
    """Return the name of a scorer and all that decides its numbers besides the template.

    Raises:
        InputError: `identity()` returns something other than a mapping of texts to values that
            JSON can hold; it is empty and the scorer has a store; or a version is unusable.

    >>> class Own:
    ...     __module__ = "my_script"
    ...     name, store, version = "own", None, "2"
    ...
    ...     def identity(self):
    ...         return {"weights": "v1"}
    >>> encoder_id(Own())
    'own weights=v1 version=2'
    """
    facts = _facts(scorer)
    classes = [cls for cls in type(scorer).__mro__ if not is_ours(cls) and "version" in vars(cls)]
    versions = [vars(cls)["version"] for cls in classes]
    for cls, version in zip(classes, versions, strict=True):
        _check_version(scorer.name, cls, version)
    named = [f"version={'/'.join(map(str, versions))}"] if versions else []
    # A name may hold a path, and so bytes that are not UTF-8.
    name = scorer.name.encode("utf-8", "backslashreplace").decode()
    return " ".join([name, *(f"{key}={value}" for key, value in facts.items()), *named])


def _facts(scorer: HasIdentity) -> Mapping[str, Any]:
    method: object = scorer.identity
    facts: object = method() if callable(method) else method
    where = f"{scorer.name!r}: identity() of its class {type(scorer).__qualname__}"
    remedy = (
        'return a dict such as {"weights": "v1", **super().identity()}, with all that the scores '
        "depend on"
    )
    if not (isinstance(facts, Mapping) and all(isinstance(key, str) for key in facts)):
        raise InputError(f"{where} is {_short(facts)}, not a dict of texts: {remedy}")
    for key, value in facts.items():
        if reason := _unwritable(key) or _unwritable(value):
            raise InputError(
                f"{where} has {_short(key)}: {_short(value)}, {reason}, so its id would not be "
                "the same in each run or could not be stored: write texts and finite numbers"
            )
    if not facts and scorer.store is not None:
        raise InputError(
            f"{where} is empty, so scores of other weights or formulas would be reused: {remedy}; "
            "or keep no scores (`store=None`)"
        )
    return facts


def _check_version(name: str, cls: type, version: object) -> None:
    if isinstance(version, str) or version is None:
        reason = _unwritable(version)
    elif isinstance(version, bool) or not isinstance(version, (int, float)):
        reason = "which is no text or number"
    else:
        reason = "" if math.isfinite(version) else "which is no finite number"
    if reason:
        raise InputError(
            f"{name!r}: the version of its class {cls.__qualname__} is {_short(version)}, "
            f'{reason}: write `version = "1"` in the class, or keep no scores (`store=None`)'
        )


def _is_empty(version: object) -> bool:
    return version is None or (isinstance(version, str) and not version)


def _unwritable(value: object) -> str:
    """Return why a value cannot be part of an id, or ""."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        return "which has a lone surrogate, half of a character"
    except (TypeError, ValueError, RecursionError):
        return "which JSON cannot hold"
    return ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
