"""The chart of a report: metrics with their intervals, overall and by tag, as inline SVG.

The picture takes its colours from the page's CSS variables, so that it follows light and dark.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from t2v_eval.bootstrap import Interval

MARKERS = "osD^vPX*"
_INK, _LINE, _SOFT = "#010101", "#020202", "#020203"
_COLUMNS = 3


def forest(
    rows: Sequence[str],
    panels: Mapping[str, Sequence[Sequence[Interval]]],
    chance: Mapping[str, float],
) -> str:
    """One panel a metric; in each, for each row, a dot and a line for every scorer.

    Args:
        rows: what the rows are called.
        panels: metric -> scorer -> row -> interval; scorer k is drawn in CSS colour ``--sk``.
        chance: metric -> what guessing reaches, a dashed line.

    Returns:
        an ``<svg>`` element; NaN is left out.
    """
    scorers = len(next(iter(panels.values())))
    columns = min(_COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    height = 0.6 + len(rows) * (0.14 + 0.15 * scorers)
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "t2v-eval",
        "text.parse_math": False,
        "font.size": 9,
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The page's fonts draw the text; that ours lack a letter does not matter.
        warnings.simplefilter("ignore")
        layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
        figure = Figure(figsize=(1.6 + 2.9 * columns, height * lines), layout=layout)
        grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes, (metric, values) in zip(grid.flat, panels.items(), strict=False):
            _panel(axes, metric, rows, values, chance.get(metric))
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return _inline(stream.getvalue(), scorers)


def _panel(
    axes: Axes,
    metric: str,
    rows: Sequence[str],
    values: Sequence[Sequence[Interval]],
    chance: float | None,
) -> None:
    step = 0.7 / len(values)
    for k, intervals in enumerate(values):
        y = [row + (k - (len(values) - 1) / 2) * step for row in range(len(rows))]
        colour = _colour(k)
        axes.hlines(
            y, [i.low for i in intervals], [i.high for i in intervals], color=colour, linewidth=1.8
        )
        axes.plot(
            [i.value for i in intervals],
            y,
            MARKERS[k % len(MARKERS)],
            color=colour,
            markersize=5,
            linestyle="none",
        )
    if chance is not None:
        axes.axvline(chance, color=_SOFT, linestyle=(0, (4, 3)), linewidth=1)
    limits = [x for one in values for i in one for x in (i.value, i.low, i.high) if x == x]
    if all(0 <= x <= 1 for x in limits):
        axes.set_xlim(-0.02, 1.02)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_title(metric, color=_INK, loc="left", fontweight="bold")
    axes.tick_params(colors=_INK, length=0)
    axes.grid(axis="x", color=_LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    for row in range(1, len(rows)):
        axes.axhline(row - 0.5, color=_LINE, linewidth=0.4)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _colour(k: int) -> str:
    return f"#03{k:04x}"


def _inline(svg: str, scorers: int) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 class="chart" role="img"', svg)
    # Ids of groups repeat between charts of one page and nothing refers to them.
    svg = re.sub(r'<g id="\w+_\d+"', "<g", svg)
    svg = svg.replace(_INK, "currentColor").replace(_LINE, "var(--line)")
    svg = svg.replace(_SOFT, "var(--soft)")
    for k in range(scorers):
        svg = svg.replace(_colour(k), f"var(--s{k})")
    return svg
