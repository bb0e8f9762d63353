"""What must be known to read a distance: few images, unequal numbers, other networks, copies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from t2v_eval.errors import InputError
from t2v_eval.evaluation.distances.feature_set import FeatureSet
from t2v_eval.evaluation.distances.metrics import METRICS, DistanceMetric
from t2v_eval.stats.distances.features import Features
from t2v_eval.stats.distances.frechet import fid_bias

MANY = 10_000
"""Images from which on FID is customary."""

SUBSET = 1000
"""Images of a subset of kid-subsets, as published."""

OF_MOMENTS = ("fid", "fid-infinity", "mifid")
"""Metrics of covariances, which few images make singular."""

_NAMED = 10  # images that cannot be read and are named in a warning

_MADE_BY = ("network", "weights", "dtype", "layer")


def check_usable(
    metric: DistanceMetric, reference: FeatureSet | None, images: FeatureSet, allow_few: bool
) -> None:
    """Check that two sets have what a metric needs.

    Args:
        metric: the metric.
        reference: the reference; None where there is none.
        images: the images.
        allow_few: whether covariances of fewer images than features are allowed.

    Raises:
        InputError: they do not.

    >>> check_usable(METRICS["vendi"], None, FeatureSet("mine", np.ones((3, 2))), False)
    """
    sides = [images] if metric.alone else [reference, images]
    for side in sides:
        if side is None:
            raise InputError(f"{metric.name} compares images with a reference: pass `reference=`")
        if metric.needs == "logits" and side.logits is None:
            raise InputError(
                f"{side.name} holds no logits, which {metric.name} needs: pass an .npz file with "
                "an array `logits`, a row of the classifier's outputs for each image"
            )
        needs_rows = metric.needs == "features" or (
            metric.name == "fid-infinity" and side is images
        )
        if needs_rows and side.features is None:
            content = "mean and covariance" if side.known_moments is not None else "logits"
            raise InputError(
                f"{side.name} holds {content} alone, and {metric.name} needs features of each "
                "image: pass images, or an .npz file with an array `features`"
            )
        if metric.needs == "moments" and side.dimensions is None:
            raise InputError(f"{side.name} holds logits alone, and {metric.name} needs features")
        if metric.name in OF_MOMENTS and not allow_few:
            _check_many(metric.name, side)
    if not metric.alone and reference is not None:
        check_same_network(reference, images)


def _check_many(name: str, side: FeatureSet) -> None:
    if side.features is not None and side.is_singular:
        n, d = side.features.shape
        raise InputError(
            f"{side.name} has n = {n} images and d = {d} features: with no more images than "
            f"features, {name} says more about their number than about the images. Use kid or "
            f"cmmd, pass more than {d} images, or `allow_few=True`"
        )


def check_same_network(reference: FeatureSet, images: FeatureSet) -> None:
    """Check that the features of two sets are of one network.

    Args:
        reference: the reference.
        images: the images.

    Raises:
        InputError: they have unequal numbers of features, or files say that networks differ.

    >>> check_same_network(FeatureSet("a", np.ones((3, 2))), FeatureSet("b", np.ones((5, 2))))
    """
    dimensions, other = reference.dimensions, images.dimensions
    if dimensions is not None and other is not None and dimensions != other:
        raise InputError(
            f"{reference.name} has {dimensions} features an image and {images.name} {other}: "
            "pass features of the same network"
        )
    for key in _MADE_BY:
        first, second = reference.extractor.get(key), images.extractor.get(key)
        if first is not None and second is not None and first != second:
            raise InputError(
                f"{reference.name} was made with {key} {first!r} and {images.name} with "
                f"{second!r}: extract both with the same network"
            )


def cautions(
    reference: FeatureSet | None, images: FeatureSet, names: Sequence[str], others: Sequence[int]
) -> list[str]:
    """Return what must be known to read the distances of a pair, most important first.

    Args:
        reference: the reference; None where there is none.
        images: the images.
        names: the metrics that are computed.
        others: numbers of images of the other generators in the same call.

    >>> rows = np.random.default_rng(0).normal(size=(40, 2))
    >>> reference, images = FeatureSet("a", rows[:20]), FeatureSet("b", rows[20:])
    >>> cautions(reference, images, ["fid"], [])[0].split(",")[0]
    'b: 20 images. FID is too high for few images'
    """
    compares = any(not METRICS[name].alone for name in names)
    both = [reference, images] if reference is not None and compares else [images]
    result: list[str] = []
    if reference is not None and any(name in OF_MOMENTS for name in names):
        result += _of_few(reference, images)
    if reference is not None:
        result += _of_unequal(reference, images, names)
    count = images.count
    if count is not None and any(other != count for other in others):
        numbers = " and ".join(f"{n:,}" for n in sorted({*others, count}))
        result.append(
            f"{images.name}: generators have unequal numbers of images ({numbers}); only kid is "
            "comparable between them"
        )
    if reference is not None and compares:
        result += _of_extraction(reference, images)
    result += file_cautions(both)
    for side in both:
        if side.features is not None:
            repeated = len(side.features) - len(_hashes(side.features))
            if repeated:
                result.append(f"{side.name}: {repeated} of {side.count} rows repeat another row")
    minimum = min(side.count or SUBSET for side in both)
    if "kid-subsets" in names and minimum < SUBSET:
        result.append(
            f"{images.name}: subsets of kid-subsets have {minimum} images, not {SUBSET:,}"
        )
    return result


def _of_few(reference: FeatureSet, images: FeatureSet) -> Iterator[str]:
    n, m, d = reference.count, images.count, images.dimensions
    few = [side for side in (images, reference) if side.count is not None and side.count < MANY]
    if not few or d is None:
        return
    excess = ""
    if not (reference.is_singular or images.is_singular):
        # A file of statistics does not say its number, which is large where it is published.
        bias = fid_bias(reference.moments.covariance, n or 10**9, m or 10**9)
        excess = f", by about {bias:.3g} here"
    yield (
        f"{few[0].name}: {few[0].count:,} images. FID is too high for few images{excess}; compare "
        "it only at equal numbers, or use kid"
    )
    for side in (reference, images):
        if side.is_singular:
            yield (
                f"{side.name}: {side.count:,} images and {d:,} features; its covariance is singular"
            )


def _of_unequal(reference: FeatureSet, images: FeatureSet, names: Sequence[str]) -> Iterator[str]:
    n, m = reference.count, images.count
    if n is None or m is None or n == m:
        return
    is_told = min(n, m) < MANY  # by `_of_few`
    affected = [
        name
        for name in names
        if not METRICS[name].alone
        and not name.startswith("kid")
        and not (is_told and name in OF_MOMENTS)
    ]
    if affected:
        depend = "depends" if len(affected) == 1 else "depend"
        yield (
            f"{images.name}: {m:,} images, and {n:,} of {reference.name}; {', '.join(affected)} "
            f"{depend} on both numbers: compare only at equal ones"
        )


def _of_extraction(reference: FeatureSet, images: FeatureSet) -> Iterator[str]:
    first, second = reference.extractor, images.extractor
    if bool(first) != bool(second):
        documented, undocumented = (reference, images) if first else (images, reference)
        yield (
            f"{undocumented.name} does not say what made its features; those of "
            f"{documented.name} may be of another network or resizer"
        )
    if len({made_by["resize"] for made_by in (first, second) if "resize" in made_by}) > 1:
        yield (
            f"{reference.name} was resized by {first['resize']!r} and {images.name} by "
            f"{second['resize']!r}: FID differs between resizers"
        )
    if reference.features is not None and images.features is not None:
        shared = len(_hashes(reference.features) & _hashes(images.features))
        if shared:
            yield (
                f"{images.name}: rows that {reference.name} holds, too: {shared}; a distance to "
                "images that a set holds itself is too low"
            )


def file_cautions(sides: Sequence[FeatureSet]) -> Iterator[str]:
    """Yield what the files of images were like, where their features say so.

    Args:
        sides: whole sets of images: the reference, if any, and the images.

    >>> list(file_cautions([FeatureSet("a", extractor={"files": {"grayscale": 3}})]))
    ['a: 3 images in grayscale']
    """
    for side in sides:
        yield from _of_files(side)
    sizes = [((side.extractor.get("files") or {}).get("sizes") or []) for side in sides]
    if len(sides) == 2 and len(sizes[0]) == len(sizes[1]) == 1 and sizes[0] != sizes[1]:
        first, second = (f"{width} x {height}" for ((width, height),) in sizes)
        yield (
            f"{sides[0].name} has images of {first} pixels and {sides[1].name} of {second}: "
            "distances depend on resolutions, too"
        )


def _of_files(side: FeatureSet) -> Iterator[str]:
    notes: dict[str, Any] = side.extractor.get("files") or {}
    unreadable: Mapping[str, str] = notes.get("unreadable") or {}
    if unreadable:
        examples = "; ".join(list(unreadable.values())[:_NAMED])
        more = f"; and {len(unreadable) - _NAMED} more" * (len(unreadable) > _NAMED)
        yield f"{side.name}: {_images(len(unreadable))} left out: {examples}{more}"
    if formats := notes.get("other_formats"):
        others = _images(sum(formats.values()))
        yield f"{side.name}: {others} of other formats ({', '.join(sorted(formats))}) left out"
    if count := notes.get("broken_links"):
        yield f"{side.name}: broken links, left out: {count}"
    if count := notes.get("linked_folders"):
        yield f"{side.name}: links to folders, not followed: {count}; pass those folders themselves"
    for key, description in (
        ("grayscale", "in grayscale"),
        ("rotated", "turned as EXIF data say"),
        ("transparent", "transparent in parts, shown on white"),
    ):
        if count := notes.get(key):
            yield f"{side.name}: {_images(count)} {description}"
    if len(notes.get("sizes", ())) > 1:
        yield f"{side.name}: images of different resolutions"


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _hashes(features: Features) -> set[bytes]:
    """Return the different rows, as hashes of their values in float32."""
    rows = (row.astype(np.float32).tobytes() for row in features)
    return {hashlib.blake2b(row, digest_size=16).digest() for row in rows}
