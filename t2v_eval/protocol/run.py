"""Run a protocol: read what is there, compute what is missing, and say what it shows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from t2v_eval.api import ScorerOptions, check_entries
from t2v_eval.cards import ModelCard
from t2v_eval.errors import InputError, StoreError, T2VError
from t2v_eval.evaluation.distances.distance import check_sources
from t2v_eval.evaluation.distances.metrics import metric_of
from t2v_eval.evaluation.run import for_benchmark, package_versions
from t2v_eval.evaluation.sampling import Sample
from t2v_eval.extractors.extractor import Extractor
from t2v_eval.extractors.names import check_extractor, default_extractor, load_extractor
from t2v_eval.protocol.adherence import ScorerScores, measure_adherence, score_images
from t2v_eval.protocol.criteria import check_criteria, check_figures, verdicts
from t2v_eval.protocol.failures import measure_failures, read_flags
from t2v_eval.protocol.figures import PillarResult, corrected
from t2v_eval.protocol.generated import ProtocolImages, read_images
from t2v_eval.protocol.plan import Distance, Pillar, ProtocolPlan
from t2v_eval.protocol.preference import (
    Battlefield,
    Kind,
    judge_images,
    measure_preference,
    read_sources,
)
from t2v_eval.protocol.probes.inputs import (
    ProbeImages,
    ProbeInputs,
    ProbeResult,
    ProbeScorer,
)
from t2v_eval.protocol.probes.rescoring import rescore
from t2v_eval.protocol.probes.table import check_names, run_probes
from t2v_eval.protocol.quality import measure_quality
from t2v_eval.protocol.result import ProtocolReport
from t2v_eval.registry import models
from t2v_eval.report.about import About
from t2v_eval.review.result import ReviewResult
from t2v_eval.scoring.results import Progress
from t2v_eval.scoring.scorer import Scorer

StartScoring = Callable[[str], Progress | None]
"""Gets what is scored, and returns what is called with the counts as they grow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolOptions:
    """How a protocol runs, beside its plan.

    Attributes:
        scorers: options with which scorers are loaded.
        cache: the folder of files that keep features between runs; None keeps none.
        gate: whether only the criteria of the gate are checked, on its part of the prompts.
        command: the arguments of the command line, without secrets; None where Python is called.
        start: called before each scorer; returns what shows its progress.
        progress: called with a line from time to time, while features are extracted.

    >>> ProtocolOptions().gate
    False
    """

    scorers: ScorerOptions = field(default_factory=ScorerOptions)
    cache: str | os.PathLike[str] | None = None
    gate: bool = False
    command: Sequence[str] | None = None
    start: StartScoring | None = None
    progress: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class ProtocolInputs:
    """What a protocol reads before it loads a model.

    Attributes:
        plan: the plan, or its part for the gate.
        images: the images of both generators.
        battles: votes and tables of battles.
        review: what raters flagged; None where nobody looked.
        cards: of all scorers that the plan names.
    """

    plan: ProtocolPlan
    images: ProtocolImages
    battles: Sequence[Battlefield]
    review: ReviewResult | None
    cards: Sequence[ModelCard]


def run_protocol(plan: ProtocolPlan, options: ProtocolOptions | None = None) -> ProtocolReport:
    """Measure the four pillars of a plan, and judge its criteria.

    Everything is read and checked before a model is loaded. A scorer or a network that fails is
    reported, and the others go on; scores and features that were computed are kept in the store and
    the cache, so that the next run goes on from there.

    Args:
        plan: the plan.
        options: how it runs.

    Raises:
        InputError: a file of the plan cannot be used.
        UnknownNameError: no scorer, network, metric or figure has a name of the plan.
        StoreError: scores cannot be stored.
    """
    options = options or ProtocolOptions()
    started = time.perf_counter()
    inputs = read_inputs(plan, options.gate)
    plan, images = inputs.plan, inputs.images
    about = About(
        title=f"{plan.model.name} against {plan.baseline.name}",
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        command=options.command,
        versions={k: v for k, v in package_versions().items() if k != "platform"},
    )
    command = about.command_line or "t2v_eval.protocol.run.run_protocol"
    run = _Run(inputs, options, command)
    pillars: dict[Pillar, PillarResult] = {"sample_quality": run.quality()}
    scores, failed = run.scores()
    probes = run.probes()
    pillars["prompt_adherence"] = measure_adherence(images, scores, command, failed)
    pillars["preference"] = run.preference()
    pillars["failure_analysis"] = run.failures()
    needed = {criterion.pillar for criterion in plan.criteria} if options.gate else pillars.keys()
    pillars = {name: corrected(pillar) for name, pillar in pillars.items() if name in needed}
    about = About(
        about.title,
        about.created,
        about.command,
        round(time.perf_counter() - started, 3),
        about.versions,
    )
    return ProtocolReport(
        plan, images, pillars, verdicts(plan, pillars), scores, about, options.gate, probes
    )


