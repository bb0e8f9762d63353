"""``t2v-eval eval``, ``compare`` and ``demo``: scorers on benchmarks, and the report of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2v_eval.api import ScorerOptions
from t2v_eval.cards import BenchmarkCard, ModelCard
from t2v_eval.cli import console
from t2v_eval.cli.dry_run import print_dry_run
from t2v_eval.cli.options import (
    AsJson,
    BenchmarkNames,
    BenchmarkOptionPairs,
    BenchmarkRoot,
    Columns,
    DryRun,
    ImageFolders,
    ImagePixels,
    Limit,
    ModelNames,
    NoStore,
    OnMissing,
    Resamples,
    Seed,
    ShardOf,
    Spreadsheet,
    StorePath,
    Subset,
    parse_columns,
    parse_options,
    store_path,
)
from t2v_eval.cli.progress import Bars
from t2v_eval.cli.shards import evaluate_shard, shard_options
from t2v_eval.errors import InputError, UnsupportedError
from t2v_eval.registry import benchmarks, models

if TYPE_CHECKING:
    from t2v_eval.evaluation.options import BenchmarkOptions, RunOptions
    from t2v_eval.report.report import Report

ReportFolder = Annotated[
    Path | None,
    typer.Option(
        help="Folder to write the report to: an HTML page, Markdown, JSON and CSV. Default: no "
        "report is written.",
        metavar="DIR",
    ),
]

HumanFile = Annotated[
    Path | None,
    typer.Option(
        "--human",
        help="Table of people's ratings of a part of the prompts, with the columns prompt (its id "
        "or text), generator and rating (or a column rater_NAME for each person): says what people "
        "would say of all images, in their units. Default: none.",
        metavar="FILE",
    ),
]

NoiseFloor = Annotated[
    bool,
    typer.Option(
        help="Score 32 cells again in another order, with scorers that run here, and report how "
        "much scores change.",
    ),
]


@dataclass(frozen=True, slots=True)
class Writing:
    """Where a report is written, if anywhere, and how."""

    out: Path | None = None
    spreadsheet: bool = False
    image_pixels: int = 768
    command: Sequence[str] = ()
    as_json: bool = False


def evaluate(
    options: ScorerOptions,
    ctx: typer.Context,
    model: ModelNames,
    benchmark: BenchmarkNames,
    out: ReportFolder = None,
    root: BenchmarkRoot = None,
    images: ImageFolders = None,
    column: Columns = None,
    benchmark_option: BenchmarkOptionPairs = None,
    spreadsheet: Spreadsheet = False,
    subset: Subset = None,
    on_missing: OnMissing = "error",
    limit: Limit = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    noise_floor: NoiseFloor = True,
    human: HumanFile = None,
    image_pixels: ImagePixels = 768,
    shard: ShardOf = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate scorers on benchmarks of human judgements.

    Prints each metric with its 95 % confidence interval, overall and by tag, and paired
    differences between scorers with p-values. Repeat --model and --benchmark for several;
    `compare` is `eval` with at least two models.

    With --on-error skip, failed scores are left out and counted; the exit code is 1 only if all
    failed.
    """
    if ctx.info_name == "compare" and len(model) < 2:
        raise InputError("compare needs at least two scorers: repeat --model")
    cards = [models.card(name) for name in model], [benchmarks.card(name) for name in benchmark]
    columns = parse_columns(column)
    specific = parse_options(benchmark_option, "--benchmark-option")
    from t2v_eval.evaluation.options import BenchmarkOptions, RunOptions

    benchmark_options = BenchmarkOptions(
        root=root, images=images, columns=columns, on_error=options.on_error, specific=specific
    )
    run_options = RunOptions(
        subset=subset or None,
        on_missing="skip" if on_missing == "skip" else None,
        limit=limit,
        resamples=resamples,
        seed=seed,
        noise_floor=noise_floor,
        human=human,
    )
    _ = run_options.sample  # an impossible limit is reported before a model is loaded
    if shard is not None:
        if out is not None:
            raise InputError(
                "a shard has no report, which needs the scores of all: leave out --out, and write "
                "it when the stores are merged"
            )
        part, options = shard_options(shard, options, dry_run)
        evaluate_shard(*cards, options, benchmark_options, run_options, part, as_json=as_json)
    elif dry_run:
        print_dry_run(*cards, options, benchmark_options, run_options, as_json)
    else:
        writing = Writing(out, spreadsheet, image_pixels, console.arguments(ctx), as_json)
        run(*cards, options, benchmark_options, run_options, writing)


def demo(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder to write the report to.", metavar="DIR")] = Path(
        "t2v-eval-demo"
    ),
    store: StorePath = None,
    no_store: NoStore = False,
    as_json: AsJson = False,
) -> None:
    """Compare small built-in scorers on drawn images; needs no download and no GPU."""
    scorers = [card for card in models.cards.values() if card.demo]
    cards = [card for card in benchmarks.cards.values() if card.demo]
    if not scorers or not cards:
        raise UnsupportedError(
            "the demo needs a scorer and a benchmark whose cards have `demo = true`"
        )
    from t2v_eval.evaluation.options import BenchmarkOptions, RunOptions

    options = ScorerOptions(store=store_path(store, no_store))
    writing = Writing(out, command=console.arguments(ctx), as_json=as_json)
    run(scorers, cards, options, BenchmarkOptions(), RunOptions(), writing)


def run(
    scorers: Sequence[ModelCard],
    datasets: Sequence[BenchmarkCard],
    scorer_options: ScorerOptions,
    benchmark_options: BenchmarkOptions,
    run_options: RunOptions,
    writing: Writing,
) -> Report:
    """Compare scorers, write the report, and print it, as JSON that of `report.json`.

    The folder is checked before a model is loaded.
    """
    from t2v_eval.report.report import run_all
    from t2v_eval.utils.files import check_folder

    if writing.out is not None:
        check_folder(writing.out)
    with console.stoppable(scorer_options.store), Bars() as bars:
        report = run_all(
            scorers,
            datasets,
            scorer_options,
            benchmark_options,
            run_options,
            progress=lambda scorer, benchmark, items: bars.add(
                f"{scorer.name} on {benchmark.name}, {items} items"
            ),
        )
    report.about = replace(report.about, command=writing.command)
    page = None
    try:
        if writing.out is not None:  # before printing, as a reader may close the pipe
            with console.waiting(f"writing the report to {writing.out}"):
                page = report.write(
                    writing.out,
                    spreadsheet=writing.spreadsheet,
                    image_pixels=writing.image_pixels,
                )
    finally:
        if writing.as_json:
            console.print_json(report.to_json())
        else:
            console.print_report(report)
        console.print_failures(report)
        console.print_left_out(report)
    for label, result in zip(report.labels, report.runs, strict=True):
        console.say_usage(f"{label} on {result.benchmark.name}", result.scorer.usage)
    if page is not None:
        if writing.as_json:
            console.note(f"Report: {page.resolve()}")
        else:
            console.show(f"\nReport: {page.resolve()}")
    console.exit_if_all_failed(sum(result.counts.used for result in report.runs))
    return report
