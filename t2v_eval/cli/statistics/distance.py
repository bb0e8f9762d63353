"""``t2v-eval distance``: how far the images of generators are from a reference."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from platformdirs import user_cache_path
from rich.markup import escape

from t2v_eval.cli import console
from t2v_eval.cli.options import (
    AsJson,
    CheckpointPath,
    Device,
    InitialBatchSize,
    Resamples,
    Seed,
    parse_metric_options,
)
from t2v_eval.utils.printable import printable

if TYPE_CHECKING:
    from t2v_eval.evaluation.distances.result import Distances
    from t2v_eval.extractors.extractor import Extractor
    from t2v_eval.stats.bootstrap import Interval

Reference = Annotated[
    Path | None,
    typer.Option(
        help="Images that generators should match: a folder, or an .npz file with an array "
        "`features` (a row for each image) or with `mu` and `sigma`. Not needed for "
        "inception-score, is-infinity and vendi.",
        metavar="DIR|FILE",
    ),
]
Images = Annotated[
    list[Path],
    typer.Option(
        "--images",
        help="Images of a generator, as --reference, or a file with an array `logits`; repeat it "
        "for several generators.",
        metavar="DIR|FILE",
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
Features = Annotated[
    str | None,
    typer.Option(
        help="Network that turns the images of folders into features: inception-v3 (FID), dinov2 "
        "(FD-DINOv2), timm:NAME, or a scorer of kind clip. Default: the small one "
        "of the package, which was trained on drawings alone.",
        metavar="NAME",
    ),
]
Resize = Annotated[
    Literal["clean", "legacy", "tf1"] | None,
    typer.Option(
        help="Resizer of inception-v3: as clean-fid (clean), as pytorch-fid (legacy) or as the "
        "original and torch-fidelity (tf1). Default: clean."
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        help="Folder of files that keep features between runs. Default: the folder features in "
        "your cache folder.",
        metavar="DIR",
    ),
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Keep no features, and reuse none of earlier runs.")
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
    features: Features = None,
    resize: Resize = None,
    checkpoint: CheckpointPath = None,
    device: Device = None,
    batch_size: InitialBatchSize = None,
    cache: Cache = None,
    no_cache: NoCache = False,
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
    load = partial(
        _extractor,
        features,
        resize=resize,
        checkpoint=checkpoint,
        device=device,
        batch_size=batch_size,
    )
    folders = any(path.expanduser().is_dir() for path in (*images, reference) if path is not None)
    with console.waiting("reading features") as status:
        result = compute(
            reference,
            list(images),
            metric or ("fid",),
            features=load() if folders else None,
            cache=None if no_cache else cache or user_cache_path("t2v-eval") / "features",
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


def _extractor(name: str | None, **options: Any) -> Extractor:
    from t2v_eval.extractors.names import default_extractor, load_extractor

    return load_extractor(name or default_extractor(), **options)


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
