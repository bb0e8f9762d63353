"""Read a published Excel workbook (.xlsx), which is a zip archive of XML files.

Only what tables of labels hold is read, texts and numbers of one sheet; so none of the libraries
for workbooks is needed. The format is ECMA-376, part 1, chapter 18.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from t2v_eval.errors import BenchmarkDataError

MAX_XML = 1 << 28
"""Bytes that a file of a workbook may have when unpacked."""
_NAMESPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_SHEET, _TEXTS = "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml"


def sheet_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of the first sheet by the names in its first row; empty cells are left out.

    Raises:
        BenchmarkDataError: the file is no such workbook, or larger than `MAX_XML` when unpacked.

    >>> import tempfile
    >>> cells = '<c r="A{0}" t="inlineStr"><is><t>{1}</t></is></c><c r="C{0}"><v>{2}</v></c>'
    >>> rows = "".join(f"<row>{cells.format(*row)}</row>" for row in [(1, "name", 7), (2, "a", 5)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "labels.xlsx"
    ...     with zipfile.ZipFile(path, "w") as file:
    ...         sheet = f'<worksheet xmlns="{_NAMESPACE[1:-1]}">{rows}</worksheet>'
    ...         file.writestr("xl/worksheets/sheet1.xml", sheet)
    ...     sheet_rows(path)
    [{'name': 'a', '7': '5'}]
    """
    try:
        with zipfile.ZipFile(path) as file:
            shared = [_text(entry) for entry in _elements(file, _TEXTS, "si")]
            cells = [_cells(row, shared) for row in _elements(file, _SHEET, "row")]
    except (OSError, zipfile.BadZipFile, ElementTree.ParseError, LookupError, ValueError) as error:
        raise BenchmarkDataError(f"{path} is no workbook that can be read: {error}") from error
    if not cells:
        raise BenchmarkDataError(f"{path}: the first sheet is empty")
    return [
        {name: row[column] for column, name in cells[0].items() if row.get(column)}
        for row in cells[1:]
    ]


def _elements(file: zipfile.ZipFile, name: str, tag: str) -> Iterator[ElementTree.Element]:
    """Yield the elements of a tag in a file of the workbook; one without texts has no _TEXTS."""
    if name == _TEXTS and name not in file.namelist():
        return
    if file.getinfo(name).file_size > MAX_XML:
        raise ValueError(f"{name} has more than {MAX_XML >> 20} MiB")
    with file.open(name) as stream:
        for _, element in ElementTree.iterparse(stream):
            if element.tag == _NAMESPACE + tag:
                yield element
                element.clear()


def _cells(row: ElementTree.Element, shared: list[str]) -> dict[str, str]:
    """Return the texts of a row's cells by the letters of their columns."""
    cells = {}
    for cell in row:
        column = re.sub(r"\d", "", cell.get("r", ""))
        text = _text(cell)
        cells[column] = shared[int(text)] if cell.get("t") == "s" else text
    return cells


def _text(element: ElementTree.Element) -> str:
    """Return the text of a cell, or of an entry of shared texts, which formats divide."""
    parts = (part.text or "" for part in element.iter() if part.tag in _OF_TEXT)
    return "".join(parts)


_OF_TEXT = {_NAMESPACE + tag for tag in ("t", "v")}
