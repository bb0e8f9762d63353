"""``t2v-eval list``: scorers, benchmarks and templates, and the facts of each."""

from __future__ import annotations

from enum import StrEnum
from fnmatch import fnmatch
from typing import Annotated, Any

import typer

from t2v_eval.cli import console
from t2v_eval.registry import Card, Registry, benchmarks, models


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
) -> None:
    """List scorers, benchmarks or templates; with a full name, show all its facts.

    No model is loaded.
    """
    if what is Kind.templates:
        columns, rows = _template_table(pattern)
    else:
        registry = models if what is Kind.models else benchmarks
        cards = registry.cards
        if pattern in cards:
            columns = ["fact", "value"]
            rows = [[*fact] for fact in cards[pattern].described().items()]
        else:
            columns = ["name", "kind", "summary", "license", "follows"]
            matching = [cards[name] for name in registry.names(pattern, kind)]
            rows = [
                [c.name, c.kind, c.summary, c.license, getattr(c, "follows", "")] for c in matching
            ]
            rows += [
                [ends, c.kind, c.summary, "", ""] for ends, c in _files(registry, pattern, kind)
            ]
    if console.is_terminal():
        console.print_table(columns, rows)
    else:
        for row in rows:
            console.show("\t".join(cell.replace("\n", "\\n") for cell in row))


def _files(registry: Registry[Any, Any], pattern: str, kind: str) -> list[tuple[str, Card]]:
    """Return the endings of the user's files that can stand for a name, and their cards."""
    families = [card for card in registry.families if card.suffixes and fnmatch(card.kind, kind)]
    named = [(" ".join(f"*{end}" for end in card.suffixes), card) for card in families]
    return [(ends, card) for ends, card in named if fnmatch(ends, pattern)]


def _template_table(pattern: str) -> tuple[list[str], list[list[str]]]:
    from t2v_eval.inputs.template import templates, wrappers

    rows = [[t.name, "template", t.question, t.answer, t.source] for t in templates().values()]
    rows += [
        [w.name, f"wrapper, {w.option_name}=", w.text, "", w.source] for w in wrappers().values()
    ]
    rows += [
        [name, "template", "see `list models NAME`: questions", "", "differs between scorers"]
        for name in models.conventions()
    ]
    columns = ["name", "kind", "question", "answer", "source"]
    return columns, [row for row in rows if fnmatch(row[0], pattern)]
