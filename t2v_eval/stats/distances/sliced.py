"""MIND: the sliced 2-Wasserstein distance of two sets of features, times 3 d."""

from __future__ import annotations

import numpy as np

from t2v_eval.errors import InputError
from t2v_eval.stats.distances.features import BLOCK, Features, blocks, check_pair
from t2v_eval.utils.arrays import FloatArray


def draw_directions(d: int, count: int = 1000, seed: int = 0) -> FloatArray:
    """Draw random unit vectors.

    Args:
        d: their number of dimensions.
        count: how many.
        seed: the random seed, 0 or more.

    Returns:
        Shape (count, d).

    >>> np.linalg.norm(draw_directions(3, 2), axis=1).round(6)
    array([1., 1.])
    """
    directions = np.random.default_rng(seed).standard_normal((count, d))
    return np.asarray(directions / np.linalg.norm(directions, axis=1, keepdims=True))


def mind(reference: Features, images: Features, directions: FloatArray) -> float:
    """Compute the mean squared 2-Wasserstein distance of projections, times 3 d.

    Berthet et al. 2026, "MIND: Monge Inception Distance", as in torch-fidelity (metric_mind.py).
    That one works in float32, and leaves out random rows of the larger set; here the distance of
    samples of unequal size is exact: the integral of the squared difference of their quantiles.

    Args:
        reference: shape (n, d).
        images: shape (m, d).
        directions: unit vectors, shape (count, d); see `draw_directions`.

    Returns:
        0 or more.

    Raises:
        InputError: see `check_pair`, or the directions have another d.

    >>> rows = np.array([[0.0, 0.0], [1.0, 0.0]])
    >>> mind(rows, rows + 2.0, np.eye(2))
    24.0
    """
    first, second = _checked(reference, images, directions)
    n, m = len(first), len(second)
    # Quantile functions are steps; between two neighbouring edges both are constant.
    edges = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # of n m
    widths = np.diff(edges, prepend=0) / (n * m)
    i, j = (edges - 1) // m, (edges - 1) // n
    total = 0.0
    for start in range(0, len(directions), 64):
        part = directions[start : start + 64].T
        sorted_first = np.sort(_projections(first, part), axis=0)
        sorted_second = np.sort(_projections(second, part), axis=0)
        total += float(widths @ ((sorted_first[i] - sorted_second[j]) ** 2).sum(axis=1))
    return float(3 * first.shape[1] * total / len(directions))


def _projections(features: Features, directions: FloatArray) -> FloatArray:
    projections = np.empty((len(features), directions.shape[1]))
    for place, block in blocks(features, rows=4 * BLOCK):
        projections[place] = block @ directions
    return projections


def _checked(
    reference: Features, images: Features, directions: FloatArray
) -> tuple[Features, Features]:
    first, second = check_pair(reference, images)
    if directions.ndim != 2 or directions.shape[1] != first.shape[1]:
        raise InputError(
            f"directions of shape {directions.shape}: pass vectors of {first.shape[1]} dimensions"
        )
    return first, second


def mind_influence(
    reference: Features, images: Features, directions: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Compute how much each row moves `mind`, to the first order.

    The derivative of a transport cost is the potential of its dual problem (Villani 2003, "Topics
    in Optimal Transportation", chapter 1). In one dimension the potential of a set grows between
    two neighbouring projections by the change of the cost to the other set's quantile there.

    Args:
        reference: shape (n, d).
        images: shape (m, d).
        directions: see `mind`.

    Returns:
        The influences of both sets, shapes (n,) and (m,), of mean 0.

    Raises:
        InputError: as `mind`.

    >>> rows = np.array([[0.0], [1.0]])
    >>> mind_influence(rows, rows + 2.0, np.eye(1))[0]
    array([ 6., -6.])
    """
    first, second = _checked(reference, images, directions)
    of_reference, of_images = np.zeros(len(first)), np.zeros(len(second))
    for start in range(0, len(directions), 64):
        part = directions[start : start + 64].T
        x, y = _projections(first, part), _projections(second, part)
        order_x, order_y = x.argsort(axis=0), y.argsort(axis=0)
        x, y = np.take_along_axis(x, order_x, 0), np.take_along_axis(y, order_y, 0)
        np.add.at(of_reference, order_x, _potentials(x, y))
        np.add.at(of_images, order_y, _potentials(y, x))
    scale = 3 * first.shape[1] / len(directions)
    return scale * (of_reference - of_reference.mean()), scale * (of_images - of_images.mean())


def _potentials(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the dual potentials of sorted x against sorted y, columns by columns."""
    n, m = len(x), len(y)
    levels = np.arange(1, n) * m  # of the quantiles between neighbours of x, in units of 1 / (n m)
    # Where a step of y is at the same level, any value between both quantiles is a solution.
    quantiles = (y[(levels - 1) // n] + y[levels // n]) / 2
    potentials = np.zeros_like(x)
    np.cumsum((x[1:] - x[:-1]) * (x[1:] + x[:-1] - 2 * quantiles), axis=0, out=potentials[1:])
    return potentials
