"""Run a scorer on a benchmark: score its items, and compute metrics, intervals and tests."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import metadata
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2v_eval.cards import BenchmarkCard
from t2v_eval.errors import InputError
from t2v_eval.evaluation.benchmark import (
    Benchmark,
    Contrast,
    Item,
    Items,
    Scores,
    bootstrap_by_tag,
)
from t2v_eval.evaluation.by_generator import (
    ByGenerator,
    by_generator,
    generator_name,
    generator_names,
)
from t2v_eval.evaluation.data_hash import DataHashes, items_sha256
from t2v_eval.evaluation.options import RunOptions
from t2v_eval.evaluation.people import People
from t2v_eval.evaluation.ratings.judging import item_blocks
from t2v_eval.evaluation.sampling import Sample
from t2v_eval.evaluation.selection import OnMissing, SelectionFacts
from t2v_eval.evaluation.stability.noise_floor import NoiseFloor, measure
from t2v_eval.evaluation.verdicts import VerdictFacts, named_in, verdicts_of
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.progress import reporting
from t2v_eval.scoring.results import CellCounts, Progress, ScoringResult
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.stats.agreement_metrics import METRICS
from t2v_eval.stats.bootstrap import BootstrapSamples, Interval, Statistic
from t2v_eval.stats.decisions import PairDecision, decide
from t2v_eval.stats.metrics import FloatArray
from t2v_eval.stats.permutation import PValue, corrected, sign_flip
from t2v_eval.utils.arguments import wrong_type
from t2v_eval.utils.arrays import CellArrays


@dataclass(frozen=True, slots=True)
class DetailSummary:
    """A number that the model returned beside its scores, summarized over cells.

    Attributes:
        mean, lowest: of the cells that have it.
        n: the number of these cells.

    >>> summarize_details(['{"listed": 0.5}', '{"listed": 1.0}'])["listed"]
    DetailSummary(mean=0.75, lowest=0.5, n=2)
    """

    mean: float
    lowest: float
    n: int


@dataclass(frozen=True, slots=True)
class PublishedFigure:
    """The published value of a metric of one scorer, and where it was published.

    Attributes:
        value: the value.
        source: where it was published.
        name: the name of the scorer there; "" where a report of an earlier version lacks it.

    >>> PublishedFigure(0.46, "Table 2 of the paper").value
    0.46
    """

    value: float
    source: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """All published values of a metric, and where they were published.

    Attributes:
        values: the value of each scorer by its name there.
        source: where they were published.

    >>> PublishedTable({"HPSv3": 0.6}, "Table 2 of the paper").of_scorer(["hpsv3", "HPSv3"])
    PublishedFigure(value=0.6, source='Table 2 of the paper', name='HPSv3')
    """

    values: Mapping[str, float]
    source: str

    def of_scorer(self, names: Sequence[str]) -> PublishedFigure | None:
        """Return the figure of a scorer, whose names are its `ModelCard.known_as`."""
        name = named_in(self.values, names)
        return PublishedFigure(self.values[name], self.source, name) if name else None


@dataclass(frozen=True, slots=True)
class ScorerFacts:
    """What a report says about the scorer of a run; a run's JSON has it under "scorer".

    Attributes:
        name, id, kind, summary: of the scorer; equal ids give equal scores.
        question, answer: its templates in this run.
        truncated_texts: the number of texts that are longer than the model reads.
        cautions: what a reader of the scores should know.
        execution: device, dtype, batch sizes and what else decides speed.
        details: numbers that the model returned beside its scores; "said" in a run's JSON.
        usage: requests, tokens and US dollars of an API; empty for a scorer that runs locally.
        verdicts: how often its verdicts matched people's, where a card of a benchmark says so.

    >>> facts = ScorerFacts("mine", "mine v1", "clip", "", question="{}", answer="")
    >>> facts.truncated_texts
    0
    """

    name: str
    id: str
    kind: str
    summary: str
    question: str
    answer: str
    truncated_texts: int = 0
    cautions: Sequence[str] = ()
    execution: Mapping[str, object] = field(default_factory=dict)
    details: Mapping[str, DetailSummary] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)
    verdicts: Sequence[VerdictFacts] = ()


@dataclass(frozen=True, slots=True)
class BenchmarkFacts(SelectionFacts):
    """What a report says about the benchmark of a run; a run's JSON has it under "benchmark".

    Attributes:
        name, summary, note: of the benchmark.
        items: the number of items that were evaluated.
        headline: the metric that scorers are ranked by.
        chance: the value that guessing reaches, by metric.
        meanings: each metric in plain words, with its range.
        pooled: whether metrics compare cells of different items with each other.
        published: published figures of this scorer, by metric; only for the whole benchmark.
        published_tables: those of all scorers, by metric, from which `published` follows.
        tags: the number of items with each tag.
        resamples, seed: of the bootstrap.
        sample: the random part of the items that was evaluated, where it was limited; a run's JSON
            has it under "sample".
        labels_by: "people" or "truth"; see `Benchmark`.

    >>> import t2v_eval
    >>> from t2v_eval.evaluation.options import open_benchmark
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu")
    >>> evaluate(scorer, open_benchmark("scenes", n=2), resamples=5).benchmark.headline
    'group'
    """

    name: str
    items: int
    summary: str
    note: str
    headline: str
    chance: Mapping[str, float]
    meanings: Mapping[str, str]
    pooled: bool
    published: Mapping[str, PublishedFigure]
    tags: Mapping[str, int]
    resamples: int
    seed: int
    labels_by: str = "people"
    sample: Sample | None = None
    published_tables: Mapping[str, PublishedTable] = field(default_factory=dict)


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
        statistic_of: `Benchmark.statistic`, for differences between runs.
        paired_statistic_of: `Benchmark.paired_statistic`, for tests between runs.
        decisions: what people and the scorer decide on each pair of generators, where people rated
            images of several.
        people: what people would say of the generators, where they rated a part of the prompts.
        data: hashes of the items and of their images.
        noise_floor: how much scores change when they are computed again.

    >>> import t2v_eval
    >>> from t2v_eval.evaluation.options import open_benchmark
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu")
    >>> run = evaluate(scorer, open_benchmark("scenes", n=2), resamples=5)
    >>> run.counts.cells, run.counts.used, [scores.shape for scores in run.scores]
    (8, 8, [(2, 2), (2, 2)])
    """

    scorer: ScorerFacts
    benchmark: BenchmarkFacts
    metrics: Mapping[str, Interval]
    by_tag: Mapping[str, Mapping[str, Interval]]
    counts: CellCounts
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
    paired_statistic_of: Callable[[Sequence[Item], Scores, Scores], Statistic] = field(repr=False)
    decisions: Sequence[PairDecision] = ()
    people: People | None = None
    data: DataHashes = field(default_factory=DataHashes)
    noise_floor: NoiseFloor = field(default_factory=lambda: NoiseFloor(reason="it is unknown"))

    def __repr__(self) -> str:
        headline = self.benchmark.headline
        metrics = sorted(self.metrics, key=lambda name: name != headline)
        facts = [
            f"{self.benchmark.items} items",
            f"{self.counts.used} of {self.counts.cells} scores",
        ]
        facts += [
            f"{name} {value:.3f} [{low:.3f}, {high:.3f}]"
            for name, (value, low, high) in ((name, self.metrics[name]) for name in metrics[:3])
        ]
        return f"<Run of {self.scorer.name!r} on {self.benchmark.name!r}: {', '.join(facts)}>"

    def generator_of(self, item: int, image: int) -> str:
        """Return the generator of an image of an item, or "" where the benchmark has none.

        Args:
            item: the index of the item.
            image: the index of the image in it.
        """
        folders = [facts.folder for facts in self.benchmark.folders]
        return generator_name(self.items[item], image, folders)

    def by_generator(self) -> ByGenerator:
        """Return the mean scores and ratings of each prompt and generator.

        Without items, or without generators, the table has no column.
        """
        folders = tuple(facts.folder for facts in self.benchmark.folders)
        names = Items.of(self.items).once(generator_names, folders)
        return by_generator(self.items, names, self.rated_units, self.scores, self.human)


