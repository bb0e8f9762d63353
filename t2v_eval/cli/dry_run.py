"""``--dry-run``: the requests that an evaluation would send to APIs, and their cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from t2v_eval.api import ScorerOptions
from t2v_eval.cards import BenchmarkCard, ModelCard
from t2v_eval.cli import console

if TYPE_CHECKING:
    from t2v_eval.evaluation.options import BenchmarkOptions, RunOptions


def print_dry_run(
    scorers: Sequence[ModelCard],
    benchmarks: Sequence[BenchmarkCard],
    scorer_options: ScorerOptions,
    benchmark_options: BenchmarkOptions,
    run_options: RunOptions,
    as_json: bool = False,
) -> None:
    """Print a table of the requests each scorer would send for each benchmark; send nothing."""
    from t2v_eval.evaluation.ratings.judging import item_blocks
    from t2v_eval.evaluation.run import for_benchmark
    from t2v_eval.remote.scorer import estimate

    for card in scorers:
        if not scorer_options.asks_service(card):  # its weights need not be loaded for this
            console.note(f"{card.name} runs locally: it sends no requests and costs nothing")
    opened = [benchmark_options.open(card) for card in benchmarks]
    selecting = [
        b.selecting(run_options.subset, run_options.on_missing, run_options.sample) for b in opened
    ]
    items = [(benchmark, benchmark.selected()) for benchmark in selecting]
    estimates = []
    for card in filter(scorer_options.asks_service, scorers):
        scorer = scorer_options.for_card(card, scorers).load(card)
        for benchmark, of_benchmark in items:
            bound = for_benchmark(scorer, benchmark)
            blocks = item_blocks(bound, of_benchmark, benchmark.of_pairs)
            names = {"model": card.name, "benchmark": benchmark.name}
            estimates.append((names, estimate(bound, blocks)))
    console.print_estimates(estimates, as_json)
