"""Compare a new report with a baseline, or its figures with limits.

Generators are compared by their mean score, paired by item (prompt), for each scorer of both
reports; on other benchmarks, scorers are compared by a metric of agreement, paired by resample.
What cannot be compared is an error that says what differs: the scorer that scored the images, the
items, their ratings, or which scores are missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from t2v_eval.errors import InputError
from t2v_eval.evaluation.comparison import title
from t2v_eval.evaluation.run import Run
from t2v_eval.report.gate.pairing import (
    Pair,
    Shared,
    check_failed,
    check_same_data,
    id_difference,
    item_name,
    matched,
    matched_runs,
    shared_items,
)
from t2v_eval.report.gate.results import Comparison, GateResult, WindowCheck
from t2v_eval.report.report import Report
from t2v_eval.stats.bootstrap import BootstrapSamples
from t2v_eval.stats.noninferiority import (
    bootstrap_non_inferiority,
    check_level,
    paired_non_inferiority,
)
from t2v_eval.utils.arguments import wrong_type
from t2v_eval.utils.arrays import FloatArray, mean_of_known

MEAN_SCORE = "score"
"""The metric of generators: their mean score over prompts."""

SAFETY = "safety"  # the kind of scorers that are never a gate by themselves


def not_worse(
    new: Report | str | Path,
    baseline: Report | str | Path,
    margin: float = 0.01,
    *,
    alpha: float = 0.05,
    metric: str | None = None,
) -> GateResult:
    """Test whether what a new report measured is worse than the baseline by more than a margin.

    Runs are matched by benchmark and scorer, generators by the name of their folder; what has other
    names is compared where each report has just one. On sets of prompts, generators are compared by
    each scorer; on other benchmarks, scorers.

    Args:
        new: a report, or the folder of one.
        baseline: the report, or folder, to compare with.
        margin: how much worse still passes, on the scale of the metric; with 0, only what is shown
            to be higher passes.
        alpha: the probability that something passes that is worse by the margin.
        metric: the metric of agreement that scorers are compared by, or of generators "score" or
            the name of one; by default all generators, and the headline of each benchmark.

    Raises:
        InputError: the reports cannot be compared; the message says what differs.

    >>> import t2v_eval
    >>> report = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 4}, resamples=50)
    >>> not_worse(report, report).passed
    True
    """
    check_level(margin, alpha)
    new, baseline = _report("new", new), _report("baseline", baseline)
    notes: list[str] = []
    checks: list[Comparison | WindowCheck] = []
    pairs = [*matched_runs(new, baseline, notes)]
    _check_not_safety_alone([pair.new for pair in pairs])
    for pair in pairs:
        if _has_generators(pair.new) and _has_generators(pair.baseline):
            checks += _compare_generators(pair, margin, alpha, metric, notes)
        else:
            checks.append(_compare_scorers(pair, margin, alpha, metric))
    return GateResult(checks, notes)


def within_window(
    report: Report | str | Path, low: float, high: float, metric: str | None = None
) -> GateResult:
    """Check that a metric of each run of a report lies within limits.

    Args:
        report: a report, or the folder of one.
        low: the lower limit, which belongs to the window.
        high: the upper limit, which belongs to the window.
        metric: the name of the metric; by default the headline of each benchmark.

    Raises:
        InputError: the report has no run, or one of them has no such metric.

    >>> import t2v_eval
    >>> report = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 4}, resamples=50)
    >>> within_window(report, 0, 1).passed, within_window(report, 1.5, 2).passed
    (True, False)
    """
    for name, limit in (("low", low), ("high", high)):
        if not isinstance(limit, Real):
            raise wrong_type(name, limit, "a number")
    if not low <= high:
        raise InputError(f"the window {low:g}:{high:g} is empty: pass the lower limit first")
    report = _report("report", report)
    if not report.runs:
        raise InputError("the report has no runs")
    _check_not_safety_alone(report.runs)
    checks: list[Comparison | WindowCheck] = []
    for run, label in zip(report.runs, report.labels, strict=True):
        name = metric or run.benchmark.headline
        value = run.metrics[_known_metric(name, run.metrics, label, run)]
        checks.append(WindowCheck(title(run), label, name, value, low, high))
    return GateResult(checks)


def _report(argument: str, report: Report | str | Path) -> Report:
    """Return a report, or that of a folder."""
    if isinstance(report, Report):
        return report
    if not isinstance(report, (str, Path)):
        raise wrong_type(argument, report, "a Report or the folder of one")
    return Report.load(report)


def _check_not_safety_alone(runs: Sequence[Run]) -> None:
    """Refuse a gate of scorers of safety alone.

    Raises:
        InputError: there is no other scorer.
    """
    if runs and all(run.scorer.kind == SAFETY for run in runs):
        names = ", ".join(dict.fromkeys(run.scorer.name for run in runs))
        raise InputError(
            f"{names} alone cannot decide a gate: classifiers of unsafe images are often wrong, "
            "and a generator of empty images would pass. Add a scorer of another kind to both "
            "reports, and have people look at images: `t2v-eval review`"
        )


def _has_generators(run: Run) -> bool:
    return bool(run.benchmark.folders) and all("folder" in item.labels for item in run.items)


def _compare_generators(
    pair: Pair, margin: float, alpha: float, metric: str | None, notes: list[str]
) -> Iterator[Comparison]:
    """Yield the comparison of each generator by its mean score over shared items."""
    if pair.new.scorer.id != pair.baseline.scorer.id:
        pair.refuse(
            "another scorer scored the images of the baseline, so that scores cannot be compared: "
            f"{id_difference(pair.new.scorer.id, pair.baseline.scorer.id)}; score both with one"
        )
    items = shared_items(pair, notes)
    generators, base_generators = (
        {facts.folder: k for k, facts in enumerate(run.benchmark.folders)}
        for run in (pair.new, pair.baseline)
    )
    if metric not in (None, MEAN_SCORE):
        generators = {metric: generators[_known_metric(metric, generators, MEAN_SCORE, pair.new)]}
    what = f"generator on {title(pair.new)}"
    for name, base_name in matched(generators, base_generators, what, notes):
        k, base_k = generators[name], base_generators[base_name]
        scores = (
            [_scores_of(pair.new, n, k) for n, _ in items],
            [_scores_of(pair.baseline, n, base_k) for _, n in items],
        )
        check_failed(pair, items, *map(_failed_images, scores))
        _note_recipes(pair, name, base_name, notes)
        yield _generator_comparison(pair, items, (name, base_name), scores, margin, alpha)


def _generator_comparison(
    pair: Pair,
    items: Shared,
    names: tuple[str, str],
    scores: tuple[Sequence[FloatArray], Sequence[FloatArray]],
    margin: float,
    alpha: float,
) -> Comparison:
    """Return the comparison of a generator by its scores of each shared item in both runs."""
    values = np.array([[*map(mean_of_known, side)] for side in scores]).T
    complete = ~np.isnan(values).any(axis=1)
    if lost := np.flatnonzero(np.isnan(values[:, 0]) & ~np.isnan(values[:, 1])).tolist():
        pair.refuse(
            f"{names[0]} has no image of {len(lost)} of {len(items)} items of which {names[1]} has "
            f"some, first {item_name(pair.new, items[lost[0]][0])}; generate and score them"
        )
    units = [pair.new.items[n].group or f"item {n}" for n, _ in items]
    units = [
        unit for unit, is_complete in zip(units, complete.tolist(), strict=True) if is_complete
    ]
    values = values[complete]
    if len(set(units)) < 2:
        pair.refuse(
            f"{len(values)} shared items with scores of {names[0]} and of {names[1]}: a test needs "
            "two or more"
        )
    test = paired_non_inferiority(values[:, 0] - values[:, 1], margin, alpha, units)
    mean, base_mean = (float(value) for value in values.mean(axis=0))
    name, base_name = names
    return Comparison(
        benchmark=title(pair.new),
        scorer=pair.new_label,
        metric=MEAN_SCORE,
        new=name,
        baseline=base_name,
        new_value=mean,
        baseline_value=base_mean,
        items=len(values),
        test=test,
    )


def _failed_images(scores: Sequence[FloatArray]) -> set[tuple[int, ...]]:
    """Return which images of a generator have no score, by place among the items and image."""
    missing = [np.isnan(of_item).any(axis=1) for of_item in scores]
    return {
        (place, int(image))
        for place, of_item in enumerate(missing)
        if of_item.any()
        for image in np.flatnonzero(of_item)
    }


def _scores_of(run: Run, item: int, folder: int) -> FloatArray:
    """Return the scores of the images of a generator in an item, shape (images, texts)."""
    indices = [i for i, k in enumerate(run.items[item].labels["folder"]) if k == folder]
    return run.scores[item][indices].astype(np.float64)


def _compare_scorers(pair: Pair, margin: float, alpha: float, metric: str | None) -> Comparison:
    """Compare two scorers by a metric of agreement on the same items."""
    new, baseline = pair.new, pair.baseline
    if _has_generators(new) != _has_generators(baseline):
        pair.refuse("one report has generators and the other has none; evaluate both alike")
    name = metric or baseline.benchmark.headline
    for run, label in ((new, pair.new_label), (baseline, pair.baseline_label)):
        _known_metric(name, run.metrics, label, run)
    if metric is None and new.benchmark.headline != name:
        pair.refuse(
            f"its headline is {new.benchmark.headline}, that of the baseline {name}; choose one "
            f"with `metric={name!r}`"
        )
    items = shared_items(pair, notes=None)
    check_same_data(pair, items)
    samples, base_samples = _samples(pair, new, "new report"), _samples(pair, baseline, "baseline")
    for what, name_of in (("groups", "n"), ("resamples", "resamples"), ("seed", "seed")):
        mine, other = getattr(samples, name_of), getattr(base_samples, name_of)
        if mine != other:
            pair.refuse(
                f"the samples are not paired, since {what} is {mine} in the new report and {other} "
                "in the baseline; evaluate both with the same items, resamples and seed"
            )
    test = bootstrap_non_inferiority(samples, base_samples, name, margin, alpha)
    return Comparison(
        benchmark=title(new),
        scorer=pair.new_label,
        metric=name,
        new=pair.new_label,
        baseline=pair.baseline_label,
        new_value=samples.value[name],
        baseline_value=base_samples.value[name],
        items=len(items),
        test=test,
    )


def _samples(pair: Pair, run: Run, which: str) -> BootstrapSamples:
    if "" not in run.bootstrap:
        pair.refuse(
            f"the {which} has no samples.npz, which earlier versions did not write; evaluate it "
            "again"
        )
    return run.bootstrap[""]


def _known_metric(name: str, metrics: Mapping[str, Any], label: str, run: Run) -> str:
    if not isinstance(name, str) or name not in metrics:
        raise InputError(
            f"{label} on {title(run)} has no metric {name!r}; it has {', '.join(metrics)}"
        )
    return name


def _note_recipes(pair: Pair, name: str, base_name: str, notes: list[str]) -> None:
    """Note in what the recipes of two generators differ."""
    recipes = [
        next((f.recipe for f in run.benchmark.folders if f.folder == folder), None)
        for run, folder in ((pair.new, name), (pair.baseline, base_name))
    ]
    if recipes[0] is None and recipes[1] is None:
        return
    if None in recipes:
        which = "new report" if recipes[1] is None else "baseline"
        note = f"only {name if recipes[1] is None else base_name} of the {which} has a recipe"
    else:
        mine, other = (recipe or {} for recipe in recipes)
        differing = [key for key in {**other, **mine} if mine.get(key) != other.get(key)]
        if not differing:
            return
        note = f"the recipes of {name} and its baseline {base_name} differ: " + "; ".join(
            f"{key} {json.dumps(mine.get(key))} and {json.dumps(other.get(key))}"
            for key in differing
        )
    if note not in notes:
        notes.append(note)