def evaluate(
    scorer: Scorer,
    benchmark: Benchmark,
    *,
    items: Sequence[Item] | None = None,
    progress: Progress | bool | None = None,
    resamples: int = 1000,
    seed: int = 0,
    subset: str | Sequence[str] | None = None,
    on_missing: OnMissing | None = None,
    limit: int | None = None,
    noise_floor: bool = True,
    question_template: str | None = None,
    answer_template: str | None = None,
    template: str | None = None,
) -> Run:
    """Score every item of `benchmark` and compute its metrics, overall and for each tag.

    Args:
        scorer: a loaded scorer.
        benchmark: an open benchmark.
        items: what `benchmark.selected()` returned, if it has been called already.
        progress: called with the counts as they grow; or whether to show a bar, by default in a
            terminal or a notebook.
        resamples: the number of bootstrap resamples behind the 95 % intervals, 1 or more.
        seed: the random seed of the bootstrap and of the tests.
        subset: tags; only items that have one of them are evaluated.
        on_missing: "raise", or "skip" to leave out items whose image files are missing.
        limit: how many items to evaluate at most, chosen at random by `seed`; default: all.
        noise_floor: whether a few cells are scored again, by a scorer that runs here.
        question_template: the question; ``{}`` stands for the text.
        answer_template: the answer whose probability is the score.
        template: the name of a question and answer template.

    Raises:
        BenchmarkDataError: the benchmark's files are missing.
        InputError: there are no items, (`MediaError`) an image cannot be read, or an argument has a
            wrong type.

    >>> import t2v_eval
    >>> from t2v_eval.evaluation.options import open_benchmark
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu")
    >>> run = evaluate(scorer, open_benchmark("scenes", n=2), resamples=5)
    >>> list(run.metrics)
    ['text', 'image', 'group']
    """
    if not isinstance(scorer, Scorer):
        raise wrong_type("scorer", scorer, "an object, which t2v_eval.load returns of a name")
    if not isinstance(benchmark, Benchmark):
        opened = "an object, which open_benchmark returns of a name; compare takes names"
        raise wrong_type("benchmark", benchmark, opened)
    options = RunOptions(limit=limit, resamples=resamples, seed=seed)
    selected = benchmark.selecting(subset, on_missing, options.sample)
    items = _items_to_evaluate(selected, items, chosen=selected is benchmark)
    scorer = for_benchmark(scorer, benchmark)
    bound = scorer.with_template(question_template, answer_template, template)
    blocks = item_blocks(bound, items, benchmark.of_pairs)
    with reporting(progress, f"{scorer.name} on {benchmark.name}") as report:
        scored = _score(scorer, bound, blocks, report)
    run = with_decisions(_analyze(scorer, selected, items, scored, options))
    if not noise_floor:
        return replace(run, noise_floor=NoiseFloor(reason="it was switched off"))
    return replace(run, noise_floor=measure(bound, blocks, scored.result.scores))