def read_inputs(plan: ProtocolPlan, gate: bool = False) -> ProtocolInputs:
    """Read and check all files of a plan; no model is loaded.

    Args:
        plan: the plan.
        gate: whether only the criteria of the gate are checked.

    Raises:
        InputError: a file cannot be used.
        UnknownNameError: no scorer, metric or figure has a name of the plan.
    """
    sample = None
    if gate:
        plan = plan.for_gate()
        sample = Sample(plan.gate.prompts, plan.gate.seed)
    preference = plan.preference
    safety = plan.failure_analysis.safety
    names = (*plan.prompt_adherence.scorers, *preference.judges, *preference.scorers, *safety)
    cards = [models.card(plan.scorer(name)) for name in dict.fromkeys(names)]
    check_entries(cards)
    _check_kinds(plan)
    for entry in plan.sample_quality.distances:
        check_extractor(entry.features or default_extractor())
        for metric in entry.metrics:
            metric_of(metric)
    if plan.sample_quality.reference:
        check_sources([plan.path(plan.sample_quality.reference)])
    check_names(plan.probes.names)
    images = read_images(plan, sample)
    if gate:
        check_criteria(plan, len(images.items) * images.model.seeds)
    battles = read_sources(plan, images)
    review = read_flags(plan, images)
    check_figures(plan, _figure_names(plan, battles, review))
    return ProtocolInputs(plan, images, battles, review, cards)


def _check_kinds(plan: ProtocolPlan) -> None:
    """Check that judges see two images, and that classifiers of safety are what they are called.

    Raises:
        InputError: a scorer is of another kind.
    """
    lists = {
        "preference.judges": (plan.preference.judges, "judge", "under preference.scorers"),
        "failure_analysis.safety": (
            plan.failure_analysis.safety,
            "safety",
            "under prompt_adherence.scorers, or write safety:ORG/MODEL, a classifier of images",
        ),
    }
    for key, (names, kind, remedy) in lists.items():
        for name in names:
            its_kind = models.card(plan.scorer(name)).kind
            if its_kind not in (kind, "own"):
                raise InputError(
                    f"{plan.file or 'the plan'}: {key} names {name}, a scorer of kind "
                    f"{its_kind!r}, and takes those of kind {kind!r}: name it {remedy}"
                )


def _figure_names(
    plan: ProtocolPlan, battles: Sequence[Battlefield], review: ReviewResult | None
) -> dict[Pillar, list[str]]:
    """Return the names of the figures that each pillar will have."""
    quality = [
        f"{metric} ({entry.features or default_extractor()})"
        for entry in plan.sample_quality.distances
        for metric in dict.fromkeys((*entry.metrics, *("fid-infinity",) * ("fid" in entry.metrics)))
    ]
    preference = plan.preference
    return {
        "sample_quality": quality,
        "prompt_adherence": list(plan.prompt_adherence.scorers),
        "preference": [
            *dict.fromkeys(("votes", *(source.name for source in battles))),
            *preference.judges,
            *preference.scorers,
        ],
        "failure_analysis": [
            *([] if review is None else review.rows),
            *plan.failure_analysis.safety,
        ],
    }


