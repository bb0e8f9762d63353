"""``--shard``: the part of the images that one of several workers scores, in a store of its own."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2v_eval.api import ScorerOptions
from t2v_eval.cards import BenchmarkCard, ModelCard
from t2v_eval.cli import console
from t2v_eval.cli.progress import Bars
from t2v_eval.errors import InputError

if TYPE_CHECKING:
    from t2v_eval.evaluation.options import BenchmarkOptions, RunOptions
    from t2v_eval.scoring.results import CellCounts
    from t2v_eval.scoring.shard import Shard


def shard_options(
    text: str, options: ScorerOptions, dry_run: bool = False
) -> tuple[Shard, ScorerOptions]:
    """Return the shard of a worker, and the options of its scorer: its own store and device.

    Args:
        text: the value of --shard.
        options: those of all shards.
        dry_run: whether the command would only estimate costs.

    Raises:
        InputError: there is no such shard, or its scores would be lost.
    """
    from t2v_eval.scoring.shard import Shard

    shard = Shard.parse(text)
    if dry_run:
        raise InputError("--dry-run counts the requests of all shards: leave out --shard")
    if not isinstance(options.store, Path):
        raise InputError("the scores of a shard are in its store: leave out --no-store")
    device = local_device(text) if options.device is None else options.device
    return shard, replace(options, store=shard.file_of(options.store), device=device)


def local_device(text: str | None) -> str | None:
    """Return the GPU of a worker where its machine has several; None for the default.

    Args:
        text: the value of --shard; only "auto" asks the launcher.
    """
    if text != "auto":
        return None
    import torch

    from t2v_eval.scoring.shard import LOCAL_RANKS

    rank = next((os.environ[name] for name in LOCAL_RANKS if name in os.environ), "")
    count = torch.cuda.device_count()
    return f"cuda:{int(rank) % count}" if count > 1 and rank.isdigit() else None


def evaluate_shard(
    scorers: Sequence[ModelCard],
    datasets: Sequence[BenchmarkCard],
    scorer_options: ScorerOptions,
    benchmark_options: BenchmarkOptions,
    run_options: RunOptions,
    shard: Shard,
    *,
    as_json: bool,
) -> None:
    """Score the images of a shard, and print how many scores of each run its store now has.

    Metrics need the scores of all shards, so none is computed.
    """
    from t2v_eval.evaluation.run import for_benchmark
    from t2v_eval.scoring.plan import Block
    from t2v_eval.scoring.results import CellCounts

    opened = [benchmark_options.open(card) for card in datasets]
    selecting = [
        b.selecting(run_options.subset, run_options.on_missing, run_options.sample) for b in opened
    ]
    parts = [
        (
            benchmark,
            [
                shard.part_of(Block(item.images, item.texts, item.references))
                for item in benchmark.selected()
            ],
        )
        for benchmark in selecting
    ]
    rows: list[dict[str, Any]] = []
    with console.stoppable(scorer_options.store), Bars() as bars:
        for card in scorers:
            scorer = scorer_options.for_card(card, scorers).load(card)
            for benchmark, blocks in parts:
                label = f"{card.name} on {benchmark.name}"
                counts = CellCounts()
                if any(block.images for block in blocks):
                    asking = for_benchmark(scorer, benchmark)
                    outcome = asking.evaluate_blocks(blocks, bars.add(f"{label}, shard {shard}"))
                    counts = outcome.counts
                    console.say_failures(label, counts.cells, outcome.errors)
                    console.say_usage(label, outcome.usage)
                rows.append({"model": card.name, "benchmark": benchmark.name, **_counts(counts)})
    if as_json:
        console.print_json({"shard": str(shard), "store": str(scorer_options.store), "runs": rows})
    else:
        columns = [*rows[0]]
        title = f"shard {shard}: scores of its images alone, without metrics"
        console.print_table(columns, [[row[name] for name in columns] for row in rows], title)
    say_next(shard, scorer_options.store)
    if any(row["scores"] for row in rows):
        console.exit_if_all_failed(sum(row["scores"] - row["failed"] for row in rows))


def say_next(shard: Shard, store: object) -> None:
    """Print what is missing, and how the shards become one store."""
    path = Path(str(store))
    shards = f"-*-of-{shard.count}{path.suffix}"
    whole = str(path).removesuffix(f"-{shard.number}-of-{shard.count}{path.suffix}")
    console.note(
        f"shard {shard} of the images is scored, in {path}; the others are missing there. When all "
        f"{shard.count} have run: t2v-eval store merge {shlex.quote(whole + path.suffix)} "
        f"{shlex.quote(whole)}{shards}, then this command without --shard"
    )


def _counts(counts: CellCounts) -> dict[str, int]:
    facts = asdict(counts)
    return {"scores": facts.pop("cells"), **facts}
