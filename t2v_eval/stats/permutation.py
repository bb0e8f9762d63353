"""Paired permutation tests: do two scorers differ significantly?

Under the null hypothesis that two scorers are equally good, it does not matter which of them gave
which scores of an item. The scores of random items are swapped between them, and p is the share of
swaps after which the difference is at least as large as before (Good 2005, chapter 3; for agreement
with human ratings, Deutsch, Dror and Roth 2021).

A thousand random swaps cannot show a p below 1 in 1,001, which is too large to correct for a
hundred comparisons. Where fewer than `MIN_EXCEEDANCES` swaps reach the difference, p is the tail of
the normal distribution with the standard deviation of the swapped differences if that is smaller
(Knijnenburg et al. 2009 do so with another tail), but not less than all swaps together could show.

After `EARLY_LOOK` swaps most differences are clearly null or clearly significant, and the test
stops; it goes on where a metric is undecided.
"""

from __future__ import annotations

import copy
import itertools
import math
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import InputError
from t2v_eval.stats.bootstrap import Statistic, TogetherStatistic
from t2v_eval.utils.arrays import Values, as_floats

LEVEL = 0.05
"""The significance level: the probability of any false positive in a family of tests."""

MIN_EXCEEDANCES = 10
"""Swaps that reach the difference; with fewer, their share is too coarse an estimate of p."""
EARLY_LOOK = 100
"""Swaps after which the test stops if all metrics are decided."""
CLEARLY_NULL = 0.15
"""Share of `EARLY_LOOK` swaps; if p were below `LEVEL`, it would be seen once in 20,000 tests."""
CLEARLY_DIFFERENT = 6.0
"""Standard deviations: p < 1e-8, and < 1e-6 even if the deviation is underestimated by 20 %."""
RTOL = 1e-12
"""What differences may differ by and be equal up to the order of sums, relative to the metric."""

_BATCH = 50  # swaps that are computed together; divides EARLY_LOOK
_PART = 1 << 16  # tosses of a coin that are drawn together
_MAX_PARTS = 1 << 14  # parts of them in memory, 134 MB

K = TypeVar("K", bound=Hashable)


class PValue(NamedTuple):
    """A p-value, and the same after Holm's correction over its family of tests.

    >>> PValue(p=0.01, p_holm=0.03).significant
    True
    """

    p: float
    p_holm: float

    @property
    def significant(self) -> bool:
        """Return whether the corrected p-value is below `LEVEL`; an undefined one is not."""
        return self.p_holm < LEVEL


def corrected(p_values: Mapping[K, float]) -> dict[K, PValue]:
    """Return each p-value with its Holm correction over all of them.

    Args:
        p_values: the p-values of one family of tests; NaN is undefined.

    >>> corrected({"colour": 0.01, "counting": 0.04})["counting"]
    PValue(p=0.04, p_holm=0.04)
    """
    return {
        key: PValue(p, p_holm)
        for (key, p), p_holm in zip(p_values.items(), holm([*p_values.values()]), strict=True)
    }


def sign_flip(differences: Values, *, permutations: int = 9999, seed: int = 0) -> float:
    """Compute the two-sided p-value of a mean of paired differences being 0.

    Under the null hypothesis each difference may as well have the other sign: p is the share of
    sign patterns that bring the mean as far from 0 as it is. Patterns are all 2^n where these are
    no more than `permutations`, and random otherwise; then the observed signs count as one more.

    Args:
        differences: shape (n,); None or NaN is missing.
        permutations: the number of sign patterns.
        seed: the random seed of the patterns.

    Returns:
        p, from 0 to 1; NaN if all differences are missing.

    Raises:
        InputError: `differences` is not an array of numbers.

    >>> sign_flip([1.0, 2.0, None, 3.0, 4.0])
    0.125
    """
    present = as_floats("differences", differences).ravel()
    present = present[~np.isnan(present)]
    n = len(present)
    if not n:
        return math.nan
    exact = n <= 30 and 2**n <= permutations
    swaps = _all_swaps(n) if exact else _tosses(seed).swaps(n, permutations)
    sums = np.abs([present.sum() - 2 * (present @ swap.astype(np.float64)) for swap in swaps])
    extreme = int((sums >= abs(present.sum()) - RTOL * np.abs(present).sum()).sum())
    return extreme / len(sums) if exact else (1 + extreme) / (1 + len(sums))


