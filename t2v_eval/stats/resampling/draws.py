"""Resamples that are drawn once for all scorers with the same number of units and seed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

IntArray: TypeAlias = NDArray[np.int64]
Copies: TypeAlias = NDArray[np.uint8]
"""Shape (units, resamples), how many times each resample holds each unit."""

_TOGETHER = 1 << 26  # copies, so that tables of ranks take 256 MB
_LEAST_TOGETHER = 64
_KEPT_BYTES = 1 << 28


def resample_indices(n: int, resamples: int, seed: int) -> Iterator[IntArray]:
    """Yield the units of each resample, drawn with replacement.

    Args:
        n: the number of units, 1 or more.
        resamples: the number of resamples.
        seed: the random seed.

    >>> [indices.shape for indices in resample_indices(3, 2, seed=0)]
    [(3,), (3,)]
    """
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield rng.integers(0, n, size=n)


def drawn_copies(n: int, resamples: int, seed: int) -> list[Copies]:
    """Return the copies that `resample_indices` draws, many resamples at a time.

    Args:
        n: the number of units, 1 or more.
        resamples: the number of resamples.
        seed: the random seed.

    >>> [copies.sum(axis=0).tolist() for copies in drawn_copies(3, 2, seed=0)]
    [[3, 3]]
    """
    return _DRAWN.get(n, resamples, seed)


def _draw(n: int, resamples: int, seed: int) -> list[Copies]:
    parts = -(-resamples // max(_LEAST_TOGETHER, _TOGETHER // n))
    indices = resample_indices(n, resamples, seed)
    batches = []
    for part in range(parts):
        size = (part + 1) * resamples // parts - part * resamples // parts
        copies = np.empty((size, n), np.uint8)  # 256 copies of a unit have a probability of 1e-507
        for row in copies:
            row[:] = np.bincount(next(indices), minlength=n)
        batches.append(np.ascontiguousarray(copies.T))
    return batches


class _Drawn:
    """The copies of the last numbers of units, as many as `_KEPT_BYTES` hold, and one at least."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int], list[Copies]] = {}
        self._lock = threading.Lock()

    def get(self, n: int, resamples: int, seed: int) -> list[Copies]:
        key = n, resamples, seed
        with self._lock:
            batches = self._known.pop(key, None)
            if batches is None:
                batches = _draw(*key)
            self._known[key] = batches  # the last one used comes last
            while len(self._known) > 1 and self._bytes() > _KEPT_BYTES:
                del self._known[next(iter(self._known))]
            return batches

    def _bytes(self) -> int:
        return sum(copies.nbytes for batches in self._known.values() for copies in batches)


_DRAWN = _Drawn()
