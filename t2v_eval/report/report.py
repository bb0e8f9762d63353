"""Reports: runs of scorers on benchmarks, side by side, as JSON, Markdown, CSV and a page.

```text
report.json   all metrics; report.schema.json beside this module describes each field
report.md     the tables of the page, as Markdown
metrics.csv   a row for each metric: benchmark, scorer, tag (empty for all items), items, metric,
              value, low, high, published
scores.csv    a row for each cell: benchmark, item, image, image_name, text_index, text, scorer,
              score, human, error, detail (what the model returned beside it, JSON), tags
              (separated by ";"), generator (whose image it is, of sets of prompts)
samples.npz   the bootstrap samples of each run; see `samples`
report.html   all of it with the images, in one file
```
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias

from matplotlib.figure import Figure

from t2v_eval.api import ScorerOptions, check_entries
from t2v_eval.cards import BenchmarkCard, ModelCard
from t2v_eval.errors import InputError
from t2v_eval.evaluation import comparison
from t2v_eval.evaluation.benchmark import Benchmark, Item, Items
from t2v_eval.evaluation.by_generator import generator_names
from t2v_eval.evaluation.comparison import Difference, excludes_zero, item_name
from t2v_eval.evaluation.human_ratings import HumanRatings, PlacedRatings
from t2v_eval.evaluation.options import BenchmarkOptions, RunOptions
from t2v_eval.evaluation.people import people_of
from t2v_eval.evaluation.run import Run, evaluate
from t2v_eval.evaluation.selection import OnMissing
from t2v_eval.inputs.media import name_of
from t2v_eval.inputs.tables import rescuing, write_table
from t2v_eval.registry import Registry, models
from t2v_eval.registry import benchmarks as cards
from t2v_eval.report import html, markdown, notebook
from t2v_eval.report.about import About
from t2v_eval.report.format import without_nan
from t2v_eval.report.loading import LoadedFolder, load_folder
from t2v_eval.report.reader import SCHEMA_VERSION
from t2v_eval.report.samples import NAME as SAMPLES
from t2v_eval.report.samples import write_samples
from t2v_eval.report.tables import Section, sections
from t2v_eval.scoring.results import Progress
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.stats.bootstrap import Interval, check_count
from t2v_eval.stats.decisions import DecisionCounts, PairDecision
from t2v_eval.stats.permutation import PValue
from t2v_eval.utils.arguments import check_path, wrong_type
from t2v_eval.utils.arrays import CellArrays
from t2v_eval.utils.files import check_folder, write_text

StartRun: TypeAlias = Callable[[Scorer, Benchmark, int], Progress | None]


class Report:
    """Runs side by side, and the differences between their scorers.

    Args:
        runs: results of `evaluate`, in the order in which they are shown.
        about: title, date, command and duration; by default of the runs and of now.
        loaded: the folder that the runs were read from; `load` sets it.

    Raises:
        InputError: something else than runs.

    >>> import t2v_eval
    >>> runs = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5).runs
    >>> Report(runs).labels, Report(runs).to_json()["schema_version"]
    (['tiny-clip'], 2)
    """

    def __init__(
        self,
        runs: Iterable[Run],
        about: About | None = None,
        *,
        loaded: LoadedFolder | None = None,
    ) -> None:
        self.runs = list(runs) if isinstance(runs, Iterable) else [runs]
        if wrong := [run for run in self.runs if not isinstance(run, Run)]:
            raise wrong_type("runs", wrong[0], "the runs that evaluate returns")
        self.about = about or About.of(self.runs)
        self._loaded = loaded

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Rebuild a report from the folder that `write` wrote, or from its ``report.json``.

        The report has its runs with their figures, items, scores and samples, its differences,
        `rows`, `figures` and `to_json`. Images are not in the folder, only their names. Reports of
        earlier versions have what these wrote.

        Args:
            folder: the folder; ``~`` stands for the home.

        Raises:
            InputError: there is no report, it cannot be read, or its files are of different runs.

        >>> import tempfile
        >>> few = {"n": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = compare("tiny-clip", "scenes", benchmark_options=few, resamples=5)
        ...     _ = report.write(folder)
        ...     loaded = Report.load(folder)
        >>> loaded.runs[0].metrics == report.runs[0].metrics, loaded.to_json() == report.to_json()
        (True, True)
        """
        loaded = load_folder(folder)
        about = About.from_json(loaded.content, loaded.runs)
        return cls(loaded.runs, about, loaded=loaded)

    @cached_property
    def labels(self) -> list[str]:
        """Name of the scorer of each run, made unique."""
        return comparison.labels(self.runs)

    @cached_property
    def differences(self) -> list[Difference]:
        """Paired differences of scorers with the same items and resamples; none of mean scores."""
        if self._loaded is not None:
            return list(self._loaded.differences)
        return comparison.differences(self.runs)

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``report.json``, which ``report.schema.json`` describes."""
        if self._loaded is not None:
            return self._loaded.to_json()
        content = {
            "schema_version": SCHEMA_VERSION,
            **self.about.to_json(),
            "runs": [_run_json(run) for run in self.runs],
            "differences": [
                {
                    "benchmark": self.runs[d.first].benchmark.name,
                    "first": self.labels[d.first],
                    "second": self.labels[d.second],
                    "runs": [d.first, d.second],
                    "counts": {"cells": d.cells, "used": d.used},
                    "metrics": _figures(d.metrics, d.tests[""]),
                    "by_tag": {
                        tag: _figures(metrics, d.tests[tag]) for tag, metrics in d.by_tag.items()
                    },
                }
                for d in self.differences
            ],
        }
        plain: dict[str, Any] = without_nan(content)
        return plain

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of ``scores.csv``, one for each cell of each run.

        Raises:
            UnsupportedError: the report was loaded from a folder without ``scores.csv``.
        """
        if self._loaded is not None and not self._loaded.has_scores:
            self._loaded.refuse("scores.csv is", "keep it beside report.json")
        for run, label in zip(self.runs, self.labels, strict=True):
            folders = tuple(facts.folder for facts in run.benchmark.folders)
            cells = Items.of(run.items).once(_cells, folders)
            scores = CellArrays.of(run.scores).cells.tolist()
            benchmark, failures, details = run.benchmark.name, run.failures, run.details
            for cell, score, human in zip(cells, scores, _human(run), strict=True):
                place, identity, image_name, text, tags, generator = cell
                yield {
                    "benchmark": benchmark,
                    "item": identity,
                    "image": place[1],
                    "image_name": image_name,
                    "text_index": place[2],
                    "text": text,
                    "scorer": label,
                    "score": score,
                    "human": human,
                    "error": failures.get(place, ""),
                    "detail": details.get(place, ""),
                    "tags": tags,
                    "generator": generator,
                }

    def figures(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of ``metrics.csv``: each metric of each run, overall and by tag."""
        for run, label in zip(self.runs, self.labels, strict=True):
            published = run.benchmark.published
            for tag, metrics in {"": run.metrics, **run.by_tag}.items():
                for name, interval in metrics.items():
                    yield {
                        "benchmark": run.benchmark.name,
                        "scorer": label,
                        "tag": tag,
                        "items": run.benchmark.tags[tag] if tag else run.benchmark.items,
                        "metric": name,
                        **interval._asdict(),
                        "published": published[name].value
                        if name in published and not tag
                        else None,
                    }

    def to_pandas(self) -> notebook.Frames:
        """Return `figures` and `rows` as two DataFrames of pandas, called figures and scores.

        Raises:
            MissingPackageError: pandas is not installed.
            UnsupportedError: as `rows`.

        >>> import t2v_eval
        >>> few = {"n": 2}
        >>> report = t2v_eval.compare("tiny-clip", "scenes", benchmark_options=few, resamples=5)
        >>> figures, scores = report.to_pandas()
        >>> figures.metric.unique().tolist(), len(scores)
        (['text', 'image', 'group'], 8)
        """
        return notebook.frames(self.figures(), self.rows())

    def plot(self, metrics: Sequence[str] = ()) -> Figure:
        """Draw the metrics of each scorer with their intervals, overall and by tag.

        Args:
            metrics: which to draw; by default the headline and two more of each benchmark.

        Returns:
            A figure of matplotlib, which a notebook shows, and whose `savefig` writes a file.

        Raises:
            InputError: there is no such metric, or no run.

        >>> import t2v_eval
        >>> few = {"n": 2}
        >>> report = t2v_eval.compare("tiny-clip", "scenes", benchmark_options=few, resamples=5)
        >>> [panel.get_title(loc="left") for panel in report.plot(["group"]).axes]
        ['group']
        """
        return notebook.chart(self._sections(), metrics)

    def _repr_html_(self) -> str:
        """Return the first sentences and the tables, which a notebook shows."""
        return notebook.to_html(self._sections())

    def __repr__(self) -> str:
        return notebook.summary(self._sections(), len(self.runs))

    def _sections(self) -> list[Section]:
        return list(sections(self.runs, self.labels, self.differences))

    def write(
        self,
        folder: str | Path,
        *,
        spreadsheet: bool = False,
        image_pixels: int = html.IMAGE_PIXELS,
    ) -> Path:
        """Write the files listed at the top of this module; return the path of the page.

        Args:
            folder: where to write; it is created where it does not exist.
            spreadsheet: whether to make the CSV safe for spreadsheets; see `tables.to_csv`.
            image_pixels: the longer side of the images that the page opens, as far as its size
                allows; 0 for small ones alone.

        Raises:
            InputError: an argument has a wrong type.
            OutputError: the folder cannot be created or written to; the message says where the
                scores are instead. `check_folder` checks it beforehand.
            UnsupportedError: the report was loaded, so its images are not known.
        """
        if self._loaded is not None:
            self._loaded.refuse("images are", "copy the folder to have it elsewhere")
        target = check_path("folder", folder)
        check_count("image_pixels", image_pixels, 0)
        rows = _Rows(self.rows)
        with rescuing(target / "scores.csv", rows):
            path = check_folder(folder)
            write_table(path / "scores.csv", rows, spreadsheet)
            write_table(path / "metrics.csv", list(self.figures()), spreadsheet)
            write_samples(path / SAMPLES, self.runs)
            content = json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
            write_text(path / "report.json", content + "\n")
            parts = self.runs, self.labels, self.differences, self.about
            write_text(path / "report.md", markdown.render(*parts))
            write_text(path / "report.html", html.render(*parts, image_pixels))
        return path / "report.html"


def compare(
    scorers: Scorer | ModelCard | str | Iterable[Scorer | ModelCard | str],
    benchmarks: Benchmark | BenchmarkCard | str | Iterable[Benchmark | BenchmarkCard | str],
    *,
    progress: StartRun | bool | None = None,
    root: str | Path | None = None,
    images: Sequence[str | Path] | None = None,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    benchmark_options: Mapping[str, Any] | None = None,
    subset: str | Sequence[str] | None = None,
    on_missing: OnMissing | None = None,
    limit: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
    noise_floor: bool = True,
    human: str | Path | None = None,
    **options: Any,
) -> Report:
    """Run every scorer on every benchmark, one scorer in memory at a time.

    Args:
        scorers: objects, or names or cards to load; a single one, or several.
        benchmarks: objects, or names or cards to open; a single one, or several.
        progress: see `run_all`; by default a bar in a terminal or a notebook.
        root: the folder of the files of benchmarks that are passed by name.
        images: for sets of prompts, the folder of the images of each generator.
        columns: for tables of your own, the columns that hold each field.
        benchmark_options: other options of benchmarks that are passed by name.
        subset: tags; only items that have one of them are evaluated.
        on_missing: "raise", or "skip" to leave out items whose image files are missing.
        limit: how many items of each benchmark to evaluate at most, chosen at random by `seed`;
            items that are added later leave most of the choice as it is. Default: all.
        resamples: the number of bootstrap resamples, 1 or more.
        seed: their random seed, and that of `limit`.
        noise_floor: whether a few cells are scored again, by scorers that run here.
        human: a file of people's ratings of a part of the prompts, from which and from the scores
            follows what people would say of all images; see `evaluation.human_ratings`.
        options: for scorers that are passed by name, as for `load`.

    Raises:
        UnknownNameError: no such scorer or benchmark; raised before anything is scored.
        InputError: an option that a scorer or benchmark does not have, or options of scorers where
            none is passed by name.

    >>> compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5).labels
    ['tiny-clip']
    """
    on_error, specific = options.get("on_error", "raise"), benchmark_options or {}
    opening = BenchmarkOptions(
        root=root, images=images, columns=columns, on_error=on_error, specific=specific
    )
    loading = ScorerOptions.from_keywords(**options)
    run_options = RunOptions(
        subset=subset,
        limit=limit,
        on_missing=on_missing,
        resamples=resamples,
        seed=seed,
        noise_floor=noise_floor,
        human=human,
    )
    entries = (
        _resolve("scorers", scorers, models, (Scorer, ModelCard)),
        _resolve("benchmarks", benchmarks, cards, (Benchmark, BenchmarkCard)),
    )
    for name in sorted(options.keys() - {"on_error"}):  # which says how benchmarks are read, too
        if entries[0] and all(isinstance(entry, Scorer) for entry in entries[0]):
            raise InputError(
                f"`{name}=` is an option of scorers that are passed by name, and all are objects: "
                "pass it where they are made, to load, from_function or their class"
            )
    return run_all(*entries, loading, opening, run_options, progress)


def run_all(
    scorers: Sequence[Scorer | ModelCard],
    benchmarks: Sequence[Benchmark | BenchmarkCard],
    scorer_options: ScorerOptions,
    benchmark_options: BenchmarkOptions,
    run_options: RunOptions,
    progress: StartRun | bool | None = None,
) -> Report:
    """Run every scorer on every benchmark; `compare` with options as objects.

    Args:
        scorers: objects, or cards to load.
        benchmarks: objects, or cards to open.
        scorer_options: with which cards of scorers are loaded.
        benchmark_options: with which cards of benchmarks are opened.
        run_options: which items are evaluated, and how they are resampled.
        progress: called before each run with the scorer, the benchmark and the number of items; the
            function that it returns gets the counts during the run. Or whether to show a bar, by
            default in a terminal or a notebook.

    Returns:
        The report, whose runs are ordered by benchmark, then by scorer.

    >>> from t2v_eval.registry import benchmarks, models
    >>> scenes = BenchmarkOptions(specific={"n": 2}).open(benchmarks.card("scenes"))
    >>> options = ScorerOptions(device="cpu"), BenchmarkOptions(), RunOptions(resamples=5)
    >>> len(run_all([models.card("tiny-clip")], [scenes], *options).runs)
    1
    """
    if not scorers or not benchmarks:
        raise InputError("compare needs at least one scorer and one benchmark")
    opened = [
        benchmark_options.open(entry) if isinstance(entry, BenchmarkCard) else entry
        for entry in benchmarks
    ]
    selecting = [
        b.selecting(run_options.subset, run_options.on_missing, run_options.sample) for b in opened
    ]
    with_items = [(benchmark, benchmark.selected()) for benchmark in selecting]
    placed = _place_ratings(run_options, with_items)

    cards = [entry for entry in scorers if isinstance(entry, ModelCard)]
    check_entries(cards)
    started = time.perf_counter()
    by_scorer = [
        _evaluate_on_all(
            entry if isinstance(entry, Scorer) else (entry, scorer_options.for_card(entry, cards)),
            with_items,
            run_options,
            progress,
        )
        for entry in scorers
    ]
    runs = [run for of_benchmark in zip(*by_scorer, strict=True) for run in of_benchmark]
    if placed is not None:
        runs = [
            replace(run, people=people_of(run.by_generator(), run.scores, placed)) for run in runs
        ]
    return Report(runs, About.of(runs, time.perf_counter() - started))


def _place_ratings(
    run_options: RunOptions, with_items: Sequence[tuple[Benchmark, Sequence[Item]]]
) -> PlacedRatings | None:
    """Read people's ratings, and find the items that they are of; before anything is scored."""
    if run_options.human is None:
        return None
    ratings = HumanRatings.read(run_options.human)
    (benchmark, items), *others = with_items
    names = generator_names(items, [facts.folder for facts in benchmark.selection.folders])
    if others or not any(name for of_item in names for name in of_item):
        raise InputError(
            f"`human={str(ratings.path)!r}` is for one set of prompts with the images of "
            "generators: evaluate it alone, with `images=[...]`"
        )
    return ratings.place(items, names)


