"""How well scores choose among pictures of one text: preferences, rankings, the best of several.

As in `metrics`, which has them too: pure functions in float64, None or NaN is missing, and
what is undefined is NaN. Functions that end in `_rows` give one value a text, which is the unit to
resample; the others give their mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from t2v_eval.errors import InputError
from t2v_eval.utils.arrays import FloatArray, Values, as_floats, as_rows, mean_of_known


def preference_accuracy(scores: Values, human: Values, threshold: float = 0.0) -> float:
    """Share of choices between two pictures that scores and people make alike, from 0 to 1.

    `scores` is (n, 2); `human` is 1 where the first picture was preferred, 0 where the second was,
    and 0.5 for a tie. Scores no further apart than `threshold` are a tie. A choice counts 1 where
    both agree, 1/2 where exactly one of them is a tie, and 0 otherwise (Kirstain et al. 2023,
    "Pick-a-Pic", section 5).

    Raises InputError for other shapes or values.

    >>> preference_accuracy([[0.9, 0.1], [0.5, 0.5], [0.2, 0.3], [0.1, 0.4]], [1, 0.5, 0.5, 1])
    0.625
    """
    return mean_of_known(preference_rows(scores, human, threshold))


def preference_rows(scores: Values, human: Values, threshold: float = 0.0) -> FloatArray:
    """`preference_accuracy` of each choice: 0, 1/2, 1, or NaN where something is missing.

    >>> preference_rows([[0.9, 0.1], [0.5, 0.5]], [0.5, 0.5])
    array([0.5, 1. ])
    """
    s, h = as_floats("scores", scores), as_floats("human", human)
    if s.size == h.size == 0:
        return np.empty(0)
    if s.ndim != 2 or s.shape[1] != 2 or h.shape != s.shape[:1]:
        raise InputError(
            f"scores has shape {s.shape} and human {h.shape}: pass (n, 2) and (n,), the scores of "
            "two pictures and the preference for the first: 1, 0.5 or 0"
        )
    other = h[~np.isnan(h) & ~np.isin(h, (0.0, 0.5, 1.0))]
    if len(other):
        raise InputError(f"human holds {other[0]:g}: a preference is 1, 0.5 (a tie) or 0")
    if not threshold >= 0:
        raise InputError(f"threshold={threshold!r}: pass a number from 0 on")
    difference = s[:, 0] - s[:, 1]
    said = np.where(np.abs(difference) <= threshold, 0.5, (difference > 0).astype(np.float64))
    said[np.isnan(difference)] = np.nan
    # Of 0, 1/2 and 1, two that differ are 1/2 apart if one is a tie, and 1 if none is.
    return 1.0 - np.abs(said - h)


def ranking_accuracy(scores: Values, human: Values) -> float:
    """Share of texts whose best picture scores above the worst, from 0 to 1.

    Both are (n, K): K pictures of each of n texts. Best and worst are people's highest and lowest
    value; where several share it, the share of such pairs that are ordered right counts. A text
    whose pictures people all rate alike has no best one and is left out. Equal scores are wrong.

    Raises InputError as `metrics.pearson` does.

    >>> ranking_accuracy([[0.9, 0.5, 0.1], [0.1, 0.2, 0.3]], [[5, 4, 1], [3, 3, 3]])
    1.0
    """
    return mean_of_known(ranking_rows(scores, human))


def ranking_rows(scores: Values, human: Values) -> FloatArray:
    """`ranking_accuracy` of each text, NaN where it has no best picture.

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
    """Mean human value of the picture with the highest score among n, on people's own scale.

    Both are (texts, K). The K pictures of a text are split in their order into sets of `n`
    (default: all K), the value of each set's choice is averaged over the sets (Li et al. 2024,
    "GenAI-Bench", ranking by VQAScore). Pictures that share the highest score count equally.

    Raises InputError as `metrics.pearson` does, and unless n divides K.

    >>> best_of([[0.9, 0.5, 0.1, 0.7]], [[5, 4, 1, 2]], 2)
    3.5
    """
    return mean_of_known(best_of_rows(scores, human, n))


def best_of_rows(scores: Values, human: Values, n: int | None = None) -> FloatArray:
    """`best_of` for each text; NaN where nothing is left of it.

    >>> best_of_rows([[0.9, 0.9], [0.1, 0.2]], [[1, 2], [5, 3]])
    array([1.5, 3. ])
    """
    s, h = as_rows(scores, human)
    size = s.shape[1] if n is None else n
    if size < 1 or s.shape[1] % size:
        raise InputError(
            f"n={n!r} does not divide the {s.shape[1]} pictures of a text: the sets would overlap "
            "or leave pictures out"
        )
    sets = [
        _each(_chosen, s[:, k : k + size], h[:, k : k + size]) for k in range(0, s.shape[1], size)
    ]
    return np.array([mean_of_known(row) for row in np.stack(sets, axis=1)]) if sets else np.empty(0)


def top_rows(scores: Values, human: Values) -> FloatArray:
    """Whether the highest score is on a picture that people rate highest, for each text.

    Where several share the highest score, the share of them that people rate highest; NaN where
    people rate all pictures alike.

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
    of: Callable[[FloatArray, FloatArray], float], scores: Values, human: Values
) -> FloatArray:
    rows = zip(*as_rows(scores, human), strict=True)
    kept = ((s[~np.isnan(s)], h[~np.isnan(s)]) for s, h in rows)
    return np.array([of(s, h) for s, h in kept], dtype=np.float64)
