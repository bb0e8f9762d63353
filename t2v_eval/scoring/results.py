"""Results of scoring: chunks of finished cells, counts, folded scores and ranked images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from t2v_eval.errors import InputError


@dataclass(frozen=True, slots=True)
class ScoreChunk:
    """Finished cells of a run.

    Attributes:
        positions: (C,) indices into the `cells` passed to `Scorer.score_cells`.
        values: (C,) scores; None where they failed.
        error: why the values are missing; None where they are not.
        details: what else the model returned for each cell, as JSON; the store keeps it.

    >>> import torch
    >>> ScoreChunk(np.array([0, 1]), torch.tensor([0.5, 0.25])).error is None
    True
    """

    positions: NDArray[np.int64]
    values: Tensor | None
    error: str | None = None
    details: Sequence[str | None] | None = None


def split_non_finite(chunk: ScoreChunk) -> Iterator[ScoreChunk]:
    """Yield the finite scores of a chunk, and the others as failed cells.

    >>> import torch
    >>> chunk = ScoreChunk(np.arange(2), torch.tensor([0.5, math.nan]))
    >>> [(part.positions.tolist(), part.error) for part in split_non_finite(chunk)]
    [([0], None), ([1], "the model's score is not finite")]
    """
    if chunk.values is None:
        yield chunk
        return
    finite = chunk.values.float().isfinite().cpu()  # in float32, as scores are stored
    if finite.any():
        details = chunk.details and list(compress(chunk.details, finite.tolist()))
        values = chunk.values[finite.to(chunk.values.device)]
        yield ScoreChunk(chunk.positions[finite.numpy()], values, details=details)
    if not finite.all():
        yield ScoreChunk(chunk.positions[~finite.numpy()], None, "the model's score is not finite")


def of_all_cells(chunks: Iterable[ScoreChunk], count: int) -> Iterator[ScoreChunk]:
    """Yield the chunks of a run, split by `split_non_finite`, and at last the cells without one.

    Raises:
        InputError: `score_cells` yields something else than a chunk of these cells.

    >>> import torch
    >>> chunks = of_all_cells([ScoreChunk(np.arange(2), torch.ones(2))], 3)
    >>> [(chunk.positions.tolist(), chunk.error) for chunk in chunks]
    [([0, 1], None), ([2], 'score_cells yields no score of it')]
    """
    has_chunk = np.zeros(count, bool)
    for chunk in chunks:
        values = chunk.values if isinstance(chunk, ScoreChunk) else 0
        if values is not None and not (isinstance(values, Tensor) and not values.is_complex()):
            raise InputError("score_cells has to yield ScoreChunk with a tensor of real numbers")
        at = np.asarray(chunk.positions)
        if at.ndim != 1 or (
            len(at) and not (at.dtype.kind in "iu" and 0 <= at.min() <= at.max() < count)
        ):
            raise InputError(f"score_cells yields positions that are no indices of {count} cells")
        if values is not None and values.shape != at.shape:
            shape = tuple(values.shape)
            raise InputError(f"score_cells yields values of shape {shape} for {len(at)} positions")
        if len({*at.tolist()}) < len(at):
            raise InputError("score_cells yields a cell twice in a chunk")
        has_chunk[at] = True
        yield from split_non_finite(replace(chunk, positions=at))
    if not has_chunk.all():
        yield ScoreChunk(np.flatnonzero(~has_chunk), None, "score_cells yields no score of it")


@dataclass(frozen=True, slots=True)
class CellCounts:
    """Number of unique cells of a run, in all and by where their values came from.

    >>> CellCounts(cells=4, computed=3, failed=1).reused
    0
    """

    cells: int = 0
    computed: int = 0
    reused: int = 0
    failed: int = 0

    @property
    def used(self) -> int:
        """Return the number of cells with a score.

        >>> CellCounts(cells=5, computed=3, reused=1, failed=1).used
        4
        """
        return self.cells - self.failed


Progress = Callable[[CellCounts], None]


@dataclass(frozen=True, slots=True)
class ScoringResult:
    """The result of a run.

    Attributes:
        scores: one (M, N) float32 array for each block; NaN where a cell failed.
        counts: unique cells.
        errors: number of failed unique cells by reason.
        failures: the reason by (block, row, column).
        details: what else the model returned, as JSON, by (block, row, column).
        truncated: number of texts that were longer than the model reads.
        cautions: what a reader of the scores should know.
        usage: requests, tokens and cost of a service.
        images_sha256: see `Plan.images_sha256`.

    >>> ScoringResult([np.array([[0.5]], np.float32)], CellCounts(1, 1)).scores[0].shape
    (1, 1)
    """

    scores: list[NDArray[np.float32]]
    counts: CellCounts
    errors: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[tuple[int, int, int], str] = field(default_factory=dict)
    details: Mapping[tuple[int, int, int], str] = field(default_factory=dict)
    truncated: int = 0
    cautions: Sequence[str] = ()
    usage: Mapping[str, float] = field(default_factory=dict)
    images_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class RankedImage:
    """The rank of a candidate image.

    Attributes:
        rank: 1 is best; None if the image could not be scored.
        index: position among the candidates.
        score: its score; NaN if it failed.
        tied: whether another candidate has the same score.

    >>> RankedImage(rank=1, index=3, score=0.9).tied
    False
    """

    rank: int | None
    index: int
    score: float
    tied: bool = False


def ranking(scores: Sequence[float]) -> list[RankedImage]:
    """Sort candidates from best to worst; after two that share rank 1 comes rank 3.

    >>> [(place.rank, place.index, place.tied) for place in ranking([0.5, math.nan, 0.9, 0.5])]
    [(1, 2, False), (2, 0, True), (2, 3, True), (None, 1, False)]
    """
    scored = [n for n, score in enumerate(scores) if not math.isnan(score)]
    ranked = []
    for n in sorted(scored, key=lambda n: -scores[n]):
        better = sum(scores[other] > scores[n] for other in scored)
        tied = sum(scores[other] == scores[n] for other in scored) > 1
        ranked.append(RankedImage(1 + better, n, scores[n], tied))
    failed = [RankedImage(None, n, score) for n, score in enumerate(scores) if math.isnan(score)]
    return ranked + failed
