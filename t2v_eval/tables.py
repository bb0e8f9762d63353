"""Tables of inputs and results: CSV, JSON Lines, JSON and Parquet, told apart by the suffix.

What others publish is read as it is: a CSV may be separated by commas, tabs, semicolons or bars,
and be UTF-8 or UTF-16 with a byte order mark; a JSON file holds a list of objects, or an object of
them, whose names become the column `id`.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from t2v_eval.errors import TableError
from t2v_eval.files import replacing
from t2v_eval.regular_file import open_regular, read_bytes

Row: TypeAlias = Mapping[str, Any]


def read_table(path: str | Path, columns: Sequence[str] = ()) -> list[dict[str, Any]]:
    """All rows of a table, in order.

    Args:
        path: a ``.csv`` or ``.tsv`` (with a header), ``.jsonl`` (an object a line), ``.json`` or
            ``.parquet`` file; see the top of this module.
        columns: what every row must have, and not empty.

    Raises:
        TableError: no such file, an unknown suffix, no rows, a missing column (the message names
            those there are) or a malformed row (with its number, from 1).
    """
    path = Path(path).expanduser()
    read = _of_suffix(path, _READERS)
    try:
        rows: list[dict[str, Any]] = read(path)
    except FileNotFoundError:
        raise TableError(f"{path}: no such file") from None
    except UnicodeError as error:
        raise TableError(f"{path} is not UTF-8 text: {error}; save it as UTF-8") from None
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}") from error
    if not rows:
        raise TableError(f"{path} has no rows")
    for number, row in enumerate(rows, 1):
        for column in columns:
            if column not in row:
                there = ", ".join(map(repr, row)) or "none"
                raise TableError(
                    f"{path}, row {number}: there is no column {column!r}; the columns are {there}"
                )
            if row[column] is None or row[column] == "":
                raise TableError(f"{path}, row {number}: {column!r} is empty")
    return rows


def write_table(path: str | Path, rows: Sequence[Row]) -> None:
    """Write rows with the same columns, whole or not at all; None and NaN become empty.

    Raises:
        TableError: an unknown suffix.
        OutputError: the file cannot be written.
    """
    path = Path(path).expanduser()
    _of_suffix(path, _WRITERS)(path, _plain(rows))


def check_suffix(path: str | Path) -> None:
    """Raise TableError unless the suffix is that of a table."""
    _of_suffix(Path(path), _WRITERS)


def to_csv(rows: Iterable[Row]) -> str:
    """Rows with the same columns as CSV text; None and NaN become empty."""
    stream = io.StringIO()
    _dump_csv(stream, _plain(rows))
    return stream.getvalue()


def _plain(rows: Iterable[Row]) -> list[Row]:
    def plain(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return [{key: plain(value) for key, value in row.items()} for row in rows]


def _of_suffix(path: Path, known: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    try:
        return known[path.suffix.lower()]
    except KeyError:
        *some, last = known
        raise TableError(
            f"{path}: a table ends in {', '.join(some)} or {last}, not {path.suffix or 'nothing'!r}"
        ) from None


def _text(path: Path) -> io.StringIO:
    """The file's text with its own line ends, which quoted values may hold."""
    content = read_bytes(path)
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return io.StringIO(content.decode("utf-16" if wide else "utf-8-sig"), newline="")


def _read_csv(path: Path) -> list[dict[str, Any]]:
    csv.field_size_limit(2**31 - 1)
    stream = _text(path)
    reader = _csv_reader(stream)
    rows: list[dict[str, Any]] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header)
        for number, values in enumerate(filter(None, reader), 1):
            if len(values) != len(header):
                raise TableError(
                    f"{path}, row {number} (line {reader.line_num}) has {len(values)} values "
                    f"and the header names {len(header)} columns"
                )
            row = dict(zip(header, values, strict=True))
            row.pop("", None)  # what lies below no name, as behind a comma at the end of each line
            rows.append(row)
    except csv.Error as error:
        raise TableError(f"{path}, row {len(rows) + 1} (line {reader.line_num}): {error}") from None
    return rows


def _csv_reader(stream: io.StringIO) -> Any:
    """A reader with the separator that splits the header into the most columns."""
    content = stream.getvalue()

    def columns(separator: str) -> int:
        try:
            return len(next(csv.reader(io.StringIO(content, newline=""), delimiter=separator), []))
        except csv.Error:
            return 0

    separator = max(_SEPARATORS, key=columns)
    # Between tabs, a quotation mark that is not closed where the value ends is one of the text.
    if separator == "\t" and not _is_quoted(content):
        return csv.reader(stream, delimiter=separator, quoting=csv.QUOTE_NONE)
    return csv.reader(stream, delimiter=separator, strict=True)


def _is_quoted(content: str) -> bool:
    try:
        for _ in csv.reader(io.StringIO(content, newline=""), delimiter="\t", strict=True):
            pass
    except csv.Error:
        return False
    return True


def _check_header(path: Path, header: Sequence[str]) -> None:
    for name in header:
        if name and header.count(name) > 1:
            raise TableError(f"{path}: the column {name!r} occurs {header.count(name)} times")


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for line, content in enumerate(re.split("\r\n|\n|\r", _text(path).getvalue()), 1):
        if not content.strip():
            continue
        where = f"{path}, row {len(rows) + 1} (line {line})"
        try:
            row = json.loads(content)
        except ValueError as error:
            raise TableError(f"{where} is not JSON: {error}") from None
        rows.append(_object(row, where))
    return rows


def _read_json(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(_text(path).getvalue())
    except ValueError as error:
        raise TableError(f"{path} is not JSON: {error}") from None
    if isinstance(content, dict):
        named = content.items()
        return [{"id": name, **_object(row, f"{path}, {name!r}")} for name, row in named]
    if not isinstance(content, list):
        raise TableError(f"{path} holds {type(content).__name__}, not a list of objects")
    return [_object(row, f"{path}, row {number}") for number, row in enumerate(content, 1)]


def _object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise TableError(f"{where} is {type(row).__name__}, not a JSON object")
    return row


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with open_regular(path) as stream, parquet.ParquetFile(stream) as file:
            _check_header(path, file.schema_arrow.names)
            rows: list[dict[str, Any]] = file.read().to_pylist()
    except pyarrow.ArrowException as error:
        raise TableError(f"{path} is not a Parquet file that can be read: {error}") from error
    return rows


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    with replacing(path) as stream:
        _dump_csv(stream, rows)


def _dump_csv(stream: Any, rows: Sequence[Row]) -> None:
    if rows:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_jsonl(path: Path, rows: Sequence[Row]) -> None:
    with replacing(path, "wb") as stream:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
            stream.write(line.encode("utf-8", "surrogatepass"))


def _write_parquet(path: Path, rows: Sequence[Row]) -> None:
    import pyarrow
    from pyarrow import parquet

    with replacing(path, "wb") as stream:
        parquet.write_table(pyarrow.Table.from_pylist(list(rows)), stream)


_SEPARATORS = (",", "\t", ";", "|")  # the first of those that split alike
_READERS = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
}
_WRITERS = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
