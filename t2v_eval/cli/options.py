"""What the commands have in common: their options, and how arguments become what is scored."""

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

if TYPE_CHECKING:
    from t2v_eval.scoring.plan import Block
    from t2v_eval.scoring.results import ScoringResult

Models = Annotated[
    list[str], typer.Option("--model", "-m", help="A scorer's name; see `list models`.")
]
Benchmarks = Annotated[
    list[str], typer.Option("--benchmark", "-b", help="A benchmark's name, or a table of your own.")
]
Root = Annotated[
    Path | None, typer.Option(help="Folder of the files: of a benchmark, or of a table's pictures.")
]
Images = Annotated[
    list[Path] | None,
    typer.Option(
        "--images",
        help="Pictures of a set of prompts; repeat it for more generators.",
        metavar="DIR",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="What a column of your own table or data set is called there, as human=rating.",
        metavar="NAME=COLUMN",
    ),
]
Question = Annotated[
    str | None, typer.Option(help="Question template; {} stands for the text.", metavar="TEXT")
]
Answer = Annotated[str | None, typer.Option(help="Answer template.", metavar="TEXT")]
TemplateName = Annotated[
    str | None, typer.Option(help="A named template; see `list templates`.", metavar="NAME")
]
OnErrorOption = Annotated[
    str, typer.Option(help="'raise' stops at a picture that cannot be scored; 'skip' goes on.")
]
StorePath = Annotated[
    Path | None, typer.Option(help="The file that keeps scores between runs.", metavar="PATH")
]
NoStore = Annotated[bool, typer.Option("--no-store", help="Keep no scores between runs.")]
Device = Annotated[str | None, typer.Option(help="For example cuda:0 or cpu; default: the best.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")]
Checkpoint = Annotated[
    str | None, typer.Option(help="Other weights: a hub id, a folder or a file.", metavar="WHERE")
]
BatchSize = Annotated[int | None, typer.Option(help="Where the search for a batch size starts.")]
AllowUrls = Annotated[
    bool,
    typer.Option(
        "--allow-urls",
        help="Download pictures given as URLs, from public addresses; from others too with "
        "--option allow_urls=private.",
    ),
]
ImageMode = Annotated[
    str | None, typer.Option(help="'seen' as a person sees it, 'original' as the original code.")
]
MaxCost = Annotated[
    float | None, typer.Option(help="US dollars after which a service is not asked any more.")
]
MaxRequests = Annotated[
    int | None, typer.Option(help="Requests after which a service is not asked any more.")
]
Batch = Annotated[
    bool, typer.Option("--batch", help="Ask a service in files, at its price for what may wait.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what a service would be asked, and what it costs.")
]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", help="More for the scorer, as key=value.", metavar="KEY=VALUE"),
]
BenchmarkOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--benchmark-option",
        help="More for the benchmarks, as key=value; whole=true has videos read whole.",
        metavar="KEY=VALUE",
    ),
]


Spreadsheet = Annotated[
    bool,
    typer.Option(
        "--spreadsheet",
        help="CSV for a spreadsheet: texts that it would take for formulas get an apostrophe.",
    ),
]
Subset = Annotated[
    list[str] | None,
    typer.Option(
        "--subset",
        help="Evaluate only items with this tag (a category, a skill); repeat it for more tags.",
        metavar="TAG",
    ),
]
OnMissing = Annotated[
    str,
    typer.Option(
        "--on-missing",
        help="'error' stops where a picture is not there; 'skip' leaves out what lacks it.",
    ),
]


class Asked(NamedTuple):
    """What was asked of scorers: where scores are kept, what a failure does, their options."""

    store: Path | None
    on_error: str
    dry_run: bool
    options: dict[str, Any]


