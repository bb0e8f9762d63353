"""``t2v-eval store``: inspect, prune, export and merge stores of scores."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    help="Inspect, prune, export or merge stores of scores of earlier runs.",
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


_NAMED = 5  # conflicts that are named in a terminal


@stores.command()
def merge(
    out: Annotated[
        Path,
        typer.Argument(help="Store to add to; it is created if it does not exist.", metavar="OUT"),
    ],
    stores: Annotated[
        list[Path], typer.Argument(help="Stores to add, such as those of shards.", metavar="IN...")
    ],
    as_json: AsJson = False,
) -> None:
    """Add the scores and embeddings of other stores to a store.

    Each store is added completely or not at all, and once: to merge again changes nothing. Where
    two stores have different scores of the same image and text, the first stays, and the exit code
    is 1, though all else is merged.
    """
    from t2v_eval.scoring.merging import merge as add
    from t2v_eval.store import Store

    merged = add(Store(out), stores)
    conflicts = [
        {"store": str(path), **conflict._asdict()}
        for path, result in zip(stores, merged, strict=True)
        for conflict in result.conflicts
    ]
    added = {name: sum(getattr(m, name) for m in merged) for name in ("scores", "embeddings")}
    if as_json:
        console.print_json({**added, "conflicts": conflicts})
    else:
        print(f"{added['scores']} scores and {added['embeddings']} embeddings were added to {out}")
    if conflicts:
        _say_conflicts(conflicts)
        raise SystemExit(1)


def _say_conflicts(conflicts: Sequence[Mapping[str, Any]]) -> None:
    """Print how many values differ, and the first few."""
    count = len(conflicts)
    console.say(f"{count} values differ from those that were there, which stay", "yellow")
    for conflict in conflicts[:_NAMED]:
        what = f"{conflict['store']}, {conflict['scorer'].partition(' ')[0]}: "
        if conflict["value"] is None:
            what += f"the embedding {conflict['image']}"
        else:
            values = f"{conflict['other']!r}, and {conflict['value']!r} stays"
            what += f"{conflict['image']} with {conflict['text'][:60]!r} is {values}"
        console.say(f"  {what}", "yellow")
    if count > _NAMED:
        console.say(f"  and {count - _NAMED} more, which --json lists", "yellow")


def _existing(store: Path | None) -> Store:
    from t2v_eval.store import Store

    path = store or default_store()
    if not path.is_file():
        raise StoreError(f"there is no store at {path}; scoring creates one, --store names another")
    return Store(path)


def _id_glob(scorer: str) -> str:
    """Return a glob for ids; a bare name stands for all ids of that scorer, "NAME ..."."""
    return scorer if set(scorer) & set("*?[") or " " in scorer else f"{scorer} *"
