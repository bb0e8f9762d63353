"""Hashes of what a run was evaluated on, by which two reports show that they used the same data."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2v_eval.evaluation.benchmark import Item


@dataclass(frozen=True, slots=True)
class DataHashes:
    """Hashes of the data of a run; a run's JSON has them under "data".

    Attributes:
        sha256: of the texts, references, tags, groups and human ratings of the items, in order.
        files_sha256: of the contents of all images, in order; None if one could not be read.

    >>> DataHashes().files_sha256 is None
    True
    """

    sha256: str | None = None
    files_sha256: str | None = None


def items_sha256(items: Sequence[Item], human: Sequence[NDArray[np.float64] | None]) -> str:
    """Hash the texts, references, tags, groups and human ratings of items.

    The names and contents of images are no part of it, so that the same prompts have the same hash
    whichever generator made the images.

    Args:
        items: the items.
        human: the ratings of each, shape (rated units, N), or None.

    Returns:
        64 hexadecimal digits.

    >>> cat, dog = Item(["1.png"], ["a cat"]), Item(["1.png"], ["a dog"])
    >>> items_sha256([cat], [None]) == items_sha256([cat], [None])
    True
    >>> items_sha256([cat], [None]) == items_sha256([dog], [None])
    False
    """
    digest = hashlib.sha256()
    for item, ratings in zip(items, human, strict=True):
        fields = (item.texts, item.references, item.tags, item.group, _plain(ratings))
        digest.update(json.dumps(fields, default=str).encode() + b"\n")
    return digest.hexdigest()


def _plain(ratings: NDArray[np.float64] | None) -> list[float | None] | None:
    if ratings is None:
        return None
    return [None if math.isnan(rating) else rating for rating in ratings.ravel().tolist()]
