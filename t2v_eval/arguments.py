"""What the commands have in common: their options, and how arguments become what is scored."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from t2v_eval.errors import InputError, MediaError, TableError

if TYPE_CHECKING:
    from t2v_eval.plan import Block

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
) -> tuple[list[Block], list[dict[str, Any]]]:
    """Pictures x texts, or a table of pairs, as blocks; paths in a table start at its folder.

    No text at all is one empty text, for scorers that use none.

    Returns:
        The blocks, and what else the table says of each.

    Raises:
        InputError: both, or neither.
        TableError: see `read_table`; the table has columns that results have.
    """
    from t2v_eval.plan import Block
    from t2v_eval.tables import read_table

    if pairs is None:
        if not images:
            raise InputError("pass pictures and at least one --text, or a table with --pairs")
        return [Block.of([_below(root, image) for image in images], texts or [""])], [{}]
    if images or texts:
        raise InputError("pass pictures and texts, or a table with --pairs, not both")
    image, text = columns
    base = pairs.parent if root is None else root
    rows = read_table(pairs, columns)
    others = [n for n in dict.fromkeys(n for row in rows for n in row) if n not in columns]
    if taken := [name for name in others if name in RESULTS]:
        raise TableError(
            f"{pairs}: the results have columns {', '.join(map(repr, taken))} of their own; "
            "call those of the table otherwise"
        )
    blocks = [
        Block.of(
            [_picture(base, row[image], f"row {number} of {pairs}")],
            [row[text]],
            where=f"{pairs}, row {number}: ",
        )
        for number, row in enumerate(rows, 1)
    ]
    return blocks, [{name: row.get(name) for name in others} for row in rows]


def check_pictures(blocks: Sequence[Block]) -> None:
    """Raise MediaError for a file that is not there, before a model is loaded for nothing."""
    for number, block in enumerate(blocks):
        for image in block.images:
            if isinstance(image, str) and not _is_url(image) and not Path(image).exists():
                where = f"row {number + 1}, " if len(blocks) > 1 else ""
                raise MediaError(f"{where}{image}: no such file")


def _is_url(image: str) -> bool:
    return image.startswith(("http://", "https://"))


def _picture(root: Path | None, value: Any, row: str) -> Any:
    """The picture of a table's row, where it is embedded or a path."""
    from t2v_eval.media import embedded

    if isinstance(value, dict):  # how Hugging Face data sets keep a picture in Parquet
        content, path = value.get("bytes"), value.get("path")
        return embedded(content, path or row) if content else _below(root, path)
    return embedded(value, row) if isinstance(value, bytes) else _below(root, value)


def _below(root: Path | None, image: Any) -> Any:
    if root is None or not isinstance(image, str) or _is_url(image):
        return image
    return str(root.expanduser() / image)


def shown(image: Any) -> str:
    """What to call a picture in a table."""
    return image if isinstance(image, str) else str(image.name)


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
