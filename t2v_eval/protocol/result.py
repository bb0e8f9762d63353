"""The report of a protocol as data: pillars, probes, verdicts and the sentences of both."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from t2v_eval.protocol.adherence import ScorerScores
from t2v_eval.protocol.criteria import MET, NOT_MET, UNTOLD, Verdict
from t2v_eval.protocol.figures import PillarResult
from t2v_eval.protocol.generated import ProtocolImages
from t2v_eval.protocol.plan import PILLARS, Pillar, ProtocolPlan
from t2v_eval.protocol.probes.inputs import ProbeResult
from t2v_eval.report.about import About
from t2v_eval.report.format import without_nan
from t2v_eval.report.reader import PROTOCOL_VERSION

VERSION = 1
"""The `protocol_version` of reports that this version writes."""


@dataclass(frozen=True, slots=True)
class ProtocolReport:
    """What a protocol measured.

    Attributes:
        plan: the plan.
        images: the prompts, and the images of both generators.
        pillars: what was measured in each.
        verdicts: what the figures say of each criterion.
        scores: those behind the figures of prompt adherence.
        about: title, date, command and versions.
        gate: whether only the criteria of the gate were checked.
        probes: what each probe found.

    >>> from t2v_eval.protocol.generated import GeneratedImages
    >>> from t2v_eval.protocol.plan import GeneratorImages
    >>> plan = ProtocolPlan(
    ...     prompts="prompts.csv",
    ...     model=GeneratorImages(name="new", images=("new",)),
    ...     baseline=GeneratorImages(name="old", images=("old",)),
    ... )
    >>> sides = [GeneratedImages(name, {0: []}) for name in ("new", "old")]
    >>> report = ProtocolReport(plan, ProtocolImages(None, [], *sides, of_all=0), {}, [])
    >>> report.passed, report.to_json()["criteria"]
    (True, [])
    """

    plan: ProtocolPlan
    images: ProtocolImages
    pillars: Mapping[Pillar, PillarResult]
    verdicts: Sequence[Verdict]
    scores: Sequence[ScorerScores] = ()
    about: About = field(default_factory=About)
    gate: bool = False
    probes: Sequence[ProbeResult] = ()

    @property
    def passed(self) -> bool:
        """Whether all criteria are met."""
        return all(verdict.met for verdict in self.verdicts)

    @property
    def failed(self) -> list[str]:
        """Why parts of the protocol were not measured."""
        return [line for pillar in self.pillars.values() for line in pillar.failed]

    def sentences(self) -> list[str]:
        """Return what the protocol says first: the sign-off, and what is not measured."""
        return [*self._sign_off(), *self._warnings(), *self._pillars(), *self._sizes()]

    def _sign_off(self) -> Iterator[str]:
        model, baseline = (generator.name for generator in self.images.generators)
        if not self.verdicts:
            yield f"The plan has no criteria, so that nothing is said about signing off {model}."
            return
        counts = Counter(verdict.outcome for verdict in self.verdicts)
        parts = [f"{counts[outcome]} {outcome}" for outcome in (MET, NOT_MET, UNTOLD)]
        says = {
            (True, True): "passes the gate",
            (True, False): "does not pass the gate",
            (False, True): "is signed off",
            (False, False): "is not signed off",
        }[self.gate, self.passed]
        count = len(self.verdicts)
        yield f"{model} {says} against {baseline}: of {count} criteria, {', '.join(parts)}."

    def _warnings(self) -> Iterator[str]:
        """Yield which probes warn, as that weakens every claim."""
        warned = [probe.name for probe in self.probes if probe.warning]
        if warned:
            verb = "warns" if len(warned) == 1 else "warn"
            yield f"Read the probes before any claim: {', '.join(warned)} {verb}."

    def _pillars(self) -> Iterator[str]:
        measured = [p.title.lower() for p in self.pillars.values() if p.measured]
        others = [p.title.lower() for p in self.pillars.values() if not p.measured]
        yield (
            f"Measured: {', '.join(measured) or 'nothing'}."
            + (f" Not measured: {', '.join(others)}." if others else "")
        )

    def _sizes(self) -> Iterator[str]:
        """Yield where there is less than was planned."""
        prompts, planned = len(self.images.items), self.plan.sizes
        if not self.gate and prompts < planned.prompts:
            yield f"The plan asks for {planned.prompts:,} prompts, and there are {prompts:,}."
        for generator in self.images.generators:
            if generator.seeds < planned.seeds:
                yield (
                    f"The plan asks for {planned.seeds} seeds, and {generator.name} has "
                    f"{generator.seeds}."
                )

    def to_json(self) -> dict[str, Any]:
        """Return the content of the protocol's ``report.json``."""
        plan = asdict(self.plan)
        plan["file"] = None if self.plan.file is None else str(self.plan.file)
        content: dict[str, Any] = {
            PROTOCOL_VERSION: VERSION,
            **self.about.to_json(),
            "gate": self.gate,
            "passed": self.passed,
            "summary": self.sentences(),
            **{name: self.pillars[name].to_json() for name in PILLARS if name in self.pillars},
            "probes": [probe.to_json() for probe in self.probes],
            "criteria": [verdict.to_json() for verdict in self.verdicts],
            "plan": plan,
            "provenance": self._provenance(),
        }
        result: dict[str, Any] = without_nan(_plain(content))
        return result

    def _provenance(self) -> dict[str, Any]:
        return {
            "prompts": len(self.images.items),
            "prompts_of_all": self.images.of_all,
            "generators": {
                generator.name: {
                    "seeds": generator.seeds,
                    "folders": [str(folder) for folder in generator.folders],
                }
                for generator in self.images.generators
            },
            "scorers": {
                scores.name: {
                    "id": scores.id,
                    "counts": asdict(scores.counts),
                    "usage": scores.usage,
                }
                for scores in self.scores
            },
            "remarks": list(self.images.remarks),
        }

    def score_rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each image, as in ``scores.csv``: its score by each scorer."""
        for side, generator in enumerate(self.images.generators):
            for place, seed in enumerate(sorted(generator.images)):
                for n, (item, path) in enumerate(
                    zip(self.images.items, generator.images[seed], strict=True)
                ):
                    yield {
                        "generator": generator.name,
                        "seed": seed,
                        "id": item.id,
                        "prompt": item.texts[0],
                        "image": str(path),
                        **{
                            scores.name: _or_none((scores.model, scores.baseline)[side][place, n])
                            for scores in self.scores
                        },
                    }


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _plain(value: Any) -> Any:
    """Return a value with lists in the place of tuples, as JSON has it."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
