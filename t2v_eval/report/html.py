"""The page of a report: one HTML file without network access, from the templates beside it."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import combinations, zip_longest
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from t2v_eval.evaluation.agreement_runs import NO_IMAGE
from t2v_eval.evaluation.comparison import (
    Difference,
    about_missing,
    by_benchmark,
    excludes_zero,
    title,
)
from t2v_eval.evaluation.run import Run
from t2v_eval.report import thumbnails
from t2v_eval.report.about import About
from t2v_eval.report.chart import MARKERS, PANELS_PER_ROW, forest
from t2v_eval.report.claims import claims, matched_people
from t2v_eval.report.disagreement import (
    paired_with_ratings,
    unit_ratings,
    unit_scores,
)
from t2v_eval.report.format import PAGE, duration, verdict
from t2v_eval.report.item_browser import MAX_ITEMS, ItemBrowser
from t2v_eval.report.plots import Distribution, Pairing, histograms, scatter
from t2v_eval.report.tables import Section, sections
from t2v_eval.report.templates import environment
from t2v_eval.report.thumbnails import Album
from t2v_eval.stats.bootstrap import Interval

IMAGE_PIXELS = 768  # the longer side of images in the dialog
SCRIPTS = ("report_tools.js", "report.js")
MAX_TAGS = 24
MAX_BYTES = 29_000_000  # of a page
MAX_ITEM_BYTES = 10_000_000  # of the items in it, without their images
OTHER_BYTES = 2_000_000  # left for tables, charts and scripts
MAX_SCATTERED = 5  # scorers that are plotted against each other

_GLYPHS = dict(zip("osD^vPX*", "●■◆▲▼✚✖★", strict=True))

Series = Sequence[Mapping[str, Any]]  # scorers, or generators, with their colours


def render(
    runs: Sequence[Run],
    labels: Sequence[str],
    differences: Sequence[Difference],
    about: About | None = None,
    image_pixels: int = IMAGE_PIXELS,
) -> str:
    """Return the whole page; text from users (texts, names, tags, errors) is escaped.

    Args:
        runs: the runs of the report.
        labels: what to call the scorer of each run.
        differences: of the runs that can be compared, by their indices.
        about: title, date and command; by default of the runs and of now.
        image_pixels: the longer side of the images in the dialog of an item, as far as the size of
            the page allows; 0 for thumbnails alone.

    >>> render([], [], []).splitlines()[0]
    '<!DOCTYPE html>'
    """
    colours = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    scorers = [
        {"label": label, "colour": colours[label], "run": run}
        for label, run in zip(labels, runs, strict=True)
    ]
    parts = list(sections(runs, labels, differences))
    # Generators have colours of their own, after those of the scorers.
    names = dict.fromkeys(name for part in parts for name in part.generators)
    painted = [{"label": name, "colour": len(colours) + k} for k, name in enumerate(names)]
    groups = list(by_benchmark(runs).values())
    # Runs of a benchmark that was changed in between have other items, which cannot be aligned.
    aligned = [
        [n for n in group if len(runs[n].items) == len(runs[group[0]].items)] for group in groups
    ]
    limit = MAX_ITEMS // max(1, len(groups))
    browsers = [ItemBrowser([runs[n] for n in indices], limit) for indices in aligned]
    tags = [_frequent_tags(part.first) for part in parts]
    room = MAX_BYTES - OTHER_BYTES - _fit(browsers, tags)
    album = _album(browsers, image_pixels, min(room, thumbnails.MAX_BYTES))
    script = "\n".join(_resource(name) for name in SCRIPTS)
    palette = range(len(colours) + len(painted))
    return (
        _environment()
        .get_template("report.html")
        .render(
            about=about or About.of(runs),
            scorers=scorers,
            colours=len(palette),
            glyphs=[_GLYPHS[MARKERS[k % len(MARKERS)]] for k in palette],
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            images=_data(album.urls),
            large=_data(album.large),
            left_out=album.left_out,
            unreadable=len(album.missing),
            max_megabytes=max(1, min(room, thumbnails.MAX_BYTES) >> 20),
            sections=[
                _section(
                    [scorers[n] for n in indices],
                    [scorers[n] for n in same_items],
                    [entry for entry in painted if entry["label"] in part.generators],
                    part,
                    browser.data(album, of_part),
                    browser.labels,
                )
                for part, indices, same_items, browser, of_part in zip(
                    parts, groups, aligned, browsers, tags, strict=True
                )
            ],
        )
    )


def _resource(name: str) -> str:
    return files("t2v_eval.report").joinpath(name).read_text(encoding="utf-8")


def _environment() -> Environment:
    result = environment(signed=_signed, p=PAGE.p_value, duration=duration)
    result.globals |= {"verdict_text": verdict, "matched_people": matched_people}
    result.tests["apart"] = excludes_zero
    return result


def _fit(browsers: Sequence[ItemBrowser], tags: Sequence[Sequence[str]]) -> int:
    """Let browsers choose as few items as the page has room for; return the bytes of the items."""
    empty = Album([], 0)

    def size() -> int:
        return sum(
            # As files are written: names may hold surrogates.
            len(_data(browser.data(empty, of_part)).encode("utf-8", "backslashreplace"))
            for browser, of_part in zip(browsers, tags, strict=True)
        )

    used = size()
    if used > MAX_ITEM_BYTES:
        for browser in browsers:
            browser.choose(max(1, len(browser.chosen) * MAX_ITEM_BYTES // used))
        used = size()
    return used


def _album(browsers: Sequence[ItemBrowser], pixels: int, limit: int) -> Album:
    """Return images, taken from each benchmark in turn so that none uses up the space."""
    turns = zip_longest(*(browser.images() for browser in browsers))
    # A row of a table without images has an empty one.
    images = [
        image
        for turn in turns
        for image in turn
        if not (image is None or (isinstance(image, str) and image == NO_IMAGE))
    ]
    return Album(images, pixels, limit)


def _frequent_tags(run: Run) -> list[str]:
    counts: Mapping[str, int] = run.benchmark.tags
    frequent = sorted(counts, key=lambda tag: -counts[tag])[:MAX_TAGS]
    return [tag for tag in counts if tag in frequent]


def _section(
    scorers: Series,
    aligned: Series,
    generators: Series,
    part: Section,
    data: dict[str, Any],
    labels: str,
) -> Mapping[str, Any]:
    """Return what the template shows of a benchmark.

    Args:
        scorers: the scorers with their runs and colours.
        aligned: those of them whose runs have the same items as the first; `data` is of these.
        generators: the generators with their colours.
        part: the runs, and their differences.
        data: the items of the browser.
        labels: what kind of labels the items have.
    """
    first: Run = scorers[0]["run"]
    headline, tags = first.benchmark.headline, data["tags"]
    ranked = sorted(scorers, key=lambda scorer: _order(scorer["run"].metrics[headline]))
    data["scorers"] = [{k: scorer[k] for k in ("label", "colour")} for scorer in aligned]
    data["generators"] = list(generators)
    content = {
        "title": title(first),
        "claims": claims(part, PAGE),
        "benchmark": first.benchmark,
        "headline": headline,
        # On a phone, only the first column beside the names is in view.
        "metrics": sorted(first.metrics, key=lambda name: name != headline),
        "scorers": scorers,
        "aligned": aligned,
        "ranked": ranked,
        "generators": _by_mean(generators, first),
        "published": list(part.published()),
        "differences": [
            {"first": first, "second": second, "difference": difference}
            for first, second, difference in part.pairs
        ],
        "both": about_missing([pair for _, _, pair in part.pairs], first.benchmark.items),
        "contrasts": _contrasts(ranked, tags),
        "people": list(part.people()),
        "decisions": list(part.decisions()),
        "tags": tags,
        **_charts_of(scorers, generators, tags),
        "labels": labels,
        "judges": first.benchmark.labels_by,
        "judges_text": _judges(scorers),
        "distributions": _distributions(ranked, labels),
        "against_people": _against_people(ranked) if labels == "ratings" else "",
        "against_each_other": _against_each_other(
            [scorer for scorer in ranked if scorer in aligned]
        ),
        "items": len(data["items"]),
        "shows_items": any(image[0] != -3 for item in data["items"] for image in item["images"]),
        "verdicts": any(
            headline in metrics for scorer in aligned for metrics in scorer["run"].verdicts
        ),
        "failed": sum(scorer["run"].counts.failed for scorer in scorers),
        "cells": sum(scorer["run"].counts.cells for scorer in scorers),
        "reasons": _reasons(aligned, data["reasons"]),
        "data": _data(data),
    }
    return content | {"headings": _headings(content)}


def _headings(section: Mapping[str, Any]) -> dict[str, str]:
    """Return the headings of a section by the beginning of their anchors, in their order."""
    contrasts, tags = section["contrasts"], " and by tag" if section["tags"] else ""
    subject = "generators" if section["benchmark"].folders else "what is compared"
    headings = {
        "said": "What people would say" if section["people"] else "",
        "means": "Mean scores" if contrasts else "Metrics",
        "differences": f"Differences between {subject if contrasts else 'scorers'}"
        if contrasts or section["differences"]
        else "",
        "decisions": "Decisions on generators" if section["decisions"] else "",
        "chart": f"Overall{tags}" if section["charts"] else "",
        "distributions": "Distributions of scores",
        "people": f"Scores and {section['judges_text']}" if section["against_people"] else "",
        "scorers": "Scorers against each other" if section["against_each_other"] else "",
        "list": "Items" if section["shows_items"] else "",
    }
    return {anchor: heading for anchor, heading in headings.items() if heading}


def _by_mean(generators: Series, run: Run) -> list[Mapping[str, Any]]:
    """Return the generators from the highest mean score to the lowest."""
    missing = Interval(math.nan, math.nan, math.nan)
    return sorted(generators, key=lambda entry: _order(run.metrics.get(entry["label"], missing)))


def _contrasts(scorers: Series, tags: Sequence[str]) -> list[Mapping[str, Any]]:
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


def _reasons(scorers: Series, reasons: Sequence[str], limit: int = 12) -> list[tuple[int, str]]:
    """Return the indices and texts of the most frequent reasons of failures."""
    counts = {
        reason: sum(scorer["run"].errors.get(reason, 0) for scorer in scorers) for reason in reasons
    }
    frequent = sorted(reasons, key=lambda reason: -counts[reason])[:limit]
    return [(reasons.index(reason), reason) for reason in frequent]


def _charts_of(scorers: Series, generators: Series, tags: Sequence[str]) -> dict[str, Any]:
    """Return the charts of all items and of the tags: of generators, or else of scorers."""
    if len(generators) < 2:
        return {"summary_charts": [], "charts": _charts(scorers, tags), "legend": scorers}
    first: Run = scorers[0]["run"]
    generators = _by_mean(generators, first)
    panels, zero = _generator_panels(scorers, generators, tags)
    colours = [generator["colour"] for generator in generators]
    draw = functools.partial(forest, colours=colours, whole_scale=False)
    return {
        # One panel a chart, so that they stand below each other on a phone.
        "summary_charts": [
            draw(_row_names(first, []), {name: [rows[:1] for rows in panel]}, zero)
            for name, panel in panels.items()
        ],
        "charts": [draw(_row_names(first, tags), panels, zero)] if tags else [],
        "legend": generators,
    }


def _generator_panels(
    scorers: Series, generators: Series, tags: Sequence[str]
) -> tuple[dict[str, list[list[Interval]]], dict[str, float]]:
    """Return by panel the means of all generators and, of two, their difference; its zero too.

    The difference is the first generator minus the second, as the first sentence says it.
    """
    panels, zero = {}, {}
    for scorer in scorers[:MAX_SCATTERED]:
        run, label = scorer["run"], scorer["label"]
        if len(run.contrasts) == 1 and len(generators) == 2:
            first, second = (generator["label"] for generator in generators)
            panel = f"{first} − {second} by {label}"
            if (first, second) in run.contrasts:
                panels[panel] = [_column(run, f"{first} - {second}", tags)]
            else:
                column = _column(run, f"{second} - {first}", tags)
                panels[panel] = [[interval.reversed() for interval in column]]
            zero[panel] = 0.0
        panels[f"mean by {label}"] = [
            _column(run, generator["label"], tags) for generator in generators
        ]
    return panels, zero


def _charts(scorers: Series, tags: Sequence[str]) -> list[str]:
    """Draw a chart of the headline and two more metrics, and one of all others."""
    first: Run = scorers[0]["run"]
    names = list(first.metrics)
    if len(names) > PANELS_PER_ROW:
        names.sort(key=lambda name: name != first.benchmark.headline)
    rows, colours = _row_names(first, tags), [scorer["colour"] for scorer in scorers]
    return [
        forest(
            rows,
            {m: [_column(scorer["run"], m, tags) for scorer in scorers] for m in panel_metrics},
            first.benchmark.chance,
            colours,
        )
        for panel_metrics in (names[:PANELS_PER_ROW], names[PANELS_PER_ROW:])
        if panel_metrics
    ]


def _row_names(run: Run, tags: Sequence[str]) -> list[str]:
    return [f"all ({len(run.items)})", *(f"{tag} ({run.benchmark.tags[tag]})" for tag in tags)]


def _column(run: Run, metric: str, tags: Sequence[str]) -> list[Interval]:
    """Return a metric of all items and of those of each tag."""
    missing = Interval(math.nan, math.nan, math.nan)
    rows = [run.metrics, *(run.by_tag.get(tag, {}) for tag in tags)]
    return [metrics.get(metric, missing) for metrics in rows]


def _distributions(scorers: Series, labels: str) -> str:
    distributions = []
    for scorer in scorers:
        run = scorer["run"]
        matches = unit_ratings(run).cells if labels == "match" else None
        distributions.append(
            Distribution(scorer["label"], scorer["colour"], unit_scores(run).cells, matches)
        )
    if labels == "ratings":
        ratings = unit_ratings(scorers[0]["run"]).cells
        distributions.append(Distribution(_judges(scorers), None, ratings))
    return histograms(distributions, _colour_count(scorers))


def _judges(scorers: Series) -> str:
    """Return who judged the cells, in words."""
    return "people" if scorers[0]["run"].benchmark.labels_by == "people" else "the truth"


def _against_people(scorers: Series) -> str:
    pairings = []
    for scorer in scorers:
        scores, ratings = paired_with_ratings(scorer["run"])
        suffix = "" if scorer["run"].benchmark.pooled else ", minus its item's mean"
        pairings.append(
            Pairing(
                scorer["label"] + suffix,
                _judges(scorers) + suffix,
                scorer["colour"],
                scores.cells,
                ratings.cells,
            )
        )
    return _scatter(pairings, _colour_count(scorers))


def _against_each_other(scorers: Series) -> str:
    cells = [(s["label"], unit_scores(s["run"]).cells) for s in scorers[:MAX_SCATTERED]]
    pairings = [
        Pairing(first, second, None, x, y) for (first, x), (second, y) in combinations(cells, 2)
    ]
    return _scatter(pairings, 0)


def _scatter(pairings: Sequence[Pairing], colours: int) -> str:
    with_points = [pairing for pairing in pairings if pairing.points]
    return scatter(with_points, colours) if with_points else ""


def _colour_count(scorers: Series) -> int:
    return 1 + max(int(scorer["colour"]) for scorer in scorers)


def _data(content: Any) -> Markup:
    """Return JSON in which no text can end the ``<script>`` element that holds it."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _order(interval: Interval) -> float:
    return -interval.value if math.isfinite(interval.value) else math.inf


def _signed(value: float) -> str:
    return PAGE.number(value, sign="+")
