"""Read and write tables as CSV, JSON Lines, JSON or Parquet, by the suffix of the file.

A CSV file may be separated by commas, tabs, semicolons or bars; text is UTF-8, UTF-16 or UTF-32. A
JSON file holds a list of objects, or an object of objects, whose keys become the column
`id`.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from t2v_eval.errors import OutputError, T2VWarning, TableError
from t2v_eval.inputs.addresses import path_or_address, read_table_bytes
from t2v_eval.utils.arguments import check_path
from t2v_eval.utils.files import replacing
from t2v_eval.utils.printable import redact_userinfo
from t2v_eval.utils.regular_file import open_regular, read_bytes
from t2v_eval.utils.text_file import decode_text, parse_json

Row: TypeAlias = Mapping[str, Any]


class Faults:
    """Unusable rows of a table and their reasons: the first raises, or all are recorded.

    Rows are counted from 1, without the header and without empty lines.

    >>> faults = Faults(Path("a.csv"), skip=True)
    >>> faults.add(3, ": 'text' is empty", line=4)
    >>> faults.reasons
    {3: "row 3 (line 4): 'text' is empty"}
    """

    def __init__(self, path: Path | str, skip: bool) -> None:
        self.path, self.skip = path, skip
        self.reasons: dict[int, str] = {}

    def add(self, row: int, reason: str, line: int = 0) -> None:
        """Record an unusable row.

        Raises:
            TableError: rows may not be skipped.
        """
        where = f"row {row} (line {line})" if line else f"row {row}"
        if not self.skip:
            raise TableError(f"{self.path}, {where}{reason}")
        self.reasons.setdefault(row, f"{where}{reason}")


def read_table(path: str | Path, columns: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Read all rows of a table, in order.

    Args:
        path: a ``.csv`` or ``.tsv`` (with a header), ``.jsonl`` (an object a line), ``.json`` or
            ``.parquet`` file, or the address of one; see the top of this module.
        columns: columns that every row must have, with a value.

    Raises:
        TableError: no such file, an unknown suffix, no rows, a missing column (the message lists
            the columns) or a malformed row (with its number, from 1 without the header).

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "scores.csv"
    ...     _ = path.write_text("image,text;a.png,a cat".replace(";", chr(10)))
    ...     read_table(path, ["text"])
    [{'image': 'a.png', 'text': 'a cat'}]
    """
    return read_rows(path, columns)[0]


def read_rows(
    path: str | Path, columns: Sequence[str] = (), skip: bool = False
) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """Read rows as `read_table` does; with `skip`, also return reasons of bad rows by number.

    A bad row holds what could be read of it. A column that no row has raises even with `skip`.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "scores.csv"
    ...     _ = path.write_text("image,text;a.png,".replace(";", chr(10)))
    ...     read_rows(path, ["text"], skip=True)
    ([{'image': 'a.png', 'text': ''}], {1: "row 1: 'text' is empty"})
    """
    path = path_or_address("path", path)
    read = _of_suffix(path, _READERS)
    redacted = redact_userinfo(str(path))
    faults = Faults(redacted, skip)
    try:
        rows: list[dict[str, Any]] = read(path, faults)
    except FileNotFoundError:
        raise TableError(f"{redacted}: no such file") from None
    except (OSError, ValueError) as error:
        if isinstance(error, TableError):
            raise
        why = getattr(error, "strerror", None) or error
        raise TableError(f"{redacted} cannot be read: {why}") from error
    if not rows:
        raise TableError(f"{redacted} has no rows")
    names = dict.fromkeys(name for row in rows for name in row)
    for number, row in enumerate(rows, 1):
        for column in columns:
            if column not in row:
                columns_of_row = ", ".join(map(repr, row)) or "none"
                lacking = f": there is no column {column!r}; the columns are {columns_of_row}"
                if column not in names and number not in faults.reasons:
                    raise TableError(f"{redacted}, row {number}{lacking}")
                faults.add(number, lacking)
            elif row[column] is None or row[column] == "" or row[column] != row[column]:
                faults.add(number, f": {column!r} is empty")
    return rows, faults.reasons


def read_columns(path: str | Path) -> list[str]:
    """Return the names of the columns of a table, whether or not its rows can be used.

    Raises:
        TableError: as `read_table`, but not for a malformed row.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "scores.csv"
    ...     _ = path.write_text("image,text;a.png".replace(";", chr(10)))
    ...     read_columns(path)
    ['image', 'text']
    """
    rows = read_rows(path, skip=True)[0]
    return list(dict.fromkeys(name for row in rows for name in row))


