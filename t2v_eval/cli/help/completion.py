"""Names that a shell completes; no model library is imported."""

from __future__ import annotations

from t2v_eval.registry import benchmarks, models


def model_names(incomplete: str) -> list[tuple[str, str]]:
    """Return the scorers that start with what was typed, with their summaries."""
    return [(name, models.cards[name].summary) for name in models.names(f"{incomplete}*")]


def benchmark_names(incomplete: str) -> list[tuple[str, str]]:
    """Return the benchmarks that start with what was typed, with their summaries."""
    return [(name, benchmarks.cards[name].summary) for name in benchmarks.names(f"{incomplete}*")]


def template_names(incomplete: str) -> list[str]:
    """Return the templates that start with what was typed."""
    from t2v_eval.inputs.template import templates

    names = {*templates(), *models.conventions()}
    return sorted(name for name in names if name.startswith(incomplete))
