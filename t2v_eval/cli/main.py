"""The command line. Each command reads its arguments, calls the library and prints."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from t2v_eval import __version__
from t2v_eval.cli import console
from t2v_eval.cli import dry_run as estimates
from t2v_eval.cli.agree import agree
from t2v_eval.cli.console import stoppable
from t2v_eval.cli.data import data
from t2v_eval.cli.options import (
    Asked,
    BenchmarkOptions,
    Benchmarks,
    Checkpoint,
    Columns,
    Device,
    Images,
    Models,
    NoStore,
    OnErrorOption,
    OnMissing,
    Options,
    Root,
    Spreadsheet,
    StorePath,
    Subset,
    check_pictures,
    default_store,
    given,
    parse_columns,
    parse_options,
    read_blocks,
    results,
    scoring,
)
from t2v_eval.cli.prefer import prefer
from t2v_eval.cli.store import stores
from t2v_eval.errors import InputError, UnsupportedError
from t2v_eval.registry import benchmarks, models

if TYPE_CHECKING:
    from t2v_eval.report.report import Report


class Commands(TyperGroup):
    """Turns errors on purpose into one red line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        with console.guarded(debug=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Score how well pictures match texts, and learn which scorer to believe.",
    epilog="Exit codes: 0 done (failed scores, if any, are counted on stderr), 1 every score "
    "failed, 2 an error, 130 interrupted, 143 terminated.",
)
app.add_typer(stores, name="store")
app.command()(agree)
app.command()(data)
app.command()(prefer)


class Kind(StrEnum):
    """What `list` lists."""

    models = "models"
    benchmarks = "benchmarks"
    templates = "templates"


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """What every command takes."""


@app.command()
@scoring
def score(
    asked: Asked,
    model: Annotated[str, typer.Option("--model", "-m", help="A scorer's name.")],
    images: Annotated[list[str] | None, typer.Argument(help="Pictures.", metavar="IMAGE")] = None,
    text: Annotated[list[str] | None, typer.Option("--text", "-t", help="A text.")] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="A .csv, .jsonl or .parquet table of pictures and their texts."),
    ] = None,
    image_column: Annotated[str, typer.Option(help="The table's column of pictures.")] = "image",
    text_column: Annotated[str, typer.Option(help="The table's column of texts.")] = "text",
    root: Root = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A .csv, .jsonl or .parquet file to write; default: standard output."),
    ] = None,
    spreadsheet: Spreadsheet = False,
) -> None:
    """Score every IMAGE against every --text, or the rows of a table, whose columns are kept.

    With --on-error skip, a score that could not be made is empty and its reason is in the column
    `error`; the exit code is 1 only where every score failed.
    """
    from t2v_eval.inputs import tables
    from t2v_eval.utils import files

    card = models.card(model)  # what is wrong is said before torch is imported
    if asked.dry_run and not card.remote:
        raise UnsupportedError(f"{model!r} runs here: it asks no service and costs nothing")
    if spreadsheet:
        tables.check_spreadsheet(out)
    if out is not None:
        tables.check_suffix(out)
        files.check_file(out)
    if not (text or pairs) and images and getattr(models.entry(model), "uses_text", True):
        raise InputError(f"{model!r} needs at least one --text, or a table with --pairs")
    skip = asked.on_error == "skip"
    blocks, told, bad = read_blocks(images, text, pairs, (image_column, text_column), root, skip)
    if not skip:
        check_pictures(blocks, pairs is not None)
    from t2v_eval.api import load
    from t2v_eval.remote.scorer import estimate

    with stoppable(asked.store), console.Bars() as bars:
        scorer = load(model, store=asked.store, on_error=asked.on_error, **asked.options)  # type: ignore[arg-type]
        if asked.dry_run:
            return console.print_estimates([(model, estimate(scorer, blocks))])
        outcome = scorer.evaluate_blocks(blocks, bars.of(model))
    rows = list(results(blocks, told, bad, model, outcome))
    if out is not None:
        with tables.rescuing(out, rows):
            tables.write_table(out, rows, spreadsheet)
        console.say(f"{len(rows)} scores are in {out}")
    elif console.is_terminal() and not spreadsheet:
        console.print_table(
            ["image", "text", "score"],
            [[r["image"], r["text"], r["error"] or f"{r['score']:.4f}"] for r in rows],
        )
    else:
        sys.stdout.write(tables.to_csv(rows, spreadsheet))
    errors = {**outcome.errors, **dict.fromkeys(bad.values(), 1)}
    console.say_failures(model, outcome.counts.cells + len(bad), errors)
    console.say_usage(model, outcome.usage)
    _exit_if_nothing(outcome.counts.cells - outcome.counts.failed)


