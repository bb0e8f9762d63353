"""What comes out of scoring: finished parts, counts, folded scores, and candidates in order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ScoreChunk:
    """A finished part of the work: positions in the `cells` that were asked for, and their values.

    `error` says why the values are missing (NaN), where they are. `details` is what else a model
    said of each cell, as JSON; the store keeps it.
    """

    positions: NDArray[np.int64]
    values: Tensor | None
    error: str | None = None
    details: Sequence[str | None] | None = None


def split_non_finite(part: ScoreChunk) -> Iterator[ScoreChunk]:
    """Split off values that are not finite: a model that answers NaN has failed."""
    if part.values is None:
        yield part
        return
    good = part.values.float().isfinite().cpu()  # as it is kept
    if good.any():
        details = part.details and list(compress(part.details, good.tolist()))
        kept = part.values[good.to(part.values.device)]
        yield ScoreChunk(part.positions[good.numpy()], kept, details=details)
    if not good.all():
        yield ScoreChunk(part.positions[~good.numpy()], None, "the model's score is not finite")


@dataclass(frozen=True, slots=True)
class Counts:
    """How many unique cells a run had, and where their values came from."""

    cells: int = 0
    computed: int = 0
    reused: int = 0
    failed: int = 0


Progress = Callable[[Counts], None]


@dataclass(frozen=True, slots=True)
class ScoringResult:
    """Everything a run found out: folded scores, counts, why cells failed, which texts were cut.

    `errors` counts failed unique cells by reason; `failures` gives the reason by (block, row,
    column), as `details` gives what else a model said of a cell; `cautions` are what a reader of
    the scores should know of them; `usage` is what was asked of a service, and what it cost.
    """

    scores: list[NDArray[np.float32]]
    counts: Counts
    errors: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[tuple[int, int, int], str] = field(default_factory=dict)
    details: Mapping[tuple[int, int, int], str] = field(default_factory=dict)
    truncated: int = 0
    cautions: Sequence[str] = ()
    usage: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RankedImage:
    """The place of a candidate: 1 is best, and `tied` says that others have the same score.

    `index` is its position among the candidates; one that could not be scored has no rank.
    """

    rank: int | None
    index: int
    score: float
    tied: bool = False


def ranking(scores: Sequence[float]) -> list[RankedImage]:
    """Candidates from best to worst; after two that share rank 1 comes rank 3.

    >>> [(place.rank, place.index, place.tied) for place in ranking([0.5, math.nan, 0.9, 0.5])]
    [(1, 2, False), (2, 0, True), (2, 3, True), (None, 1, False)]
    """
    scored = [n for n, score in enumerate(scores) if not math.isnan(score)]
    places = []
    for n in sorted(scored, key=lambda n: -scores[n]):
        better = sum(scores[other] > scores[n] for other in scored)
        tied = sum(scores[other] == scores[n] for other in scored) > 1
        places.append(RankedImage(1 + better, n, scores[n], tied))
    failed = [RankedImage(None, n, score) for n, score in enumerate(scores) if math.isnan(score)]
    return places + failed
