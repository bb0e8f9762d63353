"""Does the score need its prompt, and does it need its image?"""

from __future__ import annotations

import math

import numpy as np

from t2v_eval.protocol.probes import names
from t2v_eval.protocol.probes.inputs import (
    MIN_PROMPTS,
    IntervalChart,
    PointChart,
    ProbeFigure,
    ProbeInputs,
    ProbeResult,
    mean_of_seeds,
    not_measured,
)
from t2v_eval.protocol.probes.rescoring import SIDES
from t2v_eval.protocol.probes.summaries import (
    Rescored,
    confidence,
    percent,
    share_interval,
    signed,
)
from t2v_eval.stats.regression.partial_correlation import partial_correlation
from t2v_eval.utils.arrays import FloatArray, mean_of_known

SHUFFLED, TEXT_ALONE = names.SHUFFLED, names.TEXT_ALONE
SHUFFLED_QUESTION = "Does an image score higher with its own prompt than with another?"
TEXT_ALONE_QUESTION = "Does the text alone give the same ranking of prompts?"
TOO_ALIKE = 0.5
"""A rank correlation from which the text alone decides a quarter of the variance of ranks."""


def shuffled_prompts(inputs: ProbeInputs) -> ProbeResult:
    """Score every image with the prompt of another image, the floor of its scorer.

    The number is the share of images that score higher with their own prompt (ties count half), the
    AUC of paired scores: 0.5 is chance. The mean difference in standard deviations of itself (d)
    and the floor of each generator are in the paragraph.

    Args:
        inputs: scores; each image was scored once more by each scorer that reads text.
    """
    name, question = SHUFFLED, SHUFFLED_QUESTION
    rescored = Rescored(name, inputs)
    figures, details = [], {}
    for scorer, values in rescored.scorers():
        wins, gaps, floors = [], [], []
        for generator, scores, side in zip(
            inputs.images.generators, scorer.scores, SIDES, strict=True
        ):
            other = values[side]
            gap = scores - other
            wins.append(mean_of_seeds((np.sign(gap) + 1) / 2))
            gaps.append(mean_of_seeds(gap))
            means = f"{mean_of_known(scores):.4g}, floor {mean_of_known(other):.4g}"
            floors.append(f"{generator.name} {means}")
        share = (wins[0] + wins[1]) / 2
        n = int((~np.isnan(share)).sum())
        if n >= MIN_PROMPTS:
            interval = share_interval(share, inputs, len(inputs.text_scorers))
            figures.append(ProbeFigure(scorer.name, interval, n, scorer.id))
            details[scorer.name] = _effect_size((gaps[0] + gaps[1]) / 2), "; ".join(floors)
    if not figures:
        why = rescored.why(f"fewer than {MIN_PROMPTS} different prompts have scores with another")
        return not_measured(name, question, why, rescored.failed)
    main = min(figures, key=lambda figure: figure.interval.value)
    effect, floor = details[main.label]
    blind = [figure for figure in figures if figure.interval.low <= 0.5]
    statement = (
        f"An image scores higher by {main.label} with its own prompt than with the prompt of "
        f"another image in {percent(main.interval)} of cases (chance is 50 %), over {main.n} "
        f"prompts; d is {effect:.2f}. Mean scores: {floor}."
    )
    if blind:
        names = " and ".join(figure.label for figure in blind)
        statement += f" What {names} measures here cannot be told from chance: it is no adherence."
    rest = ", ".join(f"{f.label} {percent(f.interval)}" for f in figures if f is not main)
    return ProbeResult(
        name,
        question,
        statement + (f" Other scorers: {rest}." if rest else "") + rescored.remarks,
        *main.interval,
        unit="share of images",
        n=main.n,
        warning=bool(blind),
        chart=IntervalChart("share of images", figures, reference=0.5),
        figures=figures,
        source=main.source,
        cells=rescored.cells,
        failed=rescored.failed,
    )


def text_alone(inputs: ProbeInputs) -> ProbeResult:
    """Score the prompts with a grey image, and correlate that with their scores.

    A scorer that has seen no image has only the prompt to go by. Where its ranking of the prompts
    is that of the real images, scores say more of the prompts than of the images.

    Args:
        inputs: scores; each prompt was scored once by each scorer that reads text.
    """
    name, question = TEXT_ALONE, TEXT_ALONE_QUESTION
    rescored = Rescored(name, inputs)
    figures, points = [], {}
    level = confidence(inputs, len(inputs.text_scorers))
    for scorer, values in rescored.scorers():
        alone, scores = values["grey"], scorer.mean_scores
        interval = partial_correlation(alone, scores, confidence=level)
        n = int((~np.isnan(alone + scores)).sum())
        if n >= MIN_PROMPTS and not math.isnan(interval.low):
            figures.append(ProbeFigure(scorer.name, interval, n, scorer.id))
            points[scorer.name] = alone, scores
    if not figures:
        why = f"fewer than {MIN_PROMPTS} prompts have scores with a grey image, or all are equal"
        return not_measured(name, question, rescored.why(why), rescored.failed)
    main = max(figures, key=lambda figure: figure.interval.value)
    warning = main.interval.low > TOO_ALIKE
    statement = (
        f"With a grey image in place of each, {main.label} ranks the prompts "
        f"{'much as' if warning else 'otherwise than'} with the real images: the rank correlation "
        f"is {signed(main.interval)} over {main.n} prompts."
    )
    if warning:
        statement += (
            " Its scores say more of the prompts than of the images: compare images of one prompt "
            "alone."
        )
    rest = ", ".join(f"{f.label} {signed(f.interval)}" for f in figures if f is not main)
    alone, scores = points[main.label]
    return ProbeResult(
        name,
        question,
        statement + (f" Other scorers: {rest}." if rest else "") + rescored.remarks,
        *main.interval,
        unit="rank correlation",
        n=main.n,
        warning=warning,
        chart=PointChart("score with a grey image", f"mean score, {main.label}", alone, scores),
        figures=figures,
        source=main.source,
        cells=rescored.cells,
        failed=rescored.failed,
    )


def _effect_size(gaps: FloatArray) -> float:
    """Return the mean of paired differences in their standard deviations."""
    present = gaps[~np.isnan(gaps)]
    deviation = float(present.std(ddof=1)) if len(present) > 1 else 0.0
    return float(present.mean()) / deviation if deviation else math.nan
