"""``t2v-eval gate``: fail if a new report is worse than a baseline, or outside of limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2v_eval.cli import console
from t2v_eval.errors import InputError, OutputError, T2VError
from t2v_eval.utils.arguments import check_path
from t2v_eval.utils.files import check_file, write_text

if TYPE_CHECKING:
    from t2v_eval.report.gate.results import GateResult

FAILED = 3
"""The exit code of a gate that failed."""
STDOUT = Path("-")
"""What --json takes to print."""


def gate(
    new: Annotated[Path, typer.Argument(help="Folder of the new report.", metavar="NEW")],
    baseline: Annotated[
        Path | None,
        typer.Option(help="Folder of the report to compare with.", metavar="OLD"),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Metric to compare; of generators, the name of one. Default: the headline of each "
            "benchmark, and all generators.",
            metavar="NAME",
        ),
    ] = None,
    margin: Annotated[
        float,
        typer.Option(
            help="How much worse still passes, on the scale of the metric; with 0, only what is "
            "shown to be higher passes."
        ),
    ] = 0.01,
    alpha: Annotated[
        float,
        typer.Option(help="Probability that a report passes that is worse by the margin."),
    ] = 0.05,
    window: Annotated[
        str | None,
        typer.Option(
            help="Limits within which the metric of NEW must lie, for example 0.68:0.72.",
            metavar="LOW:HIGH",
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="JSON file to write; - prints JSON alone.", metavar="FILE"),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(help="JUnit XML file to write.", metavar="FILE")
    ] = None,
) -> None:
    """Fail with exit code 3 if a new report is worse than a baseline by more than a margin.

    Tests whether generators, on sets of prompts, or scorers, on rated benchmarks, are worse than
    those of the baseline on the same items: paired one-sided non-inferiority. What is as good
    passes only if there are enough items to show it. Reports that cannot be compared are an error.
    """
    if baseline is None and window is None:
        raise InputError("the gate needs --baseline OLD, --window LOW:HIGH or both")
    for flag, file in (("--json", json_file), ("--junit", junit)):
        if file is not None and file != STDOUT:
            try:
                check_file(file)
            except OutputError as error:
                raise OutputError(str(error).replace("`file=`", flag)) from error
    limits = None if window is None else _limits(window)
    try:
        result = _checked(new, baseline, metric, margin, alpha, limits)
    except T2VError as error:
        _write(None, str(error), json_file, junit)
        raise
    _write(result, "", json_file, junit)
    for check in result.checks if json_file != STDOUT else ():
        console.show(f"{'passed' if check.passed else 'FAILED'}  {check.sentence}")
        console.show(f"        {check.verdict}")
    for note in result.notes:
        console.say(note, "yellow")
    if not result.passed:
        raise SystemExit(FAILED)


def _checked(
    new: Path,
    baseline: Path | None,
    metric: str | None,
    margin: float,
    alpha: float,
    limits: tuple[float, float] | None,
) -> GateResult:
    from t2v_eval.report.gate.checks import not_worse, within_window
    from t2v_eval.report.gate.results import GateResult
    from t2v_eval.report.report import Report

    report = Report.load(new)
    results = []
    if baseline is not None:
        results.append(not_worse(report, baseline, margin, alpha=alpha, metric=metric))
    if limits is not None:
        results.append(within_window(report, *limits, metric=metric))
    return GateResult(
        [check for result in results for check in result.checks],
        [note for result in results for note in result.notes],
    )


def _limits(window: str) -> tuple[float, float]:
    low, _, high = window.partition(":")
    try:
        return float(low), float(high)
    except ValueError:
        raise InputError(
            f"--window {window!r}: pass two numbers as LOW:HIGH, for example 0.68:0.72"
        ) from None


def _write(
    result: GateResult | None, error: str, json_file: Path | None, junit: Path | None
) -> None:
    """Write the files that were asked for, also where the reports cannot be compared."""
    from t2v_eval.report.gate.junit import to_junit

    if json_file is not None:
        content = {"passed": False, "error": error} if result is None else result.to_json()
        if json_file == STDOUT:
            console.print_json(content)
        else:
            text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
            write_text(check_path("json", json_file), text + "\n")
    if junit is not None:
        write_text(check_path("junit", junit), to_junit(result, error).decode())
