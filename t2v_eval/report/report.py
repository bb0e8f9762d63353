"""Reports: runs of scorers on benchmarks, side by side, as JSON, Markdown, CSV and a page.

```text
report.json   all figures; report.schema.json beside this module says what each field is
report.md     the tables of the page, as Markdown
metrics.csv   a row a figure: benchmark, scorer, tag (none is all items), items, metric, value, low,
              high, published
scores.csv    a row a cell: benchmark, item, image, image_name, text_index, text, scorer, score,
              human, error, detail (what else a model said, JSON), tags (separated by ";")
report.html   all of it and the pictures, self-contained
```
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from t2v_eval.api import load
from t2v_eval.errors import InputError
from t2v_eval.evaluation import comparison
from t2v_eval.evaluation import download as data
from t2v_eval.evaluation.benchmark import Benchmark, Run, evaluate
from t2v_eval.evaluation.comparison import Difference, excludes_zero, item_name
from t2v_eval.inputs.media import name_of
from t2v_eval.inputs.tables import rescuing, write_table
from t2v_eval.registry import benchmarks as registry
from t2v_eval.registry import models
from t2v_eval.report import html, markdown
from t2v_eval.report.reader import SCHEMA_VERSION
from t2v_eval.scoring.results import Progress
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.permutation import PValue
from t2v_eval.store import Store
from t2v_eval.utils.files import check_folder, write_text


class Report:
    """Runs side by side.

    Args:
        runs: what `evaluate` returned, in the order in which they are shown.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs = list(runs)

    @cached_property
    def labels(self) -> list[str]:
        """What to call the scorer of each run."""
        return comparison.labels(self.runs)

    @cached_property
    def differences(self) -> list[Difference]:
        """Paired differences of all scorers that saw the same items with the same resamples."""
        return comparison.differences(self.runs)

    def to_json(self) -> dict[str, Any]:
        """The content of ``report.json``; see ``report.schema.json``."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "runs": [_run_json(run) for run in self.runs],
            "differences": [
                {
                    "benchmark": self.runs[d.first].benchmark["name"],
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
        plain: dict[str, Any] = _without_nan(content)
        return plain

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of ``scores.csv``, one a cell of each run."""
        for run, label in zip(self.runs, self.labels, strict=True):
            for n, (item, scores) in enumerate(zip(run.items, run.scores, strict=True)):
                for i, image in enumerate(item.images):
                    for j, text in enumerate(item.texts):
                        yield {
                            "benchmark": run.benchmark["name"],
                            "item": item_name(item, n),
                            "image": i,
                            "image_name": name_of(image),
                            "text_index": j,
                            "text": text,
                            "scorer": label,
                            "score": float(scores[i, j]),
                            "human": _human(run, n, i, j),
                            "error": run.failures.get((n, i, j), ""),
                            "detail": run.details.get((n, i, j), ""),
                            "tags": ";".join(item.tags),
                        }

    def figures(self) -> Iterator[dict[str, Any]]:
        """The rows of ``metrics.csv``, one a metric of each run, overall and by tag."""
        for run, label in zip(self.runs, self.labels, strict=True):
            published = run.benchmark["published"]
            for tag, metrics in {"": run.metrics, **run.by_tag}.items():
                for name, interval in metrics.items():
                    yield {
                        "benchmark": run.benchmark["name"],
                        "scorer": label,
                        "tag": tag,
                        "items": run.benchmark["tags"][tag] if tag else len(run.items),
                        "metric": name,
                        **interval._asdict(),
                        "published": published[name]["value"]
                        if name in published and not tag
                        else None,
                    }

    def write(self, folder: str | Path, *, spreadsheet: bool = False) -> Path:
        """Write the files named at the top of this module; return the page's path.

        Args:
            spreadsheet: whether programs that calculate will open the CSV; see `tables.to_csv`.

        Raises:
            OutputError: the folder cannot be made or written to; see `check_folder` to know before.
                The message says where the scores are instead.
        """
        rows = list(self.rows())
        with rescuing(Path(folder).expanduser() / "scores.csv", rows):
            path = check_folder(folder)
            write_table(path / "scores.csv", rows, spreadsheet)
            write_table(path / "metrics.csv", list(self.figures()), spreadsheet)
            content = json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
            write_text(path / "report.json", content + "\n")
            shown = self.runs, self.labels, self.differences
            write_text(path / "report.md", markdown.render(*shown))
            write_text(path / "report.html", html.render(*shown))
        return path / "report.html"


