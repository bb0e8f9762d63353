"""Runs of scorers side by side: what to call them, and how far they are apart on the same items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from t2v_eval.benchmark import Item, Run
from t2v_eval.bootstrap import Interval


@dataclass(frozen=True, slots=True)
class Difference:
    """How far one run is above another on the same items: the first minus the second."""

    first: int
    second: int
    metrics: Mapping[str, Interval]
    by_tag: Mapping[str, Mapping[str, Interval]]


def by_benchmark(runs: Sequence[Run]) -> dict[str, list[int]]:
    """The indices of the runs on each benchmark."""
    found: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        found.setdefault(run.benchmark["name"], []).append(index)
    return found


def differences(runs: Sequence[Run]) -> list[Difference]:
    """Paired differences of all scorers that saw the same items with the same resamples."""
    return [
        _difference(runs, first, second)
        for indices in by_benchmark(runs).values()
        for first, second in combinations(indices, 2)
        if _sample(runs[first]) == _sample(runs[second])
    ]


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
    one, other = runs[first].draws, runs[second].draws
    found = {tag: one[tag].minus(other[tag]) for tag in one}
    return Difference(first, second, found.pop(""), found)
