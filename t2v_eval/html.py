"""The page of a report: one file that needs no network, from the template beside this module."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from t2v_eval.benchmark import Item, Run
from t2v_eval.bootstrap import Interval
from t2v_eval.browse import choose, disagreement, percentiles, thumbnail
from t2v_eval.chart import MARKERS, forest
from t2v_eval.report import Report, excludes_zero, item_name

MOST_ITEMS = 200
MOST_PICTURES = 600
MOST_TAGS = 24
MOST_ROWS = 8  # pictures, and texts, of one item

_GLYPHS = dict(zip("osD^vPX*", "●■◆▲▼✚✖★", strict=True))


def render(report: Report) -> str:
    """The whole page; whatever users supply (texts, names, tags, errors) is escaped."""
    environment = Environment(
        loader=PackageLoader("t2v_eval", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "percent": _percent, "signed": _signed}
    environment.tests["apart"] = excludes_zero
    labels = list(dict.fromkeys(report.labels))
    return environment.get_template("report.html").render(
        report=report,
        colours=len(labels),
        glyphs=[_GLYPHS[MARKERS[k % len(MARKERS)]] for k in range(len(labels))],
        sections=[
            _section(report, indices, {label: k for k, label in enumerate(labels)})
            for indices in report.by_benchmark.values()
        ],
    )


def _section(
    report: Report, indices: Sequence[int], colours: Mapping[str, int]
) -> Mapping[str, Any]:
    runs = [report.runs[index] for index in indices]
    first = runs[0].benchmark
    headline = first["headline"]
    # Runs of one benchmark may still differ in their items, if it was changed between them.
    together = [run for run in runs if len(run.items) == len(runs[0].items)]
    tags = sorted(first["tags"], key=lambda tag: -first["tags"][tag])[:MOST_TAGS]
    tags = [tag for tag in first["tags"] if tag in tags]
    scorers: list[dict[str, Any]] = [
        {"label": report.labels[index], "colour": colours[report.labels[index]], "run": run}
        for index, run in zip(indices, runs, strict=True)
    ]
    return {
        "benchmark": first,
        "headline": headline,
        "metrics": list(runs[0].metrics),
        "scorers": scorers,
        "ranked": sorted(scorers, key=lambda one: -_order(one["run"].metrics[headline])),
        "differences": [
            {"first": report.labels[d.first], "second": report.labels[d.second], "of": d}
            for d in report.differences
            if d.first in indices
        ],
        "tags": tags,
        "chart": _chart(runs, tags, colours, [one["label"] for one in scorers]),
        "items": _items(together, scorers[: len(together)]),
        "total": len(runs[0].items),
    }


def _chart(
    runs: Sequence[Run], tags: Sequence[str], colours: Mapping[str, int], labels: Sequence[str]
) -> str:
    first = runs[0]
    missing = Interval(math.nan, math.nan, math.nan)
    by_colour = dict(zip([colours[label] for label in labels], runs, strict=True))
    rows = [f"all ({len(first.items)})", *(f"{t} ({first.benchmark['tags'][t]})" for t in tags)]

    def intervals(colour: int, metric: str) -> list[Interval]:
        run = by_colour.get(colour)
        if run is None:
            return [missing] * len(rows)
        found = [run.metrics, *(run.by_tag.get(tag, {}) for tag in tags)]
        return [metrics.get(metric, missing) for metrics in found]

    panels = {
        metric: [intervals(colour, metric) for colour in range(max(by_colour) + 1)]
        for metric in first.metrics
    }
    return forest(rows, panels, first.benchmark["chance"])


def _items(runs: Sequence[Run], scorers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    items = runs[0].items
    apart = disagreement(runs)
    ranks = [percentiles(run.scores) for run in runs]
    return [
        {
            "number": n,
            "name": item_name(items[n], n),
            "tags": items[n].tags,
            "apart": float(apart[n]),
            "pictures": _pictures(items[n]),
            "texts": [
                {
                    "text": text,
                    "cells": [
                        [
                            {
                                "scorer": scorer,
                                "value": float(run.scores[n][i, j]),
                                "rank": float(rank[n][i, j]),
                                "error": run.failures.get((n, i, j), ""),
                            }
                            for run, rank, scorer in zip(runs, ranks, scorers, strict=True)
                        ]
                        for i in range(min(MOST_ROWS, len(items[n].images)))
                    ],
                }
                for j, text in enumerate(items[n].texts[:MOST_ROWS])
            ],
            "verdicts": [
                {"scorer": scorer, "metrics": run.verdicts[n]}
                for run, scorer in zip(runs, scorers, strict=True)
            ],
            "differs": len({tuple(run.verdicts[n].items()) for run in runs}) > 1,
            "hidden": max(len(items[n].images), len(items[n].texts)) > MOST_ROWS,
        }
        for n in choose(items, apart, MOST_ITEMS, MOST_PICTURES)
    ]


def _pictures(item: Item) -> list[Mapping[str, str | None]]:
    shown = item.images[:MOST_ROWS]
    return [
        {
            "url": thumbnail(image),
            "name": Path(image).name if isinstance(image, (str, Path)) else f"picture {i}",
        }
        for i, image in enumerate(shown)
    ]


def _order(interval: Interval) -> float:
    return interval.value if math.isfinite(interval.value) else -math.inf


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _signed(value: float, digits: int = 3) -> str:
    return f"{value:+.{digits}f}".replace("-", "−") if math.isfinite(value) else "–"


def _percent(value: float) -> str:
    return f"{100 * value:.0f}%" if math.isfinite(value) else "0%"
