"""How far scorers are from each other and from people, item by item; which items to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2v_eval.evaluation.run import Run
from t2v_eval.utils.arrays import CellArrays

Floats = NDArray[np.float64]


def unit_scores(run: Run) -> CellArrays:
    """Return the scores of what people rated, (units, texts) for each item.

    A unit is an image, or a video, whose score is the mean over its frames.

    >>> import t2v_eval
    >>> runs = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5).runs
    >>> [scores.shape for scores in unit_scores(runs[0])]
    [(2, 2), (2, 2)]
    """
    arrays = CellArrays.of(run.scores)
    if _are_images(run.rated_units, arrays.shapes):
        return arrays.with_cells(arrays.cells.astype(np.float64))
    return CellArrays.of(
        [
            scores[[unit[0] for unit in units]].astype(np.float64)
            if all(len(unit) == 1 for unit in units)
            else np.stack([scores[unit].mean(axis=0) for unit in units]).astype(np.float64)
            for scores, units in zip(arrays, run.rated_units, strict=True)
        ]
    )


def _are_images(
    rated: Sequence[Sequence[Sequence[int]]], shapes: Sequence[tuple[int, ...]] | None
) -> bool:
    """Return whether the units of every item are its images, in order."""
    if shapes is None:  # of one image each, and there may be a hundred thousand
        only = [units[0] for units in rated if len(units) == 1]
        return len(only) == len(rated) and all(len(unit) == 1 and not unit[0] for unit in only)
    return all(
        len(units) == shape[0]
        and all(len(unit) == 1 and unit[0] == image for image, unit in enumerate(units))
        for units, shape in zip(rated, shapes, strict=True)
    )


def unit_ratings(run: Run) -> CellArrays:
    """Return the human ratings, shaped like `unit_scores`; NaN where there is none.

    >>> import t2v_eval
    >>> runs = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5).runs
    >>> [ratings.shape for ratings in unit_ratings(runs[0])]
    [(2, 2), (2, 2)]
    """
    return CellArrays.of(
        [
            np.full((len(units), len(item.texts)), np.nan) if human is None else human
            for item, units, human in zip(run.items, run.rated_units, run.human, strict=True)
        ]
    )


def percentiles(scores: Sequence[NDArray[Any]]) -> CellArrays:
    """Return the share of all cells below each cell, from 0 to 1; ties count half, NaN stays.

    >>> list(percentiles([np.array([[1.0, 2.0]]), np.array([[2.0, 5.0]])]))
    [array([[0.125, 0.5  ]]), array([[0.5  , 0.875]])]
    """
    arrays = CellArrays.of(scores)
    flat = arrays.cells.astype(np.float64)
    ranks = np.full(len(flat), np.nan)
    finite = np.isfinite(flat)
    if finite.any():
        _, inverse, counts = np.unique(flat[finite], return_inverse=True, return_counts=True)
        ranks[finite] = ((np.cumsum(counts) - counts / 2) / finite.sum())[inverse]
    return arrays.with_cells(ranks)


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
    cells = np.stack([ranks.cells for ranks in ranked])
    valid = np.isfinite(cells)
    apart = np.where(valid, cells, -np.inf).max(axis=0) - np.where(valid, cells, np.inf).min(axis=0)
    apart[valid.sum(axis=0) < 2] = np.nan
    return np.nan_to_num(_means_of_items(ranked[0].with_cells(apart)))


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
    if np.isnan(ratings.cells).all():
        return np.full(len(scores), np.nan)
    ranks = percentiles(scores)
    if run.benchmark.pooled:
        apart = np.abs(ranks.cells - percentiles(ratings).cells)
        return _means_of_items(scores.with_cells(apart))
    distances = np.full(len(scores), np.nan)
    for n, (of_item, human) in enumerate(zip(ranks, ratings, strict=True)):
        better, worse = np.nonzero(human.reshape(-1, 1) > human.reshape(1, -1))
        if len(better):
            cells = of_item.ravel()
            distances[n] = ((1 - cells[better] + cells[worse]) / 2).mean()
    return distances


def paired_with_ratings(run: Run) -> tuple[CellArrays, CellArrays]:
    """Return scores and ratings as the benchmark compares them, both NaN where one is missing.

    >>> import t2v_eval
    >>> runs = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5).runs
    >>> scores, ratings = paired_with_ratings(runs[0])
    >>> len(scores), len(ratings)
    (2, 2)
    """
    sides = unit_scores(run), unit_ratings(run)
    both = np.isfinite(sides[0].cells) & np.isfinite(sides[1].cells)
    scores, ratings = (side.with_cells(np.where(both, side.cells, np.nan)) for side in sides)
    if run.benchmark.pooled:
        return scores, ratings
    return _centered(scores), _centered(ratings)


def _centered(scores: CellArrays) -> CellArrays:
    """Subtract the mean of each item's known scores, where it has several cells."""
    if (scores.sizes <= 1).all():
        return scores
    shifts = np.where(scores.sizes > 1, _means_of_items(scores), 0.0)
    return scores.with_cells(scores.cells - np.repeat(shifts, scores.sizes))


def _means_of_items(scores: CellArrays) -> Floats:
    """Return the mean of the known cells of each item; NaN without any."""
    item = np.repeat(np.arange(len(scores)), scores.sizes)
    valid = np.isfinite(scores.cells)
    counts = np.bincount(item[valid], minlength=len(scores))
    sums = np.bincount(item[valid], scores.cells[valid], len(scores))
    means = np.full(len(scores), np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


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
