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

from t2v_eval.evaluation.benchmark import (
    Item,
    bootstrap_items,
    indices_with_tag,
    resample_units,
    units_of,
)
from t2v_eval.evaluation.run import Run
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.permutation import PValue, corrected, paired_permutation

BOTH = (
    "Each pair is compared on the cells that both have scores for. Scores may not be missing at "
    "random: without missing scores the differences might be others."
)
"""The remark beside differences of runs that lack scores."""


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
    pairs = [
        (first, second)
        for first, second in combinations(indices, 2)
        if _sample_key(runs[first]) == _sample_key(runs[second])
    ]
    compared = {pair: _compare_pair(*(runs[k] for k in pair)) for pair in pairs}
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
    names = [
        (item_name(item, n), len(item.images), tuple(item.texts), item.group)
        for n, item in enumerate(run.items)
    ]
    return run.benchmark.resamples, run.benchmark.seed, list(run.bootstrap), names


class _Comparison(NamedTuple):
    """Two runs by tag: intervals of the differences and p-values of each metric."""

    intervals: Mapping[str, Mapping[str, Interval]]
    p: Mapping[str, Mapping[str, float]]
    cells: int
    used: int


def _compare_pair(first: Run, second: Run) -> _Comparison:
    first, second = _on_common_cells(first, second)
    scored = [~np.isnan(scores) for scores in first.scores]
    intervals = {
        tag: samples.difference(second.bootstrap[tag]).intervals()
        for tag, samples in first.bootstrap.items()
    }
    cells, used = sum(mask.size for mask in scored), sum(int(mask.sum()) for mask in scored)
    return _Comparison(intervals, _p_values(first, second), cells, used)


def _on_common_cells(first: Run, second: Run) -> tuple[Run, Run]:
    """Return both runs without the scores of cells that either lacks."""
    missing = [np.isnan(a) | np.isnan(b) for a, b in zip(first.scores, second.scores, strict=True)]
    return _mask_cells(first, missing), _mask_cells(second, missing)


def _mask_cells(run: Run, missing: Sequence[NDArray[np.bool_]]) -> Run:
    """Return the run with NaN in these cells; bootstraps that include one are computed again."""
    pairs = list(zip(run.scores, missing, strict=True))
    changed = {n for n, (scores, mask) in enumerate(pairs) if (mask & ~np.isnan(scores)).any()}
    if not changed:
        return run
    masked = [np.where(mask, np.float32(np.nan), scores) for scores, mask in pairs]
    bootstrap = dict(run.bootstrap)
    resamples, seed = run.benchmark.resamples, run.benchmark.seed
    for tag in run.bootstrap:
        chosen = indices_with_tag(run.items, tag)
        if changed.isdisjoint(chosen):
            continue
        items = [run.items[n] for n in chosen]
        statistic = run.statistic_of(items, [masked[n] for n in chosen])
        bootstrap[tag] = bootstrap_items(statistic, items, resamples, seed)
    return replace(run, scores=masked, bootstrap=bootstrap)


def _p_values(first: Run, second: Run) -> dict[str, dict[str, float]]:
    """Compute the p-value of each metric, by tag."""
    p_values = {}
    for tag in first.bootstrap:
        chosen = indices_with_tag(first.items, tag)
        items = [first.items[n] for n in chosen]
        scores = ([run.scores[n] for n in chosen] for run in (first, second))
        units = units_of(items)
        p_values[tag] = paired_permutation(
            resample_units(
                first.paired_statistic_of(items, *scores),
                [*units, *(members + len(items) for members in units)],
            ),
            len(units),
            permutations=first.benchmark.resamples,
            seed=first.benchmark.seed,
        )
    return p_values
