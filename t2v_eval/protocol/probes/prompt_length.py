"""Does the score follow the length of the prompt?"""

from __future__ import annotations

import math

import numpy as np

from t2v_eval.protocol.probes import names
from t2v_eval.protocol.probes.inputs import (
    MIN_PROMPTS,
    PointChart,
    ProbeFigure,
    ProbeInputs,
    ProbeResult,
    mean_of_seeds,
    not_measured,
)
from t2v_eval.protocol.probes.summaries import NOTABLE, confidence, others, signed, strongest
from t2v_eval.stats.regression.partial_correlation import partial_correlation
from t2v_eval.utils.arrays import FloatArray

NAME = names.PROMPT_LENGTH
QUESTION = "Does the score follow the length of the prompt?"


def prompt_length(inputs: ProbeInputs) -> ProbeResult:
    """Correlate the words of prompts with scores, at equal statistics of the images.

    Long prompts ask for other images, so the ranks of words and scores are correlated at equal
    saturation, contrast, sharpness and detail. The prompt is the unit: scores and statistics are
    averaged over both generators and all seeds.

    Args:
        inputs: scores and images; no new score is needed.
    """
    prompts = inputs.images.prompts
    words = np.array([len(prompt.split()) for prompt in prompts], np.float64)
    scorers = {scorer.name: scorer for scorer in inputs.text_scorers}
    reason = _unmeasurable(words, len(scorers))
    if reason:
        return not_measured(NAME, QUESTION, reason)
    controls = _statistics_of_prompts(inputs)
    level = confidence(inputs, len(scorers))
    figures = []
    for scorer in scorers.values():
        interval = partial_correlation(words, scorer.mean_scores, controls, confidence=level)
        n = int((~np.isnan(scorer.mean_scores)).sum())
        if not math.isnan(interval.low):
            figures.append(ProbeFigure(scorer.name, interval, n, scorer.id))
    if not figures:
        return not_measured(NAME, QUESTION, "no scorer has scores of enough prompts that vary")
    main = strongest(figures)
    gap = partial_correlation(words, scorers[main.label].differences)
    clear = not main.interval.low <= 0 <= main.interval.high
    warning = clear and abs(main.interval.value) >= NOTABLE
    follows = "follows" if warning else "does not clearly follow"
    statement = (
        f"The score of {main.label} {follows} the number of words ({words.min():.0f} to "
        f"{words.max():.0f}): their partial rank correlation at equal image statistics is "
        f"{signed(main.interval)} over {main.n} prompts."
    )
    if warning:
        higher = "Longer" if main.interval.value > 0 else "Shorter"
        statement += f" {higher} prompts score higher, so compare no two sets of prompts by it."
    statement += (
        f" The difference of the generators, on the same prompts, correlates {signed(gap)} with "
        f"length.{others(figures, main)}"
    )
    label = f"mean score, {main.label}"
    chart = PointChart("words of the prompt", label, words, scorers[main.label].mean_scores)
    return ProbeResult(
        NAME,
        QUESTION,
        statement,
        *main.interval,
        unit="partial rank correlation",
        n=main.n,
        warning=warning,
        chart=chart,
        figures=[*figures, ProbeFigure(f"difference, {main.label}", gap, main.n, main.source)],
        source=main.source,
    )


def _unmeasurable(words: FloatArray, scorers: int) -> str:
    if not scorers:
        return "no scorer reads the prompt"
    if len(words) < MIN_PROMPTS:
        return f"there are {len(words)} prompts, and {MIN_PROMPTS} or more are needed"
    return "all prompts have the same number of words" if np.ptp(words) == 0 else ""


def _statistics_of_prompts(inputs: ProbeInputs) -> FloatArray:
    """Return the mean statistics of the images of each prompt, (P, k)."""
    model, baseline = (mean_of_seeds(side.statistics) for side in inputs.images.measures)
    result: FloatArray = (model + baseline) / 2
    # A statistic that no image has would leave no complete row.
    return result[:, ~np.isnan(result).all(axis=0)]
