"""Prompt adherence: scorers on the images of both generators, paired by prompt.

The images of a prompt are averaged over seeds, so that a prompt is one unit; differences of prompts
are tested by Student's t, as `t2v-eval plan` plans them. The standard deviation between seeds is
that of the mean over prompts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import special

from t2v_eval.evaluation.benchmark import indices_with_tag
from t2v_eval.evaluation.run import for_benchmark
from t2v_eval.protocol.figures import UNKNOWN, Figure, PillarResult, Source, two_sided
from t2v_eval.protocol.generated import ProtocolImages
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.results import CellCounts, Progress
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.noninferiority import clustered_mean
from t2v_eval.utils.arrays import FloatArray

LEAST_SEEDS = 3
"""Seeds of a generator from which on their spread says something."""

MISSING = (
    "name scorers under [prompt_adherence] in the plan; `t2v-eval list models` lists them. Three "
    "of different kinds can support a claim."
)
GAMED_BY = (
    "training or guiding the generator with this scorer or one of its family; prompts that say "
    "more than the scorer reads; what raises its scores of any image, which the probes look for"
)


@dataclass(frozen=True, slots=True)
class ScorerScores:
    """The scores of a scorer.

    Attributes:
        name, id: of the scorer.
        model, baseline: shape (seeds, prompts); NaN where an image has no score.
        counts: how many scores were computed, reused and failed.
        errors: the number of failed scores by reason.
        usage: requests, tokens and US dollars of an API.
        cautions: what must be known to read the scores.

    >>> ScorerScores("mine", "mine v1", np.ones((3, 2)), np.ones((1, 2))).model.shape
    (3, 2)
    """

    name: str
    id: str
    model: FloatArray
    baseline: FloatArray
    counts: CellCounts = field(default_factory=CellCounts)
    errors: Mapping[str, int] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)
    cautions: Sequence[str] = ()


def blocks_of(images: ProtocolImages) -> list[Block]:
    """Return what a scorer scores: each prompt with all images of both generators, seed by seed.

    Args:
        images: the images of both generators.
    """
    return [
        Block(
            [
                str(generator.images[seed][n])
                for generator in images.generators
                for seed in sorted(generator.images)
            ],
            item.texts,
            item.references,
        )
        for n, item in enumerate(images.items)
    ]


def score_images(
    scorer: Scorer, images: ProtocolImages, name: str = "", progress: Progress | None = None
) -> ScorerScores:
    """Score the images of both generators with their prompts.

    Args:
        scorer: a loaded scorer.
        images: the images of both generators.
        name: what the plan calls the scorer; by default its own name.
        progress: called with the counts as they grow.

    Raises:
        ScoringError: an image cannot be scored, with ``on_error="raise"``.
    """
    bound = scorer if images.benchmark is None else for_benchmark(scorer, images.benchmark)
    bound_id = bound.id  # before scoring: it raises if weights change on disk during the run
    result = bound.evaluate_blocks(blocks_of(images), progress)
    table = np.array([scores[:, 0] for scores in result.scores], np.float64).T
    seeds = images.model.seeds
    return ScorerScores(
        name or scorer.name,
        bound_id,
        table[:seeds],
        table[seeds:],
        result.counts,
        result.errors,
        result.usage,
        result.cautions,
    )


def measure_adherence(
    images: ProtocolImages,
    scores: Sequence[ScorerScores],
    command: str,
    failed: Sequence[str] = (),
) -> PillarResult:
    """Compare the scores of both generators, of all prompts and by tag.

    Args:
        images: the images of both generators.
        scores: of each scorer.
        command: the command of the report.
        failed: why scorers have no scores.
    """
    if not scores:
        missing = "" if failed else MISSING
        return PillarResult("prompt_adherence", missing=missing, failed=failed)
    tags = Counter(tag for item in images.items for tag in item.tags)
    return PillarResult(
        "prompt_adherence",
        [compare_scores(images, of_scorer, command) for of_scorer in scores],
        {
            tag: [compare_scores(images, of_scorer, command, tag) for of_scorer in scores]
            for tag in tags
            if tags[tag] > 1
        },
        failed=failed,
        warnings=list(_warnings(images, scores)),
    )


def compare_scores(
    images: ProtocolImages, scores: ScorerScores, command: str, tag: str = ""
) -> Figure:
    """Compare the mean scores of both generators, paired by prompt.

    Args:
        images: the images of both generators.
        scores: of a scorer.
        command: the command of the report.
        tag: the prompts that are compared; empty for all.
    """
    chosen = indices_with_tag(images.items, tag)
    sides = [_mean(side[:, chosen]) for side in (scores.model, scores.baseline)]
    both = ~np.isnan(sides[0]) & ~np.isnan(sides[1])
    groups: list[Hashable] = [images.items[n].group or n for n in chosen]
    units = [group for group, complete in zip(groups, both, strict=True) if complete]
    model, baseline = (_interval(side[both], units)[0] for side in sides)
    differences = (sides[0] - sides[1])[both]
    difference, p = _interval(differences, units)
    notes = list(scores.cautions) if not tag else []
    if not both.all():
        notes.append(f"{int((~both).sum())} of {len(both)} prompts lack a score of a generator")
    return Figure(
        name=scores.name,
        measures="mean score over prompts, on the scorer's own scale",
        model=model,
        baseline=baseline,
        difference=difference,
        sd=float(differences.std(ddof=1)) if len(differences) > 1 else math.nan,
        p=p,
        seed_sd=(_seed_sd(scores.model[:, chosen]), _seed_sd(scores.baseline[:, chosen])),
        gamed_by=GAMED_BY,
        notes=notes,
        source=Source(
            command=command,
            made_by=scores.id,
            n=int(both.sum()),
            files=[str(folder) for g in images.generators for folder in g.folders],
        ),
    )


def _mean(scores: FloatArray) -> FloatArray:
    """Return the mean over seeds, shape (prompts,); NaN where no seed has a score."""
    has_score = ~np.isnan(scores)
    sums = np.where(has_score, scores, 0.0).sum(axis=0)
    counts = has_score.sum(axis=0)
    means = np.full(sums.shape, np.nan, np.float64)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def _interval(values: FloatArray, units: Sequence[Hashable]) -> tuple[Interval, float]:
    """Return the mean of prompts with its 95 % interval, and the p-value of 0."""
    if len(set(units)) < 2:
        value = float(values.mean()) if len(values) else math.nan
        return UNKNOWN._replace(value=value), math.nan
    mean, error, count = clustered_mean(values, units)
    half = error * float(special.stdtrit(count - 1, 0.975))
    return Interval(mean, mean - half, mean + half), two_sided(mean, error, count - 1)


def _seed_sd(scores: FloatArray) -> float:
    """Return the standard deviation between seeds of the mean over prompts."""
    complete = scores[:, ~np.isnan(scores).any(axis=0)]
    if len(scores) < 2 or not complete.shape[1]:
        return math.nan
    return float(complete.mean(axis=1).std(ddof=1))


def _warnings(images: ProtocolImages, scores: Sequence[ScorerScores]) -> list[str]:
    warnings = [
        f"{generator.name} has {generator.seeds} image{'s' * (generator.seeds != 1)} of each "
        f"prompt: the spread between seeds needs {LEAST_SEEDS} or more"
        for generator in images.generators
        if generator.seeds < LEAST_SEEDS
    ]
    for of_scorer in scores:
        failed = of_scorer.counts.failed
        if failed:
            reasons = "; ".join(f"{count} x {why}" for why, count in of_scorer.errors.items())
            warnings.append(
                f"{of_scorer.name}: {failed} of {of_scorer.counts.cells} scores failed and are "
                f"left out: {reasons}"
            )
    return warnings
