"""``t2v-eval score``: scores of images and texts, or of the rows of a table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2v_eval.api import ScorerOptions
from t2v_eval.cli import console
from t2v_eval.cli.inputs.table_input import (
    RowColumns,
    TableInput,
    check_images_exist,
    read_blocks,
    result_rows,
)
from t2v_eval.cli.options import (
    AsJson,
    DryRun,
    ImageRoot,
    ModelName,
    ShardOf,
    Spreadsheet,
    check_text,
)
from t2v_eval.cli.progress import Bars
from t2v_eval.cli.shards import say_next, shard_options
from t2v_eval.errors import InputError, UnsupportedError
from t2v_eval.registry import models
from t2v_eval.utils.printable import printable

if TYPE_CHECKING:
    from t2v_eval.scoring.plan import Block
    from t2v_eval.scoring.results import Progress, ScoringResult
    from t2v_eval.scoring.scorer import Scorer

Images = Annotated[
    list[str] | None,
    typer.Argument(
        help="Image or video files, URLs, folders (their images, sorted) or globs in quotes.",
        metavar="IMAGE",
    ),
]
Texts = Annotated[
    list[str] | None,
    typer.Option("--text", "-t", help="Text to score; repeat it for several."),
]
PairsTable = Annotated[
    str | None,
    typer.Option(
        help="Table of images and texts to score row by row: .csv, .tsv, .json, .jsonl or "
        ".parquet; a file, or an address such as s3://bucket/pairs.csv.",
        metavar="TABLE",
    ),
]
ImageColumn = Annotated[
    str, typer.Option(help="Column of the table that holds images.", metavar="NAME")
]
TextColumn = Annotated[
    str, typer.Option(help="Column of the table that holds texts.", metavar="NAME")
]
SourceColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of the table that holds the images before an edit, for scorers of edits; the "
        "image is then the result. Default: none.",
        metavar="NAME",
    ),
]
ScoresFile = Annotated[
    Path | None,
    typer.Option(
        help="File to write scores to: .csv, .jsonl or .parquet. Default: standard output.",
        metavar="FILE",
    ),
]


def score(
    options: ScorerOptions,
    model: ModelName,
    images: Images = None,
    text: Texts = None,
    pairs: PairsTable = None,
    image_column: ImageColumn = "image",
    text_column: TextColumn = "text",
    source_column: SourceColumn = None,
    root: ImageRoot = None,
    out: ScoresFile = None,
    spreadsheet: Spreadsheet = False,
    shard: ShardOf = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Score every IMAGE against every --text, or each row of a table.

    The other columns of a table are copied to the output. With --on-error skip, a failed score is
    empty and its column `error` says why; the exit code is 1 only if every score failed. With
    --shard, only the rows of the shard are written, to a file with the shard in its name, and their
    column `shard` says which it is.
    """
    card = models.card(model)  # an unknown name is reported before torch is imported
    if dry_run and not options.asks_service(card):
        raise UnsupportedError(f"{model!r} runs locally: it sends no requests and costs nothing")
    _check_output(out, spreadsheet, as_json)
    part = None
    if shard is not None:
        part, options = shard_options(shard, options, dry_run)
        out = out and part.file_of(out)  # workers with the same command each write their own
        _check_output(out, spreadsheet, as_json)
    uses_text = getattr(models.entry(card), "uses_text", True)
    for caption in text or () if uses_text else ():
        check_text(caption, "--text")
    if not (text or pairs) and images and uses_text:
        last = images[-1]
        hint = "" if Path(last).exists() or " " not in last else f"; is --text {last!r} meant?"
        raise InputError(f"{model!r} needs at least one --text, or a table with --pairs{hint}")
    skip = options.on_error == "skip"
    columns = RowColumns(image_column, text_column, source_column)
    table = read_blocks(images, text, pairs, columns, root, skip)
    if part is not None:
        table = table.of_shard(part)
    if not skip:
        check_images_exist(table.blocks, pairs is not None)
    from t2v_eval.remote.scorer import estimate

    with console.stoppable(options.store), Bars() as bars:
        scorer = options.load(card)
        if dry_run:
            console.print_estimates([({"model": model}, estimate(scorer, table.blocks))], as_json)
            return
        outcome = _outcome(scorer, table.blocks, bars.add(model))
    _write(list(result_rows(table, model, outcome)), out, spreadsheet, as_json)
    if part is not None:
        say_next(part, options.store)
    _report_failures(model, table, outcome)


def _outcome(scorer: Scorer, blocks: Sequence[Block], progress: Progress) -> ScoringResult:
    """Score blocks; a shard may have no images at all."""
    from t2v_eval.scoring.results import CellCounts, ScoringResult

    if any(block.images for block in blocks):
        return scorer.evaluate_blocks(blocks, progress)
    return ScoringResult([], CellCounts())


def _check_output(out: Path | None, spreadsheet: bool, as_json: bool) -> None:
    from t2v_eval.inputs import tables
    from t2v_eval.utils import files

    if spreadsheet:
        tables.check_spreadsheet(out)
        if as_json and out is None:
            raise InputError("--spreadsheet is of CSV, and --json prints none: leave one out")
    if out is not None:
        tables.check_suffix(out)
        files.check_file(out)


def _write(
    rows: Sequence[dict[str, Any]], out: Path | None, spreadsheet: bool, as_json: bool
) -> None:
    from t2v_eval.inputs import tables

    if out is not None:
        with tables.rescuing(out, rows):
            tables.write_table(out, rows, spreadsheet)
        console.note(f"{len(rows)} scores are in {out}")
    if as_json:
        console.print_json([{**row, "error": row["error"] or None} for row in rows])
    elif out is not None:
        return
    elif console.is_terminal() and not spreadsheet:
        console.print_table(
            ["image", "text", "score"],
            [[r["image"], r["text"], r["error"] or f"{r['score']:.4f}"] for r in rows],
        )
    else:
        text = tables.to_csv(rows, spreadsheet)
        sys.stdout.write(printable(text) if console.is_terminal() else text)


def _report_failures(model: str, table: TableInput, outcome: ScoringResult) -> None:
    errors = {**outcome.errors, **dict.fromkeys(table.unusable.values(), 1)}
    console.say_failures(model, outcome.counts.cells + len(table.unusable), errors)
    console.say_usage(model, outcome.usage)
    if outcome.counts.cells or table.unusable:
        console.exit_if_all_failed(outcome.counts.used)
