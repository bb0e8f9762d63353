"""The metrics that `t2v_eval.distance` knows by name, with their options and intervals."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np

from t2v_eval.errors import InputError, UnknownNameError
from t2v_eval.evaluation.distances.pair import (
    Pair,
    kernel_of,
    resample_weights,
    rows_or_moments,
    shifts,
    weighted_cmmd,
)
from t2v_eval.stats.bootstrap import IntArray, Interval
from t2v_eval.stats.distances import kernel as kernels
from t2v_eval.stats.distances.diversity import vendi, vendi_influence
from t2v_eval.stats.distances.extrapolation import (
    fid_infinity,
    independent_subsets,
    row_weights,
    shuffled_subsets,
    smallest_subset,
    subset_sizes,
)
from t2v_eval.stats.distances.features import Features
from t2v_eval.stats.distances.inception import (
    Remainder,
    inception_score_infinity,
    inception_score_influence,
    inception_scores,
    resampled_inception_scores,
)
from t2v_eval.stats.distances.memorisation import (
    MIFID_THRESHOLD,
    Side,
    authenticity,
    memorisation_distances,
    memorisation_divisor,
)
from t2v_eval.stats.distances.resampling import (
    Counts,
    interval,
    mean_interval,
    weighted_sums,
)
from t2v_eval.stats.distances.sliced import draw_directions, mind, mind_influence
from t2v_eval.utils.arrays import FloatArray

SubsetDraws = Literal["independent", "shuffled"]
KidDraws = Literal["clean-fid", "torch-fidelity"]
MindDraws = Literal["all-rows", "torch-fidelity"]

_DRAWS = 2  # the stream of random numbers of drawn subsets, after those of both sets


MetricFunction: TypeAlias = Callable[..., Interval]
"""Computes a metric of a pair; its keywords are the options of the metric."""


@dataclass(frozen=True, slots=True)
class DistanceMetric:
    """A metric by name.

    Attributes:
        name: its name.
        meaning: what it says, in a line.
        compute: computes it.
        needs: what both sets must have: "features", rows of them; "moments", rows or mean and
            covariance; "logits", of the images alone.
        alone: whether it looks at the images alone.

    >>> METRICS["kid"].needs
    'features'
    """

    name: str
    meaning: str
    compute: MetricFunction
    needs: Literal["features", "moments", "logits"] = "features"
    alone: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The options with their defaults."""
        parameters = inspect.signature(self.compute).parameters.values()
        return {p.name: p.default for p in parameters if p.name != "pair"}


def _no_interval(value: float) -> Interval:
    return Interval(value, math.nan, math.nan)


def _fid(pair: Pair) -> Interval:
    value = pair.fid()
    influences = pair.fid_influences
    if influences is None:
        return _no_interval(value)
    of_images = shifts(pair.image_counts, influences[1])
    result = interval(value, value + pair.fid_shifts_of_reference + of_images)
    return result._replace(low=max(result.low, 0.0))


def _line_shifts(counts: Counts, influence: FloatArray, subsets: Iterator[IntArray]) -> FloatArray:
    """Return how far each resample moves the value at 0 of a line through subsets."""
    terms = row_weights(len(influence), subsets) * influence
    return np.asarray(weighted_sums(counts, terms) - terms.sum())


def _subsets(
    pair: Pair, smallest: int | None, points: int, draws: SubsetDraws
) -> Iterator[IntArray]:
    n = pair.images.count or 0
    sizes = subset_sizes(n, smallest or smallest_subset(n), points)
    draw = {"independent": independent_subsets, "shuffled": shuffled_subsets}[draws]
    return draw(n, sizes, pair.seed)


def _fid_infinity(
    pair: Pair,
    smallest: int | None = None,
    points: int = 15,
    draws: SubsetDraws = "independent",
) -> Interval:
    assert pair.images.features is not None
    draw = partial(_subsets, pair, smallest, points, draws)
    value, _ = fid_infinity(rows_or_moments(pair.reference), pair.images.features, draw())
    influences = pair.fid_influences
    if influences is None:
        return _no_interval(value)
    of_images = _line_shifts(pair.image_counts, influences[1], draw())
    return interval(value, value + pair.fid_shifts_of_reference + of_images)


def _kid(pair: Pair, sigma: float | None = None) -> Interval:
    unbiased = pair.kids(sigma)
    return interval(unbiased[0], unbiased[1:])


def _kid_subsets(
    pair: Pair,
    subsets: int = 100,
    size: int | None = None,
    draws: KidDraws = "clean-fid",
    sigma: float | None = None,
) -> Interval:
    reference, images = pair.features()
    rows = kernels.draw_subsets(
        len(reference),
        len(images),
        min(1000, len(reference), len(images)) if size is None else size,
        subsets=subsets,
        seed=pair.seed,
        images_first=draws == "clean-fid",
    )
    values = kernels.kid_subsets(reference, images, rows, kernel_of(sigma))
    value = float(values.mean())
    if not pair.resamples or len(values) < 2:
        return _no_interval(value)
    # The mean of subsets varies with the rows, as KID of all of them does, and with the draws.
    kids = pair.kids(sigma)
    rng = np.random.default_rng([pair.seed, _DRAWS])
    noise = rng.normal(0, values.std(ddof=1) / math.sqrt(len(values)), len(kids) - 1)
    return interval(value, value + kids[1:] - kids[0] + noise)


