"""How far scorers are from each other and from people, item by item; which items to show."""

from __future__ import annotations

import warnings
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
    flat = np.concatenate([s.ravel() for s in scores]).astype(np.float64)
    ranks = np.full(len(flat), np.nan)
    finite = np.isfinite(flat)
    if finite.any():
        _, inverse, counts = np.unique(flat[finite], return_inverse=True, return_counts=True)
        ranks[finite] = ((np.cumsum(counts) - counts / 2) / finite.sum())[inverse]
    ends = np.cumsum([s.size for s in scores])[:-1]
    return [r.reshape(s.shape) for r, s in zip(np.split(ranks, ends), scores, strict=True)]


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
    ranked = [percentiles([center(s) for s in unit_scores(run)]) for run in runs]
    distances = np.zeros(len(runs[0].items))
    for n in range(len(distances)):
        cells = np.stack([ranks[n] for ranks in ranked])
        comparable_cells = np.isfinite(cells).sum(axis=0) > 1
        if comparable_cells.any():
            cells = cells[:, comparable_cells]
            distances[n] = (np.nanmax(cells, axis=0) - np.nanmin(cells, axis=0)).mean()
    return distances


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
    distances = np.full(len(scores), np.nan)
    pooled = run.benchmark.pooled
    rating_ranks = percentiles(ratings) if pooled else ratings
    for n, (ranks, human) in enumerate(zip(percentiles(scores), rating_ranks, strict=True)):
        if pooled:
            apart = np.abs(ranks - human)
        else:
            ranks, human = ranks.ravel(), human.ravel()
            better, worse = np.nonzero(human[:, None] > human[None, :])
            apart = (1 - ranks[better] + ranks[worse]) / 2
        if np.isfinite(apart).any():
            distances[n] = np.nanmean(apart)
    return distances


def paired_with_ratings(run: Run) -> tuple[list[Floats], list[Floats]]:
    """Return scores and ratings as the benchmark compares them, both NaN where one is missing.

    >>> import t2v_eval
    >>> runs = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5).runs
    >>> scores, ratings = paired_with_ratings(runs[0])
    >>> len(scores), len(ratings)
    (2, 2)
    """
    scores, ratings = [], []
    for item_scores, item_ratings in zip(unit_scores(run), unit_ratings(run), strict=True):
        both = np.isfinite(item_scores) & np.isfinite(item_ratings)
        item_scores = np.where(both, item_scores, np.nan)
        item_ratings = np.where(both, item_ratings, np.nan)
        pooled = run.benchmark.pooled
        scores.append(item_scores if pooled else center(item_scores))
        ratings.append(item_ratings if pooled else center(item_ratings))
    return scores, ratings


def center(scores: Floats) -> Floats:
    """Subtract the mean of an item's scores, where it has several cells.

    >>> center(np.array([[1.0, 3.0]]))
    array([[-1.,  1.]])
    """
    if scores.size < 2:
        return scores
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of NaN only is NaN
        centered: Floats = scores - np.nanmean(scores)
    return centered


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
