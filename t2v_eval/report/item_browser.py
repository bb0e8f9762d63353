"""The items of a report as compact data for its page, which shows, sorts and filters them there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from t2v_eval.evaluation.benchmark import Run
from t2v_eval.evaluation.comparison import item_name
from t2v_eval.inputs.media import MediaLike
from t2v_eval.report import disagreement as browse
from t2v_eval.report import thumbnails as pictures
from t2v_eval.report.thumbnails import Album

MOST_ITEMS = 10_000
MOST_ROWS = 24  # things that were judged, and texts, of one item
MOST_LETTERS = 2000  # of one text
MOST_SAID = 400  # letters of what else a model said


class Catalogue:
    """The items of runs on one benchmark.

    Args:
        runs: of scorers that saw the same items.
        most: how many items to show; the most telling ones, and others spread over the rest.
    """

    def __init__(self, runs: Sequence[Run], most: int = 0) -> None:
        self.runs = runs
        self._apart = browse.disagreement(runs)
        self._from_people = [browse.disagreement_with_people(run) for run in runs]
        self.labels = _labels(runs[0])
        self.chosen = browse.choose(self._telling(), most or MOST_ITEMS)

    def pictures(self) -> Iterable[MediaLike]:
        """The pictures of the chosen items, those of the most telling items first."""
        for n in self.chosen:
            for of in self.runs[0].rated_units[n][:MOST_ROWS]:
                yield self._picture(n, of)

    def data(self, album: Album, tags: Sequence[str]) -> dict[str, Any]:
        """What the page's script reads; see `_item` for one item.

        Args:
            tags: those that items can be filtered by.
        """
        reasons = list(dict.fromkeys(r for run in self.runs for r in run.failures.values()))
        numbers = {reason: k for k, reason in enumerate(reasons)}
        scores = [browse.judged(run) for run in self.runs]
        ranks = [browse.percentiles(one) for one in scores]
        failed: list[dict[int, list[Any]]] = [{} for _ in self.runs]
        for found, run in zip(failed, self.runs, strict=True):
            for (n, i, j), reason in run.failures.items():
                found.setdefault(n, []).append((i, j, numbers[reason]))
        human = browse.people(self.runs[0])
        return {
            "metrics": list(self.runs[0].metrics),
            "headline": self.runs[0].benchmark["headline"],
            "tags": list(tags),
            "reasons": reasons,
            "labels": self.labels,
            "items": [
                self._item(n, album, tags, scores, ranks, human[n], [f.get(n, []) for f in failed])
                for n in sorted(self.chosen)
            ],
        }

    def _item(
        self,
        n: int,
        album: Album,
        tags: Sequence[str],
        scores: Sequence[Sequence[browse.Floats]],
        ranks: Sequence[Sequence[browse.Floats]],
        human: browse.Floats,
        failed: Sequence[Sequence[tuple[int, int, int]]],
    ) -> dict[str, Any]:
        """One item; lists of cells go by what was judged, then by text.

        n, id, tags and more (tags that cannot be filtered by); pics [[number in the album, name,
        how many pictures]], texts; for every scorer a list of s scores, r their percentiles,
        f [[cell, reason]], x [[cell, what else it said]] and v metrics of the item; h what people
        said; a and d how far scorers are apart and how far each is from people; hidden is there
        where some rows are not.
        """
        item, judged = self.runs[0].items[n], self.runs[0].rated_units[n]
        some = judged[:MOST_ROWS]
        texts = item.texts[:MOST_ROWS]
        place = {tag: k for k, tag in enumerate(tags)}
        cell = {i: c for c, of in enumerate(some) for i in of}

        def cells(values: browse.Floats, digits: int) -> list[float | None]:
            return [_number(v, digits) for v in values[:MOST_ROWS, :MOST_ROWS].ravel().tolist()]

        found: dict[str, Any] = {
            "n": n,
            "id": item_name(item, n),
            "tags": [place[tag] for tag in item.tags if tag in place],
            "more": [tag for tag in item.tags if tag not in place],
            "pics": [
                [album.index(self._picture(n, of)), pictures.name(self._picture(n, of)), len(of)]
                for of in some
            ],
            "texts": [_cut(text, MOST_LETTERS) for text in texts],
            "s": [cells(one[n], 4) for one in scores],
            "r": [cells(100 * one[n], 2) for one in ranks],
            "h": cells(human, 4) if np.isfinite(human).any() else None,
            "f": [
                sorted(
                    {
                        (cell[i] * len(texts) + j, k)
                        for i, j, k in of
                        if i in cell and j < len(texts)
                    }
                )
                for of in failed
            ],
            "x": [
                [
                    [cell[i] * len(texts) + j, _cut(said, MOST_SAID)]
                    for i, j, said in of
                    if i in cell and j < len(texts)
                ]
                for of in self._details(n)
            ],
            "v": [
                [_number(run.verdicts[n].get(metric, math.nan), 4) for metric in run.metrics]
                for run in self.runs
            ],
            "a": _number(self._apart[n], 4),
            "d": [_number(one[n], 4) for one in self._from_people],
        }
        if len(judged) > MOST_ROWS or len(item.texts) > MOST_ROWS:
            found["hidden"] = True
        if not any(found["x"]):
            del found["x"]
        return {key: value for key, value in found.items() if value or key not in ("more", "h")}

    def _details(self, n: int) -> Iterator[list[tuple[int, int, str]]]:
        item = self.runs[0].items[n]
        for run in self.runs:
            cells = ((i, j) for i in range(len(item.images)) for j in range(len(item.texts)))
            yield [(i, j, run.details[n, i, j]) for i, j in cells if (n, i, j) in run.details]

    def _picture(self, n: int, of: Sequence[int]) -> MediaLike:
        return self.runs[0].items[n].images[of[len(of) // 2]]

    def _telling(self) -> browse.Floats:
        from_people = np.nan_to_num(np.array(self._from_people)).max(axis=0)
        failed = np.zeros(len(self._apart))
        for run in self.runs:
            for n, _, _ in run.failures:
                failed[n] = 1
        telling: browse.Floats = np.maximum(self._apart, from_people) + failed
        return telling


def _labels(run: Run) -> str:
    """Whether people gave "ratings" (ranks, preferences), said what does "match", or nothing."""
    human = browse.people(run)
    known = {value for one in human for value in one[np.isfinite(one)].tolist()}
    if not known:
        return ""
    # Of pictures of one text, 0 and 1 say which is better, not which is right.
    of_matches = run.benchmark["pooled"] or any(one.shape[1] > 1 for one in human)
    return "match" if of_matches and known <= {0.0, 1.0} else "ratings"


def _number(value: float, digits: int) -> float | None:
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() else short


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[:most]}… ({len(text)} letters; scores.csv has all of them)"
