"""``t2v-eval judge``: battles between generators, judged by scorers, as a table for `rank`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2v_eval.api import ScorerOptions
from t2v_eval.cli import console
from t2v_eval.cli.options import (
    AsJson,
    BenchmarkOptionPairs,
    BenchmarkRoot,
    Columns,
    DryRun,
    ImageFolders,
    Limit,
    ModelNames,
    OnMissing,
    Seed,
    Subset,
    parse_columns,
    parse_options,
    raise_or_skip,
)
from t2v_eval.cli.progress import Bars
from t2v_eval.registry import benchmarks, models

if TYPE_CHECKING:
    from t2v_eval.cards import ModelCard
    from t2v_eval.evaluation.benchmark import Item
    from t2v_eval.evaluation.ratings.judging import Comparison, Pair

PromptSet = Annotated[
    str,
    typer.Option(
        "--benchmark",
        "-b",
        help="Prompts that the images were generated from: a .txt, a table with a column prompt, "
        "or the name of a published set (see `list benchmarks`).",
    ),
]
BattlesFile = Annotated[
    Path | None,
    typer.Option(
        help="File to write battles to: .csv, .jsonl or .parquet. Default: standard output.",
        metavar="FILE",
    ),
]


def judge(
    options: ScorerOptions,
    model: ModelNames,
    benchmark: PromptSet,
    images: ImageFolders = None,
    root: BenchmarkRoot = None,
    column: Columns = None,
    benchmark_option: BenchmarkOptionPairs = None,
    subset: Subset = None,
    on_missing: OnMissing = "error",
    limit: Limit = None,
    seed: Seed = 0,
    out: BattlesFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Compare the images of generators prompt by prompt, and write battles that `rank` reads.

    A scorer of kind judge sees each pair in both orders; where its verdicts differ, it is a tie. Of
    any other scorer the higher score wins. With --on-error skip, a failed comparison has no winner,
    is counted, and its column `error` says why; a run with the same --store asks only for what is
    missing.
    """
    from t2v_eval.evaluation.options import BenchmarkOptions, RunOptions
    from t2v_eval.evaluation.ratings.judging import generator_pairs

    cards = [models.card(name) for name in model]
    opened = BenchmarkOptions(
        root=root,
        images=images,
        columns=parse_columns(column),
        on_error=options.on_error,
        specific=parse_options(benchmark_option, "--benchmark-option"),
    ).open(benchmarks.card(benchmark))
    sample = RunOptions(limit=limit, seed=seed).sample
    _check_output(out)
    selecting = opened.selecting(subset or None, raise_or_skip(on_missing), sample)
    items, pairs = generator_pairs(selecting)
    if dry_run:
        _print_dry_run(cards, options, items, pairs, as_json)
        return
    comparisons = []
    with console.stoppable(options.store), Bars() as bars:
        for card in cards:
            comparisons += _judge(card, cards, options, items, pairs, bars)
    _write(comparisons, out, as_json)
    console.exit_if_all_failed(sum(not comparison.error for comparison in comparisons))


def _judge(
    card: ModelCard,
    cards: Sequence[ModelCard],
    options: ScorerOptions,
    items: Sequence[Item],
    pairs: Sequence[Pair],
    bars: Bars,
) -> list[Comparison]:
    from t2v_eval.evaluation.ratings.judging import judge_pairs

    scorer = options.for_card(card, cards).load(card)
    comparisons = judge_pairs(scorer, items, pairs, bars.add(f"{card.name}, {len(pairs)} pairs"))
    reasons = Counter(comparison.error for comparison in comparisons if comparison.error)
    if reasons:
        console.say(f"{card.name}: {reasons.total()} of {len(pairs)} comparisons failed", "yellow")
        for reason, count in reasons.items():
            console.say(f"  {count} x {reason}", "yellow")
    console.say_usage(card.name, scorer.usage.total if hasattr(scorer, "usage") else {})
    return comparisons


def _print_dry_run(
    cards: Sequence[ModelCard],
    options: ScorerOptions,
    items: Sequence[Item],
    pairs: Sequence[Pair],
    as_json: bool,
) -> None:
    """Print the requests that services would get; send nothing."""
    from t2v_eval.evaluation.ratings.judging import pair_blocks
    from t2v_eval.remote.scorer import estimate

    estimates = []
    for card in cards:
        if not card.remote:
            console.note(f"{card.name} runs locally: it sends no requests and costs nothing")
            continue
        scorer = options.for_card(card, cards).load(card)
        blocks = pair_blocks(scorer, items, pairs)
        estimates.append(({"model": card.name}, estimate(scorer, blocks)))
    console.print_estimates(estimates, as_json)


def _check_output(out: Path | None) -> None:
    from t2v_eval.inputs import tables
    from t2v_eval.utils import files

    if out is not None:
        tables.check_suffix(out)
        files.check_file(out)


def _write(comparisons: Sequence[Comparison], out: Path | None, as_json: bool) -> None:
    """Write the battles, and say on stderr how they ended."""
    from t2v_eval.inputs import tables

    rows: list[dict[str, Any]] = [comparison.to_row() for comparison in comparisons]
    if out is not None:
        with tables.rescuing(out, rows):
            tables.write_table(out, rows)
        console.note(f"{len(rows)} comparisons are in {out}; next: t2v-eval rank {out}")
    if as_json:
        console.print_json(rows)
    elif out is None:
        sys.stdout.write(tables.to_csv(rows))
    console.note(_summary(comparisons))


def _summary(comparisons: Sequence[Comparison]) -> str:
    """Return how often each model won, and how many were ties."""
    won: Counter[str] = Counter()
    for battle, *_ in comparisons:
        won[battle.model_a] += battle.winner == "model_a"
        won[battle.model_b] += battle.winner == "model_b"
    battles = [comparison.battle for comparison in comparisons]
    ties = sum(battle.winner == "tie" for battle in battles)
    differing = sum(bool(b.winner) and b.a_first != b.b_first for b in battles)
    why = f" ({differing} of them by verdicts that differ with the order)" if differing else ""
    wins = ", ".join(f"{name} won {count}" for name, count in won.most_common())
    return f"{wins}; {ties} ties{why}"
