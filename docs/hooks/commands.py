"""The page of the command line, made from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from tables import cell, table

from t2v_eval.cli.main import app

HEAD = """# Command line

This page is generated from the commands; `t2v-eval COMMAND --help` prints the same text.

`t2v-eval` reads its inputs, calls the library and prints. Results go to standard output; progress,
warnings and errors go to standard error.
"""


def commands() -> dict[str, Any]:
    """Return every command by its full name, such as ``store stats``."""
    return dict(_walk(typer.main.get_command(app), ""))


def _walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    for part, below in getattr(command, "commands", {}).items():
        full = f"{name} {part}".strip()
        if hasattr(below, "commands"):
            yield from _walk(below, full)
        else:
            yield full, below


def parameters(command: Any) -> tuple[list[Any], list[Any]]:
    """Return the arguments and the options of a command that its help shows."""
    visible = [p for p in command.params if not p.hidden and p.name != "help"]
    return (
        [p for p in visible if p.param_type_name == "argument"],
        [p for p in visible if p.param_type_name == "option"],
    )


def command_page() -> str:
    """Return the page in Markdown."""
    root = typer.main.get_command(app)
    parts = [HEAD, root.epilog, "## Global options", _options(parameters(root)[1])]
    for name, command in sorted(commands().items()):
        arguments, options = parameters(command)
        usage = " ".join(["t2v-eval", name, "[OPTIONS]", *map(_usage, arguments)])
        parts += [f"## {name}", command.help.strip(), f"```text\n{usage}\n```"]
        if arguments:
            rows = ((f"`{_metavar(p)}`", p.help or "") for p in arguments)
            parts.append("**Arguments**\n\n" + table(("argument", "description"), rows))
        parts.append("**Options**\n\n" + _options(options))
    return "\n\n".join(parts) + "\n"


def _options(options: list[Any]) -> str:
    rows = (
        (
            " ".join(f"`{name}`" for name in [*p.opts, *p.secondary_opts]),
            "" if p.is_flag else f"`{cell(_metavar(p))}`",
            _default(p),
            p.help or "",
        )
        for p in options
    )
    return table(("option", "value", "default", "description"), rows)


def _usage(argument: Any) -> str:
    name = _metavar(argument) + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _metavar(parameter: Any) -> str:
    """Return the name of a value; of an option without one, that of its type."""
    if parameter.metavar:
        return str(parameter.metavar)
    if parameter.param_type_name == "argument":
        return str(parameter.name.upper())
    if hasattr(parameter, "type_descriptor"):  # typer without click
        name = getattr(parameter.type_descriptor.annotation, "__name__", "")
    else:
        name = parameter.type.name
    return "NUMBER" if name in ("int", "integer", "float") else "NAME"


def _default(option: Any) -> str:
    if option.required:
        return "required"
    if option.is_flag or option.default is None or option.default == []:
        return ""
    return f"`{option.default}`"
