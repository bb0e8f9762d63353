"""What a report shows beside distances: their values at fewer images, and single images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from t2v_eval.errors import InputError
from t2v_eval.evaluation.distances.cautions import OF_MOMENTS
from t2v_eval.evaluation.distances.metrics import METRICS
from t2v_eval.evaluation.distances.pair import Pair, weighted_cmmd, weighted_kid
from t2v_eval.evaluation.distances.result import Curve, Details, Example
from t2v_eval.stats.bootstrap import IntArray
from t2v_eval.stats.distances.neighbours import nearest
from t2v_eval.utils.arrays import FloatArray

SHOWN = 8
"""Images nearest to the reference, and as many farthest from it."""

_SIZES = 6  # numbers of images of a curve
_FEWEST = 10
_WITHOUT_CURVE = ("fid-infinity", "is-infinity", "kid-subsets")  # they draw subsets of their own
_ROWS = 3  # the stream of random numbers of rows that a curve begins with


def details_of(
    pair: Pair,
    names: Sequence[str],
    options: Mapping[str, Mapping[str, Any]],
    progress: Callable[[str], None] | None = None,
) -> Details:
    """Compute metrics of fewer images, and which images are nearest and farthest.

    Args:
        pair: the reference and the images.
        names: the metrics.
        options: the options of each metric.
        progress: called with a line before each metric.

    >>> rows = np.random.default_rng(0).normal(size=(60, 2))
    >>> from t2v_eval.evaluation.distances.feature_set import FeatureSet
    >>> pair = Pair(FeatureSet("a", rows), FeatureSet("b", rows[:40] + 1))
    >>> details = details_of(pair, ["kid"], {})
    >>> details.curves["kid"].counts
    (10, 13, 17, 23, 30, 40)
    >>> details.nearest[0].distance < details.farthest[0].distance
    True
    """
    curves = {}
    for name in names:
        if name in _WITHOUT_CURVE:
            continue
        if progress is not None:
            progress(f"{pair.images.name}: {name} of fewer images")
        curve = _curve(pair, name, options.get(name, {}))
        if len(curve.counts) > 1:
            curves[name] = curve
    if progress is not None:
        progress(f"{pair.images.name}: nearest images")
    closest, farthest = _examples(pair)
    return Details(curves, closest, farthest)


def _curve(pair: Pair, name: str, options: Mapping[str, Any]) -> Curve:
    """Return a metric of the first images in a random order, the same order for all metrics."""
    n = pair.images.count or 0
    fewest = max(n // 10, _FEWEST)
    if name in OF_MOMENTS and not pair.images.is_singular:
        fewest = max(fewest, (pair.images.dimensions or 0) + 1)
    if fewest >= n:
        return Curve((), ())
    order = np.random.default_rng([pair.seed, _ROWS]).permutation(n)
    counts = np.unique(np.geomspace(fewest, n, _SIZES).round().astype(int)).tolist()
    subsets = [np.sort(order[:count]) for count in counts]
    if name in ("kid", "cmmd"):
        return Curve(tuple(counts), tuple(_in_one_pass(pair, name, options, subsets).tolist()))
    values = {}
    for count, rows in zip(counts, subsets, strict=True):
        part = Pair(pair.reference, pair.images.rows(rows, pair.images.name), pair.seed, 0)
        # Few images may be too few for an option of the metric, such as k.
        with suppress(InputError):
            values[count] = METRICS[name].compute(part, **options).value
    return Curve(tuple(values), tuple(values.values()))


def _in_one_pass(
    pair: Pair, name: str, options: Mapping[str, Any], subsets: Sequence[IntArray]
) -> FloatArray:
    """Return a kernel distance of each subset, with the kernels of all pairs computed once."""
    of_images = np.zeros((pair.images.count or 0, len(subsets)), np.uint8)
    for k, rows in enumerate(subsets):
        of_images[rows, k] = 1
    weights = np.ones((pair.reference.count or 0, len(subsets)), np.uint8), of_images
    if name == "kid":
        return weighted_kid(pair, weights, **options)
    return weighted_cmmd(pair, weights, **options).biased


def _examples(pair: Pair) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Return the images nearest to the reference, and the farthest from it."""
    reference, images = pair.reference, pair.images
    if reference.features is None or images.features is None:
        return (), ()
    squares, neighbours = nearest(images.features, reference.features, 1)
    order = np.argsort(squares[:, 0], kind="stable")
    chosen = order[:SHOWN], order[SHOWN:][::-1][:SHOWN]
    return tuple(  # type: ignore[return-value]
        tuple(
            Example(
                images.name_of(row),
                reference.name_of(neighbours[row, 0]),
                float(np.sqrt(squares[row, 0])),
                images.file_of(row),
                reference.file_of(neighbours[row, 0]),
            )
            for row in rows
        )
        for rows in chosen
    )
