"""Rebuild the runs of a report from its folder: figures, scores, samples; images are not in it."""

from __future__ import annotations

import copy
import csv
import io
import math
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, fields, replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import InputError, TableError, UnsupportedError
from t2v_eval.evaluation.benchmark import Contrast, Item, Items
from t2v_eval.evaluation.comparison import Difference
from t2v_eval.evaluation.data_hash import DataHashes
from t2v_eval.evaluation.people import People, PeopleDifference
from t2v_eval.evaluation.run import (
    BenchmarkFacts,
    DetailSummary,
    PublishedFigure,
    PublishedTable,
    Run,
    ScorerFacts,
)
from t2v_eval.evaluation.sampling import Sample
from t2v_eval.evaluation.selection import FolderFacts, LeftOut
from t2v_eval.evaluation.stability.noise_floor import NoiseFloor
from t2v_eval.evaluation.verdicts import VerdictFacts
from t2v_eval.report.reader import read_report
from t2v_eval.report.samples import NAME as SAMPLES
from t2v_eval.report.samples import RunSamples, read_samples
from t2v_eval.scoring.results import CellCounts
from t2v_eval.stats.bootstrap import IntArray, Interval
from t2v_eval.stats.decisions import DecisionCounts, Mean, PairDecision
from t2v_eval.stats.permutation import PValue
from t2v_eval.stats.prediction_powered import PredictionPowered
from t2v_eval.utils.arguments import check_path
from t2v_eval.utils.arrays import CellArrays
from t2v_eval.utils.regular_file import open_regular

_Row: TypeAlias = Mapping[str, str]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class LoadedFolder:
    """What is known of a report that was loaded.

    Attributes:
        folder: where it lies.
        content: its ``report.json``, in the form of this version.
        runs: its runs; without items where there is no ``scores.csv``, without samples where there
            is no ``samples.npz``.
        differences: the differences in ``report.json``.

    >>> LoadedFolder(Path("report"), {}, [], []).has_scores
    False
    """

    folder: Path
    content: Mapping[str, Any]
    runs: Sequence[Run]
    differences: Sequence[Difference]

    @property
    def has_scores(self) -> bool:
        """Return whether the scores of the items are known."""
        return any(run.items for run in self.runs)

    def to_json(self) -> dict[str, Any]:
        """Return a copy of the content of its ``report.json``."""
        return copy.deepcopy(dict(self.content))

    def refuse(self, what: str, remedy: str) -> NoReturn:
        """Raise an error that says that something is not in the folder.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(f"{what} not in {self.folder}, of which this report is: {remedy}")


def load_folder(folder: str | Path) -> LoadedFolder:
    """Read the folder of a report, or its ``report.json`` and what lies beside it.

    Raises:
        InputError: there is no report, it cannot be read, or its files are of different runs.

    >>> load_folder("no-such-report")
    Traceback (most recent call last):
    ...
    t2v_eval.errors.InputError: no-such-report: no such folder or report.json
    """
    path = check_path("folder", folder)
    if path.is_dir():
        file = path / "report.json"
        if not file.exists():
            raise InputError(
                f"{path} holds no report.json: pass a folder that --out or Report.write wrote"
            )
    elif path.exists():
        path, file = path.parent, path
    else:
        raise InputError(f"{path}: no such folder or report.json")
    content = read_report(file)
    try:
        runs = [_run_of(run) for run in content["runs"]]
        differences = [_difference_of(difference) for difference in content["differences"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{file} is not a report: {error!r} while its runs and differences were read; pass a "
            "report.json that t2v-eval wrote"
        ) from error
    samples: Sequence[RunSamples | None] = [None] * len(runs)
    if (path / SAMPLES).exists():
        samples = read_samples(path / SAMPLES, len(runs))
    if (path / "scores.csv").exists():
        runs = list(_with_scores(runs, samples, path / "scores.csv"))
    runs = [
        _with_samples(run, run_samples, path)
        for run, run_samples in zip(runs, samples, strict=True)
    ]
    return LoadedFolder(path, content, runs, differences)


def _build(kind: type[_T], content: Mapping[str, Any], **others: Any) -> _T:
    """Make a data class of the keys of JSON that are its fields; later versions may have more."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{key: value for key, value in content.items() if key in names} | others)


