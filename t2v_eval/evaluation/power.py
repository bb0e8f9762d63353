"""How many items tell two generators or two scorers apart, planned from a pilot.

A pilot is a report, or a table with two columns of scores. Generators, and columns without ratings,
are compared by the paired differences of their mean scores (Student's t); scorers, on rated items,
by the difference of an agreement metric, whose standard error comes from the bootstrap and shrinks
with the square root of the number of items. Formulas are in `stats.power`.

The number of items is for the difference that the pilot saw, unless `effect` names another: what a
small pilot sees is itself uncertain, and often too large where only a clear pilot is followed up.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy import special

from t2v_eval.errors import InputError, TableError
from t2v_eval.evaluation.comparison import by_benchmark, has_generators
from t2v_eval.evaluation.rating_tables.columns import is_empty, numbers
from t2v_eval.evaluation.rating_tables.table import mean_of_raters
from t2v_eval.evaluation.run import Run
from t2v_eval.inputs.tables import Row
from t2v_eval.stats import power
from t2v_eval.stats.agreement_metrics import METRICS
from t2v_eval.stats.bootstrap import BootstrapSamples, Interval, agreement_statistic
from t2v_eval.stats.noninferiority import ClusteredMean, clustered_mean
from t2v_eval.utils.arrays import FloatArray

PAIRED, BOOTSTRAP = "paired t", "bootstrap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a comparison should be able to show.

    Attributes:
        power: the probability that a test finds the difference, between alpha and 1.
        alpha: the level of the two-sided test, between 0 and 1.
        effect: the difference to be shown, in the units of the metric; None takes the pilot's.
        items: a number of items of which the detectable difference is asked; None asks for none.

    >>> Target(effect=0.02).power
    0.8
    """

    power: float = 0.8
    alpha: float = 0.05
    effect: float | None = None
    items: int | None = None


