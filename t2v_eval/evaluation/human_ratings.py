"""Ratings that people gave to a part of the images of a set of prompts.

A .csv, .tsv, .jsonl, .json or .parquet file with a row for each rated image or, where each person
has rows of their own, for each rating; other columns are ignored:

    prompt      the id of a prompt or its text; `id` and `text` may stand for it
    generator   the name of the folder of its images, or the path of that folder; `images` and
                `model` may stand for it, and without it the folder in the path of the image
    image       optional: the name or path of the image, where a prompt has several
    rating      the rating, the higher the better; several columns, `rater_NAME` or `rating_NAME`,
                are averaged, and so are rows of one image

That is what `t2v-eval ratings` writes. An image that is not named stands for all of its prompt and
generator.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Self

import numpy as np

from t2v_eval.errors import InputError, TableError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.evaluation.rating_tables.columns import is_empty
from t2v_eval.evaluation.rating_tables.table import mean_of_raters
from t2v_eval.inputs.media import name_of
from t2v_eval.inputs.tables import Row, read_table
from t2v_eval.utils.arguments import check_path

PROMPT_COLUMNS = ("id", "prompt", "text")
GENERATOR_COLUMNS = ("generator", "images", "model")
RATING_COLUMNS = ("rating", "human")
RATER_PREFIXES = ("rater_", "rating_")


class RatedCell(NamedTuple):
    """The mean rating of images of an item by one generator.

    Attributes:
        item: the index of the item.
        generator: the name of the generator.
        images: the indices of the rated images.
        rating: the mean of their ratings.

    >>> RatedCell(0, "flux", [0], rating=4.5).rating
    4.5
    """

    item: int
    generator: str
    images: Sequence[int]
    rating: float


class PlacedRatings(NamedTuple):
    """The ratings of a file, by the items and generators that they are of.

    Attributes:
        file: the name of the file.
        cells: what was rated, in the order of the items.
        unused: the number of rows that are of other prompts or generators.

    >>> PlacedRatings("ratings.csv", [], unused=3).unused
    3
    """

    file: str
    cells: Sequence[RatedCell]
    unused: int


class _Rated(NamedTuple):
    """A row with a rating."""

    row: int  # from 1
    prompt: str
    generator: str
    image: str
    rating: float


@dataclass(frozen=True, slots=True)
class HumanRatings:
    """The ratings of a file; see the top of this module.

    Attributes:
        path: the file.
        rated: its rows with a rating.

    >>> HumanRatings(Path("ratings.csv"), []).place([], [])
    PlacedRatings(file='ratings.csv', cells=[], unused=0)
    """

    path: Path
    rated: Sequence[_Rated]

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a file of ratings.

        Raises:
            TableError: there is no such file, a column is missing, or a rating is no number.

        >>> HumanRatings.read("no-such.csv")
        Traceback (most recent call last):
        ...
        t2v_eval.errors.TableError: no-such.csv: no such file
        """
        file = check_path("human", path)
        rows = read_table(file)
        try:
            rated = list(_rated_rows(rows))
        except TableError as error:
            raise TableError(f"{file}: {error}") from error
        if not rated:
            raise TableError(f"{file}: no row has a rating")
        return cls(file, rated)

    def place(self, items: Sequence[Item], names: Sequence[Sequence[str]]) -> PlacedRatings:
        """Find the items and generators of the ratings.

        Args:
            items: the items that are evaluated.
            names: of each item, the generator of each image.

        Raises:
            TableError: a row stands for several prompts or for an image that is not there, or no
                row is of these prompts and generators.
        """
        finder = _Finder(items, names)
        values: dict[tuple[int, str, tuple[int, ...]], list[float]] = defaultdict(list)
        unused = 0
        for rated in self.rated:
            try:
                place = finder.find(rated)
            except InputError as error:
                raise TableError(f"{self.path}, row {rated.row}: {error}") from None
            if place is None:
                unused += 1
            else:
                values[place].append(rated.rating)
        if self.rated and not values:
            first = self.rated[0]
            raise TableError(
                f"{self.path}: no rating is of a prompt and generator that is evaluated; row "
                f"{first.row} is of {first.prompt!r} by {first.generator!r}, and the generators "
                f"are {', '.join(finder.generators)}"
            )
        return PlacedRatings(self.path.name, list(_cells(values)), unused)