def _evaluate_on_all(
    entry: Scorer | tuple[ModelCard, ScorerOptions],
    with_items: Sequence[tuple[Benchmark, Sequence[Item]]],
    run_options: RunOptions,
    progress: StartRun | bool | None,
) -> list[Run]:
    """Run a scorer on each benchmark with its items; one loaded here is freed at the end."""
    scorer = entry if isinstance(entry, Scorer) else entry[1].load(entry[0])
    return [
        evaluate(
            scorer,
            benchmark,
            items=items,
            progress=progress(scorer, benchmark, len(items)) if callable(progress) else progress,
            resamples=run_options.resamples,
            seed=run_options.seed,
            noise_floor=run_options.noise_floor,
        )
        for benchmark, items in with_items
    ]


def _resolve(
    argument: str, entries: Any, registry: Registry[Any, Any], kinds: tuple[type, ...]
) -> list[Any]:
    """Return scorers or benchmarks as a list in which cards replace names and files."""
    names = (str, os.PathLike)
    is_several = isinstance(entries, Iterable) and not isinstance(entries, (type, Mapping))
    if isinstance(entries, (*names, *kinds)) or not is_several:
        entries = [entries]
    resolved = [registry.card(e) if isinstance(e, names) else e for e in entries]
    for entry in resolved:
        if not isinstance(entry, kinds):
            more = ", which t2v_eval.from_function makes of a function" if callable(entry) else ""
            expected = f"names, files or objects of {kinds[0].__name__}{more}"
            raise wrong_type(argument, entry, expected)
    return resolved


