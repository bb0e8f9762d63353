"""How many items does a comparison need, and what difference could so many have shown?

The power of a test is the probability that it finds a difference of a given size. Three kinds of
comparison are covered, all two-sided at the level alpha:

- `paired_...`: two generators on the same prompts, by Student's t of the paired differences; its
  power is that of the noncentral t distribution (Cohen 1988, section 2.5);
- `share_...`: the share of blind pairs that one generator wins against one half, by the normal
  approximation with the variance 1/4;
- `scaled_...`: a difference whose standard error was estimated on n units, by the normal
  approximation; the standard error shrinks with the square root of n. That holds for metrics that
  are asymptotically normal, such as Kendall's tau, Spearman's rho, Pearson's r and an accuracy
  (Hoeffding 1948), and for their differences.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, special

from t2v_eval.errors import InputError
from t2v_eval.stats.bootstrap import check_count

MOST_ITEMS = 10**9
"""More items than this are not a plan."""


def paired_power(n: int, effect: float, sd: float = 1.0, alpha: float = 0.05) -> float:
    """Return the power of the two-sided paired t test.

    Args:
        n: the number of independent pairs, for example prompts, 2 or more.
        effect: the mean of the paired differences, in their unit.
        sd: their standard deviation, above 0.
        alpha: the level of the test, between 0 and 1.

    Returns:
        The probability that the test finds the effect, from alpha to 1.

    Raises:
        InputError: a number outside its range.

    >>> round(paired_power(34, effect=0.5), 3)
    0.808
    """
    check_count("n", n, 2)
    _check(effect=effect, sd=sd, alpha=alpha)
    return _t_power(float(n), abs(effect) / sd, alpha)


def paired_items(
    effect: float, sd: float = 1.0, power: float = 0.8, alpha: float = 0.05
) -> int | None:
    """Return the number of pairs at which the paired t test reaches a power.

    Args:
        effect: the mean of the paired differences, in their unit.
        sd: their standard deviation, above 0.
        power: the wanted power, between alpha and 1.
        alpha: the level of the test, between 0 and 1.

    Returns:
        The smallest such number, 2 or more; None where a billion is too few.

    Raises:
        InputError: a number outside its range.

    >>> paired_items(effect=0.5)
    34
    >>> paired_items(effect=0.0) is None
    True
    """
    _check(effect=effect, sd=sd, power=power, alpha=alpha)
    size = abs(effect) / sd
    if _t_power(float(MOST_ITEMS), size, alpha) < power:
        return None
    few, enough = 1, 2
    while _t_power(float(enough), size, alpha) < power:
        few, enough = enough, 2 * enough
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (
            (few, middle) if _t_power(float(middle), size, alpha) >= power else (middle, enough)
        )
    return enough


def paired_effect(n: int, sd: float = 1.0, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the smallest mean difference that n pairs show with a power.

    Args:
        n: the number of independent pairs, 2 or more.
        sd: the standard deviation of the paired differences, above 0.
        power: the wanted power, between alpha and 1.
        alpha: the level of the test, between 0 and 1.

    Returns:
        The difference, in the unit of `sd`, above 0.

    Raises:
        InputError: a number outside its range.

    >>> round(paired_effect(500), 3)
    0.126
    """
    check_count("n", n, 2)
    _check(sd=sd, power=power, alpha=alpha)
    high = 1.0
    while _t_power(float(n), high, alpha) < power:
        high *= 2
    size = optimize.brentq(lambda x: _t_power(float(n), x, alpha) - power, 0.0, high, xtol=1e-12)
    return float(size) * sd


