"""Options of benchmarks and of runs, and opening a benchmark by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t2v_eval.api import split_keywords
from t2v_eval.cards import BenchmarkCard
from t2v_eval.evaluation import download
from t2v_eval.evaluation.benchmark import Benchmark
from t2v_eval.evaluation.sampling import Sample
from t2v_eval.evaluation.selection import OnMissing
from t2v_eval.inputs.addresses import path_or_address
from t2v_eval.registry import benchmarks
from t2v_eval.scoring.scorer import OnError
from t2v_eval.stats.bootstrap import check_count
from t2v_eval.utils.arguments import check_path, wrong_type


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkOptions:
    """Options with which benchmarks are opened; an empty one leaves a choice to the benchmark.

    Attributes:
        root: the folder of a benchmark's files, or one with a folder of each benchmark's name; of a
            table, the folder of its images, or its address. Default: the folder where
            `t2v-eval data NAME --fetch` puts the files, if it exists.
        images: for sets of prompts, the folder of the images of each generator.
        columns: for tables and data sets of your own, the columns that hold each field, for example
            ``{"human": ["rater 1", "rater 2"]}``.
        on_error: "raise", or "skip" to leave out rows of a table that cannot be used.
        specific: options of one class of benchmarks by name; see that class.

    >>> BenchmarkOptions(specific={"n": 3}).open(benchmarks.card("scenes")).check()
    '3 items with 6 images and 6 texts'
    """

    root: str | Path | None = None
    images: Sequence[str | Path] | None = None
    columns: Mapping[str, str | Sequence[str]] | None = None
    on_error: OnError = "raise"
    specific: Mapping[str, Any] = field(default_factory=dict)

    def open(self, card: BenchmarkCard) -> Benchmark:
        """Open the benchmark of a card with these options; no file is read yet.

        Raises:
            InputError: an option that the benchmark does not have.
            MissingPackageError: a package that it needs is not installed.
        """
        if not isinstance(self.specific, Mapping):
            raise wrong_type("benchmark_options", self.specific, "a dict of options")
        arguments = dict(self.specific)
        if (folder := self._folder(card)) is not None:
            arguments["root"] = folder
        if self.images:
            arguments["images"] = self.images
        if self.columns:
            arguments["columns"] = self.columns
        benchmark: Benchmark = benchmarks.build(card, **arguments)
        benchmark.on_error = self.on_error
        return benchmark

    def _folder(self, card: BenchmarkCard) -> str | Path | None:
        """Return the folder of the files of a card's benchmark."""
        if self.root is None:
            default = download.default_root(card.name)
            return default if card.page and default.is_dir() else None
        if isinstance(path_or_address("root", self.root), str):
            return self.root
        subfolders = (check_path("root", self.root) / name for name in (card.name, *card.folders))
        return next((path for path in subfolders if path.is_dir()), self.root)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Options of runs: which items are evaluated, and how they are resampled.

    Attributes:
        subset: tags; only items that have one of them are evaluated. Default: the benchmark's own.
        on_missing: "raise", or "skip" to leave out items whose image files are missing. Default:
            the benchmark's own.
        resamples: the number of bootstrap resamples behind the 95 % intervals, 1 or more.
        seed: the random seed of the bootstrap, of the tests and of `limit`.
        limit: how many items to evaluate at most, chosen at random; a group of items counts as
            one. Default: all.
        noise_floor: whether a few cells are scored again, by scorers that run here.
        human: a file of people's ratings of a part of the prompts; see `evaluation.human_ratings`.

    >>> RunOptions(subset="counting").resamples
    1000
    """

    subset: str | Sequence[str] | None = None
    on_missing: OnMissing | None = None
    resamples: int = 1000
    seed: int = 0
    limit: int | None = None
    noise_floor: bool = True
    human: str | Path | None = None

    def __post_init__(self) -> None:
        """Check the numbers, before anything is scored.

        Raises:
            InputError: a number is too small, or none.
        """
        check_count("resamples", self.resamples, 1)
        check_count("seed", self.seed, 0)

    @property
    def sample(self) -> Sample | None:
        """Return the random part of the items that `limit` and `seed` choose.

        Raises:
            InputError: `limit` is no number above 0.
        """
        return None if self.limit is None else Sample(self.limit, self.seed)


def open_benchmark(name: str, root: str | Path | None = None, **options: Any) -> Benchmark:
    """Open the benchmark called `name`; no file is read yet.

    Args:
        name: a name of `list_benchmarks()`, or a table of your own.
        root: see `BenchmarkOptions`.
        options: other attributes of `BenchmarkOptions`, and options of the benchmark's class.

    Raises:
        UnknownNameError: no such benchmark; the message lists the nearest names.
        InputError: an option that the benchmark does not have.

    >>> open_benchmark("scenes", n=3).check()
    '3 items with 6 images and 6 texts'
    """
    card = benchmarks.card(name)
    return BenchmarkOptions(root=root, **split_keywords(BenchmarkOptions, options)).open(card)
