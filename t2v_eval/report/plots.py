"""The plots of a report: how scores are spread, and scores against people and each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from t2v_eval.report import svg
from t2v_eval.stats.metrics import spearman
from t2v_eval.utils.printable import printable

Floats = NDArray[np.float64]

_COLUMNS = 3
_LONGEST = 34  # letters of a scorer's name
_BINS = 30
_MOST_DOTS = 400  # more points than that are drawn as a density, which stays small and readable
_LEVELS = (0.18, 0.35, 0.55, 0.78, 1.0)  # opacity, from few points to many


@dataclass(frozen=True, slots=True)
class Spread:
    """The scores of one scorer, flat, and whether each is of a match (1), or not (0), or NaN.

    `colour` is the number of a CSS colour, None for people's ratings.
    """

    name: str
    colour: int | None
    scores: Floats
    right: Floats | None = None


@dataclass(frozen=True, slots=True)
class Against:
    """Two flat arrays, point by point; what the axes are called, and a colour as in `Spread`."""

    across: str
    up: str
    colour: int | None
    x: Floats
    y: Floats

    @property
    def points(self) -> int:
        """How many there are of which both values are known."""
        return int((np.isfinite(self.x) & np.isfinite(self.y)).sum())


def distributions(spreads: Sequence[Spread], colours: int) -> str:
    """A histogram for each, on an axis of its own since scorers have scales of their own.

    Where labels say which pairs match, those are filled and the others an outline.
    """
    with svg.drawing():
        figure, grid = svg.panels(len(spreads), _COLUMNS, 3.3, 1.9)
        for axes, one in zip(grid, spreads, strict=True):
            svg.plain(axes, _cut(one.name))
            axes.set_yticks([])
            known = one.scores[np.isfinite(one.scores)]
            if not len(known):
                axes.set_xticks([])
                axes.text(0, 0.5, "no scores", color=svg.SOFT, transform=axes.transAxes)
                continue
            edges = _edges(known)
            paint = svg.INK if one.colour is None else svg.colour(one.colour)
            if one.right is None:
                axes.hist(known, edges, color=paint, alpha=0.75)
                continue
            axes.hist(one.scores[one.right == 1], edges, color=paint, alpha=0.55)
            axes.hist(one.scores[one.right == 0], edges, color=svg.INK, histtype="step")
        return svg.inline(figure, colours, "histograms of scores")


def scatter(plots: Sequence[Against], colours: int) -> str:
    """A panel for each, with Spearman's rank correlation of its points in the title."""
    with svg.drawing():
        figure, grid = svg.panels(len(plots), _COLUMNS, 3.3, 2.9)
        for axes, one in zip(grid, plots, strict=True):
            both = np.isfinite(one.x) & np.isfinite(one.y)
            x, y = one.x[both], one.y[both]
            rho = spearman(x, y) if len(x) > 1 else np.nan
            svg.plain(axes, f"Spearman {rho:.2f}" if np.isfinite(rho) else "Spearman –")
            axes.set_xlabel(_cut(one.across), color=svg.INK)
            axes.set_ylabel(_cut(one.up), color=svg.INK)
            paint = svg.INK if one.colour is None else svg.colour(one.colour)
            if len(x) <= _MOST_DOTS:
                axes.plot(x, y, "o", color=paint, markersize=3, alpha=0.6, markeredgewidth=0)
            else:
                _density(axes, x, y, paint)
            axes.locator_params(axis="x", nbins=4)  # labels of small scores are long
        return svg.inline(figure, colours, "scores against people, or against each other")


def _density(axes: Axes, x: Floats, y: Floats, paint: str) -> None:
    """Squares, the more points in one the less transparent; one path for each level."""
    across, up = _edges(x), _edges(y)
    counts, _, _ = np.histogram2d(x, y, (across, up))
    share = np.log1p(counts) / np.log1p(counts.max())
    level = np.ceil(share * len(_LEVELS)).astype(int)
    for k, opacity in enumerate(_LEVELS, 1):
        boxes = [
            Path(
                [
                    (across[i], up[j]),
                    (across[i + 1], up[j]),
                    (across[i + 1], up[j + 1]),
                    (across[i], up[j + 1]),
                    (across[i], up[j]),
                ],
                closed=True,
            )
            for i, j in np.argwhere(level == k)
        ]
        if boxes:
            path = Path.make_compound_path(*boxes)
            axes.add_patch(PathPatch(path, facecolor=paint, linewidth=0, alpha=opacity))
    axes.set_xlim(across[0], across[-1])
    axes.set_ylim(up[0], up[-1])


def _edges(values: Floats) -> list[float]:
    """Borders of bins of one width: around each level of ratings, and fewer for few values."""
    levels = np.unique(values)
    first, last = float(levels[0]), float(levels[-1])
    step = float(np.diff(levels).min(initial=np.inf))
    if len(levels) == 1:
        return [first - 0.5, first + 0.5]
    bins = round((last - first) / step) + 1 if step * _BINS > last - first else 0
    if bins:
        first, last = first - step / 2, first + (bins - 0.5) * step
    else:
        bins = min(_BINS, math.ceil(2 * math.sqrt(len(values))))
    found: list[float] = np.linspace(first, last, bins + 1).tolist()
    return [*found[:-1], max(found[-1], float(levels[-1]))]


def _cut(name: str) -> str:
    name = printable(name)  # half a character cannot be drawn
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
