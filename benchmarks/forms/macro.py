"""Macro-averages: the mean of a metric over the parts of a benchmark, each part counting alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from t2v_eval.evaluation.benchmark import Item, Scores
from t2v_eval.stats.bootstrap import IntArray, Statistic
from t2v_eval.stats.intervals import Estimate


def with_means(
    statistic_of: Callable[..., Statistic],
    items: Sequence[Item],
    *sides: Scores,
    names: Sequence[str],
    each: bool = False,
) -> Statistic:
    """Extend a statistic by the mean over parts, `mean_NAME`, of each metric in `names`.

    An item's part is its first tag. Parts where the metric is undefined do not count. With `each`,
    the metric of each part is added too, as NAME_PART. In a paired test, the scores of each part
    are ranked or standardised among themselves.

    Args:
        statistic_of: `Benchmark.statistic`, or `Benchmark.paired_statistic`.
        items: n items.
        sides: the scores of one scorer or, for a paired test, of two.
        names: metrics of the statistic.
        each: whether to add the metrics of each part.

    >>> def count(items, scores):
    ...     return lambda index: {"right": float(len(index))}
    >>> items = [Item([f"{tag}.png"], ["a cat"], tags=(tag,)) for tag in ("counting", "colour")]
    >>> extended = with_means(count, items, [np.ones((1, 1))] * 2, names=["right"])
    >>> extended(np.array([0, 0, 1]))["mean_right"]
    1.5
    """
    of_all = statistic_of(items, *sides)
    part = np.array([item.tags[0] for item in items])
    parts = list(dict.fromkeys(part.tolist()))
    members = {name: np.flatnonzero(part == name).tolist() for name in parts}
    columns: list[Sequence[Any]] = [items, *sides]
    within = {
        name: statistic_of(*([column[n] for n in chosen] for column in columns))
        for name, chosen in members.items()
    }
    position = np.zeros(len(items), np.int64)
    for chosen in members.values():
        position[chosen] = np.arange(len(chosen))

    def compute(index: IntArray) -> Mapping[str, float]:
        side, item = np.divmod(index, max(1, len(items)))
        by_part = {}
        for name, statistic in within.items():
            in_part = part[item] == name
            if in_part.any():
                local = position[item[in_part]] + side[in_part] * len(members[name])
                by_part[name] = statistic(local)
        means = {f"mean_{k}": mean_of([figures[k] for figures in by_part.values()]) for k in names}
        if each:
            nothing = dict.fromkeys(names, math.nan)
            means |= {f"{k}_{name}": by_part.get(name, nothing)[k] for name in parts for k in names}
        return {**means, **of_all(index)}

    return compute


def mean_of(values: Sequence[float]) -> float:
    """Return the mean of the values that are not NaN; NaN without any. One of shares is a share.

    >>> mean_of([0.5, math.nan, 1.0])
    0.75
    """
    defined = [value for value in values if not math.isnan(value)]
    mean = sum(defined) / len(defined) if defined else math.nan
    shares = [isinstance(value, Estimate) and value.kind == "share" for value in values]
    return Estimate(mean, "share") if shares and all(shares) else mean
