"""The ``t2v-eval`` command line: each command reads its arguments, calls the library and prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from t2v_eval import __version__
from t2v_eval.api import ScorerOptions
from t2v_eval.cli import console
from t2v_eval.cli.agree import agree
from t2v_eval.cli.caption import caption
from t2v_eval.cli.data import data
from t2v_eval.cli.dry_run import print_dry_run
from t2v_eval.cli.options import (
    BenchmarkNames,
    BenchmarkOptionPairs,
    BenchmarkRoot,
    Columns,
    DryRun,
    ImageFolders,
    ModelNames,
    NoStore,
    OnMissing,
    Resamples,
    Seed,
    Spreadsheet,
    StorePath,
    Subset,
    parse_columns,
    parse_options,
    store_path,
    with_scorer_options,
)
from t2v_eval.cli.prefer import prefer
from t2v_eval.cli.score import score
from t2v_eval.cli.store import stores
from t2v_eval.errors import InputError, UnsupportedError
from t2v_eval.registry import BenchmarkCard, ModelCard, benchmarks, models

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


class Commands(TyperGroup):
    """Command group that turns the library's errors into one red line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with console.guarded(debug=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Score how well images match texts, and which scorer agrees best with people.",
    epilog="Exit codes: 0 done (failed scores, if any, are counted on stderr), 1 every score "
    "failed, 2 an error, 130 interrupted, 143 terminated.",
)
app.add_typer(stores, name="store")
app.command()(agree)
app.command()(data)
app.command()(prefer)
app.command()(with_scorer_options(score))


class Kind(StrEnum):
    """What the command `list` can list."""

    models = "models"
    benchmarks = "benchmarks"
    templates = "templates"


def _print_version(requested: bool) -> None:
    if requested:
        print(__version__)
        raise typer.Exit


@app.callback()
def common(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the full traceback of an error.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Read the options that come before a command."""


@app.command("eval")
@app.command("compare")
@with_scorer_options
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
    resamples: Resamples = 1000,
    seed: Seed = 0,
    dry_run: DryRun = False,
) -> None:
    """Evaluate scorers on benchmarks of human judgements.

    Prints each metric with its 95 % confidence interval, overall and by tag, and paired
    differences between scorers with p-values. Repeat --model and --benchmark for several;
    `compare` is `eval` with at least two models.

    With --on-error skip, failed scores are left out and counted; the exit code is 1 only if all
    failed.
    """
    if ctx.info_name == "compare" and len(model) < 2:
        raise InputError("compare needs two models or more: repeat --model")
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
        resamples=resamples,
        seed=seed,
    )
    if dry_run:
        print_dry_run(*cards, options, benchmark_options, run_options)
    else:
        run(*cards, options, benchmark_options, run_options, out, spreadsheet)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write the report to.", metavar="DIR")] = Path(
        "t2v-eval-demo"
    ),
    store: StorePath = None,
    no_store: NoStore = False,
) -> None:
    """Compare small built-in scorers on drawn images; needs no download and no GPU."""
    scorers = [card for card in models.cards.values() if card.demo]
    drawn = [card for card in benchmarks.cards.values() if card.demo]
    if not scorers or not drawn:
        raise UnsupportedError(
            "the demo needs a scorer and a benchmark whose cards have `demo = true`"
        )
    from t2v_eval.evaluation.options import BenchmarkOptions, RunOptions

    options = ScorerOptions(store=store_path(store, no_store))
    run(scorers, drawn, options, BenchmarkOptions(), RunOptions(), out)


@app.command("list")
def list_names(
    what: Annotated[Kind, typer.Argument(help="What to list.")],
    pattern: Annotated[
        str, typer.Argument(help="A name or a glob, for example 'hps*'; quote it in a shell.")
    ] = "*",
    kind: Annotated[
        str, typer.Option(help="Only this kind (a glob), for example vqa, clip or judge.")
    ] = "*",
) -> None:
    """List scorers, benchmarks or templates; with a full name, show all its facts.

    No model is loaded.
    """
    if what is Kind.templates:
        columns, rows = _template_table(pattern)
    else:
        registry = models if what is Kind.models else benchmarks
        cards = registry.cards
        if pattern in cards:
            columns = ["fact", "value"]
            rows = [[*fact] for fact in cards[pattern].described().items()]
        else:
            columns = ["name", "kind", "summary", "license", "follows"]
            matching = [cards[name] for name in registry.names(pattern, kind)]
            rows = [
                [c.name, c.kind, c.summary, c.license, getattr(c, "follows", "")] for c in matching
            ]
    if console.is_terminal():
        console.print_table(columns, rows)
    else:
        for row in rows:
            console.show("\t".join(cell.replace("\n", "\\n") for cell in row))


def _template_table(pattern: str) -> tuple[list[str], list[list[str]]]:
    from fnmatch import fnmatch

    from t2v_eval.inputs.template import templates, wrappers

    rows = [[t.name, "template", t.question, t.answer, t.source] for t in templates().values()]
    rows += [
        [w.name, f"wrapper, {w.option_name}=", w.text, "", w.source] for w in wrappers().values()
    ]
    rows += [
        [name, "template", "see `list models NAME`: questions", "", "differs between scorers"]
        for name in models.conventions()
    ]
    columns = ["name", "kind", "question", "answer", "source"]
    return columns, [row for row in rows if fnmatch(row[0], pattern)]


app.command()(caption)


def run(
    scorers: Sequence[ModelCard],
    datasets: Sequence[BenchmarkCard],
    scorer_options: ScorerOptions,
    benchmark_options: BenchmarkOptions,
    run_options: RunOptions,
    out: Path | None,
    spreadsheet: bool = False,
) -> Report:
    """Compare scorers, write the report to `out`, and print it.

    The folder is checked before a model is loaded.
    """
    from t2v_eval.report.report import run_all
    from t2v_eval.utils.files import check_folder

    if out is not None:
        check_folder(out)
    with console.stoppable(scorer_options.store), console.Bars() as bars:
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
    page = None
    try:
        if out is not None:  # before printing, as a reader such as `head` may close the pipe
            with console.waiting(f"writing the report to {out}"):
                page = report.write(out, spreadsheet=spreadsheet)
    finally:
        console.print_report(report)
        console.print_failures(report)
        console.print_left_out(report)
    for label, result in zip(report.labels, report.runs, strict=True):
        console.say_usage(f"{label} on {result.benchmark.name}", result.scorer.usage)
    if page is not None:
        console.show(f"\nReport: {page.resolve()}")
    console.exit_if_all_failed(sum(result.counts.used for result in report.runs))
    return report


def main() -> None:
    """Run ``t2v-eval``, also as ``python -m t2v_eval``."""
    sys.excepthook = console.say_unexpected
    app(prog_name="t2v-eval")
