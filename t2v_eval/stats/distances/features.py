"""Check feature matrices, and read them in blocks, so that no second copy of them is made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import InputError
from t2v_eval.utils.arrays import FloatArray

Features: TypeAlias = NDArray[np.floating[Any]]

BLOCK = 1024
"""Rows of a block: a block of distances or kernels between rows has 8 MB."""

_LARGEST = 1e30
"""Features must be smaller: the kernel of KID is of their sixth power, which must be finite."""


def check_features(name: str, features: Features, least: int = 2) -> Features:
    """Return a feature matrix in float32 or float64.

    Args:
        name: what the matrix is called in messages.
        features: shape (n, d); float32 and float64 are not copied.
        least: the least number of rows.

    Raises:
        InputError: another shape, too few rows, or a value that is NaN, infinite or beyond 1e30.

    >>> check_features("images", np.array([[1, 2], [3, 4]])).dtype
    dtype('float64')
    """
    array = np.asarray(features)
    if array.ndim != 2 or array.dtype.kind not in "buif" or not array.shape[1]:
        raise InputError(
            f"{name} ({array.dtype}, shape {array.shape}): pass a matrix of numbers with a row of "
            "features for each image"
        )
    if len(array) < least:
        raise InputError(f"{name} has {len(array)} row(s): pass at least {least}")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32 if array.dtype == np.float16 else np.float64)
    for start in range(0, len(array), BLOCK):
        bad = ~(np.abs(array[start : start + BLOCK]).max(axis=1) < _LARGEST)  # also for NaN
        if bad.any():
            raise InputError(
                f"{name}, row {start + int(bad.argmax())} (from 0): NaN, infinite or beyond "
                f"{_LARGEST:.0e}; leave out images without features"
            )
    return array


def check_pair(reference: Features, images: Features, least: int = 2) -> tuple[Features, Features]:
    """Return two feature matrices with the same number of columns; see `check_features`.

    Args:
        reference: shape (n, d).
        images: shape (m, d).
        least: the least number of rows of each.

    Raises:
        InputError: as `check_features`, or they differ in d.

    >>> reference, images = check_pair(np.ones((3, 2)), np.zeros((4, 2)))
    >>> reference.shape, images.shape
    ((3, 2), (4, 2))
    """
    first = check_features("reference", reference, least)
    second = check_features("images", images, least)
    check_dimensions(first.shape[1], second.shape[1])
    return first, second


def check_dimensions(reference: int, images: int) -> None:
    """Check that two sets have the same number of features a row.

    Args:
        reference: d of the reference.
        images: d of the images.

    Raises:
        InputError: they differ.

    >>> check_dimensions(2048, 2048)
    """
    if reference != images:
        raise InputError(
            f"the reference has {reference} features a row and the images have {images}: pass "
            "features of the same network"
        )


def blocks(
    features: NDArray[np.number[Any]], centre: FloatArray | None = None, rows: int = BLOCK
) -> Iterator[tuple[slice, FloatArray]]:
    """Yield blocks of rows in float64, each with its place.

    Args:
        features: shape (n, d).
        centre: a point to subtract, shape (d,), which keeps digits where features are far from 0.
        rows: the number of rows of a block.

    >>> [(place.start, block.shape) for place, block in blocks(np.ones((5, 2)), rows=3)]
    [(0, (3, 2)), (3, (2, 2))]
    """
    for start in range(0, len(features), rows):
        block = features[start : start + rows].astype(np.float64)
        if centre is not None:
            block -= centre
        yield slice(start, start + len(block)), block


def mean_of(features: Features) -> FloatArray:
    """Return the mean of the rows in float64, shape (d,).

    Args:
        features: shape (n, d).

    >>> mean_of(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([2., 3.])
    """
    total = np.zeros(features.shape[1])
    for _, block in blocks(features):
        total += block.sum(axis=0)
    return total / len(features)
