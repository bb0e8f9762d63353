"""Confidence intervals by the bootstrap (Efron and Tibshirani 1993).

The resampled unit must be what was sampled independently: a prompt with all its images, not a row
of a table. All metrics are computed on the same resamples. `stats.intervals` turns them into
limits, which always enclose the value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import InputError
from t2v_eval.stats import metrics
from t2v_eval.stats.agreement_metrics import METRICS, AgreementMetric, WeightedAgreement
from t2v_eval.stats.intervals import Estimate, Kind, limits
from t2v_eval.stats.metrics import FloatArray, Values
from t2v_eval.stats.pairwise import Pairs
from t2v_eval.stats.resampled_metrics import Resample, SortedSample
from t2v_eval.stats.resampling.draws import Copies, drawn_copies, resample_indices
from t2v_eval.utils.arrays import mean_of_known

IntArray = NDArray[np.int64]
Statistic: TypeAlias = Callable[[IntArray], Mapping[str, float]]

# Up to here a resample of acc23 takes about 1 ms; beyond, it keeps the threshold.
_MAX_RECALIBRATED = 1 << 17
_PARTS = 5  # of a cross-validation


@runtime_checkable
class TogetherStatistic(Protocol):
    """A statistic that computes many resamples together, which takes less time.

    >>> class Mean:
    ...     values = np.array([1.0, 2.0, 6.0])
    ...     def __call__(self, indices):
    ...         return {"mean": float(self.values[indices].mean())}
    ...     def together(self, copies):
    ...         return {"mean": self.values @ copies / copies.sum(axis=0)}
    >>> isinstance(Mean(), TogetherStatistic)
    True
    >>> Mean()(np.array([0, 0, 2])), Mean().together(np.array([[2], [0], [1]], np.uint8))
    ({'mean': 2.6666666666666665}, {'mean': array([2.66666667])})
    """

    def __call__(self, indices: IntArray, /) -> Mapping[str, float]:
        """Return the metrics of the units at some indices."""
        ...

    def together(self, copies: Copies) -> Mapping[str, FloatArray]:
        """Return each metric of many resamples, shape (resamples,).

        Args:
            copies: shape (units, resamples), how many times each resample holds each unit.
        """
        ...


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

    def reversed(self) -> Interval:
        """Return the interval of the difference in the other direction.

        >>> Interval(0.5, 0.25, 1.0).reversed()
        Interval(value=-0.5, low=-1.0, high=-0.25)
        """
        return Interval(-self.value, -self.high, -self.low)

    def minus(self, other: Interval) -> Interval:
        """Return the interval of the difference of two independent estimates.

        The limits recover the variance of each side from its own limits, so that intervals need not
        be symmetric (MOVER; Zou and Donner 2008, equation 2). For estimates that are positively
        correlated, as distances to one reference are, the interval is too wide.

        Args:
            other: the estimate that is subtracted.

        >>> difference = Interval(5.0, 2.0, 8.0).minus(Interval(1.0, -3.0, 5.0))
        >>> difference
        Interval(value=4.0, low=-1.0, high=9.0)
        """
        value = self.value - other.value
        return Interval(
            value,
            value - math.hypot(self.value - self.low, other.high - other.value),
            value + math.hypot(self.high - self.value, other.value - other.low),
        )


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
        estimates: what the intervals of some metrics depend on; the others have percentile ones.

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
    estimates: Mapping[str, Estimate] = field(default_factory=dict)

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
        values = statistic(np.arange(n))
        value = {name: float(v) for name, v in values.items()}
        estimates = {name: v for name, v in values.items() if isinstance(v, Estimate)}
        resampled = np.full((len(value), resamples), np.nan)
        first = 0
        for sample in _resampled(statistic, n, resamples, seed) if n >= 2 else ():
            if sample.keys() != value.keys():
                raise InputError(
                    f"the statistic returned {sorted(sample)} on a resample and "
                    f"{sorted(value)} on the whole sample: return the same names, with NaN "
                    "for what is undefined"
                )
            columns = np.array([sample[name] for name in value]).reshape(len(value), -1)
            resampled[:, first : first + columns.shape[1]] = columns
            first += columns.shape[1]
        by_name = dict(zip(value, resampled, strict=True))
        return cls(n, resamples, seed, value, by_name, estimates)

    def intervals(self, confidence: float = 0.95) -> dict[str, Interval]:
        """Return each metric with its interval; see `bootstrap_interval`.

        Args:
            confidence: the coverage of the interval, between 0 and 1.
        """
        intervals = {}
        for name, value in self.value.items():
            estimate = self.estimates.get(name, Estimate(value, "percentile"))
            low, high = limits(
                value,
                self.resampled[name],
                self.n,
                confidence,
                kind=estimate.kind,
                trials=estimate.trials,
            )
            intervals[name] = Interval(value, low, high)
        return intervals

    def shifted(self, value: Mapping[str, float]) -> BootstrapSamples:
        """Return the same resamples around another value of each metric.

        Args:
            value: the metrics of nearly the same sample.

        >>> samples = BootstrapSamples(2, 3, 0, {"mean": 1.0}, {"mean": np.array([0.5, 1.0, 1.5])})
        >>> samples.shifted({"mean": 2.0}).resampled["mean"]
        array([1.5, 2. , 2.5])
        """
        resampled = {
            name: values + (float(value[name]) - self.value[name])
            for name, values in self.resampled.items()
        }
        plain = {name: float(v) for name, v in value.items()}
        return BootstrapSamples(self.n, self.resamples, self.seed, plain, resampled, self.estimates)

    def difference(self, other: BootstrapSamples) -> BootstrapSamples:
        """Subtract another scorer's metrics, resample by resample; intervals are percentile ones.

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


