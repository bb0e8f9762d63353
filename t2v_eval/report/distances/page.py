"""One static page of distances: tables, values at fewer images, nearest and farthest images."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from t2v_eval.evaluation.distances.metrics import METRICS
from t2v_eval.evaluation.distances.result import Distances, Example, PairDistances
from t2v_eval.evaluation.run import package_versions
from t2v_eval.inputs.tables import write_table
from t2v_eval.report.distances.curves import COLOURS, curves
from t2v_eval.report.format import PAGE, without_nan
from t2v_eval.report.templates import environment
from t2v_eval.report.thumbnails import Album
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.utils.files import check_folder, write_text


def write_distances(
    distances: Distances, folder: str | Path, command: Sequence[str] | None = None
) -> Path:
    """Write ``distances.json``, ``distances.csv`` and the page ``report.html`` to a folder.

    Args:
        distances: what `t2v_eval.distance` returned; with `details=True` for curves and images.
        folder: the folder, which is created if needed.
        command: the arguments of the command line, without secrets.

    Returns:
        The page.

    Raises:
        OutputError: the folder cannot be written.

    >>> import tempfile
    >>> import numpy as np
    >>> from t2v_eval import distance
    >>> rows = np.random.default_rng(0).normal(size=(40, 2))
    >>> distances = distance(rows[:20], rows[20:], "kid", resamples=5, details=True)
    >>> with tempfile.TemporaryDirectory() as out:
    ...     write_distances(distances, out).name
    'report.html'
    """
    path = check_folder(folder)
    content = json.dumps(
        without_nan(distances.to_json()), indent=1, ensure_ascii=False, allow_nan=False
    )
    write_text(path / "distances.json", content + "\n")
    write_table(path / "distances.csv", list(table_rows(distances)))
    page = path / "report.html"
    write_text(page, render_distances(distances, command))
    return page


def table_rows(distances: Distances) -> Iterator[dict[str, Any]]:
    """Yield a row for each metric of each set of images, as in ``distances.csv``.

    Args:
        distances: what `t2v_eval.distance` returned.

    >>> counts, values = {"reference": 9, "images": 8}, {"kid": Interval(1, 0, 2)}
    >>> pair = PairDistances("a", "b", counts, values, ())
    >>> [row["value"] for row in table_rows(Distances({}, (pair,)))]
    [1]
    """
    for pair in distances.pairs:
        for name, interval in pair.metrics.items():
            yield {
                "reference": pair.reference,
                "images": pair.images,
                "n_reference": pair.counts["reference"],
                "n_images": pair.counts["images"],
                "metric": name,
                **interval._asdict(),
                "reason": pair.reasons.get(name),
            }


def render_distances(distances: Distances, command: Sequence[str] | None = None) -> str:
    """Return the page; it loads nothing and runs no script, and names are escaped.

    Args:
        distances: what `t2v_eval.distance` returned.
        command: the arguments of the command line, without secrets.

    >>> pair = PairDistances("a", "<b>", {"reference": 9, "images": 8}, {}, ())
    >>> "&lt;b&gt;" in render_distances(Distances({}, (pair,)))
    True
    """
    pairs = distances.pairs
    examples = [example for pair in pairs for example in _examples(pair)]
    album = Album([file for example in examples for file in _files(example)])
    names = list(dict.fromkeys(name for pair in pairs for name in pair.metrics))
    with_curves = [pair for pair in pairs if pair.details is not None and pair.details.curves]
    groups = [with_curves[k : k + COLOURS] for k in range(0, len(with_curves), COLOURS)]
    return (
        environment(value=_value)
        .get_template("distances/report.html")
        .render(
            pairs=pairs,
            names=names,
            meanings={name: METRICS[name].meaning for name in names},
            references=list(dict.fromkeys(pair.reference for pair in pairs if pair.reference)),
            common=_common(pairs),
            charts=[(group, Markup(curves(group))) for group in groups],
            colours=COLOURS,
            url=lambda file: _url(album, file),
            features={name: fact for name, fact in distances.features.items() if fact is not None},
            created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
            version=package_versions().get("t2v-eval", ""),
            command=command,
        )
    )


def _value(interval: Interval) -> Mapping[str, str]:
    """Return a value and its limits as text; small values, as those of KID, have more decimals."""
    digits = 3 if not abs(interval.value) < 0.1 else 5
    limits = PAGE.limits(interval, digits=digits)
    return {
        "value": PAGE.number(interval.value, digits),
        "limits": "" if limits is None or math.isnan(interval.value) else " to ".join(limits),
    }


def _common(pairs: Sequence[PairDistances]) -> list[str]:
    """Return the warnings that all sets of images have, which are shown once."""
    first, *others = pairs
    return [w for w in first.warnings if others and all(w in pair.warnings for pair in others)]


def _examples(pair: PairDistances) -> Sequence[Example]:
    return () if pair.details is None else (*pair.details.nearest, *pair.details.farthest)


def _files(example: Example) -> list[Path]:
    return [file for file in (example.file, example.neighbour_file) if file is not None]


def _url(album: Album, file: Path | None) -> str:
    """Return the data URL of a thumbnail; "" where there is none."""
    place = -1 if file is None else album.index(file)
    return album.urls[place] if place >= 0 else ""
