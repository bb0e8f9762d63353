"""Forest plots of a report: metrics with their confidence intervals, overall and by tag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from t2v_eval.report import svg
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.utils.printable import printable

MARKERS = "osD^vPX*"
PANELS_PER_ROW = 3


def forest(
    rows: Sequence[str],
    panels: Mapping[str, Sequence[Sequence[Interval]]],
    chance: Mapping[str, float],
    colours: Sequence[int] | None = None,
    whole_scale: bool = True,
) -> str:
    """Draw a panel for each metric with a dot and an interval for every row and series.

    Args:
        rows: the names of the rows.
        panels: metric -> series -> row -> interval.
        chance: metric -> its value by guessing, or what else is a dashed line.
        colours: of each series the k of the CSS colour ``--sk``; by default its place.
        whole_scale: whether values between 0 and 1 are drawn on the scale from 0 to 1.

    Returns:
        An ``<svg>`` element; NaN is not drawn.

    >>> svg_text = forest(["all"], {"tau_b": [[Interval(0.5, 0.4, 0.6)]]}, chance={"tau_b": 0.0})
    >>> svg_text[:4], "--s0" in svg_text
    ('<svg', True)
    """
    series = max(len(values) for values in panels.values())
    colours = range(series) if colours is None else colours
    height = 0.6 + len(rows) * (0.14 + 0.15 * series)
    columns = min(PANELS_PER_ROW, len(panels))
    with svg.drawing():
        figure, grid = svg.panels(len(panels), columns, 2.9 + 1.6 / columns, height, sharey=True)
        for axes, (metric, values) in zip(grid, panels.items(), strict=True):
            draw_panel(axes, metric, rows, values, colours, chance.get(metric), whole_scale)
        description = "metrics with their intervals, overall and by tag"
        return svg.inline(figure, 1 + max(colours, default=0), description)


def draw_panel(
    axes: Axes,
    metric: str,
    rows: Sequence[str],
    values: Sequence[Sequence[Interval]],
    colours: Sequence[int],
    chance: float | None = None,
    whole_scale: bool = True,
    palette: svg.Palette = svg.PAGE,
) -> None:
    """Draw a panel of `forest`.

    Args:
        axes: where to draw.
        metric: its title.
        rows: the names of the rows.
        values: series -> row -> interval.
        colours: of each series the number of its colour in the palette.
        chance: what is a dashed line.
        whole_scale: as for `forest`.
        palette: the colours.

    >>> _, (axes,) = svg.panels(1, columns=1, width=2.0, height=1.5)
    >>> draw_panel(axes, "tau_b", ["all"], [[Interval(0.5, 0.4, 0.6)]], [0], palette=svg.PAPER)
    >>> axes.get_title(loc="left")
    'tau_b'
    """
    _intervals(axes, values, colours, palette)
    _axes(axes, metric, rows, values, chance, whole_scale, palette)


def _intervals(
    axes: Axes,
    values: Sequence[Sequence[Interval]],
    colours: Sequence[int],
    palette: svg.Palette,
) -> None:
    step = 0.7 / len(values)
    for k, intervals in enumerate(values):
        y = [row + (k - (len(values) - 1) / 2) * step for row in range(len(intervals))]
        colour = palette.colour(colours[k])
        axes.hlines(
            y, [i.low for i in intervals], [i.high for i in intervals], color=colour, linewidth=1.8
        )
        axes.plot(
            [i.value for i in intervals],
            y,
            MARKERS[colours[k] % len(MARKERS)],
            color=colour,
            markersize=5,
            linestyle="none",
        )


def _axes(
    axes: Axes,
    metric: str,
    rows: Sequence[str],
    values: Sequence[Sequence[Interval]],
    chance: float | None,
    whole_scale: bool,
    palette: svg.Palette,
) -> None:
    svg.style_panel(axes, printable(metric), palette)
    if chance is not None:
        axes.axvline(chance, color=palette.soft, linestyle=(0, (4, 3)), linewidth=1)
    limits = [
        x for intervals in values for i in intervals for x in (i.value, i.low, i.high) if x == x
    ]
    if whole_scale and all(0 <= x <= 1 for x in limits):
        axes.set_xlim(-0.02, 1.02)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    else:
        axes.margins(x=0.12)
        axes.locator_params(axis="x", nbins=5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), list(map(printable, rows)))
    axes.grid(visible=False, axis="y")
    for row in range(1, len(rows)):
        axes.axhline(row - 0.5, color=palette.line, linewidth=0.4)
