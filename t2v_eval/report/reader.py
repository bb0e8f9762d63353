"""Read ``report.json``, also as earlier versions wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from t2v_eval.errors import InputError
from t2v_eval.utils.arguments import check_path
from t2v_eval.utils.text_file import parse_json, read_text

SCHEMA_VERSION = 2
"""The `schema_version` of reports that this version writes."""

PROTOCOL_VERSION = "protocol_version"
"""The key that the reports of protocols have, and no others."""


def read_report(path: str | Path) -> dict[str, Any]:
    """Return the content of a ``report.json`` in the form of ``report.schema.json``.

    Version 1 is converted: its ``version`` became ``schema_version``, and the ``told_apart`` of
    tested figures became ``significant``.

    Raises:
        InputError: the file cannot be read, is not a report, or has a later version.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "report.json"
    ...     _ = path.write_text('{"version": 1, "runs": [], "differences": []}')
    ...     read_report(path)
    {'schema_version': 2, 'runs': [], 'differences': []}
    """
    path = check_path("path", path)
    content = _read_json(path)
    if isinstance(content, dict) and PROTOCOL_VERSION in content:
        raise InputError(
            f"{path} is the report of `t2v-eval protocol`: pass that of `t2v-eval eval`"
        )
    version = None
    if isinstance(content, dict):
        version = content.get("schema_version", content.get("version"))
    if version not in (1, SCHEMA_VERSION):
        raise InputError(
            f"{path} has schema version {version!r}, but this version of t2v-eval reads 1 and "
            f"{SCHEMA_VERSION}: pass a report.json, and update t2v-eval if a later one wrote it"
        )
    try:
        runs, differences = content["runs"], content["differences"]
        for part in (*runs, *differences) if version == 1 else ():
            for figures in (part["metrics"], *part["by_tag"].values()):
                _rename_significant(figures)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not a report: {error!r} while its runs and differences were read; pass a "
            "report.json that t2v-eval wrote"
        ) from error
    others = {key: value for key, value in content.items() if not key.endswith("version")}
    return {"schema_version": SCHEMA_VERSION, **others}


def read_command(path: str | Path) -> list[str]:
    """Return the arguments of the command that wrote a ``report.json``; none for one of Python.

    Args:
        path: the file, of an evaluation or of a protocol.

    Raises:
        InputError: the file cannot be read, is not a report, or has a later version.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "report.json"
    ...     _ = path.write_text('{"protocol_version": 1, "command": ["protocol", "plan.toml"]}')
    ...     read_command(path)
    ['protocol', 'plan.toml']
    """
    path = check_path("path", path)
    content = _read_json(path)
    if not (isinstance(content, dict) and PROTOCOL_VERSION in content):
        content = read_report(path)
    command = content.get("command") or []
    if not isinstance(command, list):
        raise InputError(f"{path}: its command is {command!r}, and no list of arguments")
    return [str(word) for word in command]


def _read_json(path: Path) -> Any:
    try:
        return parse_json(read_text(path), path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such folder or report.json") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as a report: {error}") from error


def _rename_significant(figures: dict[str, dict[str, Any]]) -> None:
    """Rename the ``told_apart`` of version 1."""
    for figure in figures.values():
        if "told_apart" in figure:
            figure["significant"] = figure.pop("told_apart")
