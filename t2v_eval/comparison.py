"""Runs of scorers side by side: what to call them, and how far they are apart on the same items.

Two runs are told apart where a paired permutation test of their items says so, corrected for all
pairs of runs on the benchmark. As scorers have scales of their own, the scores of each are first
brought to mean 0 and deviation 1, which changes no metric of order, threshold or correlation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from t2v_eval.benchmark import Item, Run, Scores
from t2v_eval.bootstrap import Interval
from t2v_eval.permutation import holm, paired_permutation

LEVEL = 0.05  # how often runs that are equally good may be told apart, over all pairs together


@dataclass(frozen=True, slots=True)
class Difference:
    """How far one run is above another on the same items: the first minus the second.

    `p` is of a paired permutation test of each metric, `p_holm` the same corrected for all pairs.
    """

    first: int
    second: int
    metrics: Mapping[str, Interval]
    by_tag: Mapping[str, Mapping[str, Interval]]
    p: Mapping[str, float]
    p_holm: Mapping[str, float]

    def told_apart(self, metric: str) -> bool:
        """Whether the difference is more than chance; undefined is no."""
        return self.p_holm[metric] < LEVEL


def by_benchmark(runs: Sequence[Run]) -> dict[str, list[int]]:
    """The indices of the runs on each benchmark."""
    found: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        found.setdefault(run.benchmark["name"], []).append(index)
    return found


def differences(runs: Sequence[Run]) -> list[Difference]:
    """Paired differences of all scorers that saw the same items with the same resamples."""
    found = []
    for indices in by_benchmark(runs).values():
        family = [
            _difference(runs, first, second)
            for first, second in combinations(indices, 2)
            if _sample(runs[first]) == _sample(runs[second])
        ]
        corrected = {
            name: holm([one.p[name] for one in family]) for name in (family[0].p if family else ())
        }
        found += [
            replace(one, p_holm={name: values[k] for name, values in corrected.items()})
            for k, one in enumerate(family)
        ]
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
    on = own.benchmark["name"]
    same = [run for run in runs if (run.scorer["name"], run.benchmark["name"]) == (name, on)]
    if len(same) == 1:
        return name
    for key in ("question", "answer"):
        if len({run.scorer[key] for run in same}) == len(same):
            return f"{name} [{own.scorer[key]}]"
    return f"{name} #{next(n for n, run in enumerate(same, 1) if run is own)}"


def _sample(run: Run) -> tuple[Any, ...]:
    names = [(item_name(item, n), tuple(item.texts)) for n, item in enumerate(run.items)]
    return run.benchmark["resamples"], run.benchmark["seed"], list(run.draws), names


def _difference(runs: Sequence[Run], first: int, second: int) -> Difference:
    one, other = runs[first], runs[second]
    found = {tag: one.draws[tag].minus(other.draws[tag]) for tag in one.draws}
    both = [*_standard(one.scores), *_standard(other.scores)]
    p = paired_permutation(
        one.statistic_of([*one.items, *one.items], both),
        len(one.items),
        permutations=one.benchmark["resamples"],
        seed=one.benchmark["seed"],
    )
    return Difference(first, second, found.pop(""), found, p, p)


def _standard(scores: Scores) -> Scores:
    cells = np.concatenate([np.asarray(one, np.float64).ravel() for one in scores])
    cells = cells[~np.isnan(cells)]
    mean, scale = (cells.mean(), cells.std()) if len(cells) else (0.0, 1.0)
    standard: Any = [(np.asarray(one, np.float64) - mean) / (scale or 1.0) for one in scores]
    found: Scores = standard  # in float64, so that scores that differ stay so
    return found
