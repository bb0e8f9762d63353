"""Are images of different prompts the same?"""

from __future__ import annotations

import numpy as np

from t2v_eval.protocol.generated import GeneratedImages
from t2v_eval.protocol.probes import names
from t2v_eval.protocol.probes.image_hashes import BITS, NEAR, hamming, has_near
from t2v_eval.protocol.probes.inputs import (
    IntervalChart,
    ProbeFigure,
    ProbeInputs,
    ProbeResult,
    not_measured,
)
from t2v_eval.protocol.probes.measures import ImageMeasures
from t2v_eval.protocol.probes.summaries import percent, share_interval
from t2v_eval.utils.arrays import FloatArray

NAME = names.DUPLICATES
QUESTION = "Are images of different prompts nearly the same?"
SOURCE = f"pHash of {BITS} bits, of which at most {NEAR} differ"
TOO_MANY = 0.01
"""The share of images with a near duplicate that is more than a few prompts that mean the same."""


def duplicates(inputs: ProbeInputs) -> ProbeResult:
    """Count the images of a generator that have a near duplicate for another prompt.

    Near duplicates are images whose perceptual hashes differ in at most `NEAR` of `BITS` bits.
    Equal prompts are one. The unit is the prompt: the share of its images, over seeds. Seeds of one
    prompt that draw the same image are counted on their own.

    Args:
        inputs: images; no new score is needed.
    """
    numbers = {prompt: k for k, prompt in enumerate(dict.fromkeys(inputs.images.prompts))}
    if len(numbers) < 2:
        return not_measured(NAME, QUESTION, "there are not two different prompts")
    groups = np.array([numbers[prompt] for prompt in inputs.images.prompts], np.int64)
    figures, seeds = [], []
    failed = inputs.images.failed
    for generator, measures in zip(inputs.images.generators, inputs.images.measures, strict=True):
        share, n = _shares(measures, groups)
        if n:
            interval = share_interval(share, inputs, 2)
            figures.append(ProbeFigure(generator.name, interval, n, SOURCE))
            seeds.append(_same_seeds(generator, measures))
    if len(figures) < 2:
        return not_measured(NAME, QUESTION, "a generator has no image that can be read", failed)
    model, baseline = figures
    warning = model.interval.low > TOO_MANY
    statement = (
        f"{percent(model.interval)} of the {model.n} images of {model.label} have a near duplicate "
        f"for another prompt, and {percent(baseline.interval)} of the {baseline.n} of "
        f"{baseline.label} ({SOURCE}). Seeds of one prompt: {'; '.join(seeds)}."
    )
    if warning:
        statement += (
            " The generator repeats itself: more images are not more evidence, and scores of "
            "repeated images are not of their prompts."
        )
    return ProbeResult(
        NAME,
        QUESTION,
        statement,
        *model.interval,
        unit="share of images",
        n=model.n,
        warning=warning,
        chart=IntervalChart("share of images", figures),
        figures=figures,
        source=SOURCE,
        failed=failed,
    )


def _shares(
    measures: ImageMeasures, groups: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> tuple[FloatArray, int]:
    """Return the share of the images of each prompt with a near duplicate, (P,), and their number.

    NaN where no image of a prompt could be read.
    """
    readable = ~np.isnan(measures.statistics[..., 0])
    seeds, prompts = readable.shape
    rows = np.flatnonzero(readable.ravel())
    group_of = np.tile(groups, seeds)[rows]
    has_duplicate = np.zeros(seeds * prompts, np.float64)
    has_duplicate[rows] = has_near(
        measures.hashes.reshape(seeds * prompts, -1)[rows], group_of, NEAR
    )
    count = readable.sum(axis=0)
    total = np.where(readable, has_duplicate.reshape(seeds, prompts), 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan), len(rows)


def _same_seeds(generator: GeneratedImages, measures: ImageMeasures) -> str:
    """Return for how many prompts two seeds of a generator draw the same image."""
    readable = ~np.isnan(measures.statistics[..., 0])
    seeds, prompts = readable.shape
    same = np.zeros(prompts, np.bool_)
    for i in range(seeds):
        for j in range(i + 1, seeds):
            near = hamming(measures.hashes[i], measures.hashes[j]) <= NEAR
            same |= near & readable[i] & readable[j]
    if seeds < 2:
        return f"{generator.name} has a single one"
    return f"two of {generator.name} are near duplicates for {int(same.sum())} of {prompts} prompts"
