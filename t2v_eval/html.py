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
from t2v_eval.comparison import Difference, by_benchmark, excludes_zero, item_name

MOST_ITEMS = 200
MOST_PICTURES = 600
MOST_TAGS = 24
MOST_ROWS = 8  # pictures, and texts, of one item

_GLYPHS = dict(zip("osD^vPX*", "●■◆▲▼✚✖★", strict=True))


def render(runs: Sequence[Run], labels: Sequence[str], differences: Sequence[Difference]) -> str:
    """The whole page; whatever users supply (texts, names, tags, errors) is escaped.

    Args:
        labels: what to call the scorer of each run.
        differences: of the runs that can be compared, by their indices.
    """
    environment = Environment(
        loader=PackageLoader("t2v_eval", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "short": _short}
    environment.filters |= {"percent": _percent, "signed": _signed}
    environment.tests["apart"] = excludes_zero
    colours = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    scorers = [
        {"label": label, "colour": colours[label], "run": run}
        for label, run in zip(labels, runs, strict=True)
    ]
    return environment.get_template("report.html").render(
        scorers=scorers,
        colours=len(colours),
        glyphs=[_GLYPHS[MARKERS[k % len(MARKERS)]] for k in range(len(colours))],
        sections=[
            _section(
                [scorers[index] for index in indices],
                [
                    {"first": labels[d.first], "second": labels[d.second], "of": d}
                    for d in differences
                    if d.first in indices
                ],
            )
            for indices in by_benchmark(runs).values()
        ],
    )


def _section(
    scorers: Sequence[Mapping[str, Any]], differences: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any]:
    first: Run = scorers[0]["run"]
    headline = first.benchmark["headline"]
    frequent = sorted(first.benchmark["tags"].items(), key=lambda one: -one[1])[:MOST_TAGS]
    tags = [tag for tag in first.benchmark["tags"] if tag in dict(frequent)]
    # A benchmark that was changed between two runs has other items in them.
    together = [one for one in scorers if len(one["run"].items) == len(first.items)]
    return {
        "benchmark": first.benchmark,
        "headline": headline,
        "metrics": list(first.metrics),
        "scorers": scorers,
        "ranked": sorted(scorers, key=lambda one: _order(one["run"].metrics[headline])),
        "differences": differences,
        "tags": tags,
        "chart": _chart(scorers, tags),
        "items": _items(together),
    }


def _chart(scorers: Sequence[Mapping[str, Any]], tags: Sequence[str]) -> str:
    first: Run = scorers[0]["run"]
    missing = Interval(math.nan, math.nan, math.nan)
    counts = first.benchmark["tags"]
    by_colour: Mapping[int, Run] = {one["colour"]: one["run"] for one in scorers}

    def intervals(colour: int, metric: str) -> list[Interval]:
        run = by_colour.get(colour)
        found = [run.metrics, *(run.by_tag.get(tag, {}) for tag in tags)] if run else []
        return [metrics.get(metric, missing) for metrics in found] or [missing] * (1 + len(tags))

    return forest(
        [f"all ({len(first.items)})", *(f"{tag} ({counts[tag]})" for tag in tags)],
        {m: [intervals(c, m) for c in range(max(by_colour) + 1)] for m in first.metrics},
        first.benchmark["chance"],
    )


def _items(scorers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    runs: list[Run] = [one["run"] for one in scorers]
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
    return -interval.value if math.isfinite(interval.value) else math.inf


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _short(value: float) -> str:
    """Four digits, since some scorers' values are all near 0."""
    return f"{value:.4g}".replace("-", "−") if math.isfinite(value) else "–"


def _signed(value: float, digits: int = 3) -> str:
    return f"{value:+.{digits}f}".replace("-", "−") if math.isfinite(value) else "–"


def _percent(value: float) -> str:
    return f"{100 * value:.0f}%" if math.isfinite(value) else "0%"
