"""Do words that describe no content raise the score?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from t2v_eval.protocol.probes import names
from t2v_eval.protocol.probes.inputs import (
    MIN_PROMPTS,
    IntervalChart,
    ProbeFigure,
    ProbeInputs,
    ProbeResult,
    ProbeScorer,
    mean_of_seeds,
    not_measured,
)
from t2v_eval.protocol.probes.prompt_texts import SUFFIX, is_inflated
from t2v_eval.protocol.probes.rescoring import SIDES
from t2v_eval.protocol.probes.summaries import (
    NOTABLE,
    Rescored,
    mean_interval,
    others,
    percent,
    share_interval,
    signed,
    strongest,
)
from t2v_eval.utils.arrays import FloatArray, mean_of_known

NAME = names.INFLATION
QUESTION = "Do words that describe no content raise the score?"


class _Changes(NamedTuple):
    """What the words change on one scorer.

    Attributes:
        change: of each prompt, (P,), in standard deviations of the score.
        flips: shape (P,), 1 where the order of the generators is another.
        without: the mean difference of the generators without the words.
        with_words: the same with them.
    """

    change: FloatArray
    flips: FloatArray
    without: float
    with_words: float


def inflation(inputs: ProbeInputs) -> ProbeResult:
    """Compare scores of the same images with and without words that promise quality.

    A prompt without such words is scored once more with `SUFFIX`; one that has them is scored once
    more without them. Either way the change is the score with the words minus that without, in
    standard deviations of the scorer's scores. The order of the generators flips on a prompt if
    their mean scores over seeds are in the other order.

    Args:
        inputs: scores; each image was scored once more by each scorer that reads text.
    """
    rescored = Rescored(NAME, inputs)
    inflated = np.array([is_inflated(prompt) for prompt in inputs.images.prompts], np.bool_)
    changes, flips, of_scorer = [], [], {}
    for scorer, values in rescored.scorers():
        result = _compare(scorer, tuple(values[side] for side in SIDES), inflated)
        n = int((~np.isnan(result.change)).sum())
        if n < MIN_PROMPTS:
            continue
        interval = mean_interval(result.change, inputs, len(inputs.text_scorers))
        changes.append(ProbeFigure(scorer.name, interval, n, scorer.id))
        share = share_interval(result.flips, inputs)
        flips.append(ProbeFigure(f"order flips, {scorer.name}", share, n, scorer.id))
        of_scorer[scorer.name] = result, share
    if not changes:
        why = rescored.why(f"fewer than {MIN_PROMPTS} prompts have scores with and without them")
        return not_measured(NAME, QUESTION, why, rescored.failed)
    raised = [f for f in changes if f.interval.low > 0 and f.interval.value >= NOTABLE]
    main = strongest(raised or changes)
    result, share = of_scorer[main.label]
    model, baseline = (generator.name for generator in inputs.images.generators)
    verb = "raise" if raised else "lower" if main.interval.high < 0 else "do not clearly change"
    statement = (
        f"Words such as {SUFFIX.strip(', ')!r} {verb} the score of {main.label} on the same images:"
        f" {signed(main.interval)} standard deviations over {main.n} prompts. The order of "
        f"{model} and {baseline} flips on {percent(share)} of prompts, and their mean difference "
        f"is {result.without:+.4g} without the words and {result.with_words:+.4g} with them."
    )
    if inflated.any():
        statement = (
            f"The prompts are inflated: {inflated.sum()} of {len(inflated)} have words that "
            f"promise quality and describe no content. Score them without these. {statement}"
        )
    elif raised:
        statement += " Compare no scores of prompts with and without such words."
    return ProbeResult(
        NAME,
        QUESTION,
        statement + others(changes, main) + rescored.remarks,
        *main.interval,
        unit="standard deviations of the score",
        n=main.n,
        warning=bool(raised or inflated.any()),
        chart=IntervalChart("change, sd of the score", changes),
        figures=[*changes, *flips],
        source=main.source,
        cells=rescored.cells,
        failed=rescored.failed,
    )


def _compare(scorer: ProbeScorer, again: tuple[FloatArray, ...], inflated: np.ndarray) -> _Changes:
    with_words, without = [], []
    for scores, other in zip(scorer.scores, again, strict=True):
        missing = np.isnan(scores) | np.isnan(other)
        high = np.where(missing, np.nan, np.where(inflated, scores, other))
        low = np.where(missing, np.nan, np.where(inflated, other, scores))
        with_words.append(mean_of_seeds(high))
        without.append(mean_of_seeds(low))
    change = (with_words[0] + with_words[1] - without[0] - without[1]) / 2
    # A scorer with one score for all images has no spread: any change is infinitely large.
    change = change / scorer.spread if scorer.spread > 0 else np.full_like(change, np.nan)
    after, before = with_words[0] - with_words[1], without[0] - without[1]
    flips = np.where(np.isnan(change), np.nan, np.sign(after) != np.sign(before))
    return _Changes(change, flips, mean_of_known(before), mean_of_known(after))
