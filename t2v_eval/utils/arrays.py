"""Check and convert scores and human ratings: float64 arrays, NaN where a value is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

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
