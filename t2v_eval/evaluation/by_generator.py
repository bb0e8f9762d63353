"""Scores and ratings of a run, with a row for each prompt and a column for each generator."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2v_eval.evaluation.benchmark import Item, Scores
from t2v_eval.utils.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class ByGenerator:
    """The means of each prompt and generator; NaN where there is none.

    Attributes:
        generators: the names of the columns, in the order of the images.
        scores: shape (prompts, generators), the mean score of the images.
        ratings: the same of people's ratings.
        items: the indices of the items of each row; several where a group is one prompt.
        groups: shape (prompts,), rows of one group are not independent.

    >>> empty = np.empty((0, 2))
    >>> ByGenerator(["flux", "sdxl"], empty, empty, [], []).is_rated
    False
    """

    generators: Sequence[str]
    scores: FloatArray
    ratings: FloatArray
    items: Sequence[Sequence[int]]
    groups: Sequence[Hashable]

    @property
    def is_rated(self) -> bool:
        """Return whether two generators or more have ratings and scores."""
        complete = ~np.isnan(self.scores) & ~np.isnan(self.ratings)
        return int(complete.any(axis=0).sum()) > 1


def generator_names(items: Sequence[Item], folders: Sequence[str]) -> list[list[str]]:
    """Return the generator of each image of each item; "" where it is not known.

    Args:
        items: the items, whose labels name the generators or count the folders of their images.
        folders: the names of the folders of images, of sets of prompts.

    >>> items = [Item(["a/0.png", "b/0.png"], ["a cat"], {"folder": [0, 1]})]
    >>> generator_names(items, ["flux", "sdxl"])
    [['flux', 'sdxl']]
    """
    return [[generator_name(item, i, folders) for i in range(len(item.images))] for item in items]


def generator_name(item: Item, image: int, folders: Sequence[str]) -> str:
    """Return the generator of one image of an item; see `generator_names`.

    >>> generator_name(Item(["0.png"], ["a cat"], {"generator": ["flux"]}), 0, [])
    'flux'
    """
    if "generator" in item.labels:
        return str(item.labels["generator"][image])
    return folders[item.labels["folder"][image]] if folders and "folder" in item.labels else ""


def by_generator(
    items: Sequence[Item],
    names: Sequence[Sequence[str]],
    units: Sequence[Sequence[Sequence[int]]],
    scores: Scores,
    ratings: Sequence[NDArray[np.float64] | None],
) -> ByGenerator:
    """Return the mean scores and ratings by prompt and generator.

    A row is an item with images of several generators. Items of a single generator each are one row
    where they belong to one group or, without groups, have the same texts.

    Args:
        items: the items.
        names: of each item, the generator of each image; "" is unknown.
        units: of each item, its rated units as indices of images. The score of a unit of several
            images, the frames of a video, is their mean; it is missing where one of theirs is.
        scores: of each item, shape (M, N).
        ratings: of each item, shape (rated units, N), or None.

    >>> cat = Item(["1.png", "2.png"], ["a cat"])
    >>> scores, ratings = np.array([[0.5], [0.25]]), np.array([[4.0], [3.0]])
    >>> table = by_generator([cat], [["flux", "sdxl"]], [[[0], [1]]], [scores], [ratings])
    >>> table.scores, table.ratings
    (array([[0.5 , 0.25]]), array([[4., 3.]]))
    """
    generators = list(dict.fromkeys(name for item in names for name in item if name))
    rows = list(_rows(items, names)) if generators else []
    column = {generator: k for k, generator in enumerate(generators)}
    cells: list[FloatArray] = []
    rated: list[FloatArray] = []
    place: tuple[list[int], list[int]] = [], []
    for r, members in enumerate(rows):
        for n in members:
            for u, unit in enumerate(units[n]):
                if (name := names[n][unit[0]]) in column:
                    number, of_item = r * len(generators) + column[name], ratings[n]
                    cells.append(_mean_of_images(scores[n], unit))
                    place[0].append(number)
                    if of_item is not None:
                        rated.append(of_item[u])
                        place[1].append(number)
    shape = len(rows), len(generators)
    table = [_means(*side, shape) for side in zip(place, (cells, rated), strict=True)]
    groups = [items[members[0]].group or f"row {r}" for r, members in enumerate(rows)]
    return ByGenerator(generators, table[0], table[1], rows, groups)


def _mean_of_images(scores: NDArray[np.float32], unit: Sequence[int]) -> FloatArray:
    """Return the mean scores of a unit's images with each text."""
    if len(unit) == 1:
        single: FloatArray = scores[unit[0]].astype(np.float64)
        return single
    mean: FloatArray = scores[list(unit)].astype(np.float64).mean(axis=0)
    return mean


def _means(
    place: Sequence[int], values: Sequence[FloatArray], shape: tuple[int, int]
) -> FloatArray:
    """Return the mean of the known values of each place of a table; NaN where there is none."""
    if not values:
        return np.full(shape, np.nan)
    flat = np.concatenate(values).astype(np.float64)
    at = np.repeat(np.array(place, np.int64), [len(of_place) for of_place in values])
    scored = ~np.isnan(flat)
    size = shape[0] * shape[1]
    counts = np.bincount(at[scored], minlength=size)
    sums = np.bincount(at[scored], flat[scored], size)
    means = np.full(size, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means.reshape(shape)


def _rows(items: Sequence[Item], names: Sequence[Sequence[str]]) -> Iterator[list[int]]:
    """Yield the items of each row."""
    if any(len(set(of_item)) > 1 for of_item in names):
        yield from ([n] for n in range(len(items)))
        return
    members: dict[Hashable, list[int]] = {}
    for n, item in enumerate(items):
        members.setdefault(item.group or tuple(item.texts), []).append(n)
    yield from members.values()