def _resampled(
    statistic: Statistic | TogetherStatistic, n: int, resamples: int, seed: int
) -> Iterator[Mapping[str, float | FloatArray]]:
    """Yield the metrics of each resample, or of many together."""
    if isinstance(statistic, TogetherStatistic):
        return (statistic.together(copies) for copies in drawn_copies(n, resamples, seed))
    return (statistic(indices) for indices in resample_indices(n, resamples, seed))


def bootstrap_interval(
    statistic: Statistic,
    n: int,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Compute each metric that `statistic` returns, with its interval.

    The interval is an expanded percentile one, or that of the kind of `Estimate` that the statistic
    returns (`stats.intervals`). Resamples where a metric is NaN do not count for it. The limits are
    NaN where that leaves fewer than half of the resamples, where the value is NaN, and for fewer
    than two units.

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
    {'accuracy': Interval(value=0.75, low=0.375, high=1.0)}
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
    Interval(value=2.0, low=0.0, high=5.0)
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
        return _Pooled(s, h, names)
    parts = {name: _row_statistic(METRICS[name], s, h) for name in names}
    return lambda indices: {name: part(indices) for name, part in parts.items()}


class _Pooled:
    """The metrics of all items of the resampled rows as one sample."""

    def __init__(self, s: FloatArray, h: FloatArray, names: tuple[str, ...]) -> None:
        self._s, self._h, self._names = s, h, names
        self._units, self._width = s.shape
        self._threshold, self._recalibrated = None, None
        if "acc23" in names:
            pairs = Pairs(s.reshape(1, -1), h.reshape(1, -1))
            if int(pairs.pairs_in_row.sum()) <= _MAX_RECALIBRATED:
                self._recalibrated = _Recalibrated(pairs, s.shape, pooled=True)
            else:
                self._threshold = pairs.calibrate()
        weighted = [name for name in names if name != "acc23" or self._recalibrated is None]
        self._weighted = WeightedAgreement(s.ravel(), h.ravel(), weighted, self._threshold)
        self._kinds = _kinds(names, single=self._width == 1)

    def __call__(self, indices: IntArray) -> Mapping[str, float]:
        """Return the metrics of the units at some indices."""
        if len(indices) == 1 and self._recalibrated is None:  # as for each item alone
            return self._of_unit(int(indices[0]))
        copies = np.bincount(indices, minlength=self._units).astype(np.int32)
        values = self._weighted(self._of_items(copies))
        if self._recalibrated is not None:
            values["acc23"] = self._recalibrated(copies)
        return self._estimates(values)

    def together(self, copies: Copies) -> Mapping[str, FloatArray]:
        """Return each metric of many resamples; see `TogetherStatistic`.

        Args:
            copies: shape (units, resamples).
        """
        values = self._weighted.together(self._of_items(copies))
        if self._recalibrated is not None:
            values["acc23"] = np.array([self._recalibrated(column) for column in copies.T])
        return values

    def _of_items(self, copies: NDArray[np.integer]) -> NDArray[np.integer]:
        return copies if self._width == 1 else np.repeat(copies, self._width, axis=0)

    def _of_unit(self, n: int) -> Mapping[str, float]:
        if self._width == 1:
            return self._undefined
        rows = self._s[n], self._h[n]
        of_unit = WeightedAgreement(*rows, self._names, self._threshold)
        return self._estimates(of_unit(np.ones(self._width)))

    @cached_property
    def _undefined(self) -> dict[str, float]:
        return self._estimates(dict.fromkeys(self._names, math.nan))

    def _estimates(self, values: Mapping[str, float]) -> dict[str, float]:
        return {name: Estimate(values[name], self._kinds[name]) for name in self._names}


def _kinds(names: Sequence[str], single: bool) -> dict[str, Kind]:
    """Return the kind of interval of each metric of one sample.

    Args:
        names: names of `METRICS`.
        single: whether items are units, and not drawn together as those of a group.
    """
    kinds = {name: METRICS[name].interval for name in names}
    return {
        name: kind if single or kind != "pairs" else "percentile" for name, kind in kinds.items()
    }


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
        recalibrated = _Recalibrated(pairs, s.shape, pooled=False)
        return lambda indices: recalibrated(np.bincount(indices, minlength=len(s)))
    accuracies = np.full(len(s), np.nan)
    accuracies[np.unique(pairs.row)] = pairs.accuracies(pairs.calibrate())
    return lambda indices: mean_of_known(accuracies[indices])


class _Recalibrated:
    """Compute acc23 of resamples from one sorted list of the pairs of the whole sample."""

    def __init__(self, pairs: Pairs, shape: tuple[int, ...], pooled: bool) -> None:
        self._pooled = pooled
        self._unit = pairs.column // shape[1] if pooled else pairs.row
        listed = pairs.list_all()
        self._first, self._second = listed.first, listed.second
        self._agree = pairs.agree_at_zero()
        differs = listed.difference[1:] != listed.difference[:-1]
        self._ends = np.flatnonzero(np.append(differs, True)) if len(listed.gain) else None
        self._rows, position = np.unique(pairs.row, return_inverse=True)
        self._share = np.ones(len(pairs.x)) if pooled else 1.0 / pairs.pairs_in_row[position]
        self._gain = np.sign(listed.gain) * self._share[listed.first]

    def __call__(self, unit_copies: NDArray[np.integer]) -> float:
        unit_copies = unit_copies.astype(np.float64)
        copies = unit_copies[self._unit]
        agree, other = self._agree
        if self._pooled:
            # Copies of one item are no pair.
            pairs = float(copies.sum() ** 2 - copies @ copies) / 2
            total = float(copies[agree] @ copies[other])
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


class CrossValidated:
    """Compute pairwise accuracy whose threshold is fitted to other items than it is applied to.

    Items are dealt at random, with a fixed seed, into five parts, or fewer of two items each. The
    pairs within each part are judged with the threshold of `metrics.pairwise_accuracy` that is best
    for the pairs of all other items (cross-validation). Resamples keep parts and thresholds.

    Args:
        scores: shape (items,); NaN is missing.
        human: ratings, in the same shape.

    >>> accuracy = CrossValidated(np.arange(8.0), np.arange(8.0) // 2)
    >>> accuracy(np.arange(8)), CrossValidated(np.ones(3), np.ones(3))(np.arange(3))
    (1.0, nan)
    """

    def __init__(self, scores: FloatArray, human: FloatArray) -> None:
        s, h = metrics.as_rows(scores, human)
        present = np.flatnonzero(~np.isnan(s[0]))
        self._items = s.shape[1]
        parts = min(_PARTS, len(present) // 2)
        part = np.full(self._items, -1)
        shuffled = np.random.default_rng(0).permutation(present)
        part[shuffled] = np.arange(len(present)) % max(1, parts)
        self._parts: list[tuple[IntArray, SortedSample]] = []
        for k in range(parts if parts > 1 else 0):
            others, fold = (part >= 0) & (part != k), np.flatnonzero(part == k)
            threshold = Pairs(s[:, others], h[:, others]).calibrate()
            self._parts.append((fold, SortedSample(s[0, fold], h[0, fold], threshold)))

    def __call__(self, indices: IntArray) -> float:
        """Return the accuracy over the pairs of a resample within parts; NaN without any.

        Args:
            indices: of the drawn items, in any number.
        """
        copies = np.bincount(indices, minlength=self._items).astype(np.float64)
        resamples = [Resample(sample, copies[fold]) for fold, sample in self._parts]
        pairs = sum(resample.pairs for resample in resamples)
        right = sum(resample.right for resample in resamples)
        return right / pairs if pairs else math.nan


def cross_validated_accuracy(scores: Values, human: Values) -> float:
    """Compute "acc23_cv": pairwise accuracy with tie calibration by cross-validation.

    `metrics.pairwise_accuracy` fits its threshold to the pairs that it judges, so that it flatters
    scores a little, those of few items most. See `CrossValidated`.

    Args:
        scores: shape (items,); None and NaN are missing.
        human: ratings, in the same shape.

    Returns:
        From 0 to 1; NaN with fewer than four items.

    Raises:
        InputError: as `metrics.pairwise_accuracy`.

    >>> cross_validated_accuracy([1, 2, 3, 4, 5, 6, 7, 8], [1, 1, 2, 2, 3, 3, 4, 4])
    1.0
    """
    s, h = metrics.as_rows(scores, human)
    return CrossValidated(s.ravel(), h.ravel())(np.arange(s.size))


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InputError(f"`confidence={confidence!r}`: pass a number between 0 and 1, as 0.95")


def check_count(name: str, count: object, minimum: int) -> None:
    """Raise InputError unless an argument is a whole number of at least `minimum`.

    >>> check_count("resamples", 1000, 1)
    """
    is_whole = isinstance(count, (int, np.integer)) and not isinstance(count, bool)
    if not is_whole or count < minimum:  # type: ignore[operator]
        raise InputError(f"`{name}={count!r}`: pass a whole number of at least {minimum}")
