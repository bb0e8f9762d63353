"""``t2v-eval protocol``: measure a generator against a baseline in four pillars, as a plan says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from platformdirs import user_cache_path
from rich.markup import escape
from rich.text import Text

from t2v_eval.api import ScorerOptions
from t2v_eval.cli import console
from t2v_eval.cli.gate import FAILED
from t2v_eval.cli.options import AsJson, ShardOf
from t2v_eval.cli.progress import Bars
from t2v_eval.cli.shards import say_next, shard_options
from t2v_eval.errors import InputError
from t2v_eval.utils.printable import printable

if TYPE_CHECKING:
    from t2v_eval.protocol.figures import Figure, PillarResult
    from t2v_eval.protocol.plan import ProtocolPlan
    from t2v_eval.protocol.probes.inputs import ProbeResult
    from t2v_eval.protocol.result import ProtocolReport

DEMO_FOLDER = "t2v-eval-protocol-demo"

PlanFile = Annotated[
    Path | None,
    typer.Argument(
        help="The plan, a .toml file that `t2v-eval plan` wrote; none with --demo.", metavar="PLAN"
    ),
]
Demo = Annotated[
    bool,
    typer.Option(
        "--demo",
        help="Draw two generators and run their protocol, offline. Their difference is known: the "
        "model is better, its colours are more saturated, and prompts are inflated. Everything "
        f"is written to --out, by default {DEMO_FOLDER}.",
    ),
]
Null = Annotated[
    bool,
    typer.Option(
        "--null", help="With --demo: both generators are the same, and nothing is to be claimed."
    ),
]
DemoSeed = Annotated[
    int, typer.Option(help="With --demo: random seed of the images, 0 or more.", min=0)
]
ReportFolder = Annotated[
    Path | None,
    typer.Option(
        help="Folder to write to: a page (report.html), the JSON (report.json) and the score of "
        "each image (scores.csv). Default: nothing is written.",
        metavar="DIR",
    ),
]
OfGate = Annotated[
    bool,
    typer.Option(
        "--gate",
        help="Check only the criteria of the gate, on the part of the prompts that the plan names.",
    ),
]
FeatureCache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="Folder of files that keep features between runs. Default: the folder features in "
        "your cache folder.",
        metavar="DIR",
    ),
]
OUTCOME_STYLES = {"met": "green", "not met": "red"}


def protocol(
    options: ScorerOptions,
    ctx: typer.Context,
    plan: PlanFile = None,
    out: ReportFolder = None,
    gate: OfGate = False,
    cache: FeatureCache = None,
    shard: ShardOf = None,
    demo: Demo = False,
    null: Null = False,
    demo_seed: DemoSeed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure a generator against a baseline: sample quality, adherence, preference, failures.

    The plan names images, prompts, scorers and criteria. Prints a table for each pillar, what is
    not measured, and a verdict for each criterion. What was computed is kept, so that the same
    command goes on where it was stopped. Exit code 3: a criterion is not met, or cannot be told.
    """
    from t2v_eval.protocol.plan import read_plan
    from t2v_eval.protocol.run import ProtocolOptions, run_protocol
    from t2v_eval.utils.files import check_folder

    if demo:
        out = out or Path(DEMO_FOLDER)
        cache = cache or out / "features"
        plan = _draw_demo(plan, out, null, demo_seed)
    elif null or demo_seed:
        wrong = "`null=True`" if null else f"`demo_seed={demo_seed}`"
        raise InputError(f"{wrong} is of the demo: pass `demo=True` too")
    elif plan is None:
        raise InputError(
            "pass a plan, which `t2v-eval plan --out plan.toml` writes, or `demo=True`"
        )
    content = read_plan(plan)
    cached = cache or user_cache_path("t2v-eval") / "features"
    if shard is not None:
        if out is not None:
            raise InputError(
                "a shard has no report, which needs the scores of all: leave out --out, and write "
                "it when the stores are merged"
            )
        return _run_shard(content, options, shard, cached, gate, as_json)
    if out is not None:
        check_folder(out)
    with (
        console.stoppable(options.store),
        Bars() as bars,
        console.waiting("reading images") as status,
    ):
        report = run_protocol(
            content,
            ProtocolOptions(
                scorers=options,
                cache=cached,
                gate=gate,
                command=console.arguments(ctx),
                start=bars.add,
                progress=lambda line: status.update(escape(printable(line))) if status else None,
            ),
        )
    _write(report, out, as_json)
    for line in report.failed:
        console.say(f"not measured: {line}", "red")
    if not report.passed:
        raise SystemExit(FAILED)
    if report.failed:
        raise SystemExit(2)


