"""Output of the command line: results on stdout; progress, warnings and errors on stderr.

All text goes through `printable`, since names, texts and errors come from users and files.
Nothing here imports a model library, so that listings are fast.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from t2v_eval.errors import T2VError, T2VWarning
from t2v_eval.utils.interrupts import sigterm_raises, stop_of
from t2v_eval.utils.printable import printable

if TYPE_CHECKING:
    from t2v_eval.evaluation.benchmark import Run
    from t2v_eval.evaluation.comparison import Difference
    from t2v_eval.remote.cost import Estimate
    from t2v_eval.report.report import Report
    from t2v_eval.scoring.results import CellCounts
    from t2v_eval.stats.bootstrap import Interval
    from t2v_eval.stats.permutation import PValue

Labelled: TypeAlias = "Sequence[tuple[str, Run]]"

MAX_ROWS = 40  # of differences by tag
WIDE = 160  # columns of output that is no terminal


def console(stderr: bool = False) -> Console:
    """Return a console on the current stream, since tests and callers replace the streams."""
    current = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not current.is_terminal:
        current.width = max(current.width, WIDE)
    return current


def text_of(content: object, style: str = "") -> Text:
    """Return text from users or files without markup or control characters."""
    return Text(printable(content), style)


def say(message: str, style: str = "") -> None:
    """Print a message to stderr, with its further lines indented."""
    message = "\n    ".join(str(message).split("\n"))
    console(stderr=True).print(text_of(message, style), soft_wrap=True)


def show(line: str) -> None:
    """Print a line of results to stdout."""
    print(printable(line))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "", numbers: bool = False
) -> None:
    """Print a table to stdout; cells that are plain strings are never read as markup."""
    table = Table(box=SIMPLE_HEAD, title=text_of(title, "bold") if title else None, pad_edge=False)
    table.title_justify = "left"
    for index, column in enumerate(columns):
        table.add_column(text_of(column), justify="right" if numbers and index else "left")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else text_of(cell) for cell in row))
    console().print(table)


def print_report(report: Report) -> None:
    """Print the metrics of each benchmark, by tag, and the differences between its scorers."""
    from t2v_eval.evaluation.comparison import by_benchmark

    for name, indices in by_benchmark(report.runs).items():
        scorers = [(report.labels[index], report.runs[index]) for index in indices]
        first = scorers[0][1]
        _print_metrics(name, scorers)
        if first.by_tag and not first.contrasts:
            _print_metrics_by_tag(name, scorers)
        for label, run in scorers:
            _print_contrasts(f"{name} by {label}", run)
        pairs = [d for d in report.differences if d.first in indices]
        if pairs:
            _print_pairs(name, report, pairs, first.benchmark["headline"])
            _print_pairs_by_tag(name, report, pairs, first.benchmark["headline"])
        if first.benchmark["note"]:
            console().print(text_of(first.benchmark["note"]))
        for remark in first.benchmark["remarks"]:
            console().print(text_of(remark))
        for label, run in scorers:
            for caution in run.scorer["cautions"]:
                console().print(text_of(f"{label}: {caution}", "yellow"))
    _print_meanings(report.runs)


def _print_metrics(name: str, scorers: Labelled) -> None:
    first = scorers[0][1]
    chance: Mapping[str, float] = first.benchmark["chance"]
    rows: list[list[str | Text]] = [
        [_label(label, run), *(_metric(run, m) for m in first.metrics), _used(run.counts)]
        for label, run in scorers
    ]
    if chance:
        guess = [Text(f"{chance[m]:.3f}" if m in chance else "", "dim") for m in first.metrics]
        rows.append([Text("guessing", "dim"), *guess, ""])
    title = f"{name}: {_items(first)}, with 95 % intervals"
    print_table(["scorer", *first.metrics, "scores"], rows, title, numbers=True)


def _print_metrics_by_tag(name: str, scorers: Labelled) -> None:
    first = scorers[0][1]
    headline = first.benchmark["headline"]
    tags: Mapping[str, int] = first.benchmark["tags"]
    rows = [
        [
            f"{tag} ({count})",
            *(
                interval_text(run.by_tag[tag][headline])
                if headline in run.by_tag.get(tag, {})
                else ""
                for _, run in scorers
            ),
        ]
        for tag, count in tags.items()
    ]
    heads = ["tag (items)", *(label for label, _ in scorers)]
    print_table(heads, rows, f"{name}: {headline} by tag", numbers=True)


def _print_pairs(name: str, report: Report, pairs: Sequence[Difference], headline: str) -> None:
    """Print the differences on all items, with counts of common scores where some are missing."""
    from t2v_eval.evaluation.comparison import BOTH

    has_missing = any(pair.used < pair.cells for pair in pairs)
    heads = ["first - second", *pairs[0].metrics, "p", f"on {headline}"]
    rows: list[list[str | Text]] = []
    for pair in pairs:
        names = _names(report, pair)
        rows.append(
            [
                " - ".join(names),
                *(interval_text(interval, "+") for interval in pair.metrics.values()),
                *_tested(pair.tests[""][headline], pair.metrics[headline], *names),
                *[f"{pair.used} of {pair.cells}"] * has_missing,
            ]
        )
    print_table(
        [*heads, *["scores of both"] * has_missing],
        rows,
        f"{name}: differences on the same items; p of {headline}, corrected for all pairs",
        numbers=True,
    )
    if has_missing:
        console().print(Text(BOTH))


def _print_pairs_by_tag(
    name: str, report: Report, pairs: Sequence[Difference], headline: str
) -> None:
    """Print the differences by tag; if there are many, only the significant ones."""
    rows = [
        (tag, pair, metrics[headline])
        for pair in pairs
        for tag, metrics in pair.by_tag.items()
        if headline in metrics
    ]
    title = f"{name}: differences of {headline} by tag; p corrected for all pairs and tags"
    if len(rows) > MAX_ROWS:
        significant = [row for row in rows if row[1].significant(headline, row[0])]
        title += f"; {len(rows) - len(significant)} that are not significant are left out"
        rows = significant
    if rows:
        cells = [
            [
                tag,
                " - ".join(_names(report, pair)),
                interval_text(difference, "+"),
                *_tested(pair.tests[tag][headline], difference, *_names(report, pair)),
            ]
            for tag, pair, difference in rows
        ]
        heads = ["tag", "first - second", headline, "p", "verdict"]
        print_table(heads, cells, title, numbers=True)


def _names(report: Report, pair: Difference) -> tuple[str, str]:
    return report.labels[pair.first], report.labels[pair.second]


def _print_meanings(runs: Sequence[Run]) -> None:
    """Print what each metric means and where published values come from, each once."""
    lines = {
        f"{metric}: {meaning}": None
        for run in runs
        for metric, meaning in run.benchmark["meanings"].items()
        if meaning
    }
    for run in runs:
        for metric, figure in run.benchmark["published"].items():
            lines[f"published {metric} on {run.benchmark['name']}: {figure['source']}"] = None
    for line in lines:
        console().print(text_of(line, "dim"))


def _label(label: str, run: Run) -> Text:
    """Return a scorer's label, with its number of failures."""
    failed = run.counts["failed"]
    return Text.assemble(text_of(label), (f" (failed on {failed})" if failed else "", "red"))


