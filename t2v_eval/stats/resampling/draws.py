"""Resamples, drawn once for all scorers with the same number of units and seed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

IntArray: TypeAlias = NDArray[np.int64]
Copies: TypeAlias = NDArray[np.uint8]
"""Shape (units, resamples): how many times each resample contains each unit."""

_TOGETHER = 1 << 26  # copies, so that tables of ranks take 256 MB
_LEAST_TOGETHER = 64
_CACHE_BYTES = 1 << 28


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
    return _CACHE.get(n, resamples, seed)


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


class _CopiesCache:
    """The most recently used copies: up to `_CACHE_BYTES`, and at least one entry."""

    def __init__(self) -> None:
        self._entries: dict[tuple[int, int, int], list[Copies]] = {}
        self._lock = threading.Lock()

    def get(self, n: int, resamples: int, seed: int) -> list[Copies]:
        key = n, resamples, seed
        with self._lock:
            batches = self._entries.pop(key, None)
            if batches is None:
                batches = _draw(*key)
            self._entries[key] = batches  # the last one used comes last
            while len(self._entries) > 1 and self._bytes() > _CACHE_BYTES:
                del self._entries[next(iter(self._entries))]
            return batches

    def _bytes(self) -> int:
        return sum(copies.nbytes for batches in self._entries.values() for copies in batches)


_CACHE = _CopiesCache()
