"""Compare runs of scorers on the same items: differences with intervals, tests, and labels.

The metrics of a pair of runs are computed on the cells that both have scores for. Else a scorer
that fails on hard cells would be compared on easy ones with a scorer that answers all.

Two runs differ significantly where a paired permutation test of their items says so, corrected
(Holm) over all pairs of runs on the benchmark; by tag, over all of its pairs and tags. Scorers have
different scales, so what they exchange are ranks, or standardised scores where a metric depends on
distances (`Benchmark.paired_statistic`, `stats.paired`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2v_eval.evaluation.benchmark import Item, Items, bootstrap_items, resample_units, units_of
from t2v_eval.evaluation.run import Run
from t2v_eval.stats.bootstrap import IntArray, Interval
from t2v_eval.stats.permutation import PValue, corrected, paired_permutation
from t2v_eval.utils.arrays import CellArrays

BOTH = (
    "Each pair is compared on the cells that both have scores for. Scores may not be missing at "
    "random: without missing scores the differences might be others."
)
"""The remark beside differences of runs that lack scores."""

MANY_ITEMS, FEW_CELLS = 1000, 0.01
"""From how many items on, and up to what share of cells that only one of two runs has, resamples of
a run's own cells stand for those of common cells.

Their values are shifted to the value of the common cells, which is exact. In simulated samples of
1,000 items (`tests/performance/simulate_failures.py`) the intervals cover as often as those that
are resampled anew, also where scorers fail on what they judge worst; their limits differ by about
1 % of the width, and by 4 to 6 % from one random seed to another. To resample anew for each pair of
ten scorers of 100,000 items takes half an hour.
"""


NEARLY_ALL = (
    "Nearly all cells have both scores, so that the intervals of these differences come from "
    "resamples of all cells of each scorer, around the difference on the common cells."
)
"""The remark beside differences whose resamples are those of `MANY_ITEMS`."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two runs on the same items: the first minus the second.

    Attributes:
        first, second: the indices of the runs.
        metrics: the difference of each metric over all items, with its 95 % interval.
        by_tag: the same for the items of each tag.
        tests: a paired permutation test of each metric, by tag; "" is all items.
        cells: the number of cells of the items.
        used: how many of them both runs have scores for; all figures are of these.

    >>> import t2v_eval
    >>> names, few = ["tiny-clip", "tiny-negclip"], {"n": 2}
    >>> report = t2v_eval.compare(names, "scenes", benchmark_options=few, resamples=5)
    >>> (difference,) = report.differences
    >>> difference.first, difference.second, difference.significant("group")
    (0, 1, False)
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
        """Return the p-value of each metric over all items."""
        return {name: test.p for name, test in self.tests[""].items()}

    @property
    def p_holm(self) -> Mapping[str, float]:
        """Return the same, corrected over all pairs of runs on the benchmark."""
        return {name: test.p_holm for name, test in self.tests[""].items()}

    def significant(self, metric: str, tag: str = "") -> bool:
        """Return whether the corrected p-value is below 0.05; an undefined one is not."""
        return self.tests[tag][metric].significant


def title(run: Run) -> str:
    """Return the name of a run's benchmark, with the part of it that was evaluated, if a part.

    >>> import t2v_eval
    >>> runs = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5).runs
    >>> title(runs[0])
    'scenes'
    """
    name, subset, sample = run.benchmark.name, run.benchmark.subset, run.benchmark.sample
    parts = [f"part: {', '.join(subset)}"] if subset else []
    parts += [f"sample of {run.benchmark.items}"] if sample else []
    return f"{name} ({'; '.join(parts)})" if parts else name


def by_benchmark(runs: Sequence[Run]) -> dict[str, list[int]]:
    """Return the indices of the runs on each benchmark, or part of one, by its title.

    >>> import t2v_eval
    >>> runs = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5).runs
    >>> by_benchmark([*runs, *runs])
    {'scenes': [0, 1]}
    """
    indices: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        indices.setdefault(title(run), []).append(index)
    return indices