@app.command("eval")
@app.command("compare")
@scoring
def evaluate(
    asked: Asked,
    ctx: typer.Context,
    model: Models,
    benchmark: Benchmarks,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the report: page, Markdown, JSON, CSV.", metavar="DIR"),
    ] = None,
    root: Root = None,
    images: Images = None,
    column: Columns = None,
    benchmark_option: BenchmarkOptions = None,
    spreadsheet: Spreadsheet = False,
    subset: Subset = None,
    on_missing: OnMissing = "error",
) -> None:
    """Run scorers on benchmarks: figures with intervals, by tag, and paired differences.

    --model and --benchmark may be repeated; `compare` wants two models or more. --subset evaluates
    a part, and --on-missing skip what has its pictures. With --on-error skip, failed scores are
    left out and counted; the exit code is 1 only where all failed.
    """
    if ctx.info_name == "compare" and len(model) < 2:
        raise InputError("compare needs two models or more: repeat --model")
    options = asked.options | given(
        on_error=asked.on_error,
        images=images or None,
        columns=parse_columns(column),
        benchmark_options=parse_options(benchmark_option, "--benchmark-option") or None,
        subset=subset or None,
        on_missing=None if on_missing == "error" else on_missing,
    )
    if asked.dry_run:
        return estimates.print_estimates(model, benchmark, asked.store, root, options)
    run(model, benchmark, out, asked.store, root, spreadsheet, **options)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the report.", metavar="DIR")] = Path(
        "t2v-eval-demo"
    ),
    store: StorePath = None,
    no_store: NoStore = False,
) -> None:
    """Compare the small scorers that come with the library, on pictures that it draws."""
    kept = None if no_store else store or default_store()
    names, judges = (
        [card.name for card in registry.cards.values() if card.demo]
        for registry in (models, benchmarks)
    )
    if not names or not judges:
        raise UnsupportedError("no card of a scorer, or none of a benchmark, says `demo = true`")
    run(names, judges, out, kept)


@app.command("list")
def list_names(
    what: Annotated[Kind, typer.Argument(help="What to list.")],
    pattern: Annotated[str, typer.Argument(help="A glob, for example 'hps*'.")] = "*",
    kind: Annotated[str, typer.Option(help="A glob for the kind, for example vqa.")] = "*",
) -> None:
    """List what can be named, or with a full name all that its card says; nothing is loaded."""
    from fnmatch import fnmatch

    if what is Kind.templates:
        from t2v_eval.inputs.template import templates, wrappers

        columns = ["name", "kind", "question", "answer", "source"]
        rows = [[t.name, "template", t.question, t.answer, t.source] for t in templates().values()]
        rows += [
            [w.name, f"wrapper, {w.option_name}=", w.text, "", w.source]
            for w in wrappers().values()
        ]
        rows += [
            [name, "template", "see `list models NAME`: questions", "", "differs between scorers"]
            for name in models.conventions()
        ]
        rows = [row for row in rows if fnmatch(row[0], pattern)]
    else:
        registry = models if what is Kind.models else benchmarks
        cards = registry.cards
        if pattern in cards:
            columns, rows = ["fact", "value"], [[*f] for f in cards[pattern].described().items()]
        else:
            columns = ["name", "kind", "summary", "license", "follows"]
            found = [cards[name] for name in registry.names(pattern, kind)]
            rows = [[c.name, c.kind, c.summary, c.license, c.follows] for c in found]
    if console.is_terminal():
        console.print_table(columns, rows)
    else:
        for row in rows:
            console.show("\t".join(cell.replace("\n", "\\n") for cell in row))


