"""Precision, recall, density and coverage: how two sets of features overlap.

A set is described by balls around its rows that reach to the k-th nearest other row.

- precision: images within a ball of the reference, a share; recall: the reverse (Kynkaanniemi et
  al. 2019, "Improved Precision and Recall Metric", equation 1).
- density: balls of the reference that hold an image, divided by k, mean over images; coverage:
  balls of the reference that hold an image, a share (Naeem et al. 2020, "Reliable Fidelity and
  Diversity Metrics", equations 4 and 5).

The package prdc takes k = 5, and balls without their surface; torch-fidelity k = 3, with it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from t2v_eval.errors import InputError
from t2v_eval.stats.distances.features import Features, check_pair
from t2v_eval.stats.distances.neighbours import count_inside, largest_ratio, nearest
from t2v_eval.utils.arrays import FloatArray


class Overlap(NamedTuple):
    """The terms of each metric, a value for each row of one set; a metric is their mean.

    Attributes:
        precision: of each image, 0 or 1.
        recall: of each row of the reference, 0 or 1.
        density: of each image, 0 or more; its mean is about 1 for sets of one distribution.
        coverage: of each row of the reference, 0 or 1.

    >>> one = np.ones(2)
    >>> Overlap(one, one, one, one / 2).means()["coverage"]
    0.5
    """

    precision: FloatArray
    recall: FloatArray
    density: FloatArray
    coverage: FloatArray

    def means(self) -> dict[str, float]:
        """Return the metrics by name."""
        return {name: float(terms.mean()) for name, terms in self._asdict().items()}

    @property
    def f_score(self) -> float:
        """The harmonic mean of precision and recall; 0 where both are 0."""
        precision, recall = self.precision.mean(), self.recall.mean()
        return float(2 * precision * recall / max(1e-5, precision + recall))


def ball_radii(features: Features, k: int) -> FloatArray:
    """Compute the squared distance of each row to its k-th nearest other row.

    Args:
        features: shape (n, d).
        k: from 1 to n - 1.

    Returns:
        Shape (n,).

    Raises:
        InputError: `k` is out of its range.

    >>> ball_radii(np.array([[0.0], [1.0], [3.0]]), 1)
    array([1., 1., 4.])
    """
    if not 1 <= k < len(features):
        raise InputError(
            f"`k={k}`: of {len(features)} rows, each has {len(features) - 1} others; pass a k from "
            "1 to that"
        )
    return nearest(features, features, k).squares[:, -1]


def overlap(
    reference: Features,
    images: Features,
    k: int = 5,
    *,
    closed: bool = False,
    radii: FloatArray | None = None,
) -> Overlap:
    """Compute precision, recall, density and coverage of images.

    Args:
        reference: shape (n, d), n > k.
        images: shape (m, d), m > k.
        k: which nearest neighbour a ball reaches to; the row itself does not count.
        closed: whether a ball holds its surface: no as prdc, yes as torch-fidelity.
        radii: `ball_radii` of the reference, where they are known.

    Raises:
        InputError: see `check_pair`, or a set has no k neighbours.

    >>> reference = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> overlap(reference, reference + 0.5, k=1).means()
    {'precision': 1.0, 'recall': 1.0, 'density': 1.75, 'coverage': 1.0}
    """
    first, second = check_pair(reference, images)
    radii = ball_radii(first, k) if radii is None else radii
    own_radii = ball_radii(second, k)
    of_reference, of_images = count_inside(first, radii, second, own_radii, closed=closed)
    return Overlap(
        precision=(of_reference.balls > 0).astype(np.float64),
        recall=(of_images.balls > 0).astype(np.float64),
        density=of_reference.balls / k,
        coverage=(of_reference.points > 0).astype(np.float64),
    )


def realism(reference: Features, images: Features, k: int = 5) -> FloatArray:
    """Compute how near each image is to the reference, relative to the density there.

    The largest radius / distance over those rows of the reference whose radius is below the median
    radius (Kynkaanniemi et al. 2019, equation 3, as in dgm-eval).

    Args:
        reference: shape (n, d), n > k.
        images: shape (m, d).
        k: which nearest neighbour a ball reaches to.

    Returns:
        Shape (m,); 1 or more inside of a ball, infinite for copies of rows of the reference.

    Raises:
        InputError: see `check_pair`, or all radii are equal.

    >>> reference = np.array([[0.0], [1.0], [3.0], [6.0], [10.0]])
    >>> realism(reference, np.array([[0.5], [9.0]]), k=1)
    array([2.   , 0.125])
    """
    first, second = check_pair(reference, images, least=1)
    radii = ball_radii(first, k)
    small = radii < np.median(radii)
    if not small.any():
        raise InputError(
            f"no row of the reference has a radius below the median of {len(first)}: realism needs "
            "more rows, and few that are equal"
        )
    return largest_ratio(first[small], radii[small], second)
