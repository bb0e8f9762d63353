"""``t2v-eval store``: inspect, prune, export and merge stores of scores."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2v_eval.cli import console
from t2v_eval.cli.flags import App
from t2v_eval.cli.help.examples import EXAMPLES
from t2v_eval.cli.options import AsJson, Spreadsheet, StorePath, default_store
from t2v_eval.errors import InputError, StoreError
from t2v_eval.utils.printable import printable, redact_userinfo

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
        list[str],
        typer.Argument(
            help="Stores to add, such as those of shards: files, or addresses and globs of other "
            "file systems, such as s3://bucket/scores-*.sqlite.",
            metavar="IN...",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Add the scores and embeddings of other stores to a store.

    Each store is added completely or not at all, and once: to merge again changes nothing. Where
    two stores have different scores of the same image and text, the first stays, and the exit code
    is 1, though all else is merged.
    """
    from t2v_eval.scoring.merging import merge as add

    with _on_this_machine(stores) as (names, files):
        merged = add(out, files)
    conflicts = [
        {"store": str(path), **conflict._asdict()}
        for path, result in zip(names, merged, strict=True)
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


@stores.command()
def upload(
    address: Annotated[
        str,
        typer.Argument(
            help="Where to, such as s3://bucket/scores-1-of-8.sqlite; what is there is replaced.",
            metavar="ADDRESS",
        ),
    ],
    store: StorePath = None,
) -> None:
    """Copy a store that no run writes to any more to another file system, for `store merge`.

    SQLite files must not be written there: a worker writes its store on its own disk, and uploads
    it when it has finished. The store appears at the address completely or not at all.
    """
    from t2v_eval.inputs.addresses import is_address, upload_file

    if not is_address(address):
        raise InputError(f"{address!r} is no address: write one such as s3://bucket/scores.sqlite")
    scores = _existing(store)
    with TemporaryDirectory() as folder:
        whole = Path(folder) / scores.path.name
        scores.copy_to(whole)
        upload_file(whole, address)
    console.note(f"{scores.path} is at {redact_userinfo(address)}")


@contextmanager
def _on_this_machine(stores: Sequence[str]) -> Iterator[tuple[list[str], list[Path]]]:
    """Yield the names of stores, globs of addresses expanded, and the files that hold them."""
    from t2v_eval.inputs.addresses import download_file, files_at, is_address, size_at

    names, files = [], []
    with TemporaryDirectory() as folder:
        for store in stores:
            if not is_address(store):
                names.append(store)
                files.append(Path(store))
                continue
            for address in files_at(store):
                if size_at(f"{address}-wal"):  # of SQLite, which reads both
                    raise StoreError(
                        f"{redact_userinfo(address)} is not complete: a run writes to it, or was "
                        "killed, and its last scores are in the file -wal beside it. Copy it there "
                        "by `t2v-eval store upload`, or merge it as a file of this machine"
                    )
                file = Path(folder) / f"{len(files)}.sqlite"
                download_file(address, file)
                names.append(redact_userinfo(address))
                files.append(file)
        yield names, files


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
