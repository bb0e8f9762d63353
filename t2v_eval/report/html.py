"""The page of a report: one HTML file without network access, from the templates beside it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import combinations, zip_longest
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from t2v_eval.evaluation.comparison import BOTH, Difference, by_benchmark, excludes_zero, title
from t2v_eval.evaluation.run import Run
from t2v_eval.report import thumbnails
from t2v_eval.report.chart import MARKERS, PANELS_PER_ROW, forest
from t2v_eval.report.claims import claims
from t2v_eval.report.disagreement import (
    Floats,
    paired_with_ratings,
    unit_ratings,
    unit_scores,
)
from t2v_eval.report.format import PAGE, verdict
from t2v_eval.report.item_browser import MAX_ITEMS, ItemBrowser
from t2v_eval.report.plots import Distribution, Pairing, histograms, scatter
from t2v_eval.report.tables import Section, sections
from t2v_eval.report.thumbnails import Album
from t2v_eval.stats.bootstrap import Interval

MAX_TAGS = 24
MAX_SCATTERED = 5  # scorers that are plotted against each other

_GLYPHS = dict(zip("osD^vPX*", "●■◆▲▼✚✖★", strict=True))

Scorers = Sequence[Mapping[str, Any]]


def render(runs: Sequence[Run], labels: Sequence[str], differences: Sequence[Difference]) -> str:
    """Return the whole page; text from users (texts, names, tags, errors) is escaped.

    Args:
        runs: the runs of the report.
        labels: what to call the scorer of each run.
        differences: differences of comparable runs, by the indices of both.

    >>> render([], [], []).splitlines()[0]
    '<!DOCTYPE html>'
    """
    colours = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    scorers = [
        {"label": label, "colour": colours[label], "run": run}
        for label, run in zip(labels, runs, strict=True)
    ]
    parts = list(sections(runs, labels, differences))
    groups = list(by_benchmark(runs).values())
    # Runs of a benchmark that was changed in between have other items, which cannot be aligned.
    aligned = [
        [n for n in group if len(runs[n].items) == len(runs[group[0]].items)] for group in groups
    ]
    limit = MAX_ITEMS // max(1, len(groups))
    browsers = [ItemBrowser([runs[n] for n in indices], limit) for indices in aligned]
    album = _album(browsers)
    script = files("t2v_eval.report").joinpath("report.js").read_text(encoding="utf-8")
    template = _environment().get_template("report.html")
    return template.render(
        scorers=scorers,
        colours=len(colours),
        glyphs=[_GLYPHS[MARKERS[k % len(MARKERS)]] for k in range(len(colours))],
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        images=_data(album.urls),
        left_out=album.left_out,
        unreadable=len(album.missing),
        max_megabytes=thumbnails.MAX_BYTES >> 20,
        sections=[
            _section(
                [scorers[n] for n in indices],
                [scorers[n] for n in same_items],
                part,
                browser,
                album,
            )
            for part, indices, same_items, browser in zip(
                parts, groups, aligned, browsers, strict=True
            )
        ],
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("t2v_eval.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": PAGE.number, "signed": _signed, "p": PAGE.p_value}
    environment.globals |= {"verdict_text": verdict}
    environment.tests["apart"] = excludes_zero
    return environment


def _album(browsers: Sequence[ItemBrowser]) -> Album:
    """Return thumbnails, taken from each benchmark in turn so that none uses up the space."""
    turns = zip_longest(*(browser.images() for browser in browsers))
    return Album(image for turn in turns for image in turn if image is not None)


def _section(
    scorers: Scorers,
    aligned: Scorers,
    part: Section,
    browser: ItemBrowser,
    album: Album,
) -> Mapping[str, Any]:
    """Return what the template shows of a benchmark.

    The runs of the `aligned` scorers have the same items as the first; `browser` shows these.
    """
    first: Run = scorers[0]["run"]
    headline = first.benchmark.headline
    counts: Mapping[str, int] = first.benchmark.tags
    frequent = sorted(counts, key=lambda tag: -counts[tag])[:MAX_TAGS]
    tags = [tag for tag in counts if tag in frequent]
    ranked = sorted(scorers, key=lambda scorer: _order(scorer["run"].metrics[headline]))
    data = browser.data(album, tags)
    data["scorers"] = [{k: scorer[k] for k in ("label", "colour")} for scorer in aligned]
    differences = [
        {"first": first, "second": second, "difference": difference}
        for first, second, difference in part.pairs
    ]
    has_missing = any(pair.used < pair.cells for _, _, pair in part.pairs)
    return {
        "title": title(first),
        "claims": claims(part, PAGE),
        "benchmark": first.benchmark,
        "headline": headline,
        "metrics": list(first.metrics),
        "scorers": scorers,
        "aligned": aligned,
        "ranked": ranked,
        "published": _published(ranked),
        "differences": differences,
        "both": BOTH if has_missing else "",
        "contrasts": _contrasts(ranked, tags),
        "tags": tags,
        "charts": _charts(scorers, tags),
        "labels": browser.labels,
        "distributions": _distributions(ranked, browser.labels),
        "against_people": _against_people(ranked) if browser.labels == "ratings" else "",
        "against_each_other": _against_each_other(
            [scorer for scorer in ranked if scorer in aligned]
        ),
        "items": len(data["items"]),
        "verdicts": any(
            headline in metrics for scorer in aligned for metrics in scorer["run"].verdicts
        ),
        "failed": sum(scorer["run"].counts.failed for scorer in scorers),
        "cells": sum(scorer["run"].counts.cells for scorer in scorers),
        "reasons": _reasons(aligned, data["reasons"]),
        "data": _data(data),
    }


def _contrasts(scorers: Scorers, tags: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return the contrasts of the benchmark by each scorer, overall and by tag."""
    return [
        {
            "scorer": scorer,
            "first": first,
            "second": second,
            "name": (name := f"{first} - {second}"),
            "rows": [
                {
                    "tag": tag,
                    "items": scorer["run"].benchmark.tags.get(tag, len(scorer["run"].items)),
                    "metrics": scorer["run"].by_tag[tag] if tag else scorer["run"].metrics,
                    "test": tests[name],
                }
                for tag, tests in scorer["run"].tests.items()
                if not tag or tag in tags
            ],
        }
        for scorer in scorers
        for first, second in scorer["run"].contrasts
    ]