def _run_of(content: Mapping[str, Any]) -> Run:
    """Return a run of report.json without its items and samples."""
    benchmark = _benchmark_of(content)
    tests = {tag: _tests(content["metrics"] if not tag else content["by_tag"][tag])
             for tag in ("", *content["by_tag"])}  # fmt: skip
    tests = {tag: results for tag, results in tests.items() if results}
    metrics = _intervals(content["metrics"])
    return Run(
        scorer=_scorer_of(content["scorer"]),
        benchmark=benchmark,
        metrics=metrics,
        by_tag={tag: _intervals(figures) for tag, figures in content["by_tag"].items()},
        counts=_build(CellCounts, content["counts"]),
        errors=dict(content["errors"]),
        environment=dict(content["environment"]),
        seconds=float(content["seconds"]),
        items=[],
        scores=[],
        verdicts=[],
        failures={},
        details={},
        rated_units=[],
        human=[],
        bootstrap={},
        contrasts=_contrasts(list(metrics), tests.get("", {})),
        tests=tests,
        statistic_of=_no_statistic,
        paired_statistic_of=_no_statistic,
        people=_people(content["people"]) if "people" in content else None,
        decisions=[_decision(pair) for pair in content.get("decisions", {}).get("pairs", [])],
        data=_build(DataHashes, content.get("data", {})),
        noise_floor=_noise_floor(content.get("noise_floor")),
    )


def _scorer_of(content: Mapping[str, Any]) -> ScorerFacts:
    details = {
        name: _build(DetailSummary, summary) for name, summary in content.get("said", {}).items()
    }
    verdicts = [
        _build(VerdictFacts, verdict, decisions=counts and _build(DecisionCounts, counts))
        for verdict in content.get("verdicts", [])
        for counts in [verdict.get("decisions")]
    ]
    return _build(ScorerFacts, content, details=details, verdicts=verdicts)


def _decision(content: Mapping[str, Any]) -> PairDecision:
    people, scorer = (
        Mean(_number(content[side]["difference"]), _number(content[side]["p"]))
        for side in ("people", "scorer")
    )
    names = str(content["first"]), str(content["second"])
    return PairDecision(*names, people, scorer, int(content["prompts"]))


def _people(content: Mapping[str, Any]) -> People:
    differences = [
        PeopleDifference(
            str(difference["first"]),
            str(difference["second"]),
            _estimate(difference),
            PValue(_number(difference["p"]), _number(difference["p_holm"])),
        )
        for difference in content["differences"]
    ]
    means = {name: _estimate(mean) for name, mean in content["means"].items()}
    remarks = tuple(content["remarks"])
    return People(str(content["file"]), int(content["prompts"]), means, differences, remarks)


def _estimate(content: Mapping[str, Any]) -> PredictionPowered:
    intervals = _intervals({"powered": content, "alone": content["ratings_alone"]})
    return PredictionPowered(
        intervals["powered"],
        _number(content["error"]),
        _number(content["p"]),
        intervals["alone"],
        float(content["weight"]),
        int(content["rated"]),
        int(content["scored"]),
    )


def _noise_floor(content: Mapping[str, Any] | None) -> NoiseFloor:
    if content is None:
        return NoiseFloor(reason="it is unknown")
    return _build(
        NoiseFloor, content, max=_number(content.get("max")), mean=_number(content.get("mean"))
    )


