"""Scores and ratings of a run, with a row for each prompt and a column for each generator."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from t2v_eval.evaluation.benchmark import Item
from t2v_eval.evaluation.run import Run
from t2v_eval.utils.arrays import FloatArray, mean_of_known


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
        known = ~np.isnan(self.scores) & ~np.isnan(self.ratings)
        return int(known.any(axis=0).sum()) > 1


def by_generator(run: Run) -> ByGenerator:
    """Return the mean scores and ratings of a run by prompt and generator.

    A row is an item with images of several generators. Items of a single generator each are one row
    where they belong to one group or, without groups, have the same texts.

    Args:
        run: a run whose items name the generators of their images (`Run.generator_of`); others
            give a table without columns.

    >>> import t2v_eval
    >>> report = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5)
    >>> by_generator(report.runs[0]).generators
    []
    """
    names = [
        [run.generator_of(n, i) for i in range(len(item.images))]
        for n, item in enumerate(run.items)
    ]
    generators = list(dict.fromkeys(name for item in names for name in item if name))
    rows = list(_rows(run.items, names))
    scores, ratings = (np.full((len(rows), len(generators)), np.nan) for _ in range(2))
    for r, members in enumerate(rows):
        for k, generator in enumerate(generators):
            cells = [_cells(run, n, names[n], generator) for n in members]
            scores[r, k], ratings[r, k] = (
                mean_of_known(np.concatenate([cell[side] for cell in cells])) for side in (0, 1)
            )
    groups = [run.items[members[0]].group or f"row {r}" for r, members in enumerate(rows)]
    return ByGenerator(generators, scores, ratings, rows, groups)


def _rows(items: Sequence[Item], names: Sequence[Sequence[str]]) -> Iterator[list[int]]:
    """Yield the items of each row."""
    if any(len(set(of_item)) > 1 for of_item in names):
        yield from ([n] for n in range(len(items)))
        return
    members: dict[Hashable, list[int]] = {}
    for n, item in enumerate(items):
        members.setdefault(item.group or tuple(item.texts), []).append(n)
    yield from members.values()


def _cells(run: Run, n: int, names: Sequence[str], generator: str) -> tuple[FloatArray, FloatArray]:
    """Return the scores and the ratings of an item's rated units by a generator, each alone.

    The score of a unit of several images, the frames of a video, is their mean; it is missing where
    one of theirs is.
    """
    units = [k for k, unit in enumerate(run.rated_units[n]) if names[unit[0]] == generator]
    human = run.human[n]
    scores = [
        run.scores[n][list(run.rated_units[n][k])].astype(np.float64).mean(axis=0) for k in units
    ]
    ratings = [] if human is None else [human[k] for k in units]
    return (
        np.ravel(scores).astype(np.float64),
        np.ravel(ratings).astype(np.float64),
    )
