"""Options that several commands share, and how arguments become what is scored."""

from __future__ import annotations

import functools
import inspect
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from t2v_eval.errors import InputError, MediaError, TableError
from t2v_eval.utils.printable import redact_userinfo

if TYPE_CHECKING:
    from t2v_eval.scoring.plan import Block
    from t2v_eval.scoring.results import ScoringResult

ModelName = Annotated[
    str, typer.Option("--model", "-m", help="Name of a scorer; `list models` shows them.")
]
ModelNames = Annotated[
    list[str],
    typer.Option(
        "--model", "-m", help="Name of a scorer (see `list models`); repeat it for several."
    ),
]
BenchmarkNames = Annotated[
    list[str],
    typer.Option(
        "--benchmark",
        "-b",
        help="Name of a benchmark (see `list benchmarks`), or a table of your own; repeat it for "
        "several.",
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the benchmark's files, or the one that image paths in a table start from.",
        metavar="DIR",
    ),
]
ImageFolders = Annotated[
    list[Path] | None,
    typer.Option(
        "--images",
        help="For a set of prompts: the folder of the images generated from them; repeat it for "
        "several generators.",
        metavar="DIR",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="For a table of your own: which of its columns to read, for example human=rating.",
        metavar="NAME=COLUMN",
    ),
]
Question = Annotated[
    str | None,
    typer.Option(
        help="Question template; {} stands for the text, for example 'Does this show {}?'.",
        metavar="TEXT",
    ),
]
Answer = Annotated[
    str | None,
    typer.Option(help="Answer template, whose probability is the score.", metavar="TEXT"),
]
TemplateName = Annotated[
    str | None,
    typer.Option(
        help="Name of a question and answer template; `list templates` shows them.", metavar="NAME"
    ),
]
OnErrorOption = Annotated[
    str,
    typer.Option(
        help="'raise' stops at the first image that cannot be scored; 'skip' leaves it out and "
        "goes on.",
        metavar="raise|skip",
    ),
]
StorePath = Annotated[
    Path | None,
    typer.Option(
        help="File that keeps scores between runs, so that none is computed twice; default: one "
        "in your cache folder.",
        metavar="FILE",
    ),
]
NoStore = Annotated[
    bool, typer.Option("--no-store", help="Neither reuse scores of earlier runs nor keep any.")
]
Device = Annotated[
    str | None,
    typer.Option(help="Device, for example cuda:0 or cpu; default: a GPU where there is one."),
]
Dtype = Annotated[
    str | None, typer.Option(help="Precision of the model: float32, bfloat16 or float16.")
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
    typer.Option(help="Batch size to try first; it is adapted to the memory of the device."),
]
AllowUrls = Annotated[
    bool,
    typer.Option(
        "--allow-urls",
        help="Download images given as http(s) URLs from public addresses; "
        "`--option allow_urls=private` also allows private ones.",
    ),
]
ImageModeName = Annotated[
    str | None,
    typer.Option(
        help="'seen' applies EXIF rotation and shows transparency on white; 'original' decodes as "
        "the model's authors do.",
        metavar="seen|original",
    ),
]
MaxCost = Annotated[
    float | None,
    typer.Option(help="Stop after spending this many US dollars on an API.", metavar="DOLLARS"),
]
MaxRequests = Annotated[
    int | None, typer.Option(help="Stop after sending this many requests to an API.")
]
Batch = Annotated[
    bool,
    typer.Option("--batch", help="Use the provider's batch API (half price, results within 24 h)."),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Print the requests an API would get and their cost; send nothing."
    ),
]
ScorerOptionPairs = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help="Another option of the scorer (see its class); repeat it for several.",
        metavar="KEY=VALUE",
    ),
]
BenchmarkOptionPairs = Annotated[
    list[str] | None,
    typer.Option(
        "--benchmark-option",
        help="Another option of the benchmark (see its class), for example whole=true to read "
        "whole videos; repeat it for several.",
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
        help="Evaluate only items with this tag (a category or skill); repeat it for several.",
        metavar="TAG",
    ),
]
OnMissing = Annotated[
    str,
    typer.Option(
        "--on-missing",
        help="'error' stops where an image file is missing; 'skip' leaves out its items.",
        metavar="error|skip",
    ),
]


class ScorerOptions(NamedTuple):
    """Options that every command which loads a scorer has.

    `arguments` are keyword arguments of `load`; a `store` of None keeps no scores.
    """

    store: Path | None
    on_error: str
    dry_run: bool
    arguments: dict[str, Any]