def differences(runs: Sequence[Run]) -> list[Difference]:
    """Compute the paired differences of all runs on the same items with the same resamples.

    Where the metrics are mean scores of generators there are none: two scorers have two scales.

    >>> import t2v_eval
    >>> names, few = ["tiny-clip", "tiny-negclip"], {"n": 2}
    >>> report = t2v_eval.compare(names, "scenes", benchmark_options=few, resamples=5)
    >>> [sorted(difference.metrics) for difference in differences(report.runs)]
    [['group', 'image', 'text']]
    """
    return [
        difference
        for indices in by_benchmark(runs).values()
        if not has_generators(runs[indices[0]])
        for difference in _benchmark_differences(runs, indices)
    ]


def has_generators(run: Run) -> bool:
    """Return whether a run compares generators, each scorer on its own scale.

    >>> import t2v_eval
    >>> runs = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5).runs
    >>> has_generators(runs[0])
    False
    """
    return bool(run.contrasts or run.benchmark.folders)


def about_missing(differences: Sequence[Difference], items: int) -> str:
    """Return the remark beside differences of runs that lack scores; "" where none is missing.

    Args:
        differences: of the runs of one benchmark.
        items: the number of its items.

    >>> about_missing([], 10)
    ''
    """
    missing = [pair for pair in differences if pair.used < pair.cells]
    if not missing:
        return ""
    nearly = items >= MANY_ITEMS and any(
        pair.cells - pair.used <= FEW_CELLS * pair.cells for pair in missing
    )
    return f"{BOTH} {NEARLY_ALL}" if nearly else BOTH


def excludes_zero(interval: Interval) -> bool:
    """Return whether both limits of an interval are on one side of 0.

    >>> excludes_zero(Interval(0.2, 0.1, 0.3)), excludes_zero(Interval(0.2, -0.1, 0.5))
    (True, False)
    """
    return interval.low > 0 or interval.high < 0


def labels(runs: Sequence[Run]) -> list[str]:
    """Return a distinct label for the scorer of each run: its name, and more where needed.

    >>> import t2v_eval
    >>> runs = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5).runs
    >>> labels(runs), labels([*runs, *runs])
    (['tiny-clip'], ['tiny-clip #1', 'tiny-clip #1'])
    """
    return [_label(runs, run) for run in runs]


def item_name(item: Item, index: int) -> str:
    """Return the id of an item, or its index where it has none.

    >>> item_name(Item([], [], id="cat"), 3), item_name(Item([], []), 3)
    ('cat', '3')
    """
    return item.id or str(index)


def _label(runs: Sequence[Run], run: Run) -> str:
    name = str(run.scorer.name)
    same = [r for r in runs if (r.scorer.name, title(r)) == (name, title(run))]
    if len(same) == 1:
        return name
    if len({r.scorer.question for r in same}) == len(same):
        return f"{name} [{run.scorer.question}]"
    if len({r.scorer.answer for r in same}) == len(same):
        return f"{name} [{run.scorer.answer}]"
    return f"{name} #{next(n for n, r in enumerate(same, 1) if r is run)}"


def _benchmark_differences(runs: Sequence[Run], indices: Sequence[int]) -> Iterator[Difference]:
    keys = {index: _sample_key(runs[index]) for index in indices}
    pairs = [pair for pair in combinations(indices, 2) if keys[pair[0]] == keys[pair[1]]]
    # Runs of one key have items in common, and so what is computed of these.
    firsts = {index: next(k for k in indices if keys[k] == keys[index]) for index in indices}
    parts = {first: _Parts.of(runs[first]) for first in set(firsts.values())} if pairs else {}
    compared = {
        (first, second): _compare_pair(runs[first], runs[second], parts[firsts[first]])
        for first, second in pairs
    }
    # Holm's correction: all items are one family of tests for each metric, the tags another.
    families: dict[tuple[str, bool], dict[tuple[Any, str], float]] = defaultdict(dict)
    for pair, comparison in compared.items():
        for tag, p_values in comparison.p.items():
            for name, p in p_values.items():
                families[name, tag == ""][pair, tag] = p
    tests = {family: corrected(p_values) for family, p_values in families.items()}
    for pair, comparison in compared.items():
        tested = {
            tag: {name: tests[name, tag == ""][pair, tag] for name in p_values}
            for tag, p_values in comparison.p.items()
        }
        by_tag = {tag: intervals for tag, intervals in comparison.intervals.items() if tag}
        overall = comparison.intervals[""]
        yield Difference(*pair, overall, by_tag, tested, comparison.cells, comparison.used)


