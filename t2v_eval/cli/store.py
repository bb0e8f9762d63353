"""``t2v-eval store``: inspect, prune and export the score store."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2v_eval.cli import console
from t2v_eval.cli.flags import App
from t2v_eval.cli.help.examples import EXAMPLES
from t2v_eval.cli.options import AsJson, Spreadsheet, StorePath, default_store
from t2v_eval.errors import StoreError
from t2v_eval.utils.printable import printable

if TYPE_CHECKING:
    from t2v_eval.store import Store

stores = App(
    no_args_is_help=True,
    help="Inspect, prune or export the store of scores of earlier runs.",
    epilog=f"Example: {EXAMPLES['stats']}",
)


@stores.command()
def stats(store: StorePath = None, as_json: AsJson = False) -> None:
    """Count the scores and embeddings of each scorer in the store."""
    scores = _existing(store)
    if as_json:
        keys = {"scores": "cells", "failed": "failed", "embeddings": "embeddings"}
        console.print_json(
            [
                {"scorer": s.scorer, **{key: getattr(s, name) for key, name in keys.items()}}
                for s in scores.stats()
            ]
        )
        return
    rows = [[s.cells, s.failed, s.embeddings, s.scorer] for s in scores.stats()]
    console.print_table(["scores", "failed", "embeddings", "scorer"], rows, str(scores.path))


@stores.command()
def prune(
    scorer: Annotated[str, typer.Argument(help="Name of a scorer, or a glob for its id.")],
    failed: Annotated[
        bool, typer.Option("--failed", help="Delete only failed scores, so that they are retried.")
    ] = False,
    store: StorePath = None,
    as_json: AsJson = False,
) -> None:
    """Delete the scores and embeddings of a scorer from the store."""
    deleted = _existing(store).prune(_id_glob(scorer), failed_only=failed)
    if as_json:
        console.print_json({"deleted": deleted})
    else:
        print(f"{deleted} scores and embeddings were deleted")


@stores.command()
def export(
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write: .csv, .jsonl or .parquet; default: standard output.",
            metavar="FILE",
        ),
    ] = None,
    scorer: Annotated[
        str, typer.Option(help="Only this scorer: its name, or a glob for its id.")
    ] = "*",
    store: StorePath = None,
    spreadsheet: Spreadsheet = False,
    as_json: AsJson = False,
) -> None:
    """Export all stored scores as a table: scorer, image, text, value, error."""
    from t2v_eval.inputs import tables
    from t2v_eval.utils import files

    if spreadsheet:
        tables.check_spreadsheet(out)
    if out is not None:
        tables.check_suffix(out)
        files.check_file(out)
    rows = [row._asdict() for row in _existing(store).rows(_id_glob(scorer))]
    if as_json:
        console.print_json(rows)
    elif out is None:
        text = tables.to_csv(rows, spreadsheet)
        sys.stdout.write(printable(text) if console.is_terminal() else text)
    if out is not None:
        tables.write_table(out, rows, spreadsheet)
        console.note(f"{len(rows)} scores are in {out}")


def _existing(store: Path | None) -> Store:
    from t2v_eval.store import Store

    path = store or default_store()
    if not path.is_file():
        raise StoreError(f"there is no store at {path}; scoring creates one, --store names another")
    return Store(path)


def _id_glob(scorer: str) -> str:
    """Return a glob for ids; a bare name stands for all ids of that scorer, "NAME ..."."""
    return scorer if set(scorer) & set("*?[") or " " in scorer else f"{scorer} *"