def write_table(path: str | Path, rows: Iterable[Row], spreadsheet: bool = False) -> None:
    """Write rows with the same columns, whole or not at all; None and NaN become empty.

    Args:
        path: a ``.csv``, ``.jsonl`` or ``.parquet`` file.
        rows: the rows; only Parquet needs all of them in memory at once.
        spreadsheet: whether a program that calculates will open it; see `to_csv`.

    Raises:
        TableError: an unknown suffix.
        OutputError: the file cannot be written; `rescuing` keeps the rows then.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "scores.csv"
    ...     write_table(path, [{"image": "a.png", "score": 0.5}])
    ...     path.read_text().split()
    ['image,score', 'a.png,0.5']
    """
    path = check_path("path", path)
    write = _of_suffix(path, _WRITERS)
    if spreadsheet:
        check_spreadsheet(path)
        write = _write_for_spreadsheets
    write(path, _plain(rows))


@contextmanager
def rescuing(path: Path, rows: Iterable[Row]) -> Iterator[None]:
    """Save `rows` elsewhere if the block, which writes results to `path`, fails.

    They go beside the file, into the working directory or into the folder for temporary files, as
    JSON Lines, which hold any value.

    Raises:
        OutputError: the block raised; the message says where the rows are.

    >>> with rescuing(Path("scores.csv"), [{"score": 0.5}]):
    ...     pass  # write scores.csv
    """
    try:
        yield
    except Exception as error:  # whatever stops the writer, the rows are kept
        rescued = _write_elsewhere(path, _plain(rows))
        if rescued is None:
            raise
        raise OutputError(f"{error or type(error).__name__} ({path}); {rescued}") from error