def _metric(run: Run, metric: str) -> Text:
    """Return a metric with its interval, and below it the published value."""
    text = interval_text(run.metrics[metric])
    if metric in run.benchmark["published"]:
        text.append(f"\npublished {run.benchmark['published'][metric]['value']:.3f}", "dim")
    return text


def _print_contrasts(title: str, run: Run) -> None:
    """Print what the benchmark compares within itself, overall and by tag."""
    for first, second in run.contrasts:
        name = f"{first} - {second}"
        rows = []
        for tag, tests in run.tests.items():
            metrics = run.by_tag[tag] if tag else run.metrics
            count = run.benchmark["tags"][tag] if tag else len(run.items)
            rows.append(
                [
                    f"{tag or 'all'} ({count})",
                    interval_text(metrics[first]),
                    interval_text(metrics[second]),
                    interval_text(metrics[name], "+"),
                    *_tested(tests[name], metrics[name], first, second),
                ]
            )
        heads = ["items", first, second, name, "p", "verdict"]
        note = "p of the paired difference, by tag corrected for all tags"
        print_table(heads, rows, f"{title}: {name}; {note}", numbers=True)


def print_failures(report: Report) -> None:
    """Print a yellow line for each reason why scores are missing."""
    for label, run in zip(report.labels, report.runs, strict=True):
        say_failures(f"{label} on {run.benchmark['name']}", run.counts["cells"], run.errors)


def print_left_out(report: Report) -> None:
    """Print a yellow line for each benchmark that lacks image files of some items."""
    from t2v_eval.evaluation.comparison import by_benchmark

    for name, indices in by_benchmark(report.runs).items():
        run = report.runs[indices[0]]
        left_out = run.benchmark["left_out"]["items"]
        if left_out:
            total = len(run.items) + left_out
            say(
                f"{name}: {left_out} of {total} items are left out, as image files are missing",
                "yellow",
            )
        for folder in run.benchmark["folders"]:
            count, total = folder["prompts"], folder["prompts_of_all"]
            if count < total:
                say(f"  {folder['folder']} has images of {count} of {total} prompts", "yellow")


def _items(run: Run) -> str:
    """Return the number of items, and of how many if a part was evaluated."""
    total = run.benchmark["items_of_all"]
    return f"{len(run.items)}{f' of {total}' if total > len(run.items) else ''} items"


def say_failures(label: str, cells: int, errors: Mapping[str, int]) -> None:
    """Print how many of `cells` scores failed, and why, in yellow; nothing where none failed."""
    if errors:
        say(f"{label}: {sum(errors.values())} of {cells} scores failed and are left out", "yellow")
        for reason, count in errors.items():
            say(f"  {count} x {reason}", "yellow")