def paired_permutation(
    statistic: Statistic | SwapStatistic, n: int, *, permutations: int = 1000, seed: int = 0
) -> dict[str, float]:
    """Compute the two-sided p-value of the difference between two scorers, for each metric.

    All 2^n swaps are made where they are no more than `permutations`. Otherwise swaps are random,
    the observed scores count as one more, so that p is never 0, small p-values are tails of a
    normal distribution, and the test may stop early: see the top of this module.

    Args:
        statistic: takes n indices into 2n items and returns metrics. Item k has index k with the
            first scorer's scores and k + n with the second's. One that computes the differences of
            many swaps together (`SwapStatistic`) is asked for these.
        n: the number of items.
        permutations: the largest number of swaps.
        seed: the random seed of the swaps.

    Returns:
        p of each metric; NaN where it is undefined for either scorer, or after most swaps.

    Raises:
        InputError: `n` or `permutations` is below 1.

    >>> correct = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 1])
    >>> paired_permutation(lambda i: {"accuracy": correct[i].mean()}, 5)
    {'accuracy': 0.125}
    """
    if n < 1 or permutations < 1:
        raise InputError(f"`n={n!r}`, `permutations={permutations!r}`: both must be at least 1")
    # Swapping all items changes only the sign, so half of the patterns is enough.
    exact = n <= 30 and 2**n <= permutations
    swaps = _all_swaps(n) if exact else _tosses(seed).swaps(n, permutations)
    observed = _observed(statistic, n)
    batches = iter(lambda: list(itertools.islice(swaps, _BATCH)), [])
    swapped: list[Mapping[str, float]] = []
    for batch in batches:
        swapped += _by_swap(swapped_differences(statistic, np.array(batch)))
        if not exact and len(swapped) == EARLY_LOOK and _decided_early(observed, swapped):
            break
    p_values = {}
    for name, actual in observed.items():
        differences = _abs_differences(swapped, name)
        if math.isnan(actual.value) or 2 * len(differences) < len(swapped):
            p_values[name] = math.nan
        elif exact:
            p_values[name] = actual.count_extreme(differences) / len(differences)
        else:
            p_values[name] = _random_swap_p(differences, actual, n)
    return p_values


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for multiple testing (Holm 1979); NaN stays and does not count as a test.

    The k-th smallest of m is multiplied by m - k + 1, and none becomes smaller than one before it.
    Calling significant what is then below 0.05 has a false positive in at most 5 % of families.

    Args:
        p_values: the p-values of one family of tests, from 0 to 1.

    Returns:
        The corrected p-values in the same order, from 0 to 1.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = [k for k in np.argsort(p_values, kind="stable").tolist() if not math.isnan(p_values[k])]
    result = [math.nan] * len(p_values)
    largest = 0.0
    for rank, k in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[k]))
        result[k] = largest
    return result


class _Observed(NamedTuple):
    """A difference of two scorers, and the larger of the two metrics that it is of."""

    value: float
    scale: float

    def count_extreme(self, differences: NDArray[np.float64]) -> int:
        """Count the absolute differences that reach this one."""
        return int((differences >= abs(self.value) - RTOL * self.scale).sum())


def _random_swap_p(differences: NDArray[np.float64], observed: _Observed, n: int) -> float:
    """Return p from the absolute differences after random swaps."""
    extreme = observed.count_extreme(differences)
    share = (1 + extreme) / (1 + len(differences))
    deviation = _rms(differences)
    if extreme >= MIN_EXCEEDANCES or not deviation:
        return share
    tail = math.erfc(abs(observed.value) / deviation / math.sqrt(2))
    return min(share, max(tail, 2.0 ** (1 - n)))


def _decided_early(
    observed: Mapping[str, _Observed], swapped: Sequence[Mapping[str, float]]
) -> bool:
    """Return whether each metric is clearly null, clearly different, or undefined."""
    for name, actual in observed.items():
        differences = _abs_differences(swapped, name)
        if math.isnan(actual.value) or 2 * len(differences) < len(swapped):
            continue
        null = actual.count_extreme(differences) >= CLEARLY_NULL * len(differences)
        if not (null or abs(actual.value) > CLEARLY_DIFFERENT * _rms(differences) > 0):
            return False
    return True


def _abs_differences(swapped: Sequence[Mapping[str, float]], name: str) -> NDArray[np.float64]:
    """Return the absolute difference of a metric after each swap where it is defined."""
    values = np.abs([differences[name] for differences in swapped])
    return values[~np.isnan(values)]


def _rms(differences: NDArray[np.float64]) -> float:
    """Return the root mean square: the standard deviation, as the mean is 0 under swaps."""
    return math.sqrt(float(np.mean(differences**2)))


@runtime_checkable
class SwapStatistic(Protocol):
    """A statistic that computes the differences of many swaps together, which takes less time.

    Both methods return what calls of the statistic would: the metrics of the items at some indices
    minus those of the same items with the other scorer's scores.

    >>> class MeanDifference:
    ...     gap = np.array([0.5, 0.1, 0.3])
    ...     def observed(self):
    ...         return {"mean": float(self.gap.mean())}
    ...     def differences(self, swapped):
    ...         return {"mean": np.where(swapped, -self.gap, self.gap).mean(1)}
    >>> isinstance(MeanDifference(), SwapStatistic)
    True
    """

    def observed(self) -> Mapping[str, float]:
        """Return the difference of each metric without a swap."""
        ...

    def differences(self, swapped: NDArray[np.bool_]) -> Mapping[str, NDArray[np.float64]]:
        """Return the difference of each metric after each swap, shape (swaps,).

        Args:
            swapped: shape (swaps, items), which items are exchanged.
        """
        ...


