"""Plots of metrics at growing numbers of images, and the line of FID-infinity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from t2v_eval.evaluation.distances.result import Curve, PairDistances
from t2v_eval.report import svg
from t2v_eval.stats.bootstrap import Interval

COLOURS = 8
"""Sets of images of a chart, each with a colour of its own."""

_COLUMNS = 3


def curves(pairs: Sequence[PairDistances]) -> str:
    """Draw a panel for each metric, with a line for each set of images.

    A bar is the interval at all images. Beside FID, a dashed line shows how FID-infinity was
    extrapolated: value + slope / n, and its value at the right.

    Args:
        pairs: up to `COLOURS` sets, with details.

    Returns:
        An ``<svg>`` element.

    >>> from t2v_eval.evaluation.distances.result import Details
    >>> details = Details({"kid": Curve((10, 20), (0.5, 0.25))})
    >>> sizes, values = {"reference": 9, "images": 20}, {"kid": Interval(0.25, 0.1, 0.4)}
    >>> curves([PairDistances("a", "b", sizes, values, (), details=details)])[:4]
    '<svg'
    """
    names = list(
        dict.fromkeys(name for pair in pairs if pair.details for name in pair.details.curves)
    )
    with svg.drawing():
        figure, grid = svg.panels(len(names), _COLUMNS, 3.3, 2.5)
        for axes, name in zip(grid, names, strict=True):
            svg.style_panel(axes, name)
            for k, pair in enumerate(pairs):
                curve = None if pair.details is None else pair.details.curves.get(name)
                if curve is None:
                    continue
                infinity = pair.metrics.get("fid-infinity") if name == "fid" else None
                _draw(axes, curve, pair.metrics[name], infinity, svg.colour(k))
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
            axes.set_xlim(left=0)
            axes.set_xlabel("images", color=svg.INK)
        return svg.inline(figure, COLOURS, "metrics at growing numbers of images")


def _draw(
    axes: Axes, curve: Curve, interval: Interval, infinity: Interval | None, colour: str
) -> None:
    counts, values = np.array(curve.counts), np.array(curve.values)
    axes.plot(counts, values, "o-", color=colour, markersize=3, linewidth=1.2)
    if np.isfinite(interval.low):
        axes.plot([counts[-1]] * 2, interval[1:], color=colour, linewidth=3, alpha=0.4)
    if infinity is None or not np.isfinite(infinity.value):
        return
    inverse = 1 / counts
    slope = inverse @ (values - infinity.value) / (inverse @ inverse)
    line = np.linspace(counts[0], counts[-1], 50)
    axes.plot(line, infinity.value + slope / line, "--", color=colour, linewidth=0.8)
    axes.axhline(infinity.value, color=colour, linewidth=0.8, linestyle=":")
