"""Nearest rows of feature matrices by Euclidean distance, in blocks.

Squared distances of all pairs come from a matrix product, |x|^2 + |y|^2 - 2 x.y, which is fast and
loses digits. So every distance that is returned, and every comparison with a radius that is as
close as the lost digits, is computed anew from the difference of the two rows. Copies then have
the distance 0, and ties are ties.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import InputError
from t2v_eval.stats.bootstrap import IntArray
from t2v_eval.stats.distances.features import Features, blocks, mean_of
from t2v_eval.utils.arrays import FloatArray

BoolArray = NDArray[np.bool_]


class Neighbours(NamedTuple):
    """The k nearest rows of each of n rows, the nearest first.

    Attributes:
        squares: squared distances, shape (n, k).
        rows: the rows that are near, shape (n, k).

    >>> Neighbours(np.array([[0.25]]), np.array([[3]])).rows
    array([[3]])
    """

    squares: FloatArray
    rows: IntArray


class _Block(NamedTuple):
    """Squared distances of a block of rows to a block of others, and their rounding."""

    place: slice
    other: slice
    squares: FloatArray
    rounding: FloatArray


def _squared_distances(x: Features, y: Features) -> Iterator[_Block]:
    """Yield the squared distances of all pairs of a row of x and a row of y, in blocks.

    All blocks of the same rows of x follow each other.
    """
    centre = mean_of(y)
    unit = 4 * np.finfo(np.float64).eps * x.shape[1]
    for place, block in blocks(x, centre):
        lengths = np.einsum("ij,ij->i", block, block)
        for other_place, other in blocks(y, centre):
            sums = lengths[:, None] + np.einsum("ij,ij->i", other, other)
            squares = block @ other.T
            squares *= -2
            squares += sums
            yield _Block(place, other_place, squares, np.multiply(sums, unit, out=sums))


def squared_distance(x: Features, y: Features) -> FloatArray:
    """Return |x_i - y_i|^2 of rows with the same place, from their differences.

    Args:
        x: shape (n, d).
        y: shape (n, d).

    >>> squared_distance(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]))
    array([25.])
    """
    total = np.empty(len(x))
    for (place, one), (_, other) in zip(blocks(x), blocks(y), strict=True):
        one -= other
        one *= one
        total[place] = one.sum(axis=1)
    return total


def nearest(x: Features, y: Features, k: int) -> Neighbours:
    """Find the k rows of `y` that are nearest to each row of `x`.

    Args:
        x: shape (n, d).
        y: shape (m, d); where it is the same object as `x`, a row is no neighbour of its own.
        k: the number of neighbours.

    Raises:
        InputError: there are fewer than k others.

    >>> nearest(np.array([[0.0], [1.0]]), np.array([[0.9], [5.0]]), 1).rows
    array([[0],
           [0]])
    >>> rows = np.array([[0.0], [1.0], [3.0]])
    >>> nearest(rows, rows, 1).squares
    array([[1.],
           [1.],
           [4.]])
    """
    others = len(y) - (x is y)
    if not 1 <= k <= others:
        raise InputError(f"`k={k}`: there are {others} rows to be near; pass 1 to {others}")
    squares = np.full((len(x), k), np.inf)
    rows = np.zeros((len(x), k), np.int64)
    for block in _squared_distances(x, y):
        if x is y and block.place == block.other:
            np.fill_diagonal(block.squares, np.inf)
        columns = np.arange(block.other.start, block.other.stop)
        columns = np.broadcast_to(columns, block.squares.shape)
        least = min(k, block.squares.shape[1])
        chosen = np.argpartition(block.squares, least - 1, axis=1)[:, :least]
        candidates = [squares[block.place], np.take_along_axis(block.squares, chosen, 1)]
        names = [rows[block.place], np.take_along_axis(columns, chosen, 1)]
        both, named = np.concatenate(candidates, axis=1), np.concatenate(names, axis=1)
        order = np.argsort(both, axis=1, kind="stable")[:, :k]
        squares[block.place] = np.take_along_axis(both, order, 1)
        rows[block.place] = np.take_along_axis(named, order, 1)
    for column in range(k):
        for place, block_rows in _places(rows[:, column]):
            squares[place, column] = squared_distance(x[place], y[block_rows])
    order = np.argsort(squares, axis=1, kind="stable")
    return Neighbours(np.take_along_axis(squares, order, 1), np.take_along_axis(rows, order, 1))


def _places(rows: IntArray, size: int = 4096) -> Iterator[tuple[slice, IntArray]]:
    """Yield rows in parts, so that what they name is not copied at once."""
    for start in range(0, len(rows), size):
        yield slice(start, min(start + size, len(rows))), rows[start : start + size]


class Coverage(NamedTuple):
    """How the balls around n centres cover m points.

    Attributes:
        balls: the number of balls that hold each point, shape (m,).
        points: the number of points that each ball holds, shape (n,).

    >>> Coverage(np.array([1, 0]), np.array([1])).balls
    array([1, 0])
    """

    balls: IntArray
    points: IntArray


def count_inside(
    centres: Features, radii: FloatArray, points: Features, *, closed: bool = False
) -> Coverage:
    """Count which points lie in which balls.

    Args:
        centres: shape (n, d).
        radii: the squared radius of each ball, shape (n,).
        points: shape (m, d).
        closed: whether a point on the surface lies in a ball.

    >>> centres, radii, points = np.array([[0.0], [9.0]]), np.array([4.0, 4.0]), np.array([[2.0]])
    >>> count_inside(centres, radii, points).balls
    array([0])
    >>> count_inside(centres, radii, points, closed=True).points
    array([1, 0])
    """
    balls, held = np.zeros(len(points), np.int64), np.zeros(len(centres), np.int64)
    for block in _squared_distances(centres, points):
        limits = radii[block.place][:, None]
        inside = block.squares < limits
        np.subtract(block.squares, limits, out=block.squares)
        close = np.abs(block.squares, out=block.squares) <= block.rounding
        i, j = np.nonzero(close)
        for place, part in _places(i):
            exact = squared_distance(
                centres[block.place.start + part], points[block.other.start + j[place]]
            )
            limit = radii[block.place.start + part]
            inside[part, j[place]] = exact <= limit if closed else exact < limit
        balls[block.other] += inside.sum(axis=0)
        held[block.place] += inside.sum(axis=1)
    return Coverage(balls, held)


def largest_ratio(centres: Features, radii: FloatArray, points: Features) -> FloatArray:
    """Return the largest radius / distance over the balls, for each point.

    Args:
        centres: shape (n, d), n of at least 1.
        radii: the squared radius of each ball, shape (n,).
        points: shape (m, d).

    Returns:
        Shape (m,), 0 or more; infinite where a point is a centre.

    >>> largest_ratio(np.array([[0.0]]), np.array([4.0]), np.array([[1.0], [0.0]]))
    array([ 2., inf])
    """
    ratios = np.empty(len(points))
    best, ball = np.full(len(points), -1.0), np.zeros(len(points), np.int64)
    for block in _squared_distances(points, centres):
        # A distance within its rounding is a candidate for 0, which is computed anew below.
        with np.errstate(divide="ignore"):
            ratio = radii[block.other] / np.maximum(block.squares, block.rounding)
        chosen = ratio.argmax(axis=1)
        value = ratio[np.arange(len(ratio)), chosen]
        better = value > best[block.place]
        best[block.place] = np.where(better, value, best[block.place])
        ball[block.place] = np.where(better, block.other.start + chosen, ball[block.place])
    for place, rows in _places(ball):
        exact = squared_distance(points[place], centres[rows])
        with np.errstate(divide="ignore"):
            ratios[place] = np.sqrt(radii[rows] / exact)
    return ratios