def environment(scorer: Scorer) -> dict[str, str]:
    """Return the versions of Python and packages, the platform and the device of a scorer.

    >>> import t2v_eval
    >>> environment(t2v_eval.load("tiny-clip", device="cpu"))["device"]
    'cpu'
    """
    return package_versions() | {"device": str(getattr(scorer, "device", "remote"))}


def package_versions() -> dict[str, str]:
    """Return the versions of Python and packages, and the platform.

    >>> sorted(package_versions())[:2]
    ['numpy', 'open_clip_torch']
    """
    packages = ("t2v-eval", "torch", "transformers", "open_clip_torch", "pillow", "numpy")
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def summarize_details(details: Iterable[str]) -> dict[str, DetailSummary]:
    """Summarize the numbers in the details of cells.

    Args:
        details: JSON of each cell; only numbers of objects count.

    >>> summarize_details(['{"p": 0.5, "text": "yes"}', "[]"])
    {'p': DetailSummary(mean=0.5, lowest=0.5, n=1)}
    """
    numbers: dict[str, list[float]] = {}
    for detail in details:
        values = json.loads(detail)
        for name, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                numbers.setdefault(name, []).append(value)
    return {
        name: DetailSummary(math.fsum(values) / len(values), min(values), len(values))
        for name, values in numbers.items()
    }


