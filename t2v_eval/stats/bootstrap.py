"""Confidence intervals by the percentile bootstrap (Efron and Tibshirani 1993, section 13.3).

The resampled unit must be what was sampled independently: a prompt with all its images, not a row
of a table. All metrics are computed on the same resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import InputError
from t2v_eval.stats import metrics
from t2v_eval.stats.agreement_metrics import METRICS, AgreementMetric, WeightedAgreement
from t2v_eval.stats.metrics import FloatArray, Values
from t2v_eval.stats.pairwise import Pairs
from t2v_eval.utils.arrays import mean_of_known

IntArray = NDArray[np.int64]
Statistic: TypeAlias = Callable[[IntArray], Mapping[str, float]]

# Up to here a resample of acc23 takes about 1 ms; beyond, it keeps the threshold.
_MAX_RECALIBRATED = 1 << 17


class Interval(NamedTuple):
    """A value on the whole sample and the limits of its interval, on the scale of the metric.

    Attributes:
        value: the metric of the whole sample.
        low: the lower limit; NaN where there is no interval.
        high: the upper limit; NaN where there is no interval.

    >>> Interval(0.75, 0.5, 1.0).low
    0.5
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class BootstrapSamples:
    """The metrics of a sample of n units and of each of its bootstrap resamples.

    The same seed resamples the same units, so two scorers can be compared resample by resample
    (`difference`) without computing anything again.

    Attributes:
        n: the number of units.
        resamples: the number of resamples.
        seed: the random seed that chose the units of each resample.
        value: each metric of the whole sample.
        resampled: each metric of every resample, shape (resamples,); NaN where fewer than two
            units leave nothing to resample.

    >>> correct = np.array([1, 0, 1, 1])
    >>> samples = BootstrapSamples.compute(lambda i: {"accuracy": correct[i].mean()}, 4, 100, 0)
    >>> samples.value["accuracy"], samples.resampled["accuracy"].shape
    (0.75, (100,))
    >>> samples.difference(samples).intervals()["accuracy"]
    Interval(value=0.0, low=0.0, high=0.0)
    """

    n: int
    resamples: int
    seed: int
    value: Mapping[str, float]
    resampled: Mapping[str, FloatArray]

    @classmethod
    def compute(cls, statistic: Statistic, n: int, resamples: int, seed: int) -> BootstrapSamples:
        """Call `statistic` with each unit in order, then with each resample.

        Args:
            statistic: as in `bootstrap_interval`.
            n: the number of units, 0 or more.
            resamples: the number of resamples, 1 or more.
            seed: the random seed, 0 or more.

        Raises:
            InputError: `n`, `resamples` or `seed` cannot be used, or the statistic does not return
                the same names every time.
        """
        for name, count, minimum in (("n", n, 0), ("resamples", resamples, 1), ("seed", seed, 0)):
            check_count(name, count, minimum)
        value = {name: float(v) for name, v in statistic(np.arange(n)).items()}
        resampled = np.full((len(value), resamples), np.nan)
        if n >= 2:
            for k, indices in enumerate(_resample_indices(n, resamples, seed)):
                sample = statistic(indices)
                if sample.keys() != value.keys():
                    raise InputError(
                        f"the statistic returned {sorted(sample)} on a resample and "
                        f"{sorted(value)} on the whole sample: return the same names, with NaN "
                        "for what is undefined"
                    )
                resampled[:, k] = [sample[name] for name in value]
        return cls(n, resamples, seed, value, dict(zip(value, resampled, strict=True)))

    def intervals(self, confidence: float = 0.95) -> dict[str, Interval]:
        """Return each metric with its percentile interval; see `bootstrap_interval`.

        Args:
            confidence: the coverage of the interval, between 0 and 1.
        """
        tail = (1 - confidence) / 2
        intervals = {}
        for name, value in self.value.items():
            resampled = self.resampled[name]
            defined = resampled[~np.isnan(resampled)]
            low = high = math.nan
            if not math.isnan(value) and 2 * len(defined) >= len(resampled):
                low, high = (float(q) for q in np.quantile(defined, [tail, 1 - tail]))
            intervals[name] = Interval(value, low, high)
        return intervals

    def difference(self, other: BootstrapSamples) -> BootstrapSamples:
        """Subtract another scorer's metrics, resample by resample.

        Args:
            other: samples of the same units with the same seed.

        Raises:
            InputError: the other sample differs in units, seed, number of resamples or metrics.
        """
        if self.value.keys() != other.value.keys():
            raise InputError(
                f"the two statistics return different metrics, {sorted(self.value)} and "
                f"{sorted(other.value)}: compare the same ones"
            )
        if (self.n, self.resamples, self.seed) != (other.n, other.resamples, other.seed):
            raise InputError("only resamples of one sample with one seed can be compared")
        value = {name: v - other.value[name] for name, v in self.value.items()}
        resampled = {name: v - other.resampled[name] for name, v in self.resampled.items()}
        return BootstrapSamples(self.n, self.resamples, self.seed, value, resampled)