def _benchmark_of(run: Mapping[str, Any]) -> BenchmarkFacts:
    content, sample, recipes = run["benchmark"], run.get("sample"), run.get("recipe", {})
    published = {
        metric: _build(PublishedFigure, figure) for metric, figure in content["published"].items()
    }
    tables = {
        metric: _build(PublishedTable, table)
        for metric, table in content.get("published_tables", {}).items()
    }
    folders = [
        _build(FolderFacts, folder, recipe=recipes.get(folder["folder"]))
        for folder in content["folders"]
    ]
    left_out = _build(LeftOut, content["left_out"])
    return _build(
        BenchmarkFacts,
        content,
        published=published,
        published_tables=tables,
        folders=folders,
        left_out=left_out,
        sample=_build(Sample, sample) if sample else None,
    )


def _difference_of(content: Mapping[str, Any]) -> Difference:
    first, second = content["runs"]
    by_tag = content["by_tag"]
    return Difference(
        first=first,
        second=second,
        metrics=_intervals(content["metrics"]),
        by_tag={tag: _intervals(figures) for tag, figures in by_tag.items()},
        tests={tag: _tests(figures) for tag, figures in {"": content["metrics"], **by_tag}.items()},
        cells=content.get("counts", {}).get("cells", 0),
        used=content.get("counts", {}).get("used", 0),
    )


def _intervals(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, Interval]:
    return {
        name: Interval(*(_number(figure[key]) for key in Interval._fields))
        for name, figure in figures.items()
    }


def _tests(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, PValue]:
    return {
        name: PValue(_number(figure["p"]), _number(figure["p_holm"]))
        for name, figure in figures.items()
        if "p" in figure
    }


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _contrasts(metrics: Sequence[str], tests: Mapping[str, PValue]) -> list[Contrast]:
    """Return the pairs of metrics whose difference is a tested metric, called "a - b"."""
    return [
        (first, second)
        for first, second in combinations([name for name in metrics if name not in tests], 2)
        if f"{first} - {second}" in tests
    ]


def _no_statistic(*_: Any) -> NoReturn:
    raise UnsupportedError(
        "runs of a report that was loaded cannot be resampled or compared anew: only the benchmark "
        "can compute its metrics; evaluate the scorers in one `compare`, or use `t2v-eval gate`"
    )


def _with_samples(run: Run, samples: RunSamples | None, folder: Path) -> Run:
    if samples is None:
        return run
    if len(samples.units) != run.benchmark.items or set(samples.metrics) != set(run.metrics):
        raise InputError(
            f"{folder / SAMPLES} is of another run than the report.json beside it: its items or "
            "metrics differ; write the report anew"
        )
    return replace(run, bootstrap={"": samples.bootstrap(run.benchmark.seed)})


def _with_scores(
    runs: Sequence[Run], samples: Sequence[RunSamples | None], path: Path
) -> Iterator[Run]:
    """Yield the runs with the items of ``scores.csv``, whose rows are ordered by run and item.

    The rows of a run are read at a time, since a million of them are large. Runs mostly have the
    same items, which are made once.
    """
    loaded: list[tuple[Any, _RunItems]] = []
    expected = 0
    with open_regular(path) as stream:
        table = _Table(stream, path)
        for run, run_samples in zip(runs, samples, strict=True):
            expected += run.benchmark.items
            rows = table.read(run.benchmark.items)
            if table.items < expected:
                break
            units = _units(run, run_samples)
            folders = [facts.folder for facts in run.benchmark.folders]
            key = folders, run.benchmark.tags, units.tolist(), rows.of_items
            run_items = next((items for of_run, items in loaded if of_run == key), None)
            if run_items is None:
                run_items = _RunItems.of(run, rows, units, path)
                loaded.append((key, run_items))
            yield run_items.with_scores(run, rows)
        table.read(sys.maxsize)
    if table.items != (expected := sum(run.benchmark.items for run in runs)):
        raise TableError(
            f"{path} has {table.items} items and the report.json beside it {expected}: they are "
            "of different runs; write the report anew"
        )


def _units(run: Run, samples: RunSamples | None) -> IntArray:
    """Return the unit of each item; without samples each is one of its own."""
    if samples and len(samples.units) == run.benchmark.items:
        return samples.units
    return np.arange(run.benchmark.items)


