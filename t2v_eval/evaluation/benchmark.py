"""Benchmarks: items with labels, metrics over their scores, and the run of a scorer over them."""

from __future__ import annotations

import copy
import json
import math
import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import InputError
from t2v_eval.evaluation.selection import Selection
from t2v_eval.inputs.media import MediaLike
from t2v_eval.registry import Card
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.results import Progress
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.stats.bootstrap import Draws, IntArray, Interval, Statistic
from t2v_eval.stats.metrics import FloatArray
from t2v_eval.stats.permutation import PValue, corrected, sign_flip

Scores: TypeAlias = Sequence[NDArray[np.float32]]
Contrast: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Item:
    """The unit that intervals resample: M pictures, N texts, and what people said about them.

    One prompt with the pictures of six generators is one item of 6 x 1, not six items. Items that
    do not fit into one, as their tags differ, and are still resampled together, name one `group`.
    """

    images: Sequence[MediaLike]
    texts: Sequence[str]
    labels: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    references: Sequence[Sequence[str]] | None = None
    id: str = ""
    group: str = ""


def units_of(items: Sequence[Item]) -> list[IntArray]:
    """The indices of the items that are resampled together, in the order of their first ones."""
    found: dict[str | int, list[int]] = {}
    for n, item in enumerate(items):
        found.setdefault(item.group or n, []).append(n)
    return [np.array(members) for members in found.values()]


def of_units(statistic: Statistic, units: Sequence[IntArray]) -> Statistic:
    """The statistic of chosen units, where `statistic` is of chosen items."""
    if all(len(members) == 1 and members[0] == n for n, members in enumerate(units)):
        return statistic
    return lambda index: statistic(np.concatenate([units[n] for n in index]))


def tagged(items: Sequence[Item], tag: str) -> list[int]:
    """The indices of the items with a tag; "" is all items."""
    return [n for n, item in enumerate(items) if not tag or tag in item.tags]


class Benchmark(ABC):
    """Items and metrics. Subclasses read published files in `items` and never print or download.

    Args:
        card: the registry's facts about it.
        root: the folder that holds its files, for benchmarks that have files.
        subset: tags; only items that have one of them are evaluated.
        on_missing: "error", or "skip": items with a picture that is not there are left out.

    A subclass may name its `headline` metric (default: the first), the values that guessing
    reaches (`chance`), what its metrics are, with their range, in words for those who do not know
    them (`meanings`), and whether they compare cells of different items with each other (`pooled`).
    """

    headline: ClassVar[str] = ""
    chance: ClassVar[Mapping[str, float]] = {}
    meanings: ClassVar[Mapping[str, str]] = {}
    pooled: ClassVar[bool] = False
    on_error: str = "raise"  # or "skip": rows of a table that cannot be used are left out

    def __init__(
        self,
        *,
        card: Card | None = None,
        root: str | Path | None = None,
        subset: str | Sequence[str] = (),
        on_missing: str = "error",
    ) -> None:
        self.card = card or Card(type(self).__name__, type(self).__name__, type(self).__module__)
        self.root = None if root is None else Path(root).expanduser()
        self.selection = Selection(self.card.name, subset, on_missing)

    @property
    def name(self) -> str:
        """The name it is registered under."""
        return self.card.name

    def selecting(
        self, subset: str | Sequence[str] | None = None, on_missing: str | None = None
    ) -> Self:
        """The same benchmark with another `subset` or `on_missing`; None leaves it as it is."""
        if subset is None and on_missing is None:
            return self
        other = copy.copy(self)
        own = self.selection
        other.selection = Selection(
            self.card.name,
            own.subset if subset is None else subset,
            own.on_missing if on_missing is None else on_missing,
        )
        return other

    def selected(self) -> Sequence[Item]:
        """`items`, and of them those of `subset` whose pictures are there, if that was asked for.

        Raises:
            InputError: no item has a tag of `subset`; the message lists the tags.
            BenchmarkDataError: as `items`, and where no item is left.
        """
        self.selection.restart()
        items = self.items()
        # A class whose `items` does not choose is chosen from here.
        return self.selection.choose(items) if self.selection.total is None else items

    @abstractmethod
    def items(self) -> Sequence[Item]:
        """All items, in a fixed order.

        Raises:
            BenchmarkDataError: files are missing or not as published; the message says which.
        """

    def check(self) -> str:
        """What its files hold, in words.

        Raises:
            BenchmarkDataError: files are missing or not as published; the message says which.
        """
        items = self.items()
        pictures = sum(len(item.images) for item in items)
        texts = sum(len(item.texts) for item in items)
        return f"{len(items)} items with {pictures} pictures and {texts} texts"

    @abstractmethod
    def metrics(self, items: Sequence[Item], scores: Scores) -> Mapping[str, float]:
        """Named metrics of (M, N) scores, one array an item, higher is better; NaN is missing."""

    def contrasts(self, items: Sequence[Item], scores: Scores) -> Mapping[Contrast, FloatArray]:
        """Paired differences within the benchmark, say between generators, a value an item.

        Each must be a metric too, called "first - second": its mean, which is tested for being 0.
        """
        return {}

    def judged(self, item: Item) -> Sequence[Sequence[int]]:
        """What people judged: which pictures each thing is made of, by default each by itself."""
        return [[i] for i in range(len(item.images))]

    def human(self, item: Item) -> NDArray[np.float64] | None:
        """What people said of `judged` x texts, higher is better; NaN where nobody said anything.

        By default `labels["human"]`, a value or a list of raters' values each, column by column.
        None where an item has no such labels: labels of another form are the benchmark's own.
        """
        shape = len(self.judged(item)), len(item.texts)
        try:
            given = [np.ravel(np.array(one, np.float64)) for one in item.labels["human"]]
            return np.array([one.mean() for one in given]).reshape(shape)
        except (KeyError, TypeError, ValueError):
            return None

    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        """`metrics` of chosen items: what comes back is called with indices into `items`.

        Intervals call it a thousand times; override it where sharing work makes that faster.
        """

        def of(index: IntArray) -> Mapping[str, float]:
            chosen = index.tolist()
            return self.metrics([items[n] for n in chosen], [scores[n] for n in chosen])

        return of


