"""Failure analysis: what people flag in outputs at random, and classifiers of safety in all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from t2v_eval.errors import InputError
from t2v_eval.protocol.adherence import ScorerScores
from t2v_eval.protocol.figures import UNKNOWN, Figure, PillarResult, Source
from t2v_eval.protocol.generated import ProtocolImages
from t2v_eval.protocol.plan import ProtocolPlan
from t2v_eval.review.reading import read_review
from t2v_eval.review.result import ANY_RATER, FlagRate, ReviewResult
from t2v_eval.review.safety import THRESHOLD, flag_rates
from t2v_eval.stats.bootstrap import Interval

MISSING = (
    "look at outputs: `t2v-eval review --images FOLDER --out review/` writes a page of outputs "
    "chosen at random, and the files that it saves are named as `review` under [failure_analysis] "
    "in the plan"
)
GAMED_BY_CLASSIFIER = (
    "content that the classifier was not trained on; it also flags skin, art and fruit, so that "
    "its rate is evidence and signs nothing off by itself"
)
GAMED_BY = "outputs that were picked by hand; lenient raters; flags that nobody looked for"


def read_flags(plan: ProtocolPlan, images: ProtocolImages) -> ReviewResult | None:
    """Read the reviews of a plan, under the names of its generators; None without one.

    Args:
        plan: the plan.
        images: the images of both generators.

    Raises:
        InputError: a file cannot be read, or no reviewed image is of the model or the baseline.
    """
    analysis = plan.failure_analysis
    if not analysis.review:
        return None
    files = plan.paths(analysis.review)
    key = plan.path(analysis.key) if analysis.key else None
    result = read_review(files[0] if len(files) == 1 else files, key)
    names = {name: images.generator_of(name) for name in result.available}
    reviewed = []
    for image in result.images:
        name = images.generator_of(image.generator, image.path)
        names[image.generator] = name
        if name:
            reviewed.append(replace(image, generator=name))
    if not reviewed:
        sides = " or ".join(repr(generator.name) for generator in images.generators)
        raise InputError(
            f"{files[0]}: no reviewed image is of {sides}, but of "
            f"{', '.join(map(repr, result.available))}: review the folders of the plan"
        )
    available: Counter[str] = Counter()
    for name, count in result.available.items():
        if names[name]:
            available[names[name]] += count
    return replace(result, images=tuple(reviewed), available=dict(available))


def measure_failures(
    images: ProtocolImages,
    review: ReviewResult | None,
    command: str,
    safety: Sequence[ScorerScores] = (),
    failed: Sequence[str] = (),
) -> PillarResult:
    """Compare the rates of flags of both generators.

    Args:
        images: the images of both generators.
        review: what raters flagged; None where nobody looked.
        command: the command of the report.
        safety: the scores of classifiers of safety.
        failed: why parts of the pillar were not measured.
    """
    flagged = [_of_classifier(images, scores, command) for scores in safety]
    if review is None:
        warnings = [f"nobody looked at outputs: {MISSING}"] * bool(flagged)
        missing = "" if failed or flagged else MISSING
        return PillarResult("failure_analysis", flagged, {}, missing, failed, warnings)
    rates = {(r.flag, r.generator): r for r in review.rates if r.rule == ANY_RATER}
    names = [generator.name for generator in images.generators]
    figures = [_figure(review, rates, flag, names, command) for flag in review.rows]
    figures += flagged
    warnings = []
    if len(review.raters) < 2:
        warnings.append(
            "one person looked: a second rater shows how far flags are a matter of taste"
        )
    warnings += [
        f"{rater} left {count} images of the page without an answer"
        for rater, count in review.unseen.items()
        if count
    ]
    return PillarResult("failure_analysis", figures, failed=failed, warnings=warnings)


def _of_classifier(images: ProtocolImages, scores: ScorerScores, command: str) -> Figure:
    """Return the rates of images that a classifier flags as unsafe."""
    names = [generator.name for generator in images.generators]
    tables = dict(zip(names, (scores.model, scores.baseline), strict=True))
    rates = flag_rates(
        scores.name, {name: np.ravel(table).tolist() for name, table in tables.items()}
    )
    model, baseline = (Interval(rate.value, rate.low, rate.high) for rate in rates.rates)
    failed = sum(rates.failed.values())
    notes = [f"flagged from a probability of {THRESHOLD:g} on"]
    notes += [f"{failed} images have no score and count in no rate"] * (failed > 0)
    return Figure(
        name=scores.name,
        measures="share of images that a classifier flags as unsafe (Clopper-Pearson)",
        model=model,
        baseline=baseline,
        difference=model.minus(baseline),
        higher_is_better=False,
        gamed_by=GAMED_BY_CLASSIFIER,
        notes=notes,
        source=Source(
            command=command,
            made_by=scores.id,
            n=min(rate.n for rate in rates.rates),
            unit="images",
            files=[str(folder) for g in images.generators for folder in g.folders],
        ),
    )


def _figure(
    review: ReviewResult,
    rates: dict[tuple[str, str], FlagRate],
    flag: str,
    names: Sequence[str],
    command: str,
) -> Figure:
    """Return the rates of a flag, and their difference."""
    sides = [rates.get((flag, name)) for name in names]
    model, baseline = (UNKNOWN if s is None else Interval(s.value, s.low, s.high) for s in sides)
    tests = [
        difference.p
        for difference in review.differences
        if difference.flag == flag and {difference.first, difference.second} == set(names)
    ]
    counts = [f"{name} {s.count} of {s.n}" for name, s in zip(names, sides, strict=True) if s]
    notes = [f"flagged by any rater: {', '.join(counts)}"]
    for agreement in review.agreement:
        if agreement.flag == flag:
            kappa = agreement.kappa if len(review.raters) == 2 else agreement.alpha
            what = "Cohen's kappa" if len(review.raters) == 2 else "Krippendorff's alpha"
            value = "undefined" if math.isnan(kappa) else f"{kappa:.2f}"
            notes.append(f"{what} {value} over {agreement.n} images")
    return Figure(
        name=flag,
        measures="share of outputs, chosen at random, with this flag (Clopper-Pearson)",
        model=model,
        baseline=baseline,
        difference=model.minus(baseline),
        higher_is_better=False,
        p=tests[0] if tests else math.nan,
        gamed_by=GAMED_BY,
        notes=notes,
        source=Source(
            command=command,
            made_by=f"{len(review.raters)} rater{'s' * (len(review.raters) != 1)}",
            n=min((side.n for side in sides if side), default=0),
            unit="outputs",
            files=review.files,
        ),
    )
