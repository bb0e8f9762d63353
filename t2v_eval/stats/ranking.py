"""Metrics of choosing among images of one text: preferences, rankings, best of n.

As in `metrics`, which exports them too, these are pure functions in float64; None and NaN are
missing, and undefined values are NaN. Functions that end in `_rows` return one value for each text,
the unit to resample; the others return its mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from t2v_eval.errors import InputError
from t2v_eval.utils.arrays import FloatArray, Values, as_floats, as_rows, mean_of_known


def preference_accuracy(scores: Values, human: Values, threshold: float = 0.0) -> float:
    """Compute the share of choices between two images that scores and people make alike.

    A choice counts 1 where both agree, 1/2 where exactly one of them is a tie, and 0 otherwise
    (Kirstain et al. 2023, "Pick-a-Pic", section 5).

    Args:
        scores: shape (n, 2), the scores of two images; None and NaN are missing.
        human: shape (n,): 1 where the first image was preferred, 0 where the second was, 0.5 for a
            tie.
        threshold: the largest score difference that is a tie.

    Returns:
        The share, from 0 to 1.

    Raises:
        InputError: other shapes or values.

    >>> preference_accuracy([[0.9, 0.1], [0.5, 0.5], [0.2, 0.3], [0.1, 0.4]], [1, 0.5, 0.5, 1])
    0.625
    """
    return mean_of_known(preference_rows(scores, human, threshold))


def preference_rows(scores: Values, human: Values, threshold: float = 0.0) -> FloatArray:
    """Compute `preference_accuracy` of each choice: 0, 1/2, 1, or NaN where a value is missing.

    >>> preference_rows([[0.9, 0.1], [0.5, 0.5]], [0.5, 0.5])
    array([0.5, 1. ])
    """
    s, h = as_floats("scores", scores), as_floats("human", human)
    if s.size == h.size == 0:
        return np.empty(0)
    if s.ndim != 2 or s.shape[1] != 2 or h.shape != s.shape[:1]:
        raise InputError(
            f"scores has shape {s.shape} and human {h.shape}: pass (n, 2) and (n,), the scores of "
            "two images and the preference for the first: 1, 0.5 or 0"
        )
    other = h[~np.isnan(h) & ~np.isin(h, (0.0, 0.5, 1.0))]
    if len(other):
        raise InputError(f"human holds {other[0]:g}: a preference is 1, 0.5 (a tie) or 0")
    if not threshold >= 0:
        raise InputError(f"`threshold={threshold!r}`: pass a number from 0 on")
    difference = s[:, 0] - s[:, 1]
    choice = np.where(np.abs(difference) <= threshold, 0.5, (difference > 0).astype(np.float64))
    choice[np.isnan(difference)] = np.nan
    # Two choices that differ are 1/2 apart if one of them is a tie, and 1 if neither is.
    return 1.0 - np.abs(choice - h)


def ranking_accuracy(scores: Values, human: Values) -> float:
    """Compute the share of texts whose best image scores above the worst.

    Best and worst are the images that people rate highest and lowest; where several are, a text
    counts the share of such pairs that are in the right order. A text whose images are all rated
    alike is left out. Equal scores are wrong.

    Args:
        scores: shape (n, K), the scores of K images of each of n texts; None and NaN are missing.
        human: ratings, in the same shape.

    Returns:
        The share, from 0 to 1.

    Raises:
        InputError: as `metrics.pearson`.

    >>> ranking_accuracy([[0.9, 0.5, 0.1], [0.1, 0.2, 0.3]], [[5, 4, 1], [3, 3, 3]])
    1.0
    """
    return mean_of_known(ranking_rows(scores, human))


def ranking_rows(scores: Values, human: Values) -> FloatArray:
    """Compute `ranking_accuracy` of each text, NaN where its images are all rated alike.

    >>> ranking_rows([[0.9, 0.5, 0.1], [0.1, 0.2, 0.3]], [[5, 5, 1], [1, 2, 0]])
    array([1., 0.])
    """

    def right(s: FloatArray, h: FloatArray) -> float:
        if len(h) < 2 or h.min() == h.max():
            return math.nan
        best, worst = s[h == h.max()], s[h == h.min()]
        return float((best[:, None] > worst).mean())

    return _each(right, scores, human)


def best_of(scores: Values, human: Values, n: int | None = None) -> float:
    """Compute the mean human rating of the image with the highest score among n.

    The K images of a text are split in their order into sets of `n`, and the rating of each set's
    choice is averaged (Li et al. 2024, "GenAI-Bench", ranking by VQAScore). Images that share the
    highest score count equally.

    Args:
        scores: shape (texts, K); None and NaN are missing.
        human: ratings, in the same shape.
        n: the size of the sets, by default K.

    Returns:
        The mean, on the scale of the ratings.

    Raises:
        InputError: as `metrics.pearson`, and where n does not divide K.

    >>> best_of([[0.9, 0.5, 0.1, 0.7]], [[5, 4, 1, 2]], 2)
    3.5
    """
    return mean_of_known(best_of_rows(scores, human, n))


def best_of_rows(scores: Values, human: Values, n: int | None = None) -> FloatArray:
    """Compute `best_of` for each text; NaN where all its scores are missing.

    >>> best_of_rows([[0.9, 0.9], [0.1, 0.2]], [[1, 2], [5, 3]])
    array([1.5, 3. ])
    """
    s, h = as_rows(scores, human)
    size = s.shape[1] if n is None else n
    if size < 1 or s.shape[1] % size:
        raise InputError(
            f"`n={n!r}` does not divide the {s.shape[1]} images of a text: the sets would overlap "
            "or leave images out"
        )
    sets = [
        _each(_chosen, s[:, k : k + size], h[:, k : k + size]) for k in range(0, s.shape[1], size)
    ]
    return np.array([mean_of_known(row) for row in np.stack(sets, axis=1)]) if sets else np.empty(0)


def top_rows(scores: Values, human: Values) -> FloatArray:
    """Return for each text 1 if the highest score is on an image that people rate highest, else 0.

    Where several images share the highest score, the share of them that people rate highest; NaN
    where all images are rated alike.

    >>> top_rows([[0.9, 0.5], [0.9, 0.9], [0.1, 0.2]], [[2, 1], [2, 1], [2, 1]])
    array([1. , 0.5, 0. ])
    """

    def right(s: FloatArray, h: FloatArray) -> float:
        if len(h) < 2 or h.min() == h.max():
            return math.nan
        return float((h[s == s.max()] == h.max()).mean())

    return _each(right, scores, human)


def _chosen(s: FloatArray, h: FloatArray) -> float:
    return float(h[s == s.max()].mean()) if len(s) else math.nan


def _each(
    metric: Callable[[FloatArray, FloatArray], float], scores: Values, human: Values
) -> FloatArray:
    """Compute a metric of the present items of each row."""
    rows = zip(*as_rows(scores, human), strict=True)
    present = ((s[~np.isnan(s)], h[~np.isnan(s)]) for s, h in rows)
    return np.array([metric(s, h) for s, h in present], dtype=np.float64)