def _items_to_evaluate(benchmark: Benchmark, items: Sequence[Item] | None, chosen: bool) -> Items:
    """Read the items, or restrict those that were read before unless that was done already."""
    if items is None:
        items = benchmark.selected()
    elif not chosen:
        items = benchmark.selection.choose(items)
    if not items:
        raise InputError(f"benchmark {benchmark.name!r} has no items")
    return Items.of(items)


class _Scored(NamedTuple):
    """The scores of a run, before metrics are computed."""

    facts: ScorerFacts
    result: ScoringResult
    seconds: float


def _score(scorer: Scorer, bound: Scorer, blocks: Sequence[Block], progress: Progress) -> _Scored:
    """Score the blocks with `bound`, the scorer with the templates of the run."""
    bound.reset_size_warning()
    # The id comes before scoring: it raises if weight files change on disk during the run.
    bound_id = bound.id
    started = time.perf_counter()
    result = bound.evaluate_blocks(blocks, progress)
    seconds = time.perf_counter() - started
    return _Scored(_scorer_facts(scorer, bound, bound_id, result), result, seconds)


def _analyze(
    scorer: Scorer,
    benchmark: Benchmark,
    items: Items,
    scored: _Scored,
    options: RunOptions,
) -> Run:
    """Compute metrics, intervals and tests of finished scores."""
    result = scored.result
    scores = CellArrays.of(result.scores)
    statistic = benchmark.statistic(items, scores)
    bootstrap = bootstrap_by_tag(benchmark, items, scores, options.resamples, options.seed)
    intervals = {tag: samples.intervals() for tag, samples in bootstrap.items()}
    contrasts = benchmark.contrasts(items, scores)
    return Run(
        scorer=scored.facts,
        benchmark=_benchmark_facts(benchmark, scorer, items, bootstrap),
        metrics=intervals.pop(""),
        by_tag=intervals,
        counts=result.counts,
        errors=result.errors,
        environment=environment(scorer),
        seconds=scored.seconds,
        items=items,
        scores=scores,
        verdicts=[_defined(statistic(np.array([n]))) for n in range(len(items))],
        failures=result.failures,
        details=result.details,
        rated_units=items.each(benchmark.rated_units),
        human=items.each(benchmark.human),
        bootstrap=bootstrap,
        contrasts=list(contrasts),
        tests=_test_contrasts(contrasts, items, list(bootstrap), options.seed),
        statistic_of=benchmark.statistic,
        paired_statistic_of=benchmark.paired_statistic,
        data=DataHashes(items.once(_sha256_of, benchmark), result.images_sha256),
    )


def _sha256_of(items: Items, benchmark: Benchmark) -> str:
    return items_sha256(items, items.each(benchmark.human))


