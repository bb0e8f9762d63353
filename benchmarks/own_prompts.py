"""Prompts of your own as a benchmark, without code: ``--benchmark prompts.csv --images a``.

A .csv, .tsv, .jsonl, .json or .parquet file with these columns; others are ignored:

    prompt   what the images were generated from
    id       optional: the name of the prompt, by which images may be called; no two rows share one
    tags     optional: names separated by ";", each is reported
    source   the image that a prompt edits, from the file's folder, or its address; only where a
             column is named for it (``--column source=before``)

Columns with other names are named with ``--column prompt=text``. A .txt file holds a prompt a line;
empty lines do not count. Images come from --images, a folder for each generator, and are matched as
those of published sets: `forms/image_folders.py` says how. Without ids, the number of a prompt
counts from 0, or from 1 where the names of the images do. An id may be a path, as animals/cat.

A file whose rows name images is a table of judgements, which `own_table` reads.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from typing_extensions import override

from t2v_eval.cards import BenchmarkCard
from t2v_eval.errors import InputError, T2VWarning, TableError
from t2v_eval.evaluation.benchmark import Benchmark, Item
from t2v_eval.evaluation.rating_tables.columns import is_empty, split_tags
from t2v_eval.inputs.addresses import TableAddress, is_address, path_or_address
from t2v_eval.inputs.folders import path_on_disk
from t2v_eval.inputs.tables import read_columns, read_rows
from t2v_eval.utils.arguments import check_path
from t2v_eval.utils.printable import redact_userinfo

from .forms.image_folders import image_names
from .forms.prompt_names import NUMBERED, Names, Prompt
from .forms.prompts import PromptsForm
from .forms.published import read_lines
from .own_table import OwnTable

COLUMNS = ("prompt", "id", "tags", "source")
IMAGES = ("image", "images")
# What people call columns, in lower case, beside the names that are read.
PROMPT_WORDS = ("prompt", "prompts", "text", "texts", "caption", "captions", "description")
IMAGE_WORDS = ("image", "images", "img", "image_path", "path", "file", "file_name", "filename")


class OwnPrompts(PromptsForm):
    """The prompts of `file`; see the top of this module.

    Args:
        file: a table with a column of prompts, or a text file with a prompt a line.
        columns: the user's column name for names of `COLUMNS`.
        root: ignored; the folder of a published benchmark that runs beside it.
    """

    def __init__(
        self,
        *,
        file: str | Path,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        root: str | Path | None = None,
        **options: Any,
    ) -> None:
        self.source = check_path("file", file)
        super().__init__(root=self.source.parent, **options)
        self.columns = {name: name for name in COLUMNS}
        for name, column in (columns or {}).items():
            columns_of_name = [column] if isinstance(column, str) else list(column)
            if name not in COLUMNS:
                raise InputError(
                    f"{self.source} holds prompts, of which no column is called {name!r} here: use "
                    f"{', '.join(COLUMNS)}"
                )
            if len(columns_of_name) != 1:
                raise InputError(f"{name!r} is {columns_of_name}: name one column")
            self.columns[name] = columns_of_name[0]
        self._given = set(columns or {})

    @property
    @override
    def place(self) -> str:
        return str(self.source)

    @override
    def items(self) -> Sequence[Item]:
        self._rows = list(self._read_rows())  # here, where a fault is not one of published data
        return super().items()

    @override
    def prompts(self, folder: Path) -> Iterator[Prompt]:
        rows = getattr(self, "_rows", None) or list(self._read_rows())
        start = int(self._numbers_from_one(len(rows)))
        for number, prompt in rows:
            yield prompt if prompt.id else replace(prompt, id=str(number - 1 + start))

    def layout(self, parts: Sequence[str], names: Names) -> tuple[str, list[int]] | None:
        """animals/cat.png, animals/cat_1.png or animals/cat/1.png, where animals/cat is an id."""
        *folders, name = parts
        inside = ["/".join(folders[:depth]) for depth in range(len(folders), 1, -1)]
        path = "/".join([*folders, Path(name).stem])
        for candidate in (path, *inside) if folders else ():
            if numbers := names.by_id(candidate):
                return "by id", numbers
        return None

    def _read_rows(self) -> Iterator[tuple[int, Prompt]]:
        """Yield the number of each row, from 1, and its prompt; one without an id has none yet."""
        if self.source.suffix.lower() == ".txt":
            yield from self._read_lines()
            return
        rows, bad = read_rows(self.source, skip=self.on_error == "skip")
        names = dict.fromkeys(name for row in rows for name in row)
        for name in sorted(self._given | {"prompt"}):
            if (column := self.columns[name]) not in names:
                proposal = _proposal(name, PROMPT_WORDS, names) if name == "prompt" else ""
                raise TableError(
                    f"{self.source}: there is no column {column!r}; the columns are "
                    f"{', '.join(map(repr, names))}{proposal}"
                )
        prompts: dict[int, Prompt] = {}
        rows_of_ids: dict[str, int] = {}
        for number, row in enumerate(rows, 1):
            reason = bad.get(number) or self._fault(row, number, rows_of_ids)
            if not reason:
                prompts[number] = self._prompt(row)
            elif self.on_error == "skip":
                bad[number] = reason
            else:
                raise TableError(f"{self.source}, {reason}")
        self._report_bad_rows(bad, len(rows))
        yield from prompts.items()

    def _read_lines(self) -> Iterator[tuple[int, Prompt]]:
        try:
            lines = [line.strip() for line in read_lines(self.source)]
        except FileNotFoundError:
            raise TableError(f"{self.source}: no such file") from None
        except OSError as error:
            raise TableError(f"{self.source} cannot be read: {error.strerror or error}") from error
        prompts = [line for line in lines if line]
        if not prompts:
            raise TableError(f"{self.source} has no prompts: write one a line")
        yield from enumerate((Prompt("", text) for text in prompts), 1)

    def _fault(self, row: Mapping[str, Any], number: int, rows_of_ids: dict[str, int]) -> str:
        """Return why a row cannot be used, or ""."""
        column = self.columns["prompt"]
        text = row.get(column)
        if is_empty(text):
            return f"row {number}: {column!r} is empty"
        if not isinstance(text, str):
            return f"row {number}: {column!r} is {type(text).__name__}, not a text"
        source = self.columns["source"]
        if self._edits and not (isinstance(row.get(source), str) and row[source]):
            return f"row {number}: {source!r} is {row.get(source)!r}, not the path of an image"
        if name := _text_of(row.get(self.columns["id"])):
            first = rows_of_ids.setdefault(name, number)
            if first != number:
                return f"row {number}: the id {name!r} is that of row {first} too"
        return ""

    def _prompt(self, row: Mapping[str, Any]) -> Prompt:
        name = _text_of(row.get(self.columns["id"]))
        tags = split_tags(row.get(self.columns["tags"]))
        source = None
        if self._edits:
            source = row[self.columns["source"]]
            if not is_address(source):
                source = str(path_on_disk(self.source.parent, source))
        return Prompt(name, row[self.columns["prompt"]], tags, source)

    @property
    def _edits(self) -> bool:
        """Whether prompts are instructions: a column of sources is named."""
        return "source" in self._given

    def _report_bad_rows(self, bad: Mapping[int, str], count: int) -> None:
        if not bad:
            return
        reasons = "; ".join(list(bad.values())[:3]) + "; ..." * (len(bad) > 3)
        if len(bad) == count:
            raise TableError(f"{self.source}: no row can be used: {reasons}")
        warnings.warn(
            f"{self.source}: {len(bad)} of {count} rows cannot be used and are left out: {reasons}",
            T2VWarning,
            stacklevel=3,
        )

    def _numbers_from_one(self, count: int) -> bool:
        """Return whether the images of all folders together are numbered from 1."""
        names = [name for folder in self.images if folder.is_dir() for name in image_names(folder)]
        numbers = {int(number[1]) for name in names if (number := NUMBERED.fullmatch(name))}
        return count in numbers and 0 not in numbers


def open_file(
    *,
    file: str | Path,
    card: BenchmarkCard,
    images: str | Path | Sequence[str | Path] = (),
    columns: Mapping[str, str | Sequence[str]] | None = None,
    **options: Any,
) -> Benchmark:
    """Return the benchmark of a file: judgements where its rows name images, otherwise prompts.

    Args:
        file: a table, or a text file with a prompt a line; judgements may be at an address.
        card: of the family that `file` belongs to.
        images: the folder of the images of each generator; for prompts only.
        columns: the user's column name of each field; those of one kind decide what the file holds.
        options: as for `OwnPrompts` and `OwnTable`.

    Raises:
        InputError: `images` where the rows name images.
        TableError: the file cannot be read, or has neither images nor prompts.
    """
    options |= {"columns": columns} if columns else {}
    path = path_or_address("file", file)
    path = TableAddress(path) if isinstance(path, str) else path
    redacted = redact_userinfo(str(path))
    is_text = redacted.lower().endswith(".txt")
    names = [] if is_text else read_columns(path)
    of_rows = [name for name in IMAGES if name in (columns or {}) or name in names]
    if "prompt" in (columns or {}) or is_text:
        of_rows = []
    elif not of_rows and "prompt" not in names:
        read_rows(path)  # raises where no row has columns, as in a list of texts
        raise TableError(_neither(redacted, names, bool(images)))
    if not of_rows and isinstance(path, str):
        raise TableError(f"{redacted}: prompts are read from a file: copy it here")
    if not of_rows:
        card = replace(card, summary="prompts of your own")
        return OwnPrompts(file=file, images=images, card=card, **options)
    if images:
        prompts = "prompt" if "prompt" in names else "text"
        raise InputError(
            f"{redacted} has a column of images ({of_rows[0]!r}), which its rows are scored with: "
            "leave `images=` out. If it holds prompts for the images of generators, say which "
            f"column they are: `columns={{'prompt': {prompts!r}}}`"
        )
    return OwnTable(file=path, card=replace(card, summary="judgements of your own"), **options)


def _neither(path: str, names: Sequence[str], images: bool) -> str:
    """Return what a table needs that has neither images nor prompts.

    Args:
        path: the table.
        names: of its columns.
        images: whether folders of images were passed, so that prompts are meant.
    """
    proposals = [_proposal("prompt", PROMPT_WORDS, names)] * (images or "human" not in names)
    proposals += [_proposal("image", IMAGE_WORDS, names)] * (not images)
    return (
        f"{path} has neither a column 'prompt' (prompts, whose images come from `images=`) nor "
        "'image' (judgements: image, text and human); its columns are "
        f"{', '.join(map(repr, names)) or 'none'}{''.join(proposals)}"
    )


def _proposal(field: str, words: Sequence[str], names: Sequence[str] | Mapping[str, Any]) -> str:
    """Return a sentence that proposes the only column that may be meant, or ""."""
    alike = [name for name in names if name.casefold().replace(" ", "_") in words]
    return (
        f". For {alike[0]!r}, pass `columns={{{field!r}: {alike[0]!r}}}`" if len(alike) == 1 else ""
    )


def _text_of(value: Any) -> str:
    """Return an id as text; programs write whole numbers as 3.0 where others are missing."""
    if is_empty(value):
        return ""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value).strip()
