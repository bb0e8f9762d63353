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

    Where y is x, a pair of two blocks occurs once.
    """
    centre = mean_of(y)
    unit = 4 * np.finfo(np.float64).eps * x.shape[1]
    for place, block in blocks(x, centre):
        lengths = np.einsum("ij,ij->i", block, block)
        first = place.start if x is y else 0
        for part, other in blocks(y[first:], centre):
            sums = lengths[:, None] + np.einsum("ij,ij->i", other, other)
            squares = block @ other.T
            squares *= -2
            squares += sums
            rounding = np.multiply(sums, unit, out=sums)
            yield _Block(place, slice(first + part.start, first + part.stop), squares, rounding)


def squared_distance(x: Features, y: Features) -> FloatArray:
    """Return |x_i - y_i|^2 of rows with the same place, from their differences.

    Args:
        x: shape (n, d).
        y: shape (n, d).

    >>> squared_distance(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]))
    array([25.])
    """
    total = np.empty(len(x))
    for (place, block), (_, other) in zip(blocks(x), blocks(y), strict=True):
        block -= other
        block *= block
        total[place] = block.sum(axis=1)
    return total


def nearest(x: Features, y: Features, k: int) -> Neighbours:
    """Find the k rows of `y` that are nearest to each row of `x`; of equally near ones, any.

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
    neighbours = Neighbours(np.full((len(x), k), np.inf), np.zeros((len(x), k), np.int64))
    for block in _squared_distances(x, y):
        if x is y and block.place == block.other:
            np.fill_diagonal(block.squares, np.inf)
        _keep_nearest(neighbours, block.place, block.other, block.squares)
        if x is y and block.place != block.other:
            _keep_nearest(neighbours, block.other, block.place, block.squares.T)
    squares, rows = neighbours
    for column in range(k):
        for place, block_rows in _places(rows[:, column]):
            squares[place, column] = squared_distance(x[place], y[block_rows])
    order = np.argsort(squares, axis=1, kind="stable")
    return Neighbours(np.take_along_axis(squares, order, 1), np.take_along_axis(rows, order, 1))


def _keep_nearest(neighbours: Neighbours, place: slice, other: slice, squares: FloatArray) -> None:
    """Merge the distances of some rows to some others into the nearest ones that were found."""
    k = neighbours.rows.shape[1]
    count = min(k, squares.shape[1])
    near = np.argpartition(squares, count - 1, axis=1)[:, :count]
    both = np.concatenate([neighbours.squares[place], np.take_along_axis(squares, near, 1)], axis=1)
    rows = np.concatenate([neighbours.rows[place], other.start + near], axis=1)
    order = np.argsort(both, axis=1, kind="stable")[:, :k]
    neighbours.squares[place] = np.take_along_axis(both, order, 1)
    neighbours.rows[place] = np.take_along_axis(rows, order, 1)


def _places(rows: IntArray, size: int = 4096) -> Iterator[tuple[slice, IntArray]]:
    """Yield rows in parts, so that what they name is not copied at once."""
    for start in range(0, len(rows), size):
        yield slice(start, min(start + size, len(rows))), rows[start : start + size]


class Inside(NamedTuple):
    """How the balls around n centres hold m points.

    Attributes:
        balls: the number of balls that hold each point, shape (m,).
        points: the number of points that each ball holds, shape (n,).

    >>> Inside(np.array([1, 0]), np.array([1])).balls
    array([1, 0])
    """

    balls: IntArray
    points: IntArray


def count_inside(
    x: Features, x_radii: FloatArray, y: Features, y_radii: FloatArray, *, closed: bool = False
) -> tuple[Inside, Inside]:
    """Count which rows of each of two sets lie in which balls around the rows of the other.

    Args:
        x: centres, shape (n, d).
        x_radii: the squared radii of their balls, shape (n,).
        y: other centres, shape (m, d).
        y_radii: the squared radii of their balls, shape (m,).
        closed: whether a point on the surface lies in a ball.

    Returns:
        How the balls around x hold y, and how those around y hold x.

    >>> x, y = np.array([[0.0], [9.0]]), np.array([[2.0]])
    >>> of_x, of_y = count_inside(x, np.array([4.0, 4.0]), y, np.array([5.0]))
    >>> of_x.balls, of_y.points
    (array([0]), array([1]))
    >>> count_inside(x, np.array([4.0, 4.0]), y, np.array([5.0]), closed=True)[0].points
    array([1, 0])
    """
    n, m = len(x), len(y)
    of_x = Inside(np.zeros(m, np.int64), np.zeros(n, np.int64))
    of_y = Inside(np.zeros(n, np.int64), np.zeros(m, np.int64))
    for block in _squared_distances(x, y):
        i, j = block.place, block.other
        for limits in (x_radii[i, None], y_radii[None, j]):
            _settle(block, limits, x[i], y[j])
        for result, limits, axis in ((of_x, x_radii[i, None], 0), (of_y, y_radii[None, j], 1)):
            inside = block.squares <= limits if closed else block.squares < limits
            places = (j, i) if axis == 0 else (i, j)
            result.balls[places[0]] += inside.sum(axis=axis)
            result.points[places[1]] += inside.sum(axis=1 - axis)
    return of_x, of_y


def _settle(block: _Block, limits: FloatArray, x: Features, y: Features) -> None:
    """Replace distances that are near a limit by exact ones."""
    gap = block.squares - limits
    i, j = np.nonzero(np.abs(gap, out=gap) <= block.rounding)
    for place, rows in _places(i):
        block.squares[rows, j[place]] = squared_distance(x[rows], y[j[place]])


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
