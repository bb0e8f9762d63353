"""Check, convert and hold scores and ratings: floats, NaN where a value is missing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Self, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from t2v_eval.errors import InputError

FloatArray = NDArray[np.float64]
Values: TypeAlias = ArrayLike | Sequence[float | None] | Sequence[Sequence[float | None]]


def as_rows(scores: Values, human: Values) -> tuple[FloatArray, FloatArray]:
    """Return both sides in the shape (rows, items), with NaN on both sides of missing items.

    One-dimensional input becomes one row.

    Args:
        scores: shape (items,) or (rows, items); None and NaN are missing.
        human: ratings, in the same shape.

    Raises:
        InputError: shapes that differ, more than two dimensions, infinite or non-numeric values.

    >>> as_rows([0.5, None], [1, 2])
    (array([[0.5, nan]]), array([[ 1., nan]]))
    """
    s, h = as_floats("scores", scores), as_floats("human", human)
    if s.shape != h.shape:
        raise InputError(
            f"scores has shape {s.shape} but human has shape {h.shape}: pass one score for each "
            "human rating, with None or NaN where one is missing"
        )
    if s.ndim not in (1, 2):
        raise InputError(
            f"scores has shape {s.shape}: pass one dimension, or two with one row for each group"
        )
    missing = np.isnan(s) | np.isnan(h)
    s, h = np.where(missing, np.nan, s), np.where(missing, np.nan, h)
    return (s[None], h[None]) if s.ndim == 1 else (s, h)


def as_floats(name: str, values: object) -> FloatArray:
    """Return an array of finite float64 numbers, with NaN for None.

    Args:
        name: the name of the values, for messages.
        values: an array, or nested sequences of numbers.

    Raises:
        InputError: infinite or non-numeric values.

    >>> as_floats("scores", [1, None, True])
    array([ 1., nan,  1.])
    """
    try:
        array = np.asarray(values)
        if isinstance(values, np.ma.MaskedArray):
            array = np.where(np.ma.getmaskarray(values), np.nan, array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{name} ({type(values).__name__}) is not an array of numbers: {error}. Pass numbers, "
            "rows of unequal length padded with NaN, and tensors as float32 on the CPU"
        ) from error
    if array.dtype == object:
        floats = np.array([_number(name, v) for v in array.flat], dtype=np.float64)
        array = floats.reshape(array.shape)
    elif array.dtype.kind not in "buif":
        raise InputError(f"{name} holds {array.dtype}, not numbers: convert it to float first")
    array = array.astype(np.float64)
    infinite = int(np.isinf(array).sum())
    if infinite:
        raise InputError(
            f"{name} holds {infinite} infinite value(s): replace them by finite numbers, or by "
            "None or NaN to leave these items out"
        )
    return array


class CellArrays(Sequence[NDArray[Any]]):
    """Arrays of many items, whose cells lie in one array, so that all are computed with at once.

    Args:
        cells: the cells of all items, one after the other.
        shapes: the shape of each item's array; None where each item has a single cell.

    >>> scores = CellArrays.of([np.array([[0.5, 0.25]]), np.array([[0.75]])])
    >>> scores[0], len(scores), scores.cells
    (array([[0.5 , 0.25]]), 2, array([0.5 , 0.25, 0.75]))
    >>> scores.take([1]).cells, scores.with_cells(np.zeros(3))[1]
    (array([0.75]), array([[0.]]))
    """

    def __init__(
        self, cells: NDArray[Any], shapes: Sequence[tuple[int, ...]] | None = None
    ) -> None:
        self.cells, self.shapes = cells, shapes
        sizes = [math.prod(shape) for shape in shapes or ()]
        self._ends = np.arange(1, len(cells) + 1) if shapes is None else np.cumsum(sizes, dtype=int)

    @classmethod
    def of(cls, arrays: Sequence[NDArray[Any]]) -> Self:
        """Return arrays as they are, or copied into one."""
        if isinstance(arrays, cls):
            return arrays
        shapes = [array.shape for array in arrays]
        cells = np.concatenate([array.ravel() for array in arrays]) if shapes else np.empty(0)
        return cls(cells, None if set(shapes) == {(1, 1)} else shapes)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Return the number of cells of each item."""
        return np.diff(self._ends, prepend=0)

    def take(self, index: Sequence[int] | NDArray[np.int64]) -> Self:
        """Return the arrays of some items."""
        if self.shapes is None:
            return type(self)(self.cells[index])
        sizes = self.sizes[index]
        starts, ends = self._ends[index] - sizes, np.cumsum(sizes, dtype=int)
        cells = np.arange(sizes.sum()) + np.repeat(starts - (ends - sizes), sizes)
        shapes = [self.shapes[n] for n in np.asarray(index).tolist()]
        return type(self)(self.cells[cells], None if set(shapes) == {(1, 1)} else shapes)

    def with_cells(self, cells: NDArray[Any]) -> Self:
        """Return arrays of the same shapes with other cells."""
        return type(self)(cells, self.shapes)

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        if self.shapes is None:  # a hundred times as fast as one by one
            return iter(self.cells.reshape(-1, 1, 1))
        return (self[n] for n in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> NDArray[Any] | Self:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        n = range(len(self))[index]
        shape = (1, 1) if self.shapes is None else self.shapes[n]
        end = int(self._ends[n])
        return self.cells[end - math.prod(shape) : end].reshape(shape)


def mean_of_known(values: FloatArray) -> float:
    """Return the mean of the values that are not NaN; NaN without any.

    Args:
        values: an array of any shape.

    >>> mean_of_known(np.array([1.0, np.nan, 2.0]))
    1.5
    """
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else math.nan


def _number(name: str, value: object) -> float:
    if value is None:
        return math.nan
    if isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
        return float(value)
    raise InputError(
        f"{name} holds {value!r} ({type(value).__name__}), not a number: pass numbers in rows of "
        "equal length, with None or NaN where one is missing"
    )
