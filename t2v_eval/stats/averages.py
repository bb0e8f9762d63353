"""Averages of a metric over parts of a sample, such as groups or tags.

| average | value |
|---|---|
| "plain" | the mean; each part counts alike |
| "weighted" | the mean weighted by the number of items of each part |
| "fisher-z" | of correlations r, tanh of the mean of artanh(r) (Silver and Dunlap 1987) |
| "tanh" | of correlations, tanh of their mean, without artanh: what VIEScore's script computes \
(`average_correlation` of analyze_json.ipynb, TIGER-AI-Lab/VIEScore) |

Fisher's z of a correlation of 1 or -1 is infinite, so that an average over such a part is NaN.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import numpy as np

from t2v_eval.errors import InputError
from t2v_eval.utils.arrays import FloatArray

Average: TypeAlias = Literal["plain", "weighted", "fisher-z", "tanh"]


def average(values: FloatArray, weights: FloatArray, how: Average = "plain") -> float:
    """Average a metric over parts.

    Args:
        values: shape (parts,), the metric of each part; NaN is undefined and left out.
        weights: shape (parts,), the number of items of each part, for "weighted".
        how: see the table above; "fisher-z" and "tanh" expect correlations, from -1 to 1.

    Returns:
        The average; NaN where no part is defined, with "weighted" where all weights are 0, and with
        "fisher-z" where a part is 1 or -1.

    Raises:
        InputError: another name of an average.

    >>> values, sizes = np.array([0.2, 0.8, np.nan]), np.array([10.0, 30.0, 5.0])
    >>> [round(average(values, sizes, how), 3) for how in ("plain", "weighted", "fisher-z", "tanh")]
    [0.5, 0.65, 0.572, 0.462]
    """
    if how not in get_args(Average):
        raise InputError(f"`mean={how!r}`: use one of {', '.join(map(repr, get_args(Average)))}")
    defined = ~np.isnan(values)
    values, weights = values[defined], weights[defined]
    if not len(values):
        return math.nan
    if how == "weighted":
        total = float(weights.sum())
        return float(values @ weights) / total if total else math.nan
    if how == "tanh":
        return math.tanh(float(values.mean()))
    if how == "fisher-z":
        if (np.abs(values) >= 1).any():
            return math.nan
        return math.tanh(float(np.arctanh(values).mean()))
    return float(values.mean())
