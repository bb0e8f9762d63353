"""The distances of one or several generators to a reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t2v_eval.stats.bootstrap import Interval

VERSION = 1
"""The version of the JSON of `Distances`."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric at several numbers of images, all with the whole reference.

    Attributes:
        counts: the numbers of images, growing.
        values: the metric of each.

    >>> Curve((10, 20), (0.5, 0.25)).counts
    (10, 20)
    """

    counts: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """An image, and the image of the reference that is nearest to it.

    Attributes:
        image: its name.
        neighbour: the name of the other.
        distance: the Euclidean distance of their features.
        file: the file of the image; None where it is unknown.
        neighbour_file: that of the other.

    >>> Example("a.png", "b.png", 1.5).file is None
    True
    """

    image: str
    neighbour: str
    distance: float
    file: Path | None = None
    neighbour_file: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        return {"image": self.image, "neighbour": self.neighbour, "distance": self.distance}


@dataclass(frozen=True, slots=True)
class Details:
    """What a report shows beside distances.

    Attributes:
        curves: metrics at fewer images.
        nearest: the images nearest to the reference, the nearest first.
        farthest: the images farthest from it, the farthest first.

    >>> Details({"kid": Curve((10, 20), (0.5, 0.25))}).to_json()["curves"]
    {'kid': {'images': [10, 20], 'values': [0.5, 0.25]}}
    """

    curves: Mapping[str, Curve]
    nearest: tuple[Example, ...] = ()
    farthest: tuple[Example, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a dict for JSON; NaN stands for a value that is undefined."""
        return {
            "curves": {
                name: {"images": list(curve.counts), "values": list(curve.values)}
                for name, curve in self.curves.items()
            },
            "nearest": [example.to_json() for example in self.nearest],
            "farthest": [example.to_json() for example in self.farthest],
        }


@dataclass(frozen=True, slots=True)
class PairDistances:
    """The distances of one set of images to the reference.

    Attributes:
        reference: the name of the reference; None where no metric needs one.
        images: the name of the images.
        counts: how many images both have, by "reference" and "images"; None where it is unknown.
        metrics: each metric with its 95 % interval, whose limits are NaN where there is none; NaN
            where the metric could not be computed.
        warnings: what must be known to read them.
        reasons: why a metric, or its interval, is missing.
        details: what a report shows beside them; None where that was not asked for.

    >>> pair = PairDistances("a", "b", {"reference": 9, "images": 8}, {}, ())
    >>> pair.to_json()["counts"]
    {'reference': 9, 'images': 8}
    """

    reference: str | None
    images: str
    counts: Mapping[str, int | None]
    metrics: Mapping[str, Interval]
    warnings: tuple[str, ...]
    reasons: Mapping[str, str] = field(default_factory=dict)
    details: Details | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a dict for JSON; NaN stands for a missing limit."""
        details = {} if self.details is None else self.details.to_json()
        return {
            "reference": self.reference,
            "images": self.images,
            "counts": dict(self.counts),
            "metrics": {name: value._asdict() for name, value in self.metrics.items()},
            "warnings": list(self.warnings),
            "reasons": dict(self.reasons),
            **details,
        }


@dataclass(frozen=True, slots=True)
class Distances:
    """What `t2v_eval.distance` returns.

    Attributes:
        features: what made the features: network, resizer, hash of weights and the like, as far as
            it is known, and the number of features of an image.
        pairs: the distances of each set of images, in the order in which they were passed.

    >>> Distances({"dimensions": 512}, ()).to_json()
    {'version': 1, 'features': {'dimensions': 512}, 'pairs': []}
    """

    features: Mapping[str, Any]
    pairs: tuple[PairDistances, ...]

    def __getitem__(self, metric: str) -> Interval:
        """Return a metric of the only set of images.

        Raises:
            KeyError: there are several sets, or the metric was not computed.
        """
        if len(self.pairs) != 1:
            raise KeyError(f"{len(self.pairs)} sets of images have a {metric}; use `pairs`")
        return self.pairs[0].metrics[metric]

    def to_json(self) -> dict[str, Any]:
        """Return a dict for JSON; NaN stands for a missing limit."""
        return {
            "version": VERSION,
            "features": dict(self.features),
            "pairs": [pair.to_json() for pair in self.pairs],
        }
