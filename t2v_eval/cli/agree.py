"""``t2v-eval agree``: how well the scores in a table agree with its human ratings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from t2v_eval.cli import console
from t2v_eval.cli.flags import flag_before, unexpected
from t2v_eval.cli.options import AsJson, ImagePixels, Resamples, Seed
from t2v_eval.errors import TableError
from t2v_eval.utils.printable import printable

if TYPE_CHECKING:
    from rich.text import Text

    from t2v_eval.evaluation.agreement import Agreement
    from t2v_eval.stats.bootstrap import Interval

PER_GROUP_SUFFIX = "_per_group"


RatedTable = Annotated[
    Path,
    typer.Argument(help="Table with one row per rated image: .csv, .tsv, .jsonl, .json, .parquet."),
]
HumanColumns = Annotated[
    list[str],
    typer.Option(help="Column of human ratings; repeat it for several raters.", metavar="COLUMN"),
]
ScoreColumns = Annotated[
    list[str], typer.Option(help="Column of scores; repeat it for several.", metavar="COLUMN")
]
GroupColumn = Annotated[
    str | None,
    typer.Option(
        help="Column whose equal values make a group (for example one prompt): its rows are "
        "resampled together. Default: each row is resampled alone.",
        metavar="COLUMN",
    ),
]
TagsColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of tags separated by ';'; agreement is also reported for each tag. Default: "
        "no tags.",
        metavar="COLUMN",
    ),
]


AgreementFolder = Annotated[
    Path | None,
    typer.Option(
        help="Folder to write a report to: tables, plots, differences between the columns and, "
        "where the table has a column `image`, the rows with their images. Default: no report is "
        "written.",
        metavar="DIR",
    ),
]


def agree(
    ctx: typer.Context,
    table: RatedTable,
    human: HumanColumns,
    scores: ScoreColumns,
    more_scores: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    group: GroupColumn = None,
    tags: TagsColumn = None,
    out: AgreementFolder = None,
    image_pixels: ImagePixels = 768,
    as_json: AsJson = False,
    resamples: Resamples = 1000,
    seed: Seed = 0,
) -> None:
    """Measure how well the scores in a table agree with its human ratings; no model runs.

    Prints rank and pairwise agreement of each score with 95 % confidence intervals. ``--scores a b
    c`` and ``--scores a --scores b`` both name several columns. A row that lacks a score or a
    rating is left out and counted.
    """
    from t2v_eval.evaluation.agreement import agreement
    from t2v_eval.inputs.tables import read_table
    from t2v_eval.utils.files import check_folder

    words, parameters = ctx.meta[console.ARGUMENTS], ctx.command.params
    for column in more_scores or ():
        if flag_before(column, words, parameters)[0] not in ("", "--scores"):
            ctx.fail(unexpected([column], words, parameters))
    if out is not None:
        check_folder(out)
    with console.waiting("reading the table") as status:
        rows = read_table(table)
        try:
            result = agreement(
                rows,
                human,
                [*scores, *(more_scores or ())],
                group=group,
                tags=tags,
                resamples=resamples,
                seed=seed,
                progress=lambda column, tag: (
                    status.update(escape(printable(f"{column}, {tag}"))) if status else None
                ),
            )
        except TableError as error:
            raise TableError(f"{table}: {error}") from error
    page = None
    if out is not None:
        from t2v_eval.evaluation.agreement_runs import agreement_runs
        from t2v_eval.report.about import About
        from t2v_eval.report.report import Report

        with console.waiting(f"writing the report to {out}"):
            options: Any = {"group": group, "tags": tags, "resamples": resamples, "seed": seed}
            runs = agreement_runs(rows, result, human, table=table, **options)
            about = replace(About.of(runs), command=console.arguments(ctx))
            page = Report(runs, about).write(out, image_pixels=image_pixels)
    if as_json:
        console.print_json(result.to_json())
    else:
        _print(result)
    _say_missing(result)
    if page is not None:
        console.say(f"Report: {page.resolve()}")


def _say_missing(result: Agreement) -> None:
    """Print a yellow line for each column and tag whose rows lack a score or a rating."""
    for column, by_tag in result.counts.items():
        for tag, counts in by_tag.items():
            if counts.used < counts.rows:
                missing = f"{counts.rows - counts.used} of {counts.rows} rows"
                console.say(
                    f"{column}, {tag}: {missing} lack a score or a rating and are left out",
                    "yellow",
                )


def _print(result: Agreement) -> None:
    """Print a table for each tag, and one of the means within groups where there are groups."""
    for tag in next(iter(result.scores.values())):
        names = dict.fromkeys(name for by_tag in result.scores.values() for name in by_tag[tag])
        per_group = [name for name in names if name.endswith(PER_GROUP_SUFFIX)]
        overall = [name for name in names if name not in per_group]
        for metrics, suffix in ((overall, ""), (per_group, ", per group")):
            if not metrics:
                continue
            rows = [
                [
                    column,
                    str(result.counts[column][tag].used),
                    *(_cell(by_tag[tag].get(m)) for m in metrics),
                ]
                for column, by_tag in result.scores.items()
            ]
            heads = [name.removesuffix(PER_GROUP_SUFFIX) for name in metrics]
            title = (
                f"{tag}{suffix}: agreement with 95 % intervals, by resampling each {result.unit}"
            )
            console.print_table(["score", "n", *heads], rows, title, numbers=True)


def _cell(interval: Interval | None) -> Text | str:
    return "" if interval is None else console.interval_text(interval, between="\n")
