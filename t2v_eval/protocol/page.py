"""One static page of a protocol: verdicts, four pillars with the source of each number, outputs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from markupsafe import Markup

from t2v_eval.evaluation.sampling import Sample
from t2v_eval.inputs.tables import write_table
from t2v_eval.protocol.criteria import requirement
from t2v_eval.protocol.figures import Figure, PillarResult
from t2v_eval.protocol.probes.charts import draw, probe_value
from t2v_eval.protocol.result import ProtocolReport
from t2v_eval.report.chart import forest
from t2v_eval.report.format import PAGE
from t2v_eval.report.templates import environment
from t2v_eval.report.thumbnails import Album
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.utils.files import check_folder, write_text

MOST_PROMPTS = 8
"""Prompts whose images are shown: so many at random, and so many where the model falls behind."""
MOST_TAGS = 24  # rows of a chart
MOST_PANELS = 6  # of a chart


def write_protocol(report: ProtocolReport, folder: str | Path) -> Path:
    """Write ``report.json``, ``scores.csv`` and the page ``report.html`` to a folder.

    Args:
        report: what `run_protocol` returned.
        folder: the folder, which is created if needed.

    Returns:
        The page.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = check_folder(folder)
    content = json.dumps(report.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path / "report.json", content + "\n")
    if report.scores:
        write_table(path / "scores.csv", list(report.score_rows()))
    page = path / "report.html"
    write_text(page, render_protocol(report))
    return page


def render_protocol(report: ProtocolReport) -> str:
    """Return the page; it loads nothing and runs no script, and names are escaped.

    Args:
        report: what `run_protocol` returned.
    """
    chosen = {"chosen at random": _random(report), "where the model falls behind": _worst(report)}
    files = [file for numbers in chosen.values() for n in numbers for file in _files(report, n)]
    album = Album(files)
    return (
        environment("t2v_eval.protocol", value=_value, gap=_gap)
        .get_template("report.html")
        .render(
            report=report,
            names=(report.plan.model.name, report.plan.baseline.name),
            requirement=requirement,
            charts={name: Markup(_chart(p)) for name, p in report.pillars.items()},
            probe_charts={p.name: Markup(draw(p)) for p in report.probes},
            probe_value=partial(probe_value, style=PAGE),
            outputs={
                title: [_Output.from_report(report, album, n) for n in numbers]
                for title, numbers in chosen.items()
                if numbers
            },
            tags={name: _tag_rows(pillar) for name, pillar in report.pillars.items()},
        )
    )


@dataclass(frozen=True, slots=True)
class _Output:
    """A prompt and the images of both generators, as data URLs; "" where one is not shown."""

    id: str
    text: str
    images: Mapping[str, Sequence[str]]

    @classmethod
    def from_report(cls, report: ProtocolReport, album: Album, n: int) -> _Output:
        item = report.images.items[n]
        images = {
            generator.name: [
                _url(album, generator.images[seed][n]) for seed in sorted(generator.images)
            ]
            for generator in report.images.generators
        }
        return cls(item.id, item.texts[0], images)


def _url(album: Album, file: Path) -> str:
    place = album.index(str(file))
    return album.urls[place] if place >= 0 else ""


def _files(report: ProtocolReport, n: int) -> list[str]:
    return [str(g.images[seed][n]) for g in report.images.generators for seed in sorted(g.images)]


def _random(report: ProtocolReport) -> list[int]:
    """Return prompts by a hash of their text, whatever their scores."""
    items = report.images.items
    chosen = {id(item) for item in Sample(MOST_PROMPTS, report.plan.seed).choose(items)}
    return [n for n, item in enumerate(items) if id(item) in chosen]


def _worst(report: ProtocolReport) -> list[int]:
    """Return the prompts with the lowest mean of standardised differences over scorers."""
    gaps = []
    for scores in report.scores:
        with np.errstate(invalid="ignore"):
            difference = scores.model.mean(axis=0) - scores.baseline.mean(axis=0)
            spread = np.nanstd(difference) if (~np.isnan(difference)).any() else math.nan
        if spread > 0:
            gaps.append(difference / spread)
    if not gaps:
        return []
    mean = np.mean(gaps, axis=0)
    order = [int(n) for n in np.argsort(mean) if mean[n] < 0]
    return order[:MOST_PROMPTS]


def _tag_rows(pillar: PillarResult) -> list[tuple[str, Figure]]:
    return [(tag, figure) for tag, figures in pillar.by_tag.items() for figure in figures]


def _chart(pillar: PillarResult) -> str:
    """Draw a panel for each figure: model and baseline, of all prompts and by tag."""
    figures = [figure for figure in pillar.figures if not math.isnan(figure.model.low)]
    tags = list(pillar.by_tag)[:MOST_TAGS]
    if not figures:
        return ""
    panels = {}
    for figure in figures[:MOST_PANELS]:
        rows = [figure, *(_of_name(pillar.by_tag[tag], figure.name) for tag in tags)]
        panels[figure.name] = [[row.model for row in rows], [row.baseline for row in rows]]
    return forest(["all", *tags], panels, {})


def _of_name(figures: Sequence[Figure], name: str) -> Figure:
    """Return the figure of a name; one that is not there is NaN, which is not drawn."""
    unknown = Interval(math.nan, math.nan, math.nan)
    same = [figure for figure in figures if figure.name == name]
    if same:
        return same[0]
    return Figure(name=name, measures="", model=unknown, baseline=unknown, source=None)  # type: ignore[arg-type]


def _value(figure: Figure, side: str) -> Mapping[str, str]:
    """Return a number of a figure and its limits as text."""
    interval: Interval = getattr(figure, side)
    digits, sign = decimals(figure), "+" if side == "difference" else ""
    limits = PAGE.limits(interval, sign, digits)
    return {
        "value": PAGE.number(interval.value, digits, sign),
        "limits": "" if limits is None or math.isnan(interval.value) else " to ".join(limits),
    }


def _gap(figure: Figure) -> str:
    """Return the standard deviations between seeds as text; "" where there is none."""
    if all(map(math.isnan, figure.seed_sd)):
        return ""
    return " / ".join(PAGE.number(value, decimals(figure)) for value in figure.seed_sd)


def decimals(figure: Figure) -> int:
    """Return the decimals that show two digits of the width of its narrowest interval: 3 to 6.

    Args:
        figure: the figure.
    """
    widths = [i.high - i.low for i in (figure.model, figure.baseline, figure.difference)]
    widths = [width for width in widths if width > 0]
    return min(6, max(3, 1 - math.floor(math.log10(min(widths))))) if widths else 3
