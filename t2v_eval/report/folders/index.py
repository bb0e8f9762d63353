"""One static page over many report folders: figures, dates, trends and links.

Only ``report.json`` of each folder is read. Figures of one chart can be compared: those of one
benchmark with the same items and, of generators, by the same scorer.
"""

from __future__ import annotations

import html
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from t2v_eval.errors import InputError
from t2v_eval.report.folders.models import MEAN_SCORE, evaluated_models
from t2v_eval.report.format import PAGE
from t2v_eval.report.reader import read_report
from t2v_eval.report.templates import environment
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.utils.arguments import check_path

COLOURS = 8  # of the style sheet of reports
WIDTH, HEIGHT, MARGIN = 640, 170, 12  # of a chart, in pixels


@dataclass(frozen=True, slots=True)
class Entry:
    """A figure of a report.

    Attributes:
        link: the page of the report, relative to the index.
        report: the name of its folder.
        date: when it was made, "YYYY-MM-DD HH:MM".
        benchmark: the name of the benchmark, with the part that was evaluated.
        scorer: the name of the scorer.
        scorer_id: its id.
        subject: the generator, or the scorer where the benchmark has none.
        metric: the name of the metric.
        interval: the figure.
        items: the number of items.
        data: the hash of the items, or "".
        failed: the number of failed scores.

    >>> value = Interval(0.5, 0.4, 0.6)
    >>> Entry("a/report.html", "a", "", "drawn", "mine", "mine 1", "mine", "auroc", value, 9).chart
    ('drawn', '', 'auroc', '', '')
    """

    link: str
    report: str
    date: str
    benchmark: str
    scorer: str
    scorer_id: str
    subject: str
    metric: str
    interval: Interval
    items: int
    data: str = ""
    failed: int = 0

    @property
    def chart(self) -> tuple[str, ...]:
        """Return what figures have in common that can be compared."""
        of_generators = self.metric == MEAN_SCORE
        scorer = (self.scorer, self.scorer_id) if of_generators else ("", "")
        return (self.benchmark, self.data, self.metric, *scorer)


def find_reports(folders: Iterable[str | Path]) -> list[Path]:
    """Return the ``report.json`` of each folder, or of the folders within it.

    Args:
        folders: folders of reports, or folders that hold some; links within them are not followed.

    Raises:
        InputError: a folder does not exist or holds no report.

    >>> find_reports(["no-such-folder"])
    Traceback (most recent call last):
    ...
    t2v_eval.errors.InputError: no-such-folder: no such folder
    """
    reports: dict[Path, None] = {}
    for folder in folders:
        top = check_path("folders", folder)
        if not top.is_dir():
            raise InputError(f"{top}: {'not a folder' if top.exists() else 'no such folder'}")
        before = len(reports)
        for path, within, files in os.walk(top):
            within.sort()
            if "report.json" in files:
                reports[Path(path) / "report.json"] = None
        if len(reports) == before:
            raise InputError(f"{top} holds no report.json: pass folders that --out wrote")
    return list(reports)


def render_index(reports: Sequence[Path], page: str | Path) -> tuple[str, list[str]]:
    """Return the page over reports, and why some of them are left out.

    Args:
        reports: their ``report.json``, as `find_reports` returns them.
        page: where the page will be written, which links are relative to.

    Raises:
        InputError: none of them can be read.

    >>> try:
    ...     render_index([Path("none/report.json")], "index.html")
    ... except InputError as error:
    ...     print(error)
    no report can be read: none/report.json: no such folder or report.json
    """
    entries: list[Entry] = []
    left_out: list[str] = []
    for report in reports:
        try:
            entries += _entries(report, check_path("page", page).absolute().parent)
        except InputError as error:
            left_out.append(str(error))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            left_out.append(f"{report} is not a report: {error!r} while its figures were read")
    if len(left_out) == len(reports):
        raise InputError(f"no report can be read: {left_out[0]}")
    content = (
        environment(signed=_signed)
        .get_template("folders/index.html")
        .render(
            benchmarks=_benchmarks(entries),
            reports=len(reports) - len(left_out),
            left_out=left_out,
            colours=COLOURS,
        )
    )
    return content, left_out


def _signed(value: float) -> str:
    return PAGE.number(value, sign="+")


