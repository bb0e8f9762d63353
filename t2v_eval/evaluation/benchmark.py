"""Benchmarks: items with labels, and metrics of their scores."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias, TypeVar, TypeVarTuple

import numpy as np
from numpy.typing import NDArray

from t2v_eval.cards import BenchmarkCard
from t2v_eval.errors import UnsupportedError
from t2v_eval.evaluation.sampling import Sample
from t2v_eval.evaluation.selection import OnMissing, Selection
from t2v_eval.inputs.media import MediaLike
from t2v_eval.inputs.object_requirements import Requirements
from t2v_eval.inputs.questions.question import Questions
from t2v_eval.inputs.target_texts import TargetTexts
from t2v_eval.scoring.scorer import OnError
from t2v_eval.stats.agreement_metrics import METRICS
from t2v_eval.stats.bootstrap import BootstrapSamples, IntArray, Statistic, TogetherStatistic
from t2v_eval.stats.intervals import of_clusters
from t2v_eval.stats.metrics import FloatArray
from t2v_eval.stats.paired import mean_ranks, standardize
from t2v_eval.stats.resampling.draws import Copies
from t2v_eval.utils.arguments import check_path
from t2v_eval.utils.arrays import CellArrays

_T = TypeVar("_T")
_Arguments = TypeVarTuple("_Arguments")
Scores: TypeAlias = Sequence[NDArray[np.float32]]
Contrast: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Item:
    """One row of a benchmark: M images, N texts, and human ratings.

    Attributes:
        images: M images or videos.
        texts: N captions or prompts; every image is scored with every text.
        labels: the benchmark's own ground truth, for example ``{"human": ratings}``. `generator`
            names the generator of each image, where people rated those of several.
        tags: categories that metrics are also reported for.
        references: reference captions of each text, for scorers that use them.
        id: the name used in reports; the item's index where it is empty.
        group: items with the same non-empty group are resampled together.

    An item is what the bootstrap resamples, so it must hold all that is not independent: one prompt
    with the images of six generators is one item of 6 x 1, not six items. Where that is impossible,
    because parts have different tags, give the items the same `group`.

    >>> item = Item(images=["cat.png"], texts=["a cat", "a dog"], labels={"human": [5, 1]})
    >>> len(item.images), len(item.texts)
    (1, 2)
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


class Items(tuple[Item, ...]):
    """Items, and what follows from them, which is computed once for all scorers and pairs of them.

    >>> items = Items.of([Item([], [], tags=("colour",)), Item([], [])])
    >>> items.tags, len(items.tagged("colour")), items.once(units_of) is items.once(units_of)
    (['colour'], 1, True)
    """

    _known: dict[tuple[Any, ...], Any]

    def __new__(cls, items: Iterable[Item] = ()) -> Self:
        """Make a tuple that remembers."""
        self = super().__new__(cls, items)
        self._known = {}
        return self

    @classmethod
    def of(cls, items: Iterable[Item]) -> Self:
        """Return items as they are, or a tuple of them that remembers."""
        return items if isinstance(items, cls) else cls(items)

    def __reduce__(self) -> tuple[type[Self], tuple[tuple[Item, ...]]]:
        """Return what a copy or a pickle is made of: the items alone."""
        return type(self), (tuple(self),)

    def once(self, function: Callable[[Items, *_Arguments], _T], *arguments: *_Arguments) -> _T:
        """Return what a function returns for the items and other arguments, called once."""
        key = function, *arguments
        if key not in self._known:
            self._known[key] = function(self, *arguments)
        cached: _T = self._known[key]
        return cached

    def each(self, function: Callable[[Item], _T]) -> list[_T]:
        """Return what a function returns for each item, called once."""
        return self.once(_each, function)

    @property
    def tags(self) -> list[str]:
        """Return all tags, in the order in which they occur."""
        return self.once(_tags_of)

    def where(self, tag: str) -> IntArray:
        """Return the indices of the items with a tag; an empty tag stands for all items."""
        return self.once(_where, tag)

    def tagged(self, tag: str) -> Items:
        """Return the items with a tag; an empty tag stands for all items."""
        return self.once(_tagged, tag) if tag else self


def _each(items: Items, function: Callable[[Item], _T]) -> list[_T]:
    return [function(item) for item in items]


def _tags_of(items: Items) -> list[str]:
    return list(dict.fromkeys(tag for item in items for tag in item.tags))


def _where(items: Items, tag: str) -> IntArray:
    return np.array(indices_with_tag(items, tag), np.int64)


