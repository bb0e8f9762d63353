"""Checks of the gate, their verdicts as sentences and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from t2v_eval.report.format import CONSOLE, without_nan
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.noninferiority import NonInferiority


@dataclass(frozen=True, slots=True)
class Comparison:
    """What of a new report was compared with what of the baseline.

    Attributes:
        benchmark: its name.
        scorer: the name of the scorer; of the new one where scorers are compared.
        metric: what was compared.
        new, baseline: the name of the generator, or of the scorer.
        new_value, baseline_value: the metric on the shared items.
        items: the number of shared items.
        test: the test of the difference, new minus baseline.

    >>> test = NonInferiority(Interval(0.1, 0.05, 0.15), 0.06, 0.001, 0.01, 0.05, units=9)
    >>> Comparison("drawn", "mine", "score", "b", "a", 0.6, 0.5, 9, test).sentence
    'b by score of mine on drawn: 0.600, baseline a 0.500, +0.100 [+0.050, +0.150] over 9 items'
    """

    benchmark: str
    scorer: str
    metric: str
    new: str
    baseline: str
    new_value: float
    baseline_value: float
    items: int
    test: NonInferiority

    @property
    def passed(self) -> bool:
        """Return whether "worse by the margin or more" is rejected."""
        return self.test.passed

    @property
    def subject(self) -> str:
        """Return what was compared with the baseline."""
        return self.new

    @property
    def sentence(self) -> str:
        """Return what was measured, with the two-sided 95 % interval of the difference."""
        suffix = f" of {self.scorer}" if self.scorer != self.new else ""
        value, low, high = self.test.difference
        digits = _digits(max(high - low, abs(value)))
        new, baseline = (CONSOLE.number(v, digits) for v in (self.new_value, self.baseline_value))
        difference, lower, upper = (CONSOLE.number(v, digits, "+") for v in self.test.difference)
        return (
            f"{self.new} by {self.metric}{suffix} on {self.benchmark}: {new}, baseline "
            f"{self.baseline} {baseline}, {difference} [{lower}, {upper}] over {self.items} items"
        )

    @property
    def verdict(self) -> str:
        """Return what the test says."""
        test = self.test
        p = CONSOLE.p_value(test.p)
        of_p = f"p {p}" if p.startswith("<") else f"p = {p}"
        if test.margin == 0 and not test.difference.high < 0:
            if self.passed:
                return f"higher ({of_p})"
            equal = "with a margin above 0, what is as high passes"
            return f"not shown to be higher ({of_p}, passes below {test.alpha:g}); {equal}"
        if self.passed:
            return f"not worse by more than {test.margin:g} ({of_p})"
        if test.difference.high < -test.margin:
            return f"worse by more than {test.margin:g}"
        return f"may be worse by more than {test.margin:g} ({of_p}, passes below {test.alpha:g})"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        interval = self.test.difference
        return {
            "passed": self.passed,
            **{name: getattr(self, name) for name in ("benchmark", "scorer", "metric")},
            "new": {"name": self.new, "value": self.new_value},
            "baseline": {"name": self.baseline, "value": self.baseline_value},
            "items": self.items,
            "units": self.test.units,
            "difference": interval._asdict(),
            "one_sided_low": self.test.bound,
            "p": self.test.p,
            "margin": self.test.margin,
            "alpha": self.test.alpha,
            "summary": f"{self.sentence}; {self.verdict}",
        }


@dataclass(frozen=True, slots=True)
class WindowCheck:
    """Whether a figure of a report lies within limits.

    Attributes:
        benchmark, scorer, metric: of the figure.
        value: the figure on all items, with its interval.
        low, high: the limits, which belong to the window.

    >>> WindowCheck("drawn", "mine", "score", Interval(0.5, 0.4, 0.6), 0.45, 0.55).passed
    True
    """

    benchmark: str
    scorer: str
    metric: str
    value: Interval
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Return whether the value lies within the limits; an undefined one does not."""
        return self.low <= self.value.value <= self.high

    @property
    def subject(self) -> str:
        """Return the scorer."""
        return self.scorer

    @property
    def sentence(self) -> str:
        """Return the value with its interval."""
        value = CONSOLE.interval(self.value)
        return f"{self.metric} of {self.scorer} on {self.benchmark}: {value}"

    @property
    def verdict(self) -> str:
        """Return where the value lies."""
        side = "within" if self.passed else "outside"
        return f"{side} {self.low:.8g} to {self.high:.8g}"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"passed": self.passed, **asdict(self), "value": self.value._asdict()} | {
            "summary": f"{self.sentence}; {self.verdict}"
        }


@dataclass(frozen=True, slots=True)
class GateResult:
    """The checks of a gate.

    Attributes:
        checks: comparisons and windows.
        notes: what else is to be known: what was not compared, recipes that differ.

    >>> GateResult([]).passed
    True
    """

    checks: Sequence[Comparison | WindowCheck]
    notes: Sequence[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Return whether all checks passed."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        content: dict[str, Any] = without_nan(
            {
                "passed": self.passed,
                "checks": [check.to_json() for check in self.checks],
                "notes": list(self.notes),
            }
        )
        return content


def _digits(scale: float) -> int:
    """Return how many decimals show two digits of numbers of this size: 3 to 6."""
    return min(6, max(3, 2 - math.ceil(math.log10(scale)))) if 0 < scale < math.inf else 3
