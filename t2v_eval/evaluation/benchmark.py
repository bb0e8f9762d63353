"""Benchmarks: items with labels, metrics of their scores, and running a scorer on them."""

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
from typing import Any, ClassVar, NotRequired, Self, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import InputError
from t2v_eval.evaluation.selection import Selection, SelectionFacts
from t2v_eval.inputs.media import MediaLike
from t2v_eval.registry import BenchmarkCard
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.results import Progress, ScoringResult
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.stats.agreement_metrics import METRICS
from t2v_eval.stats.bootstrap import BootstrapSamples, IntArray, Interval, Statistic
from t2v_eval.stats.metrics import FloatArray
from t2v_eval.stats.permutation import PValue, corrected, sign_flip

Scores: TypeAlias = Sequence[NDArray[np.float32]]
Contrast: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Item:
    """One row of a benchmark: M images, N texts, and what people said about them.

    Attributes:
        images: M images or videos.
        texts: N captions or prompts; every image is scored with every text.
        labels: the benchmark's own ground truth, for example ``{"human": ratings}``.
        tags: categories that metrics are also reported for.
        references: reference captions of each text, for scorers that use them.
        id: the name used in reports; the item's index where it is empty.
        group: items with the same non-empty group are resampled together.

    An item is what the bootstrap resamples, so it must hold all that is not independent: one prompt
    with the images of six generators is one item of 6 x 1, not six items. Where that is impossible,
    because parts have different tags, give the items the same `group`.
    """

    images: Sequence[MediaLike]
    texts: Sequence[str]
    labels: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    references: Sequence[Sequence[str]] | None = None
    id: str = ""
    group: str = ""


def units_of(items: Sequence[Item]) -> list[IntArray]:
    """Return the item indices of each resampling unit, ordered by the first item of each.

    A unit is an item, or all items that share a `group`.

    >>> units_of([Item([], [], group="a"), Item([], []), Item([], [], group="a")])
    [array([0, 2]), array([1])]
    """
    members: dict[str | int, list[int]] = {}
    for n, item in enumerate(items):
        members.setdefault(item.group or n, []).append(n)
    return [np.array(indices) for indices in members.values()]


def resample_units(statistic: Statistic, units: Sequence[IntArray]) -> Statistic:
    """Turn a statistic of item indices into one of unit indices."""
    if all(len(members) == 1 and members[0] == n for n, members in enumerate(units)):
        return statistic
    return lambda index: statistic(np.concatenate([units[n] for n in index]))


def indices_with_tag(items: Sequence[Item], tag: str) -> list[int]:
    """Return the indices of the items with a tag; an empty tag stands for all items."""
    return [n for n, item in enumerate(items) if not tag or tag in item.tags]


