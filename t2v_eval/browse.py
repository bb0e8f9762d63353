"""What a report shows of single items: where scorers disagree, which items, small pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from t2v_eval.benchmark import Item, Run, Scores
from t2v_eval.errors import MediaError
from t2v_eval.media import MediaLike, decode, open_media

SIDE = 160

Floats = NDArray[np.float64]


def percentiles(scores: Scores) -> list[Floats]:
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
    ranked = [percentiles([_relative(s) for s in run.scores]) for run in runs]
    found = np.zeros(len(runs[0].items))
    for n in range(len(found)):
        cells = np.stack([one[n] for one in ranked])
        there = ~np.isnan(cells).any(axis=0)
        if there.any():
            found[n] = np.ptp(cells[:, there], axis=0).mean()
    return found


def _relative(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    good = np.isfinite(scores)
    return scores - scores[good].mean() if scores.size > 1 and good.any() else scores


def choose(items: Sequence[Item], apart: Floats, most: int, pictures: int) -> list[int]:
    """Which items to show, in order: half where scorers are furthest apart, half evenly spread.

    Args:
        apart: `disagreement` of each item.
        most, pictures: how many items, and how many pictures in them, at most.
    """
    if len(items) <= most:
        wanted = list(range(len(items)))
    else:
        top = np.argsort(-apart, kind="stable")[: most // 2 if apart.any() else 0].tolist()
        rest = sorted(set(range(len(items))) - set(top))
        spread = np.linspace(0, len(rest) - 1, most - len(top)).astype(int)
        wanted = top + [rest[k] for k in spread.tolist()]
    chosen: list[int] = []
    used = 0
    for n in wanted:
        used += len(items[n].images)
        if used > pictures and chosen:
            break
        chosen.append(n)
    return sorted(chosen)


def thumbnail(source: MediaLike) -> str | None:
    """A data URL of a small copy of a picture, or None for one that is not here or broken."""
    try:
        image = decode(open_media(source))
    except MediaError:
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    # Small drawings stay sharp as PNG; photographs would be ten times larger.
    kind = "png" if len(image.getcolors(256) or ()) else "jpeg"
    image.save(stream, kind, quality=80, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