def _cmmd(
    pair: Pair,
    normalise: bool = True,
    sigma: float = kernels.CMMD_SIGMA,
    scale: float = kernels.CMMD_SCALE,
) -> Interval:
    result = weighted_cmmd(pair, resample_weights(pair), normalise, sigma, scale)
    # Copies of rows in a resample would bias it upwards; the unbiased estimator leaves them out.
    shift = result.biased[0] - result.unbiased[0]
    limits = interval(result.biased[0], result.unbiased[1:] + shift)
    return limits._replace(low=max(limits.low, 0.0))


def _of_overlap(term: str, closed: bool, default: int) -> MetricFunction:
    of_images = term in ("precision", "density")

    def compute(pair: Pair, k: int = default) -> Interval:
        terms = getattr(pair.overlap(k, closed), term)
        return mean_interval(terms, pair.image_counts if of_images else pair.reference_counts)

    return compute


def _inception_score(
    pair: Pair, splits: int = 10, remainder: Remainder = "drop", shuffle: bool = False
) -> Interval:
    logits = pair.images.logits
    assert logits is not None
    seed = pair.seed if shuffle else None
    value = float(inception_scores(logits, splits, remainder=remainder, seed=seed).mean())
    resampled = resampled_inception_scores(logits, pair.image_counts, splits)
    # A resample holds fewer different images, so the mean of all is moved to the value.
    centre = np.nanmean(resampled) if np.isfinite(resampled).any() else math.nan
    return interval(value, value + resampled - centre)


def _is_infinity(
    pair: Pair,
    smallest: int | None = None,
    points: int = 15,
    splits: int = 1,
    draws: SubsetDraws = "shuffled",
) -> Interval:
    logits = pair.images.logits
    assert logits is not None
    draw = partial(_subsets, pair, smallest, points, draws)
    value = inception_score_infinity(logits, draw(), splits)[0]
    shift = _line_shifts(pair.image_counts, inception_score_influence(logits), draw())
    return interval(value, value + shift)


def _mifid(pair: Pair, threshold: float = MIFID_THRESHOLD, over: Side = "images") -> Interval:
    distances = memorisation_distances(*pair.features(), over)
    distance, value = distances.mean(), pair.fid()
    value_of_copies = value / float(memorisation_divisor(distance, threshold))
    if pair.fid_influences is None:
        return _no_interval(value_of_copies)
    shift = pair.fid_shifts_of_reference + shifts(pair.image_counts, pair.fid_influences[1])
    counts = pair.image_counts if over == "images" else pair.reference_counts
    of_resamples = distance
    if len(distances) == len(counts):  # else rows of zeros are left out
        of_resamples = distance + shifts(counts, distances - distance)
    fids = np.maximum(value + shift, 0)
    return interval(value_of_copies, fids / memorisation_divisor(of_resamples, threshold))


def _vendi(pair: Pair, order: float = 1.0) -> Interval:
    features = pair.images.features
    assert features is not None
    value = vendi(features, order)
    if not pair.resamples:
        return _no_interval(value)
    return interval(value, value + shifts(pair.image_counts, vendi_influence(features, order)))


def _mind(pair: Pair, projections: int = 1000, draws: MindDraws = "all-rows") -> Interval:
    sides = pair.features()
    rows = [np.arange(len(side)) for side in sides]
    if draws == "all-rows":
        directions = draw_directions(sides[0].shape[1], projections, pair.seed)
    else:
        rows, directions = _torch_fidelity_draws(sides, projections, pair.seed)
    reference, images = (side[chosen] for side, chosen in zip(sides, rows, strict=True))
    value = mind(reference, images, directions)
    if not pair.resamples:
        return _no_interval(value)
    influences = mind_influence(reference, images, directions)
    shift = shifts(pair.reference_counts[rows[0]], influences[0])
    shift += shifts(pair.image_counts[rows[1]], influences[1])
    result = interval(value, value + shift)
    return result._replace(low=max(result.low, 0.0))


def _torch_fidelity_draws(
    sides: Sequence[Features], projections: int, seed: int
) -> tuple[list[IntArray], FloatArray]:
    """Return as many rows of both sets, and directions, as torch-fidelity draws them."""
    import torch  # torch-fidelity draws with it

    generator = torch.Generator().manual_seed(seed)
    n = min(map(len, sides))
    rows = [
        np.arange(n)
        if len(side) == n
        else torch.randperm(len(side), generator=generator)[:n].numpy()
        for side in sides
    ]
    size = projections, sides[0].shape[1]
    directions = torch.randn(size, generator=generator, dtype=torch.float32).double().numpy()
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return rows, directions


def _authpct(pair: Pair) -> Interval:
    return mean_interval(100 * authenticity(*pair.features()), pair.image_counts)


