"""A report in a notebook: its figures and scores as DataFrames, its tables as HTML, a chart."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D

from t2v_eval.errors import InputError, MissingPackageError
from t2v_eval.evaluation.run import Run
from t2v_eval.report.chart import MARKERS, PANELS_PER_ROW, draw_panel
from t2v_eval.report.claims import claims, first_sentence
from t2v_eval.report.format import CONSOLE, PAGE
from t2v_eval.report.svg import PAPER, drawing
from t2v_eval.report.tables import (
    Cell,
    ChanceCell,
    IntervalCell,
    PublishedCell,
    PValueCell,
    ScorerCell,
    Section,
    Table,
    VerdictCell,
)
from t2v_eval.scoring.results import CellCounts
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.utils.arguments import wrong_type
from t2v_eval.utils.printable import printable

MAX_TAGS = 24  # rows of a chart
MAX_PANELS = 5  # side by side, of scorers


class Frames(NamedTuple):
    """A report as DataFrames of pandas.

    Attributes:
        figures: a row for each metric of each run, overall (tag "") and by tag, as in metrics.csv.
        scores: a row for each cell of each run, as in scores.csv.

    >>> Frames([], []).scores
    []
    """

    figures: Any
    scores: Any


def frames(figures: Iterable[Mapping[str, Any]], rows: Iterable[Mapping[str, Any]]) -> Frames:
    """Return rows of figures and of scores as DataFrames.

    Raises:
        MissingPackageError: pandas is not installed.

    >>> frames([{"metric": "tau_b", "value": 0.5}], []).figures.value.tolist()
    [0.5]
    """
    try:
        pandas = import_module("pandas")
    except ImportError as error:
        raise MissingPackageError(
            "to_pandas needs the package 'pandas': pip install 't2v-eval[pandas]'"
        ) from error
    return Frames(*(pandas.DataFrame(map(_with_nan, part)) for part in (figures, rows)))


def _with_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose missing numbers are NaN, so that their column is one of numbers."""
    return {name: math.nan if value is None else value for name, value in row.items()}


def summary(sections: Iterable[Section], runs: int) -> str:
    """Return the number of runs and the first sentence of each section, a line each.

    >>> summary([], 0)
    'Report of 0 runs'
    """
    lines = [f"Report of {runs} run{'s' * (runs != 1)}"]
    for section in sections:
        labels = ", ".join(label for label, _ in section.scorers)
        lines.append(f"{section.name}: {first_sentence(section, CONSOLE) or labels}")
    return printable("\n  ".join(lines))


def to_html(sections: Iterable[Section]) -> str:
    """Return the first sentences and the tables of sections as HTML, without a script.

    Text from users is escaped.

    >>> to_html([])
    '<div></div>'
    """
    inner = Markup("").join(part for section in sections for part in _section(section))
    return str(Markup("<div>{}</div>").format(inner))


def chart(sections: Sequence[Section], metrics: Sequence[str]) -> Figure:
    """Return a figure with the metrics of each scorer and their intervals, overall and by tag.

    Args:
        sections: the benchmarks of a report, a row of panels each.
        metrics: the metrics to draw; none for the headline and two more.

    Raises:
        InputError: there is nothing to draw, or no benchmark has a metric of this name.

    >>> import t2v_eval
    >>> from t2v_eval.report.tables import sections
    >>> report = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 4}, resamples=5)
    >>> figure = chart(list(sections(report.runs, report.labels, report.differences)), ["group"])
    >>> [axes.get_title(loc="left") for axes in figure.subfigs[0].axes]
    ['group']
    """
    _check_metrics(sections, metrics)
    charts = [_Chart.of_section(section, metrics) for section in sections]
    heights = [0.9 + len(chart.rows) * (0.14 + 0.15 * len(chart.series)) for chart in charts]
    with drawing():
        figure = NotebookFigure(figsize=(10, sum(heights)), layout="constrained")
        parts = figure.subfigures(len(charts), 1, squeeze=False, height_ratios=heights)
        for part, panel in zip(parts[:, 0], charts, strict=True):
            panel.draw(part)
    return figure


class NotebookFigure(Figure):
    """A figure that a notebook shows as the value of a cell, also without pyplot.

    >>> NotebookFigure(figsize=(1, 1))._repr_png_()[1:4]
    b'PNG'
    """

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png")
        return stream.getvalue()