class _Run:
    """Computes the pillars that need models; what fails is noted, and the rest goes on."""

    def __init__(self, inputs: ProtocolInputs, options: ProtocolOptions, command: str) -> None:
        self.inputs, self.options, self.command = inputs, options, command
        plan, images = inputs.plan, inputs.images
        self.probe_images: ProbeImages | None = None
        self.rescored: list[ProbeScorer] = []
        if not plan.probes.skip:
            self.probe_images = ProbeImages(images.texts, images.model, images.baseline, plan.seed)

    def quality(self) -> PillarResult:
        """Measure sample quality, network by network."""
        plan = self.inputs.plan
        failed: list[str] = []
        extractors: list[tuple[Distance, Extractor]] = []
        for entry in plan.sample_quality.distances if plan.sample_quality.reference else ():
            name = entry.features or default_extractor()
            with _noting(f"features of {name}", failed):
                extractor = load_extractor(name, device=self.options.scorers.device)
                extractors.append((entry, extractor))
        result = PillarResult("sample_quality")
        with _noting("sample quality", failed):
            result = measure_quality(
                plan,
                self.inputs.images,
                extractors,
                self.command,
                cache=self.options.cache,
                progress=self.options.progress,
            )
        missing = "" if failed else result.missing
        return PillarResult(
            "sample_quality", result.figures, result.by_tag, missing, failed, result.warnings
        )

    def scores(self) -> tuple[list[ScorerScores], list[str]]:
        """Score the images with the scorers of prompt adherence; return why some have none."""
        scores: list[ScorerScores] = []
        failed: list[str] = []
        for name in self.inputs.plan.prompt_adherence.scorers:
            with _noting(name, failed):
                scorer = self._load(name)
                progress = self._start(f"{name}, prompt adherence")
                scores.append(score_images(scorer, self.inputs.images, name, progress))
                self._rescore(scorer, scores[-1])
        return scores, failed

    def _rescore(self, scorer: Scorer, scores: ScorerScores) -> None:
        """Compute what probes need of a scorer while it is loaded."""
        if self.probe_images is None:
            return
        if self.options.progress is not None:
            self.options.progress(f"scoring again for probes: {scores.name}")
        benchmark = self.inputs.images.benchmark
        bound = scorer if benchmark is None else for_benchmark(scorer, benchmark)
        sides = scores.model, scores.baseline
        rescored = rescore(self.probe_images, bound, sides, self.inputs.plan.probes.names)
        self.rescored.append(replace(rescored, name=scores.name))

    def probes(self) -> list[ProbeResult]:
        """Run the probes of the plan on the scores of prompt adherence."""
        if self.probe_images is None:
            return []
        plan = self.inputs.plan
        inputs = ProbeInputs(
            self.probe_images, self.rescored, plan.probes.families, plan.resamples, plan.alpha
        )
        return run_probes(inputs, plan.probes.names)

    def preference(self) -> PillarResult:
        """Measure preference: votes and tables, judges and preference scorers."""
        plan, images = self.inputs.plan, self.inputs.images
        sources, failed = list(self.inputs.battles), list[str]()
        kinds: list[tuple[Kind, Sequence[str]]] = [
            ("judge", plan.preference.judges),
            ("scorer", plan.preference.scorers),
        ]
        for kind, names in kinds:
            for name in names:
                with _noting(name, failed):
                    progress = self._start(f"{name}, preference")
                    scorer = self._load(name)
                    sources.append(judge_images(scorer, images, name, kind, progress))
        return measure_preference(plan, images, sources, self.command, failed)

    def failures(self) -> PillarResult:
        """Measure failures: flags of raters, and classifiers of safety."""
        inputs = self.inputs
        safety, failed = list[ScorerScores](), list[str]()
        for name in inputs.plan.failure_analysis.safety:
            with _noting(name, failed):
                progress = self._start(f"{name}, failure analysis")
                scores = score_images(self._load(name), inputs.images, name, progress)
                safety.append(scores)
        return measure_failures(inputs.images, inputs.review, self.command, safety, failed)

    def _load(self, name: str) -> Scorer:
        card = models.card(self.inputs.plan.scorer(name))
        return self.options.scorers.for_card(card, self.inputs.cards).load(card)

    def _start(self, label: str) -> Progress | None:
        return None if self.options.start is None else self.options.start(label)


@contextmanager
def _noting(what: str, failed: list[str]) -> Iterator[None]:
    """Note why something could not be measured, in the place of raising it."""
    try:
        yield
    except StoreError:  # nothing that follows could be stored
        raise
    except T2VError as error:
        failed.append(f"{what}: {error}")