def _tagged(items: Items, tag: str) -> Items:
    return Items(items[n] for n in items.where(tag).tolist())


def resample_units(statistic: Statistic, units: Sequence[IntArray]) -> Statistic:
    """Turn a statistic of item indices into one of unit indices.

    Intervals of shares and of statistics of pairs are then those of clusters.

    >>> number_of_items = resample_units(lambda index: {"n": len(index)}, [np.array([0, 2])])
    >>> number_of_items(np.array([0, 0]))
    {'n': 4}
    """
    if all(len(members) == 1 and members[0] == n for n, members in enumerate(units)):
        return statistic
    if isinstance(statistic, TogetherStatistic):
        return _TogetherOfUnits(statistic, units)
    return _of_units(statistic, units)


def _of_units(statistic: Statistic, units: Sequence[IntArray]) -> Statistic:
    return lambda index: of_clusters(statistic(np.concatenate([units[n] for n in index])))


class _TogetherOfUnits:
    """A statistic of units that computes many resamples together."""

    def __init__(self, statistic: TogetherStatistic, units: Sequence[IntArray]) -> None:
        self._statistic, self._one = statistic, _of_units(statistic, units)
        order = np.argsort(np.concatenate(units), kind="stable")
        sizes = [len(members) for members in units]
        self._unit: IntArray = np.repeat(np.arange(len(units)), sizes)[order]

    def __call__(self, index: IntArray) -> Mapping[str, float]:
        """Return the metrics of the items of units."""
        return self._one(index)

    def together(self, copies: Copies) -> Mapping[str, FloatArray]:
        """Return each metric of many resamples; see `TogetherStatistic`.

        Args:
            copies: shape (units, resamples).
        """
        return self._statistic.together(copies.take(self._unit, axis=0))


def indices_with_tag(items: Sequence[Item], tag: str) -> list[int]:
    """Return the indices of the items with a tag; an empty tag stands for all items.

    >>> items = [Item([], [], tags=("colour",)), Item([], [])]
    >>> indices_with_tag(items, "colour"), indices_with_tag(items, "")
    ([0], [0, 1])
    """
    return [n for n, item in enumerate(items) if not tag or tag in item.tags]