@dataclass(frozen=True, slots=True)
class PlannedComparison:
    """How many items a comparison of two needs, and what its pilot could have shown.

    Attributes:
        first, second: what is compared: generators, scorers or columns.
        of: "generators", "scorers" or "columns".
        on: the benchmark and, of generators, the scorer.
        metric: what differs, for example "mean score" or "tau_b".
        unit: what is independent, and counted: "prompt", "item", "row" or the name of a group.
        difference: the first minus the second in the pilot, with its 95 % interval.
        error: its standard error.
        pilot: the number of units of the pilot.
        effect: the difference that the number of items is for.
        items: the number of units needed; None where a billion is too few, or nothing varies.
        detectable: the smallest difference that the pilot could have shown.
        detectable_with: the smallest difference that so many units as asked for can show; None
            where none were asked for.
        method: "paired t" or "bootstrap".

    >>> lead = Interval(0.1, 0.0, 0.2)
    >>> names = "flux", "sdxl", "generators", "prompts.csv, clipscore", "mean score", "prompt"
    >>> PlannedComparison(*names, lead, 0.05, 40, effect=0.1, items=79, detectable=0.14,
    ...     detectable_with=None, method=PAIRED).enough
    False
    """

    first: str
    second: str
    of: str
    on: str
    metric: str
    unit: str
    difference: Interval
    error: float
    pilot: int
    effect: float
    items: int | None
    detectable: float
    detectable_with: float | None
    method: str

    @property
    def enough(self) -> bool:
        """Return whether the pilot has the number of items that is needed."""
        return self.items is not None and self.items <= self.pilot

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers for JSON."""
        return asdict(self) | {"difference": self.difference._asdict(), "enough": self.enough}


def plan_runs(
    runs: Sequence[Run], labels: Sequence[str], target: Target, metric: str | None = None
) -> list[PlannedComparison]:
    """Plan the comparisons of a report: of its generators by each scorer, or of its scorers.

    Args:
        runs: the runs of a report.
        labels: what to call the scorer of each run.
        target: what the comparisons should show.
        metric: of scorers, the metric; default: the headline of each benchmark.

    Raises:
        InputError: nothing is compared, scores are not known, or the metric is on no benchmark.

    >>> import t2v_eval
    >>> names, few = ["tiny-clip", "tiny-negclip"], {"n": 8}
    >>> report = t2v_eval.compare(names, "scenes", benchmark_options=few, resamples=50)
    >>> (plan,) = plan_runs(report.runs, report.labels, Target())
    >>> plan.first, plan.second, plan.metric, plan.pilot
    ('tiny-clip', 'tiny-negclip', 'group', 8)
    """
    plans: list[PlannedComparison] = []
    for name, indices in by_benchmark(runs).items():
        if has_generators(runs[indices[0]]):
            for n in indices:
                plans += _of_generators(runs[n], f"{name}, {labels[n]}", target)
        else:
            plans += _of_scorers([(labels[n], runs[n]) for n in indices], name, target, metric)
    if not plans:
        raise InputError(
            "the report compares nothing: evaluate two scorers, or the images of two generators"
        )
    return plans


def plan_columns(
    rows: Sequence[Row],
    scores: Sequence[str],
    target: Target,
    *,
    human: Sequence[str] = (),
    group: str | None = None,
    metric: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> list[PlannedComparison]:
    """Plan the comparison of each pair of columns of a table.

    Args:
        rows: the rows of a table, as `read_table` returns them.
        scores: two columns of scores or more.
        target: what the comparisons should show.
        human: columns of ratings; with them, the columns' agreement with their mean is compared,
            without them, their means.
        group: a column; rows with the same value count as one unit.
        metric: a metric of agreement; default: tau_b.
        resamples: the number of bootstrap resamples.
        seed: their random seed.

    Raises:
        TableError: a column is in no row, or a value is not a number.
        InputError: fewer than two columns, an unknown metric, or a metric without ratings.

    >>> rows = [{"flux": 0.5 + 0.1 * (n % 3), "sdxl": 0.5 + 0.1 * (n % 2)} for n in range(30)]
    >>> (plan,) = plan_columns(rows, ["flux", "sdxl"], Target())
    >>> plan.pilot, round(plan.difference.value, 3), plan.items
    (30, 0.05, 32)
    """
    if len(set(scores)) < 2:
        raise InputError("name two columns or more: `scores=['a', 'b']`")
    if metric is not None and not human:
        raise InputError(f"`metric={metric!r}` needs columns of ratings: `human=['rating']`")
    if metric is not None and metric not in METRICS:
        raise InputError(f"no agreement metric is called {metric!r}: use {', '.join(METRICS)}")
    columns = {name: numbers(rows, name) for name in scores}
    ratings = mean_of_raters(rows, human) if human else None
    groups = None if group is None else _group_values(rows, group)
    plans = []
    for first, second in combinations(columns, 2):
        complete = ~np.isnan(columns[first]) & ~np.isnan(columns[second])
        if ratings is not None:
            complete &= ~np.isnan(ratings)
        a, b = columns[first][complete], columns[second][complete]
        units = [f"row {n}" for n in range(len(rows))] if groups is None else groups
        members = [unit for unit, is_complete in zip(units, complete, strict=True) if is_complete]
        named = first, second, "columns", "", group or "row"
        if len(set(members)) < 2:
            raise InputError(f"{first!r} and {second!r} share fewer than two {named[-1]}s")
        if ratings is None:
            plans.append(_paired(named, clustered_mean(a - b, members), target))
        else:
            name = metric or "tau_b"
            samples = _paired_bootstrap(a, b, ratings[complete], members, name, resamples, seed)
            plans.append(_bootstrapped(named, name, samples, target))
    return plans


def _of_generators(run: Run, on: str, target: Target) -> Iterator[PlannedComparison]:
    if not run.items:
        raise InputError(
            f"{on}: the report has no scores.csv beside its report.json, so that differences of "
            "prompts are not known; keep the whole folder"
        )
    table = run.by_generator()
    for first, second in combinations(range(len(table.generators)), 2):
        differences = table.scores[:, first] - table.scores[:, second]
        complete = ~np.isnan(differences)
        members = [g for g, is_complete in zip(table.groups, complete, strict=True) if is_complete]
        if len(set(members)) > 1:
            names = table.generators[first], table.generators[second]
            pilot = clustered_mean(differences[complete], members)
            yield _paired((*names, "generators", on, "prompt"), pilot, target)


def _of_scorers(
    scorers: Sequence[tuple[str, Run]], on: str, target: Target, metric: str | None
) -> Iterator[PlannedComparison]:
    headline = metric or scorers[0][1].benchmark.headline
    for (first, run), (second, other) in combinations(scorers, 2):
        samples, other_samples = (r.bootstrap.get("") for r in (run, other))
        if samples is None or other_samples is None:
            raise InputError(
                f"{on}: the report has no samples.npz beside its report.json, so that standard "
                "errors are not known; keep the whole folder"
            )
        if headline not in samples.value:
            raise InputError(f"{on} has no metric {headline!r}: use {', '.join(samples.value)}")
        paired = samples.difference(other_samples)
        yield _bootstrapped((first, second, "scorers", on, "item"), headline, paired, target)


def _paired_bootstrap(
    first: FloatArray,
    second: FloatArray,
    ratings: FloatArray,
    units: Sequence[Hashable],
    metric: str,
    resamples: int,
    seed: int,
) -> BootstrapSamples:
    """Resample the units of rows; return the difference of a metric of both columns."""
    members: dict[Hashable, list[int]] = {}
    for row, unit in enumerate(units):
        members.setdefault(unit, []).append(row)
    rows_of = [np.array(rows) for rows in members.values()]

    def samples(scores: FloatArray) -> BootstrapSamples:
        statistic = agreement_statistic(scores, ratings, [metric])
        return BootstrapSamples.compute(
            lambda index: statistic(np.concatenate([rows_of[k] for k in index])),
            len(rows_of),
            resamples,
            seed,
        )

    return samples(first).difference(samples(second))


def _paired(
    named: tuple[str, str, str, str, str], pilot: ClusteredMean, target: Target
) -> PlannedComparison:
    mean, error, units = pilot
    half = error * float(special.stdtrit(units - 1, 0.975))
    effect = mean if target.effect is None else target.effect
    sd = error * math.sqrt(units)
    chances = target.power, target.alpha
    varies = sd > 1e-12 * abs(mean)
    return PlannedComparison(
        *named[:4],
        "mean score",
        named[4],
        Interval(mean, mean - half, mean + half),
        error,
        units,
        effect,
        power.paired_items(effect, sd, *chances) if varies else None,
        power.paired_effect(units, sd, *chances) if varies else 0.0,
        power.paired_effect(target.items, sd, *chances) if varies and target.items else None,
        PAIRED,
    )


def _bootstrapped(
    named: tuple[str, str, str, str, str], metric: str, samples: BootstrapSamples, target: Target
) -> PlannedComparison:
    interval = samples.intervals()[metric]
    resampled = samples.resampled[metric]
    error = float(np.nanstd(resampled, ddof=1)) if (~np.isnan(resampled)).sum() > 1 else math.nan
    if math.isnan(interval.value) or math.isnan(error):
        raise InputError(
            f"the difference of {named[0]} and {named[1]} on {metric} is undefined on the pilot or "
            "on most resamples of it: a pilot needs more items"
        )
    effect = interval.value if target.effect is None else target.effect
    chances = target.power, target.alpha
    varies = error > 0
    with_items = None
    if varies and target.items:
        with_items = power.scaled_effect(error * math.sqrt(samples.n / target.items), *chances)
    return PlannedComparison(
        *named[:4],
        metric,
        named[4],
        interval,
        error,
        samples.n,
        effect,
        power.scaled_items(effect, error, samples.n, *chances) if varies else None,
        power.scaled_effect(error, *chances) if varies else 0.0,
        with_items,
        BOOTSTRAP,
    )


def _group_values(rows: Sequence[Mapping[str, Any]], group: str) -> list[Hashable]:
    values = [row.get(group) for row in rows]
    for n, value in enumerate(values, 1):
        if is_empty(value):
            where = f"row {n}: the group {group!r} is empty"
            raise TableError(f"{where} or there is no such column; every row needs a group")
    return [str(value) for value in values]
