"""Combine statistics so that many resamples are computed together where each part can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from t2v_eval.stats.bootstrap import IntArray, Statistic, TogetherStatistic
from t2v_eval.stats.metrics import FloatArray
from t2v_eval.stats.resampling.draws import Copies


class Each:
    """A `TogetherStatistic` that calls a statistic for each resample, with its units in order.

    Args:
        statistic: does not depend on the order of units, except for rounding.

    >>> largest = Each(lambda index: {"largest": float(index.max())})
    >>> largest.together(np.array([[2, 1], [0, 1]], np.uint8))
    {'largest': array([0., 1.])}
    """

    def __init__(self, statistic: Statistic) -> None:
        self._statistic = statistic

    @classmethod
    def of(cls, statistic: Statistic) -> TogetherStatistic:
        """Return a statistic that computes many resamples together as it is."""
        return statistic if isinstance(statistic, TogetherStatistic) else cls(statistic)

    def __call__(self, index: IntArray) -> Mapping[str, float]:
        """Return the metrics of units."""
        return self._statistic(index)

    def together(self, copies: Copies) -> Mapping[str, FloatArray]:
        """Return each metric of many resamples; see `TogetherStatistic`.

        Args:
            copies: shape (units, resamples).
        """
        units = np.arange(len(copies))
        values = [self._statistic(np.repeat(units, of_resample)) for of_resample in copies.T]
        return {name: np.array([of_one[name] for of_one in values]) for name in values[0]}


def joined(parts: Sequence[Statistic]) -> Statistic:
    """Combine statistics of the same units into one with all their metrics.

    Args:
        parts: the statistics. The result is a `TogetherStatistic` if each of them is.

    >>> lowest, highest = (lambda i: {"low": i.min()}), (lambda i: {"high": i.max()})
    >>> joined([lowest, highest])(np.array([1, 2])) == {"low": 1, "high": 2}
    True
    """
    of_many = [part for part in parts if isinstance(part, TogetherStatistic)]
    if len(of_many) == len(parts):
        return _Joined(of_many)
    return lambda index: {name: value for part in parts for name, value in part(index).items()}


class _Joined:
    """Several statistics that compute many resamples together."""

    def __init__(self, parts: Sequence[TogetherStatistic]) -> None:
        self._parts = parts

    def __call__(self, index: IntArray) -> Mapping[str, float]:
        """Return the metrics of units."""
        return {name: value for part in self._parts for name, value in part(index).items()}

    def together(self, copies: Copies) -> Mapping[str, FloatArray]:
        """Return each metric of many resamples; see `TogetherStatistic`.

        Args:
            copies: shape (units, resamples).
        """
        return {
            name: values for part in self._parts for name, values in part.together(copies).items()
        }