class Benchmark(ABC):
    """Items and metrics. Subclasses read published files in `items` and never print or download.

    A subclass may set these class attributes:

    - `headline`: the metric that scorers are ranked by (default: the first);
    - `chance`: the value that guessing reaches, by metric;
    - `meanings`: each metric in plain words, with its range;
    - `pooled`: whether metrics compare cells of different items with each other.

    Args:
        card: the registry's facts about it.
        root: the folder that holds its files, for benchmarks that have files.
        subset: tags; only items that have one of them are evaluated.
        on_missing: "error", or "skip" to leave out items whose image files are missing.
    """

    headline: ClassVar[str] = ""
    chance: ClassVar[Mapping[str, float]] = {}
    meanings: ClassVar[Mapping[str, str]] = {}
    pooled: ClassVar[bool] = False
    on_error: str = "raise"  # or "skip": unusable rows of a table are left out

    def __init__(
        self,
        *,
        card: BenchmarkCard | None = None,
        root: str | Path | None = None,
        subset: str | Sequence[str] = (),
        on_missing: str = "error",
    ) -> None:
        self.card = card or BenchmarkCard(
            type(self).__name__, type(self).__name__, type(self).__module__
        )
        self.root = None if root is None else Path(root).expanduser()
        self.selection = Selection(self.card.name, subset, on_missing)

    @property
    def name(self) -> str:
        """Return the name it is registered under."""
        return self.card.name

    def selecting(
        self, subset: str | Sequence[str] | None = None, on_missing: str | None = None
    ) -> Self:
        """Return the same benchmark with another `subset` or `on_missing`; None changes nothing."""
        if subset is None and on_missing is None:
            return self
        other = copy.copy(self)
        selection = self.selection
        other.selection = Selection(
            self.card.name,
            selection.subset if subset is None else subset,
            selection.on_missing if on_missing is None else on_missing,
        )
        return other

    def selected(self) -> Sequence[Item]:
        """Return the items to evaluate: `items`, restricted by `subset` and `on_missing`.

        Raises:
            InputError: no item has a tag of `subset`; the message lists the tags.
            BenchmarkDataError: as `items`, and where no item is left.
        """
        self.selection.restart()
        items = self.items()
        # Adapters that read many images apply the selection themselves; the others leave it to us.
        return self.selection.choose(items) if self.selection.total is None else items

    @abstractmethod
    def items(self) -> Sequence[Item]:
        """Return all items, in a fixed order.

        Raises:
            BenchmarkDataError: files are missing or not as published; the message says which.
        """

    def check(self) -> str:
        """Read the files and return a sentence that says what they hold.

        Raises:
            BenchmarkDataError: files are missing or not as published; the message says which.
        """
        items = self.items()
        images = sum(len(item.images) for item in items)
        texts = sum(len(item.texts) for item in items)
        return f"{len(items)} items with {images} images and {texts} texts"

    @abstractmethod
    def metrics(self, items: Sequence[Item], scores: Scores) -> Mapping[str, float]:
        """Compute named metrics; higher is better.

        Args:
            scores: for each item an array of shape (M, N); NaN is missing.
        """

    def contrasts(self, items: Sequence[Item], scores: Scores) -> Mapping[Contrast, FloatArray]:
        """Return paired differences within the benchmark, for example between generators.

        Keys are pairs (first, second), values one difference per item. For each there must also be
        a metric called "first - second", the mean of the differences; it is tested against 0.
        """
        return {}

    def rated_units(self, item: Item) -> Sequence[Sequence[int]]:
        """Return what people rated, each as the indices of its images; by default every image.

        A video given as frames is one rated unit of several images.
        """
        return [[i] for i in range(len(item.images))]

    def human(self, item: Item) -> NDArray[np.float64] | None:
        """Return the human ratings, shape (rated units, N), higher is better; NaN is unrated.

        By default ``labels["human"]``: for each cell, row by row, one value or the list of several
        raters' values. None where the item has no such labels.
        """
        shape = len(self.rated_units(item)), len(item.texts)
        try:
            ratings = [np.ravel(np.array(cell, np.float64)) for cell in item.labels["human"]]
            return np.array([cell.mean() for cell in ratings]).reshape(shape)
        except (KeyError, TypeError, ValueError):
            return None

    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        """Return a function from indices into `items` to the `metrics` of those items.

        The bootstrap calls it a thousand times: override it where work can be shared between calls.
        """

        def metrics_at(index: IntArray) -> Mapping[str, float]:
            chosen = index.tolist()
            return self.metrics([items[n] for n in chosen], [scores[n] for n in chosen])

        return metrics_at


def bootstrap_items(
    statistic: Statistic, items: Sequence[Item], resamples: int, seed: int
) -> BootstrapSamples:
    """Bootstrap the units of `items`, where `statistic` takes item indices."""
    units = units_of(items)
    return BootstrapSamples.compute(resample_units(statistic, units), len(units), resamples, seed)


class ScorerFacts(TypedDict):
    """What a report says about the scorer of a run; a run's JSON has it under "scorer"."""

    name: str
    id: str
    kind: str
    summary: str
    question: str
    answer: str
    truncated_texts: int
    cautions: list[str]
    usage: NotRequired[dict[str, Any]]
    execution: dict[str, Any]
    said: dict[str, dict[str, float]]


class BenchmarkFacts(SelectionFacts):
    """What a report says about the benchmark of a run; a run's JSON has it under "benchmark"."""

    name: str
    items: int
    summary: str
    note: str
    headline: str
    chance: dict[str, float]
    meanings: dict[str, str]
    pooled: bool
    published: dict[str, dict[str, Any]]
    tags: dict[str, int]
    resamples: int
    seed: int


