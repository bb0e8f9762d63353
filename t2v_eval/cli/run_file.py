"""``t2v-eval run``: a command whose options are in a file, or the command of a report again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from t2v_eval.cli import console
from t2v_eval.errors import InputError, UnknownNameError
from t2v_eval.inputs.addresses import is_address

COMMAND = "command"  # the key that names the command; default: eval
# Options without the type of a path whose values are paths or addresses, or may be paths.
FILES = ("image_a", "image_b", "images", "pairs", "pilot", "root", "source", "table")
MAYBE_FILES = ("model", "benchmark", "checkpoint")

RunFile = Annotated[
    Path,
    typer.Argument(
        help="A .toml file with the options of a command, or a report: its folder or report.json."
    ),
]
OutFolder = Annotated[
    Path | None,
    typer.Option(
        help="Folder or file to write to, in place of the file's. A report that is repeated is "
        "written only here.",
        metavar="PATH",
    ),
]


def run_file(ctx: typer.Context, file: RunFile, out: OutFolder = None) -> None:
    """Run a command whose options are in a TOML file, or repeat the run of a report.json.

    The keys are the long options, as in `model = ["NAME", "NAME"]`; repeated options are
    lists, and `option`, `benchmark-option` and `column` tables. `command` names the command, by
    default eval. Relative paths start at the file.

    Of a report.json, its command runs again in the current folder, and writes only with --out.
    """
    root = ctx.find_root()
    group = root.command
    file = file / "report.json" if (file / "report.json").is_file() else file
    arguments = _of_report(file) if file.suffix.lower() == ".json" else _of_toml(file, group)
    if out is not None:
        arguments[1:1] = ["--out", str(out)]
        arguments = _last_out(arguments)
    debug = ["--debug"] if root.params.get("debug") else []
    with group.make_context(root.info_name, [*debug, *arguments]) as context:
        group.invoke(context)


def _last_out(arguments: Sequence[str]) -> list[str]:
    """Return arguments without any --out but the first."""
    remaining: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--out" and "--out" in remaining:
            next(words, None)
        else:
            remaining.append(word)
    return remaining


def _of_report(file: Path) -> list[str]:
    """Return the command of a report without what it wrote and without keys."""
    from t2v_eval.report.reader import read_command

    command = read_command(file)
    if not command:
        raise InputError(f"{file} holds no command: its report was made in Python")
    arguments: list[str] = []
    words = iter(command)
    for word in words:
        flag, equals, _ = word.partition("=")
        if flag == "--out":
            _ = equals or next(words, "")
        elif word.endswith("=***") and arguments and arguments[-1] == "--option":
            del arguments[-1]
            console.note(f"{flag} is a secret, which no report holds: it is read as by default")
        elif "***" in word:
            raise InputError(f"{file}: {word} is a secret, which no report holds: type the command")
        else:
            arguments.append(word)
    return arguments


def _of_toml(file: Path, group: Any) -> list[str]:
    """Return the arguments that the keys of a file stand for."""
    from t2v_eval.utils.toml import read_toml

    if not file.is_file():
        why = "a folder without report.json" if file.is_dir() else "no such file"
        raise InputError(f"{file}: {why}; pass a .toml file or a report")
    table = dict(read_toml(file))
    name = table.pop(COMMAND, "eval")
    names = sorted(
        key
        for key, command in group.commands.items()
        if not hasattr(command, "commands") and key != "run"
    )
    if name not in names:
        remedy = f"In {file}; it can be {', '.join(names)}."
        raise UnknownNameError.nearest(COMMAND, str(name), names, remedy)
    parameters = _parameters(group.commands[name])
    arguments = [name]
    positional: dict[str, list[str]] = {}
    for key, value in table.items():
        parameter = parameters.get(key.replace("_", "-"))
        if parameter is None:
            remedy = f"In {file}; `t2v-eval {name} --help` lists them."
            keys = sorted({*parameters, COMMAND})
            raise UnknownNameError.nearest(f"key of {name}", key, keys, remedy)
        words = [*_words(file, key, value, parameter)]
        if parameter.opts[0].startswith("-"):
            arguments += words
        else:
            positional[parameter.name] = words
    # In the order of the command, whatever that of the keys.
    ordered = [word for p in parameters.values() for word in positional.get(p.name, ())]
    return [*arguments, *(["--", *ordered] if ordered else [])]


def _parameters(command: Any) -> dict[str, Any]:
    """Return the parameters of a command by the names of keys."""
    parameters = {}
    for parameter in command.params:
        longest = max(parameter.opts, key=len)
        if longest not in ("--help", "--dry-run"):
            parameters[longest.lstrip("-").replace("_", "-")] = parameter
    return parameters


def _words(file: Path, key: str, value: Any, parameter: Any) -> Iterator[str]:
    """Yield the words of a command line that set a parameter."""
    flags = [max(parameter.opts, key=len)] if str(parameter.opts[0]).startswith("-") else []
    if getattr(parameter, "is_flag", False):
        if not isinstance(value, bool):
            raise InputError(f"{file}: {key} is {value!r}: write true or false")
        opposite = getattr(parameter, "secondary_opts", None)
        if value:
            yield from flags
        elif opposite:
            yield opposite[0]
        return
    if isinstance(value, bool):
        raise InputError(f"{file}: {key} is {value!r}: it takes a value, as on the command line")
    if isinstance(value, Mapping):
        for name, several in value.items():
            for entry in several if key == "column" and isinstance(several, list) else [several]:
                yield from (
                    *flags,
                    f"{name}={entry if isinstance(entry, str) else json.dumps(entry)}",
                )
        return
    several = value if isinstance(value, list) else [value]
    if len(several) > 1 and not (getattr(parameter, "multiple", False) or parameter.nargs == -1):
        raise InputError(f"{file}: {key} is a list of {len(several)}: it takes one value")
    for entry in several:
        if isinstance(entry, (dict, list)):
            raise InputError(f"{file}: {key} holds {entry!r}: write texts or numbers")
        yield from (*flags, _located(file, str(entry), parameter))


def _located(file: Path, value: str, parameter: Any) -> str:
    """Return a value, with a relative path starting at the folder of the file."""
    if value.startswith("~") or is_address(value) or Path(value).is_absolute():
        return value
    folder = file.parent
    if _takes_path(parameter) or parameter.name in FILES:
        return str(folder / value)
    if parameter.name in MAYBE_FILES:
        path, colon, rest = value.partition(":")
        if (folder / value).exists():
            return str(folder / value)
        if colon and path.endswith(".py") and (folder / path).exists():
            return f"{folder / path}:{rest}"
    return value


def _takes_path(parameter: Any) -> bool:
    """Return whether a parameter of a command is annotated as a path."""
    descriptor = getattr(parameter, "type_descriptor", None)  # of typer from 0.27 on
    if descriptor is not None:
        return "Path" in str(descriptor.annotation)
    return getattr(parameter.type, "name", "") == "path"
