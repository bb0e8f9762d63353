"""``t2v-eval results``: the metrics of a benchmark, of results in the form of its authors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from t2v_eval.cli import console
from t2v_eval.cli.options import (
    AsJson,
    BenchmarkOptionPairs,
    BenchmarkRoot,
    Resamples,
    Seed,
    parse_options,
)
from t2v_eval.errors import InputError
from t2v_eval.registry import benchmarks

ResultsFile = Annotated[
    Path,
    typer.Argument(
        help="File that the authors' scripts write, or read: of MMRB2 the judgements that its "
        "compute_accuracy.py reads, of VideoGen-RewardBench out_pair.csv, of CapArena battles with "
        "a judge, of GEdit-Bench MODEL_combined_gpt_score.csv, of ImgEdit-Bench result.json.",
        metavar="FILE",
    ),
]
BenchmarkName = Annotated[
    str, typer.Option("--benchmark", "-b", help="Name of the benchmark; see `list benchmarks`.")
]


def results(
    file: ResultsFile,
    benchmark: BenchmarkName,
    root: BenchmarkRoot = None,
    benchmark_option: BenchmarkOptionPairs = None,
    as_json: AsJson = False,
    resamples: Resamples = 1000,
    seed: Seed = 0,
) -> None:
    """Measure results of a scorer, in the form that a benchmark's authors publish; no model runs.

    Prints the metrics of all items and by tag, with 95 % intervals. Images are not read. Items
    without a result are left out and counted.
    """
    from t2v_eval.evaluation.agreement import to_json
    from t2v_eval.evaluation.benchmark import bootstrap_by_tag
    from t2v_eval.evaluation.options import BenchmarkOptions

    specific = parse_options(benchmark_option, "--benchmark-option")
    opened = BenchmarkOptions(root=root, specific=specific).open(benchmarks.card(benchmark))
    items, scores = opened.read_results(file)
    missing = sum(bool(np.isnan(cells).any()) for cells in scores)
    if missing == len(items):
        raise InputError(
            f"{file} has no result of {benchmark}: check that it is of this benchmark and task, "
            "and holds what the authors' script wrote, not the labels"
        )
    samples = bootstrap_by_tag(opened, items, scores, resamples, seed)
    intervals = {tag or "all": of_tag.intervals() for tag, of_tag in samples.items()}
    if as_json:
        content = {
            tag: {name: to_json(interval) for name, interval in of_tag.items()}
            for tag, of_tag in intervals.items()
        }
        facts = {"benchmark": benchmark, "results": len(items), "missing": missing}
        console.print_json({**facts, "metrics": content})
    else:
        names = list(intervals["all"])
        rows = [
            [tag, *(console.interval_text(of_tag[name], digits=4) for name in names)]
            for tag, of_tag in intervals.items()
        ]
        title = f"{benchmark}, {len(items)} results: metrics with 95 % intervals"
        console.print_table(["items", *names], rows, title, numbers=True)
    if missing:
        console.say(f"{missing} of {len(items)} results are missing and left out", "yellow")
