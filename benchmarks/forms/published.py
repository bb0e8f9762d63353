"""What published benchmarks have in common: their files are read from a folder as published.

Nothing is downloaded. Data that differ from the published raise a BenchmarkDataError that names the
file and the row; missing files raise one that also names the page, the step to take there (both
from the card) and the folder.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError, MissingDataError, T2VWarning, TableError
from t2v_eval.evaluation.benchmark import Benchmark, Item
from t2v_eval.evaluation.selection import first_few, missing_images
from t2v_eval.inputs.media import Media, parts_of
from t2v_eval.inputs.tables import read_table
from t2v_eval.utils.regular_file import is_file
from t2v_eval.utils.text_file import parse_json, read_text

T = TypeVar("T")
LEAVE_OUT = (
    "Or evaluate a part that is there with `subset='TAG'`, or leave out what lacks its "
    'image with `on_missing="skip"`'
)


class Published(Benchmark):
    """A benchmark read from published files; subclasses implement `read`.

    Args:
        expected: the number of items of the whole benchmark.

    >>> from t2v_eval.registry import benchmarks
    >>> benchmark = benchmarks.create("winoground")
    >>> isinstance(benchmark, Published), benchmark.root is None
    (True, True)
    """

    def __init__(self, *, expected: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.expected = expected

    @property
    def place(self) -> str:
        """Return where the items are, for messages."""
        return str(self.root)

    @abstractmethod
    def read(self, folder: Path) -> Iterable[Item]:
        """Read the items of the files in `folder`; `items` checks that their images exist."""

    @override
    def items(self) -> Sequence[Item]:
        folder = self.folder()
        self.selection.restart()
        try:
            items = list(self.read(folder))
        except TableError as error:
            raise BenchmarkDataError(f"not as published: {error}") from error
        self._check_duplicates(items)
        if self.selection.total is None:  # `read` has not applied the selection itself
            items = self.selection.choose(items)
        self._check_images(items)
        total = self.selection.total
        if self.expected and total != self.expected:
            warnings.warn(
                f"{self.root} holds {total} items and {self.name} has {self.expected}: the "
                "figures are not those of the whole benchmark",
                T2VWarning,
                stacklevel=2,
            )
        return items

    def folder(self) -> Path:
        """Return the folder of the published files.

        Raises:
            MissingDataError: there is none.
        """
        if self.root is None:
            raise MissingDataError(f"{self.name} needs its files: {self.remedy('a folder')}")
        if not self.root.is_dir():
            if self.root.exists():
                raise MissingDataError(f"{self.root} is a file: {self.remedy('a folder')}")
            raise MissingDataError(f"there is no folder {self.root}: {self.remedy()}")
        return self.root

    def remedy(self, folder: str = "", files: Sequence[str] | None = None) -> str:
        """Return what to do where files are missing.

        Args:
            folder: a word for the folder of the files; the root by default.
            files: those that are missing; by default all that `t2v-eval data` can fetch.
        """
        step = self.card.obtain or "get its files"
        page = f" ({self.card.page})" if self.card.page else ""
        by_hand = (
            f"{step}{page}, put them into {folder or self.root}, and pass the folder as `root=`"
        )
        fetchable = [name for name in self.card.files if files is None or name in files]
        if not fetchable:
            return by_hand
        command = f"`t2v-eval data {self.card.name}`"
        return f"{command} can fetch {first_few(fetchable)}; by hand, {by_hand}"

    def file(self, *names: str) -> Path:
        """Return the first of `names` that is a file in the folder or its parent.

        t2v_metrics keeps annotations beside the folders of images.

        Raises:
            MissingDataError: no such file exists.
        """
        assert self.root is not None
        for path in (folder / name for folder in (self.root, self.root.parent) for name in names):
            if path.is_file():
                return path
        raise MissingDataError(
            f"{self.root} holds no {' nor '.join(names)}: {self.remedy(files=names)}"
        )

    def parquet_files(self) -> list[Path]:
        """Return the Parquet files in the folder, or else in its folder ``data``, by name.

        Raises:
            MissingDataError: there is none.
        """
        assert self.root is not None
        for place in (self.root, self.root / "data"):
            if paths := sorted(place.glob("*.parquet")):
                return paths
        raise MissingDataError(f"{self.root} holds no *.parquet: {self.remedy(files=())}")

    def image_path(self, name: str, *folders: str) -> str:
        """Return an image's path in the first of `folders` that has it, or else in the first."""
        assert self.root is not None
        paths = [self.root / folder / name for folder in folders or (".",)]
        return str(next((path for path in paths if is_file(path)), paths[0]))

    def _check_duplicates(self, items: Sequence[Item]) -> None:
        """Raise for an id that occurs twice; warn of items equal but for the id, as published."""
        names: set[str] = set()
        contents: dict[Hashable, str] = {}
        again = []
        for item in items:
            if item.id in names:
                raise BenchmarkDataError(f"{self.place}: the id {item.id} occurs twice")
            names.add(item.id)
            images = tuple(i.key if isinstance(i, Media) else i for i in item.images)
            content = (images, tuple(item.texts), item.tags, repr(item.labels))
            first = contents.setdefault(content, item.id)
            if first != item.id:
                again.append(f"{item.id} is {first}")
        if again:
            warnings.warn(
                f"{self.place}: {len(again)} of {len(items)} items occur twice and count twice; "
                f"the first, {again[0]} again",
                T2VWarning,
                stacklevel=3,
            )

    def _check_images(self, items: Sequence[Item]) -> None:
        parts = (part for item in items for image in item.images for part in parts_of(image))
        named = dict.fromkeys(part for part in parts if isinstance(part, str))
        missing = list(dict.fromkeys(name for item in items for name in missing_images(item)))
        if missing:
            raise BenchmarkDataError(
                f"{len(missing)} of {len(named)} images are missing: {first_few(missing)}. "
                f"To get them, {self.remedy(files=())}. {LEAVE_OUT}"
            )


