"""``t2v-eval agree``: how well scores that a table holds agree with its human judgements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from t2v_eval.cli import console
from t2v_eval.utils.printable import printable

if TYPE_CHECKING:
    from rich.text import Text

    from t2v_eval.evaluation.agreement import Agreement
    from t2v_eval.stats.bootstrap import Interval

PER_GROUP_SUFFIX = "_per_group"


def agree(
    table: Annotated[
        Path,
        typer.Argument(help="A .csv, .tsv, .jsonl, .json or .parquet table: a row a judged thing."),
    ],
    human: Annotated[
        list[str],
        typer.Option(help="The column of human judgements; repeat it for raters.", metavar="COL"),
    ],
    scores: Annotated[
        list[str], typer.Option(help="A column of scores; may be repeated.", metavar="COL")
    ],
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    group: Annotated[
        str | None,
        typer.Option(help="A column; rows with one value of it are resampled together."),
    ] = None,
    tags: Annotated[
        str | None, typer.Option(help="A column of tags separated by ';'; each is reported.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of tables.")] = False,
    resamples: Annotated[int, typer.Option(help="Resamples behind the 95 % intervals.")] = 1000,
    seed: Annotated[int, typer.Option(help="Which resamples.")] = 0,
) -> None:
    """Agreement of scores that a table already holds with its human judgements; no model runs.

    ``--scores a b c`` and ``--scores a --scores b`` both name several columns. A row without a
    score or a judgement is left out and counted.
    """
    from t2v_eval.evaluation.agreement import agreement
    from t2v_eval.inputs.tables import read_table

    with console.console(stderr=True).status("") as status:  # nothing where no terminal is
        found = agreement(
            read_table(table),
            human,
            [*scores, *(more or ())],
            group=group,
            tags=tags,
            resamples=resamples,
            seed=seed,
            progress=lambda column, tag: status.update(escape(printable(f"{column}, {tag}"))),
        )
    if as_json:
        console.show(json.dumps(found.to_json(), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        _show(found)
    for column, by_tag in found.counts.items():
        for tag, counts in by_tag.items():
            if counts.used < counts.rows:
                gone = (
                    f"{counts.rows - counts.used} of {counts.rows} rows lack a score or judgement"
                )
                console.say(f"{column}, {tag}: {gone} and are left out", "yellow")


def _show(found: Agreement) -> None:
    """Each tag's figures, then the means within groups where there are any."""
    for tag in next(iter(found.scores.values())):
        names = dict.fromkeys(name for by_tag in found.scores.values() for name in by_tag[tag])
        within = [name for name in names if name.endswith(PER_GROUP_SUFFIX)]
        for shown, what in (([m for m in names if m not in within], ""), (within, ", per group")):
            rows = [
                [
                    column,
                    str(found.counts[column][tag].used),
                    *(_cell(by_tag[tag].get(m)) for m in shown),
                ]
                for column, by_tag in found.scores.items()
            ]
            heads = [name.removesuffix(PER_GROUP_SUFFIX) for name in shown]
            title = f"{tag}{what}: agreement with 95 % intervals, by resampling each {found.unit}"
            if shown:
                console.print_table(["score", "n", *heads], rows, title, numbers=True)


def _cell(interval: Interval | None) -> Text | str:
    return "" if interval is None else console.interval_text(interval, between="\n")
