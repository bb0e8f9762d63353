"""Compare sets of images with a reference: `t2v_eval.distance`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from t2v_eval.errors import InputError
from t2v_eval.evaluation.distances.cautions import MANY, cautions, check_usable
from t2v_eval.evaluation.distances.details import details_of
from t2v_eval.evaluation.distances.feature_set import FeatureSet, Source, as_feature_set
from t2v_eval.evaluation.distances.metrics import (
    METRICS,
    metric_of,
    options_of,
    why_no_interval,
)
from t2v_eval.evaluation.distances.pair import Pair
from t2v_eval.evaluation.distances.parts import By, Part, Tags, read_tags, split
from t2v_eval.evaluation.distances.result import Distances, PairDistances
from t2v_eval.stats.bootstrap import Interval, check_count
from t2v_eval.utils.arguments import check_path

if TYPE_CHECKING:
    from t2v_eval.extractors.extractor import Extractor


def distance(
    reference: Source | None,
    images: Source | Sequence[Source],
    metrics: str | Sequence[str] = ("fid",),
    *,
    features: str | Extractor | None = None,
    cache: str | os.PathLike[str] | None = None,
    metric_options: Mapping[str, Any] | None = None,
    by: By | None = None,
    tags: str | os.PathLike[str] | None = None,
    details: bool = False,
    allow_few: bool = False,
    resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Distances:
    """Compute distances between a reference and the images of one or several generators.

    Where FID is asked for and there are fewer than 10,000 images, FID-infinity is computed too.
    Intervals are 95 %, by bootstrap over rows: of both sets for fid (to the first order, since
    repeated rows would bias it), fid-infinity, kid, kid-subsets, cmmd, mifid and mind; of the
    images for precision, density, authpct, vendi and the inception scores; of the reference for
    recall and coverage. A metric that fails is NaN, with its reason in `PairDistances.reasons`.

    Args:
        reference: the images that a generator should match: a folder of images; an `.npz` file of
            features, or of mean and covariance (pytorch-fid); or a matrix with a row of features
            for each image. None where all metrics look at the images alone.
        images: the images of a generator, or of several, in the same forms.
        metrics: names of `t2v_eval.evaluation.distances.metrics.METRICS`.
        features: the network that turns images of folders into features: a name (see
            `t2v_eval.extractors.names.load_extractor`) or an extractor. Default: the small dual
            encoder of the package, which was trained on drawings alone.
        cache: the folder of files that keep features between calls; None keeps none.
        metric_options: values by "METRIC.OPTION", such as {"kid-subsets.size": 500}.
        by: compare the images of each sub-folder ("folder") or tag ("tag") on their own: with those
            of the same of the reference, or with the whole reference where it has none.
        tags: a table with the columns `image` and `tag`, for `by="tag"`; see `parts.read_tags`.
        details: compute also what a report shows: metrics at fewer images, and the images nearest
            to and farthest from the reference.
        allow_few: compute FID also where a set has no more images than features.
        resamples: the number of bootstrap resamples; 0 for no intervals.
        seed: the random seed of subsets, directions and resamples.
        progress: called with a line before each metric.

    Returns:
        The metrics of each set of images, with what must be known to read them.

    Raises:
        InputError: a file or an argument cannot be used, a set lacks what a metric needs, or no
            metric could be computed.
        UnknownNameError: no metric or network has this name.
        CheckpointError: the weights of the network are missing or unsafe to unpickle.

    >>> rng = np.random.default_rng(0)
    >>> reference, images = rng.normal(size=(500, 8)), rng.normal(size=(400, 8)) + 0.5
    >>> result = distance(reference, images, ["kid", "precision"], resamples=100)
    >>> result["kid"].low > 0
    True
    >>> list(result.to_json()["pairs"][0]["counts"].values())
    [500, 400]
    """
    names = _names(metrics)
    options = _options(names, metric_options or {})
    check_count("resamples", resamples, 0)
    check_count("seed", seed, 0)
    table = _tags(by, tags)
    check_sources([reference, *_sources(images)])
    extract = _extraction(features, cache, progress)
    base = None if reference is None else as_feature_set(reference, "reference", extract)
    sets = _sets(images, extract)
    parts = [Part(base, image_set, ()) for image_set in sets]
    if by is not None:
        parts = [part for image_set in sets for part in split(base, image_set, by, table)]
    parts, left_out = _usable(parts, names, allow_few, by is not None)
    counts = [] if by else [image_set.count for image_set in sets if image_set.count is not None]
    pairs = []
    for part in parts:
        pair = Pair(part.reference or FeatureSet("none"), part.images, seed, resamples)
        names_of_pair = _with_infinity(names, part.images)
        values, reasons = _computed(pair, names_of_pair, options, progress)
        compares = part.reference is not None and not all(METRICS[name].alone for name in names)
        sizes = {
            "reference": pair.reference.count if compares else None,
            "images": part.images.count,
        }
        notes = cautions(part.reference, part.images, names_of_pair, counts)
        pairs.append(
            PairDistances(
                pair.reference.name if compares else None,
                part.images.name,
                sizes,
                values,
                (*notes, *part.notes, *left_out),
                reasons,
                details_of(pair, names_of_pair, options, progress) if details else None,
            )
        )
    if all(math.isnan(value.value) for pair in pairs for value in pair.metrics.values()):
        raise InputError(next(reason for pair in pairs for reason in pair.reasons.values()))
    return Distances(_made_by(base, sets), tuple(pairs))


def _tags(by: str | None, tags: str | os.PathLike[str] | None) -> Tags | None:
    if by not in (None, "folder", "tag"):
        raise InputError(f"`by={by!r}`: pass 'folder' or 'tag', or leave it out")
    if by != "tag":
        if tags is not None:
            raise InputError(f"`tags={os.fspath(tags)!r}`: pass `by='tag'`, too")
        return None
    if tags is None:
        raise InputError("`by='tag'`: pass a table with the columns image and tag as `tags=`")
    return read_tags(tags)


def _usable(
    parts: Sequence[Part], names: Sequence[str], allow_few: bool, are_parts: bool
) -> tuple[list[Part], list[str]]:
    """Return the parts that have what the metrics need, and why others are left out.

    Raises:
        InputError: a whole set cannot be used, or no part of it.
    """
    usable, faults = [], []
    for part in parts:
        try:
            if are_parts and part.images.count == 1:
                raise InputError(f"{part.images.name} has 1 image, which is no set")
            for name in names:
                check_usable(METRICS[name], part.reference, part.images, allow_few)
            usable.append(part)
        except InputError as error:
            faults.append(error)
    if faults and (not usable or not are_parts):
        raise faults[0]
    return usable, [f"left out: {fault}" for fault in faults]


def _computed(
    pair: Pair,
    names: Sequence[str],
    options: Mapping[str, Mapping[str, Any]],
    progress: Callable[[str], None] | None,
) -> tuple[dict[str, Interval], dict[str, str]]:
    """Return each metric of a pair, and why metrics or intervals are missing.

    A metric that fails does not lose those that have been computed.
    """
    values: dict[str, Interval] = {}
    reasons: dict[str, str] = {}
    for name in names:
        if progress is not None:
            progress(f"{pair.images.name}: {name}")
        try:
            values[name] = METRICS[name].compute(pair, **options.get(name, {}))
        except (InputError, np.linalg.LinAlgError, MemoryError) as error:
            values[name] = Interval(math.nan, math.nan, math.nan)
            reasons[name] = f"{pair.images.name}, {name}: {error or 'not enough memory'}"
            continue
        if math.isnan(values[name].low):
            reasons[name] = why_no_interval(name, pair)
    return values, reasons


def _names(metrics: str | Sequence[str]) -> list[str]:
    names = list(dict.fromkeys([metrics] if isinstance(metrics, str) else metrics))
    if not names:
        raise InputError(f"`metrics=[]`: pass one or more of {', '.join(METRICS)}")
    for name in names:
        metric_of(name)
    return names


def _options(names: Sequence[str], options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options of each metric, all of which must be asked for."""
    possible = {*names, *(["fid-infinity"] if "fid" in names else [])}
    for key, value in options.items():
        name = key.partition(".")[0]
        metric_of(name)
        if name not in possible:
            raise InputError(
                f"`metric_options={{'{key}': {value!r}}}`: {name} is not computed; add it to "
                "`metrics=`"
            )
    return {name: options_of(name, options) for name in possible}


