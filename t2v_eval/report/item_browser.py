"""Items of a report as compact JSON, which `report.js` shows, sorts and filters in the page."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from t2v_eval.evaluation.comparison import item_name
from t2v_eval.evaluation.run import Run
from t2v_eval.inputs.media import MediaLike
from t2v_eval.inputs.questions.answers import describe_answer
from t2v_eval.report import thumbnails
from t2v_eval.report.disagreement import (
    Floats,
    choose_items,
    human_disagreement,
    percentiles,
    scorer_disagreement,
    unit_ratings,
    unit_scores,
)
from t2v_eval.report.thumbnails import Album
from t2v_eval.utils.arrays import CellArrays

MAX_ITEMS = 10_000
MAX_ROWS = 24  # texts of one item, and rated images or videos where there is no room for more
MAX_CELLS = 500_000  # scores of all scorers in a section
MAX_TEXT = 2000  # characters of one text
MAX_DETAIL = 400  # characters of what a model returned beside its score
MAX_ANSWERS = 2000  # characters of the answers to questions, from which a score was computed

Failure = tuple[int, int, int]  # image, text, number of the reason


class _Columns(NamedTuple):
    """The values of all items that `ItemBrowser.data` looks up, one sequence per scorer."""

    tags: Sequence[str]
    scores: Sequence[CellArrays]
    ranks: Sequence[CellArrays]
    human: CellArrays
    failures: Sequence[dict[int, list[Failure]]]


class ItemBrowser:
    """Items of runs on one benchmark.

    Args:
        runs: runs of scorers on the same items.
        limit: how many items to show: those with failures or the largest disagreement, and others
            spread over the rest; 0 is `MAX_ITEMS`.

    Of an item all images or videos are shown as far as `MAX_CELLS` allows, else `MAX_ROWS`.

    >>> import t2v_eval
    >>> runs = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5).runs
    >>> browser = ItemBrowser(runs)
    >>> sorted(browser.chosen), len(browser.data(Album(browser.images()), [])["items"])
    ([0, 1], 2)
    """

    def __init__(self, runs: Sequence[Run], limit: int = 0) -> None:
        self.runs = runs
        self._scorer_disagreement = scorer_disagreement(runs)
        self._human_disagreement = [human_disagreement(run) for run in runs]
        self.labels = _kind_of_labels(runs[0])
        self.choose(limit or MAX_ITEMS)

    def choose(self, limit: int) -> None:
        """Choose which items to show, at most `limit`."""
        self.chosen = choose_items(self._interest(), limit)
        self._unit_counts = self._choose_unit_counts()

    def images(self) -> Iterable[MediaLike]:
        """Yield the images of the chosen items, in the order in which items were chosen.

        Those beyond the first `MAX_ROWS` of an item come after the first ones of all items.
        """
        for n in self.chosen:
            for unit in self._units(n)[:MAX_ROWS]:
                yield self._image(n, unit)
        for n in self.chosen:
            for unit in self._units(n)[MAX_ROWS:]:
                yield self._image(n, unit)

    def data(self, album: Album, tags: Sequence[str]) -> dict[str, Any]:
        """Return the data that the page's script reads; `_item` describes an item.

        Args:
            album: the thumbnails of `images`.
            tags: those that items can be filtered by.
        """
        reasons = list(dict.fromkeys(r for run in self.runs for r in run.failures.values()))
        scores, ranks, human = self._values
        columns = _Columns(tags, scores, ranks, human, self._failures(reasons))
        return {
            "metrics": list(self.runs[0].metrics),
            "headline": self.runs[0].benchmark.headline,
            "tags": list(tags),
            "reasons": reasons,
            "labels": self.labels,
            "judges": self.runs[0].benchmark.labels_by,
            "contrasts": [f"{first} - {second}" for first, second in self.runs[0].contrasts],
            "items": [self._item(n, album, columns) for n in sorted(self.chosen)],
        }

    @cached_property
    def _values(self) -> tuple[list[CellArrays], list[CellArrays], CellArrays]:
        """Return of all items the scores and percentiles of each scorer, and the ratings."""
        scores = [unit_scores(run) for run in self.runs]
        return scores, [percentiles(of_run) for of_run in scores], unit_ratings(self.runs[0])

    def _failures(self, reasons: Sequence[str]) -> list[dict[int, list[Failure]]]:
        """Return the failed cells of each run by item."""
        numbers = {reason: k for k, reason in enumerate(reasons)}
        failures: list[dict[int, list[Failure]]] = [{} for _ in self.runs]
        for by_item, run in zip(failures, self.runs, strict=True):
            for (n, i, j), reason in run.failures.items():
                by_item.setdefault(n, []).append((i, j, numbers[reason]))
        return failures

    def _item(self, n: int, album: Album, columns: _Columns) -> dict[str, Any]:
        """Return one item; cells are numbered by unit (image or video), then by text.

        ```text
        index, id             its place in the benchmark, and its name
        tags                  indices into the page's tags
        images                [index in the album, name, number of frames, index of the larger image
                              in the album] of each unit; an index below 0 says why there is none
        texts                 texts, cut to `MAX_TEXT` characters
        scores, percentiles   of each scorer, a number or null for each cell
        failures              of each scorer, [cell, index of the reason]
        verdicts              of each scorer, metrics of the item
        scorer_disagreement   how far scorers are apart, 0 to 1
        human_disagreement    of each scorer, how far it is from people, 0 to 1
        ```

        These are left out if they are empty:

        ```text
        other_tags            tags that cannot be filtered by
        generators            the name of the generator of each unit
        human                 human ratings of the cells
        details               of each scorer, [cell, what the model returned beside its score: a
                              text, or a list of questions with their answers]
        hidden                [number of units, number of texts] if the page leaves some out
        ```
        """
        item, human, count = self.runs[0].items[n], columns.human[n], self._unit_counts[n]
        size = len(self.runs[0].rated_units[n]), len(item.texts)
        place = {tag: k for k, tag in enumerate(columns.tags)}
        content: dict[str, Any] = {
            "index": n,
            "id": item_name(item, n),
            "tags": [place[tag] for tag in item.tags if tag in place],
            "images": self._album_entries(n, album),
            "texts": [_cut(text, MAX_TEXT) for text in item.texts[:MAX_ROWS]],
            "scores": [_cells(scores[n][:count], 4) for scores in columns.scores],
            "percentiles": [_cells(100 * ranks[n][:count], 2) for ranks in columns.ranks],
            "failures": self._visible_failures(n, columns.failures),
            "verdicts": [
                [_number(run.verdicts[n].get(metric, math.nan), 4) for metric in run.metrics]
                for run in self.runs
            ],
            "scorer_disagreement": _number(self._scorer_disagreement[n], 4),
            "human_disagreement": [_number(of_run[n], 4) for of_run in self._human_disagreement],
        }
        details = self._visible_details(n)
        optional = {
            "generators": self._generators(n),
            "other_tags": [tag for tag in item.tags if tag not in place],
            "human": _cells(human[:count], 4) if np.isfinite(human).any() else None,
            "details": details if any(details) else None,
            "hidden": size if count < size[0] or size[1] > MAX_ROWS else None,
        }
        return content | {key: value for key, value in optional.items() if value}

    def _generators(self, n: int) -> list[str]:
        """Return the generator of each unit; nothing where they are unknown."""
        names = [self.runs[0].generator_of(n, unit[0]) for unit in self._units(n)]
        return names if any(names) else []

    def _album_entries(self, n: int, album: Album) -> list[tuple[int, str, int, int]]:
        """Return of each unit what the page shows of its image; see `_item`."""
        images = [(self._image(n, unit), len(unit)) for unit in self._units(n)]
        return [
            (album.index(image), thumbnails.name(image), frames, album.large_index(image))
            for image, frames in images
        ]

    def _cell_numbers(self, n: int) -> dict[tuple[int, int], int]:
        """Return the number of each cell of an item that the page shows, by image and text."""
        run = self.runs[0]
        count = min(len(run.items[n].texts), MAX_ROWS)
        return {
            (i, j): k * count + j
            for k, unit in enumerate(self._units(n))
            for i in unit
            for j in range(count)
        }

    def _visible_failures(
        self, n: int, failures: Sequence[dict[int, list[Failure]]]
    ) -> list[list[tuple[int, int]]]:
        cells = self._cell_numbers(n)
        return [
            sorted({(cells[i, j], k) for i, j, k in by_item.get(n, []) if (i, j) in cells})
            for by_item in failures
        ]

    def _visible_details(self, n: int) -> list[list[list[Any]]]:
        # In the order of images, as frames of a video share a cell.
        cells = sorted(self._cell_numbers(n).items())
        return [
            [
                [cell, _detail(run.details[n, i, j])]
                for (i, j), cell in cells
                if (n, i, j) in run.details
            ]
            for run in self.runs
        ]

    def _choose_unit_counts(self) -> dict[int, int]:
        """Return how many units of each chosen item the page shows."""
        run = self.runs[0]
        counts = {n: min(len(run.rated_units[n]), MAX_ROWS) for n in self.chosen}
        cells = {n: min(len(run.items[n].texts), MAX_ROWS) * len(self.runs) for n in self.chosen}
        room = MAX_CELLS - sum(counts[n] * cells[n] for n in self.chosen)
        for n in self.chosen:  # the most informative first
            more = len(run.rated_units[n]) - counts[n]
            if more * cells[n] <= room:
                counts[n] += more
                room -= more * cells[n]
        return counts

    def _units(self, n: int) -> Sequence[Sequence[int]]:
        """Return the units of an item that the page shows."""
        return self.runs[0].rated_units[n][: self._unit_counts[n]]

    def _image(self, n: int, unit: Sequence[int]) -> MediaLike:
        """Return the image of a unit, or the middle frame of a video."""
        return self.runs[0].items[n].images[unit[len(unit) // 2]]

    def _interest(self) -> Floats:
        """Return the larger disagreement of each item, plus 1 where a scorer failed."""
        human = np.nan_to_num(np.array(self._human_disagreement)).max(axis=0)
        failed = np.zeros(len(self._scorer_disagreement))
        for run in self.runs:
            for n, _, _ in run.failures:
                failed[n] = 1
        interest: Floats = np.maximum(self._scorer_disagreement, human) + failed
        return interest


def _cells(values: Floats, digits: int) -> list[float | None]:
    return [_number(value, digits) for value in values[:, :MAX_ROWS].ravel().tolist()]


def _kind_of_labels(run: Run) -> str:
    """Return "ratings" (also ranks and preferences), "match" for right or wrong, or ""."""
    human = unit_ratings(run)
    values = set(human.cells[np.isfinite(human.cells)].tolist())
    if not values:
        return ""
    # With one text and several images, 0 and 1 are a preference, not right and wrong.
    may_match = run.benchmark.pooled or any(ratings.shape[1] > 1 for ratings in human)
    return "match" if may_match and values <= {0.0, 1.0} else "ratings"


def _number(value: float, digits: int) -> float | None:
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded


def _detail(detail: str) -> str | list[str]:
    """Return what the page shows of a detail: questions with their answers line by line."""
    try:
        fields = json.loads(detail)
    except ValueError:  # of a scorer of the user's own
        fields = None
    if not (isinstance(fields, list) and fields and all(map(_is_answer, fields))):
        return _cut(detail, MAX_DETAIL)
    lines = [describe_answer(**answer) for answer in fields]
    ends = np.cumsum([len(line) for line in lines])
    count = max(1, int(np.searchsorted(ends, MAX_ANSWERS, side="right")))
    more = len(lines) - count
    lines = [_cut(line, MAX_DETAIL) for line in lines[:count]]
    return [*lines, f"and {more} more; scores.csv has all of them"] if more else lines


def _is_answer(fields: object) -> bool:
    required = {"id", "question", "expected", "value"}
    return isinstance(fields, dict) and required <= fields.keys() <= _ANSWER_FIELDS


_ANSWER_FIELDS = frozenset(inspect.signature(describe_answer).parameters)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({len(text)} characters; scores.csv has all of them)"