def _run_shard(
    plan: ProtocolPlan, options: ScorerOptions, text: str, cache: Path, gate: bool, as_json: bool
) -> None:
    """Compute the scores and features of one of several workers, and print how many there are."""
    from t2v_eval.protocol.run import ProtocolOptions
    from t2v_eval.protocol.shards import ShardPart, run_shard

    part, options = shard_options(text, options)
    with console.stoppable(options.store), Bars() as bars:
        of_run = ProtocolOptions(scorers=options, cache=cache, gate=gate, start=bars.add)
        parts = run_shard(plan, of_run, part)
    if as_json:
        rows = [each._asdict() for each in parts]
        console.print_json({"shard": str(part), "store": str(options.store), "parts": rows})
    else:
        title = f"shard {part}: scores and features of its images alone, without a report"
        console.print_table(ShardPart._fields, parts, title)
    say_next(part, options.store)


def _draw_demo(plan: Path | None, out: Path, null: bool, seed: int) -> Path:
    """Write the images and the plan of the demo; return the plan.

    Raises:
        InputError: a plan is named, too.
    """
    from t2v_eval.protocol.demo import write_demo

    if plan is not None:
        raise InputError(f"`demo=True` has a plan of its own: leave out {plan}, or the option")
    with console.waiting(f"drawing the images of the demo in {out}"):
        return write_demo(out, null=null, seed=seed)


def _write(report: ProtocolReport, out: Path | None, as_json: bool) -> None:
    """Write the report, and print it, also where it cannot be written."""
    page = None
    try:
        if out is not None:
            from t2v_eval.protocol.page import write_protocol

            with console.waiting(f"writing the report to {out}"):
                page = write_protocol(report, out)
    finally:
        if as_json:
            console.print_json(report.to_json())
        else:
            _print(report)
    if page is not None:
        console.say(f"Report: {page.resolve()}")


def _print(report: ProtocolReport) -> None:
    for line in report.sentences():
        console.show(line)
    if report.verdicts:
        rows = [
            [
                verdict.name,
                Text(verdict.outcome, OUTCOME_STYLES.get(verdict.outcome, "yellow")),
                verdict.basis,
            ]
            for verdict in report.verdicts
        ]
        console.print_table(["criterion", "verdict", "because"], rows, "Criteria")
    names = report.plan.model.name, report.plan.baseline.name
    for pillar in report.pillars.values():
        _print_pillar(pillar, names)
    _print_probes(report.probes)


def _print_pillar(pillar: PillarResult, names: tuple[str, str]) -> None:
    """Print the figures of a pillar, or what would measure it."""
    if pillar.figures:
        columns = ["figure", *names, "difference", "p (Holm)", "sd of seeds", "n"]
        rows = [_row(figure) for figure in pillar.figures]
        console.print_table(columns, rows, f"{pillar.title}, with 95 % intervals", numbers=True)
    if pillar.by_tag and pillar.pillar == "prompt_adherence":  # of the others, in the report
        rows = [
            [f"{tag}: {figure.name}", *_row(figure)[1:]]
            for tag, figures in pillar.by_tag.items()
            for figure in figures
        ]
        columns = ["tag: figure", *names, "difference", "p (Holm)", "sd of seeds", "n"]
        first = rows[: console.MAX_ROWS]
        console.print_table(columns, first, f"{pillar.title} by tag", numbers=True)
        if len(rows) > len(first):
            console.show(f"{len(rows) - len(first)} more rows are in the report.")
    if pillar.missing:
        console.show(f"{pillar.title}: not measured. To measure it, {pillar.missing}.\n")
    for line in pillar.warnings:
        console.say(line, "yellow")


def _print_probes(probes: Sequence[ProbeResult]) -> None:
    """Print the number of each probe, and the paragraphs of those that warn."""
    from t2v_eval.protocol.probes.charts import probe_value

    if not probes:
        return
    rows = [
        [
            probe.name,
            Text("warning", "yellow") if probe.warning else "",
            probe_value(probe) or f"not measured: {probe.reason}",
        ]
        for probe in probes
    ]
    console.print_table(["probe", "", "number"], rows, "Probes: how scores may be gamed")
    for probe in probes:
        if probe.warning:
            console.say(f"{probe.name}: {probe.statement}", "yellow")


def _row(figure: Figure) -> list[str | Text]:
    from t2v_eval.protocol.page import decimals
    from t2v_eval.report.format import CONSOLE

    digits = decimals(figure)
    p = "" if math.isnan(figure.p_holm) else CONSOLE.p_value(figure.p_holm)
    spread = [CONSOLE.number(value, digits) for value in figure.seed_sd]
    has_spread = not all(map(math.isnan, figure.seed_sd))
    return [
        figure.name,
        *(console.interval_text(side, digits=digits) for side in (figure.model, figure.baseline)),
        console.interval_text(figure.difference, "+", digits=digits),
        p,
        " / ".join(spread) if has_spread else "",
        figure.source.size,
    ]