def _entries(report: Path, base: Path) -> Iterator[Entry]:
    """Yield the headline of each run of a report; of sets of prompts that of each generator."""
    content = read_report(report)
    folder = report.parent
    page = folder / ("report.html" if (folder / "report.html").exists() else "report.json")
    created = content.get("created")
    if not isinstance(created, str) or not created:
        created = datetime.fromtimestamp(report.stat().st_mtime).astimezone().isoformat()
    for model in evaluated_models(content):
        for figure in model.figures:
            if not figure.headline:
                continue
            scorer = figure.run["scorer"]
            yield Entry(
                link=quote(os.path.relpath(page.absolute(), base), safe="/"),
                report=folder.absolute().name,
                date=created[:16].replace("T", " "),
                benchmark=model.benchmark,
                scorer=str(scorer["name"]),
                scorer_id=str(scorer["id"]),
                subject=model.name,
                metric=figure.metric,
                interval=figure.interval,
                items=int(figure.run["benchmark"]["items"]),
                data=(figure.run.get("data") or {}).get("sha256") or "",
                failed=int(figure.run["counts"]["failed"]),
            )


def _benchmarks(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return for each benchmark its charts, each with a picture of the trend and its rows."""
    charts: dict[tuple[str, ...], list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: (entry.date, entry.report)):
        charts.setdefault(entry.chart, []).append(entry)
    benchmarks: dict[str, list[dict[str, Any]]] = {}
    for (name, data, metric, scorer, identity), rows in charts.items():
        chart = {
            "metric": metric,
            "scorer": scorer,
            "id": identity,
            "data": data[:12],
            "svg": _trend(rows, one_line=bool(scorer)),
            "limits": _limits(rows),
            "legend": [] if scorer else list(dict.fromkeys(row.subject for row in rows)),
            "rows": list(_rows(rows, one_line=bool(scorer))),
        }
        benchmarks.setdefault(name, []).append(chart)
    return [{"name": name, "charts": charts} for name, charts in sorted(benchmarks.items())]


def _rows(entries: Sequence[Entry], one_line: bool) -> Iterator[dict[str, Any]]:
    """Yield each figure, the newest first, with its change from the one before it."""
    before: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    for entry in entries:
        line = "" if one_line else entry.subject
        value = entry.interval.value
        change = value - before[line] if line in before else math.nan
        rows.append({"entry": entry, "change": change, "has_change": change == change})
        before[line] = value
    yield from reversed(rows)


def _trend(entries: Sequence[Entry], one_line: bool) -> Markup:
    """Draw figures in the order of their dates, a line for each subject; "" for a single one.

    New versions of a generator are points of one line, as their folders have other names.
    """
    with_value = [entry for entry in entries if entry.interval.value == entry.interval.value]
    if len(with_value) < 2:
        return Markup("")
    low, high = _limits(with_value)
    span = (high - low) or 1.0
    names = list(dict.fromkeys("" if one_line else entry.subject for entry in with_value))
    reports = list(dict.fromkeys((entry.date, entry.link) for entry in with_value))
    points: dict[str, list[str]] = {name: [] for name in names}
    marks: list[str] = []
    in_report: dict[tuple[str, str], int] = {}
    for entry in with_value:
        k = names.index("" if one_line else entry.subject)
        step = (WIDTH - 2 * MARGIN) / max(1, len(reports) - 1)
        place = (entry.date, entry.link)
        x = MARGIN + step * reports.index(place) + 3 * in_report.get(place, 0)
        in_report[place] = in_report.get(place, 0) + 1
        y, bottom, top = (_height((v - low) / span) for v in entry.interval)
        if bottom == bottom:
            marks.append(
                f'<path d="M{x:.1f} {bottom:.1f}V{top:.1f}" class="k{k % COLOURS} limit"/>'
            )
        label = html.escape(
            f"{entry.subject}, {entry.report}, {entry.date}: {PAGE.interval(entry.interval)}"
        )
        marks.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" class="k{k % COLOURS}">'
            f"<title>{label}</title></circle>"
        )
        if not one_line or in_report[place] == 1:
            points[names[k]].append(f"{x:.1f},{y:.1f}")
    lines = [
        f'<polyline points="{" ".join(places)}" class="k{k % COLOURS} line"/>'
        for k, places in enumerate(points.values())
        if len(places) > 1
    ]
    description = html.escape(f"{entries[0].metric} by date")
    return Markup(
        f'<svg class="trend" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{description}">{"".join(lines)}{"".join(marks)}</svg>'
    )


def _limits(entries: Sequence[Entry]) -> tuple[float, float]:
    values = [v for entry in entries for v in entry.interval if v == v]
    return min(values, default=math.nan), max(values, default=math.nan)


def _height(share: float) -> float:
    return HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN)
