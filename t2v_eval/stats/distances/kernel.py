"""Maximum mean discrepancy between sets of features: KID and CMMD.

    MMD^2 = mean k(x, x') + mean k(y, y') - 2 mean k(x, y)

The unbiased estimator leaves out pairs of a row with itself and may be below 0; the biased one
keeps them (Gretton et al. 2012, "A Kernel Two-Sample Test", equations 3 and 5). Kernels are
computed in blocks, so that no n x n matrix is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import InputError
from t2v_eval.stats.bootstrap import IntArray
from t2v_eval.stats.distances.features import Features, blocks, check_pair
from t2v_eval.utils.arrays import FloatArray

Kernel: TypeAlias = Callable[[FloatArray, FloatArray], FloatArray]
"""A function of rows (n, d) and rows (m, d) that returns the kernel of all pairs, (n, m)."""
Weights: TypeAlias = NDArray[np.number[Any]]
"""Weights of n rows in B samples, shape (n, B), of any type of number."""


def polynomial_kernel(
    x: FloatArray,
    y: FloatArray,
    degree: int = 3,
    gamma: float | None = None,
    offset: float = 1.0,
) -> FloatArray:
    """Compute (gamma x.y + offset)^degree; by default the kernel of KID, (x.y / d + 1)^3.

    Args:
        x: shape (n, d).
        y: shape (m, d).
        degree: the power.
        gamma: the factor of the product; by default 1 / d.
        offset: what is added to it.

    Returns:
        Shape (n, m).

    >>> polynomial_kernel(np.ones((1, 2)), np.array([[1.0, 1.0], [0.0, 0.0]]))
    array([[8., 1.]])
    """
    kernel = x @ y.T
    kernel *= 1 / x.shape[1] if gamma is None else gamma
    kernel += offset
    if degree == 3:  # much faster than a power
        return np.asarray(kernel * kernel * kernel)
    return np.asarray(kernel**degree)


def gaussian_kernel(sigma: float) -> Kernel:
    """Return the kernel exp(-|x - y|^2 / (2 sigma^2)).

    Args:
        sigma: the width, more than 0.

    Raises:
        InputError: sigma is not above 0.

    >>> gaussian_kernel(1.0)(np.zeros((1, 2)), np.array([[0.0, 0.0], [1.0, 1.0]])).round(4)
    array([[1.    , 0.3679]])
    """
    if not sigma > 0:
        raise InputError(f"`sigma={sigma!r}`: pass a number above 0")

    def kernel(x: FloatArray, y: FloatArray) -> FloatArray:
        squares = np.einsum("ij,ij->i", x, x)[:, None] + np.einsum("ij,ij->i", y, y)
        return np.asarray(np.exp((2 * (x @ y.T) - squares) / (2 * sigma**2)))

    return kernel


class Discrepancy(NamedTuple):
    """MMD^2 by both estimators, under B weightings of the rows.

    Attributes:
        unbiased: shape (B,); may be below 0.
        biased: shape (B,); 0 or more.

    >>> Discrepancy(np.array([-0.1]), np.array([0.1])).unbiased
    array([-0.1])
    """

    unbiased: FloatArray
    biased: FloatArray


def discrepancy(
    reference: Features,
    images: Features,
    kernel: Kernel,
    weights: tuple[Weights, Weights] | None = None,
) -> Discrepancy:
    """Compute MMD^2 for one or many weightings of rows, such as bootstrap counts, in one pass.

    Pairs of a row with itself are left out by the unbiased estimator also where a resample holds
    the row several times.

    Args:
        reference: shape (n, d).
        images: shape (m, d).
        kernel: the kernel.
        weights: of the rows of both sets, shapes (n, B) and (m, B); by default 1, with B = 1.

    Raises:
        InputError: see `check_pair`.

    >>> rows = np.array([[0.0], [1.0], [2.0]])
    >>> discrepancy(rows, rows, polynomial_kernel).biased
    array([0.])
    """
    x, y = check_pair(reference, images)
    u, v = weights or (np.ones((len(x), 1)), np.ones((len(y), 1)))
    pairs_x, own_x = _within(x, kernel, u)
    pairs_y, own_y = _within(y, kernel, v)
    total_u, total_v = (w.sum(axis=0, dtype=np.float64) for w in (u, v))
    across = 2 * _across(x, y, kernel, u, v) / (total_u * total_v)
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample of one row has no pairs
        unbiased = pairs_x / _pairs(u) + pairs_y / _pairs(v) - across
    biased = (pairs_x + own_x) / total_u**2 + (pairs_y + own_y) / total_v**2 - across
    return Discrepancy(unbiased, np.maximum(biased, 0))  # below 0 by rounding alone


def _pairs(weights: Weights) -> FloatArray:
    """Return the total weight of ordered pairs of different rows, shape (B,)."""
    total = np.zeros(weights.shape[1])
    for _, block in blocks(weights):
        total -= (block**2).sum(axis=0)
    return np.asarray(total + weights.sum(axis=0, dtype=np.float64) ** 2)


def _within(x: Features, kernel: Kernel, weights: Weights) -> tuple[FloatArray, FloatArray]:
    """Return the weighted sums over pairs of different rows, and of rows with themselves."""
    pairs, diagonal = np.zeros((2, weights.shape[1]))
    for place, block in blocks(x):
        of_block = weights[place].astype(np.float64)
        for other_place, other in blocks(x[place.start :]):
            if other_place.start:
                shifted = slice(place.start + other_place.start, place.start + other_place.stop)
                values = kernel(block, other) @ weights[shifted].astype(np.float64)
                pairs += 2 * np.einsum("ib,ib->b", of_block, values)
                continue
            square = kernel(block, block)
            diagonal += square.diagonal() @ of_block**2
            np.fill_diagonal(square, 0)
            pairs += np.einsum("ib,ib->b", of_block, square @ of_block)
    return pairs, diagonal


def _across(x: Features, y: Features, kernel: Kernel, of_x: Weights, of_y: Weights) -> FloatArray:
    """Return the weighted sums over all pairs of a row of x and a row of y, shape (B,)."""
    total = np.zeros(of_x.shape[1])
    for place, block in blocks(x):
        for other_place, other in blocks(y):
            values = kernel(block, other) @ of_y[other_place].astype(np.float64)
            total += np.einsum("ib,ib->b", of_x[place], values)
    return total


def kid(reference: Features, images: Features, kernel: Kernel = polynomial_kernel) -> float:
    """Compute the kernel distance of all rows, without bias and without drawing subsets.

    It is the mean of `kid_subsets` over all subsets (Binkowski et al. 2018, "Demystifying MMD
    GANs", section 4). Papers often print 1,000 times this number.

    Args:
        reference: shape (n, d), n of at least 2.
        images: shape (m, d), m of at least 2.
        kernel: the kernel; by default (x.y / d + 1)^3.

    Returns:
        The unbiased MMD^2; about 0 for sets of one distribution, and then as often below 0.

    Raises:
        InputError: see `check_pair`.

    >>> kid(np.array([[0.0], [2.0]]), np.array([[2.0], [4.0]]))
    302.0
    """
    return float(discrepancy(reference, images, kernel).unbiased[0])


def draw_subsets(
    n: int, m: int, size: int, *, subsets: int = 100, seed: int = 0, images_first: bool = True
) -> Iterator[tuple[IntArray, IntArray]]:
    """Draw rows of reference and images for `kid_subsets`, without replacement in each subset.

    clean-fid draws from `numpy.random.RandomState` the images first; torch-fidelity (seed 2020) and
    dgm-eval the reference first.

    Args:
        n: rows of the reference.
        m: rows of the images.
        size: rows of a subset, at most n and m.
        subsets: the number of subsets.
        seed: the random seed, 0 or more.
        images_first: which set is drawn first.

    Yields:
        The rows of the reference and of the images.

    Raises:
        InputError: a set has fewer rows than a subset.

    >>> [(len(rows), len(others)) for rows, others in draw_subsets(9, 8, 5, subsets=2)]
    [(5, 5), (5, 5)]
    """
    if not 2 <= size <= min(n, m) or subsets < 1:
        raise InputError(
            f"`size={size}`, `subsets={subsets}`: of {n} and {m} rows, draw 1 or more subsets of 2 "
            f"to {min(n, m)} rows"
        )
    rng = np.random.RandomState(seed)
    for _ in range(subsets):
        first = rng.choice(m if images_first else n, size, replace=False)
        second = rng.choice(n if images_first else m, size, replace=False)
        yield (second, first) if images_first else (first, second)


def kid_subsets(
    reference: Features,
    images: Features,
    subsets: Iterable[tuple[IntArray, IntArray]],
    kernel: Kernel = polynomial_kernel,
) -> FloatArray:
    """Compute the unbiased kernel distance of subsets; KID as published is their mean.

    Args:
        reference: shape (n, d).
        images: shape (m, d).
        subsets: rows of both, of equal number, such as `draw_subsets`.
        kernel: the kernel; by default (x.y / d + 1)^3.

    Returns:
        The value of each subset. Their spread is no interval of the whole sets' value: it does not
        shrink as sets grow.

    Raises:
        InputError: see `check_pair`.

    >>> rows = np.arange(12.0).reshape(6, 2)
    >>> kid_subsets(rows, rows + 1, draw_subsets(6, 6, 4, subsets=3)).shape
    (3,)
    """
    x, y = check_pair(reference, images)
    values = [discrepancy(x[r], y[i], kernel).unbiased[0] for r, i in subsets]
    return np.array(values, np.float64)


CMMD_SIGMA = 10.0
CMMD_SCALE = 1000.0


def unit_rows(features: Features) -> FloatArray:
    """Divide each row by its length; a row of zeros stays.

    Args:
        features: shape (n, d).

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    rows = np.asarray(features, np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1))


def cmmd(
    reference: Features,
    images: Features,
    *,
    normalise: bool = True,
    sigma: float = CMMD_SIGMA,
    scale: float = CMMD_SCALE,
) -> float:
    """Compute CMMD: the biased MMD^2 of unit vectors under a Gaussian kernel, times 1,000.

    Jayasumana et al. 2024, "Rethinking FID", and its reference implementation, google-research/cmmd
    (distance.py). That one works in float32, which has about 1e-4 of rounding; this is float64.

    Args:
        reference: shape (n, d); image embeddings of CLIP ViT-L/14@336 in the paper.
        images: shape (m, d).
        normalise: whether rows are divided by their length first, as the original's network does.
        sigma: the width of the kernel.
        scale: the factor of the result.

    Returns:
        0 or more.

    Raises:
        InputError: see `check_pair`.

    >>> cmmd(np.eye(2), np.eye(2))
    0.0
    >>> round(cmmd(np.eye(2), -np.eye(2)), 3)
    19.801
    """
    x, y = check_pair(reference, images)
    if normalise:
        x, y = unit_rows(x), unit_rows(y)
    return float(scale * discrepancy(x, y, gaussian_kernel(sigma)).biased[0])
