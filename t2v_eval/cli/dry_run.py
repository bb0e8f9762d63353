"""``--dry-run``: the requests that an evaluation would send to APIs, and their cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t2v_eval.cli import console
from t2v_eval.registry import models

BENCHMARK_OPTIONS = ("images", "columns")
SELECTION_OPTIONS = ("subset", "on_missing")
TEMPLATE_OPTIONS = ("question_template", "answer_template", "template")


def print_dry_run(
    scorer_names: Sequence[str],
    benchmark_names: Sequence[str],
    store: Path | None,
    root: Path | None,
    options: dict[str, Any],
) -> None:
    """Print a table of the requests each scorer would send for each benchmark; send nothing.

    Args:
        options: those of `t2v_eval.compare`.
    """
    from t2v_eval.remote.scorer import estimate
    from t2v_eval.report.report import open_benchmark, open_scorer
    from t2v_eval.scoring.plan import Block

    cards = [models.card(name) for name in scorer_names]
    for card in cards:
        if not card.remote:  # its weights need not be loaded for this
            console.say(f"{card.name} runs locally: it sends no requests and costs nothing")
    benchmark_options = _pop(options, BENCHMARK_OPTIONS) | options.pop("benchmark_options", {})
    selection = _pop(options, SELECTION_OPTIONS)
    template = _pop(options, TEMPLATE_OPTIONS)
    blocks = {
        name: [
            Block(item.images, item.texts, item.references)
            for item in open_benchmark(name, root, **benchmark_options)
            .selecting(**selection)
            .selected()
        ]
        for name in benchmark_names
    }
    console.print_estimates(
        (
            f"{card.name} on {benchmark}",
            estimate(scorer.with_template(**template), blocks[benchmark]),
        )
        for card in cards
        if card.remote
        for scorer in [open_scorer(card, store, options)]
        for benchmark in benchmark_names
    )


def _pop(options: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: options.pop(name) for name in names if name in options}