def _rated_rows(rows: Sequence[Row]) -> Iterator[_Rated]:
    """Yield the rows that have a rating."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    prompts = [name for name in PROMPT_COLUMNS if name in columns]
    named = [name for name in RATING_COLUMNS if name in columns]
    named += [name for name in columns if name.startswith(RATER_PREFIXES)]
    listed = ", ".join(map(repr, columns))
    for what, entries in (("prompt", prompts), ("rating", named)):
        if not entries:
            more = ", or `rater_NAME` for each person" if what == "rating" else " or id"
            raise TableError(
                f"there is no column {what}; the columns are {listed}. Call it {what}{more}"
            )
    if not {*GENERATOR_COLUMNS, "image"} & {*columns}:
        raise TableError(
            f"there is no column generator; the columns are {listed}. It holds the name of the "
            "folder of the image"
        )
    for n, (row, rating) in enumerate(zip(rows, mean_of_raters(rows, named), strict=True), 1):
        if np.isnan(rating):
            continue
        prompt, generator, image = (
            _first_known(row, names) for names in (prompts, GENERATOR_COLUMNS, ("image",))
        )
        generator = generator or _folder_name(image)
        if not prompt or not generator:
            raise TableError(f"row {n}: {'generator' if prompt else 'prompt'} is empty")
        yield _Rated(n, prompt, generator, image, float(rating))


def _first_known(row: Row, names: Sequence[str]) -> str:
    """Return the text of the first of these columns that is not empty; "" without one."""
    return next((str(row[name]).strip() for name in names if not is_empty(row.get(name))), "")


class _Finder:
    """Find the item, generator and images that a row is of."""

    def __init__(self, items: Sequence[Item], names: Sequence[Sequence[str]]) -> None:
        self.items, self.names = items, names
        self.generators = list(dict.fromkeys(name for of_item in names for name in of_item if name))
        self._by_id: dict[str, list[int]] = defaultdict(list)
        self._by_text: dict[str, list[int]] = defaultdict(list)
        for n, item in enumerate(items):
            self._by_id[item.id].append(n)
            for text in dict.fromkeys(item.texts):
                self._by_text[text.strip()].append(n)

    def find(self, rated: _Rated) -> tuple[int, str, tuple[int, ...]] | None:
        """Return the item, generator and images of a row; None where they are not evaluated.

        Raises:
            InputError: the row stands for several prompts, or for an image that is not there.
        """
        numbers = self._by_id.get(rated.prompt) or self._by_text.get(rated.prompt) or []
        if len(numbers) > 1:
            raise InputError(
                f"{len(numbers)} prompts are {rated.prompt!r}: give the id of one in a column id"
            )
        generator = self._generator(rated.generator)
        if not numbers or generator is None:
            return None
        (n,) = numbers
        positions = [i for i, name in enumerate(self.names[n]) if name == generator]
        if rated.image:
            file_name = _file_name(rated.image)
            named = [
                i for i in positions if _file_name(name_of(self.items[n].images[i])) == file_name
            ]
            if not named and positions:
                raise InputError(
                    f"{generator} has no image {file_name!r} of {rated.prompt!r}: name one of its "
                    "images, or leave the column image empty"
                )
            positions = named
        return (n, generator, tuple(positions)) if positions else None

    def _generator(self, name: str) -> str | None:
        """Return the generator of a name or of the path of its folder."""
        last = _file_name(name)
        return next((candidate for candidate in (name, last) if candidate in self.generators), None)


def _cells(
    values: Mapping[tuple[int, str, tuple[int, ...]], Sequence[float]],
) -> Iterator[RatedCell]:
    """Yield the mean rating of each item and generator: the mean of those of its images."""
    by_cell: dict[tuple[int, str], dict[tuple[int, ...], float]] = defaultdict(dict)
    for (n, generator, images), ratings in values.items():
        by_cell[n, generator][images] = float(np.mean(ratings))
    for (n, generator), by_image in sorted(by_cell.items()):
        rated = sorted({i for indices in by_image for i in indices})
        yield RatedCell(n, generator, rated, float(np.mean([*by_image.values()])))


def _folder_name(path: str) -> str:
    """Return the name of the folder in a path; "" where it has none."""
    return PurePosixPath(path.replace("\\", "/")).parent.name


def _file_name(path: str) -> str:
    """Return the last part of a path, as written on any system."""
    return PurePosixPath(path.replace("\\", "/").rstrip("/")).name
