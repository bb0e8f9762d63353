"""Output of the command line: results on stdout; progress, warnings and errors on stderr.

All text goes through `printable`, since names, texts and errors come from users and files.
Nothing here imports a model library, so that listings are fast.
"""

from __future__ import annotations

import json
import math
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.status import Status
from rich.table import Table
from rich.text import Text

from t2v_eval.errors import T2VError, T2VWarning
from t2v_eval.utils.interrupts import sigterm_raises, stop_of
from t2v_eval.utils.printable import printable

if TYPE_CHECKING:
    from t2v_eval.remote.cost import Estimate
    from t2v_eval.report.report import Report
    from t2v_eval.report.tables import Cell
    from t2v_eval.report.tables import Table as ReportTable
    from t2v_eval.stats.bootstrap import Interval
    from t2v_eval.store import Store

MAX_ROWS = 40  # of differences by tag
WIDE = 160  # columns of output that is no terminal
ARGUMENTS = "t2v_eval.arguments"  # where a context keeps the arguments of the command line
_quiet: list[bool] = []  # of the commands that run
_translations: list[Callable[[str], str]] = []  # of the commands that run, the innermost last


def console(stderr: bool = False) -> Console:
    """Return a console on the current stream, since tests and callers replace the streams."""
    current = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not current.is_terminal:
        current.width = max(current.width, WIDE)
    return current


def text_of(content: object, style: str = "") -> Text:
    """Return text from users or files without markup or control characters."""
    return Text(printable(content), style)


@contextmanager
def translating(translate: Callable[[str], str]) -> Iterator[None]:
    """Pass messages through a function while the context is open; see `cli/flags.py`."""
    _translations.append(translate)
    try:
        yield
    finally:
        _translations.pop()


@contextmanager
def quieting(quiet: bool) -> Iterator[None]:
    """Print no progress, notes and warnings while the context is open, if `quiet`."""
    _quiet.append(quiet)
    try:
        yield
    finally:
        _quiet.pop()


def is_quiet() -> bool:
    """Return whether only results and errors are printed."""
    return any(_quiet)


def note(message: str) -> None:
    """Print a message to stderr that is neither result nor error; nothing with --quiet."""
    if not is_quiet():
        say(message)


def say(message: str, style: str = "") -> None:
    """Print a message to stderr, with its further lines indented."""
    message = translated(message)
    message = "\n    ".join(message.split("\n"))
    console(stderr=True).print(text_of(message, style), soft_wrap=True)


def translated(message: str) -> str:
    """Return a message in the words of the command that runs; see `translating`."""
    return _translations[-1](str(message)) if _translations else str(message)


def show(line: str) -> None:
    """Print a line of results to stdout."""
    print(printable(line))


def print_json(content: Any) -> None:
    """Print a result as JSON to stdout; NaN and infinities are null."""
    plain = _without_nan(content)
    show(json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False, default=str))


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "", numbers: bool = False
) -> None:
    """Print a table to stdout; cells that are plain strings are never read as markup."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(text_of(column), justify="right" if numbers and index else "left")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else text_of(cell) for cell in row))
    if title:  # above the table and not of it, which would fold it to the width of the table
        console().print(text_of(title, "bold"))
    console().print(table)


def show_indented(text: str) -> None:
    """Print a text of results with an indent; in a terminal, its further lines too."""
    if text and is_terminal():
        console().print(Padding(text_of(text), (0, 0, 0, 4), expand=False))
    elif text:  # `Padding` would cut a line at the width of the console
        show(f"    {text}")


def print_aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a list to stdout below a header, each column as wide as its widest cell.

    In a terminal the last columns are folded; elsewhere each row is one line.
    """
    rows = [[cell.replace("\n", "\\n") for cell in row] for row in rows]
    if is_terminal():
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for index, column in enumerate(columns):
            table.add_column(text_of(column), no_wrap=index == 0, overflow="fold")
        for row in rows:
            table.add_row(*map(text_of, row))
        console().print(table)
        return
    lines = [[cell_len(printable(cell)) for cell in row] for row in (columns, *rows)]
    widths = [max(column) for column in zip(*lines, strict=True)]
    for row, lengths in zip((columns, *rows), lines, strict=True):
        padded = [
            cell + " " * (width - length)
            for cell, width, length in zip(row, widths, lengths, strict=True)
        ]
        show("  ".join(padded).rstrip())