def rows(path: Path, *columns: str) -> list[dict[str, Any]]:
    """Read the rows of a table, whose `columns` must exist and not be empty.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "prompts.csv"
    ...     _ = path.write_text("prompt,tag;a cat,animals".replace(";", chr(10)))
    ...     rows(path, "prompt")
    [{'prompt': 'a cat', 'tag': 'animals'}]
    """
    return read_table(path, columns)


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file; other separators of Unicode may be part of a line.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "prompts.txt"
    ...     _ = path.write_text("a cat" + chr(10) + "a dog" + chr(10))
    ...     read_lines(path)
    ['a cat', 'a dog']
    """
    lines = read_text(path).split("\n")
    return lines if lines[-1] else lines[:-1]


def read_tab_separated(path: Path, columns: int) -> list[list[str]]:
    """Read the lines of a text file, each split at tabs into `columns` values.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "captions.txt"
    ...     _ = path.write_text("1.jpg" + chr(9) + "a cat")
    ...     read_tab_separated(path, 2)
    [['1.jpg', 'a cat']]
    """
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        values = [value.strip() for value in line.split("\t")]
        if len(values) != columns and line.strip():
            raise BenchmarkDataError(
                f"{path}, line {number} has {len(values)} values between tabs, not {columns}"
            )
        if line.strip():
            rows.append(values)
    return rows


def read_json(path: Path, kind: type[T]) -> T:
    """Read a JSON file whose content is of `kind`; a key that occurs twice is an error.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "rows.json"
    ...     _ = path.write_text("[1, 2]")
    ...     read_json(path, list)
    [1, 2]
    """
    try:
        content = parse_json(read_text(path), path)
    except TableError as error:
        raise BenchmarkDataError(str(error)) from None
    if not isinstance(content, kind):
        raise BenchmarkDataError(f"{path} holds {type(content).__name__}, not {kind.__name__}")
    return content


def field(row: Any, key: str, kind: type[T], where: str) -> T:
    """Return `row[key]`, which must exist and be of `kind`; an int is a float too.

    >>> field({"rating": 3}, "rating", float, "row 1")
    3.0
    """
    if not isinstance(row, dict):
        raise BenchmarkDataError(f"{where} is {type(row).__name__}, not an object")
    if key not in row:
        raise BenchmarkDataError(f"{where}: there is no {key!r}")
    value = row[key]
    if kind is float and type(value) in (int, float):
        return number(value, f"{where}: {key!r}", -math.inf, math.inf)  # type: ignore[return-value]
    if not isinstance(value, kind) or (kind is str and not str(value).strip()):
        text = "empty" if value == "" else f"{value!r}"
        raise BenchmarkDataError(f"{where}: {key!r} is {text}, not {kind.__name__}")
    return value


def number(value: Any, where: str, low: float, high: float) -> float:
    """Parse a finite number from `low` to `high`.

    >>> number("4.5", "row 1: a rating", 1, 5)
    4.5
    """
    try:
        parsed = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        parsed = math.nan
    if not math.isfinite(parsed):
        raise BenchmarkDataError(f"{where} is {repr(value)[:40]}, not a number")
    if not low <= parsed <= high:
        raise BenchmarkDataError(f"{where} is {value!r}, not from {low:g} to {high:g}")
    return parsed


def mean(values: Sequence[Any], where: str, low: float, high: float) -> float:
    """Return the mean of one or more ratings, each from `low` to `high`.

    >>> mean([4, "5"], "row 1", 1, 5)
    4.5
    """
    if not isinstance(values, (list, tuple)) or not values:
        raise BenchmarkDataError(f"{where} has no ratings")
    return sum(number(value, where, low, high) for value in values) / len(values)