def _extraction(
    features: str | Extractor | None,
    cache: str | os.PathLike[str] | None,
    progress: Callable[[str], None] | None,
) -> Callable[[Path], FeatureSet]:
    """Return a function that extracts the features of a folder; the network is loaded once."""
    loaded: list[Extractor] = []

    def extract(folder: Path) -> FeatureSet:
        from t2v_eval.evaluation.distances.folders import extract_folder

        if not loaded:
            loaded.append(_extractor(features))
        return extract_folder(folder, loaded[0], cache=cache, progress=progress)

    return extract


def _extractor(features: str | Extractor | None) -> Extractor:
    from t2v_eval.extractors.extractor import Extractor
    from t2v_eval.extractors.names import default_extractor, load_extractor

    if isinstance(features, Extractor):
        return features
    return load_extractor(features or default_extractor())


def _sources(images: Source | Sequence[Source]) -> list[Source]:
    if isinstance(images, (str, os.PathLike, FeatureSet, np.ndarray)):
        return [images]
    if not len(images):
        raise InputError("`images=[]`: pass one or more sets of images")
    return list(images)


def check_sources(sources: Sequence[Source | None]) -> None:
    """Check that files exist and folders hold images, before a network is loaded.

    Args:
        sources: as for `distance`; None is no source.

    Raises:
        InputError: a path does not exist, or a folder holds no images.

    >>> check_sources([None, np.ones((3, 2))])
    """
    from t2v_eval.evaluation.distances.folders import images_of

    for source in sources:
        if isinstance(source, (str, os.PathLike)):
            path = check_path("images", source).expanduser()
            if path.is_dir() or not path.exists():
                images_of(path)


def _sets(
    images: Source | Sequence[Source], extract: Callable[[Path], FeatureSet]
) -> list[FeatureSet]:
    sources = _sources(images)
    name = "images" if len(sources) == 1 else "images {}"
    return [as_feature_set(s, name.format(number), extract) for number, s in enumerate(sources, 1)]


def _with_infinity(names: Sequence[str], images: FeatureSet) -> list[str]:
    """Return the metrics to compute: FID of few images is shown beside FID-infinity."""
    features = images.features
    if "fid" not in names or "fid-infinity" in names or features is None:
        return list(names)
    if not features.shape[1] < len(features) < MANY or len(features) < 20:
        return list(names)
    place = names.index("fid") + 1
    return [*names[:place], "fid-infinity", *names[place:]]


def _made_by(reference: FeatureSet | None, sets: Sequence[FeatureSet]) -> dict[str, Any]:
    """Return what made the features, without what concerns the files of one set."""
    present = [source for source in (reference, *sets) if source is not None]
    made_by = next((dict(source.extractor) for source in present if source.extractor), {})
    made_by.pop("files", None)
    dimensions = next((s.dimensions for s in present if s.dimensions is not None), None)
    return {**made_by, "dimensions": dimensions}