def _sample_key(run: Run) -> tuple[Any, ...]:
    """Return a key that is equal for runs on the same items with the same resamples."""
    names = Items.of(run.items).once(_names)
    return run.benchmark.resamples, run.benchmark.seed, list(run.bootstrap), names


def _names(items: Items) -> list[tuple[Any, ...]]:
    return [
        (item_name(item, n), len(item.images), tuple(item.texts), item.group)
        for n, item in enumerate(items)
    ]


class _Comparison(NamedTuple):
    """Two runs by tag: intervals of the differences and p-values of each metric."""

    intervals: Mapping[str, Mapping[str, Interval]]
    p: Mapping[str, Mapping[str, float]]
    cells: int
    used: int


class _Parts(NamedTuple):
    """What runs on the same items have in common, by tag; "" is all items.

    Attributes:
        items: the items with each tag.
        chosen: their indices among all items.
        cells: the indices of their cells among all cells.
    """

    items: Mapping[str, Items]
    chosen: Mapping[str, IntArray]
    cells: Mapping[str, IntArray]

    @classmethod
    def of(cls, run: Run) -> _Parts:
        items = Items.of(run.items)
        numbers = CellArrays.of(run.scores)
        numbers = numbers.with_cells(np.arange(len(numbers.cells)))
        chosen = {tag: items.where(tag) for tag in run.bootstrap}
        return cls(
            {tag: items.tagged(tag) for tag in chosen},
            chosen,
            {tag: numbers.take(index).cells for tag, index in chosen.items()},
        )


def _compare_pair(first: Run, second: Run, parts: _Parts) -> _Comparison:
    lacks = [_lacking(run) for run in (first, second)]
    missing = lacks[0] | lacks[1]
    first, second = (
        _mask_cells(run, missing & ~lacking, parts)
        for run, lacking in zip((first, second), lacks, strict=True)
    )
    intervals = {
        tag: samples.difference(second.bootstrap[tag]).intervals()
        for tag, samples in first.bootstrap.items()
    }
    used = missing.size - int(missing.sum())
    return _Comparison(intervals, _p_values(first, second, parts), missing.size, used)


def _lacking(run: Run) -> NDArray[np.bool_]:
    """Return whether each cell of a run lacks a score, cell by cell of all items."""
    lacking: NDArray[np.bool_] = np.isnan(CellArrays.of(run.scores).cells)
    return lacking


def _mask_cells(run: Run, masked: NDArray[np.bool_], parts: _Parts) -> Run:
    """Return the run without the scores of some cells, and with the samples of the others.

    Args:
        run: the run.
        masked: whether each cell, which has a score, is to have none.
        parts: of the items.
    """
    if not masked.any():
        return run
    scores = CellArrays.of(run.scores)
    scores = scores.with_cells(np.where(masked, np.nan, scores.cells))
    bootstrap = dict(run.bootstrap)
    resamples, seed = run.benchmark.resamples, run.benchmark.seed
    for tag, items in parts.items.items():
        number = int(masked[parts.cells[tag]].sum())
        if not number:
            continue
        statistic = run.statistic_of(items, scores.take(parts.chosen[tag]))
        if len(items) >= MANY_ITEMS and number <= FEW_CELLS * len(parts.cells[tag]):
            bootstrap[tag] = run.bootstrap[tag].shifted(statistic(np.arange(len(items))))
        else:
            bootstrap[tag] = bootstrap_items(statistic, items, resamples, seed)
    return replace(run, scores=scores, bootstrap=bootstrap)


def _p_values(first: Run, second: Run, parts: _Parts) -> dict[str, dict[str, float]]:
    """Compute the p-value of each metric, by tag."""
    p_values = {}
    sides = [CellArrays.of(run.scores) for run in (first, second)]
    for tag, items in parts.items.items():
        scores = (side.take(parts.chosen[tag]) for side in sides)
        units = items.once(units_of)
        statistic = first.paired_statistic_of(items, *scores)
        if len(units) < len(items):
            both = [*units, *(members + len(items) for members in units)]
            statistic = resample_units(statistic, both)
        p_values[tag] = paired_permutation(
            statistic,
            len(units),
            permutations=first.benchmark.resamples,
            seed=first.benchmark.seed,
        )
    return p_values