def share_items(share: float, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """Return the number of blind pairs that show that a share of wins is not one half.

    Args:
        share: the share of pairs that one side wins, from 0 to 1; a tie is half a win.
        power: the wanted power, between alpha and 1.
        alpha: the level of the test, between 0 and 1.

    Returns:
        The number of pairs; None where a billion is too few.

    Raises:
        InputError: a number outside its range.

    >>> share_items(0.6)
    197
    """
    if not 0 <= share <= 1:
        raise InputError(f"`share={share!r}`: pass a number from 0 to 1, as 0.6")
    return scaled_items(share - 0.5, 0.5, 1, power, alpha)


def share_effect(n: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the smallest share of wins above one half that n blind pairs show with a power.

    Args:
        n: the number of pairs, 1 or more.
        power: the wanted power, between alpha and 1.
        alpha: the level of the test, between 0 and 1.

    Returns:
        The share, above 0.5; above 1 where no share can be shown.

    Raises:
        InputError: a number outside its range.

    >>> round(share_effect(200), 3), round(share_effect(2000), 3)
    (0.599, 0.531)
    """
    check_count("n", n, 1)
    return 0.5 + scaled_effect(0.5 / math.sqrt(n), power, alpha)


def share_reach(n: int, confidence: float = 0.95) -> float:
    """Return half the width of the interval of a share of wins near one half.

    Args:
        n: the number of blind pairs, 1 or more.
        confidence: of the two-sided interval, between 0 and 1.

    Returns:
        The quantile of the normal distribution times the standard error of one half.

    Raises:
        InputError: a number outside its range.

    >>> round(share_reach(200), 3), round(share_reach(2000), 3)
    (0.069, 0.022)
    """
    check_count("n", n, 1)
    _check(confidence=confidence)
    return float(special.ndtri((1 + confidence) / 2)) * 0.5 / math.sqrt(n)


def share_of_effect(effect: float) -> float:
    """Return the share of pairs that one side wins where paired differences are normal.

    Args:
        effect: the mean of the differences, in their standard deviations.

    Returns:
        The normal probability of a difference above 0: Cohen's U3 of paired differences.

    >>> round(share_of_effect(0.25), 3)
    0.599
    """
    _check(effect=effect)
    return float(special.ndtr(effect))


def scaled_items(
    difference: float, standard_error: float, n: int, power: float = 0.8, alpha: float = 0.05
) -> int | None:
    """Return the number of units that show a difference whose standard error is known for n units.

    Args:
        difference: the difference to be shown, in any unit.
        standard_error: its standard error in a sample of n units, above 0, for example of a
            bootstrap.
        n: the number of units of that sample, 1 or more.
        power: the wanted power, between alpha and 1.
        alpha: the level of the test, between 0 and 1.

    Returns:
        The number of units; None where a billion is too few.

    Raises:
        InputError: a number outside its range.

    >>> scaled_items(0.05, standard_error=0.04, n=200)
    1005
    """
    check_count("n", n, 1)
    _check(effect=difference, sd=standard_error, power=power, alpha=alpha)
    if not difference:
        return None
    ratio = scaled_effect(standard_error, power, alpha) / abs(difference)
    needed = n * ratio * ratio
    return None if needed > MOST_ITEMS else math.ceil(needed * (1 - 1e-12))


def scaled_effect(standard_error: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the smallest difference that is found with a power, given its standard error.

    Args:
        standard_error: of the difference, above 0.
        power: the wanted power, between alpha and 1.
        alpha: the level of the test, between 0 and 1.

    Returns:
        (z(1 - alpha / 2) + z(power)) standard errors.

    Raises:
        InputError: a number outside its range.

    >>> round(scaled_effect(0.01), 4)
    0.028
    """
    _check(sd=standard_error, power=power, alpha=alpha)
    return standard_error * float(special.ndtri(1 - alpha / 2) + special.ndtri(power))


def rate_limit(n: int, seen: int = 0, confidence: float = 0.95) -> float:
    """Return the upper limit of a rate of which `seen` cases were seen in n (Clopper-Pearson).

    Args:
        n: the number of outputs that were looked at, 1 or more.
        seen: how many of them had a flag, 0 to n.
        confidence: of the two-sided interval, between 0 and 1.

    Returns:
        The limit, from 0 to 1; with none seen it is 1 - ((1 - confidence) / 2)^(1 / n).

    Raises:
        InputError: a number outside its range.

    >>> round(rate_limit(50), 3), round(rate_limit(500), 4)
    (0.071, 0.0074)
    """
    check_count("n", n, 1)
    check_count("seen", seen, 0)
    if seen > n:
        raise InputError(f"`seen={seen!r}`: of {n} outputs no more than {n} can have a flag")
    _check(confidence=confidence)
    if seen == n:
        return 1.0
    return float(special.betaincinv(seen + 1, n - seen, (1 + confidence) / 2))


def _t_power(n: float, size: float, alpha: float) -> float:
    """Return the power of the t test of n differences with the mean `size` and variance 1."""
    limit = float(special.stdtrit(n - 1, 1 - alpha / 2))
    shift = size * math.sqrt(n)
    # SciPy returns NaN in place of the smallest probabilities.
    below, above = np.nan_to_num([special.nctdtr(n - 1, shift, x) for x in (-limit, limit)])
    return float(1 - above + below)


def _check(**numbers: float) -> None:
    """Check numbers by their names.

    Raises:
        InputError: a number is outside the range of its name.
    """
    for name, value in numbers.items():
        if name in ("alpha", "power", "confidence"):
            fits, expected = 0 < value < 1, "a number between 0 and 1"
        elif name == "sd":
            fits, expected = 0 < value < math.inf, "a finite number above 0"
        else:
            fits, expected = math.isfinite(value), "a finite number"
        if not fits:
            raise InputError(f"`{name}={value!r}`: pass {expected}")
    if numbers.get("power", 1.0) <= numbers.get("alpha", 0.0):
        raise InputError(
            f"`power={numbers['power']!r}`: pass a number above alpha, which is {numbers['alpha']}"
        )