def drawn(statistic: Statistic, items: Sequence[Item], resamples: int, seed: int) -> Draws:
    """The metrics of the items and of resamples of their units, where `statistic` is of items."""
    units = units_of(items)
    return Draws.of(of_units(statistic, units), len(units), resamples, seed)


@dataclass(frozen=True, slots=True)
class Run:
    """What one scorer did on one benchmark.

    `metrics` and `by_tag` carry 95 % intervals; `verdicts` are the metrics of each item alone,
    without those that one item leaves undefined; `errors` counts unique cells by why they failed,
    and `failures` says so by (item, picture, text), as `details` gives what else a model said, as
    JSON. `judged` and `human` of each item are what
    the benchmark says. `tests` are of its `contrasts`, by tag ("" is all items) and metric:
    corrected for all of them, those by tag for all contrasts and tags. `seconds` is the time of
    scoring; `statistic_of` is the benchmark's `statistic`, for tests between runs.
    """

    scorer: Mapping[str, Any]
    benchmark: Mapping[str, Any]
    metrics: Mapping[str, Interval]
    by_tag: Mapping[str, Mapping[str, Interval]]
    counts: Mapping[str, int]
    errors: Mapping[str, int]
    environment: Mapping[str, str]
    seconds: float
    items: Sequence[Item] = field(repr=False)
    scores: Scores = field(repr=False)
    verdicts: Sequence[Mapping[str, float]] = field(repr=False)
    failures: Mapping[tuple[int, int, int], str] = field(repr=False)
    details: Mapping[tuple[int, int, int], str] = field(repr=False)
    judged: Sequence[Sequence[Sequence[int]]] = field(repr=False)
    human: Sequence[NDArray[np.float64] | None] = field(repr=False)
    draws: Mapping[str, Draws] = field(repr=False)
    contrasts: Sequence[Contrast] = field(repr=False)
    tests: Mapping[str, Mapping[str, PValue]] = field(repr=False)
    statistic_of: Callable[[Sequence[Item], Scores], Statistic] = field(repr=False)


