"""Vendi score: the effective number of different images in a set; it needs no reference."""

from __future__ import annotations

import math

import numpy as np
from scipy import linalg

from t2v_eval.errors import InputError
from t2v_eval.stats.distances.features import Features, blocks, check_features
from t2v_eval.stats.distances.kernel import unit_rows
from t2v_eval.utils.arrays import FloatArray

_SMALLEST = 1e-15  # of eigenvalues that count


def vendi(features: Features, order: float = 1.0) -> float:
    """Compute the exponential of the Renyi entropy of the eigenvalues of K / n.

    K are the cosines of all pairs (Friedman and Dieng 2023, "The Vendi Score", definition 3.1;
    Pasarkar and Dieng 2024 for other orders). The eigenvalues are those of the smaller of K / n and
    the second moments of the unit vectors. dgm-eval's polynomial kernel is not 1 on its diagonal,
    which the score requires, and is left out.

    Args:
        features: shape (n, d); a row of zeros is an error.
        order: the order of the entropy, above 0; 1 is Shannon's, infinity the largest eigenvalue.

    Returns:
        From 1 (all images alike) to the smaller of n and d.

    Raises:
        InputError: see `check_features`; a row of zeros; the order is not above 0.

    >>> vendi(np.eye(3)), vendi(np.ones((3, 2)))
    (3.0, 1.0)
    """
    rows, lengths = _checked(features, order)
    if len(rows) <= rows.shape[1]:
        unit = rows / lengths[:, None].astype(np.float64)
        matrix = unit @ unit.T / len(rows)
    else:
        matrix = _second_moments(rows, lengths)
    values = linalg.eigvalsh(matrix, check_finite=False)
    values = values[values > _SMALLEST]
    values /= values.sum()
    if order == 1:
        entropy = -(values * np.log(values)).sum()
    elif math.isinf(order):
        entropy = -np.log(values.max())
    else:
        entropy = np.log((values**order).sum()) / (1 - order)
    return float(round(np.exp(entropy), 12))


def _checked(features: Features, order: float) -> tuple[Features, FloatArray]:
    """Return rows and their lengths."""
    rows = check_features("images", features, least=1)
    if not order > 0:
        raise InputError(f"`order={order!r}`: pass a number above 0")
    lengths = np.linalg.norm(rows, axis=1)
    if not lengths.all():
        raise InputError(f"images, row {int(lengths.argmin())} (from 0): all features are 0")
    return rows, lengths


def _second_moments(rows: Features, lengths: FloatArray) -> FloatArray:
    """Return the mean of u u^T over rows u divided by their lengths."""
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for place, block in blocks(rows):
        block /= lengths[place, None]
        total += block.T @ block
    return total / len(rows)


def vendi_influence(features: Features, order: float = 1.0) -> FloatArray:
    """Compute how much each row moves the Vendi score, to the first order.

    The eigenvalues l of the second moments of unit vectors change by (u.v)^2 - l for more weight of
    the row u, with their eigenvectors v; the entropy changes by its derivative at each l. A
    bootstrap by repeated rows would find too little diversity.

    Args:
        features: shape (n, d).
        order: see `vendi`.

    Returns:
        Shape (n,), of mean 0.

    Raises:
        InputError: as `vendi`.

    >>> vendi_influence(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])).round(3)
    array([-0.437, -0.437,  0.873])
    """
    rows, lengths = _checked(features, order)
    if len(rows) > rows.shape[1]:
        values, vectors = linalg.eigh(_second_moments(rows, lengths), check_finite=False)
    else:
        root = unit_rows(rows) / np.sqrt(len(rows))
        _, singular, transposed = linalg.svd(root, full_matrices=False, check_finite=False)
        values, vectors = np.square(singular), transposed.T
    vectors = vectors[:, values > _SMALLEST]
    values = values[values > _SMALLEST]
    values /= values.sum()
    if order == 1:
        slope = -np.log(values)
    elif math.isinf(order):
        slope = np.where(values == values.max(), -1 / values.max(), 0)
    else:
        slope = order * values ** (order - 1) / ((1 - order) * (values**order).sum())
    terms = np.empty(len(rows))
    for place, block in blocks(rows):
        block /= lengths[place, None]
        terms[place] = np.square(block @ vectors) @ slope
    return np.asarray(vendi(features, order) * (terms - terms.mean()))
