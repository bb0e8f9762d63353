"""How far scorers are from each other and from people, item by item; which items to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2v_eval.evaluation.run import Run

Floats = NDArray[np.float64]


def unit_scores(run: Run) -> list[Floats]:
    """Return the scores of what people rated, (units, texts) for each item.

    A unit is an image, or a video, whose score is the mean over its frames.

    >>> import t2v_eval
    >>> runs = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5).runs
    >>> [scores.shape for scores in unit_scores(runs[0])]
    [(2, 2), (2, 2)]
    """
    if all(len(units) == 1 and len(units[0]) == 1 for units in run.rated_units) and all(
        scores.shape == (1, 1) for scores in run.scores
    ):
        return list(_flat(run.scores).reshape(-1, 1, 1))
    return [
        scores[[unit[0] for unit in units]].astype(np.float64)
        if all(len(unit) == 1 for unit in units)
        else np.stack([scores[unit].mean(axis=0) for unit in units]).astype(np.float64)
        for scores, units in zip(run.scores, run.rated_units, strict=True)
    ]


def unit_ratings(run: Run) -> list[Floats]:
    """Return the human ratings, shaped like `unit_scores`; NaN where there is none.

    >>> import t2v_eval
    >>> runs = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5).runs
    >>> [ratings.shape for ratings in unit_ratings(runs[0])]
    [(2, 2), (2, 2)]
    """
    return [
        np.full((len(units), len(item.texts)), np.nan) if human is None else human
        for item, units, human in zip(run.items, run.rated_units, run.human, strict=True)
    ]


def percentiles(scores: Sequence[NDArray[Any]]) -> list[Floats]:
    """Return the share of all cells below each cell, from 0 to 1; ties count half, NaN stays.

    >>> percentiles([np.array([[1.0, 2.0]]), np.array([[2.0, 5.0]])])
    [array([[0.125, 0.5  ]]), array([[0.5  , 0.875]])]
    """
    flat = _flat(scores)
    ranks = np.full(len(flat), np.nan)
    finite = np.isfinite(flat)
    if finite.any():
        _, inverse, counts = np.unique(flat[finite], return_inverse=True, return_counts=True)
        ranks[finite] = ((np.cumsum(counts) - counts / 2) / finite.sum())[inverse]
    return _split(ranks, scores)


def scorer_disagreement(runs: Sequence[Run]) -> Floats:
    """Return how far scorers are apart on each item, from 0 to 1; 0 for a single scorer.

    Scorers have different scales, so each one's scores become percentiles of the benchmark, after
    the item's mean is subtracted where it has several cells. The result is the mean over the
    item's cells of the highest minus the lowest percentile.

    >>> import t2v_eval
    >>> runs = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5).runs
    >>> scorer_disagreement(runs)
    array([0., 0.])
    """
    ranked = [percentiles(_centered(unit_scores(run))) for run in runs]
    cells = np.stack([_flat(ranks) for ranks in ranked])
    known = np.isfinite(cells)
    apart = np.where(known, cells, -np.inf).max(axis=0) - np.where(known, cells, np.inf).min(axis=0)
    apart[known.sum(axis=0) < 2] = np.nan
    return np.nan_to_num(_means_of_items(apart, ranked[0]))


def human_disagreement(run: Run) -> Floats:
    """Return how far a scorer is from people on each item, from 0 to 1; NaN without ratings.

    Scores become percentiles. Where the benchmark compares cells of different items (`pooled`), so
    do ratings, and the result is the mean distance of the two. Elsewhere the item's mean is
    subtracted from its scores, and each pair of its cells with different ratings counts 0 where
    the better one scores far higher, 1/2 where both score the same, and 1 where it scores far
    lower.

    >>> import t2v_eval
    >>> runs = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5).runs
    >>> human_disagreement(runs[0]).shape
    (2,)
    """
    scores, ratings = paired_with_ratings(run)
    ranks = percentiles(scores)
    if run.benchmark.pooled:
        return _means_of_items(np.abs(_flat(ranks) - _flat(percentiles(ratings))), scores)
    distances = np.full(len(scores), np.nan)
    for n, (of_item, human) in enumerate(zip(ranks, ratings, strict=True)):
        better, worse = np.nonzero(human.reshape(-1, 1) > human.reshape(1, -1))
        if len(better):
            cells = of_item.ravel()
            distances[n] = ((1 - cells[better] + cells[worse]) / 2).mean()
    return distances


def paired_with_ratings(run: Run) -> tuple[list[Floats], list[Floats]]:
    """Return scores and ratings as the benchmark compares them, both NaN where one is missing.

    >>> import t2v_eval
    >>> runs = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5).runs
    >>> scores, ratings = paired_with_ratings(runs[0])
    >>> len(scores), len(ratings)
    (2, 2)
    """
    sides = unit_scores(run), unit_ratings(run)
    flat = [_flat(side) for side in sides]
    both = np.isfinite(flat[0]) & np.isfinite(flat[1])
    scores, ratings = (_split(np.where(both, cells, np.nan), sides[0]) for cells in flat)
    if run.benchmark.pooled:
        return scores, ratings
    return _centered(scores), _centered(ratings)


def _centered(scores: Sequence[Floats]) -> list[Floats]:
    """Subtract the mean of each item's known scores, where it has several cells."""
    means = _means_of_items(_flat(scores), scores)
    several = [of_item.size > 1 for of_item in scores]
    if not any(several):
        return list(scores)
    shifts = np.where(several, means, 0.0)
    return [of_item - shift for of_item, shift in zip(scores, shifts.tolist(), strict=True)]


def _means_of_items(cells: Floats, like: Sequence[Floats]) -> Floats:
    """Return the mean of the known cells of each item; NaN without any.

    Args:
        cells: the cells of all items.
        like: an array for each item, of as many cells.
    """
    item = np.repeat(np.arange(len(like)), [of_item.size for of_item in like])
    known = np.isfinite(cells)
    counts = np.bincount(item[known], minlength=len(like))
    sums = np.bincount(item[known], cells[known], len(like))
    means = np.full(len(like), np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def _flat(scores: Sequence[NDArray[Any]]) -> Floats:
    if not scores:
        return np.empty(0)
    return np.concatenate([of_item.ravel() for of_item in scores]).astype(np.float64)


def _split(cells: Floats, like: Sequence[Floats]) -> list[Floats]:
    """Return the cells of all items as an array of the shape of each."""
    if all(of_item.shape == (1, 1) for of_item in like):  # `np.split` takes a hundred times as long
        return list(cells.reshape(-1, 1, 1))
    ends = np.cumsum([of_item.size for of_item in like])[:-1]
    parts = np.split(cells, ends)
    return [part.reshape(of_item.shape) for part, of_item in zip(parts, like, strict=True)]


def choose_items(interest: Floats, limit: int) -> list[int]:
    """Return at most `limit` indices: those of highest interest, then others evenly spread.

    Half of the places at most go to items of highest interest, if it is above 0.

    >>> choose_items(np.array([0, 0, 0, 0.9, 0, 0]), 3)
    [3, 0, 5]
    """
    order = np.argsort(-interest, kind="stable")
    if len(order) > limit:
        top = int((interest[order[: limit // 2]] > 0).sum())
        rest = np.sort(order[top:])
        spread = np.linspace(0, len(rest) - 1, limit - top).astype(int)
        order = np.concatenate([order[:top], rest[spread]])
    chosen: list[int] = order.tolist()
    return chosen