def _listed() -> Iterator[DistanceMetric]:
    yield DistanceMetric("fid", "Frechet distance; 0 is best", _fid, "moments")
    yield DistanceMetric("fid-infinity", "FID at infinitely many images", _fid_infinity, "moments")
    yield DistanceMetric("kid", "kernel distance of all rows, unbiased; 0 is best", _kid)
    yield DistanceMetric("kid-subsets", "mean kernel distance of drawn subsets", _kid_subsets)
    yield DistanceMetric("cmmd", "MMD of unit vectors x 1,000; 0 is best", _cmmd)
    meanings = {
        "precision": "share of images among the reference",
        "recall": "share of the reference among the images",
        "density": "how densely the reference surrounds the images; about 1 is best",
        "coverage": "share of the reference with an image near it",
    }
    for term, meaning in meanings.items():
        yield DistanceMetric(term, meaning, _of_overlap(term, False, 5))
    for term in ("precision", "recall"):
        description = f"{term} as torch-fidelity, k = 3"
        yield DistanceMetric(f"{term}-k3", description, _of_overlap(term, True, 3))
    yield DistanceMetric(
        "inception-score",
        "sure and diverse classes; higher is better",
        _inception_score,
        "logits",
        alone=True,
    )
    yield DistanceMetric(
        "is-infinity",
        "inception score at infinitely many images",
        _is_infinity,
        "logits",
        alone=True,
    )
    yield DistanceMetric("mifid", "FID, raised where images are copies", _mifid)
    yield DistanceMetric("vendi", "effective number of different images", _vendi, alone=True)
    yield DistanceMetric("mind", "sliced Wasserstein distance x 3 d; 0 is best", _mind)
    yield DistanceMetric("authpct", "per cent of images that are no likely copies", _authpct)


METRICS: Mapping[str, DistanceMetric] = {metric.name: metric for metric in _listed()}
"""Every metric by name."""


def metric_of(name: str) -> DistanceMetric:
    """Return the metric of a name.

    Args:
        name: its name.

    Raises:
        UnknownNameError: no metric has it.

    >>> metric_of("cmmd").name
    'cmmd'
    """
    if name not in METRICS:
        remedy = f"The metrics are {', '.join(METRICS)}."
        raise UnknownNameError.nearest("metric", name, METRICS, remedy)
    return METRICS[name]


def why_no_interval(name: str, pair: Pair) -> str:
    """Return why a metric that was computed has no interval.

    Args:
        name: the metric.
        pair: what it was computed of.

    >>> from t2v_eval.evaluation.distances.feature_set import FeatureSet
    >>> rows = np.ones((3, 4))
    >>> why_no_interval("fid", Pair(FeatureSet("a", rows), FeatureSet("b", rows)))
    'no interval: a has no more images than features'
    """
    if not pair.resamples:
        return "no interval: `resamples=0`"
    if metric_of(name).needs == "moments" or name == "mifid":
        for side in (pair.reference, pair.images):
            if side.is_singular:
                return f"no interval: {side.name} has no more images than features"
        if pair.images.features is None:
            return f"no interval: {pair.images.name} holds no features of each image"
        if pair.fid_influences is None:
            return "no interval: the covariance of a set cannot be inverted; are all images alike?"
    return "no interval: the metric is undefined in most resamples"


def options_of(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of one metric from those of all.

    Args:
        name: the metric.
        options: values by "METRIC.OPTION".

    Raises:
        InputError: the metric has no such option, or the value is of another type.

    >>> options_of("precision", {"precision.k": 3, "kid-subsets.size": 500})
    {'k': 3}
    """
    metric = metric_of(name)
    metric_options = {
        key.partition(".")[2]: value for key, value in options.items() if key.startswith(f"{name}.")
    }
    types = inspect.get_annotations(metric.compute)
    for key, value in metric_options.items():
        if key not in metric.options:
            takes = ", ".join(metric.options) or "no options"
            raise InputError(
                f"`metric_options={{'{name}.{key}': {value!r}}}`: {name} takes {takes}"
            )
        _check_value(f"{name}.{key}", value, metric.options[key], str(types.get(key, "")))
    return metric_options


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "SubsetDraws": ("independent", "shuffled"),
    "KidDraws": ("clean-fid", "torch-fidelity"),
    "MindDraws": ("all-rows", "torch-fidelity"),
    "Remainder": ("drop", "spread"),
    "Side": ("images", "reference"),
}


def _check_value(key: str, value: Any, default: Any, annotation: str) -> None:
    """Check the type of an option's value by its annotation."""
    choices = _CHOICES.get(annotation)
    if choices is not None:
        is_valid, requirement = value in choices, " or ".join(map(repr, choices))
    elif isinstance(default, bool):
        is_valid, requirement = isinstance(value, bool), "true or false"
    elif "float" in annotation:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        is_valid, requirement = is_number and value > 0, "a number above 0"
    else:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        is_valid, requirement = is_whole and value > 0, "a whole number above 0"
    if not is_valid:
        raise InputError(f"`metric_options={{'{key}': {value!r}}}`: pass {requirement}")