class _Cell(NamedTuple):
    """What the row of a cell says beside its score, which is the same for all scorers.

    Attributes:
        place: the indices of its item, image and text.
    """

    place: tuple[int, int, int]
    item: str
    image_name: str
    text: str
    tags: str
    generator: str


def _cells(items: Items, folders: Sequence[str]) -> list[_Cell]:
    names = items.once(generator_names, folders)
    cells = []
    for n, item in enumerate(items):
        identity, tags = item_name(item, n), ";".join(item.tags)
        for i, image in enumerate(item.images):
            image_name, generator = name_of(image), names[n][i]
            for j, text in enumerate(item.texts):
                cells.append(_Cell((n, i, j), identity, image_name, text, tags, generator))
    return cells


def _human(run: Run) -> Iterator[float | None]:
    """Yield the rating of each cell, or of the video of whose frame it is."""
    for item, ratings, units in zip(run.items, run.human, run.rated_units, strict=True):
        unrated: list[float | None] = [None] * len(item.texts)
        if ratings is None:
            yield from unrated * len(item.images)
            continue
        rows = ratings.tolist()
        if len(item.images) == len(units) == 1:  # as of nearly all large tables
            yield from rows[0]
            continue
        of_image = {i: k for k, unit in reversed(list(enumerate(units))) for i in unit}
        for i in range(len(item.images)):
            yield from rows[of_image[i]] if i in of_image else unrated


