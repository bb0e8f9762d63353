"""Inception score: how sure a classifier is of each image, and how many classes it sees.

Salimans et al. 2016, "Improved Techniques for Training GANs": exp of the mean KL divergence of each
image's class probabilities from their mean. It sees no reference and no prompt.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import numpy as np
from scipy.special import log_softmax

from t2v_eval.errors import InputError
from t2v_eval.stats.bootstrap import IntArray
from t2v_eval.stats.distances.extrapolation import extrapolate
from t2v_eval.stats.distances.features import Features, check_features
from t2v_eval.stats.distances.resampling import Counts, weighted_sums
from t2v_eval.utils.arrays import FloatArray

Remainder: TypeAlias = Literal["drop", "spread"]


def split_rows(n: int, splits: int, remainder: Remainder = "drop") -> list[slice]:
    """Return the rows of each of several parts of n rows.

    Args:
        n: the number of rows.
        splits: the number of parts, from 1 to n.
        remainder: what happens to rows that are left over when all parts are equal: they are
            dropped, as in the original and dgm-eval, or parts have unequal sizes, as in
            torch-fidelity.

    Raises:
        InputError: `splits` is out of its range.

    >>> [part.stop - part.start for part in split_rows(8, 3)]
    [2, 2, 2]
    >>> [part.stop - part.start for part in split_rows(8, 3, "spread")]
    [2, 3, 3]
    """
    if not 1 <= splits <= n:
        raise InputError(f"`splits={splits}`: of {n} images, pass 1 to {n}")
    if remainder == "drop":
        size = n // splits
        return [slice(k * size, (k + 1) * size) for k in range(splits)]
    return [slice(k * n // splits, (k + 1) * n // splits) for k in range(splits)]


def inception_scores(
    logits: Features, splits: int = 10, *, remainder: Remainder = "drop", seed: int | None = None
) -> FloatArray:
    """Compute the inception score of each of several parts of the images.

    Args:
        logits: of the classifier, before the softmax, shape (n, classes).
        splits: the number of parts; the original's is 10.
        remainder: see `split_rows`.
        seed: shuffle the rows by this seed of `numpy.random.RandomState`, as torch-fidelity does
            by default (2020); None keeps their order.

    Returns:
        The score of each part, from 1 to the number of classes, shape (splits,). The published
        number is their mean, with their standard deviation (divided by the number of parts).

    Raises:
        InputError: see `check_features`, or `splits` is out of its range.

    >>> inception_scores(100 * np.eye(4), splits=1).round(6)
    array([4.])
    """
    rows = check_features("logits", logits, least=1)
    if seed is not None:
        rows = rows[np.random.RandomState(seed).permutation(len(rows))]
    parts = split_rows(len(rows), splits, remainder)
    return np.array([_score(rows[part]) for part in parts], np.float64)


def _score(logits: Features) -> float:
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    p = np.exp(log_p)
    mean = p.mean(axis=0)
    with np.errstate(divide="ignore"):
        of_rows, shared = (p * log_p).sum(axis=1), np.where(mean > 0, mean * np.log(mean), 0).sum()
    return float(np.exp(of_rows.mean() - shared))


def resampled_inception_scores(logits: Features, counts: Counts, splits: int = 10) -> FloatArray:
    """Compute the mean inception score of the parts of each resample, in the order of the rows.

    Args:
        logits: shape (n, classes).
        counts: how often each resample holds each row, shape (n, B).
        splits: the number of parts.

    Returns:
        Shape (B,); NaN where a resample has no row of a part.

    Raises:
        InputError: as `inception_scores`.

    >>> logits = np.random.default_rng(0).normal(size=(40, 5))
    >>> every = np.ones((40, 1), np.int64)
    >>> bool(np.isclose(resampled_inception_scores(logits, every), inception_scores(logits).mean()))
    True
    """
    rows = check_features("logits", logits, least=1)
    parts = split_rows(len(rows), splits)
    total = np.zeros(counts.shape[1])
    for part in parts:
        log_p = log_softmax(rows[part].astype(np.float64), axis=1)
        p, of_part = np.exp(log_p), counts[part]
        with np.errstate(divide="ignore", invalid="ignore"):
            n = of_part.sum(axis=0, dtype=np.float64)
            mean = weighted_sums(of_part, p) / n[:, None]
            of_rows = weighted_sums(of_part, (p * log_p).sum(axis=1)) / n
            shared = np.where(mean > 0, mean * np.log(mean), 0).sum(axis=1)
        total += np.exp(of_rows - shared)
    return total / splits


def inception_score_influence(logits: Features) -> FloatArray:
    """Compute how much each row moves the inception score of all rows, to the first order.

    Args:
        logits: shape (n, classes).

    Returns:
        The score times the KL divergence of each row from the mean, less its mean; shape (n,).

    Raises:
        InputError: see `check_features`.

    >>> inception_score_influence(np.eye(3)).round(6)
    array([0., 0., 0.])
    """
    rows = check_features("logits", logits, least=1)
    log_p = log_softmax(rows.astype(np.float64), axis=1)
    p = np.exp(log_p)
    divergence = (p * (log_p - np.log(p.mean(axis=0)))).sum(axis=1)
    return np.asarray(np.exp(divergence.mean()) * (divergence - divergence.mean()))


def inception_score_infinity(
    logits: Features, subsets: Iterable[IntArray], splits: int = 1
) -> tuple[float, FloatArray]:
    """Compute the inception score at infinitely many images; see `extrapolation`.

    Args:
        logits: shape (n, classes).
        subsets: rows of each subset, such as `shuffled_subsets`.
        splits: the number of parts of each subset; 1 in the original.

    Returns:
        The value, and the sizes with the score of each, shape (2, points).

    Raises:
        InputError: as `inception_scores` and `extrapolate`.

    >>> logits = np.random.default_rng(0).normal(size=(300, 5))
    >>> subsets = [np.arange(100), np.arange(200), np.arange(300)]
    >>> inception_score_infinity(logits, subsets)[1].shape
    (2, 3)
    """
    rows = check_features("logits", logits, least=1)
    return extrapolate(lambda subset: float(inception_scores(rows[subset], splits).mean()), subsets)