def scoring(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` all options of scorers; it gets what they hold as its argument `asked`."""
    shared = inspect.signature(_asked, eval_str=True).parameters
    own = dict(inspect.signature(command, eval_str=True).parameters)
    del own["asked"]

    @functools.wraps(command)
    def called(**values: Any) -> None:
        command(asked=_asked(**{name: values.pop(name) for name in shared}), **values)

    both = [one.replace(kind=one.KEYWORD_ONLY) for one in (*own.values(), *shared.values())]
    called.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in both}
    return called


def _asked(
    question: Question = None,
    answer: Answer = None,
    template: TemplateName = None,
    on_error: OnErrorOption = "raise",
    store: StorePath = None,
    no_store: NoStore = False,
    device: Device = None,
    dtype: Dtype = None,
    checkpoint: Checkpoint = None,
    batch_size: BatchSize = None,
    allow_urls: AllowUrls = False,
    image_mode: ImageMode = None,
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
    batch: Batch = False,
    dry_run: DryRun = False,
    option: Options = None,
) -> Asked:
    options = parse_options(option) | given(
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
        options.setdefault("allow_urls", True)  # or "private", as an option says it
    return Asked(None if no_store else store or default_store(), on_error, dry_run, options)


def default_store() -> Path:
    """Where scores are kept if nothing else is said."""
    from platformdirs import user_cache_path

    return user_cache_path("t2v-eval") / "scores.sqlite"


RESULTS = ("image", "text", "model", "score", "error")  # the columns of what `score` writes


def read_blocks(
    images: Sequence[str] | None,
    texts: Sequence[str] | None,
    pairs: Path | None,
    columns: tuple[str, str],
    root: Path | None,
    skip: bool = False,
) -> tuple[list[Block], list[dict[str, Any]], dict[int, str]]:
    """Pictures x texts, or a table of pairs, as blocks; paths in a table start at its folder.

    No text at all is one empty text, for scorers that use none. Where rows may be skipped, those
    that cannot be used have no block.

    Returns:
        The blocks; every row of the table; the numbers of rows, from 1, that cannot be used, and
        why.

    Raises:
        InputError: both, or neither.
        TableError: see `read_table`; the table has columns that results have.
    """
    from t2v_eval.inputs.media import Media
    from t2v_eval.inputs.tables import read_rows
    from t2v_eval.scoring.plan import Block

    if pairs is None:
        if not images:
            raise InputError("pass pictures and at least one --text, or a table with --pairs")
        return [Block.of([_below(root, image) for image in images], texts or [""])], [{}], {}
    if images or texts:
        raise InputError("pass pictures and texts, or a table with --pairs, not both")
    image, text = columns
    base = pairs.parent if root is None else root
    rows, bad = read_rows(pairs, columns, skip)
    others = [n for n in dict.fromkeys(n for row in rows for n in row) if n not in columns]
    if taken := [name for name in others if name in RESULTS]:
        raise TableError(
            f"{pairs}: the results have columns {', '.join(map(repr, taken))} of their own; "
            "call those of the table otherwise"
        )
    blocks = []
    for number, row in enumerate(rows, 1):
        try:
            if number not in bad:
                where = f"{pairs}, row {number}: "
                picture = _picture(base, row[image], f"row {number} of {pairs}")
                if not isinstance(picture, (str, Media)):
                    what = type(picture).__name__
                    raise MediaError(f"{where}{image!r}: {what} is not a picture; write its path")
                blocks.append(Block.of([picture], [row[text]], where=where))
        except InputError as error:
            if not skip:
                raise
            bad[number] = str(error).removeprefix(f"{pairs}, ")
    if not blocks:
        raise TableError(f"{pairs}: no row can be used: {next(iter(bad.values()))}")
    told = [
        {"image": row.get(image), "text": row.get(text), **{n: row.get(n) for n in others}}
        for row in rows
    ]
    return blocks, told, bad


def check_pictures(blocks: Sequence[Block], pairs: bool = False) -> None:
    """Raise MediaError for a file that is not there, before a model is loaded for nothing."""
    for number, block in enumerate(blocks):
        for image in block.images:
            if isinstance(image, str) and not _is_url(image):
                where = f"row {number + 1}: " if pairs else ""
                try:
                    there = Path(image).exists()
                except (OSError, ValueError) as error:
                    raise MediaError(f"{where}{image[:200]!r} cannot be a file: {error}") from None
                if not there:
                    more = "; --on-error skip goes on without it" if pairs else ""
                    raise MediaError(f"{where}{image}: no such file{more}")


def _is_url(image: str) -> bool:
    return image.startswith(("http://", "https://"))


def _picture(root: Path | None, value: Any, row: str) -> Any:
    """The picture of a table's row, where it is embedded or a path."""
    from t2v_eval.inputs.media import embedded

    if isinstance(value, dict):  # how Hugging Face data sets keep a picture in Parquet
        content, path = value.get("bytes"), value.get("path")
        return embedded(content, path or row) if content else _below(root, path)
    return embedded(value, row) if isinstance(value, bytes) else _below(root, value)


def _below(root: Path | None, image: Any) -> Any:
    if root is None or not isinstance(image, str) or _is_url(image):
        return image
    return str(root.expanduser() / image)


def shown(image: Any, number: int = 0) -> str:
    """What to call a picture in a table: its path, or the row that holds it."""
    if isinstance(image, dict):
        image = image.get("path") or image.get("bytes")
    if isinstance(image, bytes):
        return f"row {number} ({len(image)} bytes)" if number else f"{len(image)} bytes"
    return "" if image is None else str(image)


def results(
    blocks: Sequence[Block],
    told: Sequence[Mapping[str, Any]],
    bad: Mapping[int, str],
    model: str,
    outcome: ScoringResult,
) -> Iterator[dict[str, Any]]:
    """A row for each picture and text, and for each row of a table that could not be used."""
    scored = iter(enumerate(blocks))
    for number, row in enumerate(told, 1):
        more = {name: value for name, value in row.items() if name not in ("image", "text")}
        if number in bad:
            told_of = {"image": shown(row["image"], number), "text": row["text"], **more}
            yield {**told_of, "model": model, "score": math.nan, "error": bad[number]}
            continue
        b, block = next(scored)
        for i, image in enumerate(block.images):
            for j, words in enumerate(block.texts):
                error = outcome.failures.get((b, i, j), "")
                if row and error:
                    error = f"row {number}: {re.sub(r'^item [0-9]+, ', '', error)}"
                yield {
                    "image": image if isinstance(image, str) else str(getattr(image, "name", "")),
                    "text": words,
                    **more,
                    "model": model,
                    "score": float(outcome.scores[b][i, j]),
                    "error": error,
                }


def given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {key: value for key, value in options.items() if value is not None}


def parse_columns(pairs: Sequence[str] | None) -> dict[str, list[str]] | None:
    """``name=column`` pairs; a name that is repeated has several columns.

    Raises:
        InputError: not of this form.
    """
    found: dict[str, list[str]] = {}
    for pair in pairs or ():
        name, equals, column = pair.partition("=")
        if not (equals and name and column):
            raise InputError(f"--column {pair!r}: write name=column")
        found.setdefault(name, []).append(column)
    return found or None


AS_PYTHON = {"True": True, "False": False, "None": None}


def parse_options(pairs: Sequence[str] | None, name: str = "--option") -> dict[str, Any]:
    """``key=value`` pairs; a value that is JSON (a number, true, null) is read as such, and so are
    True, False and None as Python writes them.

    Raises:
        InputError: not of this form.
    """
    found = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise InputError(f"{name} {pair!r}: write key=value")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = AS_PYTHON.get(value, value)
    return found
