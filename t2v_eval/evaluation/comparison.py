"""Runs of scorers side by side: what to call them, and how far they are apart on the same items.

The metrics of a pair of runs are of the cells that both have scores of. A scorer that fails on what
is hard would otherwise be compared on what is easy with one that answers everything.

Two runs are told apart where a paired permutation test of their items says so, corrected for all
pairs of runs on the benchmark; by tag, for all of its pairs and tags. As scorers have scales of
their own, the scores of each are first brought to mean 0 and deviation 1, which changes no metric
of order, threshold or correlation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2v_eval.evaluation.benchmark import Item, Run, Scores, drawn, of_units, tagged, units_of
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.permutation import PValue, corrected, paired_permutation

BOTH = (
    "Each pair is compared on the scores that both have. Scores may not be missing by chance: had "
    "none been missing, the differences might be others."
)
"""What is to be said beside differences of runs that lack scores."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far one run is above another on the same items: the first minus the second.

    `tests` are paired permutation tests of each metric, by tag; "" is all items together. Of all
    `cells` of the items, all of this is on the `used` ones, which both runs have scores of.
    """

    first: int
    second: int
    metrics: Mapping[str, Interval]
    by_tag: Mapping[str, Mapping[str, Interval]]
    tests: Mapping[str, Mapping[str, PValue]]
    cells: int
    used: int

    @property
    def p(self) -> Mapping[str, float]:
        """p of each metric over all items."""
        return {name: test.p for name, test in self.tests[""].items()}

    @property
    def p_holm(self) -> Mapping[str, float]:
        """The same, corrected for all pairs of runs on the benchmark."""
        return {name: test.p_holm for name, test in self.tests[""].items()}

    def told_apart(self, metric: str, tag: str = "") -> bool:
        """Whether the difference is more than chance; undefined is no."""
        return self.tests[tag][metric].told_apart


def title(run: Run) -> str:
    """What to call the benchmark of a run: its name, with the part of it that was evaluated."""
    name, subset = str(run.benchmark["name"]), run.benchmark.get("subset")
    return f"{name} (part: {', '.join(subset)})" if subset else name


def by_benchmark(runs: Sequence[Run]) -> dict[str, list[int]]:
    """The indices of the runs on each benchmark, or part of one, by its title."""
    found: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        found.setdefault(title(run), []).append(index)
    return found


def differences(runs: Sequence[Run]) -> list[Difference]:
    """Paired differences of all scorers that saw the same items with the same resamples."""
    found: list[Difference] = []
    for indices in by_benchmark(runs).values():
        pairs = [
            (first, second)
            for first, second in combinations(indices, 2)
            if _sample(runs[first]) == _sample(runs[second])
        ]
        compared = {pair: _compared(*(runs[k] for k in pair)) for pair in pairs}
        # All items are one family of tests for each metric, and the tags are another.
        families: dict[tuple[str, bool], dict[tuple[Any, str], float]] = defaultdict(dict)
        for pair, of in compared.items():
            for tag, metrics in of.p.items():
                for name, value in metrics.items():
                    families[name, tag == ""][pair, tag] = value
        tests = {family: corrected(values) for family, values in families.items()}
        for pair, of in compared.items():
            tested = {
                tag: {name: tests[name, tag == ""][pair, tag] for name in metrics}
                for tag, metrics in of.p.items()
            }
            by_tag = {tag: metrics for tag, metrics in of.apart.items() if tag}
            found.append(Difference(*pair, of.apart[""], by_tag, tested, of.cells, of.used))
    return found


def excludes_zero(interval: Interval) -> bool:
    """Whether a difference can be told from none: both limits on one side of 0."""
    return interval.low > 0 or interval.high < 0


def labels(runs: Sequence[Run]) -> list[str]:
    """What to call the scorer of each run: its name, with more where names are not enough."""
    return [_label(runs, run) for run in runs]


def item_name(item: Item, index: int) -> str:
    """The id of an item, or its number where it has none."""
    return item.id or str(index)


def _label(runs: Sequence[Run], own: Run) -> str:
    name = str(own.scorer["name"])
    on = title(own)
    same = [run for run in runs if (run.scorer["name"], title(run)) == (name, on)]
    if len(same) == 1:
        return name
    for key in ("question", "answer"):
        if len({run.scorer[key] for run in same}) == len(same):
            return f"{name} [{own.scorer[key]}]"
    return f"{name} #{next(n for n, run in enumerate(same, 1) if run is own)}"


def _sample(run: Run) -> tuple[Any, ...]:
    names = [
        (item_name(item, n), len(item.images), tuple(item.texts), item.group)
        for n, item in enumerate(run.items)
    ]
    return run.benchmark["resamples"], run.benchmark["seed"], list(run.draws), names


class _Compared(NamedTuple):
    """Of two runs, by tag: how far they are apart, and p of each metric."""

    apart: Mapping[str, Mapping[str, Interval]]
    p: Mapping[str, Mapping[str, float]]
    cells: int
    used: int


def _compared(one: Run, other: Run) -> _Compared:
    one, other = _on_both(one, other)
    there = [~np.isnan(scores) for scores in one.scores]
    return _Compared(
        {tag: draws.minus(other.draws[tag]).intervals() for tag, draws in one.draws.items()},
        _p(one, other),
        sum(cells.size for cells in there),
        sum(int(cells.sum()) for cells in there),
    )


def _on_both(one: Run, other: Run) -> tuple[Run, Run]:
    """Both runs without the scores of cells that either lacks."""
    missing = [
        np.isnan(first) | np.isnan(second)
        for first, second in zip(one.scores, other.scores, strict=True)
    ]
    return _without(one, missing), _without(other, missing)


def _without(run: Run, missing: Sequence[NDArray[np.bool_]]) -> Run:
    """The run without these scores; draws of items that lose some are made again."""
    pairs = list(zip(run.scores, missing, strict=True))
    losing = {n for n, (own, gone) in enumerate(pairs) if (gone & ~np.isnan(own)).any()}
    if not losing:
        return run
    scores = [np.where(gone, np.float32(np.nan), own) for own, gone in pairs]
    draws = dict(run.draws)
    for tag in run.draws:
        chosen = tagged(run.items, tag)
        if losing.isdisjoint(chosen):
            continue
        items = [run.items[n] for n in chosen]
        statistic = run.statistic_of(items, [scores[n] for n in chosen])
        draws[tag] = drawn(statistic, items, run.benchmark["resamples"], run.benchmark["seed"])
    return replace(run, scores=scores, draws=draws)


def _p(one: Run, other: Run) -> dict[str, dict[str, float]]:
    """p of each metric, by tag."""
    first, second = _standard(one.scores), _standard(other.scores)
    found = {}
    for tag in one.draws:
        chosen = tagged(one.items, tag)
        items = [one.items[n] for n in chosen]
        both = [*(first[n] for n in chosen), *(second[n] for n in chosen)]
        units = units_of(items)
        found[tag] = paired_permutation(
            of_units(
                one.statistic_of([*items, *items], both),
                [*units, *(members + len(items) for members in units)],
            ),
            len(units),
            permutations=one.benchmark["resamples"],
            seed=one.benchmark["seed"],
        )
    return found


def _standard(scores: Scores) -> Scores:
    cells = np.concatenate([np.asarray(one, np.float64).ravel() for one in scores])
    cells = cells[~np.isnan(cells)]
    mean, scale = (cells.mean(), cells.std()) if len(cells) else (0.0, 1.0)
    standard: Any = [(np.asarray(one, np.float64) - mean) / (scale or 1.0) for one in scores]
    found: Scores = standard  # in float64, so that scores that differ stay so
    return found
