"""Figures of a protocol: a number of the model beside that of the baseline, and its source."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from scipy import special

from t2v_eval.protocol.plan import Pillar
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.permutation import holm

UNKNOWN = Interval(math.nan, math.nan, math.nan)

TITLES: Mapping[Pillar, str] = {
    "sample_quality": "Sample quality",
    "prompt_adherence": "Prompt adherence",
    "preference": "Preference",
    "failure_analysis": "Failure analysis",
}
"""The name of each pillar in reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a number is from.

    Attributes:
        command: the command that computes it, from the command of the report on.
        made_by: the id of the scorer, what made the features, or who judged.
        n: on how many units it rests.
        unit: what these are, such as "prompts".
        files: the files or folders that it was computed from.

    >>> Source(command="t2v-eval protocol plan.toml", made_by="mine v1", n=500).unit
    'prompts'
    """

    command: str
    made_by: str
    n: int
    unit: str = "prompts"
    files: Sequence[str] = ()

    @property
    def size(self) -> str:
        """The number of units in words.

        >>> Source(command="", made_by="mine v1", n=1).size
        '1 prompt'
        """
        return f"{self.n:,} {self.unit.removesuffix('s') if self.n == 1 else self.unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number of the model and of the baseline.

    Attributes:
        name: the scorer, metric, source of votes or flag.
        measures: what the number is, in plain words.
        model, baseline: the number of each with its 95 % interval; NaN where there is none.
        difference: model minus baseline; of shares of wins, that of the model minus one half.
        higher_is_better: whether a higher number is better.
        sd: the standard deviation of the paired differences of prompts; NaN where they are not
            paired.
        p: of the two-sided test that the difference is 0; NaN where it is not tested.
        p_holm: p after Holm's correction over all figures of the pillar.
        seed_sd: the standard deviation of the number between the seeds of model and baseline; NaN
            with a single seed.
        gamed_by: how the number rises without better images.
        source: where it is from.
        notes: what else must be known to read it.

    >>> source = Source(command="t2v-eval protocol plan.toml", made_by="mine v1", n=500)
    >>> values = Interval(0.8, 0.7, 0.9), Interval(0.6, 0.5, 0.7), Interval(0.2, 0.1, 0.3)
    >>> Figure(name="mine", measures="mean score", model=values[0], baseline=values[1],
    ...     difference=values[2], source=source).direction
    1
    """

    name: str
    measures: str
    model: Interval
    baseline: Interval
    source: Source
    difference: Interval = UNKNOWN
    higher_is_better: bool = True
    sd: float = math.nan
    p: float = math.nan
    p_holm: float = math.nan
    seed_sd: tuple[float, float] = (math.nan, math.nan)
    gamed_by: str = ""
    notes: Sequence[str] = ()

    @property
    def gain(self) -> Interval:
        """The difference with the sign that is positive where the model is better."""
        return self.difference if self.higher_is_better else self.difference.reversed()

    @property
    def direction(self) -> int:
        """1 where the model is ahead, -1 where the baseline is, 0 where neither is known to be."""
        value = self.gain.value
        return 0 if math.isnan(value) or value == 0 else (1 if value > 0 else -1)

    @property
    def p_better(self) -> float:
        """The one-sided p-value of "the model is not better"."""
        return self.p / 2 if self.direction > 0 else 1 - self.p / 2

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON; NaN stands for what is not known."""
        facts = asdict(self)
        for name in ("model", "baseline", "difference"):
            facts[name] = getattr(self, name)._asdict()
        facts["seed_sd"] = dict(zip(("model", "baseline"), self.seed_sd, strict=True))
        facts["source"]["files"] = list(self.source.files)
        return facts | {"notes": list(self.notes)}


@dataclass(frozen=True, slots=True)
class PillarResult:
    """What was measured in a pillar.

    Attributes:
        pillar: its name in the plan.
        figures: of all prompts.
        by_tag: the same of the prompts of each tag, where that was measured.
        missing: what would measure the pillar, where nothing did; else empty.
        failed: why parts of it were not measured.
        warnings: what must be known to read the figures.

    >>> PillarResult("preference", missing="ask people: t2v-eval vote").measured
    False
    """

    pillar: Pillar
    figures: Sequence[Figure] = ()
    by_tag: Mapping[str, Sequence[Figure]] = field(default_factory=dict)
    missing: str = ""
    failed: Sequence[str] = ()
    warnings: Sequence[str] = ()

    @property
    def measured(self) -> bool:
        """Whether it has a figure."""
        return any(not math.isnan(figure.model.value) for figure in self.figures)

    @property
    def title(self) -> str:
        """Its name in reports."""
        return TITLES[self.pillar]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON; NaN stands for what is not known."""
        return {
            "measured": self.measured,
            "not_measured": self.missing,
            "figures": [figure.to_json() for figure in self.figures],
            "by_tag": {
                tag: [figure.to_json() for figure in figures]
                for tag, figures in self.by_tag.items()
            },
            "failed": list(self.failed),
            "warnings": list(self.warnings),
        }


def two_sided(value: float, error: float, degrees: float) -> float:
    """Return the two-sided p-value of a value being 0, by Student's t.

    Args:
        value: the value.
        error: its standard error, 0 or more.
        degrees: the degrees of freedom; infinite for the normal distribution.

    Returns:
        p, from 0 to 1; NaN where the value is NaN.

    >>> round(two_sided(2.0, 1.0, degrees=10), 4)
    0.0734
    """
    if math.isnan(value) or math.isnan(error):
        return math.nan
    if error == 0:
        return 1.0 if value == 0 else 0.0
    size = -abs(value) / error
    tail = special.ndtr(size) if math.isinf(degrees) else special.stdtr(degrees, size)
    return float(2 * tail)


def corrected(pillar: PillarResult) -> PillarResult:
    """Return a pillar with Holm's correction of its p-values.

    All figures of all prompts are one family of tests; all figures of all tags are a second.

    Args:
        pillar: what was measured.

    >>> corrected(PillarResult("preference")).figures
    []
    """
    overall = holm([figure.p for figure in pillar.figures])
    by_tag = iter(holm([f.p for figures in pillar.by_tag.values() for f in figures]))
    return replace(
        pillar,
        figures=[replace(f, p_holm=p) for f, p in zip(pillar.figures, overall, strict=True)],
        by_tag={
            tag: [replace(f, p_holm=next(by_tag)) for f in figures]
            for tag, figures in pillar.by_tag.items()
        },
    )