def compare(
    scorers: Scorer | str | Iterable[Scorer | str],
    benchmarks: Benchmark | str | Iterable[Benchmark | str],
    *,
    store: str | Path | Store | None = None,
    root: str | Path | None = None,
    images: Sequence[str | Path] | None = None,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    benchmark_options: Mapping[str, Any] | None = None,
    subset: str | Sequence[str] | None = None,
    on_missing: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[Scorer, Benchmark, int], Progress | None] | None = None,
    **options: Any,
) -> Report:
    """Run every scorer on every benchmark, one scorer in memory at a time.

    Args:
        scorers, benchmarks: objects, or names to load; one, or several of them.
        store: where scorers that are given by name keep their scores.
        root: the folder with the benchmarks' files, or with a folder for each benchmark's name.
        images: for sets of prompts, the folder of the pictures of each generator.
        columns: for tables and data sets of one's own, what columns are called there.
        benchmark_options: other options of benchmarks that are given by name; see their classes.
        subset: tags; of each benchmark, only items that have one of them are evaluated.
        on_missing: "error", or "skip": items with a picture that is not there are left out.
        progress: called before each run, with the number of items; what it returns is told of the
            counts during the run.
        options: for scorers that are given by name, as for `load`, templates among them.

    Raises:
        UnknownNameError: a name that is not there, before anything is scored.
        InputError: no scorer or no benchmark, or one that does not take an option.
    """
    wanted = [scorers] if isinstance(scorers, (str, Scorer)) else list(scorers)
    named = [benchmarks] if isinstance(benchmarks, (str, Benchmark)) else list(benchmarks)
    own: dict[str, Any] = {"images": images} if images else {}
    own |= {"columns": columns} if columns else {}
    own |= benchmark_options or {}
    judges = [
        (open_benchmark(b, root, **own) if isinstance(b, str) else b).selecting(subset, on_missing)
        for b in named
    ]
    for judge, asked in zip(judges, named, strict=True):
        if isinstance(asked, str):
            judge.on_error = options.get("on_error", "raise")
    if not judges or not wanted:
        raise InputError("compare needs at least one scorer and one benchmark")
    for name in wanted:
        if isinstance(name, str):
            models.card(name)
    items = [benchmark.selected() for benchmark in judges]

    def runs_of(wanted: Scorer | str) -> list[Run]:
        # A scorer that is loaded here is let go of before the next one is loaded.
        scorer = open_scorer(wanted, store, options) if isinstance(wanted, str) else wanted
        return [
            evaluate(
                scorer,
                benchmark,
                items=read,
                progress=progress(scorer, benchmark, len(read)) if progress else None,
                resamples=resamples,
                seed=seed,
            )
            for benchmark, read in zip(judges, items, strict=True)
        ]

    by_scorer = [runs_of(scorer) for scorer in wanted]
    return Report(run for on_one in zip(*by_scorer, strict=True) for run in on_one)


def open_scorer(name: str, store: str | Path | Store | None, options: dict[str, Any]) -> Scorer:
    """The scorer called `name`; limits to what a service is asked are for those that ask one."""
    limits = () if models.card(name).remote else ("max_cost", "max_requests", "batch")
    return load(name, store=store, **{k: v for k, v in options.items() if k not in limits})


def open_benchmark(name: str, root: str | Path | None = None, **options: Any) -> Benchmark:
    """The benchmark called `name`, its files in `root`, or in `root`'s folder of its name.

    Without a root, they are where `t2v-eval data NAME --fetch` puts them, if that is there.

    Args:
        options: other keyword arguments of the benchmark.

    Raises:
        UnknownNameError: with the nearest names.
    """
    if root is None:
        kept = data.default_root(name)
        options |= {"root": kept} if registry.card(name).page and kept.is_dir() else {}
        return registry.create(name, **options)  # type: ignore[no-any-return]
    names = (name, *registry.card(name).folders)
    own = (Path(root).expanduser() / one for one in names)
    folder = next((path for path in own if path.is_dir()), root)
    return registry.create(name, root=folder, **options)  # type: ignore[no-any-return]


def _human(run: Run, n: int, i: int, j: int) -> float | None:
    """What people said of a picture, or of the video that it is a frame of, with a text."""
    human = run.human[n]
    if human is None:
        return None
    return next((float(human[k, j]) for k, of in enumerate(run.rated_units[n]) if i in of), None)


def _run_json(run: Run) -> dict[str, Any]:
    return {
        "scorer": dict(run.scorer),
        "benchmark": dict(run.benchmark),
        "metrics": _figures(run.metrics, run.tests.get("", {})),
        "by_tag": {tag: _figures(of, run.tests.get(tag, {})) for tag, of in run.by_tag.items()},
        "counts": dict(run.counts),
        "errors": dict(run.errors),
        "environment": dict(run.environment),
        "seconds": round(run.seconds, 3),
    }


def _figures(
    metrics: Mapping[str, Interval], tests: Mapping[str, PValue]
) -> dict[str, dict[str, Any]]:
    """Intervals; those of differences say what was tested, too."""
    found: dict[str, dict[str, Any]] = {}
    for name, interval in metrics.items():
        found[name] = interval._asdict()
        if name in tests:
            found[name] |= {"excludes_zero": excludes_zero(interval)}
            found[name] |= tests[name]._asdict() | {"significant": tests[name].significant}
    return found


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
