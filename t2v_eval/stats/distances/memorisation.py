"""How many images are copies of the reference: AuthPct, and MiFID."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from t2v_eval.errors import InputError
from t2v_eval.stats.distances.features import Features, blocks, check_pair
from t2v_eval.stats.distances.frechet import fid
from t2v_eval.stats.distances.kernel import unit_rows
from t2v_eval.stats.distances.neighbours import nearest
from t2v_eval.utils.arrays import FloatArray

Side: TypeAlias = Literal["images", "reference"]

MIFID_THRESHOLD = 0.1
_SMALLEST = 1e-14  # divisor of MiFID for exact copies, as in torchmetrics


def authenticity(reference: Features, images: Features) -> FloatArray:
    """Return which images are farther from the nearest row than that row is from its neighbours.

    An image is authentic if its distance to the nearest row of the reference is larger than that
    row's distance to its own nearest other row (Alaa et al. 2022, "How Faithful is your Synthetic
    Data?", section 4; as in dgm-eval). AuthPct is 100 times the mean.

    Args:
        reference: the images that a generator was trained on, shape (n, d).
        images: shape (m, d).

    Returns:
        1 for authentic images and 0 for likely copies, shape (m,).

    Raises:
        InputError: see `check_pair`.

    >>> authenticity(np.array([[0.0], [1.0], [5.0]]), np.array([[0.1], [3.0], [9.5]]))
    array([0., 1., 1.])
    """
    first, second = check_pair(reference, images)
    to_nearest = nearest(first, first, 1).squares[:, 0]
    squares, rows = nearest(second, first, 1)
    return (to_nearest[rows[:, 0]] < squares[:, 0]).astype(np.float64)


def memorisation_distances(
    reference: Features, images: Features, over: Side = "images"
) -> FloatArray:
    """Compute the smallest cosine distance of each row of one set to the other set.

    1 - |cos|, of each image to the nearest row of the reference (Bai et al. 2021, "On Training
    Sample Memorization", equation 1).

    Args:
        reference: shape (n, d); rows of zeros are left out.
        images: shape (m, d); rows of zeros are left out.
        over: the set whose rows have distances; `mifid` averages them. torchmetrics 1.9 averages
            over the reference, so that copies of few rows do not count.

    Returns:
        From 0 (a copy, up to its scale) to 1; a row for each that is not left out.

    Raises:
        InputError: see `check_pair`, or all rows of a set are zeros.

    >>> memorisation_distances(np.eye(2), np.array([[2.0, 0.0], [1.0, 0.0]]))
    array([0., 0.])
    >>> memorisation_distances(np.eye(2), np.array([[2.0, 0.0], [1.0, 0.0]]), over="reference")
    array([0., 1.])
    """
    sides = [unit_rows(rows[rows.any(axis=1)]) for rows in check_pair(reference, images)]
    for name, side in zip(("reference", "images"), sides, strict=True):
        if not len(side):
            raise InputError(f"{name}: all features are 0, so that no row has a cosine distance")
    others, rows = sides if over == "images" else reversed(sides)
    nearest_cosine = np.zeros(len(rows))
    for place, block in blocks(rows):
        for _, other in blocks(others):
            cosines = np.abs(block @ other.T).max(axis=1)
            nearest_cosine[place] = np.maximum(nearest_cosine[place], cosines)
    return np.maximum(1 - nearest_cosine, 0)


def mifid(
    reference: Features,
    images: Features,
    threshold: float = MIFID_THRESHOLD,
    over: Side = "images",
) -> float:
    """Compute FID divided by the memorisation distance, where that is below a threshold.

    Bai et al. 2021, equation 3.

    Args:
        reference: shape (n, d).
        images: shape (m, d).
        threshold: the memorisation distance from which on nothing counts as copied.
        over: see `memorisation_distances`.

    Returns:
        FID, or a larger number where images are near copies.

    Raises:
        InputError: see `check_pair`.

    >>> rows = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> mifid(rows, 3 * rows) > 1000 * fid(rows, 3 * rows)
    True
    """
    distance = memorisation_distances(reference, images, over).mean()
    return float(fid(reference, images) / memorisation_divisor(distance, threshold))


def memorisation_divisor(
    distance: FloatArray | float, threshold: float = MIFID_THRESHOLD
) -> FloatArray:
    """Return what MiFID divides FID by: the memorisation distance, or 1 from the threshold on.

    Args:
        distance: mean memorisation distances.
        threshold: see `mifid`.

    >>> memorisation_divisor(np.array([0.05, 0.2]))
    array([0.05, 1.  ])
    """
    return np.where(np.asarray(distance) >= threshold, 1.0, np.asarray(distance) + _SMALLEST)