def print_estimates(estimates: Iterable[tuple[str, Estimate]]) -> None:
    """Print the requests that APIs would get, a row for each run."""
    from t2v_eval.remote.cost import COLUMNS

    print_table(
        ["", *COLUMNS], [[name, *estimate.row()] for name, estimate in estimates], numbers=True
    )


def say_usage(label: str, usage: Mapping[str, float]) -> None:
    """Print the answers and tokens of an API and their cost; nothing where none was used."""
    if usage:
        parts = [f"{usage.get('requests', 0):,.0f} answers"]
        parts += [
            f"{usage[f'{way}put_tokens']:,.0f} tokens {way}"
            for way in ("in", "out")
            if f"{way}put_tokens" in usage
        ]
        parts += [f"{usage['us_dollars']:.4f} US dollars"] if "us_dollars" in usage else []
        say(f"{label}: {', '.join(parts)}")


def _tested(test: PValue, difference: Interval, first: str, second: str) -> list[str | Text]:
    """Return the cells of p and of the verdict."""
    from t2v_eval.report.format import CONSOLE, verdict

    style = "" if test.significant else "dim"
    return [CONSOLE.p_value(test.p_holm), text_of(verdict(test, difference, first, second), style)]


def interval_text(interval: Interval, sign: str = "", between: str = " ") -> Text:
    """Return a value and its limits for a table.

    Args:
        sign: "+" to show the sign of positive numbers too, as of differences.
        between: what separates the value and its limits; may be a new line.
    """
    from t2v_eval.report.format import CONSOLE

    value = CONSOLE.number(interval.value, sign=sign)
    if value == CONSOLE.missing:
        return Text(value, "dim")
    limits = CONSOLE.limits(interval, sign)
    if limits is None:  # too few units for an interval
        return Text(value, "bold")
    return Text.assemble((value, "bold"), (f"{between}[{limits[0]}, {limits[1]}]", "dim"))


def _used(counts: Mapping[str, int]) -> Text:
    """Return the number of scores used, of all, and reused from the store."""
    text = Text(f"{counts['used']} of {counts['cells']}")
    if counts["reused"]:
        text.append(f", {counts['reused']} reused", "dim")
    return text


def waiting(message: str) -> AbstractContextManager[object]:
    """Show a message on a terminal while the context is open."""
    terminal = console(stderr=True)
    return terminal.status(escape(printable(message))) if terminal.is_terminal else nullcontext()


class _TwoLines(Progress):
    """Progress with each description on a line of its own, so that numbers fit into 80 columns."""

    def get_renderables(self) -> Iterator[RenderableType]:
        for task in self.tasks:
            yield text_of(task.description)
            yield self.make_tasks_table([task])


class Bars:
    """Progress bars on stderr, one a run; nothing where stderr is no terminal.

    A bar shows what runs, the number of scores done and in all, the time left, the scores computed
    per second, and how many were reused from the store or failed.
    """

    def __init__(self) -> None:
        terminal = console(stderr=True)
        self._progress = _TwoLines(
            BarColumn(bar_width=12),
            TextColumn("{task.completed:.0f}/{task.total:.0f} scores"),
            TimeRemainingColumn(),
            TextColumn("left", style="dim"),
            TextColumn("{task.fields[rate]}{task.fields[more]}", style="dim"),
            console=terminal,
            disable=not terminal.is_terminal,
        )

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._progress.disable:  # older versions of rich would print an empty line
            self._progress.stop()

    def add(self, label: str) -> Any:
        """Add a bar; return a function that takes `CellCounts` and updates it."""
        task = self._progress.add_task(label, total=0, rate="", more="")

        def update(counts: CellCounts) -> None:
            done = counts.computed + counts.reused + counts.failed
            elapsed = self._progress.tasks[task].elapsed or 0
            more = f", {counts.reused} reused" if counts.reused else ""
            more += f", {counts.failed} failed" if counts.failed else ""
            self._progress.update(
                task,
                total=counts.cells,
                completed=done,
                rate=f"{counts.computed / elapsed:.1f}/s" if elapsed else "",
                more=more,
            )

        return update


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print each warning of this library as one yellow line while the context is open."""
    with warnings.catch_warnings():
        ordinary = warnings.showwarning

        def warn(message: Warning | str, kind: type[Warning], *where: Any) -> None:
            if issubclass(kind, T2VWarning):
                say(f"warning: {message}", "yellow")
            else:
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
            if hasattr(error, "format_message"):  # of typer, which quotes arguments
                vars(error)["message"] = printable(getattr(error, "message", ""))
            raise
        except KeyboardInterrupt as error:
            stop(error)


@contextmanager
def stoppable(store: Path | None) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a message about `store` and exit codes 130 and 143."""
    try:
        with sigterm_raises():
            yield
    except KeyboardInterrupt as error:
        hint = f"finished scores are kept in {store}; run the same command again to continue"
        stop(error, hint if store else "without a store nothing is kept")


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
