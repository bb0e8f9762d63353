"""Whether two scorers differ by more than chance: paired permutation tests, corrected together.

If two scorers are equally good, it does not matter which of them gave which scores of an item. So
the scores are exchanged between them on random items, and p is the share of exchanges after which
they are at least as far apart as they were (Good 2005, chapter 3; for agreement with human
judgements, Deutsch, Dror and Roth 2021).

A thousand random exchanges cannot show a p below 1 in 1,001, which is too much to correct for a
hundred comparisons. Where fewer than ten of them are as far apart, p is the tail of the normal
distribution with their spread (as Knijnenburg et al. 2009 do with another tail), if that is less,
but not less than all exchanges together could show.

Most differences are plainly chance or plainly none after a hundred exchanges, and more would only
take longer: after those, exchanges go on where a metric still needs them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import InputError
from t2v_eval.stats.bootstrap import Statistic
from t2v_eval.utils.arrays import Values, as_floats

LEVEL = 0.05  # how often what is equal may be told apart, over all that is corrected together

K = TypeVar("K", bound=Hashable)

_FEW = 10  # exchanges, below which their share is no estimate
_LOOK = 100  # exchanges, after which it is asked whether more are needed
_CHANCE = 0.15  # a share of these that is p > LEVEL but for one time in 20,000
_NO_CHANCE = 6.0  # spreads: p is below 1e-8, and below 1e-6 were the spread a fifth more
_SLACK = 1e-12  # relative to the difference: sums in another order are the same number


class PValue(NamedTuple):
    """A p-value, and the same corrected for what it is looked at together with."""

    p: float
    p_holm: float

    @property
    def significant(self) -> bool:
        """Whether the difference is more than chance; undefined is no."""
        return self.p_holm < LEVEL


def corrected(found: Mapping[K, float]) -> dict[K, PValue]:
    """Each p-value with its correction for all of them.

    >>> corrected({"colour": 0.01, "counting": 0.04})["counting"]
    PValue(p=0.04, p_holm=0.04)
    """
    return {
        key: PValue(p, p_holm)
        for (key, p), p_holm in zip(found.items(), holm([*found.values()]), strict=True)
    }


def sign_flip(differences: Values, *, permutations: int = 9999, seed: int = 0) -> float:
    """Two-sided p-value of a mean of paired differences being 0; NaN is missing.

    If it makes no difference which of a pair is which, each difference may as well have the other
    sign: p is the share of signs that bring the mean as far from 0 as it was. Otherwise as
    `paired_permutation`, which says the same of any statistic.

    Raises InputError for what is no array of numbers.

    >>> sign_flip([1.0, 2.0, None, 3.0, 4.0])
    0.125
    """
    given = as_floats("differences", differences).ravel()
    given = given[~np.isnan(given)]
    n = len(given)
    if not n:
        return math.nan
    exact = n <= 30 and 2**n <= permutations
    swaps = _all(n) if exact else _some(n, permutations, seed)
    sums = np.abs([given.sum() - 2 * given[swap].sum() for swap in swaps])
    reached = int((sums >= abs(given.sum()) - _SLACK * np.abs(given).sum()).sum())
    return reached / len(sums) if exact else (1 + reached) / (1 + len(sums))


def paired_permutation(
    statistic: Statistic, n: int, *, permutations: int = 1000, seed: int = 0
) -> dict[str, float]:
    """Two-sided p-value of the difference between two scorers, for each metric.

    `statistic(indices)` gives the metrics of chosen ones of 2n items: item k as the first scorer
    has it is k, as the second has it k + n. Where the 2^n exchanges are no more than
    `permutations`, each is made once; otherwise random ones are, and the scorers as they are count
    as one more, so that p is never 0; small ones are tails, and what is plain early is not looked
    at further, see the top of this module. NaN where the metric is
    undefined for either scorer, or after most exchanges.

    Raises InputError for a count that cannot be used.

    >>> right = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 1])
    >>> paired_permutation(lambda i: {"right": right[i].mean()}, 5)
    {'right': 0.125}
    """
    if n < 1 or permutations < 1:
        raise InputError(f"n={n!r}, permutations={permutations!r}: both must be at least 1")
    at = np.arange(n)
    kept = _differences(statistic, at, n)
    # Exchanging all items is as good as exchanging none, so that half of the patterns will do.
    exact = n <= 30 and 2**n <= permutations
    drawn: list[Mapping[str, float]] = []
    for swap in _all(n) if exact else _some(n, permutations, seed):
        drawn.append(_differences(statistic, np.where(swap, at + n, at), n))
        if not exact and len(drawn) == _LOOK and _plain(kept, drawn):
            break
    found = {}
    for name, value in kept.items():
        others = _apart(drawn, name)
        if math.isnan(value) or 2 * len(others) < len(drawn):
            found[name] = math.nan
            continue
        reached = _reached(others, value)
        found[name] = reached / len(others) if exact else _drawn(reached, others, value, n)
    return found


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for being looked at together (Holm 1979); NaN stays and is not counted.

    The k-th smallest of m is multiplied by m - k + 1, and none falls below a smaller one. To call
    different what is below 0.05 then errs in any of them with at most 5 %.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = [k for k in np.argsort(values, kind="stable").tolist() if not math.isnan(values[k])]
    corrected = [math.nan] * len(values)
    largest = 0.0
    for rank, k in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * values[k]))
        corrected[k] = largest
    return corrected


def _drawn(reached: int, others: NDArray[np.float64], value: float, n: int) -> float:
    """p from random exchanges, by which the scorers are `others` apart."""
    share = (1 + reached) / (1 + len(others))
    spread = _spread(others)
    if reached >= _FEW or not spread:
        return share
    tail = math.erfc(abs(value) / spread / math.sqrt(2))
    return min(share, max(tail, 2.0 ** (1 - n)))


def _plain(kept: Mapping[str, float], drawn: Sequence[Mapping[str, float]]) -> bool:
    """Whether each metric's difference is plainly chance, plainly not, or undefined."""
    for name, value in kept.items():
        others = _apart(drawn, name)
        if math.isnan(value) or 2 * len(others) < len(drawn):
            continue
        by_chance = _reached(others, value) >= _CHANCE * len(others)
        if not (by_chance or abs(value) > _NO_CHANCE * _spread(others) > 0):
            return False
    return True


def _apart(drawn: Sequence[Mapping[str, float]], name: str) -> NDArray[np.float64]:
    """How far apart the scorers are after each exchange, where that is defined."""
    values = np.abs([one[name] for one in drawn])
    return values[~np.isnan(values)]


def _reached(others: NDArray[np.float64], value: float) -> int:
    return int((others >= abs(value) * (1 - _SLACK)).sum())


def _spread(others: NDArray[np.float64]) -> float:
    return math.sqrt(float(np.mean(others**2)))


def _differences(statistic: Statistic, first: NDArray[np.int64], n: int) -> Mapping[str, float]:
    one, other = statistic(first), statistic((first + n) % (2 * n))
    return {name: one[name] - other[name] for name in one}


def _all(n: int) -> Iterator[NDArray[np.bool_]]:
    for rest in itertools.product((False, True), repeat=n - 1):
        yield np.array((False, *rest))


def _some(n: int, permutations: int, seed: int) -> Iterator[NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    for _ in range(permutations):
        yield rng.integers(0, 2, n).astype(np.bool_)