def bootstrap_interval(
    statistic: Statistic,
    n: int,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Compute each metric that `statistic` returns, with its percentile interval.

    Resamples where a metric is NaN do not count for it. The limits are NaN where that leaves fewer
    than half of the resamples, where the value is NaN, and for fewer than two units.

    Args:
        statistic: takes n unit indices from 0 to n - 1, repeated as resampled, and returns the
            metrics of those units. It is called once with each unit in order, then once for each
            resample.
        n: the number of units.
        resamples: the number of resamples.
        confidence: the coverage of the interval, between 0 and 1.
        seed: the same seed gives the same resamples.

    Returns:
        Each metric by name: its value and the limits of its interval.

    Raises:
        InputError: a count, the confidence or the statistic cannot be used.

    >>> correct = np.array([1, 0, 1, 1, 0, 1, 1, 1])
    >>> bootstrap_interval(lambda i: {"accuracy": correct[i].mean()}, len(correct))
    {'accuracy': Interval(value=0.75, low=0.5, high=1.0)}
    """
    _check_confidence(confidence)
    return BootstrapSamples.compute(statistic, n, resamples, seed).intervals(confidence)


def bootstrap_difference(
    first: Statistic,
    second: Statistic,
    n: int,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Compute the difference first - second of each metric of two scorers, with its interval.

    Both are computed on the same resamples of the same units, so that variation they share does not
    widen the interval. Both must also cover the same scores: set what either lacks to NaN in both,
    since scorers seldom fail at random. A metric that is undefined for either is undefined.

    Args:
        first: the statistic of one scorer, as in `bootstrap_interval`.
        second: the statistic of the other, with the same names.
        n: the number of units.
        resamples: the number of resamples.
        confidence: the coverage of the interval, between 0 and 1.
        seed: the same seed gives the same resamples.

    Returns:
        The difference of each metric by name, with the limits of its interval.

    Raises:
        InputError: as `bootstrap_interval`, and where the two return different metrics.

    >>> a, b = np.array([1, 1, 0, 1, 1, 1]), np.array([1, 0, 0, 0, 1, 1])
    >>> def count(correct):
    ...     return lambda i: {"correct": correct[i].sum()}
    >>> bootstrap_difference(count(a), count(b), 6)["correct"]
    Interval(value=2.0, low=0.0, high=4.0)
    """
    _check_confidence(confidence)
    a, b = (BootstrapSamples.compute(s, n, resamples, seed) for s in (first, second))
    return a.difference(b).intervals(confidence)


def agreement_statistic(
    scores: Values,
    human: Values,
    names: Iterable[str] = ("pearson", "spearman", "tau_b", "tau_c", "acc23"),
    *,
    pooled: bool = False,
) -> Statistic:
    """Build the statistic for `bootstrap_interval` from metrics of `METRICS`.

    "acc23" recalibrates its threshold in every resample as long as all groups together hold at
    most 2^17 pairs. Beyond that (512 items in one group), resamples keep the threshold of the whole
    sample: accuracy is flat around it, so its own spread matters little at that size.

    Args:
        scores: shape (items,), whose items are the units, or (groups, items), whose rows are; None
            or NaN is missing.
        human: ratings, in the same shape.
        names: names of `METRICS`.
        pooled: whether the items of the resampled rows are one sample for every metric, as in a
            benchmark that is grouped by prompt but whose metric is not.

    Returns:
        A function from indices of units, shape (k,), to the metrics of those units by name.

    Raises:
        InputError: as the metrics do, and for an unknown name.

    >>> statistic = agreement_statistic([0.1, 0.4, 0.3, 0.8], [1, 2, 2, 3], ["tau_b", "acc23"])
    >>> bootstrap_interval(statistic, 4)["acc23"]
    Interval(value=1.0, low=1.0, high=1.0)
    """
    names = tuple(names)
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise InputError(f"no agreement metric is called {unknown[0]!r}: use {', '.join(METRICS)}")
    s, h = metrics.as_rows(scores, human)
    one_dimension = metrics.as_floats("scores", scores).ndim == 1
    if one_dimension:
        s, h = s.T, h.T
    if pooled or one_dimension:
        return _pooled_statistic(s, h, names)
    parts = {name: _row_statistic(METRICS[name], s, h) for name in names}
    return lambda indices: {name: part(indices) for name, part in parts.items()}


def _pooled_statistic(s: FloatArray, h: FloatArray, names: tuple[str, ...]) -> Statistic:
    """Return the metrics of all items of the resampled rows as one sample."""
    units, width = s.shape
    threshold, recalibrated = None, None
    if "acc23" in names:
        pairs = Pairs(s.reshape(1, -1), h.reshape(1, -1))
        if int(pairs.pairs_in_row.sum()) <= _MAX_RECALIBRATED:
            recalibrated = _Recalibrated(pairs, s.shape, pooled=True)
        else:
            threshold = pairs.calibrate()
    weighted = [name for name in names if name != "acc23" or recalibrated is None]
    weighted_metrics = WeightedAgreement(s.ravel(), h.ravel(), weighted, threshold)

    def metrics_of(indices: IntArray) -> Mapping[str, float]:
        copies = np.repeat(np.bincount(indices, minlength=units), width).astype(np.float64)
        values = weighted_metrics(copies)
        if recalibrated is not None:
            values["acc23"] = recalibrated(indices)
        return {name: values[name] for name in names}

    return metrics_of


def _row_statistic(
    metric: AgreementMetric, s: FloatArray, h: FloatArray
) -> Callable[[IntArray], float]:
    """Return a metric of the resampled rows; one that averages rows computes each row once."""
    if metric.name == "acc23":
        return _acc23(s, h)
    if metric.averages_rows:
        rows = metric.per_row(s, h)
        return lambda indices: mean_of_known(rows[indices])
    return lambda indices: metric.compute(s[indices], h[indices])


def _acc23(s: FloatArray, h: FloatArray) -> Callable[[IntArray], float]:
    pairs = Pairs(s, h)
    if int(pairs.pairs_in_row.sum()) <= _MAX_RECALIBRATED:
        return _Recalibrated(pairs, s.shape, pooled=False)
    accuracies = np.full(len(s), np.nan)
    accuracies[np.unique(pairs.row)] = pairs.accuracies(pairs.calibrate())
    return lambda indices: mean_of_known(accuracies[indices])


class _Recalibrated:
    """Compute acc23 of resamples from one sorted list of the pairs of the whole sample."""

    def __init__(self, pairs: Pairs, shape: tuple[int, ...], pooled: bool) -> None:
        self._pooled = pooled
        self._units = shape[0]
        self._unit = pairs.column // shape[1] if pooled else pairs.row
        listed = pairs.list_all()
        self._first, self._second = listed.first, listed.second
        self._agree = pairs.agree_at_zero()
        differs = listed.difference[1:] != listed.difference[:-1]
        self._ends = np.flatnonzero(np.append(differs, True)) if len(listed.gain) else None
        self._rows, position = np.unique(pairs.row, return_inverse=True)
        self._share = np.ones(len(pairs.x)) if pooled else 1.0 / pairs.pairs_in_row[position]
        self._gain = np.sign(listed.gain) * self._share[listed.first]

    def __call__(self, indices: IntArray) -> float:
        unit_copies = np.bincount(indices, minlength=self._units).astype(np.float64)
        copies = unit_copies[self._unit]
        agree, other = self._agree
        if self._pooled:
            items = float(copies.sum())
            pairs = items * (items - 1) / 2
            # Copies of one item are tied in both.
            total = float(copies[agree] @ copies[other] + (copies * (copies - 1)).sum() / 2)
            gain = self._gain * copies[self._first] * copies[self._second]
        else:
            pairs = float(unit_copies[self._rows].sum())
            total = float((copies * self._share)[agree].sum())
            gain = self._gain * copies[self._first]
        if not pairs:
            return math.nan
        if self._ends is not None:
            total += max(0.0, float(np.cumsum(gain)[self._ends].max()))
        return total / pairs


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InputError(f"`confidence={confidence!r}`: pass a number between 0 and 1, as 0.95")


def _resample_indices(n: int, resamples: int, seed: int) -> Iterator[IntArray]:
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield rng.integers(0, n, size=n)


def check_count(name: str, count: object, minimum: int) -> None:
    """Raise InputError unless an argument is a whole number of at least `minimum`.

    >>> check_count("resamples", 1000, 1)
    """
    is_whole = isinstance(count, (int, np.integer)) and not isinstance(count, bool)
    if not is_whole or count < minimum:  # type: ignore[operator]
        raise InputError(f"`{name}={count!r}`: pass a whole number of at least {minimum}")