def print_report(report: Report) -> None:
    """Print what was measured on each benchmark: first in sentences, then in tables."""
    from t2v_eval.report.claims import claims
    from t2v_eval.report.tables import sections

    lines: dict[str, None] = {}
    for section in sections(report.runs, report.labels, report.differences):
        first = section.first
        for claim in claims(section):
            console().print(text_of(claim.text, "bold"))
            for basis in claim.basis:
                console().print(text_of(f"  {basis}", "dim"))
        console().print()
        _print_report_table(section.name, section.metrics())
        for table in section.people():
            _print_report_table(section.name, table)
        contrasts = list(section.contrasts())
        if first.by_tag and not contrasts:
            _print_report_table(section.name, section.by_tag())
        for contrast in contrasts:
            _print_report_table(section.name, contrast)
        if section.pairs:
            _print_report_table(section.name, section.differences())
            by_tag = section.differences_by_tag(MAX_ROWS)
            if by_tag.rows:
                _print_report_table(section.name, by_tag)
        for decisions in section.decisions():
            if len(decisions.rows) <= MAX_ROWS:
                _print_report_table(section.name, decisions)
        for remark in filter(None, (first.benchmark.note, *first.benchmark.remarks)):
            console().print(text_of(remark))
        for caution in section.cautions:
            console().print(text_of(caution, "yellow"))
        lines |= {f"{metric}: {text}": None for metric, text in section.meanings.items()}
        name = first.benchmark.name
        for metric, source in section.sources.items():
            lines[f"published {metric} on {name}: {source}"] = None
    for line in lines:  # what metrics of several benchmarks mean, each once
        console().print(text_of(line, "dim"))


def _print_report_table(name: str, table: ReportTable) -> None:
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    print_table(table.columns, rows, f"{name}: {table.title}", numbers=True)
    if table.note:
        console().print(Text(table.note))


def _cell(cell: Cell) -> Text:
    from t2v_eval.report import tables
    from t2v_eval.report.format import CONSOLE
    from t2v_eval.scoring.results import CellCounts

    match cell:
        case tables.ScorerCell(label, failed):
            return Text.assemble(
                text_of(label), (f" (failed on {failed})" if failed else "", "red")
            )
        case tables.IntervalCell(interval, sign, published):
            text = interval_text(interval, sign)
            if published is not None:
                text.append(f"\npublished {CONSOLE.number(published)}", "dim")
            return text
        case tables.PValueCell(p):
            return Text(CONSOLE.p_value(p))
        case tables.VerdictCell(text, significant):
            return text_of(text, "" if significant else "dim")
        case tables.ChanceCell(text):
            return Text(text, "dim")
        case CellCounts():
            reused = f", {cell.reused} reused" if cell.reused else ""
            return Text.assemble(f"{cell.used} of {cell.cells}", (reused, "dim"))
    return text_of(cell)


def print_failures(report: Report) -> None:
    """Print a yellow line for each reason why scores are missing."""
    for label, run in zip(report.labels, report.runs, strict=True):
        say_failures(f"{label} on {run.benchmark.name}", run.counts.cells, run.errors)


def print_left_out(report: Report) -> None:
    """Print a yellow line for each benchmark that lacks image files of some items."""
    from t2v_eval.evaluation.comparison import by_benchmark

    for name, indices in by_benchmark(report.runs).items():
        run = report.runs[indices[0]]
        left_out = run.benchmark.left_out.items
        if left_out:
            total = len(run.items) + left_out
            say(
                f"{name}: {left_out} of {total} items are left out, as image files are missing",
                "yellow",
            )
        for folder in run.benchmark.folders:
            if folder.is_partial:
                count = f"{folder.prompts} of {folder.prompts_of_all}"
                say(f"  {folder.folder} has images of {count} prompts", "yellow")


def say_failures(label: str, cells: int, errors: Mapping[str, int], what: str = "scores") -> None:
    """Print how many of `cells` scores failed, and why, in yellow; nothing if all succeeded."""
    if errors:
        say(f"{label}: {sum(errors.values())} of {cells} {what} failed and are left out", "yellow")
        for reason, count in errors.items():
            say(f"  {count} x {reason}", "yellow")


def print_estimates(
    estimates: Sequence[tuple[Mapping[str, str], Estimate]], as_json: bool = False
) -> None:
    """Print the requests that APIs would get, a row for each run.

    Args:
        estimates: what each run is called, and its estimate.
        as_json: whether to print JSON instead of a table.
    """
    from t2v_eval.remote.cost import COLUMNS

    if as_json:
        print_json([{**names, **asdict(estimate)} for names, estimate in estimates])
        return
    rows = [
        [" on ".join(names.values()), *map(translated, estimate.row())]
        for names, estimate in estimates
    ]
    print_table(["", *COLUMNS], rows, numbers=True)


