"""The input of `score`: images and texts, or the rows of a table; and its result rows."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from t2v_eval.cli.inputs.image_arguments import expand_images
from t2v_eval.errors import InputError, MediaError, TableError
from t2v_eval.inputs.addresses import folder_of, is_address, path_or_address, within_folder
from t2v_eval.utils.arguments import check_path
from t2v_eval.utils.printable import redact_userinfo

if TYPE_CHECKING:
    from t2v_eval.scoring.plan import Block
    from t2v_eval.scoring.results import ScoringResult
    from t2v_eval.scoring.shard import Shard


FLAGS = ("--image-column", "--text-column", "--source-column")  # of `RowColumns`, in order


class RowColumns(NamedTuple):
    """The columns of a table.

    Attributes:
        image: the column of images.
        text: the column of texts.
        source: the column of the images before an edit; None where rows are no edits.
    """

    image: str = "image"
    text: str = "text"
    source: str | None = None


RESULT_COLUMNS = ("image", "text", "model", "score", "error")  # of what `score` writes


class TableInput(NamedTuple):
    """The input of `score`, as blocks and as rows.

    Attributes:
        blocks: what to score.
        rows: the columns of each row of a table; one empty row without a table.
        unusable: why a row has no block, by its number from 1.
    """

    blocks: list[Block]
    rows: list[dict[str, Any]]
    unusable: dict[int, str]

    def of_shard(self, shard: Shard) -> TableInput:
        """Return what one of several workers scores, with a column `shard` that says so.

        Args:
            shard: which worker.

        Raises:
            TableError: the table has a column `shard` of its own.
        """
        if any("shard" in row for row in self.rows):
            raise TableError("the results have a column 'shard'; rename that of the table")
        rows = [{**row, "shard": str(shard)} for row in self.rows]
        return TableInput([shard.part_of(block) for block in self.blocks], rows, self.unusable)


def read_blocks(
    images: Sequence[str] | None,
    texts: Sequence[str] | None,
    pairs: str | Path | None,
    columns: RowColumns,
    root: str | Path | None,
    skip: bool = False,
) -> TableInput:
    """Return images x texts, or the rows of a table, as blocks to score.

    Args:
        images: paths, URLs, folders or globs; see `expand_images`.
        texts: texts; None is one empty text, for scorers that use no text.
        pairs: a table instead of images and texts; a path or an address.
        columns: the table's columns.
        root: the folder that image paths start from; of a table, also its address, and by default
            its own folder.
        skip: whether rows that cannot be used get no block instead of raising.

    Raises:
        InputError: both images and a table, or neither.
        TableError: see `read_rows`; the table has columns that results have.
    """
    if pairs is not None:
        if images or texts:
            raise InputError("pass images and texts, or a table with --pairs, not both")
        table = path_or_address("pairs", pairs)
        return _read_table(table, columns, folder_of(table) if root is None else root, skip)
    for flag, name, default in zip(FLAGS, columns, RowColumns(), strict=True):
        if name != default:
            raise InputError(f"{flag} names a column of a table: pass that with --pairs")
    if not images:
        raise InputError("pass images and at least one --text, or a table with --pairs")
    from t2v_eval.scoring.plan import Block

    paths = expand_images(images, None if root is None else check_path("root", root))
    return TableInput([Block.of(paths, texts or [""])], [{}], {})


def _read_table(pairs: Path | str, columns: RowColumns, root: Path | str, skip: bool) -> TableInput:
    from t2v_eval.inputs.tables import read_rows

    image, text, source = columns
    if source in (image, text):
        what = "images after the edit" if source == image else "texts"
        raise InputError(f"--source-column {source} has the {what}: name that of the images before")
    try:
        rows, unusable = read_rows(pairs, [name for name in columns if name is not None], skip)
    except TableError as error:
        flags = dict(zip(columns, FLAGS, strict=True))
        lacking = next((f for name, f in flags.items() if f"no column {name!r}" in str(error)), "")
        raise TableError(f"{error}; {lacking} names another" if lacking else f"{error}") from error
    names = dict.fromkeys(name for row in rows for name in row)
    others = [name for name in names if name not in (image, text)]
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
    pairs: Path | str,
    number: int,
    row: Mapping[str, Any],
    columns: RowColumns,
    root: Path | str,
) -> Block:
    from t2v_eval.inputs.media import Edit, Media
    from t2v_eval.scoring.plan import Block

    where = f"{pairs}, row {number}: "

    def image_in(column: str) -> str | Media:
        value = row[column]
        image = _image_of_row(root, value, f"row {number} of {pairs}")
        if not isinstance(image, (str, Media)):
            kind = type(image).__name__
            raise MediaError(f"{where}{value!r}: {kind} is not an image; write its path")
        return image

    image: str | Media | Edit = image_in(columns.image)
    if columns.source is not None:
        image = Edit(image_in(columns.source), image)
    block = Block.of([image], [row[columns.text]], where=where)
    return replace(block, name=f"row {number}")


def check_images_exist(blocks: Sequence[Block], pairs: bool = False) -> None:
    """Check that image files can be opened, before a model is loaded.

    Args:
        blocks: blocks to score.
        pairs: whether each block is a row of a table, which messages then name.

    Raises:
        MediaError: a file is missing, empty or no regular file; its path cannot be one; or an image
            that a table embeds cannot be opened.
    """
    from t2v_eval.inputs.media import Media, parts_of

    for number, block in enumerate(blocks):
        where = f"row {number + 1}: " if pairs else ""
        hint = "; --on-error skip leaves it out" if pairs else ""
        for image in (part for source in block.images for part in parts_of(source)):
            if isinstance(image, Media) and image.is_broken:
                image.load()
            if isinstance(image, str):
                check_image_file(image, where, hint)


def check_image_file(path: str, where: str = "", hint: str = "") -> None:
    """Check that an image file can be opened; an address is not looked at.

    Args:
        path: the file.
        where: what the message begins with, such as a row.
        hint: what it ends with.

    Raises:
        MediaError: the file is missing, empty or no regular file, or its path cannot be one.
    """
    if not is_address(path) and (reason := _unusable_file(path)):
        raise MediaError(f"{where}{_shortened(path)}: {reason}{hint}")


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


def _image_of_row(root: Path | str | None, value: Any, row: str) -> Any:
    """Return the image that a table's cell embeds, or its path."""
    from t2v_eval.inputs.media import embedded

    if isinstance(value, dict):  # how Hugging Face data sets store an image in Parquet
        content, path = value.get("bytes"), value.get("path")
        return embedded(content, path or row) if content else _resolve(root, path or None)
    return embedded(value, row) if isinstance(value, bytes) else _resolve(root, value)