@app.command()
def caption(
    candidates: Annotated[Path, typer.Argument(help='A JSON file: {"picture": "caption"}.')],
    images: Annotated[Path, typer.Argument(help="The folder of the pictures.")],
    references: Annotated[
        Path | None, typer.Option(help='A JSON file: {"picture": ["caption", ...]}.')
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", "--scorer", help="A scorer's name; default: see `list models`."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A JSON file for the scores.")] = None,
    on_error: OnErrorOption = "raise",
    store: StorePath = None,
    no_store: NoStore = False,
    device: Device = None,
    checkpoint: Checkpoint = None,
    option: Options = None,
) -> None:
    """Score the caption of every picture or video of a folder, with or without human references.

    A picture is called by its file's name without the ending. The means are printed.
    """
    from t2v_eval.utils.files import check_file

    if out is not None:
        check_file(out)
    want = "references" if references else "alone"
    defaults = [card.name for card in models.cards.values() if card.captions == want]
    if not (model or defaults):
        raise UnsupportedError(f"no card says `captions = {want!r}`; name a scorer with --model")
    kept = None if no_store else store or default_store()
    name = model or defaults[0]
    models.card(name)  # what is wrong is said before a model is loaded
    from t2v_eval.evaluation.captions import Captions

    read = Captions.read(candidates, images, references, on_error == "skip")
    from t2v_eval.api import load

    options = parse_options(option) | given(device=device, checkpoint=checkpoint)
    with stoppable(kept), console.Bars() as bars:
        judge = load(name, store=kept, on_error=on_error, **options)  # type: ignore[arg-type]
        found = read.score(judge, bars.of(name))
    for key, mean in found.means().items():
        console.show(f"{key}: {mean:.4f}")
    console.say_failures(name, found.counts.cells, Counter(found.failures.values()))
    if out is not None:
        found.write(out)
        console.say(f"{len(found.scores)} scores are in {out}")
    _exit_if_nothing(found.counts.cells - found.counts.failed)


def run(
    names: Sequence[str],
    judges: Sequence[str],
    out: Path | None,
    store: Path | None,
    root: Path | None = None,
    spreadsheet: bool = False,
    **options: Any,
) -> Report:
    """Compare, write the report to `out`, and print; whether it can be written is known first."""
    for name in names:
        models.card(name)
    for name in judges:
        benchmarks.card(name)
    from t2v_eval.report.report import compare
    from t2v_eval.utils.files import check_folder

    if out is not None:
        check_folder(out)
    with stoppable(store), console.Bars() as bars:
        report = compare(
            names,
            judges,
            store=store,
            root=root,
            progress=lambda scorer, judge, items: bars.of(
                f"{scorer.name} on {judge.name}, {items} items"
            ),
            **options,
        )
    page = None
    try:
        if out is not None:  # before anything is printed, as a reader such as `head` may be gone
            with console.waiting(f"writing the report to {out}"):
                page = report.write(out, spreadsheet=spreadsheet)
    finally:
        console.print_report(report)
        console.print_failures(report)
        console.print_left_out(report)
    for label, ran in zip(report.labels, report.runs, strict=True):
        console.say_usage(f"{label} on {ran.benchmark['name']}", ran.scorer.get("usage", {}))
    if page is not None:
        console.show(f"\nThe page with all of it: {page.resolve()}")
    _exit_if_nothing(sum(run.counts["used"] for run in report.runs))
    return report


def _exit_if_nothing(used: int) -> None:
    if not used:
        console.say("error: every score failed", "red")
        raise SystemExit(1)


def main() -> None:
    """The entry point of ``t2v-eval`` and ``python -m t2v_eval``."""
    sys.excepthook = console.say_unexpected
    app(prog_name="t2v-eval")
