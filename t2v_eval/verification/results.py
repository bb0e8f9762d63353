"""What a verification says: one line for each check, and whether one failed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """What came of a check.

    >>> Outcome.unchecked.value
    'not checked'
    """

    passed = "passed"
    failed = "failed"
    measured = "measured"
    unchecked = "not checked"


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a scorer.

    Attributes:
        name: what was checked.
        outcome: what came of it.
        text: a sentence with the values that were compared; of a check that was not made, why.
        value: the figure that decided, on the scale that `text` names; NaN where there is none.
        source: where the expected value is published.

    >>> Check("finite weights", Outcome.passed, "12 tensors").outcome.value
    'passed'
    """

    name: str
    outcome: Outcome
    text: str
    value: float = math.nan
    source: str = ""

    @classmethod
    def of(cls, name: str, holds: bool, text: str, value: float = math.nan) -> Check:
        """Return a check that passed if `holds`, and failed otherwise.

        >>> Check.of("order", False, "0.2 is below 0.3").outcome.value
        'failed'
        """
        return cls(name, Outcome.passed if holds else Outcome.failed, text, value)

    @classmethod
    def without(cls, name: str, reason: str, source: str = "") -> Check:
        """Return a check that was not made, and the reason.

        >>> Check.without("precision", "it runs in float32").text
        'it runs in float32'
        """
        return cls(name, Outcome.unchecked, reason, source=source)


@dataclass(frozen=True, slots=True)
class Verification:
    """The checks of one scorer.

    Attributes:
        model: the name of the scorer.
        checks: what was checked, in order.
        facts: what was verified: the scorer's id, its files, how it ran, versions of libraries.

    >>> verification = Verification("mine", [Check("order", Outcome.failed, "0.2 is below 0.3")])
    >>> verification.failed, verification.counts
    (True, {'failed': 1})
    """

    model: str
    checks: Sequence[Check]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether a check failed."""
        return any(check.outcome is Outcome.failed for check in self.checks)

    @property
    def counts(self) -> dict[str, int]:
        """The number of checks of each outcome that occurs."""
        outcomes = [check.outcome for check in self.checks]
        return {o.value: outcomes.count(o) for o in Outcome if o in outcomes}

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON; a figure that there is none of is None.

        >>> Verification("mine", []).as_dict()
        {'model': 'mine', 'failed': False, 'checks': [], 'facts': {}}
        """
        checks = [
            {**asdict(c), "outcome": c.outcome.value, "value": _finite(c.value)}
            for c in self.checks
        ]
        return {
            "model": self.model,
            "failed": self.failed,
            "checks": checks,
            "facts": dict(self.facts),
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
