"""The distances of one or several generators to a reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from t2v_eval.stats.bootstrap import Interval

VERSION = 1
"""The version of the JSON of `Distances`."""


@dataclass(frozen=True, slots=True)
class PairDistances:
    """The distances of one set of images to the reference.

    Attributes:
        reference: the name of the reference; None where no metric needs one.
        images: the name of the images.
        counts: how many images both have, by "reference" and "images"; None where it is unknown.
        metrics: each metric with its 95 % interval, whose limits are NaN where there is none.
        warnings: what must be known to read them.

    >>> pair = PairDistances("a", "b", {"reference": 9, "images": 8}, {}, ())
    >>> pair.to_json()["counts"]
    {'reference': 9, 'images': 8}
    """

    reference: str | None
    images: str
    counts: Mapping[str, int | None]
    metrics: Mapping[str, Interval]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a dict for JSON; NaN stands for a missing limit."""
        return {
            "reference": self.reference,
            "images": self.images,
            "counts": dict(self.counts),
            "metrics": {name: value._asdict() for name, value in self.metrics.items()},
            "warnings": list(self.warnings),
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