class Benchmark(ABC):
    """Items and metrics. Subclasses read published files in `items` and never print or download.

    A subclass may set these class attributes:

    - `headline`: the metric that scorers are ranked by (default: the first);
    - `chance`: the value that guessing reaches, by metric;
    - `meanings`: each metric in plain words, with its range;
    - `pooled`: whether metrics compare cells of different items with each other;
    - `labels_by`: "people" if they judged the cells, or "truth" where labels follow from how the
      items were built;
    - `of_pairs`: whether an item is two images of a text, of which a judge sees both at once.

    Args:
        card: the registry's facts about it.
        root: the folder that holds its files, for benchmarks that have files.
        subset: tags; only items that have one of them are evaluated.
        on_missing: "raise", or "skip" to leave out items whose image files are missing.

    >>> class Mine(Benchmark):
    ...     def items(self):
    ...         return [Item(["cat.png"], ["a cat", "a dog"])]
    ...
    ...     def metrics(self, items, scores):
    ...         return {"right": float(np.mean([s[0, 0] > s[0, 1] for s in scores]))}
    >>> Mine().metrics(Mine().items(), [np.array([[0.9, 0.1]])])
    {'right': 1.0}
    """

    headline: ClassVar[str] = ""
    chance: ClassVar[Mapping[str, float]] = {}
    meanings: ClassVar[Mapping[str, str]] = {}
    pooled: ClassVar[bool] = False
    labels_by: ClassVar[str] = "people"
    of_pairs: ClassVar[bool] = False
    on_error: OnError = "raise"  # "skip" leaves out rows of a table that cannot be used

    def __init__(
        self,
        *,
        card: BenchmarkCard | None = None,
        root: str | Path | None = None,
        subset: str | Sequence[str] = (),
        on_missing: OnMissing = "raise",
    ) -> None:
        self.card = card or BenchmarkCard(
            type(self).__name__, type(self).__name__, type(self).__module__
        )
        self.root = None if root is None else check_path("root", root)
        self.selection = Selection(self.card.name, subset, on_missing)

    @property
    def name(self) -> str:
        """Return the name it is registered under."""
        return self.card.name

    def selecting(
        self,
        subset: str | Sequence[str] | None = None,
        on_missing: OnMissing | None = None,
        sample: Sample | None = None,
    ) -> Self:
        """Return the same benchmark with another choice of items; None changes nothing."""
        if subset is None and on_missing is None and sample is None:
            return self
        other = copy.copy(self)
        selection = self.selection
        other.selection = Selection(
            self.card.name,
            selection.subset if subset is None else subset,
            selection.on_missing if on_missing is None else on_missing,
            selection.sample if sample is None else sample,
        )
        return other

    def selected(self) -> Items:
        """Return the items to evaluate: `items`, restricted by `subset` and `on_missing`.

        Raises:
            InputError: no item has a tag of `subset`; the message lists the tags.
            BenchmarkDataError: as `items`, and where no item is left.
        """
        self.selection.restart()
        items = self.items()
        # Adapters that read many images apply the selection themselves; the others leave it to us.
        return Items.of(self.selection.choose(items) if self.selection.total is None else items)

    def prompts_by_name(self) -> Mapping[str, str]:
        """Return the prompts that generators make images of, by the names of their images.

        An image NAME.png, or NAME_0.png where there are several, is found by `images=`.

        Raises:
            UnsupportedError: the benchmark has images of its own.
        """
        raise UnsupportedError(
            f"{self.name} has images of its own; generate images of a set of prompts, which "
            "`t2v-eval list benchmarks` shows with --images, or of a file of prompts"
        )

    def questions(self, rule: str) -> Questions:
        """Return questions about the texts, for a scorer that asks them and has none.

        Args:
            rule: that of the scorer, as a benchmark may have questions of several authors.

        Raises:
            UnsupportedError: the benchmark has no questions.
            BenchmarkDataError: as `items`.
        """
        raise UnsupportedError(
            f"{self.name} has no questions about its texts: name a file of them with "
            "`questions=FILE`; `t2v-eval questions make` lets a language model write them"
        )

    def requirements(self) -> Requirements:
        """Return what images must show, for a scorer that checks objects and does not know it.

        Raises:
            UnsupportedError: the benchmark does not say it.
            BenchmarkDataError: as `items`.
        """
        raise UnsupportedError(
            f"{self.name} does not say which objects the images of its texts must show: name a "
            "file that does with `metadata=FILE`"
        )

    def read_results(self, path: str | Path) -> tuple[Sequence[Item], Scores]:
        """Read results of a scorer, in the form that the authors' scripts write and read.

        Args:
            path: the file.

        Returns:
            Items with labels, tags and groups, which need neither images nor texts, and the scores
            of each, as `metrics` takes them; NaN where the file has no result.

        Raises:
            UnsupportedError: the authors have no such form, or it is not read here.
            BenchmarkDataError: a file is missing or not as published; the message says which.
        """
        raise UnsupportedError(
            f"{self.name} reads no files of results: write a table with a row for each rated "
            "sample, and measure it with `t2v-eval agree`"
        )

    def target_texts(self) -> TargetTexts | None:
        """Return the texts that images should show, for a scorer that reads them.

        None where the benchmark does not say it, so that the quotes of its prompts are taken.

        Raises:
            BenchmarkDataError: as `items`.
        """
        return None

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
            items: the items, of this benchmark or a resample of them.
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

        A video of several frames is one rated unit of several images.
        """
        return [[i] for i in range(len(item.images))]

    def human(self, item: Item) -> NDArray[np.float64] | None:
        """Return the human ratings, shape (rated units, N), higher is better; NaN is unrated.

        By default ``labels["human"]``: for each cell, row by row, one value or the list of several
        raters' values. None where the item has no such labels.
        """
        shape = len(self.rated_units(item)), len(item.texts)
        try:
            cells = item.labels["human"]
            if not any(map(np.ndim, cells)):  # one rater
                return np.array(cells, np.float64).reshape(shape)
            ratings = [np.ravel(np.array(cell, np.float64)) for cell in cells]
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

    def rated_scores(self, items: Sequence[Item], scores: Scores) -> Scores:
        """Return the scores of what people rated, (rated units, N) for each item, of its cells."""
        return scores

    def paired_statistic(self, items: Sequence[Item], first: Scores, second: Scores) -> Statistic:
        """Return the metrics of items of which each has the scores of one of two scorers.

        A paired test exchanges scores of the two (`stats.paired`): ranks where the metric is one of
        order by its name in `stats.agreement_metrics` and its value is the same from ranks; else
        scores with mean 0 and standard deviation 1. Override it where metrics compare anything but
        cells, or where work can be shared.

        Args:
            items: n items.
            first: the first scorer's scores, for each item an array of shape (M, N); NaN is
                missing, and is so for both scorers.
            second: the second scorer's scores.

        Returns:
            A function from indices into 2n items: item k has the first scorer's scores, item k + n
            the second's.
        """
        return exchanged(self.statistic, items, first, second)


def exchanged(
    statistic_of: Callable[[Sequence[Item], Scores], Statistic],
    items: Sequence[Item],
    first: Scores,
    second: Scores,
) -> Statistic:
    """Return what `Benchmark.paired_statistic` does by default, from `Benchmark.statistic`.

    >>> def mean_of(items, scores):
    ...     return lambda index: {"mean": float(np.mean([scores[n].mean() for n in index]))}
    >>> items = [Item([], []), Item([], [])]
    >>> scores, others = [np.array([[1.0]]), np.array([[3.0]])], [np.ones((1, 1)), np.ones((1, 1))]
    >>> statistic = exchanged(mean_of, items, scores, others)
    >>> statistic(np.array([0, 1])), statistic(np.array([2, 1]))
    ({'mean': 0.0}, {'mean': 0.5})
    """

    def statistic_of_both(transform: Callable[[FloatArray], FloatArray]) -> Statistic:
        sides = (_transformed(scores, transform) for scores in (first, second))
        return statistic_of([*items, *items], [scores for side in sides for scores in side])

    of_scores = statistic_of_both(standardize)
    both = [np.arange(len(items)) + start for start in (0, len(items))]
    values = [of_scores(index) for index in both]
    ordered = {name for name in values[0] if name in METRICS and METRICS[name].by_order}
    if not ordered:
        return of_scores
    of_ranks = statistic_of_both(mean_ranks)
    for value, ranked in zip(values, map(of_ranks, both), strict=True):
        # The means of frames of a video, for example, have another order than those of their ranks.
        ordered -= {n for n in ordered if not np.isclose(value[n], ranked[n], equal_nan=True)}
    return lambda index: {**of_scores(index), **_only(of_ranks(index), ordered)}


def _only(values: Mapping[str, float], names: Collection[str]) -> dict[str, float]:
    return {name: values[name] for name in values if name in names}


def _transformed(scores: Scores, transform: Callable[[FloatArray], FloatArray]) -> Scores:
    """Transform the scores of all items at once, in float64, so that different ones stay so."""
    arrays = CellArrays.of(scores)
    return arrays.with_cells(transform(arrays.cells.astype(np.float64)))


def bootstrap_items(
    statistic: Statistic, items: Sequence[Item], resamples: int, seed: int
) -> BootstrapSamples:
    """Bootstrap the units of `items`, where `statistic` takes item indices.

    >>> items = [Item([], []) for _ in range(4)]
    >>> scores = np.array([1.0, 2.0, 3.0, 4.0])
    >>> mean = bootstrap_items(lambda index: {"mean": float(scores[index].mean())}, items, 100, 0)
    >>> mean.intervals()["mean"].value
    2.5
    """
    units = Items.of(items).once(units_of)
    if len(units) < len(items):
        statistic = resample_units(statistic, units)
    return BootstrapSamples.compute(statistic, len(units), resamples, seed)


def bootstrap_by_tag(
    benchmark: Benchmark, items: Sequence[Item], scores: Scores, resamples: int, seed: int
) -> dict[str, BootstrapSamples]:
    """Bootstrap the metrics of a benchmark, of all items ("", the first) and of those of each tag.

    >>> class Mine(Benchmark):
    ...     def items(self):
    ...         return [Item(["cat.png"], ["a cat"], tags=("animals",)), Item(["mat.png"], [""])]
    ...
    ...     def metrics(self, items, scores):
    ...         return {"mean": float(np.mean(scores))}
    >>> mine, scores = Mine(), [np.array([[0.25]]), np.array([[0.75]])]
    >>> by_tag = bootstrap_by_tag(mine, mine.items(), scores, resamples=10, seed=0)
    >>> {tag: samples.intervals()["mean"].value for tag, samples in by_tag.items()}
    {'': 0.5, 'animals': 0.25}
    """
    items, scores = Items.of(items), CellArrays.of(scores)
    bootstrap = {}
    for tag in ("", *items.tags):
        tag_items = items.tagged(tag)
        statistic = benchmark.statistic(tag_items, scores.take(items.where(tag)))
        bootstrap[tag] = bootstrap_items(statistic, tag_items, resamples, seed)
    return bootstrap
