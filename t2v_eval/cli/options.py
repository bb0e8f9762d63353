"""Options that several commands share, and how they become typed options of the library."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from t2v_eval.api import ScorerOptions
from t2v_eval.cli.help.completion import benchmark_names, model_names, template_names
from t2v_eval.errors import InputError

ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Name of a scorer (see `list models`), or FILE.py:FUNCTION with one of your own.",
        autocompletion=model_names,
    ),
]
ModelNames = Annotated[
    list[str],
    typer.Option(
        "--model",
        "-m",
        help="Name of a scorer (see `list models`), or FILE.py:FUNCTION with one of your own; "
        "repeat it for several.",
        autocompletion=model_names,
    ),
]
BenchmarkNames = Annotated[
    list[str],
    typer.Option(
        "--benchmark",
        "-b",
        help="Name of a benchmark (see `list benchmarks`); or a file of your own: prompts (a .txt, "
        "or a table with a column prompt), whose images --images names, or judgements (a table "
        "with the columns image, text and human). Repeat it for several.",
        autocompletion=benchmark_names,
    ),
]
BenchmarkRoot = Annotated[
    str | None,
    typer.Option(
        "--root",
        help="Folder of the benchmark's files, or one with a folder of each benchmark's name; of a "
        "table, the folder that its image paths are relative to, or its address. Default: where "
        "`data --fetch` puts the files; of a table, its own folder.",
        metavar="DIR",
    ),
]
ImageRoot = Annotated[
    str | None,
    typer.Option(
        "--root",
        help="Folder that image paths are relative to; of a table, also its address. Default: the "
        "current folder; of a table, its own folder.",
        metavar="DIR",
    ),
]
ImageFolders = Annotated[
    list[Path] | None,
    typer.Option(
        "--images",
        help="For a set of prompts, published or your own: the folder of the images generated from "
        "them; repeat it for several generators.",
        metavar="DIR",
    ),
]
ImagePixels = Annotated[
    int,
    typer.Option(
        help="Longer side of the images that the page opens, as far as its size allows; 0 for "
        "small ones alone.",
        min=0,
        max=4096,
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="For a table of your own: the column that holds a field, for example prompt=caption "
        "or human=rating; repeat it for several. Default: columns of the fields' names.",
        metavar="FIELD=COLUMN",
    ),
]
Question = Annotated[
    str | None,
    typer.Option(
        help="Question template; {} stands for the text, for example 'Does this show {}?'. "
        "Default: the scorer's own.",
        metavar="TEXT",
    ),
]
Answer = Annotated[
    str | None,
    typer.Option(
        help="Answer template; the score is the answer's probability. Default: the scorer's own.",
        metavar="TEXT",
    ),
]
TemplateName = Annotated[
    str | None,
    typer.Option(
        help="Name of a question and answer template (see `list templates`). Default: the "
        "scorer's own.",
        metavar="NAME",
        autocompletion=template_names,
    ),
]
OnError = Annotated[
    Literal["error", "skip", "raise"],
    typer.Option(
        help="What to do with an image that cannot be scored: stop (error, or raise as in Python), "
        "or leave it out and count it (skip)."
    ),
]
StorePath = Annotated[
    Path | None,
    typer.Option(
        help="File that stores scores, so that later runs reuse them. Default: scores.sqlite in "
        "your cache folder.",
        metavar="FILE",
    ),
]
NoStore = Annotated[
    bool, typer.Option("--no-store", help="Store no scores, and reuse none of earlier runs.")
]
Device = Annotated[
    str | None,
    typer.Option(help="Device, for example cuda:0 or cpu. Default: a GPU if there is one."),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="Precision of the model: float32, bfloat16 or float16. Default: float32; bfloat16 "
        "for large models where it is fast."
    ),
]
CheckpointPath = Annotated[
    str | None,
    typer.Option(
        help="Weights to load in place of the scorer's own: a Hugging Face id, a folder or a file.",
        metavar="WEIGHTS",
    ),
]
InitialBatchSize = Annotated[
    int | None,
    typer.Option(
        help="Batch size to try first, 1 or more; it is halved when memory runs out. Default: "
        "chosen by the scorer.",
    ),
]
AllowUrls = Annotated[
    bool,
    typer.Option(
        "--allow-urls",
        help="Download images given as http(s) URLs from public addresses; "
        "`--option allow_urls=private` also allows private ones, and `allow_urls=any` addresses of "
        "other file systems, such as s3://.",
    ),
]
ImageMode = Annotated[
    Literal["seen", "original", "fast"] | None,
    typer.Option(
        help="How image files are decoded: as a person sees them, with EXIF rotation and "
        "transparency on white (seen), as the model's authors decode them (original), or as seen "
        "with large JPEG files decoded faster and nearly the same, for scorers of kind clip "
        "(fast). Default: seen."
    ),
]
MaxCost = Annotated[
    float | None,
    typer.Option(
        help="Stop after spending this many US dollars on an API, 0 or more. Default: no limit.",
        metavar="DOLLARS",
    ),
]
MaxRequests = Annotated[
    int | None,
    typer.Option(
        help="Stop after sending this many requests to an API, 1 or more. Default: no limit."
    ),
]
Batch = Annotated[
    bool,
    typer.Option("--batch", help="Use the provider's batch API (half price, results within 24 h)."),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print the number of API requests and their estimated cost; send nothing.",
    ),
]
ScorerOptionPairs = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help="Another option of the scorer's class, for example share=false, or of a function of "
        "your own, version=1; repeat it for several. Of several scorers those get it that take it.",
        metavar="KEY=VALUE",
    ),
]
BenchmarkOptionPairs = Annotated[
    list[str] | None,
    typer.Option(
        "--benchmark-option",
        help="Another option of the benchmark's class, for example whole=true to read whole "
        "videos; repeat it for several.",
        metavar="KEY=VALUE",
    ),
]
Spreadsheet = Annotated[
    bool,
    typer.Option(
        "--spreadsheet",
        help="Write CSV that is safe to open in a spreadsheet: a text that looks like a formula "
        "gets a leading apostrophe.",
    ),
]
Subset = Annotated[
    list[str] | None,
    typer.Option(
        "--subset",
        help="Evaluate only items with this tag (a category or skill); repeat it for several. "
        "Default: all items.",
        metavar="TAG",
    ),
]
OnMissing = Annotated[
    Literal["error", "skip"],
    typer.Option(
        help="What to do with an item whose image file is missing: stop (error), or leave the "
        "item out and count it (skip)."
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print JSON instead of tables; what is undefined is null."),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        help="Evaluate at most this many items, chosen at random by --seed; a group counts as one. "
        "Default: all.",
        metavar="N",
    ),
]
ShardOf = Annotated[
    str | None,
    typer.Option(
        "--shard",
        help="Score only the images of one of COUNT shards, numbered from 1, into a store of its "
        "own (--store with the shard in its name), for `store merge`; auto takes the shard from "
        "torchrun or srun. Default: all images.",
        metavar="NUMBER/COUNT|auto",
    ),
]
Resamples = Annotated[
    int,
    typer.Option(
        help="Number of bootstrap resamples for the 95 % confidence intervals, 1 or more."
    ),
]
Seed = Annotated[int, typer.Option(help="Random seed of resamples, tests and --limit, 0 or more.")]


def scorer_options(
    question: Question = None,
    answer: Answer = None,
    template: TemplateName = None,
    on_error: OnError = "error",
    store: StorePath = None,
    no_store: NoStore = False,
    device: Device = None,
    dtype: Dtype = None,
    checkpoint: CheckpointPath = None,
    batch_size: InitialBatchSize = None,
    allow_urls: AllowUrls = False,
    image_mode: ImageMode = None,
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
    batch: Batch = False,
    option: ScorerOptionPairs = None,
) -> ScorerOptions:
    """Return the options of a scorer that flags set; flags take precedence over --option.

    Raises:
        InputError: a pair of --option is not of the form KEY=VALUE.
    """
    pairs = ScorerOptions.from_keywords(**parse_options(option))
    flags = {
        "question_template": question,
        "answer_template": answer,
        "template": template,
        "device": device,
        "dtype": dtype,
        "checkpoint": checkpoint,
        "batch_size": batch_size,
        # `--option allow_urls=private` allows more than the flag.
        "allow_urls": pairs.allow_urls or allow_urls or None,
        "image_mode": image_mode,
        "max_cost": max_cost,
        "max_requests": max_requests,
        "batch": batch or None,
    }
    chosen: dict[str, Any] = {name: flag for name, flag in flags.items() if flag is not None}
    return replace(
        pairs, on_error=raise_or_skip(on_error), store=store_path(store, no_store), **chosen
    )


def raise_or_skip(flag: Literal["error", "skip", "raise"]) -> Literal["raise", "skip"]:
    """Return the Python value of --on-error or --on-missing.

    >>> raise_or_skip("error"), raise_or_skip("skip")
    ('raise', 'skip')
    """
    return "skip" if flag == "skip" else "raise"


def with_scorer_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flags of `scorer_options` to a command, which gets the result as `options`."""
    shared = inspect.signature(scorer_options, eval_str=True).parameters
    parameters = dict(inspect.signature(command, eval_str=True).parameters)
    del parameters["options"]

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        options = scorer_options(**{name: values.pop(name) for name in shared})
        command(options=options, **values)

    both = [p.replace(kind=p.KEYWORD_ONLY) for p in (*parameters.values(), *shared.values())]
    wrapper.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in both}
    return wrapper