def _published(scorers: Scorers) -> list[str]:
    """Return the sources of published figures, each once."""
    figures = [f for scorer in scorers for f in scorer["run"].benchmark.published.values()]
    return list(dict.fromkeys(figure.source for figure in figures if figure.source))


def _reasons(scorers: Scorers, reasons: Sequence[str], limit: int = 12) -> list[tuple[int, str]]:
    """Return the indices and texts of the most frequent reasons of failures."""
    counts = {
        reason: sum(scorer["run"].errors.get(reason, 0) for scorer in scorers) for reason in reasons
    }
    frequent = sorted(reasons, key=lambda reason: -counts[reason])[:limit]
    return [(reasons.index(reason), reason) for reason in frequent]


def _charts(scorers: Scorers, tags: Sequence[str]) -> list[str]:
    """Draw a chart of the headline and two more metrics, and one of all others."""
    first: Run = scorers[0]["run"]
    missing = Interval(math.nan, math.nan, math.nan)
    counts = first.benchmark.tags
    by_colour: Mapping[int, Run] = {scorer["colour"]: scorer["run"] for scorer in scorers}

    def intervals(colour: int, metric: str) -> list[Interval]:
        run = by_colour.get(colour)
        if run is None:
            return [missing] * (1 + len(tags))
        rows = [run.metrics, *(run.by_tag.get(tag, {}) for tag in tags)]
        return [metrics.get(metric, missing) for metrics in rows]

    names = list(first.metrics)
    if len(names) > PANELS_PER_ROW:
        names.sort(key=lambda name: name != first.benchmark.headline)
    rows = [f"all ({len(first.items)})", *(f"{tag} ({counts[tag]})" for tag in tags)]
    return [
        forest(
            rows,
            {m: [intervals(c, m) for c in range(max(by_colour) + 1)] for m in panel_metrics},
            first.benchmark.chance,
        )
        for panel_metrics in (names[:PANELS_PER_ROW], names[PANELS_PER_ROW:])
        if panel_metrics
    ]


def _distributions(scorers: Scorers, labels: str) -> str:
    distributions = []
    for scorer in scorers:
        run = scorer["run"]
        matches = _flat(unit_ratings(run)) if labels == "match" else None
        distributions.append(
            Distribution(scorer["label"], scorer["colour"], _flat(unit_scores(run)), matches)
        )
    if labels == "ratings":
        ratings = _flat(unit_ratings(scorers[0]["run"]))
        distributions.append(Distribution("people", None, ratings))
    return histograms(distributions, _colour_count(scorers))


def _against_people(scorers: Scorers) -> str:
    pairings = []
    for scorer in scorers:
        scores, ratings = paired_with_ratings(scorer["run"])
        suffix = "" if scorer["run"].benchmark.pooled else ", minus its item's mean"
        pairings.append(
            Pairing(
                scorer["label"] + suffix,
                "people" + suffix,
                scorer["colour"],
                _flat(scores),
                _flat(ratings),
            )
        )
    return _scatter(pairings, _colour_count(scorers))


def _against_each_other(scorers: Scorers) -> str:
    cells = [(s["label"], _flat(unit_scores(s["run"]))) for s in scorers[:MAX_SCATTERED]]
    pairings = [
        Pairing(first, second, None, x, y) for (first, x), (second, y) in combinations(cells, 2)
    ]
    return _scatter(pairings, 0)


def _scatter(pairings: Sequence[Pairing], colours: int) -> str:
    with_points = [pairing for pairing in pairings if pairing.points]
    return scatter(with_points, colours) if with_points else ""


def _flat(cells: Sequence[Floats]) -> Floats:
    return np.concatenate([item.ravel() for item in cells])


def _colour_count(scorers: Scorers) -> int:
    return 1 + max(int(scorer["colour"]) for scorer in scorers)


def _data(content: Any) -> Markup:
    """Return JSON in which no text can end the ``<script>`` element that holds it."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _order(interval: Interval) -> float:
    return -interval.value if math.isfinite(interval.value) else math.inf


def _signed(value: float) -> str:
    return PAGE.number(value, sign="+")
