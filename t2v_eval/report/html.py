"""The page of a report: one file that needs no network, from the templates beside this module."""

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

from t2v_eval.evaluation.benchmark import Run
from t2v_eval.evaluation.comparison import BOTH, Difference, by_benchmark, excludes_zero, title
from t2v_eval.report import disagreement as browse
from t2v_eval.report import thumbnails as pictures
from t2v_eval.report.chart import IN_A_ROW, MARKERS, forest
from t2v_eval.report.item_browser import MOST_ITEMS, Catalogue
from t2v_eval.report.plots import Against, Spread, distributions, scatter
from t2v_eval.report.thumbnails import Album
from t2v_eval.stats.bootstrap import Interval

MOST_TAGS = 24
MOST_PAIRED = 5  # scorers that are plotted against each other

_GLYPHS = dict(zip("osD^vPX*", "●■◆▲▼✚✖★", strict=True))

Scorers = Sequence[Mapping[str, Any]]


def render(runs: Sequence[Run], labels: Sequence[str], differences: Sequence[Difference]) -> str:
    """The whole page; whatever users supply (texts, names, tags, errors) is escaped.

    Args:
        labels: what to call the scorer of each run.
        differences: of the runs that can be compared, by their indices.
    """
    environment = Environment(
        loader=PackageLoader("t2v_eval.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "signed": _signed, "p": _p}
    environment.tests["apart"] = excludes_zero
    colours = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    scorers = [
        {"label": label, "colour": colours[label], "run": run}
        for label, run in zip(labels, runs, strict=True)
    ]
    groups = list(by_benchmark(runs).values())
    # A benchmark that was changed between two runs has other items in them.
    together = [[n for n in of if len(runs[n].items) == len(runs[of[0]].items)] for of in groups]
    shares = MOST_ITEMS // max(1, len(groups))
    catalogues = [Catalogue([runs[n] for n in of], shares) for of in together]
    # In turns, so that the pictures of one benchmark do not take the room of another's.
    turns = zip_longest(*(one.pictures() for one in catalogues))
    album = Album(one for turn in turns for one in turn if one is not None)
    script = files("t2v_eval.report").joinpath("report.js").read_text(encoding="utf-8")
    return environment.get_template("report.html").render(
        scorers=scorers,
        colours=len(colours),
        glyphs=[_GLYPHS[MARKERS[k % len(MARKERS)]] for k in range(len(colours))],
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        pictures=_data(album.urls),
        left_out=album.left_out,
        unreadable=len(album.missing),
        most_megabytes=pictures.MOST_BYTES >> 20,
        sections=[
            _section(
                [scorers[n] for n in of],
                [scorers[n] for n in same],
                [
                    {"first": labels[d.first], "second": labels[d.second], "of": d}
                    for d in differences
                    if d.first in of
                ],
                catalogue,
                album,
            )
            for of, same, catalogue in zip(groups, together, catalogues, strict=True)
        ],
    )


def _section(
    scorers: Scorers,
    together: Scorers,
    differences: Sequence[Mapping[str, Any]],
    catalogue: Catalogue,
    album: Album,
) -> Mapping[str, Any]:
    first: Run = scorers[0]["run"]
    headline = first.benchmark["headline"]
    frequent = sorted(first.benchmark["tags"].items(), key=lambda one: -one[1])[:MOST_TAGS]
    tags = [tag for tag in first.benchmark["tags"] if tag in dict(frequent)]
    ranked = sorted(scorers, key=lambda one: _order(one["run"].metrics[headline]))
    data = catalogue.data(album, tags)
    data["scorers"] = [{k: one[k] for k in ("label", "colour")} for one in together]
    return {
        "title": title(first),
        "benchmark": first.benchmark,
        "headline": headline,
        "metrics": list(first.metrics),
        "scorers": scorers,
        "together": together,
        "ranked": ranked,
        "published": _published(ranked),
        "differences": differences,
        "both": BOTH if any(one["of"].used < one["of"].cells for one in differences) else "",
        "contrasts": _contrasts(ranked, tags),
        "tags": tags,
        "charts": _charts(scorers, tags),
        "labels": catalogue.labels,
        "spread": _spread(ranked, catalogue.labels),
        "against_people": _against_people(ranked) if catalogue.labels == "ratings" else "",
        "against_each_other": _against_each_other([one for one in ranked if one in together]),
        "items": len(data["items"]),
        "verdicts": any(headline in one for n in together for one in n["run"].verdicts),
        "failed": sum(one["run"].counts["failed"] for one in scorers),
        "cells": sum(one["run"].counts["cells"] for one in scorers),
        "reasons": _reasons(together, data["reasons"]),
        "data": _data(data),
    }


def _contrasts(scorers: Scorers, tags: Sequence[str]) -> list[Mapping[str, Any]]:
    """What was compared within the benchmark by each scorer, overall and by tag."""
    return [
        {
            "scorer": one,
            "first": first,
            "second": second,
            "name": (name := f"{first} - {second}"),
            "rows": [
                {
                    "tag": tag,
                    "items": one["run"].benchmark["tags"].get(tag, len(one["run"].items)),
                    "metrics": one["run"].by_tag[tag] if tag else one["run"].metrics,
                    "test": tests[name],
                }
                for tag, tests in one["run"].tests.items()
                if not tag or tag in tags
            ],
        }
        for one in scorers
        for first, second in one["run"].contrasts
    ]


def _published(scorers: Scorers) -> list[str]:
    """Where the published figures come from, each source once."""
    given = [f["source"] for one in scorers for f in one["run"].benchmark["published"].values()]
    return list(dict.fromkeys(source for source in given if source))


def _reasons(scorers: Scorers, reasons: Sequence[str], most: int = 12) -> list[tuple[int, str]]:
    """The most frequent reasons why scores failed, by their numbers, to filter by."""
    times = {reason: sum(one["run"].errors.get(reason, 0) for one in scorers) for reason in reasons}
    frequent = sorted(reasons, key=lambda reason: -times[reason])[:most]
    return [(reasons.index(reason), reason) for reason in frequent]


def _charts(scorers: Scorers, tags: Sequence[str]) -> list[str]:
    """The headline and two metrics more, and then all others."""
    first: Run = scorers[0]["run"]
    missing = Interval(math.nan, math.nan, math.nan)
    counts = first.benchmark["tags"]
    by_colour: Mapping[int, Run] = {one["colour"]: one["run"] for one in scorers}

    def intervals(colour: int, metric: str) -> list[Interval]:
        run = by_colour.get(colour)
        found = [run.metrics, *(run.by_tag.get(tag, {}) for tag in tags)] if run else []
        return [metrics.get(metric, missing) for metrics in found] or [missing] * (1 + len(tags))

    names = list(first.metrics)
    if len(names) > IN_A_ROW:
        names.sort(key=lambda name: name != first.benchmark["headline"])
    rows = [f"all ({len(first.items)})", *(f"{tag} ({counts[tag]})" for tag in tags)]
    return [
        forest(
            rows,
            {m: [intervals(c, m) for c in range(max(by_colour) + 1)] for m in some},
            first.benchmark["chance"],
        )
        for some in (names[:IN_A_ROW], names[IN_A_ROW:])
        if some
    ]


def _spread(scorers: Scorers, labels: str) -> str:
    spreads = []
    for one in scorers:
        scores = _flat(browse.judged(one["run"]))
        right = _flat(browse.people(one["run"])) if labels == "match" else None
        spreads.append(Spread(one["label"], one["colour"], scores, right))
    if labels == "ratings":
        spreads.append(Spread("people", None, _flat(browse.people(scorers[0]["run"]))))
    return distributions(spreads, _colours(scorers))


def _against_people(scorers: Scorers) -> str:
    plots = []
    for one in scorers:
        ours, theirs = browse.comparable(one["run"])
        own = "" if one["run"].benchmark["pooled"] else ", minus its item's mean"
        plots.append(
            Against(one["label"] + own, "people" + own, one["colour"], _flat(ours), _flat(theirs))
        )
    some = [plot for plot in plots if plot.points]
    return scatter(some, _colours(scorers)) if some else ""


def _against_each_other(scorers: Scorers) -> str:
    cells = [(one["label"], _flat(browse.judged(one["run"]))) for one in scorers[:MOST_PAIRED]]
    plots = [
        Against(first, second, None, x, y) for (first, x), (second, y) in combinations(cells, 2)
    ]
    some = [plot for plot in plots if plot.points]
    return scatter(some, 0) if some else ""


def _flat(cells: Sequence[browse.Floats]) -> browse.Floats:
    return np.concatenate([one.ravel() for one in cells])


def _colours(scorers: Scorers) -> int:
    return 1 + max(int(one["colour"]) for one in scorers)


def _data(content: Any) -> Markup:
    """JSON that no text in it can end early."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _order(interval: Interval) -> float:
    return -interval.value if math.isfinite(interval.value) else math.inf


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".replace("-", "−") if math.isfinite(value) else "–"


def _p(value: float) -> str:
    return "<\u00a00.001" if value < 0.001 else _number(value)


def _signed(value: float, digits: int = 3) -> str:
    return f"{value:+.{digits}f}".replace("-", "−") if math.isfinite(value) else "–"