def _resolve(root: Path | str | None, image: Any) -> Any:
    if root is None or not isinstance(image, str):
        return image
    return within_folder(path_or_address("root", root), image)


def image_label(image: Any, number: int = 0) -> str:
    """Return how to show an image in a table: its path, or the row that embeds it."""
    if isinstance(image, dict):
        image = image.get("path") or image.get("bytes")
    if isinstance(image, bytes):
        return f"row {number} ({len(image)} bytes)" if number else f"{len(image)} bytes"
    return "" if image is None else redact_userinfo(str(image))


def _row_error(number: int, error: str) -> str:
    """Return why a row has no score; an image of several rows has the name of the first.

    >>> _row_error(5, "row 2 (a.png): no such file"), _row_error(5, "refused")
    ('row 5 (a.png): no such file', 'row 5: refused')
    """
    renamed, count = re.subn(r"^row [0-9]+(?=[. ])", f"row {number}", error)
    return renamed if count else f"row {number}: {error}"


def result_rows(table: TableInput, model: str, outcome: ScoringResult) -> Iterator[dict[str, Any]]:
    """Yield a row for each image and text, and for each row of the table that cannot be used."""
    from t2v_eval.inputs.media import parts_of

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
                if "image" in row and error:
                    error = _row_error(number, error)
                result = parts_of(image)[-1]  # of an edit; its source is a column of the table
                yield {
                    "image": redact_userinfo(
                        result if isinstance(result, str) else str(getattr(result, "name", ""))
                    ),
                    "text": text,
                    **others,
                    "model": model,
                    "score": float(outcome.scores[b][i, j]),
                    "error": error,
                }