_TEXTS = ("item", "text", "tags")


class _RunRows(NamedTuple):
    """The rows of a run, column by column.

    Attributes:
        places: the image and the text of each.
        scores, ratings: numbers; NaN is missing.
        of_items: the columns that are equal for scorers on the same items.
        errors, details: why a score is missing, and what the model returned beside it.
    """

    places: Sequence[tuple[int, int]]
    scores: Sequence[float]
    ratings: Sequence[float]
    of_items: Mapping[str, Sequence[str]]
    errors: Sequence[str]
    details: Sequence[str]


class _Table:
    """The rows of ``scores.csv``, of which those of some items are read at a time.

    Attributes:
        items: the number of items that were read so far.
    """

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        csv.field_size_limit(2**31 - 1)
        self._inert = stream.read(1) == b'"'  # as tables for spreadsheets are
        stream.seek(0)
        lines = csv.reader(io.TextIOWrapper(stream, "utf-8-sig", newline=""), strict=True)
        self._path, self._rows, self.items = path, enumerate(row for row in lines if row), 0
        self._header: list[str] = []
        self._next: tuple[int, list[str]] = 0, []

    def read(self, items: int) -> _RunRows:
        """Return the rows of the next items, each of which begins with the first text of an image.

        Raises:
            TableError: a row cannot be read.
        """
        try:
            if not self._header:
                self._header = next(self._rows, (0, [""]))[1]
                self._next = next(self._rows, self._next)
            return self._read(self.items + items)
        except (KeyError, ValueError, csv.Error) as error:
            raise TableError(
                f"{self._path}, row {self._next[0]}: {error!r}; pass a table that Report.write "
                "wrote"
            ) from None

    def _read(self, end: int) -> _RunRows:
        rows: list[list[str]] = []
        places: list[tuple[int, int]] = []
        scores: list[float] = []
        ratings: list[float] = []
        column = {name: k for k, name in enumerate(self._header)}
        image, text, score = (column[name] for name in ("image", "text_index", "score"))
        while row := self._next[1]:
            place = int(row[image]), int(row[text])
            if place == (0, 0) or not rows:
                if self.items == end:
                    break
                self.items += 1
            rows.append(row)
            places.append(place)
            scores.append(float(row[score]) if row[score] else math.nan)
            rating = row[column["human"]]
            ratings.append(float(rating) if rating else math.nan)
            self._next = next(self._rows, (0, []))
        columns = dict(zip(self._header, zip(*rows, strict=True), strict=True)) if rows else {}
        for name in _TEXTS if rows else ():
            columns[name] = tuple(map(_as_written, columns[name])) if self._inert else columns[name]
        none = ("",) * len(rows)
        errors, details = columns.pop("error", none), columns.pop("detail", none)
        of_items = {n: c for n, c in columns.items() if n not in ("benchmark", "scorer", "score")}
        return _RunRows(places, scores, ratings, of_items, errors, details)


def _as_written(text: str) -> str:
    """Return a text without the apostrophe that keeps a spreadsheet from calculating."""
    return text[1:] if text[:1] == "'" else text