def for_benchmark(scorer: Scorer, benchmark: Benchmark) -> Scorer:
    """Return a scorer that has of a benchmark what it lacks: questions, or what images should show.

    Args:
        scorer: any scorer.
        benchmark: the benchmark.

    Raises:
        UnsupportedError: the benchmark does not have it.

    >>> import t2v_eval
    >>> from t2v_eval.evaluation.options import open_benchmark
    >>> scorer = t2v_eval.load("dsg", vlm="tiny-clip-flant5", device="cpu")
    >>> len(for_benchmark(scorer, open_benchmark("scenes", n=2)).questions.items)
    4
    """
    bound: Scorer = scorer
    if getattr(scorer, "needs_questions", False):
        bound = scorer.with_questions(benchmark.questions(scorer.rule))  # type: ignore[attr-defined]
    elif getattr(scorer, "needs_requirements", False):
        bound = scorer.with_requirements(benchmark.requirements())  # type: ignore[attr-defined]
    elif getattr(scorer, "needs_target_texts", False):
        bound = scorer.with_target_texts(benchmark.target_texts())  # type: ignore[attr-defined]
    return bound


def with_decisions(run: Run) -> Run:
    """Return a run with the decisions of people and scorer, where people rated generators.

    Args:
        run: any run; one without ratings of several generators stays as it is.

    >>> import t2v_eval
    >>> report = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5)
    >>> with_decisions(report.runs[0]).decisions
    ()
    """
    table = run.by_generator() if run.benchmark.labels_by == "people" else None
    if table is None or not table.is_rated:
        return run
    sides = table.ratings, table.scores, table.generators
    return replace(run, decisions=decide(*sides, groups=table.groups, seed=run.benchmark.seed))


def _scorer_facts(
    scorer: Scorer, bound: Scorer, bound_id: str, result: ScoringResult
) -> ScorerFacts:
    return ScorerFacts(
        name=scorer.name,
        id=bound_id,
        kind=scorer.card.kind,
        summary=scorer.card.summary,
        question=bound.template.question,
        answer=bound.template.answer,
        truncated_texts=result.truncated,
        cautions=list(result.cautions),
        execution=dict(getattr(bound, "execution", {})),
        details=summarize_details(result.details.values()),
        usage=dict(result.usage),
        verdicts=verdicts_of(*scorer.card.known_as),
    )


def _benchmark_facts(
    benchmark: Benchmark,
    scorer: Scorer,
    items: Items,
    bootstrap: Mapping[str, BootstrapSamples],
) -> BenchmarkFacts:
    overall = bootstrap[""]
    selection = benchmark.selection.facts(len(items))
    tables = _published_tables(benchmark.card) if benchmark.selection.whole else {}
    figures = {metric: table.of_scorer(scorer.card.known_as) for metric, table in tables.items()}
    return BenchmarkFacts(
        **{f.name: getattr(selection, f.name) for f in fields(selection)},
        name=benchmark.name,
        items=len(items),
        summary=benchmark.card.summary,
        note=benchmark.card.note,
        headline=benchmark.headline or next(iter(overall.value)),
        chance=dict(benchmark.chance),
        meanings={name: _meaning(benchmark, name) for name in overall.value},
        pooled=benchmark.pooled,
        published={metric: figure for metric, figure in figures.items() if figure},
        tags={tag: len(items.where(tag)) for tag in bootstrap if tag},
        resamples=overall.resamples,
        seed=overall.seed,
        labels_by=benchmark.labels_by,
        sample=benchmark.selection.sample,
        published_tables=tables,
    )


def _meaning(benchmark: Benchmark, metric: str) -> str:
    registered = METRICS.get(metric)
    return benchmark.meanings.get(metric, registered.meaning if registered else "")


def _published_tables(card: BenchmarkCard) -> dict[str, PublishedTable]:
    """Return what the card of a benchmark says was published, by metric."""
    values = {
        metric: {name: value for name, value in figures.items() if name != "source"}
        for metric, figures in card.published.items()
    }
    return {
        metric: PublishedTable(of_metric, card.published[metric].get("source", ""))
        for metric, of_metric in values.items()
        if of_metric
    }


def _test_contrasts(
    contrasts: Mapping[Contrast, FloatArray], items: Items, tags: Sequence[str], seed: int
) -> dict[str, dict[str, PValue]]:
    p = {
        (tag, f"{first} - {second}"): sign_flip(values[items.where(tag)], seed=seed)
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
