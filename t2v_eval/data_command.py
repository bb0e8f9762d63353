"""``t2v-eval data``: what a benchmark needs, whether it is there, and fetching it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from t2v_eval import console
from t2v_eval.errors import InputError
from t2v_eval.registry import benchmarks


def data(
    name: Annotated[str, typer.Argument(help="A benchmark's name; see `list benchmarks`.")],
    root: Annotated[
        Path | None, typer.Option(help="Its folder: what is in there is read and checked.")
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Download what is missing into --root first.")
    ] = False,
) -> None:
    """Say what files a benchmark needs, fetch them where that is allowed, and check them.

    The exit code is 2 where something is missing or not as published; the message says what.
    """
    card = benchmarks.card(name)
    facts = {
        "what it judges": card.summary,
        "size": card.size,
        "licence": card.license,
        "paper": card.paper,
        "page": card.page,
        "to get it": card.obtain,
        "fetched from": card.hub and f"{card.hub}: {', '.join(card.files)}",
    }
    for what, fact in facts.items():
        if fact:
            print(f"{what}: {fact}")
    if fetch and root is None:
        raise InputError("--fetch needs the folder to put files into: --root DIR")
    if root is None and card.page:
        return
    from t2v_eval import data as files
    from t2v_eval.report import open_benchmark

    if fetch and root is not None:
        files.fetch(card, root)
    console.say(f"{open_benchmark(name, root).check()} are there", "green")