class _RunItems(NamedTuple):
    """The items of a run, and what else is equal for scorers on the same items.

    Attributes:
        items: the items.
        human: their ratings.
        rated_units: one for each image.
        places: the item, image and text of each row.
        cells: arrays in the shape of their scores.
    """

    items: Items
    human: Sequence[NDArray[np.float64] | None]
    rated_units: Sequence[Sequence[Sequence[int]]]
    places: Sequence[tuple[int, int, int]]
    cells: CellArrays

    @classmethod
    def of(cls, run: Run, rows: _RunRows, units: IntArray, path: Path) -> _RunItems:
        """Make the items of a run's rows.

        Args:
            run: the run.
            rows: its rows.
            units: the unit of each item.
            path: the table, for messages.
        """
        members = np.bincount(units)
        folders = {facts.folder: k for k, facts in enumerate(run.benchmark.folders)}
        tags = set(run.benchmark.tags)
        blocks = list(_Block.of_rows(rows, path))
        items = Items(
            block.item(folders, tags, str(unit) if members[unit] > 1 else "")
            for block, unit in zip(blocks, units.tolist(), strict=True)
        )
        human = [block.human() for block in blocks]
        places = [(n, *place) for n, block in enumerate(blocks) for place in block.places]
        shapes = [(len(block.images), len(block.texts)) for block in blocks]
        single = set(shapes) == {(1, 1)}
        cells = CellArrays(np.zeros(len(places)), None if single else shapes)
        return cls(items, human, [[[i] for i in range(m)] for m, _ in shapes], places, cells)

    def with_scores(self, run: Run, rows: _RunRows) -> Run:
        """Return the run with these items and the scores of its rows."""
        return replace(
            run,
            items=self.items,
            scores=self.cells.with_cells(np.array(rows.scores, np.float32)),
            verdicts=[{}] * len(self.items),
            failures={p: error for p, error in zip(self.places, rows.errors, strict=True) if error},
            details={p: text for p, text in zip(self.places, rows.details, strict=True) if text},
            rated_units=self.rated_units,
            human=self.human,
        )


@dataclass(frozen=True, slots=True)
class _Block:
    """The rows of an item, ordered by image, then text."""

    rows: Sequence[_Row]
    places: Sequence[tuple[int, int]]
    ratings: Sequence[float]
    images: Sequence[str]
    texts: Sequence[str]

    @classmethod
    def of_rows(cls, rows: _RunRows, path: Path) -> Iterator[_Block]:
        """Yield the block of each item.

        Raises:
            TableError: an item lacks rows, or has them in another order.
        """
        names, values = list(rows.of_items), zip(*rows.of_items.values(), strict=True)
        dicts = [dict(zip(names, row, strict=True)) for row in values]
        starts = [k for k, place in enumerate(rows.places) if place == (0, 0) or not k]
        for start, end in pairwise([*starts, len(dicts)]):
            of_item, places = dicts[start:end], rows.places[start:end]
            images, texts = (1 + place for place in places[-1])
            if list(places) != [(i, j) for i in range(images) for j in range(texts)]:
                raise TableError(
                    f"{path}: item {of_item[0]['item']!r} lacks rows or has them in another "
                    "order; pass a table that Report.write wrote"
                )
            image_names = [row.get("image_name", "") for row in of_item[::texts]]
            captions = [row["text"] for row in of_item[:texts]]
            yield cls(of_item, places, rows.ratings[start:end], image_names, captions)

    def human(self) -> NDArray[np.float64] | None:
        """Return the ratings, shape (images, texts); None where there is none."""
        values = np.array(self.ratings).reshape(len(self.images), len(self.texts))
        return None if np.isnan(values).all() else values

    def item(self, folders: Mapping[str, int], tags: Set[str], group: str) -> Item:
        """Return the item; its images are names."""
        only = next(iter(folders)) if len(folders) == 1 else ""  # earlier versions name none
        generators = [row.get("generator") or only for row in self.rows[:: len(self.texts)]]
        labels: dict[str, Any] = {}
        if folders and all(name in folders for name in generators):
            labels = {"folder": [folders[name] for name in generators]}
        elif not folders and any(generators):
            labels = {"generator": generators}
        return Item(
            images=self.images,
            texts=self.texts,
            labels=labels,
            tags=_tags(self.rows[0]["tags"], tags),
            id=self.rows[0]["item"],
            group=group,
        )


def _tags(text: str, names: Set[str]) -> tuple[str, ...]:
    """Separate tags at semicolons, of which a tag may have some itself."""
    tags, begun = [], ""
    for part in text.split(";") if text else ():
        begun = f"{begun};{part}" if begun else part
        if begun in names:
            tags.append(begun)
            begun = ""
    return (*tags, begun) if begun else tuple(tags)
