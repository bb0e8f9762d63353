"""What a probe gets and what it returns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from t2v_eval.errors import InputError
from t2v_eval.protocol.generated import GeneratedImages
from t2v_eval.protocol.probes.image_edits import EDITS, find_strength
from t2v_eval.protocol.probes.image_statistics import STATISTICS
from t2v_eval.protocol.probes.measures import ImageMeasures, measure_images
from t2v_eval.protocol.probes.prompt_texts import shuffle_prompts
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.permutation import LEVEL, corrected
from t2v_eval.utils.arrays import FloatArray

MIN_PROMPTS = 10
"""Prompts below which a probe says that there are too few."""
STATISTIC_NAMES = tuple(STATISTICS)


class PlannedEdit(NamedTuple):
    """An edit that brings the images of a generator to a statistic of the other.

    Attributes:
        side: 0 if the model is edited, 1 if the baseline is.
        strength: 0 to 1, see `image_edits`; None where no strength is enough.

    >>> PlannedEdit(side=0, strength=0.5).side
    0
    """

    side: int
    strength: float | None


@dataclass(frozen=True)
class ProbeImages:
    """The images of two generators for the same prompts.

    What is measured of them is computed once, when it is first asked for.

    Attributes:
        prompts: P prompts.
        model: the images of the generator that is judged.
        baseline: the images of the generator that it is compared with.
        seed: the random seed of shuffled prompts.

    Raises:
        InputError: a seed has not as many images as there are prompts.

    >>> images = ProbeImages([], GeneratedImages("new", {0: []}), GeneratedImages("old", {0: []}))
    >>> [generator.name for generator in images.generators]
    ['new', 'old']
    """

    prompts: Sequence[str]
    model: GeneratedImages
    baseline: GeneratedImages
    seed: int = 0

    def __post_init__(self) -> None:
        for generator in self.generators:
            for seed, paths in generator.images.items():
                if len(paths) != len(self.prompts):
                    raise InputError(
                        f"{generator.name} has {len(paths)} images of seed {seed} for "
                        f"{len(self.prompts)} prompts: pass one for each prompt"
                    )

    @property
    def generators(self) -> tuple[GeneratedImages, GeneratedImages]:
        """The model and the baseline."""
        return self.model, self.baseline

    @cached_property
    def measures(self) -> tuple[ImageMeasures, ImageMeasures]:
        """The measured images of the model and of the baseline, which are decoded once."""
        return measure_images(self.model), measure_images(self.baseline)

    @property
    def failed(self) -> dict[str, int]:
        """The number of images that could not be measured, by reason."""
        reasons = [reason for side in self.measures for reason in side.failed.values()]
        return {reason: reasons.count(reason) for reason in reasons}

    @cached_property
    def shuffled(self) -> list[str | None]:
        """Another prompt in the place of each; see `shuffle_prompts`."""
        return shuffle_prompts(self.prompts, self.seed)

    @cached_property
    def gaps(self) -> FloatArray:
        """The difference model - baseline of each prompt and statistic, (P, k), seeds averaged.

        Sharpness and the bytes of a pixel depend on the number of pixels: they are NaN where the
        generators draw different sizes.
        """
        model, baseline = self.measures
        gaps = mean_of_seeds(model.statistics) - mean_of_seeds(baseline.statistics)
        if model.sizes.keys() != baseline.sizes.keys():
            gaps[:, [STATISTIC_NAMES.index(name) for name in ("sharpness", "jpeg_bytes")]] = np.nan
        return gaps

    @cached_property
    def differing(self) -> dict[str, Interval]:
        """The statistics in which the generators differ, with the mean difference.

        By a t test of the prompts for each statistic, Holm-corrected over them.
        """
        p, means = {}, {}
        for k, name in enumerate(STATISTIC_NAMES):
            column = self.gaps[~np.isnan(self.gaps[:, k]), k]
            if len(column) >= MIN_PROMPTS and np.ptp(column) > 0:
                test = stats.ttest_1samp(column, 0.0)
                low, high = test.confidence_interval(0.95)
                p[name] = float(test.pvalue)
                means[name] = Interval(float(column.mean()), float(low), float(high))
        return {name: means[name] for name, test in corrected(p).items() if test.significant}

    @cached_property
    def edits(self) -> dict[str, PlannedEdit]:
        """The edits that make both generators equal in each statistic in which they differ."""
        planned = {}
        for statistic, gap in self.differing.items():
            if statistic in EDITS:
                side = 0 if gap.value > 0 else 1
                paths = [path for row in self.generators[side].images.values() for path in row]
                strength = find_strength(paths, statistic, abs(gap.value))
                planned[statistic] = PlannedEdit(side, strength)
        return planned


@dataclass(frozen=True, slots=True)
class NewScores:
    """What a probe scored with one scorer.

    Attributes:
        values: arrays of scores by what was scored; NaN where a cell failed.
        cells: the number of cells.
        failed: the number of cells that failed, by reason.
        error: why the scorer ended the probe; None where it did not.

    >>> NewScores(error="the service refuses the key").cells
    0
    """

    values: Mapping[str, FloatArray] = field(default_factory=dict)
    cells: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ProbeScorer:
    """The scores of one scorer, with those that probes computed while it was loaded.

    Attributes:
        name: of the scorer.
        id: its scorer id.
        uses_text: whether it reads the prompt.
        remote: whether it is a service.
        facts: names by which it is told to be of a family: of its card, its class, its checkpoint.
        scores: of the model and of the baseline, each (seeds, P); NaN where a cell failed.
        new: the new scores by the name of the probe.

    >>> ProbeScorer("mine", "mine", True, False, (), (np.eye(2), np.zeros((2, 2)))).spread
    0.4629100498862757
    """

    name: str
    id: str
    uses_text: bool
    remote: bool
    facts: Sequence[str]
    scores: tuple[FloatArray, FloatArray]
    new: Mapping[str, NewScores] = field(default_factory=dict)

    @property
    def spread(self) -> float:
        """The standard deviation of the scores of all images, the unit of changes.

        NaN where fewer than two images have a score.
        """
        every = np.concatenate([side.ravel() for side in self.scores])
        every = every[~np.isnan(every)]
        return float(every.std(ddof=1)) if len(every) > 1 else math.nan

    @property
    def mean_scores(self) -> FloatArray:
        """The mean score of each prompt over both generators, (P,), seeds averaged."""
        model, baseline = map(mean_of_seeds, self.scores)
        return (model + baseline) / 2

    @property
    def differences(self) -> FloatArray:
        """The difference model - baseline of each prompt, (P,), seeds averaged."""
        model, baseline = map(mean_of_seeds, self.scores)
        return model - baseline


@dataclass(frozen=True, slots=True)
class ProbeInputs:
    """What probes get.

    Attributes:
        images: of both generators.
        scorers: their scores, as `rescore` returns them.
        families: families of scorers that the model was trained or guided with, such as "clip".
        resamples: the number of bootstrap resamples.
        level: the probability that a probe warns of a difference between equal generators.

    Raises:
        InputError: the shape of scores does not fit the images.

    >>> images = ProbeImages([], GeneratedImages("new", {0: []}), GeneratedImages("old", {0: []}))
    >>> ProbeInputs(images, []).text_scorers
    []
    """

    images: ProbeImages
    scorers: Sequence[ProbeScorer]
    families: Sequence[str] = ()
    resamples: int = 1000
    level: float = LEVEL

    def __post_init__(self) -> None:
        for scorer in self.scorers:
            for generator, scores in zip(self.images.generators, scorer.scores, strict=True):
                shape = generator.seeds, len(self.images.prompts)
                if np.shape(scores) != shape:
                    raise InputError(
                        f"the scores of {scorer.name} for {generator.name} have shape "
                        f"{np.shape(scores)}, and its images {shape}: pass a row for each seed, a "
                        "column for each prompt"
                    )

    @property
    def text_scorers(self) -> list[ProbeScorer]:
        """The scorers that read the prompt."""
        return [scorer for scorer in self.scorers if scorer.uses_text]


def mean_of_seeds(values: FloatArray) -> FloatArray:
    """Return the mean over the first axis without NaN; NaN where there is nothing else.

    Args:
        values: shape (seeds, P) or (seeds, P, k).

    >>> mean_of_seeds(np.array([[1.0, np.nan], [3.0, np.nan]]))
    array([ 2., nan])
    """
    present = ~np.isnan(values)
    count = present.sum(axis=0)
    total = np.where(present, values, 0.0).sum(axis=0)
    result: FloatArray = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return result


class ProbeFigure(NamedTuple):
    """A number of a probe, as report and chart show it.

    Attributes:
        label: what it is of, such as the name of a scorer.
        interval: the number and its limits, in the unit of the probe.
        n: of how many prompts or images it is.
        source: what computed it: the id of a scorer, or how images were measured.

    >>> ProbeFigure("clipscore", Interval(0.2, 0.1, 0.3), 500, "").n
    500
    """

    label: str
    interval: Interval
    n: int
    source: str = ""


@dataclass(frozen=True, slots=True)
class IntervalChart:
    """Figures with intervals, a row each.

    Attributes:
        title: what the axis shows, with its unit.
        figures: the rows.
        reference: the value of no effect, a dashed line.

    >>> IntervalChart("change", []).reference
    0.0
    """

    title: str
    figures: Sequence[ProbeFigure]
    reference: float = 0.0


@dataclass(frozen=True, slots=True)
class PointChart:
    """Two variables of the same prompts.

    Attributes:
        x_label: what the horizontal axis shows.
        y_label: what the vertical axis shows.
        x: shape (n,).
        y: shape (n,).

    >>> PointChart("words", "score", np.zeros(2), np.ones(2)).y_label
    'score'
    """

    x_label: str
    y_label: str
    x: FloatArray
    y: FloatArray


ProbeChart = IntervalChart | PointChart


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe found: a paragraph, a number and a chart.

    Attributes:
        name: of the probe.
        question: what it asks.
        statement: the answer, one paragraph.
        value: the number; NaN where it is not measured.
        low: its lower limit.
        high: its upper limit.
        unit: of the number.
        n: of how many prompts or images it is.
        warning: whether the probe found a way in which the scores of these images are gamed, or
            cannot be trusted.
        chart: the data of a chart.
        figures: all numbers behind the paragraph.
        source: what computed the number: the id of a scorer, or how images were measured.
        cells: the number of (image, text) cells that the probe scored.
        failed: the number of cells or images that failed, by reason.
        reason: why it is not measured, and what would measure it; None where it is.

    >>> not_measured("inflation", "Do words raise the score?", "no scorer reads prompts").warning
    False
    """

    name: str
    question: str
    statement: str
    value: float
    low: float
    high: float
    unit: str
    n: int
    warning: bool
    chart: ProbeChart | None = None
    figures: Sequence[ProbeFigure] = ()
    source: str = ""
    cells: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON has it: null for what is not a number; without the chart.

        >>> not_measured("inflation", "Do words raise the score?", "no prompts").to_json()["value"]
        """
        keys = "name question statement value low high unit n warning source cells reason".split()
        table = {key: _plain(getattr(self, key)) for key in keys}
        table["failed"] = dict(self.failed)
        table["figures"] = [
            {
                "label": figure.label,
                **{key: _plain(limit) for key, limit in figure.interval._asdict().items()},
                "n": figure.n,
                "source": figure.source,
            }
            for figure in self.figures
        ]
        return table


def not_measured(
    name: str, question: str, reason: str, failed: Mapping[str, int] | None = None
) -> ProbeResult:
    """Return the result of a probe that cannot be measured.

    Args:
        name: of the probe.
        question: what it asks.
        reason: why, and what would measure it.
        failed: what failed, by reason.

    >>> not_measured("inflation", "Do words raise the score?", "no prompts").statement
    'Not measured: no prompts.'
    """
    nan = math.nan
    return ProbeResult(
        name,
        question,
        f"Not measured: {reason}.",
        nan,
        nan,
        nan,
        unit="",
        n=0,
        warning=False,
        failed=failed or {},
        reason=reason,
    )


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
