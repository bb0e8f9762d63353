"""Vendi score: the effective number of different images in a set; it needs no reference."""

from __future__ import annotations

import math

import numpy as np
from scipy import linalg

from t2v_eval.errors import InputError
from t2v_eval.stats.distances.features import Features, blocks, check_features


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
    rows = check_features("images", features, least=1)
    if not order > 0:
        raise InputError(f"`order={order!r}`: pass a number above 0")
    lengths = np.linalg.norm(rows, axis=1)
    if not lengths.all():
        raise InputError(f"images, row {int(lengths.argmin())} (from 0): all features are 0")
    if len(rows) <= rows.shape[1]:
        unit = rows / lengths[:, None].astype(np.float64)
        matrix = unit @ unit.T
    else:
        matrix = np.zeros((rows.shape[1], rows.shape[1]))
        for place, block in blocks(rows):
            block /= lengths[place, None]
            matrix += block.T @ block
    values = linalg.eigvalsh(matrix / len(rows), check_finite=False)
    values = values[values > 1e-15]
    values /= values.sum()
    if order == 1:
        entropy = -(values * np.log(values)).sum()
    elif math.isinf(order):
        entropy = -np.log(values.max())
    else:
        entropy = np.log((values**order).sum()) / (1 - order)
    return float(round(np.exp(entropy), 12))
