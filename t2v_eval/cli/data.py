"""``t2v-eval data``: the files of a benchmark, how to get them, and whether they are intact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from t2v_eval.cli import console
from t2v_eval.cli.help.completion import benchmark_names
from t2v_eval.cli.options import AsJson
from t2v_eval.errors import MissingDataError
from t2v_eval.registry import benchmarks, models


def data(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of a benchmark, or of a scorer whose questions are read from its authors' "
            "script; `list benchmarks` and `list models` show them.",
            autocompletion=benchmark_names,
        ),
    ],
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder of its files; default: one of its name in your cache folder.",
            metavar="DIR",
        ),
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Download missing files into the folder first.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show which files a benchmark needs, download them where their licence allows it, check them.

    Files with a known SHA-256 are compared with it. The exit code is 2 if a file is missing or
    differs from the published one.
    """
    from t2v_eval.evaluation import download as files
    from t2v_eval.evaluation.options import BenchmarkOptions
    from t2v_eval.evaluation.selection import first_few

    if name in models.cards and name not in benchmarks.cards:
        _of_scorer(name, fetch, as_json)
        return
    card = benchmarks.card(name)
    default = files.default_root(name)
    folder = root or (default if fetch or default.is_dir() else None)
    facts = {
        "summary": card.summary,
        "size": card.size,
        "licence": card.license,
        "paper": card.paper,
        "page": card.page,
        "to get it": card.obtain,
        "fetched from": (card.hub or card.url)
        and f"{card.hub or card.url}: {', '.join(card.files)}",
        "folder": card.page and str(folder or f"{default}, or --root DIR; not downloaded yet"),
    }
    if not as_json:
        for title, fact in facts.items():
            if fact:
                flag = " (with --fetch)" if title == "fetched from" else ""
                console.show(f"{title}{flag}: {fact}")
    state: dict[str, Any] = {"files_as_published": [], "found": None}
    try:
        if folder is None and card.page:
            step = (
                f"add --fetch to download {first_few(card.files)}; by hand, " if card.files else ""
            )
            raise MissingDataError(
                f"the files of {name} are missing: {step}{card.obtain} ({card.page})"
            )
        if folder is not None and fetch:
            files.fetch(card, folder)
        if folder is not None:
            state["files_as_published"] = files.check_known(card, folder)
        state["found"] = BenchmarkOptions(root=folder).open(card).check()
    finally:
        if as_json:
            named = {key.replace(" ", "_"): fact for key, fact in facts.items() if fact}
            console.print_json({"name": name, **named, "folder": folder and str(folder), **state})
    if not as_json:
        if verified := state["files_as_published"]:
            console.say(f"as published: {', '.join(verified)}", "green")
        console.say(f"found {state['found']}", "green")


def _of_scorer(name: str, fetch: bool, as_json: bool) -> None:
    """Show the files that a scorer reads besides its weights, and fetch them."""
    from t2v_eval.evaluation import download as files

    card = models.card(name)
    files_of = getattr(models.entry(card), "files_of", None)
    folder, sources = files.default_root(name), files_of(card) if files_of else []
    for source in sources:
        if fetch:
            files.fetch(source, folder)
    verified = [file for source in sources for file in files.check_known(source, folder)]
    missing = [file for source in sources for file in source.files if file not in verified]
    if as_json:
        state = {"files_as_published": verified, "missing": missing}
        console.print_json({"name": name, "folder": str(folder), **state})
    elif not sources:
        console.say(
            f"{name} needs no files from here; what it reads is downloaded when it is loaded",
            "green",
        )
    elif verified:
        console.say(f"as published: {', '.join(verified)}", "green")
    if missing:
        raise MissingDataError(
            f"{', '.join(missing)} of {name} is not in {folder}: add --fetch to download it, or "
            f"{sources[0].obtain}"
        )