def with_scorer_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of `_scorer_options` to a command, which gets them as its first argument."""
    shared = inspect.signature(_scorer_options, eval_str=True).parameters
    parameters = dict(inspect.signature(command, eval_str=True).parameters)
    del parameters["options"]

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        options = _scorer_options(**{name: values.pop(name) for name in shared})
        command(options=options, **values)

    both = [p.replace(kind=p.KEYWORD_ONLY) for p in (*parameters.values(), *shared.values())]
    wrapper.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in both}
    return wrapper


def _scorer_options(
    question: Question = None,
    answer: Answer = None,
    template: TemplateName = None,
    on_error: OnErrorOption = "raise",
    store: StorePath = None,
    no_store: NoStore = False,
    device: Device = None,
    dtype: Dtype = None,
    checkpoint: CheckpointPath = None,
    batch_size: InitialBatchSize = None,
    allow_urls: AllowUrls = False,
    image_mode: ImageModeName = None,
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
    batch: Batch = False,
    dry_run: DryRun = False,
    option: ScorerOptionPairs = None,
) -> ScorerOptions:
    arguments = parse_options(option) | without_none(
        question_template=question,
        answer_template=answer,
        template=template,
        device=device,
        dtype=dtype,
        checkpoint=checkpoint,
        batch_size=batch_size,
        image_mode=image_mode,
        max_cost=max_cost,
        max_requests=max_requests,
        batch=batch or None,
    )
    if allow_urls:
        arguments.setdefault("allow_urls", True)  # --option allow_urls=private goes before it
    return ScorerOptions(store_path(store, no_store), on_error, dry_run, arguments)


def default_store() -> Path:
    """Return the path of the score store in the user's cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("t2v-eval") / "scores.sqlite"


def store_path(store: Path | None, no_store: bool) -> Path | None:
    """Return the store to use: None with --no-store, else --store or the default."""
    return None if no_store else store or default_store()


RESULT_COLUMNS = ("image", "text", "model", "score", "error")  # of what `score` writes


class TableInput(NamedTuple):
    """What `score` was given, as blocks and as rows.

    `rows` has the columns of each row of a table (one empty row without a table); `unusable` maps
    row numbers, from 1, to the reason why the row has no block.
    """

    blocks: list[Block]
    rows: list[dict[str, Any]]
    unusable: dict[int, str]


def read_blocks(
    images: Sequence[str] | None,
    texts: Sequence[str] | None,
    pairs: Path | None,
    columns: tuple[str, str],
    root: Path | None,
    skip: bool = False,
) -> TableInput:
    """Return images x texts, or the rows of a table, as blocks to score.

    Args:
        images, texts: paths or URLs, and texts; no text at all is one empty text, for scorers that
            use none.
        pairs: a table instead of images and texts.
        columns: the table's columns of images and of texts.
        root: the folder that image paths start from; of a table, by default its own folder.
        skip: whether rows that cannot be used get no block instead of raising.

    Raises:
        InputError: both images and a table, or neither.
        TableError: see `read_rows`; the table has columns that results have.
    """
    if pairs is not None:
        if images or texts:
            raise InputError("pass images and texts, or a table with --pairs, not both")
        return _read_table(pairs, columns, pairs.parent if root is None else root, skip)
    if not images:
        raise InputError("pass images and at least one --text, or a table with --pairs")
    from t2v_eval.scoring.plan import Block

    paths = [_resolve(root, image) for image in images]
    return TableInput([Block.of(paths, texts or [""])], [{}], {})


def _read_table(pairs: Path, columns: tuple[str, str], root: Path, skip: bool) -> TableInput:
    from t2v_eval.inputs.tables import read_rows

    image, text = columns
    rows, unusable = read_rows(pairs, columns, skip)
    others = [name for name in dict.fromkeys(n for row in rows for n in row) if name not in columns]
    if clashing := [name for name in others if name in RESULT_COLUMNS]:
        raise TableError(
            f"{pairs}: the results have columns {', '.join(map(repr, clashing))} of their own; "
            "rename those of the table"
        )
    blocks = []
    for number, row in enumerate(rows, 1):
        try:
            if number not in unusable:
                blocks.append(_row_block(pairs, number, row, columns, root))
        except InputError as error:
            if not skip:
                raise
            unusable[number] = str(error).removeprefix(f"{pairs}, ")
    if not blocks:
        raise TableError(f"{pairs}: no row can be used: {next(iter(unusable.values()))}")
    renamed = [
        {"image": row.get(image), "text": row.get(text), **{n: row.get(n) for n in others}}
        for row in rows
    ]
    return TableInput(blocks, renamed, unusable)


def _row_block(
    pairs: Path, number: int, row: Mapping[str, Any], columns: tuple[str, str], root: Path
) -> Block:
    from t2v_eval.inputs.media import Media
    from t2v_eval.scoring.plan import Block

    where = f"{pairs}, row {number}: "
    value = row[columns[0]]
    image = _image_of_row(root, value, f"row {number} of {pairs}")
    if not isinstance(image, (str, Media)):
        kind = type(image).__name__
        raise MediaError(f"{where}{value!r}: {kind} is not an image; write its path")
    return Block.of([image], [row[columns[1]]], where=where)