def default_store() -> Path:
    """Return the path of the score store in the user's cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("t2v-eval") / "scores.sqlite"


def store_path(store: Path | None, no_store: bool) -> Path | None:
    """Return the store to use: None with --no-store, else --store or the default."""
    return None if no_store else store or default_store()


def check_text(text: str, flag: str) -> None:
    """Check that a text is not empty, as a variable of a shell without a value is.

    Args:
        text: the text.
        flag: what messages name.

    Raises:
        InputError: it is empty, or white space alone.

    >>> check_text("", "--text")
    Traceback (most recent call last):
    t2v_eval.errors.InputError: --text '' is empty: write what the images should show
    """
    if not text.strip():
        raise InputError(f"{flag} {text!r} is empty: write what the images should show")


def parse_columns(pairs: Sequence[str] | None) -> dict[str, list[str]]:
    """Parse ``field=column`` pairs; a repeated field has several columns.

    Raises:
        InputError: a pair is not of this form.

    >>> parse_columns(["human=rater 1", "human=rater 2"])
    {'human': ['rater 1', 'rater 2']}
    """
    columns: dict[str, list[str]] = {}
    for pair in pairs or ():
        name, equals, column = pair.partition("=")
        if not (equals and name and column):
            raise InputError(f"--column {pair!r}: write FIELD=COLUMN, for example human=rating")
        columns.setdefault(name, []).append(column)
    return columns


PYTHON_LITERALS = {"True": True, "False": False, "None": None}


def parse_options(pairs: Sequence[str] | None, name: str = "--option") -> dict[str, Any]:
    """Parse ``key=value`` pairs.

    Values that are JSON (a number, true, null), or True, False and None as Python writes them, are
    read as such; all others are texts.

    Args:
        pairs: the pairs; a later one of a key replaces an earlier one.
        name: the flag that messages name.

    Raises:
        InputError: a pair is not of this form.

    >>> parse_options(["scale=2.5", "flip=true", "style=vivid"])
    {'scale': 2.5, 'flip': True, 'style': 'vivid'}
    """
    for pair in pairs or ():
        key, equals, _ = pair.partition("=")
        if not equals or not key.isidentifier():
            raise InputError(f"{name} {pair!r}: write KEY=VALUE, for example scale=2.5")
    return _values(pairs)


def parse_metric_options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Parse ``metric.option=value`` pairs; values are read as by `parse_options`.

    Raises:
        InputError: a pair is not of this form.

    >>> parse_metric_options(["precision.k=3"])
    {'precision.k': 3}
    """
    for pair in pairs or ():
        key, equals, _ = pair.partition("=")
        metric, _, option = key.partition(".")
        if not (equals and metric and option.isidentifier()):
            raise InputError(
                f"--metric-option {pair!r}: write METRIC.OPTION=VALUE, for example precision.k=3"
            )
    return _values(pairs)


def _values(pairs: Sequence[str] | None) -> dict[str, Any]:
    options = {}
    for pair in pairs or ():
        key, _, value = pair.partition("=")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = PYTHON_LITERALS.get(value, value)
    return options