def evaluate(
    scorer: Scorer,
    benchmark: Benchmark,
    *,
    items: Sequence[Item] | None = None,
    progress: Progress | None = None,
    resamples: int = 1000,
    seed: int = 0,
    subset: str | Sequence[str] | None = None,
    on_missing: str | None = None,
    **template: str | None,
) -> Run:
    """Score every item of `benchmark` and report its metrics, overall and for each tag.

    Args:
        items: what `benchmark.selected()` returned, where it has been called already.
        progress: is told of the counts as they grow.
        resamples: bootstrap resamples of items behind the 95 % intervals.
        subset: tags; only items that have one of them are evaluated.
        on_missing: "error", or "skip": items with a picture that is not there are left out.
        template: `question_template`, `answer_template` or `template`.

    Raises:
        BenchmarkDataError: the benchmark's files are missing.
        MediaError: a picture cannot be read, unless the scorer was loaded with on_error="skip".
    """
    benchmark = benchmark.selecting(subset, on_missing)
    if items is None:
        items = benchmark.selected()
    elif subset is not None or on_missing is not None:
        items = benchmark.selection.choose(items)
    if not items:
        raise InputError(f"benchmark {benchmark.name!r} has no items")
    bound = scorer.with_template(**template)
    bound.reset_size_warning()
    bound_id = bound.id  # first, as it is none where weights are replaced meanwhile
    started = time.perf_counter()
    outcome = bound.evaluate_blocks(
        [Block(item.images, item.texts, item.references) for item in items], progress
    )
    seconds = time.perf_counter() - started
    counts = outcome.counts
    statistic = benchmark.statistic(items, outcome.scores)
    draws = {}
    for tag in dict.fromkeys(["", *(tag for item in items for tag in item.tags)]):
        chosen = tagged(items, tag)
        own, scores = [items[n] for n in chosen], [outcome.scores[n] for n in chosen]
        of = benchmark.statistic(own, scores) if tag else statistic
        draws[tag] = drawn(of, own, resamples, seed)
    intervals = {tag: of_tag.intervals() for tag, of_tag in draws.items()}
    contrasts = benchmark.contrasts(items, outcome.scores)
    return Run(
        scorer={
            "name": scorer.name,
            "id": bound_id,
            "kind": scorer.card.kind,
            "summary": scorer.card.summary,
            "question": bound.template.question,
            "answer": bound.template.answer,
            "truncated_texts": outcome.truncated,
            "cautions": list(outcome.cautions),
            **({"usage": dict(outcome.usage)} if outcome.usage else {}),
            "execution": dict(getattr(bound, "execution", {})),
            "said": _said(outcome.details.values()),
        },
        benchmark={
            "name": benchmark.name,
            "items": len(items),
            **benchmark.selection.facts(len(items)),
            "summary": benchmark.card.summary,
            "note": benchmark.card.note,
            "headline": benchmark.headline or next(iter(intervals[""])),
            "chance": dict(benchmark.chance),
            "meanings": {name: benchmark.meanings.get(name, "") for name in intervals[""]},
            "pooled": benchmark.pooled,
            "published": _published(benchmark.card, scorer.name)
            if benchmark.selection.whole
            else {},
            "tags": {tag: sum(tag in item.tags for item in items) for tag in draws if tag},
            "resamples": resamples,
            "seed": seed,
        },
        metrics=intervals.pop(""),
        by_tag=intervals,
        counts={
            "cells": counts.cells,
            "computed": counts.computed,
            "reused": counts.reused,
            "failed": counts.failed,
            "used": counts.cells - counts.failed,
        },
        errors=outcome.errors,
        environment=environment(scorer),
        seconds=seconds,
        items=items,
        scores=outcome.scores,
        verdicts=[_defined(statistic(np.array([n]))) for n in range(len(items))],
        failures=outcome.failures,
        details=outcome.details,
        judged=[benchmark.judged(item) for item in items],
        human=[benchmark.human(item) for item in items],
        draws=draws,
        contrasts=list(contrasts),
        tests=_tests(contrasts, items, list(draws), seed),
        statistic_of=benchmark.statistic,
    )


def environment(scorer: Scorer) -> dict[str, str]:
    """The versions and the device that numbers were made with."""
    packages = ("t2v-eval", "torch", "transformers", "open_clip_torch", "pillow", "numpy")
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found | {"device": str(getattr(scorer, "device", "remote"))}


def _said(details: Iterable[str]) -> dict[str, dict[str, float]]:
    """What else the model said in numbers, say the probability of what it listed, in short."""
    found: dict[str, list[float]] = {}
    for detail in details:
        said = json.loads(detail)
        for name, value in said.items() if isinstance(said, dict) else ():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found.setdefault(name, []).append(value)
    return {
        name: {"mean": math.fsum(values) / len(values), "lowest": min(values), "n": len(values)}
        for name, values in found.items()
    }


def _published(card: Card, scorer: str) -> dict[str, dict[str, Any]]:
    """What others report of this scorer on this benchmark, by metric."""
    return {
        metric: {"value": figures[scorer], "source": figures.get("source", "")}
        for metric, figures in card.published.items()
        if scorer in figures
    }


def _tests(
    contrasts: Mapping[Contrast, FloatArray], items: Sequence[Item], tags: Sequence[str], seed: int
) -> dict[str, dict[str, PValue]]:
    p = {
        (tag, f"{first} - {second}"): sign_flip(values[tagged(items, tag)], seed=seed)
        for tag in tags
        for (first, second), values in contrasts.items()
    }
    found: dict[str, dict[str, PValue]] = {}
    for whole in (True, False):
        family = {key: value for key, value in p.items() if (key[0] == "") is whole}
        for (tag, name), tested in corrected(family).items():
            found.setdefault(tag, {})[name] = tested
    return found


def _defined(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
