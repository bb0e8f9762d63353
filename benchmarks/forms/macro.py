"""Macro-averages: the mean of a metric over the parts of a benchmark, each part counting alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from t2v_eval.evaluation.benchmark import Item
from t2v_eval.stats.bootstrap import IntArray, Statistic


def with_means(
    statistic: Statistic, items: Sequence[Item], names: Sequence[str], *, each: bool = False
) -> Statistic:
    """Extend a statistic by the mean over parts, `mean_NAME`, of each metric in `names`.

    An item's part is its first tag. Parts where the metric is undefined do not count. With `each`,
    the metric of each part is added too, as NAME_PART.

    >>> items = [Item([f"{tag}.png"], ["a cat"], tags=(tag,)) for tag in ("counting", "colour")]
    >>> extended = with_means(lambda index: {"right": float(len(index))}, items, ["right"])
    >>> extended(np.array([0, 0, 1]))["mean_right"]
    1.5
    """
    part = np.array([item.tags[0] for item in items])
    parts = list(dict.fromkeys(part.tolist()))

    def compute(index: IntArray) -> Mapping[str, float]:
        drawn_parts = part[index]
        by_part = {
            name: statistic(index[drawn_parts == name])
            for name in parts
            if (drawn_parts == name).any()
        }
        means = {f"mean_{k}": mean_of([figures[k] for figures in by_part.values()]) for k in names}
        if each:
            nothing = dict.fromkeys(names, math.nan)
            means |= {f"{k}_{name}": by_part.get(name, nothing)[k] for name in parts for k in names}
        return {**means, **statistic(index)}

    return compute


def mean_of(values: Sequence[float]) -> float:
    """Return the mean of the values that are not NaN; NaN without any.

    >>> mean_of([0.5, math.nan, 1.0])
    0.75
    """
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
