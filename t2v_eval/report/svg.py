"""Matplotlib figures as inline SVG that takes colours and fonts from the page, light or dark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

POINTS = 72  # of SVG in an inch
INK, LINE, SOFT = "#010101", "#020202", "#020203"  # placeholders of the page's CSS variables


def colour(k: int) -> str:
    """Return the placeholder of the CSS colour ``--sk``, which `inline` replaces.

    >>> colour(2)
    '#030002'
    """
    return f"#03{k:04x}"


class Palette(NamedTuple):
    """The colours of a figure.

    Attributes:
        ink: of text.
        line: of a grid.
        soft: of what guessing reaches.
        scorers: of scorers, repeated where there are more; none for the placeholders of the page.

    >>> PAGE.colour(2), PAPER.colour(9) == PAPER.colour(1)
    ('#030002', True)
    """

    ink: str
    line: str
    soft: str
    scorers: Sequence[str] = ()

    def colour(self, k: int) -> str:
        """Return the colour of scorer k."""
        return self.scorers[k % len(self.scorers)] if self.scorers else colour(k)


PAGE = Palette(INK, LINE, SOFT)
PAPER = Palette(  # those of report.css on white
    "#1c2026",
    "#d9dde3",
    "#5f6873",
    "#2f66d0 #d0700f #17875f #a63f94 #85671f #5a6472 #0f8ba0 #c03b4b".split(),
)


@contextmanager
def drawing() -> Iterator[None]:
    """Set up matplotlib for SVG while the context is open: text stays text and is not TeX.

    >>> with drawing():
    ...     matplotlib.rcParams["svg.fonttype"]
    'none'
    """
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "t2v-eval",
        "text.parse_math": False,
        "font.size": 9,
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The page's fonts draw the text, so a missing glyph in matplotlib's does not matter.
        warnings.simplefilter("ignore")
        yield


def panels(
    count: int, columns: int, width: float, height: float, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels, `width` x `height` inches each, in up to `columns`.

    >>> figure, axes = panels(3, columns=2, width=2.0, height=1.5)
    >>> figure.get_size_inches().tolist(), len(axes)
    ([4.0, 3.0], 3)
    """
    columns = min(columns, count)
    lines = -(-count // columns)
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(width * columns, height * lines), layout=layout)
    grid = list(figure.subplots(lines, columns, squeeze=False, **shared).flat)
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, grid[:count]


def style_panel(axes: Axes, title: str, palette: Palette = PAGE) -> None:
    """Remove the frame, add a light grid and a title on the left.

    Args:
        axes: the panel.
        title: its title.
        palette: its colours.

    >>> _, (axes,) = panels(1, columns=1, width=2.0, height=1.5)
    >>> style_panel(axes, "tau_b")
    >>> axes.get_title(loc="left")
    'tau_b'
    """
    axes.set_title(title, color=palette.ink, loc="left", fontweight="bold")
    axes.tick_params(colors=palette.ink, length=0)
    axes.grid(color=palette.line, linewidth=0.5)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def inline(figure: Figure, colours: int, description: str) -> str:
    """Return the figure as an ``<svg>`` element.

    Args:
        figure: the figure.
        colours: the number of scorers with a colour of their own.
        description: for screen readers.

    >>> figure, _ = panels(1, columns=1, width=2.0, height=1.5)
    >>> 'aria-label="scores"' in inline(figure, colours=1, description="scores")
    True
    """
    _lay_out(figure)
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    label = f'class="chart" role="img" aria-label="{description}"'
    inches = f"--inches: {figure.get_figwidth():.1f}"
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', rf'\1 {label} style="{inches}"', svg, count=1)
    # Group ids repeat between the charts of a page, and nothing refers to them.
    svg = re.sub(r'<g id="\w+_\d+"', "<g", svg)
    # Hundredths of a point are finer than any screen; six digits would double the page's size.
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)
    svg = svg.replace(INK, "currentColor").replace(LINE, "var(--line)")
    svg = svg.replace(SOFT, "var(--soft)")
    for k in range(colours):
        svg = svg.replace(colour(k), f"var(--s{k})")
    return svg


def _lay_out(figure: Figure) -> None:
    """Apply the layout as it will be in SVG; `savefig` would draw the figure once more for it."""
    FigureCanvasSVG(figure)
    figure.set_dpi(POINTS)
    layout = figure.get_layout_engine()
    if layout is not None:
        layout.execute(figure)
        figure.set_layout_engine("none")
