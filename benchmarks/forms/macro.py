"""Figures of benchmarks that are made of parts: the mean over parts, each counting alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from t2v_eval.evaluation.benchmark import Item
from t2v_eval.stats.bootstrap import IntArray, Statistic


def with_means(
    statistic: Statistic, items: Sequence[Item], names: Sequence[str], *, each: bool = False
) -> Statistic:
    """`statistic`, and before it, for each metric of `names`, its mean over the parts.

    An item's part is its first tag. A part where the metric is undefined does not count. With
    `each`, the metric of each part is there too, as NAME_PART.
    """
    part = np.array([item.tags[0] for item in items])
    parts = list(dict.fromkeys(part.tolist()))

    def of(index: IntArray) -> Mapping[str, float]:
        drawn = part[index]
        found = {one: statistic(index[drawn == one]) for one in parts if (drawn == one).any()}
        means = {f"mean_{k}": mean_of([one[k] for one in found.values()]) for k in names}
        if each:
            nothing = dict.fromkeys(names, math.nan)
            means |= {f"{k}_{one}": found.get(one, nothing)[k] for one in parts for k in names}
        return {**means, **statistic(index)}

    return of


def mean_of(values: Sequence[float]) -> float:
    """The mean of what is defined; NaN where nothing is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
