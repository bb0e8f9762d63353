"""``--dry-run``: what evaluating would ask of services, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t2v_eval.cli import console
from t2v_eval.registry import models


def print_estimates(
    names: Sequence[str],
    judges: Sequence[str],
    store: Path | None,
    root: Path | None,
    options: dict[str, Any],
) -> None:
    """Print what running these would ask of services; nothing is asked."""
    from t2v_eval.remote.scorer import estimate
    from t2v_eval.report.report import open_benchmark, open_scorer
    from t2v_eval.scoring.plan import Block

    for name in names:
        if not models.card(name).remote:  # nothing is loaded to say this
            console.say(f"{name} runs here: it asks no service and costs nothing")
    own = {key: options.pop(key) for key in ("images", "columns") if key in options}
    own |= options.pop("benchmark_options", {})
    chosen = {key: options.pop(key) for key in ("subset", "on_missing") if key in options}
    items = {
        name: open_benchmark(name, root, **own).selecting(**chosen).selected() for name in judges
    }
    templates = ("question_template", "answer_template", "template")
    asked = {key: options.pop(key) for key in templates if key in options}
    console.print_estimates(
        (f"{name} on {judge}", estimate(scorer.with_template(**asked), blocks))
        for name in names
        if models.card(name).remote
        for scorer in [open_scorer(name, store, options)]
        for judge, found in items.items()
        for blocks in [[Block(item.images, item.texts, item.references) for item in found]]
    )