def check_images_exist(blocks: Sequence[Block], pairs: bool = False) -> None:
    """Check that image files can be opened, so that no model is loaded in vain.

    Args:
        pairs: whether each block is a row of a table, which messages then name.

    Raises:
        MediaError: a file is missing, empty or no regular file; its path cannot be one; or an image
            that a table embeds cannot be opened.
    """
    from t2v_eval.inputs.media import Media

    for number, block in enumerate(blocks):
        where = f"row {number + 1}: " if pairs else ""
        hint = "; --on-error skip goes on without it" if pairs else ""
        for image in block.images:
            if isinstance(image, Media) and image.is_broken:
                image.load()
            if isinstance(image, str) and not _is_url(image) and (reason := _unusable_file(image)):
                raise MediaError(f"{where}{_shortened(image)}: {reason}{hint}")


def _unusable_file(path: str) -> str:
    """Return why a path is not that of a file to read, or ""."""
    from t2v_eval.utils.regular_file import File

    try:
        return "" if File.snapshot(Path(path)).size else "the file is empty (0 bytes)"
    except FileNotFoundError:
        return "no such file"
    except IsADirectoryError:
        return "is a directory, not an image"
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _shortened(path: str) -> str:
    path = redact_userinfo(path)
    return path if len(path) <= 200 else f"{path[:200]}..."


def _is_url(image: str) -> bool:
    return image.startswith(("http://", "https://"))


def _image_of_row(root: Path | None, value: Any, row: str) -> Any:
    """Return the image that a table's cell embeds, or its path."""
    from t2v_eval.inputs.media import embedded

    if isinstance(value, dict):  # how Hugging Face data sets store an image in Parquet
        content, path = value.get("bytes"), value.get("path")
        return embedded(content, path or row) if content else _resolve(root, path or None)
    return embedded(value, row) if isinstance(value, bytes) else _resolve(root, value)


def _resolve(root: Path | None, image: Any) -> Any:
    if root is None or not isinstance(image, str) or _is_url(image):
        return image
    return str(root.expanduser() / image)


def image_label(image: Any, number: int = 0) -> str:
    """Return how to show an image in a table: its path, or the row that embeds it."""
    if isinstance(image, dict):
        image = image.get("path") or image.get("bytes")
    if isinstance(image, bytes):
        return f"row {number} ({len(image)} bytes)" if number else f"{len(image)} bytes"
    return "" if image is None else redact_userinfo(str(image))


def result_rows(table: TableInput, model: str, outcome: ScoringResult) -> Iterator[dict[str, Any]]:
    """Yield a row for each image and text, and for each row of the table that cannot be used."""
    numbered_blocks = iter(enumerate(table.blocks))
    for number, row in enumerate(table.rows, 1):
        others = {name: value for name, value in row.items() if name not in ("image", "text")}
        if number in table.unusable:
            cell = {"image": image_label(row["image"], number), "text": row["text"], **others}
            reason = table.unusable[number]
            yield {**cell, "model": model, "score": math.nan, "error": reason}
            continue
        b, block = next(numbered_blocks)
        for i, image in enumerate(block.images):
            for j, text in enumerate(block.texts):
                error = outcome.failures.get((b, i, j), "")
                if row and error:
                    error = f"row {number}: {re.sub(r'^item [0-9]+, ', '', error)}"
                yield {
                    "image": redact_userinfo(
                        image if isinstance(image, str) else str(getattr(image, "name", ""))
                    ),
                    "text": text,
                    **others,
                    "model": model,
                    "score": float(outcome.scores[b][i, j]),
                    "error": error,
                }


def without_none(**options: Any) -> dict[str, Any]:
    """Return the options that are not None.

    >>> without_none(device="cpu", dtype=None)
    {'device': 'cpu'}
    """
    return {key: value for key, value in options.items() if value is not None}


def parse_columns(pairs: Sequence[str] | None) -> dict[str, list[str]] | None:
    """Parse ``name=column`` pairs; a repeated name has several columns.

    Raises:
        InputError: a pair is not of this form.

    >>> parse_columns(["human=rater 1", "human=rater 2"])
    {'human': ['rater 1', 'rater 2']}
    """
    columns: dict[str, list[str]] = {}
    for pair in pairs or ():
        name, equals, column = pair.partition("=")
        if not (equals and name and column):
            raise InputError(f"--column {pair!r}: write name=column")
        columns.setdefault(name, []).append(column)
    return columns or None


PYTHON_LITERALS = {"True": True, "False": False, "None": None}


def parse_options(pairs: Sequence[str] | None, name: str = "--option") -> dict[str, Any]:
    """Parse ``key=value`` pairs.

    Values that are JSON (a number, true, null), or True, False and None as Python writes them, are
    read as such; all others are texts.

    Args:
        name: the option that messages name.

    Raises:
        InputError: a pair is not of this form.

    >>> parse_options(["scale=2.5", "flip=true", "style=vivid"])
    {'scale': 2.5, 'flip': True, 'style': 'vivid'}
    """
    options = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise InputError(f"{name} {pair!r}: write key=value")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = PYTHON_LITERALS.get(value, value)
    return options
