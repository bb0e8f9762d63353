"""Read a published Excel workbook (.xlsx)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from t2v_eval.errors import BenchmarkDataError, MissingPackageError


def sheet_rows(path: Path, *columns: str) -> list[dict[str, Any]]:
    """Read the rows of the first sheet by the names in its first row; empty cells are left out.

    Args:
        path: the file.
        columns: names that the first row must have.

    Raises:
        MissingPackageError: openpyxl is not installed.
        BenchmarkDataError: the file is no such workbook, or lacks a column.

    >>> import tempfile
    >>> from openpyxl import Workbook
    >>> book = Workbook()
    >>> for row in [("name", "MOS"), ("a", 7.5)]:
    ...     book.active.append(row)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     book.save(Path(folder) / "labels.xlsx")
    ...     sheet_rows(Path(folder) / "labels.xlsx", "MOS")
    [{'name': 'a', 'MOS': 7.5}]
    """
    try:
        import openpyxl
    except ImportError as error:
        raise MissingPackageError(
            f"{path.name} is a workbook, which needs the package 'openpyxl': "
            "pip install 't2v-eval[xlsx]'"
        ) from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        names, *rows = book.worksheets[0].iter_rows(values_only=True)
        book.close()
    except Exception as error:  # openpyxl passes on what its parsers of ZIP and XML raise
        raise BenchmarkDataError(f"{path} is no workbook that can be read: {error}") from error
    if missing := [column for column in columns if column not in names]:
        raise BenchmarkDataError(f"{path}: the first sheet has no column {missing[0]!r}")
    return [
        {name: cell for name, cell in zip(names, row, strict=False) if cell is not None}
        for row in rows
    ]