@dataclass(frozen=True, slots=True)
class Run:
    """The results of one scorer on one benchmark.

    Attributes:
        scorer, benchmark: the facts that reports show.
        metrics: each metric of all items, with its 95 % interval.
        by_tag: the same for the items of each tag.
        counts: unique cells: all, computed, read from the store, failed, used.
        errors: the number of failed cells by reason.
        environment: versions of packages, and the device.
        seconds: the time of scoring.
        items, scores: the items, and for each an array of shape (M, N); NaN is missing.
        verdicts: the metrics of each item alone, without undefined ones.
        failures: why a cell (item, image, text) has no score.
        details: what else the model returned for a cell, as JSON.
        rated_units, human: `Benchmark.rated_units` and `Benchmark.human` of each item.
        bootstrap: the resampled metrics by tag; "" is all items.
        contrasts: the keys of `Benchmark.contrasts`.
        tests: a sign-flip test of each contrast, by tag and metric; "" is all items. p-values are
            corrected over the contrasts of all items, and over contrasts and tags for those by tag.
        statistic_of: `Benchmark.statistic`, for tests between runs.
    """

    scorer: ScorerFacts
    benchmark: BenchmarkFacts
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
    rated_units: Sequence[Sequence[Sequence[int]]] = field(repr=False)
    human: Sequence[NDArray[np.float64] | None] = field(repr=False)
    bootstrap: Mapping[str, BootstrapSamples] = field(repr=False)
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
    """Score every item of `benchmark` and compute its metrics, overall and for each tag.

    Args:
        items: what `benchmark.selected()` returned, where it has been called already.
        progress: called with the counts as they grow.
        resamples: the number of bootstrap resamples behind the 95 % intervals.
        seed: the random seed of the bootstrap and of the tests.
        subset: tags; only items that have one of them are evaluated.
        on_missing: "error", or "skip" to leave out items whose image files are missing.
        template: `question_template`, `answer_template` or `template`.

    Raises:
        BenchmarkDataError: the benchmark's files are missing.
        InputError: there are no items to evaluate.
        MediaError: an image cannot be read, unless the scorer was loaded with on_error="skip".
    """
    benchmark = benchmark.selecting(subset, on_missing)
    items = _items_to_evaluate(benchmark, items, chosen=(subset, on_missing) == (None, None))
    bound = scorer.with_template(**template)
    bound.reset_size_warning()
    # The id comes before scoring: it raises if weight files change on disk during the run.
    bound_id = bound.id
    started = time.perf_counter()
    result = bound.evaluate_blocks(
        [Block(item.images, item.texts, item.references) for item in items], progress
    )
    seconds = time.perf_counter() - started
    facts = _scorer_facts(scorer, bound, bound_id, result)
    return _make_run(scorer, facts, benchmark, items, result, seconds, resamples, seed)


def _make_run(
    scorer: Scorer,
    scorer_facts: ScorerFacts,
    benchmark: Benchmark,
    items: Sequence[Item],
    result: ScoringResult,
    seconds: float,
    resamples: int,
    seed: int,
) -> Run:
    """Compute metrics, intervals and tests of finished scores."""
    statistic = benchmark.statistic(items, result.scores)
    bootstrap = {"": bootstrap_items(statistic, items, resamples, seed)}
    bootstrap |= _bootstrap_by_tag(benchmark, items, result.scores, resamples, seed)
    intervals = {tag: samples.intervals() for tag, samples in bootstrap.items()}
    contrasts = benchmark.contrasts(items, result.scores)
    return Run(
        scorer=scorer_facts,
        benchmark=_benchmark_facts(benchmark, scorer, items, bootstrap),
        metrics=intervals.pop(""),
        by_tag=intervals,
        counts=_counts(result),
        errors=result.errors,
        environment=environment(scorer),
        seconds=seconds,
        items=items,
        scores=result.scores,
        verdicts=[_defined(statistic(np.array([n]))) for n in range(len(items))],
        failures=result.failures,
        details=result.details,
        rated_units=[benchmark.rated_units(item) for item in items],
        human=[benchmark.human(item) for item in items],
        bootstrap=bootstrap,
        contrasts=list(contrasts),
        tests=_test_contrasts(contrasts, items, list(bootstrap), seed),
        statistic_of=benchmark.statistic,
    )


def environment(scorer: Scorer) -> dict[str, str]:
    """Return the versions of Python and packages, the platform and the device of a scorer."""
    packages = ("t2v-eval", "torch", "transformers", "open_clip_torch", "pillow", "numpy")
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions | {"device": str(getattr(scorer, "device", "remote"))}