def observed_differences(statistic: Statistic | SwapStatistic, n: int) -> Mapping[str, float]:
    """Return the difference of each metric of two scorers.

    Args:
        statistic: as for `paired_permutation`.
        n: the number of items.

    >>> correct = np.array([1, 1, 0, 1, 0, 0])
    >>> observed_differences(lambda i: {"right": int(correct[i].sum())}, 3)
    {'right': 1}
    """
    return {name: actual.value for name, actual in _observed(statistic, n).items()}


def _observed(statistic: Statistic | SwapStatistic, n: int) -> Mapping[str, _Observed]:
    if isinstance(statistic, SwapStatistic):
        return {name: _Observed(v, abs(v)) for name, v in statistic.observed().items()}
    first, second = _sides(statistic, [np.arange(n)])
    return {
        name: _Observed(
            subtract(values, second[name]).item(), float(np.abs([values, second[name]]).max())
        )
        for name, values in first.items()
    }


def swapped_differences(
    statistic: Statistic | SwapStatistic, swapped: NDArray[np.bool_]
) -> Mapping[str, NDArray[np.float64]]:
    """Return the difference of each metric after each swap, shape (swaps,).

    Args:
        statistic: as for `paired_permutation`.
        swapped: shape (swaps, items), which items are exchanged.

    >>> correct = np.array([1, 1, 0, 1, 0, 0])
    >>> swapped = np.array([[True, False, False], [False, True, False]])
    >>> swapped_differences(lambda i: {"right": int(correct[i].sum())}, swapped)
    {'right': array([ 1, -1])}
    """
    if isinstance(statistic, SwapStatistic):
        return statistic.differences(swapped)
    if isinstance(statistic, TogetherStatistic):
        moved = swapped.T.astype(np.uint8)
        first, second = (
            statistic.together(np.concatenate(sides))
            for sides in ((1 - moved, moved), (moved, 1 - moved))
        )
    else:
        n = swapped.shape[1]
        unit = np.arange(n)
        first, second = _sides(statistic, [np.where(s, unit + n, unit) for s in swapped])
    return {name: subtract(values, second[name]) for name, values in first.items()}


def _by_swap(values: Mapping[str, NDArray[np.float64]]) -> list[Mapping[str, float]]:
    columns = [of_metric.tolist() for of_metric in values.values()]
    return [dict(zip(values, row, strict=True)) for row in zip(*columns, strict=True)]


def _sides(
    statistic: Statistic, indices: Sequence[NDArray[np.int64]]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """Return the metrics of the items at each of `indices`, and of the same items swapped."""
    n = len(indices[0])
    first = [statistic(index) for index in indices]
    second = [statistic((index + n) % (2 * n)) for index in indices]
    return _columns(first), _columns(second)


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, NDArray[np.float64]]:
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def subtract(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the differences of a metric; those up to the order of sums are 0.

    Or two scorers with equal scores would have a p of noise divided by noise.

    Args:
        first: the metric of one side after each swap; NaN is undefined.
        second: that of the other, in the same shape.

    >>> subtract(np.array([0.1 + 0.2, 0.5]), np.array([0.3, 0.25]))
    array([0.  , 0.25])
    """
    difference = first - second
    sides = np.abs([first, second])
    scale = sides.max(initial=0.0, where=np.isfinite(sides))
    return np.where(np.abs(difference) <= RTOL * scale, 0, difference)


def _all_swaps(n: int) -> Iterator[NDArray[np.bool_]]:
    for rest in itertools.product((False, True), repeat=n - 1):
        yield np.array((False, *rest))


@lru_cache(maxsize=2)
def _tosses(seed: int) -> _Tosses:
    return _Tosses(seed)


class _Tosses:
    """Tosses of a coin, drawn when first needed and kept as bits, since all tests have the same.

    Swap k of n items is the tosses from k * n on, for any n: numbers that are drawn in several
    parts are those drawn at once. So scorers that fail on different items share them too.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._bits: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def swaps(self, n: int, count: int) -> Iterator[NDArray[np.bool_]]:
        """Yield random swaps, shape (n,)."""
        parts, size = [], 0
        for part in self._parts():
            parts.append(part)
            size += len(part)
            if size < n:
                continue
            joined = np.concatenate(parts)
            whole = min(count, size // n)
            yield from joined[: whole * n].reshape(whole, n)
            count -= whole
            if not count:
                return
            parts, size = [joined[whole * n :]], size - whole * n

    def _parts(self) -> Iterator[NDArray[np.bool_]]:
        for number in range(_MAX_PARTS):
            with self._lock:
                if number == len(self._bits):
                    self._bits.append(np.packbits(_draw(self._rng)))
            yield np.unpackbits(self._bits[number]).view(np.bool_)
        rng = copy.deepcopy(self._rng)  # behind the last toss that is kept
        while True:
            yield _draw(rng)


def _draw(rng: np.random.Generator) -> NDArray[np.bool_]:
    return rng.integers(0, 2, _PART).astype(np.bool_)
