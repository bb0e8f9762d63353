"""What single items show: where scorers disagree, with people and with each other, and which."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2v_eval.evaluation.benchmark import Run

Floats = NDArray[np.float64]


def judged(run: Run) -> list[Floats]:
    """The scores of what people judged, (judged, texts) an item: a video has its frames' mean."""
    return [
        scores[[pictures[0] for pictures in of]].astype(np.float64)
        if all(len(pictures) == 1 for pictures in of)
        else np.stack([scores[pictures].mean(axis=0) for pictures in of]).astype(np.float64)
        for scores, of in zip(run.scores, run.rated_units, strict=True)
    ]


def people(run: Run) -> list[Floats]:
    """What people said of the same; NaN where nobody said anything."""
    return [
        np.full((len(of), len(item.texts)), np.nan) if human is None else human
        for item, of, human in zip(run.items, run.rated_units, run.human, strict=True)
    ]


def percentiles(scores: Sequence[NDArray[Any]]) -> list[Floats]:
    """Scores -> the share of all the scorer's cells below each, ties counting half; NaN stays."""
    flat = np.concatenate([s.ravel() for s in scores]).astype(np.float64)
    found = np.full(len(flat), np.nan)
    good = np.isfinite(flat)
    if good.any():
        _, inverse, counts = np.unique(flat[good], return_inverse=True, return_counts=True)
        found[good] = ((np.cumsum(counts) - counts / 2) / good.sum())[inverse]
    ends = np.cumsum([s.size for s in scores])[:-1]
    return [p.reshape(s.shape) for p, s in zip(np.split(found, ends), scores, strict=True)]


def disagreement(runs: Sequence[Run]) -> Floats:
    """How far scorers are apart on each item, from 0 to 1; 0 for a single scorer.

    Scorers have scales of their own, so each one's scores become percentiles of the benchmark,
    relative to the item's mean where it has several cells. The figure is the mean over the item's
    cells of the highest minus the lowest.
    """
    ranked = [percentiles([relative(s) for s in judged(run)]) for run in runs]
    found = np.zeros(len(runs[0].items))
    for n in range(len(found)):
        cells = np.stack([one[n] for one in ranked])
        there = np.isfinite(cells).sum(axis=0) > 1
        if there.any():
            found[n] = (
                np.nanmax(cells[:, there], axis=0) - np.nanmin(cells[:, there], axis=0)
            ).mean()
    return found


def disagreement_with_people(run: Run) -> Floats:
    """How far a scorer is from people on each item, from 0 to 1; NaN where nobody judged.

    Scores become percentiles. Where the benchmark compares cells of different items, so do ratings,
    and the figure is the mean distance of the two. Elsewhere scores are relative to the item's
    mean, and each pair of its cells of which people liked one better counts 0 where it is far above
    the other, 1/2 where it is as high, and 1 where it is far below.
    """
    ours, theirs = comparable(run)
    found = np.full(len(ours), np.nan)
    ranks = percentiles(theirs) if run.benchmark["pooled"] else theirs
    for n, (own, human) in enumerate(zip(percentiles(ours), ranks, strict=True)):
        if run.benchmark["pooled"]:
            apart = np.abs(own - human)
        else:
            own, human = own.ravel(), human.ravel()
            better, worse = np.nonzero(human[:, None] > human[None, :])
            apart = (1 - own[better] + own[worse]) / 2
        if np.isfinite(apart).any():
            found[n] = np.nanmean(apart)
    return found


def comparable(run: Run) -> tuple[list[Floats], list[Floats]]:
    """Scores and ratings as the benchmark compares them, both NaN where one of them is missing."""
    ours, theirs = [], []
    for scores, human in zip(judged(run), people(run), strict=True):
        both = np.isfinite(scores) & np.isfinite(human)
        own, other = np.where(both, scores, np.nan), np.where(both, human, np.nan)
        pooled = run.benchmark["pooled"]
        ours.append(own if pooled else relative(own))
        theirs.append(other if pooled else relative(other))
    return ours, theirs


def relative(scores: Floats) -> Floats:
    """Minus the item's mean, where it has several cells."""
    if scores.size < 2:
        return scores
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all are missing: so is the mean
        mean: Floats = scores - np.nanmean(scores)
    return mean


def choose(telling: Floats, most: int) -> list[int]:
    """At most so many items, the most telling first, then others spread evenly over the rest."""
    order = np.argsort(-telling, kind="stable")
    if len(order) > most:
        top = int((telling[order[: most // 2]] > 0).sum())
        rest = np.sort(order[top:])
        spread = np.linspace(0, len(rest) - 1, most - top).astype(int)
        order = np.concatenate([order[:top], rest[spread]])
    chosen: list[int] = order.tolist()
    return chosen