def _run_json(run: Run) -> dict[str, Any]:
    scorer = asdict(run.scorer)
    scorer["said"] = scorer.pop("details")
    if not run.scorer.usage:
        del scorer["usage"]
    benchmark = {"name": run.benchmark.name, **asdict(run.benchmark)}
    sample = benchmark.pop("sample")
    recipes = {facts["folder"]: facts.pop("recipe") for facts in benchmark["folders"]}
    recipes = {folder: recipe for folder, recipe in recipes.items() if recipe is not None}
    return {
        "scorer": scorer,
        "benchmark": benchmark,
        **({"sample": sample} if sample else {}),
        "metrics": _figures(run.metrics, run.tests.get("", {})),
        "by_tag": {
            tag: _figures(metrics, run.tests.get(tag, {})) for tag, metrics in run.by_tag.items()
        },
        "counts": {**asdict(run.counts), "used": run.counts.used},
        "errors": dict(run.errors),
        "environment": dict(run.environment),
        "seconds": round(run.seconds, 3),
        "noise_floor": asdict(run.noise_floor),
        "data": asdict(run.data),
        **({"people": run.people.to_json()} if run.people else {}),
        **({"decisions": _decisions_json(run.decisions)} if run.decisions else {}),
        **({"recipe": recipes} if recipes else {}),
    }


class _Rows:
    """Rows that are made anew for each reader, since a million of them need a gigabyte."""

    def __init__(self, rows: Callable[[], Iterator[dict[str, Any]]]) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._rows()


def _decisions_json(decisions: Sequence[PairDecision]) -> dict[str, Any]:
    """Return the decisions on pairs of generators, and how many came to each outcome."""
    return {
        "counts": asdict(DecisionCounts.of(decisions)),
        "pairs": [
            {
                **decision._asdict(),
                "people": decision.people._asdict(),
                "scorer": decision.scorer._asdict(),
                "outcome": decision.outcome,
                "reordered": decision.reordered,
            }
            for decision in decisions
        ],
    }


def _figures(
    metrics: Mapping[str, Interval], tests: Mapping[str, PValue]
) -> dict[str, dict[str, Any]]:
    """Return metrics with their intervals, and the tests of those that are differences."""
    figures: dict[str, dict[str, Any]] = {}
    for name, interval in metrics.items():
        figures[name] = interval._asdict()
        if name in tests:
            figures[name] |= {"excludes_zero": excludes_zero(interval)}
            figures[name] |= tests[name]._asdict() | {"significant": tests[name].significant}
    return figures
