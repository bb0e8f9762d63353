"""Frechet distance between normal distributions: FID, FD-DINOv2 and FID-infinity.

    FID = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))

of means m and covariances S (Dowson and Landau 1982; Heusel et al. 2017, equation 6). The packages
agree on it, with covariances divided by n - 1; their numbers differ by the network and by how
images are resized, which is no part of these functions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import linalg

from t2v_eval.errors import InputError
from t2v_eval.stats.distances.features import (
    Features,
    blocks,
    check_dimensions,
    check_features,
    mean_of,
)
from t2v_eval.utils.arrays import FloatArray


class Moments(NamedTuple):
    """The mean and the covariance of a set of features; what files of pytorch-fid hold.

    Attributes:
        mean: shape (d,).
        covariance: shape (d, d), divided by n - 1.

    >>> Moments(np.zeros(2), np.eye(2)).mean
    array([0., 0.])
    """

    mean: FloatArray
    covariance: FloatArray


def moments(features: Features) -> Moments:
    """Compute the mean and the covariance of features, as `numpy.cov` does.

    Args:
        features: shape (n, d), n of at least 2.

    Raises:
        InputError: see `check_features`.

    >>> moments(np.array([[0.0, 0.0], [2.0, 4.0]])).covariance
    array([[2., 4.],
           [4., 8.]])
    """
    rows = check_features("features", features)
    mean = mean_of(rows)
    covariance = np.zeros((rows.shape[1], rows.shape[1]))
    for _, block in blocks(rows, mean):
        covariance += block.T @ block
    return Moments(mean, covariance / (len(rows) - 1))


def frechet_distance(reference: Moments, images: Moments) -> float:
    """Compute the Frechet distance of two normal distributions.

    The trace of the square root is the sum of the square roots of the eigenvalues of
    S1^(1/2) S2 S1^(1/2), which is symmetric, so that no complex number occurs.

    Args:
        reference: mean and covariance of the first, of d dimensions.
        images: mean and covariance of the second.

    Returns:
        0 or more.

    Raises:
        InputError: they differ in d.

    >>> frechet_distance(Moments(np.zeros(2), np.eye(2)), Moments(np.ones(2), 4 * np.eye(2)))
    4.0
    """
    check_dimensions(len(reference.mean), len(images.mean))
    gap = reference.mean - images.mean
    traces = np.trace(reference.covariance) + np.trace(images.covariance)
    root = _trace_of_root(reference.covariance, images.covariance)
    return max(float(gap @ gap + traces - 2 * root), 0.0)  # below 0 by rounding alone


def _trace_of_root(first: FloatArray, second: FloatArray) -> float:
    """Return tr (S1 S2)^(1/2) for covariances, which may be singular."""
    factor = _factor(first)
    values = linalg.eigvalsh(factor.T @ second @ factor, check_finite=False)
    return float(np.sqrt(values.clip(0)).sum())


def _factor(covariance: FloatArray) -> FloatArray:
    """Return F with F F^T = S: its Cholesky factor, or by eigenvalues where S is singular."""
    try:
        return np.asarray(linalg.cholesky(covariance, lower=True, check_finite=False))
    except linalg.LinAlgError:
        values, vectors = linalg.eigh(covariance, check_finite=False)
        return np.asarray(vectors * np.sqrt(values.clip(0)))


def fid(reference: Features | Moments, images: Features | Moments) -> float:
    """Compute the Frechet distance of two sets of features.

    Where a set has no more rows than features, its covariance is singular, and the trace of the
    square root is the sum of the singular values of F^T G for any factors F F^T and G G^T of the
    covariances, such as the centred features divided by sqrt(n - 1): the same value, faster and
    with more digits. Such a value depends more on n than on the images.

    Args:
        reference: shape (n, d), or moments.
        images: shape (m, d), or moments.

    Returns:
        0 or more; 0 for equal moments, up to rounding.

    Raises:
        InputError: see `check_pair`.

    >>> square = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> round(fid(square, square + 3.0), 6), round(fid(square, 2.0 * square), 6)
    (18.0, 1.166667)
    >>> round(fid(moments(square), square + 3.0), 6)
    18.0
    """
    of_reference, of_images = _summary("reference", reference), _summary("images", images)
    if isinstance(of_reference, Moments) and isinstance(of_images, Moments):
        return frechet_distance(of_reference, of_images)
    first, second = _factored(of_reference), _factored(of_images)
    check_dimensions(len(first.mean), len(second.mean))
    gap = first.mean - second.mean
    traces = (first.factor**2).sum() + (second.factor**2).sum()
    singular = linalg.svdvals(first.factor.T @ second.factor, check_finite=False)
    return max(float(gap @ gap + traces - 2 * singular.sum()), 0.0)


class _Factored(NamedTuple):
    """The mean of a set of features, and a factor F of its covariance F F^T, shape (d, r)."""

    mean: FloatArray
    factor: FloatArray


def _summary(name: str, side: Features | Moments) -> Moments | _Factored:
    """Return moments, or a factor where the covariance would be singular."""
    if isinstance(side, Moments):
        return side
    features = check_features(name, side)
    if len(features) > features.shape[1]:
        return moments(features)
    mean = mean_of(features)
    return _Factored(mean, (features - mean).T / np.sqrt(len(features) - 1.0))


def _factored(summary: Moments | _Factored) -> _Factored:
    if isinstance(summary, _Factored):
        return summary
    return _Factored(summary.mean, _factor(summary.covariance))


def fid_bias(covariance: FloatArray, n: int, m: int) -> float:
    """Compute what FID is expected to be for two samples of one normal distribution.

    The true distance is 0, so all of it is bias: FID is too **high** for few images, and falls as
    their number grows. To the first order in 1/n and 1/m,

        (1/n + 1/m) (tr S + 1/2 sum_ij (l_i l_j + [i = j] l_i^2) / (l_i + l_j))

    with the eigenvalues l of the covariance, by the second-order expansion of the Bures distance;
    for S = I and n = m, (2 d + d (d + 1) / 2) / n.

    Args:
        covariance: shape (d, d), for example of the reference.
        n: rows of the one sample, more than d for the formula to hold.
        m: rows of the other.

    Returns:
        0 or more, on the scale of FID.

    >>> fid_bias(np.eye(64), 1000, 1000)
    2.208
    """
    values = linalg.eigvalsh(covariance, check_finite=False).clip(0)
    values = values[values > values.max(initial=0) * 1e-12]
    pairs = (values[:, None] * values / (values[:, None] + values)).sum() + values.sum() / 2
    return float((1 / n + 1 / m) * (values.sum() + pairs / 2))


def fid_influence(
    reference: Features | Moments, images: Features, of: tuple[Moments, Moments] | None = None
) -> tuple[FloatArray, FloatArray]:
    """Compute how much each row moves FID: its influence function at both sets.

    FID of reweighted rows is FID + w1 . i1 / n + w2 . i2 / m to the first order, with the weights
    less 1. So a bootstrap of rows needs one product, while covariances of resamples, in which rows
    are repeated, would be biased upwards once more. The derivative of the trace of the root is the
    optimal transport map of the one normal distribution to the other (Bhatia, Jain and Lim 2019,
    "On the Bures-Wasserstein distance between positive definite matrices").

    Args:
        reference: shape (n, d), n > d; or moments, of which no row is known.
        images: shape (m, d), m > d.
        of: the moments of both, where they are known.

    Returns:
        The influences of both sets, shapes (n,) and (m,), of mean 0; none for moments.

    Raises:
        InputError: see `check_pair`, or a set has no more rows than features.

    >>> rows = np.random.default_rng(0).normal(size=(50, 3))
    >>> of_reference, of_images = fid_influence(rows, rows + 1)
    >>> of_reference.shape, bool(abs(of_images.mean()) < 1e-9)
    ((50,), True)
    """
    second = check_features("images", images)
    first = reference if isinstance(reference, Moments) else check_features("reference", reference)
    for side in (first, second):
        if not isinstance(side, Moments) and len(side) <= side.shape[1]:
            raise InputError(
                f"{len(side)} rows with {side.shape[1]} features: the influence of a row on FID "
                "needs more rows than features"
            )
    of_reference, of_images = of or tuple(
        side if isinstance(side, Moments) else moments(side) for side in (first, second)
    )
    check_dimensions(len(of_reference.mean), len(of_images.mean))
    gap = of_reference.mean - of_images.mean
    transport = _transport(_regular(of_reference.covariance), _regular(of_images.covariance))
    inverse = np.asarray(np.linalg.inv(transport), np.float64)
    return (
        np.zeros(0)
        if isinstance(first, Moments)
        else _influence(first, of_reference, 2 * gap, transport),
        _influence(second, of_images, -2 * gap, inverse),
    )


def _regular(covariance: FloatArray) -> FloatArray:
    """Return a covariance that can be inverted, also where a feature never varies."""
    smallest = 1e-10 * np.trace(covariance) / len(covariance)
    return np.asarray(
        covariance + max(smallest, np.finfo(np.float64).tiny) * np.eye(len(covariance))
    )


def _transport(source: FloatArray, target: FloatArray) -> FloatArray:
    """Return the matrix that maps N(0, source) to N(0, target)."""
    factor = _factor(source)
    values, vectors = linalg.eigh(factor.T @ target @ factor, check_finite=False)
    # With source = F F^T and F^T target F = V L V^T, the map is F^-T V L^(1/2) V^T F^-1.
    half = linalg.solve(factor.T, vectors * np.sqrt(np.sqrt(values.clip(0))))
    return np.asarray(half @ half.T)


def _influence(
    features: Features, distribution: Moments, slope: FloatArray, transport: FloatArray
) -> FloatArray:
    matrix = (np.eye(len(transport)) - transport) * (len(features) / (len(features) - 1))
    parts = [
        block @ slope + np.einsum("ij,ij->i", block @ matrix, block)
        for _, block in blocks(features, distribution.mean)
    ]
    influence = np.concatenate(parts)
    return np.asarray(influence - influence.mean())
