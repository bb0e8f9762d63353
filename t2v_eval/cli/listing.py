"""``t2v-eval list``: scorers, benchmarks and templates; the facts and the options of one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from fnmatch import fnmatch
from typing import Annotated, Any

import typer

from t2v_eval.cards import Card
from t2v_eval.cli import console
from t2v_eval.cli.flags import flag_of
from t2v_eval.cli.options import AsJson
from t2v_eval.errors import InputError
from t2v_eval.registry import Registry, benchmarks, models
from t2v_eval.utils.arguments import check_path
from t2v_eval.utils.signatures import Argument, described, source_of
from t2v_eval.utils.text_file import read_text

COLUMNS = ("name", "kind", "summary", "license", "follows")
NARROW = 120  # columns of a terminal below which a list leaves out what `list models NAME` shows
_NAME = re.compile(r"(?!True|False)[A-Za-z_][\w.]*")  # of a constant, or None: no default to read
_SAME = ("card", "subset", "on_missing", "store", "on_error")  # no matter which scorer it is


class Kind(StrEnum):
    """What the command `list` can list."""

    models = "models"
    benchmarks = "benchmarks"
    templates = "templates"


def list_names(
    what: Annotated[Kind, typer.Argument(help="What to list.")],
    pattern: Annotated[
        str, typer.Argument(help="A name or a glob, for example 'hps*'; quote it in a shell.")
    ] = "*",
    kind: Annotated[
        str, typer.Option(help="Only this kind (a glob), for example vqa, clip or judge.")
    ] = "*",
    as_json: AsJson = False,
) -> None:
    """List scorers, benchmarks or templates; with a full name, show its facts and options.

    No model is loaded.
    """
    files: list[dict[str, str]] = []
    if what is Kind.templates:
        rows = _templates(pattern)
    else:
        registry: Registry[Any, Any] = models if what is Kind.models else benchmarks
        cards = registry.cards
        _check_kind(kind, what, registry)
        names = registry.names(pattern, kind)
        is_glob = bool(set(pattern) & set("*?["))
        if not is_glob and (pattern in cards or not names):
            _print_card(pattern, registry, as_json)
            return
        rows = [_row(cards[name]) for name in names]
        files = [
            {**_row(card), "name": ends, "license": ""}
            for ends, card in _files(registry, pattern, kind)
        ]
    if as_json:
        console.print_json(rows + files)
    elif not rows and not files:
        of_kind = "" if kind == "*" else f" and the kind {kind!r}"
        console.note(f"no {what.value} match {pattern!r}{of_kind}")
    else:
        _print_columns(rows)
        if files:
            console.show("\n" * bool(rows) + "files of your own")
        for row in files:  # their names are too long for a column
            console.show(f"{row['name']} ({row['kind']})")
            console.show_indented(row["summary"])


def _check_kind(kind: str, what: Kind, registry: Registry[Any, Any]) -> None:
    kinds = sorted({card.kind for card in (*registry.cards.values(), *registry.families)})
    if not any(fnmatch(known, kind) for known in kinds):
        raise InputError(f"no {what.value} are of kind {kind!r}; kinds are {', '.join(kinds)}")


def _files(registry: Registry[Any, Any], pattern: str, kind: str) -> list[tuple[str, Card]]:
    """Return the endings of the user's files that can stand for a name, and their cards."""
    families = [card for card in registry.families if card.suffixes and fnmatch(card.kind, kind)]
    named = [(" ".join(f"*{end}" for end in card.suffixes), card) for card in families]
    return [(ends, card) for ends, card in named if fnmatch(ends, pattern)]


def _row(card: Card) -> dict[str, str]:
    return {column: str(getattr(card, column, "") or "") for column in COLUMNS}


def _print_columns(rows: Sequence[dict[str, str]]) -> None:
    if not rows:
        return
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    if console.is_terminal() and console.console().width < NARROW:
        columns = columns[:3]
    console.print_aligned(columns, [[row[name] for name in columns] for row in rows])


def _templates(pattern: str) -> list[dict[str, str]]:
    from t2v_eval.inputs.template import templates, wrappers

    rows = [(t.name, "template", t.question, t.answer, t.source) for t in templates().values()]
    rows += [
        (w.name, f"wrapper, {w.option_name}=", w.text, "", w.source) for w in wrappers().values()
    ]
    rows += [
        (name, "template", "see `list models NAME`: questions", "", "differs between scorers")
        for name in models.conventions()
    ]
    columns = ("name", "kind", "question", "answer", "source")
    return [dict(zip(columns, row, strict=True)) for row in rows if fnmatch(row[0], pattern)]


def _print_card(name: str, registry: Registry[Any, Any], as_json: bool) -> None:
    """Print the facts of a card, then the options of its class with types and defaults."""
    card = registry.card(name)
    _check_file(card)
    facts, options = card.described(), _options(card)
    flags = _flags(registry)
    if as_json:
        rows = [
            {"name": key, "flag": flags(key), "type": o.type, "default": o.default, "help": o.text}
            for key, o in options.items()
        ]
        console.print_json({**facts, "options": rows})
        return
    console.print_aligned(["fact", "value"], [[*fact] for fact in facts.items()])
    if options:
        console.show("\noptions (type, default)")
    for key, option in options.items():
        default = (
            f", {option.default}" if option.default and not _NAME.fullmatch(option.default) else ""
        )
        kind = option.type.removesuffix(" | None")
        console.show(f"{flags(key)} ({kind}{default})")
        console.show_indented(option.text)


def _check_file(card: Card) -> None:
    """Check that the user's file that a card stands for is there, and defines what it names.

    Python is read and not run.
    """
    suffixes = getattr(card, "suffixes", ())
    if not suffixes:
        return
    path, _, name = card.name.rpartition(":") if ".py" in suffixes else (card.name, "", "")
    file = check_path("name", path or card.name)
    if not file.is_file():
        raise InputError(f"{file}: {'is a folder' if file.is_dir() else 'no such file'}")
    if ".py" in suffixes and not (name and re.search(rf"\b{re.escape(name)}\b", read_text(file))):
        raise InputError(f"{card.name}: name a function of the file, as {file}:FUNCTION")


def _options(card: Card) -> dict[str, Argument]:
    """Return the options of a card's class, those of its own first; no module is imported."""
    arguments = (
        None if card.file is None else described(source_of(card.file, card.module), card.entry)
    )
    options = {}
    for name, argument in reversed(list((arguments or {}).items())):
        if name in _SAME:
            continue
        default = "as above" if name in card.args else argument.default
        options[name] = Argument(argument.type, default, argument.text)
    return options


def _flags(registry: Registry[Any, Any]) -> Callable[[str], str]:
    """Return a function that says how `eval` sets an option."""
    pair = "--option" if registry is models else "--benchmark-option"
    return lambda name: flag_of(name) or f"{pair} {name}="
