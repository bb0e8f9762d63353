"""A reference and the images that are compared with it, and what several metrics share."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from t2v_eval.evaluation.distances.feature_set import FeatureSet
from t2v_eval.stats.distances import kernel as kernels
from t2v_eval.stats.distances.features import Features
from t2v_eval.stats.distances.frechet import fid, fid_influence
from t2v_eval.stats.distances.manifold import Overlap, overlap
from t2v_eval.stats.distances.resampling import Counts, resample_counts, weighted_sums
from t2v_eval.utils.arrays import FloatArray


def rows_or_moments(side: FeatureSet) -> Any:
    """Return moments, computed once, or the rows where they are so few that moments are singular.

    Args:
        side: a set with rows or moments.

    >>> rows_or_moments(FeatureSet("few", np.ones((2, 3)))).shape
    (2, 3)
    """
    return side.features if side.is_singular else side.moments


@dataclass(frozen=True)
class Pair:
    """A reference, the images that are compared with it, and how their rows are resampled.

    Attributes:
        reference: the images that a generator should match.
        images: the images of a generator.
        seed: the random seed of subsets, directions and resamples.
        resamples: the number of resamples; 0 for no intervals.

    >>> rows = np.arange(8.0).reshape(4, 2)
    >>> Pair(FeatureSet("a", rows), FeatureSet("b", rows), 0, 10).image_counts.shape
    (4, 10)
    """

    reference: FeatureSet
    images: FeatureSet
    seed: int = 0
    resamples: int = 1000
    _overlaps: dict[tuple[int, bool], Overlap] = field(default_factory=dict)
    _kids: dict[float | None, FloatArray] = field(default_factory=dict)

    @cached_property
    def reference_counts(self) -> Counts:
        """How often each resample holds each row of the reference."""
        return resample_counts(self.reference.count or 0, self.resamples, self.seed, stream=0)

    @cached_property
    def image_counts(self) -> Counts:
        """How often each resample holds each image."""
        return resample_counts(self.images.count or 0, self.resamples, self.seed, stream=1)

    def features(self) -> tuple[Features, Features]:
        """Return the rows of both sets."""
        assert self.reference.features is not None
        assert self.images.features is not None
        return self.reference.features, self.images.features

    def fid(self) -> float:
        """Return FID of both sets."""
        return fid(rows_or_moments(self.reference), rows_or_moments(self.images))

    @cached_property
    def fid_influences(self) -> tuple[FloatArray, FloatArray] | None:
        """`fid_influence` of both sets; None without resamples, or where it is undefined.

        It is where a covariance is singular, for example of images that are all alike.
        """
        if not self.resamples or self.images.features is None:
            return None
        if self.reference.is_singular or self.images.is_singular:
            return None
        rows, of = self.reference.features, (self.reference.moments, self.images.moments)
        with suppress(np.linalg.LinAlgError):
            return fid_influence(of[0] if rows is None else rows, self.images.features, of)
        return None

    @cached_property
    def fid_shifts_of_reference(self) -> FloatArray:
        """How far each resample of the reference moves FID; 0 where only moments are known."""
        if self.fid_influences is None or self.reference.features is None:
            return np.zeros(self.resamples)
        return shifts(self.reference_counts, self.fid_influences[0])

    def kids(self, sigma: float | None) -> FloatArray:
        """Return KID of all rows, then of each resample, computed once for each kernel."""
        if sigma not in self._kids:
            self._kids[sigma] = weighted_kid(self, resample_weights(self), sigma)
        return self._kids[sigma]

    def overlap(self, k: int, closed: bool) -> Overlap:
        """Return `manifold.overlap`, computed once for each k."""
        if (k, closed) not in self._overlaps:
            radii = self.reference.ball_radii(k)
            self._overlaps[k, closed] = overlap(*self.features(), k, closed=closed, radii=radii)
        return self._overlaps[k, closed]


def shifts(counts: Counts, influence: FloatArray) -> FloatArray:
    """Return how far each resample moves a metric, to the first order.

    Args:
        counts: see `resample_counts`, shape (n, B).
        influence: of each row on the metric, of mean 0, shape (n,).

    Returns:
        Shape (B,).

    >>> shifts(np.array([[2], [0]]), np.array([0.5, -0.5]))
    array([0.5])
    """
    return weighted_sums(counts, influence) / len(influence)


def kernel_of(sigma: float | None) -> kernels.Kernel:
    """Return the kernel of KID, or a Gaussian one of this width.

    Args:
        sigma: the width; None for KID's.

    >>> kernel_of(None) is kernels.polynomial_kernel
    True
    """
    return kernels.polynomial_kernel if sigma is None else kernels.gaussian_kernel(sigma)


def resample_weights(pair: Pair) -> tuple[kernels.Weights, kernels.Weights]:
    """Return counts of all rows once, and of each resample.

    Args:
        pair: both sets.

    Returns:
        Shapes (n, 1 + B) and (m, 1 + B).

    >>> rows = np.arange(8.0).reshape(4, 2)
    >>> resample_weights(Pair(FeatureSet("a", rows), FeatureSet("b", rows), 0, 5))[0].shape
    (4, 6)
    """
    return tuple(  # type: ignore[return-value]
        np.concatenate([np.ones((len(counts), 1), counts.dtype), counts], axis=1)
        for counts in (pair.reference_counts, pair.image_counts)
    )


def weighted_kid(
    pair: Pair, weights: tuple[kernels.Weights, kernels.Weights], sigma: float | None = None
) -> FloatArray:
    """Return KID under several weightings of the rows, in one pass.

    Args:
        pair: both sets.
        weights: of the rows of both, shapes (n, B) and (m, B).
        sigma: see `kernel_of`.

    Returns:
        Shape (B,).

    >>> rows = np.array([[0.0], [2.0]])
    >>> pair = Pair(FeatureSet("a", rows), FeatureSet("b", rows + 2))
    >>> weighted_kid(pair, (np.ones((2, 1)), np.ones((2, 1))))
    array([302.])
    """
    return kernels.discrepancy(*pair.features(), kernel_of(sigma), weights).unbiased


def weighted_cmmd(
    pair: Pair,
    weights: tuple[kernels.Weights, kernels.Weights],
    normalise: bool = True,
    sigma: float = kernels.CMMD_SIGMA,
    scale: float = kernels.CMMD_SCALE,
) -> kernels.Discrepancy:
    """Return CMMD by both estimators under several weightings of the rows, in one pass.

    Args:
        pair: both sets.
        weights: of the rows of both, shapes (n, B) and (m, B).
        normalise: the option of cmmd; the next two as well.
        sigma: the width of the kernel.
        scale: the factor of the result.

    Returns:
        Both of shape (B,).

    >>> pair = Pair(FeatureSet("a", np.eye(2)), FeatureSet("b", -np.eye(2)))
    >>> weighted_cmmd(pair, (np.ones((2, 1)), np.ones((2, 1)))).biased.round(3)
    array([19.801])
    """
    sides = [kernels.unit_rows(side) if normalise else side for side in pair.features()]
    result = kernels.discrepancy(sides[0], sides[1], kernels.gaussian_kernel(sigma), weights)
    return kernels.Discrepancy(scale * result.unbiased, scale * result.biased)