def say_usage(label: str, usage: Mapping[str, float]) -> None:
    """Print the answers and tokens of an API and their cost; nothing if no API was used."""
    if usage:
        parts = [f"{usage.get('requests', 0):,.0f} answers"]
        parts += [
            f"{usage[f'{way}put_tokens']:,.0f} tokens {way}"
            for way in ("in", "out")
            if f"{way}put_tokens" in usage
        ]
        parts += [f"{usage['us_dollars']:.4f} US dollars"] if "us_dollars" in usage else []
        note(f"{label}: {', '.join(parts)}")


def interval_text(interval: Interval, sign: str = "", between: str = " ", digits: int = 3) -> Text:
    """Return a value and its limits for a table.

    Args:
        interval: the value and its limits.
        sign: "+" to show the sign of positive numbers too, as of differences.
        between: what separates the value and its limits; may be a new line.
        digits: the number of decimals.
    """
    from t2v_eval.report.format import CONSOLE

    value = CONSOLE.number(interval.value, digits, sign)
    if value == CONSOLE.missing:
        return Text(value, "dim")
    limits = CONSOLE.limits(interval, sign, digits)
    if limits is None:  # too few units for an interval
        return Text(value, "bold")
    return Text.assemble((value, "bold"), (f"{between}[{limits[0]}, {limits[1]}]", "dim"))


def arguments(context: Any) -> list[str]:
    """Return the arguments of the running command without secrets, for a report."""
    from t2v_eval.report.about import without_secrets

    return without_secrets(context.meta.get(ARGUMENTS, ()))


def waiting(message: str) -> AbstractContextManager[Status | None]:
    """Show a message on a terminal while the context is open; nothing with --quiet."""
    terminal = console(stderr=True)
    if is_quiet() or not terminal.is_terminal:
        return nullcontext()
    return terminal.status(escape(printable(message)))


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print each warning of this library as one yellow line while the context is open."""
    with warnings.catch_warnings():
        ordinary = warnings.showwarning

        def warn(message: Warning | str, kind: type[Warning], *where: Any) -> None:
            if issubclass(kind, T2VWarning) and not is_quiet():
                say(f"warning: {message}", "yellow")
            elif not issubclass(kind, T2VWarning):
                ordinary(printable(message), kind, *where)

        warnings.simplefilter("always", T2VWarning)
        warnings.showwarning = warn  # type: ignore[assignment]
        yield


@contextmanager
def guarded(debug: bool = False) -> Iterator[None]:
    """Turn errors into one red line and exit code 2, Ctrl-C into 130 and SIGTERM into 143."""
    with warnings_as_lines(), sigterm_raises():
        try:
            yield
        except T2VError as error:
            if debug:
                raise
            say(f"error: {error}", "red")
            raise SystemExit(2) from None
        except OSError as error:
            if debug or not isinstance(error.filename, str):
                raise
            say(f"error: {error.filename}: {error.strerror}", "red")
            raise SystemExit(2) from None
        except Exception as error:
            # Errors of typer about arguments; without any argument it prints the help instead.
            if debug or not hasattr(error, "format_message") or "NoArgs" in type(error).__name__:
                raise
            command = getattr(getattr(error, "ctx", None), "command_path", "t2v-eval")
            message = " ".join(error.format_message().split())  # choices have a line each
            message = message.rstrip(".").replace("Value error, ", "")
            say(f"error: {message}; see `{command} --help`", "red")
            raise SystemExit(2) from None
        except KeyboardInterrupt as error:
            stop(error)


@contextmanager
def stoppable(store: str | Path | Store | None, hint: str = "") -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a message and exit codes 130 and 143.

    Args:
        store: where finished scores are.
        hint: the message, where no scores are computed.
    """
    try:
        with sigterm_raises():
            yield
    except KeyboardInterrupt as error:
        stored = f"finished scores are stored in {store}; run the same command again to continue"
        stop(error, hint or (stored if store else "without a store, finished scores are lost"))


def stop(error: KeyboardInterrupt, hint: str = "") -> NoReturn:
    """Print what stopped a command, with a hint, and exit with its code."""
    word, code = stop_of(error)
    say(f"{word}; {hint}" if hint else word, "red")
    raise SystemExit(code) from None


def say_unexpected(*raised: Any) -> None:
    """Print the traceback of an unexpected error, as `sys.excepthook`."""
    sys.stderr.write(printable("".join(traceback.format_exception(*raised))))


def is_terminal() -> bool:
    """Return whether stdout is a terminal."""
    return sys.stdout.isatty()


def exit_if_all_failed(used: int) -> None:
    """Exit with code 1 where no score can be used."""
    if not used:
        say("error: every score failed", "red")
        raise SystemExit(1)