def _write_elsewhere(path: Path, rows: Iterable[Row]) -> str | None:
    """Write rows to the first folder that allows it; return a sentence that says where."""
    lines = [json.dumps(row, default=repr) + "\n" for row in rows]
    for folder in (path.parent, Path.cwd(), Path(tempfile.gettempdir())):
        with suppress(OSError):
            handle, name = tempfile.mkstemp(".jsonl", f"{path.stem[:40]}-", folder)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as stream:
                    stream.writelines(lines)
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise
            return f"all {len(lines)} rows are in {name}"
    return None


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Return columns that Parquet can hold; one with values of several types becomes text."""
    import pyarrow
    from pyarrow import parquet

    columns = {name: [row.get(name) for row in rows] for name in (rows[0] if rows else ())}
    for name, values in columns.items():
        try:
            if {str, bytes} <= set(map(type, values)):  # Arrow would make bytes of both
                raise TypeError("texts and bytes")
            table = pyarrow.table({"x": values})
            parquet.write_table(table, pyarrow.BufferOutputStream())
        except Exception:  # Arrow and Python raise many classes for mixed values
            warnings.warn(
                f"the column {name!r} holds values of several kinds, so it is written as text",
                T2VWarning,
                stacklevel=2,
            )
            columns[name] = [None if value is None else _as_text(value) for value in values]
    return columns


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=repr)


def check_suffix(path: str | Path) -> None:
    """Raise TableError unless the suffix is that of a table.

    >>> check_suffix("scores.csv")
    """
    _of_suffix(Path(path), _WRITERS)


def check_spreadsheet(path: Path | None) -> None:
    """Raise TableError unless the table is a CSV file, or goes to standard output as one.

    >>> check_spreadsheet(Path("scores.csv"))
    """
    if path is not None and path.suffix.lower() != ".csv":
        raise TableError(
            f"{path}: a table for spreadsheets ends in .csv; leave `spreadsheet=True` out"
        )


def to_csv(rows: Iterable[Row], spreadsheet: bool = False) -> str:
    """Return rows with the same columns as CSV text; None and NaN become empty.

    Args:
        rows: the rows.
        spreadsheet: whether a program that calculates will open it: a text that it would take for
            a formula gets an apostrophe in front, and all is quoted, so that no text is parted.
            Without, values are exactly those given, for other programs.

    >>> print(to_csv([{"text": "=1+1"}, {"text": "-0.5"}], spreadsheet=True), end="")
    "text"
    "'=1+1"
    "-0.5"
    """
    stream = io.StringIO()
    _dump_csv(stream, _plain(rows), spreadsheet)
    return stream.getvalue()


def _plain(rows: Iterable[Row]) -> Iterator[Row]:
    """Replace numbers that are not finite by None, and escape lone surrogates in texts."""
    isfinite, plain_names = math.isfinite, None
    for row in rows:
        names = [*row]
        if names != plain_names and all(map(str.isascii, names)):
            plain_names = names
        # Nearly all values are plain texts and numbers, and there are millions of them.
        for value in row.values() if names == plain_names else (*names, *row.values()):
            kind = type(value)
            if not (
                value.isascii()
                if kind is str
                else kind is int or (kind is float and isfinite(value)) or value is None
            ):
                yield {_encodable(name): _finite(value) for name, value in row.items()}
                break
        else:
            yield row


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {_encodable(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return _encodable(value) if isinstance(value, str) else value


def _encodable(text: str) -> str:
    """Escape lone surrogates, which stand for bytes of file names that are not UTF-8."""
    text = str(text)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _inert(row: Row) -> Row:
    def inert(value: Any) -> Any:
        text = str(value)
        if isinstance(value, (int, float)) or not text.lstrip()[:1] or _is_number(text):
            return value
        return f"'{text}" if text[0] in _FORMULA or text.lstrip()[0] in _FORMULA else value

    return {inert(key): inert(value) for key, value in row.items()}


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and text.isascii() and text == text.strip()
    except ValueError:
        return False


def _of_suffix(path: Path | str, functions: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    suffix = Path(path).suffix
    try:
        return functions[suffix.lower()]
    except KeyError:
        *suffixes, last = functions
        here = f"not {suffix!r}" if suffix else "and this name has no ending"
        raise TableError(
            f"{path}: a table ends in {', '.join(suffixes)} or {last}, {here}"
        ) from None


def _text(path: Path | str, faults: Faults) -> io.StringIO:
    """Read a file's text with its own line ends, which quoted values may hold.

    Where rows may be skipped, bytes that are not UTF-8 become lone surrogates, which make a row
    unusable.
    """
    errors = "surrogateescape" if faults.skip else "strict"
    content = read_bytes(path) if isinstance(path, Path) else read_table_bytes(path)
    text = decode_text(content, faults.path, errors)
    return io.StringIO(text, newline="")


def _opened(path: Path | str) -> BinaryIO:
    return open_regular(path) if isinstance(path, Path) else io.BytesIO(read_table_bytes(path))


def _is_whole(text: str) -> bool:
    return text.isascii() or _SURROGATE.search(text) is None


def _read_csv(path: Path | str, faults: Faults) -> list[dict[str, Any]]:
    csv.field_size_limit(2**31 - 1)
    content = _text(path, faults).getvalue()
    # Excel reads a first line "sep=;" as the separator.
    declared = re.match(r"sep=(.)(\r\n|\n|\r)", content, re.IGNORECASE)
    content = content[declared.end() :] if declared else content
    first = 2 if declared else 1
    separator = declared[1] if declared else ""
    if Path(path).suffix.lower() == ".tsv" and "\t" in content.partition("\n")[0]:
        separator = "\t"
    lines = io.StringIO(content, newline="").readlines()
    make = _csv_reader(lines, separator)
    reader, before = make(lines), 0  # and how many lines lie before those that it reads
    try:
        header = [_column_name(name) for name in next(reader, [])]
    except csv.Error as error:
        raise TableError(f"{faults.path}, line {first - 1 + reader.line_num}: {error}") from None
    _check_header(faults.path, header)
    rows: list[dict[str, Any]] = []
    all_whole = _is_whole(content)
    while (start := before + reader.line_num) < len(lines):
        reason = ""
        values: list[str] = []
        try:
            values = next(reader, [])
        except csv.Error as error:
            reason = f": {error}; is a quotation mark not closed?"
        line = first - 1 + before + reader.line_num
        if not (
            reason or (values and values[0].strip()) or any(map(str.strip, values))
        ):  # an empty line, or one of a spreadsheet
            continue
        if not reason and len(values) != len(header):
            reason = f" has {len(values)} values and the header names {len(header)} columns"
        if not reason and not (all_whole or _is_whole("".join(values))):
            reason = " is not UTF-8 text"
        if len(values) == len(header):
            row: dict[str, Any] = dict(zip(header, values, strict=True))
        else:
            row = dict.fromkeys(header)  # a short row has all columns too
            row.update(zip(header, values, strict=False))
        row.pop("", None)  # what lies below no name, as behind a comma at the end of each line
        rows.append(row)
        if reason:
            faults.add(len(rows), reason, line)
            if line != start + 1:  # a quotation mark that is not closed has taken rows after it
                before = start + 1
                reader = make(lines[before:])
    return rows


def _column_name(cell: str) -> str:
    """Return the name in a cell of the header, without invisible characters at its ends."""
    return cell.strip("\ufeff\u200b\u2060 \t\r\n\xa0")


def _csv_reader(lines: Sequence[str], separator: str = "") -> Callable[[list[str]], Any]:
    """Return a function that makes a reader, by default with what separates the most columns."""

    def columns(separator: str) -> int:
        try:
            return len(next(csv.reader(lines, delimiter=separator), []))
        except csv.Error:
            return 0

    separator = separator or max(_SEPARATORS, key=columns)
    # Between tabs, a quotation mark that is not closed where the value ends is one of the text.
    if separator == "\t" and not _is_quoted(lines):
        return lambda lines: csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_NONE)
    return lambda lines: csv.reader(lines, delimiter=separator, strict=True)


def _is_quoted(lines: Sequence[str]) -> bool:
    try:
        for _ in csv.reader(lines, delimiter="\t", strict=True):
            pass
    except csv.Error:
        return False
    return True


def _check_header(path: object, header: Sequence[str]) -> None:
    for name in header:
        if name and header.count(name) > 1:
            raise TableError(f"{path}: the column {name!r} occurs {header.count(name)} times")


def _read_jsonl(path: Path | str, faults: Faults) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for line, content in enumerate(re.split("\r\n|\n|\r", _text(path, faults).getvalue()), 1):
        if not content.strip():
            continue
        row: Any = {}
        try:
            row = parse_json(content, "")
        except TableError as error:
            faults.add(len(rows) + 1, str(error), line)
        if not _is_whole(content):
            faults.add(len(rows) + 1, " is not UTF-8 text", line)
        rows.append(_object(row, len(rows) + 1, faults, line))
    return rows


def _read_json(path: Path | str, faults: Faults) -> list[dict[str, Any]]:
    content = parse_json(_text(path, Faults(faults.path, skip=False)).getvalue(), faults.path)
    if isinstance(content, dict):
        rows = []
        for number, (name, row) in enumerate(content.items(), 1):
            if not isinstance(row, dict):
                faults.add(number, f", {name!r} is {type(row).__name__}, not a JSON object")
            rows.append({"id": name, **(row if isinstance(row, dict) else {})})
        return rows
    if not isinstance(content, list):
        raise TableError(f"{faults.path} holds {type(content).__name__}, not a list of objects")
    return [_object(row, number, faults) for number, row in enumerate(content, 1)]


def _object(row: Any, number: int, faults: Faults, line: int = 0) -> dict[str, Any]:
    if not isinstance(row, dict):
        faults.add(number, f" is {type(row).__name__}, not a JSON object", line)
        return {}
    return row


def _read_parquet(path: Path | str, faults: Faults) -> list[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with _opened(path) as stream, parquet.ParquetFile(stream) as file:
            _check_header(faults.path, file.schema_arrow.names)
            rows: list[dict[str, Any]] = file.read().to_pylist()
    except pyarrow.ArrowException as error:
        raise TableError(
            f"{faults.path} is not a Parquet file that can be read: {error}"
        ) from error
    return rows


def _write_csv(path: Path, rows: Iterable[Row]) -> None:
    with replacing(path) as stream:
        _dump_csv(stream, rows)


def _write_for_spreadsheets(path: Path, rows: Iterable[Row]) -> None:
    with replacing(path) as stream:
        _dump_csv(stream, rows, spreadsheet=True)


def _dump_csv(stream: Any, rows: Iterable[Row], spreadsheet: bool = False) -> None:
    if spreadsheet:
        rows = map(_inert, rows)
    rows = iter(rows)
    first = next(rows, None)
    if first is not None:
        names = list(first)
        in_order = (
            [*row.values()] if [*row] == names else _in_order(row, names)
            for row in chain((first,), rows)
        )
        lines = chain((names,), in_order)
        while chunk := list(islice(lines, _ROWS_AT_ONCE)):
            stream.write(_csv_lines(chunk, quoted=spreadsheet))


def _csv_lines(rows: Sequence[Sequence[Any]], quoted: bool) -> str:
    """Return rows as CSV; those with a carriage return are quoted."""
    text = io.StringIO()
    writer = csv.writer(
        text, lineterminator="\n", quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    )
    writer.writerows(rows)
    lines = text.getvalue()
    # Python before 3.13 leaves a carriage return bare, which ends the row for readers.
    if quoted or "\r" not in lines:
        return lines
    if len(rows) == 1:
        return _csv_lines(rows, quoted=True)
    return "".join(_csv_lines([row], quoted=False) for row in rows)


def _in_order(row: Row, names: Sequence[str]) -> list[Any]:
    """Return the values of a row in the order of the columns.

    Raises:
        ValueError: it has a column that the first row does not have.
    """
    if others := [name for name in row if name not in names]:
        raise ValueError(f"a row has the columns {others}, which the first row does not have")
    return [row.get(name, "") for name in names]


def _write_jsonl(path: Path, rows: Iterable[Row]) -> None:
    with replacing(path, "wb") as stream:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False, allow_nan=False, default=repr) + "\n"
            stream.write(line.encode())


def _write_parquet(path: Path, rows: Iterable[Row]) -> None:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table(_columns(list(rows)))
    with replacing(path, "wb") as stream:
        parquet.write_table(table, stream)


_ROWS_AT_ONCE = 1000
_SURROGATE = re.compile("[\udc80-\udcff]")  # a byte that is not UTF-8
_FORMULA = "=+-@\t\r\n＝＋－＠"  # what programs that calculate take for the start of a formula
_SEPARATORS = (",", "\t", ";", "|")  # the first of those that split alike
_READERS = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
}
_WRITERS = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
