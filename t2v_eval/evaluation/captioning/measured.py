"""What a metric of captions returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from t2v_eval.stats.bootstrap import IntArray
from t2v_eval.utils.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric of each caption and of any set of them.

    Attributes:
        each: shape (captions,), the value of each caption.
        corpus: takes indices of captions, repeated as resampled, and returns their value together.

    >>> import numpy as np
    >>> Measured.mean(np.array([0.2, 0.6])).corpus(np.array([1, 1]))
    0.6
    """

    each: FloatArray
    corpus: Callable[[IntArray], float]

    @classmethod
    def mean(cls, each: FloatArray) -> Measured:
        """Return a metric whose value of a set is the mean of its captions."""
        return cls(each, lambda indices: float(each[indices].mean()))
