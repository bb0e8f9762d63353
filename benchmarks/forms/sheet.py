"""Read a published Excel workbook (.xlsx)."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from t2v_eval.errors import BenchmarkDataError, MissingPackageError


def sheet_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of the first sheet by the names in its first row; empty cells are left out.

    Raises:
        MissingPackageError: openpyxl is not installed.
        BenchmarkDataError: the file is no such workbook.

    >>> import tempfile
    >>> from openpyxl import Workbook
    >>> book = Workbook()
    >>> for row in [("name", "MOS"), ("a", 7.5)]:
    ...     book.active.append(row)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     book.save(Path(folder) / "labels.xlsx")
    ...     sheet_rows(Path(folder) / "labels.xlsx")
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
    except (OSError, zipfile.BadZipFile, LookupError, ValueError) as error:
        raise BenchmarkDataError(f"{path} is no workbook that can be read: {error}") from error
    return [
        {name: cell for name, cell in zip(names, row, strict=True) if cell is not None}
        for row in rows
    ]
