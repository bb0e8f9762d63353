"""``t2v-eval agree``: how well the scores in a table agree with its human ratings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.text import Text

from t2v_eval.cli import console
from t2v_eval.cli.flags import flag_before, unexpected
from t2v_eval.cli.options import AsJson, ImagePixels, Resamples, Seed
from t2v_eval.errors import TableError
from t2v_eval.utils.printable import printable

if TYPE_CHECKING:
    from t2v_eval.evaluation.agreement import Agreement
    from t2v_eval.evaluation.comparison import Difference
    from t2v_eval.report.report import Report
    from t2v_eval.stats.bootstrap import Interval

SUFFIXES = {
    "_per_group_per_tag": ", per group, mean of tags",
    "_per_tag": ", mean of tags",
    "_per_group": ", per group",
    "_system": ", of generators",
    "": "",
}
"""What the title of a table says of the metrics with a suffix; the first that fits counts."""


RatedTable = Annotated[
    str,
    typer.Argument(
        help="Table with one row per rated image: .csv, .tsv, .jsonl, .json, .parquet; a file, or "
        "an address such as s3://bucket/rated.csv."
    ),
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
        help="Column of tags separated by ';'; agreement is also reported for each tag, and as the "
        "mean of all tags. Default: no tags.",
        metavar="COLUMN",
    ),
]
SystemColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of generators; the mean scores of generators are compared with their mean "
        "ratings, too. Default: rows alone are compared.",
        metavar="COLUMN",
    ),
]
NodesColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of nodes, which are images of one group with the same errors; ks, the "
        "separation of nodes, is reported, too. Default: no nodes.",
        metavar="COLUMN",
    ),
]
VersusColumns = Annotated[
    list[str] | None,
    typer.Option(
        help="Column of the score of the second side, where rows are pairs and ratings are "
        "preferences (left, right, tie; or 1, 0, 0.5); one for each column of --scores. Default: "
        "rows are single images.",
        metavar="COLUMN",
    ),
]
Classes = Annotated[
    bool,
    typer.Option(
        "--classes", help="Ratings are names of classes, and so are scores. Default: numbers."
    ),
]
Ratings = Annotated[
    Literal["mean", "each"],
    typer.Option(help="Compare with the mean of a row's ratings, or with each of them."),
]
MetricNames = Annotated[
    list[str] | None,
    typer.Option(
        help="Name of a metric; repeat it for several. srcc, krcc and plcc are names of the "
        "literature on quality; plcc_logistic4, rmse_logistic4 and ..._logistic5 follow a fit; "
        "acc23_cv is acc23 with a threshold of other rows. Default: all but these.",
        metavar="NAME",
    ),
]
Mean = Annotated[
    Literal["plain", "weighted", "fisher-z", "tanh"],
    typer.Option(
        help="How metrics of groups and of tags are averaged: plainly, weighted by rows, or "
        "correlations by Fisher's z (tanh: as VIEScore, without artanh)."
    ),
]
ConstantGroups = Annotated[
    Literal["skip", "zero"],
    typer.Option(
        help="Leave out the correlation within a group of equal scores or ratings, or take 0."
    ),
]
Level = Annotated[
    Literal["nominal", "ordinal", "interval"],
    typer.Option(help="What Krippendorff's alpha of several raters takes ratings for."),
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
    system: SystemColumn = None,
    nodes: NodesColumn = None,
    versus: VersusColumns = None,
    classes: Classes = False,
    ratings: Ratings = "mean",
    metric: MetricNames = None,
    mean: Mean = "plain",
    constant_groups: ConstantGroups = "skip",
    level: Level = "interval",
    out: AgreementFolder = None,
    image_pixels: ImagePixels = 768,
    as_json: AsJson = False,
    resamples: Resamples = 1000,
    seed: Seed = 0,
) -> None:
    """Measure how well the scores in a table agree with its human ratings; no model runs.

    Prints rank and pairwise agreement of each score with 95 % confidence intervals, and the paired
    differences between scores. ``--scores a b c`` and ``--scores a --scores b`` both name several
    columns. A row that lacks a score or a rating is left out and counted.
    """
    from t2v_eval.evaluation.rating_tables.table import TableOptions

    words, parameters = ctx.meta[console.ARGUMENTS], ctx.command.params
    for column in more_scores or ():
        if flag_before(column, words, parameters)[0] not in ("", "--scores"):
            ctx.fail(unexpected([column], words, parameters))
    options = TableOptions(
        group, tags, system, nodes, versus or (), classes, ratings, metric or (), mean,
        constant_groups, level, resamples, seed,
    )  # fmt: skip
    _agree(ctx, table, human, [*scores, *(more_scores or ())], options, out, image_pixels, as_json)


def _agree(
    ctx: typer.Context,
    path: str,
    human: Sequence[str],
    scores: Sequence[str],
    options: Any,
    out: Path | None,
    image_pixels: int,
    as_json: bool,
) -> None:
    from t2v_eval.evaluation.agreement import measure
    from t2v_eval.evaluation.agreement_runs import differences_to_json
    from t2v_eval.evaluation.rating_tables.table import RatedTable as Table
    from t2v_eval.inputs.tables import read_table
    from t2v_eval.utils.files import check_folder

    if out is not None:
        check_folder(out)
    with console.waiting("reading the table") as status:
        rows = read_table(path)
        try:
            table = Table.read(rows, human, scores, options)
        except TableError as error:
            raise TableError(f"{path}: {error}") from error
        result = measure(
            table,
            lambda column, tag: (
                status.update(escape(printable(f"{column}, {tag}"))) if status else None
            ),
        )
    report, page = None, None
    if out is not None or len(scores) > 1:
        with console.waiting("comparing the columns"):
            report = _report(ctx, table, result, path)
    if report is not None and out is not None:
        with console.waiting(f"writing the report to {out}"):
            page = report.write(out, image_pixels=image_pixels)
    differences = report.differences if report is not None else []
    columns = list(table.scores)
    if as_json:
        content = result.to_json()
        if len(columns) > 1:
            content["differences"] = differences_to_json(columns, differences)
        console.print_json(content)
    else:
        _print(result)
        _print_differences(columns, differences)
    _say_missing(result)
    if page is not None:
        console.say(f"Report: {page.resolve()}")


def _report(ctx: typer.Context, table: Any, result: Agreement, path: str) -> Report:
    """Return the report of the columns of a table, with their differences."""
    from t2v_eval.evaluation.agreement_runs import agreement_runs
    from t2v_eval.report.about import About
    from t2v_eval.report.report import Report

    runs = agreement_runs(table, result, path)
    return Report(runs, replace(About.of(runs), command=console.arguments(ctx)))


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
    """Print a table of each tag and of each kind of metric, and why figures are missing."""
    from t2v_eval.evaluation.agreement_runs import reasons

    for tag in next(iter(result.scores.values())):
        kinds: dict[str, list[str]] = {}
        for name in dict.fromkeys(n for by_tag in result.scores.values() for n in by_tag[tag]):
            suffix = next(ending for ending in SUFFIXES if name.endswith(ending))
            kinds.setdefault(suffix, []).append(name)
        for suffix, metrics in kinds.items():
            rows = [
                [
                    column,
                    str(result.counts[column][tag].used),
                    *(_cell(by_tag[tag].get(m)) for m in metrics),
                ]
                for column, by_tag in result.scores.items()
            ]
            heads = [name.removesuffix(suffix) for name in metrics]
            title = f"{tag}{SUFFIXES[suffix]}: agreement with 95 % intervals, by resampling each "
            console.print_table(["score", "n", *heads], rows, f"{title}{result.unit}", numbers=True)
        if tag in result.raters:
            _print_line(f"Raters, {tag}: {result.raters[tag].sentence()}.")
        for column in result.scores:
            for reason, names in reasons(result, column, tag).items():
                _print_line(f"{column}, {tag}: {', '.join(names)}: {reason}.")


def _print_differences(columns: Sequence[str], differences: Sequence[Difference]) -> None:
    """Print the differences of all metrics between each two columns, over all rows."""
    from t2v_eval.report.format import CONSOLE

    rows: list[list[Text | str]] = [
        [
            f"{columns[pair.first]} - {columns[pair.second]}",
            name,
            console.interval_text(interval, "+"),
            CONSOLE.p_value(pair.tests[""][name].p),
            CONSOLE.p_value(pair.tests[""][name].p_holm),
        ]
        for pair in differences
        for name, interval in pair.metrics.items()
    ]
    if not rows:
        return
    console.print_table(
        ["first - second", "metric", "difference", "p", "p, corrected"],
        rows,
        "differences on the rows that have both scores; p of a paired permutation test, corrected "
        "(Holm) for all pairs",
        numbers=True,
    )


def _print_line(text: str) -> None:
    console.console().print(console.text_of(text))


def _cell(interval: Interval | None) -> Text | str:
    return "" if interval is None else console.interval_text(interval, between="\n")
