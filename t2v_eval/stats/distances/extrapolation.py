"""The value of a metric at infinitely many images, which removes its bias of order 1/n.

Chong and Forsyth 2020, "Effectively Unbiased FID and Inception Score": the metric of subsets of
several sizes n, a straight line in 1/n through them, and its value at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from t2v_eval.errors import InputError
from t2v_eval.stats.bootstrap import IntArray
from t2v_eval.stats.distances.features import Features, check_features
from t2v_eval.stats.distances.frechet import Moments, fid, moments
from t2v_eval.utils.arrays import FloatArray


def subset_sizes(n: int, smallest: int, points: int = 15) -> list[int]:
    """Return equally spaced sizes from the smallest to n.

    Args:
        n: the number of images.
        smallest: the smallest size, from 1 to n.
        points: the number of sizes, 2 or more.

    Raises:
        InputError: `smallest` or `points` is out of its range.

    >>> subset_sizes(100, 50, 3)
    [50, 75, 100]
    """
    if not 1 <= smallest <= n or points < 2:
        raise InputError(
            f"`smallest={smallest}`, `points={points}`: of {n} images, pass a smallest subset from "
            "1 to this number, and 2 or more points"
        )
    return [int(size) for size in np.linspace(smallest, n, points)]


def smallest_subset(n: int) -> int:
    """Return dgm-eval's smallest size: a tenth of the images, from 2 to 5,000.

    Args:
        n: the number of images.

    >>> smallest_subset(300), smallest_subset(100_000)
    (30, 5000)
    """
    return min(5000, max(n // 10, 2))


def independent_subsets(n: int, sizes: Iterable[int], seed: int = 0) -> Iterator[IntArray]:
    """Draw a subset of each size without replacement, as dgm-eval does.

    Args:
        n: the number of rows to draw from.
        sizes: see `subset_sizes`.
        seed: the seed of `numpy.random.default_rng`; dgm-eval has none.

    Yields:
        The rows of each subset.

    >>> [len(rows) for rows in independent_subsets(10, [4, 7])]
    [4, 7]
    """
    rng = np.random.default_rng(seed)
    for size in sizes:
        yield rng.choice(n, size, replace=False)


def shuffled_subsets(n: int, sizes: Iterable[int], seed: int = 0) -> Iterator[IntArray]:
    """Draw subsets as the authors of FID-infinity do: shuffle the shuffled rows, take the first.

    Args:
        n: the number of rows to draw from.
        sizes: see `subset_sizes`.
        seed: the seed of `numpy.random.RandomState`; the original has none.

    Yields:
        The rows of each subset.

    >>> [len(rows) for rows in shuffled_subsets(10, [4, 7])]
    [4, 7]
    """
    rng = np.random.RandomState(seed)
    rows = np.arange(n)
    for size in sizes:
        rng.shuffle(rows)
        yield rows[:size].copy()


def extrapolate(
    statistic: Callable[[IntArray], float], subsets: Iterable[IntArray]
) -> tuple[float, FloatArray]:
    """Fit a line in 1/n to a statistic of subsets by least squares.

    Args:
        statistic: a function of the rows of a subset.
        subsets: subsets of at least two sizes.

    Returns:
        The value of the line at 0, and the sizes with their values, shape (2, points).

    Raises:
        InputError: all subsets have one size.

    >>> value, points = extrapolate(lambda rows: 3 + 2 / len(rows), independent_subsets(9, [4, 9]))
    >>> round(value, 6), points[0]
    (3.0, array([4., 9.]))
    """
    points = np.array([(len(rows), statistic(rows)) for rows in subsets], np.float64).T
    if len(np.unique(points[0])) < 2:
        raise InputError("a line needs subsets of at least two sizes: pass more images")
    return float(_value_at_zero(points[0]) @ points[1]), points


def _value_at_zero(sizes: FloatArray) -> FloatArray:
    """Return what each value counts in the value at 0 of the least-squares line in 1/n."""
    design = np.stack([np.ones(len(sizes)), 1 / sizes], axis=1)
    return np.asarray(np.linalg.pinv(design)[0])


def row_weights(n: int, subsets: Iterable[IntArray]) -> FloatArray:
    """Return how much each row counts in a mean that is extrapolated from subsets.

    To the first order a metric of a subset is the mean of the influences of its rows, and the value
    of the line is a weighted sum of the subsets. So the bootstrap of `extrapolate` resamples the
    influences times these weights; rows of several subsets count more.

    Args:
        n: the number of rows.
        subsets: rows of each subset.

    Returns:
        Shape (n,), of sum 1; some are below 0, as small subsets are extrapolated from.

    >>> row_weights(4, [np.array([0]), np.arange(4)]).round(3)
    array([0.   , 0.333, 0.333, 0.333])
    """
    all_rows = list(subsets)
    of_subsets = _value_at_zero(np.array([len(rows) for rows in all_rows], np.float64))
    weights = np.zeros(n)
    for rows, of_subset in zip(all_rows, of_subsets, strict=True):
        weights[rows] += of_subset / len(rows)
    return weights


def fid_infinity(
    reference: Features | Moments, images: Features, subsets: Iterable[IntArray] | None = None
) -> tuple[float, FloatArray]:
    """Compute FID at infinitely many images; all rows of the reference are used.

    Args:
        reference: shape (n, d), or moments.
        images: shape (m, d).
        subsets: rows of the images; by default dgm-eval's 15 sizes with seed 0.

    Returns:
        The value, which may be below 0, and the sizes with the FID of each, shape (2, points).

    Raises:
        InputError: see `fid` and `extrapolate`.

    >>> rng = np.random.default_rng(0)
    >>> reference, images = rng.normal(size=(2000, 4)), rng.normal(size=(400, 4))
    >>> value, points = fid_infinity(reference, images)
    >>> bool(points[1, 0] > points[1, -1] > value)
    True
    """
    rows = check_features("images", images)
    if subsets is None:
        subsets = independent_subsets(
            len(rows), subset_sizes(len(rows), smallest_subset(len(rows)))
        )
    fixed = reference
    if not isinstance(fixed, Moments) and len(fixed) > rows.shape[1]:
        fixed = moments(fixed)  # once for all subsets
    return extrapolate(lambda subset: fid(fixed, rows[subset]), subsets)
