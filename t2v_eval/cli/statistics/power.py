"""``t2v-eval power``: how many items a comparison needs, and what so many could have shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2v_eval.cli import console
from t2v_eval.cli.options import AsJson, Resamples, Seed
from t2v_eval.errors import InputError, TableError
from t2v_eval.inputs.addresses import path_or_address

if TYPE_CHECKING:
    from t2v_eval.evaluation.power import PlannedComparison, Target

Pilot = Annotated[
    str | None,
    typer.Argument(
        help="Pilot: the folder of a report, or a table (.csv, .tsv, .jsonl, .json, .parquet), or "
        "its address, with columns of scores. Default: none, with --effect, --share or --items.",
        metavar="[REPORT_DIR|TABLE]",
    ),
]
PilotScores = Annotated[
    list[str] | None,
    typer.Option(
        help="Column of scores of a table; name two or more. Without --human their means are "
        "compared, as of one scorer on two generators.",
        metavar="COLUMN",
    ),
]
PilotHuman = Annotated[
    list[str] | None,
    typer.Option(
        help="Column of human ratings of a table, with which the agreement of both columns is "
        "compared; repeat it for several raters.",
        metavar="COLUMN",
    ),
]
PilotGroup = Annotated[
    str | None,
    typer.Option(
        help="Column whose equal values make a group (for example one prompt), which is what is "
        "counted. Default: each row.",
        metavar="COLUMN",
    ),
]
PilotMetric = Annotated[
    str | None,
    typer.Option(
        help="Metric of agreement of two scorers. Default: the headline of a report's benchmark; "
        "of a table, tau_b.",
        metavar="NAME",
    ),
]
Effect = Annotated[
    float | None,
    typer.Option(
        help="Smallest difference that matters, in units of the metric. Default: that of the "
        "pilot.",
    ),
]
Deviation = Annotated[
    float,
    typer.Option(
        help="Standard deviation of the paired differences, where there is no pilot; with 1, "
        "--effect is in standard deviations."
    ),
]
Share = Annotated[
    float | None,
    typer.Option(help="Share of blind pairs that one side wins, to be told from one half."),
]
Items = Annotated[
    int | None,
    typer.Option(help="Number of items, of which the detectable difference is asked.", metavar="N"),
]
Power = Annotated[
    float, typer.Option(help="Probability that the test finds the difference, below 1.")
]
Alpha = Annotated[float, typer.Option(help="Level of the two-sided test, between 0 and 1.")]


def power(
    pilot: Pilot = None,
    scores: PilotScores = None,
    human: PilotHuman = None,
    group: PilotGroup = None,
    metric: PilotMetric = None,
    effect: Effect = None,
    sd: Deviation = 1.0,
    share: Share = None,
    items: Items = None,
    power: Power = 0.8,
    alpha: Alpha = 0.05,
    as_json: AsJson = False,
    resamples: Resamples = 1000,
    seed: Seed = 0,
) -> None:
    """Say how many items tell two generators or scorers apart; no model runs.

    From a pilot, a report or a table, comes the spread of the paired differences: the number of
    items is for the difference of the pilot or for --effect, and the detectable difference says
    what the pilot itself could have shown. Without a pilot, --effect and --sd, --share or --items
    say what is planned. Tests are two-sided and paired.
    """
    from t2v_eval.evaluation.power import Target
    from t2v_eval.stats import power as formulas

    target = Target(power=power, alpha=alpha, effect=effect, items=items)
    # Numbers that cannot be used are named before a pilot is read.
    formulas.scaled_effect(1.0, power, alpha)
    if pilot is None:
        if scores or human or group or metric:
            raise InputError("--scores, --human, --group and --metric need a pilot: pass its table")
        _say_planned(_planned(target, sd, share), as_json)
        return
    if share is not None or sd != 1.0:
        raise InputError("--share and --sd are for plans without a pilot, which has its own spread")
    options = {"human": human or [], "group": group, "resamples": resamples, "seed": seed}
    plans = _plans(path_or_address("pilot", pilot), target, metric, scores or [], options)
    if as_json:
        console.print_json({**asdict(target), "comparisons": [plan.to_json() for plan in plans]})
        return
    _print(plans, target)
    for plan in plans:
        for sentence in _sentences(plan, target):
            console.show(sentence)


def _plans(
    pilot: Path | str,
    target: Target,
    metric: str | None,
    scores: Sequence[str],
    options: dict[str, Any],
) -> list[PlannedComparison]:
    """Read the pilot, and plan its comparisons."""
    from t2v_eval.evaluation.power import plan_columns, plan_runs

    if isinstance(pilot, Path) and (pilot.is_dir() or pilot.name == "report.json"):
        if scores or options["human"] or options["group"]:
            raise InputError(
                f"--scores, --human and --group name columns of a table, and {pilot} is a report"
            )
        from t2v_eval.report.report import Report

        with console.waiting("reading the report"):
            report = Report.load(pilot)
        return plan_runs(report.runs, report.labels, target, metric)
    from t2v_eval.inputs.tables import read_table

    if not scores:
        raise InputError(f"{pilot} is a table: name two columns, --scores a --scores b")
    with console.waiting("reading the table"):
        rows = read_table(pilot)
        try:
            return plan_columns(rows, scores, target, metric=metric, **options)
        except TableError as error:
            raise TableError(f"{pilot}: {error}") from error


def _planned(target: Target, sd: float, share: float | None) -> dict[str, Any]:
    """Return what is planned without a pilot, as JSON."""
    from t2v_eval.stats import power as formulas

    chances = target.power, target.alpha
    plan: dict[str, Any] = {}
    if target.effect is not None:
        needed = formulas.paired_items(target.effect, sd, *chances)
        plan["paired"] = {"effect": target.effect, "sd": sd, "items": needed}
    if share is not None:
        plan["blind_pairs"] = {"share": share, "items": formulas.share_items(share, *chances)}
    if target.items is not None:
        plan["items"] = {
            "items": target.items,
            "detectable_difference": formulas.paired_effect(target.items, sd, *chances),
            "sd": sd,
            "detectable_share": formulas.share_effect(target.items, *chances),
            "limit_of_none_seen": formulas.rate_limit(target.items),
        }
    if not plan:
        raise InputError("pass a pilot (a report or a table), --effect, --share or --items")
    return {"power": target.power, "alpha": target.alpha, **plan}


def _say_planned(plan: dict[str, Any], as_json: bool) -> None:
    if as_json:
        console.print_json(plan)
        return
    chance = f"with a power of {100 * plan['power']:g} %"
    if "paired" in plan:
        part = plan["paired"]
        subject = (
            ""
            if part["sd"] == 1
            else f" where differences have the standard deviation {part['sd']:g}"
        )
        unit = " standard deviations" if part["sd"] == 1 else ""
        console.show(
            f"A mean difference of {part['effect']:g}{unit}{subject} needs {_count(part['items'])} "
            f"paired items {chance}."
        )
    if "blind_pairs" in plan:
        part = plan["blind_pairs"]
        console.show(
            f"A share of {100 * part['share']:g} % of blind pairs is told from one half by "
            f"{_count(part['items'])} pairs {chance}."
        )
    if "items" in plan:
        part = plan["items"]
        unit = " standard deviations" if part["sd"] == 1 else ""
        share = part["detectable_share"]
        wins = f"a share of wins of {100 * share:.1f} %" if share <= 1 else "no share of wins"
        console.show(
            f"{_count(part['items'])} items show, {chance}: a mean paired difference of "
            f"{part['detectable_difference']:.3g}{unit}; of blind pairs, {wins}."
        )
        console.show(
            f"If none of {_count(part['items'])} outputs has a flag, the rate of flags is below "
            f"{100 * part['limit_of_none_seen']:.2g} % (95 % Clopper-Pearson)."
        )


def _print(plans: Sequence[PlannedComparison], target: Target) -> None:
    from t2v_eval.report.format import CONSOLE

    rows = [
        [
            f"{plan.first} - {plan.second}",
            plan.on,
            plan.metric,
            CONSOLE.number(plan.difference.value, 4, sign="+"),
            CONSOLE.number(plan.error, 4),
            f"{plan.pilot} {plan.unit}s",
            CONSOLE.number(plan.detectable, 4) if plan.detectable else "",
            *([_with(plan)] if target.items else []),
            _count(plan.items) if plan.detectable else "",
        ]
        for plan in plans
    ]
    heads = ["first - second", "on", "metric", "difference", "standard error", "pilot"]
    heads += ["detectable", *([f"with {target.items}"] if target.items else []), "needed"]
    if not any(plan.on for plan in plans):
        heads.remove("on")
        rows = [[cell for k, cell in enumerate(row) if k != 1] for row in rows]
    title = f"two-sided tests at {target.alpha:g} with a power of {100 * target.power:g} %"
    console.print_table(heads, rows, title, numbers=True)


def _sentences(plan: PlannedComparison, target: Target) -> Iterator[str]:
    """Yield what a plan says, and what it rests on."""
    where = f" on {plan.on}" if plan.on else ""
    names = f"{plan.first} and {plan.second}{where}"
    if not plan.detectable:
        yield f"{names}: all differences of the pilot are equal, so that nothing can be planned."
        return
    yield (
        f"{names}: {plan.pilot} {plan.unit}s could have shown a difference of "
        f"{plan.detectable:.3g} in {plan.metric}; the pilot saw {plan.difference.value:+.3g}."
    )
    source = "its own difference" if target.effect is None else f"a difference of {plan.effect:g}"
    if plan.items is None:
        yield f"  {source[0].upper()}{source[1:]} is too small to plan for: pass --effect."
    elif plan.enough:
        yield f"  For {source}, {_count(plan.items)} {plan.unit}s are enough: the pilot has them."
    else:
        yield f"  For {source}, {_count(plan.items)} {plan.unit}s are needed."
    interval = plan.difference
    if target.effect is None:
        yield (
            f"  The difference itself is uncertain, from {interval.low:+.3g} to "
            f"{interval.high:+.3g}: plan with the smallest one that matters (--effect)."
        )
    if plan.pilot < 30:
        yield f"  A pilot of {plan.pilot} {plan.unit}s knows the spread only roughly."


def _with(plan: PlannedComparison) -> str:
    from t2v_eval.report.format import CONSOLE

    return CONSOLE.number(plan.detectable_with, 4) if plan.detectable_with else ""


def _count(number: int | None) -> str:
    return "more than a billion" if number is None else f"{number:,}"