def _items_to_evaluate(
    benchmark: Benchmark, items: Sequence[Item] | None, chosen: bool
) -> Sequence[Item]:
    """Read the items, or restrict those that were read before unless that was done already."""
    if items is None:
        items = benchmark.selected()
    elif not chosen:
        items = benchmark.selection.choose(items)
    if not items:
        raise InputError(f"benchmark {benchmark.name!r} has no items")
    return items


def _bootstrap_by_tag(
    benchmark: Benchmark, items: Sequence[Item], scores: Scores, resamples: int, seed: int
) -> dict[str, BootstrapSamples]:
    """Bootstrap the items of each tag."""
    bootstrap = {}
    for tag in dict.fromkeys(tag for item in items for tag in item.tags):
        chosen = indices_with_tag(items, tag)
        tag_items = [items[n] for n in chosen]
        statistic = benchmark.statistic(tag_items, [scores[n] for n in chosen])
        bootstrap[tag] = bootstrap_items(statistic, tag_items, resamples, seed)
    return bootstrap


def _scorer_facts(
    scorer: Scorer, bound: Scorer, bound_id: str, result: ScoringResult
) -> ScorerFacts:
    facts: ScorerFacts = {
        "name": scorer.name,
        "id": bound_id,
        "kind": scorer.card.kind,
        "summary": scorer.card.summary,
        "question": bound.template.question,
        "answer": bound.template.answer,
        "truncated_texts": result.truncated,
        "cautions": list(result.cautions),
        "execution": dict(getattr(bound, "execution", {})),
        "said": _summarize_details(result.details.values()),
    }
    if result.usage:
        facts["usage"] = dict(result.usage)
    return facts


def _benchmark_facts(
    benchmark: Benchmark,
    scorer: Scorer,
    items: Sequence[Item],
    bootstrap: Mapping[str, BootstrapSamples],
) -> BenchmarkFacts:
    overall = bootstrap[""]
    published = _published(benchmark.card, scorer.name) if benchmark.selection.whole else {}
    return {
        "name": benchmark.name,
        "items": len(items),
        **benchmark.selection.facts(len(items)),
        "summary": benchmark.card.summary,
        "note": benchmark.card.note,
        "headline": benchmark.headline or next(iter(overall.value)),
        "chance": dict(benchmark.chance),
        "meanings": {name: _meaning(benchmark, name) for name in overall.value},
        "pooled": benchmark.pooled,
        "published": published,
        "tags": {tag: sum(tag in item.tags for item in items) for tag in bootstrap if tag},
        "resamples": overall.resamples,
        "seed": overall.seed,
    }


def _meaning(benchmark: Benchmark, metric: str) -> str:
    registered = METRICS.get(metric)
    return benchmark.meanings.get(metric, registered.meaning if registered else "")


def _counts(result: ScoringResult) -> dict[str, int]:
    counts = result.counts
    return {
        "cells": counts.cells,
        "computed": counts.computed,
        "reused": counts.reused,
        "failed": counts.failed,
        "used": counts.cells - counts.failed,
    }


def _summarize_details(details: Iterable[str]) -> dict[str, dict[str, float]]:
    """Summarize the numbers in the details of cells: mean, lowest and count of each key."""
    numbers: dict[str, list[float]] = {}
    for detail in details:
        values = json.loads(detail)
        for name, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                numbers.setdefault(name, []).append(value)
    return {
        name: {"mean": math.fsum(values) / len(values), "lowest": min(values), "n": len(values)}
        for name, values in numbers.items()
    }


def _published(card: BenchmarkCard, scorer: str) -> dict[str, dict[str, Any]]:
    """Return the published figures of this scorer on this benchmark, by metric."""
    return {
        metric: {"value": figures[scorer], "source": figures.get("source", "")}
        for metric, figures in card.published.items()
        if scorer in figures
    }


def _test_contrasts(
    contrasts: Mapping[Contrast, FloatArray], items: Sequence[Item], tags: Sequence[str], seed: int
) -> dict[str, dict[str, PValue]]:
    p = {
        (tag, f"{first} - {second}"): sign_flip(values[indices_with_tag(items, tag)], seed=seed)
        for tag in tags
        for (first, second), values in contrasts.items()
    }
    tests: dict[str, dict[str, PValue]] = {}
    for whole in (True, False):
        family = {key: value for key, value in p.items() if (key[0] == "") is whole}
        for (tag, name), p_value in corrected(family).items():
            tests.setdefault(tag, {})[name] = p_value
    return tests


def _defined(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
