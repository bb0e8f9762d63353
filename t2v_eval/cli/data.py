"""``t2v-eval data``: what a benchmark needs, whether it is there, and fetching it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from t2v_eval.cli import console
from t2v_eval.errors import MissingDataError
from t2v_eval.registry import benchmarks


def data(
    name: Annotated[str, typer.Argument(help="A benchmark's name; see `list benchmarks`.")],
    root: Annotated[
        Path | None,
        typer.Option(help="Its folder; default: one for its name in this program's cache."),
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Download what is missing into the folder first.")
    ] = False,
) -> None:
    """Say what files a benchmark needs, fetch them where that is allowed, and check them.

    Files whose content is known are compared with its SHA-256. The exit code is 2 where something
    is missing or not as published; the message says what.
    """
    from t2v_eval.evaluation import download as files
    from t2v_eval.report.report import open_benchmark

    card = benchmarks.card(name)
    default = files.default_root(name)
    folder = root or (default if fetch or default.is_dir() else None)
    facts = {
        "what it judges": card.summary,
        "size": card.size,
        "licence": card.license,
        "paper": card.paper,
        "page": card.page,
        "to get it": card.obtain,
        "fetched from": (card.hub or card.url)
        and f"{card.hub or card.url}: {', '.join(card.files)}",
        "folder": card.page and str(folder or f"{default}, or --root DIR; not there yet"),
    }
    for what, fact in facts.items():
        if fact:
            console.show(f"{what}: {fact}")
    if folder is None and card.page:
        raise MissingDataError(f"no files of {name} are there: {card.obtain} ({card.page})")
    if folder is not None:
        if fetch:
            files.fetch(card, folder)
        if known := files.check_known(card, folder):
            console.say(f"as published: {', '.join(known)}", "green")
    console.say(f"{open_benchmark(name, folder).check()} are there", "green")
