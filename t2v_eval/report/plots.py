"""Plots of a report: distributions of scores, and scatter plots against ratings and each other."""

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
_MAX_NAME = 34  # characters of a scorer's name
_BINS = 30
_MAX_DOTS = 400  # more points are drawn as a density, which stays small and readable
_LEVELS = (0.18, 0.35, 0.55, 0.78, 1.0)  # opacity, from few points to many


@dataclass(frozen=True, slots=True)
class Distribution:
    """The scores of a scorer, to be drawn as a histogram.

    Attributes:
        colour: the number of a CSS colour; None for human ratings.
        scores: (n,) scores; NaN is left out.
        matches: (n,) 1 for cells that match, 0 for those that do not, NaN where unknown.

    >>> Distribution("mine", colour=0, scores=np.array([0.1, 0.4])).matches is None
    True
    """

    name: str
    colour: int | None
    scores: Floats
    matches: Floats | None = None


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two (n,) arrays for a scatter plot, the labels of its axes and a colour.

    >>> Pairing("mine", "people", 0, np.array([0.1, np.nan]), np.array([1.0, 2.0])).points
    1
    """

    x_label: str
    y_label: str
    colour: int | None
    x: Floats
    y: Floats

    @property
    def points(self) -> int:
        """Return the number of points with two finite values."""
        return int((np.isfinite(self.x) & np.isfinite(self.y)).sum())


def histograms(distributions: Sequence[Distribution], colours: int) -> str:
    """Draw a histogram for each scorer, on its own axis since scales differ; return an ``<svg>``.

    Where labels say which cells match, those are filled and the others outlined.

    >>> histograms([Distribution("mine", 0, np.array([0.1, 0.4]))], colours=1)[:4]
    '<svg'
    """
    with svg.drawing():
        figure, grid = svg.panels(len(distributions), _COLUMNS, 3.3, 1.9)
        for axes, distribution in zip(grid, distributions, strict=True):
            svg.style_panel(axes, _cut(distribution.name))
            axes.set_yticks([])
            scores, matches = distribution.scores, distribution.matches
            finite = scores[np.isfinite(scores)]
            if not len(finite):
                axes.set_xticks([])
                axes.text(0, 0.5, "no scores", color=svg.SOFT, transform=axes.transAxes)
                continue
            edges = _edges(finite)
            paint = _paint(distribution.colour)
            if matches is None:
                axes.hist(finite, edges, color=paint, alpha=0.75)
                continue
            axes.hist(scores[matches == 1], edges, color=paint, alpha=0.55)
            axes.hist(scores[matches == 0], edges, color=svg.INK, histtype="step")
        return svg.inline(figure, colours, "histograms of scores")


def scatter(pairings: Sequence[Pairing], colours: int) -> str:
    """Draw scatter plots, titled with Spearman's rank correlation; return an ``<svg>``.

    >>> pairing = Pairing("mine", "people", 0, np.array([0.1, 0.4]), np.array([1.0, 2.0]))
    >>> scatter([pairing], colours=1)[:4]
    '<svg'
    """
    with svg.drawing():
        figure, grid = svg.panels(len(pairings), _COLUMNS, 3.3, 2.9)
        for axes, pairing in zip(grid, pairings, strict=True):
            both = np.isfinite(pairing.x) & np.isfinite(pairing.y)
            x, y = pairing.x[both], pairing.y[both]
            rho = spearman(x, y) if len(x) > 1 else np.nan
            svg.style_panel(axes, f"Spearman {rho:.2f}" if np.isfinite(rho) else "Spearman –")
            axes.set_xlabel(_cut(pairing.x_label), color=svg.INK)
            axes.set_ylabel(_cut(pairing.y_label), color=svg.INK)
            paint = _paint(pairing.colour)
            if len(x) <= _MAX_DOTS:
                axes.plot(x, y, "o", color=paint, markersize=3, alpha=0.6, markeredgewidth=0)
            else:
                _density(axes, x, y, paint)
            axes.locator_params(axis="x", nbins=4)  # labels of small scores are long
        return svg.inline(figure, colours, "scores against people, or against each other")


def _paint(colour: int | None) -> str:
    return svg.INK if colour is None else svg.colour(colour)


def _density(axes: Axes, x: Floats, y: Floats, paint: str) -> None:
    """Draw squares whose opacity grows with their number of points, one path for each level."""
    x_edges, y_edges = _edges(x), _edges(y)
    counts, _, _ = np.histogram2d(x, y, (x_edges, y_edges))
    share = np.log1p(counts) / np.log1p(counts.max())
    level = np.ceil(share * len(_LEVELS)).astype(int)
    for k, opacity in enumerate(_LEVELS, 1):
        boxes = [
            Path(
                [
                    (x_edges[i], y_edges[j]),
                    (x_edges[i + 1], y_edges[j]),
                    (x_edges[i + 1], y_edges[j + 1]),
                    (x_edges[i], y_edges[j + 1]),
                    (x_edges[i], y_edges[j]),
                ],
                closed=True,
            )
            for i, j in np.argwhere(level == k)
        ]
        if boxes:
            path = Path.make_compound_path(*boxes)
            axes.add_patch(PathPatch(path, facecolor=paint, linewidth=0, alpha=opacity))
    axes.set_xlim(x_edges[0], x_edges[-1])
    axes.set_ylim(y_edges[0], y_edges[-1])


def _edges(values: Floats) -> list[float]:
    """Return the edges of equal bins: around each level of ratings, and fewer for few values."""
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
    edges: list[float] = np.linspace(first, last, bins + 1).tolist()
    return [*edges[:-1], max(edges[-1], float(levels[-1]))]


def _cut(name: str) -> str:
    name = printable(name)  # matplotlib cannot draw lone surrogates
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
