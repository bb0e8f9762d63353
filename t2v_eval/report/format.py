"""Numbers, confidence intervals, p-values and verdicts as text or JSON, for every output."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.permutation import PValue

NOT_SIGNIFICANT = "no significant difference"


class Style(NamedTuple):
    """Characters that an output uses: for NaN, for a minus sign, and between "<" and a limit.

    >>> Style(missing="n/a").number(math.nan)
    'n/a'
    """

    missing: str
    minus: str = "-"
    space: str = " "

    def number(self, value: float, digits: int = 3, sign: str = "") -> str:
        """Return a number with a fixed count of decimals.

        Args:
            value: the number; NaN and infinities are missing.
            digits: the number of decimals.
            sign: "+" to show the sign of positive numbers too, as of differences.

        >>> CONSOLE.number(0.25), PAGE.number(-0.25, 2), MARKDOWN.number(0.5, sign="+")
        ('0.250', '−0.25', '+0.500')
        """
        if not math.isfinite(value):
            return self.missing
        return f"{value:{sign}.{digits}f}".replace("-", self.minus)

    def limits(self, interval: Interval, sign: str = "", digits: int = 3) -> tuple[str, str] | None:
        """Return the limits of an interval as text; None where there are too few units for one."""
        if math.isnan(interval.low):
            return None
        low, high = (self.number(limit, digits, sign) for limit in interval[1:])
        return low, high

    def interval(self, interval: Interval, sign: str = "") -> str:
        """Return a value with its limits.

        >>> MARKDOWN.interval(Interval(0.5, 0.4, 0.6))
        '0.500 [0.400, 0.600]'
        """
        if math.isnan(interval.value):
            return self.missing
        value, limits = self.number(interval.value, sign=sign), self.limits(interval, sign)
        return f"{value} [{limits[0]}, {limits[1]}]" if limits else value

    def p_value(self, p: float) -> str:
        """Return a p-value, of which small ones are a bound.

        >>> CONSOLE.p_value(0.0001), CONSOLE.p_value(0.04)
        ('< 0.001', '0.040')
        """
        return f"<{self.space}0.001" if p < 0.001 else self.number(p)


CONSOLE = Style(missing="-")
MARKDOWN = Style(missing="–")
PAGE = Style(missing="–", minus="−", space="\u00a0")


def duration(seconds: float) -> str:
    """Return a duration in the two largest units that say something.

    >>> duration(2.34), duration(75), duration(7500)
    ('2.3 s', '1 min 15 s', '2 h 5 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def verdict(
    test: PValue, difference: Interval, first: str, second: str, says: str = "is better"
) -> str:
    """Return which of two is better, or that their difference is not significant.

    Args:
        test: the test of the difference, corrected for multiple comparisons.
        difference: the first minus the second; higher is better.
        first: the name of the first.
        second: the name of the second.
        says: what is said of the higher; of images it "scores higher", as no person judged them.

    >>> verdict(PValue(0.01, 0.02), Interval(0.2, 0.1, 0.3), "mine", "yours")
    'mine is better'
    """
    if not test.significant:
        return NOT_SIGNIFICANT
    return f"{first if difference.value > 0 else second} {says}"


def without_nan(value: Any) -> Any:
    """Replace NaN and infinities, which JSON cannot hold, by None.

    >>> without_nan({"low": math.nan, "values": [0.5, math.inf]})
    {'low': None, 'values': [0.5, None]}
    """
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
