"""``t2v-eval distance``: how far the images of generators are from a reference."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
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
from t2v_eval.cli.shards import local_device
from t2v_eval.errors import InputError
from t2v_eval.utils.printable import printable

if TYPE_CHECKING:
    from t2v_eval.evaluation.distances.result import Distances, PairDistances
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
    Literal["folder", "tag"] | None,
    typer.Option(
        help="Compare the images of each sub-folder or tag on their own: with the same sub-folder "
        "or tag of the reference, or with the whole reference where it has none. Default: all "
        "images together."
    ),
]
Tags = Annotated[
    Path | None,
    typer.Option(
        help="Table of --by tag with the columns image and tag: .csv, .tsv, .jsonl, .json, "
        ".parquet. Several tags of an image are separated by ';'; images are paths relative to "
        "the folder of --images or --reference, or to that of the table.",
        metavar="FILE",
    ),
]
Features = Annotated[
    str | None,
    typer.Option(
        help="Network that turns the images of folders into features: inception-v3 (FID), dinov2 "
        "(FD-DINOv2), clip (CMMD), timm:NAME, or a scorer of kind clip. Default: the small "
        "one of the package, which was trained on drawings alone.",
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
ShardOf = Annotated[
    str | None,
    typer.Option(
        help="Only extract the features of one of COUNT shards of the images, numbered from 1, "
        "into the cache; auto takes the shard from torchrun or srun. Default: all images.",
        metavar="NUMBER/COUNT|auto",
    ),
]
AllowFew = Annotated[
    bool,
    typer.Option(
        "--allow-few", help="Compute FID also where a set has no more images than features."
    ),
]
ReportFolder = Annotated[
    Path | None,
    typer.Option(
        help="Folder to write to: a page with tables, values at fewer images, and the images "
        "nearest to and farthest from the reference (report.html), a table (distances.csv) and the "
        "JSON (distances.json). Default: nothing is written.",
        metavar="DIR",
    ),
]

_MOST_COLUMNS = 4  # sets of images that fit beside each other


def distance(
    ctx: typer.Context,
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
    tags: Tags = None,
    allow_few: AllowFew = False,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    shard: ShardOf = None,
    out: ReportFolder = None,
    as_json: AsJson = False,
) -> None:
    """Measure how far the images of generators are from a reference: FID, KID, CMMD and others.

    Prints each metric with its 95 % interval, where it has one, and what must be known to read it:
    FID of few images is too high, and is shown beside FID-infinity. With --shard, the features of
    the shard's images are extracted into the cache, and nothing is measured.
    """
    from t2v_eval.evaluation.distances.distance import check_sources
    from t2v_eval.evaluation.distances.distance import distance as compute
    from t2v_eval.utils.files import check_folder

    options = parse_metric_options(metric_option)
    if out is not None:
        check_folder(out)
    check_sources([reference, *images])
    load = partial(
        _extractor,
        features,
        resize=resize,
        checkpoint=checkpoint,
        device=device or local_device(shard),
        batch_size=batch_size,
    )
    folders = [path for path in (reference, *images) if path and path.expanduser().is_dir()]
    for name, value in (("resize", resize), ("checkpoint", checkpoint)):
        if value is not None and not folders:
            raise InputError(
                f"`{name}={str(value)!r}`: no set is a folder of images, so no network is loaded; "
                "leave it out"
            )
    cached = None if no_cache else cache or user_cache_path("t2v-eval") / "features"
    if shard is not None:
        if cached is None or out is not None:
            raise InputError(
                "the features of a shard are in the cache, and no distance is computed of them: "
                "leave out --no-cache and --out"
            )
        return _extract_shard(shard, load, folders, cached, as_json)
    with console.waiting("reading features") as status:
        result = compute(
            reference,
            list(images),
            metric or ("fid",),
            features=load() if folders else None,
            cache=cached,
            metric_options=options,
            by=by,
            tags=tags,
            details=out is not None,
            allow_few=allow_few,
            resamples=resamples,
            seed=seed,
            progress=lambda line: status.update(escape(printable(line))) if status else None,
        )
    _write(result, out, console.arguments(ctx), as_json)


def _extract_shard(
    text: str, load: Callable[..., Extractor], folders: Sequence[Path], cache: Path, as_json: bool
) -> None:
    """Extract the features of one of several workers, and print how many there are."""
    from t2v_eval.evaluation.distances.folders import ShardCounts, extract_shard
    from t2v_eval.scoring.shard import Shard

    shard = Shard.parse(text)
    extractor = load()
    rows: list[dict[str, Any]] = []
    with console.waiting("extracting features"):
        for folder in dict.fromkeys(folders):
            counts = extract_shard(folder, extractor, shard, cache=cache)
            reasons = Counter(counts.unreadable.values())
            console.say_failures(str(folder), counts.images, reasons, "images")
            numbers = {**counts._asdict(), "unreadable": len(counts.unreadable)}
            rows.append({"folder": str(folder), **numbers})
    if as_json:
        console.print_json({"shard": str(shard), "cache": str(cache), "folders": rows})
    else:
        columns = ["folder", *ShardCounts._fields]
        title = f"shard {shard}: features of its images alone, without distances"
        console.print_table(columns, [list(row.values()) for row in rows], title)
    console.note(
        f"shard {shard} of the images has features; the others are missing here. When all "
        f"{shard.count} have run, this command without --shard finds theirs in {cache}"
    )


def _write(result: Distances, out: Path | None, command: Sequence[str], as_json: bool) -> None:
    """Write the page, and print the distances, also where the page cannot be written."""
    page = None
    try:
        if out is not None:
            from t2v_eval.report.distances.page import write_distances

            with console.waiting(f"writing the page to {out}"):
                page = write_distances(result, out, command)
    finally:
        if as_json:
            console.print_json(result.to_json())
        else:
            _print(result)
        _warn(result)
    if page is not None:
        console.say(f"Report: {page.resolve()}")


def _warn(result: Distances) -> None:
    """Print why metrics failed, and what must be known to read the others."""
    failed = [
        pair.reasons[name]
        for pair in result.pairs
        for name, value in pair.metrics.items()
        if math.isnan(value.value) and name in pair.reasons
    ]
    warnings = [line for pair in result.pairs for line in pair.warnings]
    for line in dict.fromkeys([*failed, *warnings]):
        console.say(line, "yellow")


def _extractor(name: str | None, **options: Any) -> Extractor:
    from t2v_eval.extractors.names import default_extractor, load_extractor

    return load_extractor(name or default_extractor(), **options)


def _print(result: Distances) -> None:
    """Print a row for each metric, or for each set of images where there are many."""
    from t2v_eval.evaluation.distances.metrics import METRICS

    pairs = result.pairs
    names = list(dict.fromkeys(name for pair in pairs for name in pair.metrics))
    references = dict.fromkeys(pair.reference for pair in pairs)
    title = f"{_title(pairs[0])}, with 95 % intervals"
    if len(references) > 1 or len(pairs) > _MOST_COLUMNS:
        rows: list[list[Any]] = [
            [
                pair.images,
                _count(pair.counts["images"]),
                pair.reference or "",
                *(_cell(pair, name) for name in names),
            ]
            for pair in pairs
        ]
        title = title if len(references) == 1 else "distances, with 95 % intervals"
        console.print_table(["images", "n", "reference", *names], rows, title, numbers=True)
        return
    rows = [[name, *(_cell(pair, name) for pair in pairs), METRICS[name].meaning] for name in names]
    rows.append(["n", *(_count(pair.counts["images"]) for pair in pairs), "images"])
    heads = ["metric", *(pair.images for pair in pairs), "meaning"]
    console.print_table(heads, rows, title, numbers=True)


def _title(pair: PairDistances) -> str:
    if pair.reference is None:
        return "images alone"
    return f"distance to {pair.reference} (n = {_count(pair.counts['reference'])})"


def _cell(pair: PairDistances, name: str) -> Any:
    value = pair.metrics.get(name)
    return "" if value is None else console.interval_text(value, digits=_digits(value))


def _digits(interval: Interval) -> int:
    """Return 3 decimals, and 5 for small values, such as those of KID."""
    return 3 if abs(interval.value) >= 0.1 else 5


def _count(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"
