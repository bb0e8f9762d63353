"""``t2v-eval distance``: how far the images of generators are from a reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from t2v_eval.cli import console
from t2v_eval.cli.options import AsJson, Resamples, Seed, parse_metric_options
from t2v_eval.utils.printable import printable

if TYPE_CHECKING:
    from t2v_eval.evaluation.distances.result import Distances
    from t2v_eval.stats.bootstrap import Interval

Reference = Annotated[
    Path | None,
    typer.Option(
        help="Images that generators should match: an .npz file with an array `features` (a row "
        "for each image) or with `mu` and `sigma`. Not needed for inception-score, is-infinity and "
        "vendi.",
        metavar="FILE",
    ),
]
Images = Annotated[
    list[Path],
    typer.Option(
        "--images",
        help="Images of a generator, as --reference, or with an array `logits`; repeat it for "
        "several generators.",
        metavar="FILE",
    ),
]
MetricNames = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        help="Metric, one of fid, fid-infinity, kid, kid-subsets, cmmd, precision, recall, "
        "density, coverage, precision-k3, recall-k3, inception-score, is-infinity, mifid, vendi, "
        "mind, authpct; repeat it for several. Default: fid.",
        metavar="NAME",
    ),
]
MetricOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--metric-option",
        help="Option of a metric, for example kid-subsets.size=500 or precision.k=3; repeat it for "
        "several.",
        metavar="METRIC.OPTION=VALUE",
    ),
]
By = Annotated[
    Literal["folder"] | None,
    typer.Option(
        help="Compare the images of each sub-folder on its own with the whole reference. Default: "
        "all images together."
    ),
]
AllowFew = Annotated[
    bool,
    typer.Option(
        "--allow-few", help="Compute FID also where a set has no more images than features."
    ),
]


def distance(
    images: Images,
    reference: Reference = None,
    metric: MetricNames = None,
    metric_option: MetricOptions = None,
    by: By = None,
    allow_few: AllowFew = False,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure how far the images of generators are from a reference: FID, KID, CMMD and others.

    Prints each metric with its 95 % interval, where it has one, and what must be known to read it:
    FID of few images is too high, and is shown beside FID-infinity.
    """
    from t2v_eval.evaluation.distances.distance import distance as compute

    options = parse_metric_options(metric_option)
    with console.waiting("reading features") as status:
        result = compute(
            reference,
            list(images),
            metric or ("fid",),
            metric_options=options,
            by=by,
            allow_few=allow_few,
            resamples=resamples,
            seed=seed,
            progress=lambda line: status.update(escape(printable(line))) if status else None,
        )
    if as_json:
        console.print_json(result.to_json())
    else:
        _print(result)
    for warning in dict.fromkeys(line for pair in result.pairs for line in pair.warnings):
        console.say(warning, "yellow")


def _print(result: Distances) -> None:
    """Print a table with a row for each metric and a column for each set of images."""
    from t2v_eval.evaluation.distances.metrics import METRICS

    names = list(dict.fromkeys(name for pair in result.pairs for name in pair.metrics))
    rows: list[list[Any]] = [
        [
            name,
            *(
                console.interval_text(pair.metrics[name], digits=_digits(pair.metrics[name]))
                if name in pair.metrics
                else ""
                for pair in result.pairs
            ),
            METRICS[name].meaning,
        ]
        for name in names
    ]
    rows.append(["n", *(_count(pair.counts["images"]) for pair in result.pairs), "images"])
    first = result.pairs[0]
    title = "images alone"
    if first.reference is not None:
        title = f"distance to {first.reference} (n = {_count(first.counts['reference'])})"
    heads = ["metric", *(pair.images for pair in result.pairs), "meaning"]
    console.print_table(heads, rows, f"{title}, with 95 % intervals", numbers=True)


def _digits(interval: Interval) -> int:
    """Return 3 decimals, and 5 for small values, such as those of KID."""
    return 3 if abs(interval.value) >= 0.1 else 5


def _count(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"