class _Chart(NamedTuple):
    """The chart of a benchmark: its panels, and the series that all of them have."""

    title: str
    rows: Sequence[str]
    series: Sequence[str]
    panels: Mapping[str, Sequence[Sequence[Interval]]]
    chance: Mapping[str, float]
    generators: bool = False  # whether these are the series

    @classmethod
    def of_section(cls, section: Section, metrics: Sequence[str]) -> _Chart:
        """Choose what to draw: of sets of prompts each generator, of others each scorer."""
        facts, first = section.first.benchmark, section.first
        tags = list(facts.tags)[:MAX_TAGS]
        rows = [f"all ({facts.items})", *(f"{tag} ({facts.tags[tag]})" for tag in tags)]
        names = [name for name in metrics if name in first.metrics]
        if section.has_generators and not names:
            generators = [
                folder.folder for folder in facts.folders if folder.folder in first.metrics
            ]
            panels = {
                f"mean by {label}": [_column(run, generator, tags) for generator in generators]
                for label, run in section.scorers[:MAX_PANELS]
            }
            return cls(section.name, rows, generators, panels, {}, generators=True)
        # The headline first, then the others in their order.
        ordered = sorted(first.metrics, key=lambda name: name != facts.headline)
        panels = {
            name: [_column(run, name, tags) for _, run in section.scorers]
            for name in names or ordered[:PANELS_PER_ROW]
        }
        labels = [label for label, _ in section.scorers]
        return cls(section.name, rows, labels, panels, facts.chance)

    def draw(self, figure: FigureBase) -> None:
        """Draw the panels side by side, below a title and a legend."""
        figure.suptitle(printable(self.title), x=0.01, ha="left", fontsize="medium")
        colours = range(len(self.series))
        grid = figure.subplots(1, len(self.panels), sharey=True, squeeze=False)
        for axes, (name, values) in zip(grid.flat, self.panels.items(), strict=True):
            chance, whole = self.chance.get(name), not self.generators
            draw_panel(axes, name, self.rows, values, colours, chance, whole, PAPER)
        handles = [
            Line2D([], [], color=PAPER.colour(k), marker=MARKERS[k % len(MARKERS)], label=label)
            for k, label in enumerate(map(printable, self.series))
        ]
        figure.legend(handles=handles, loc="upper right", ncols=4, frameon=False)


def _column(run: Run, metric: str, tags: Sequence[str]) -> list[Interval]:
    """Return the intervals of a metric, overall and by tag; NaN where there is none."""
    rows = [run.metrics, *(run.by_tag.get(tag, {}) for tag in tags)]
    return [metrics.get(metric, Interval(math.nan, math.nan, math.nan)) for metrics in rows]


def _check_metrics(sections: Sequence[Section], metrics: Sequence[str]) -> None:
    if not sections:
        raise InputError("a report without runs has nothing to plot")
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        raise wrong_type("metrics", metrics, "a list of names")
    choices = dict.fromkeys(name for section in sections for name in section.first.metrics)
    for name in metrics:
        if name not in choices:
            raise InputError(f"there is no metric {name!r} to plot; there are {', '.join(choices)}")


def _section(section: Section) -> Iterator[Markup]:
    benchmark = section.first.benchmark
    yield Markup("<h4>{}</h4>").format(printable(section.name))
    for claim in claims(section, PAGE):
        sentence = Markup("<strong>{}</strong>").format(printable(claim.text))
        yield Markup("<p>{}</p>").format(
            Markup(" ").join([sentence, *(map(printable, claim.basis))])
        )
    tables = [section.metrics()]
    tables += [section.differences()] if section.pairs else []
    tables += section.contrasts()
    yield from map(_table, tables)
    for table in section.published():
        yield Markup("<details><summary>published figures</summary>{}</details>").format(
            _table(table)
        )
    if benchmark.tags:
        by_tag = _table(section.by_tag())
        yield Markup("<details><summary>by tag</summary>{}</details>").format(by_tag)
    for text in (benchmark.note, *benchmark.remarks, *section.cautions):
        if text:
            yield Markup("<p><small>{}</small></p>").format(printable(text))


def _table(table: Table) -> Markup:
    heads = Markup("").join(Markup("<th>{}</th>").format(printable(c)) for c in table.columns)
    rows = Markup("").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(Markup("<td>{}</td>").format(_cell(cell)) for cell in row)
        )
        for row in table.rows
    )
    note = Markup("<p><small>{}</small></p>").format(printable(table.note)) if table.note else ""
    return Markup(
        "<table><caption style='text-align: left'>{}</caption><thead><tr>{}</tr></thead>"
        "<tbody>{}</tbody></table>{}"
    ).format(printable(table.title), heads, rows, note)


def _cell(cell: Cell) -> str:
    match cell:
        case ScorerCell(label, failed):
            return printable(label) + (f" (failed on {failed})" if failed else "")
        case IntervalCell(interval, sign, published):
            beside = "" if published is None else f"; published {PAGE.number(published)}"
            return PAGE.interval(interval, sign) + beside
        case PValueCell(p):
            return PAGE.p_value(p)
        case VerdictCell(text) | ChanceCell(text) | str(text):
            return printable(text)
        case PublishedCell():
            return printable(cell.text)
        case CellCounts():
            return f"{cell.used} of {cell.cells}"
