"""The page of options: the constructor of every class that a card names."""

from __future__ import annotations

from typing import Any

from tables import names, shipped

from t2v_eval.cards import Card
from t2v_eval.registry import benchmarks, models

HEAD = """# Options

Options are keyword arguments of `t2v_eval.load` and `t2v_eval.compare`. On the command line they
are `--option KEY=VALUE` and `--benchmark-option KEY=VALUE`. This page lists those of each class.

Every scorer also takes the options of [`Scorer`](api/scoring.md#t2v_eval.Scorer). A scorer that
runs locally takes those of [`LocalScorer`](api/extending.md#t2v_eval.local.base.LocalScorer), and a
scorer behind an API those of [`ApiScorer`](api/extending.md#t2v_eval.ApiScorer).
"""

SERVICES = """## Parts of services

A scorer of a service takes the options of its protocol, of its question (`answer_question`, `Grade`
or `PairwiseChoice`) and of `ServiceScorer`, each by its name."""

SERVICE_PARTS = (
    "protocol.ServiceProtocol",
    "openai_protocol.OpenAIProtocol",
    "openai_protocol.CompatibleProtocol",
    "gemini_protocol.gemini_protocol",
    "gemini_protocol.GeminiProtocol",
    "gemini_protocol.VertexProtocol",
    "answer_probability.answer_question",
    "answer_probability.AnswerProbability",
    "answer_probability.SampledAnswer",
    "grade.Grade",
    "grade.WrittenSamples",
    "pairwise.PairwiseChoice",
    "scorer.ServiceScorer",
)

ENTRY = """::: {path}
    options:
      heading_level: 3
      members: false
      show_bases: false
      show_root_full_path: false
      show_root_toc_entry: true
"""


def options_page() -> str:
    """Return the page in Markdown."""
    parts = [HEAD]
    for title, registry in (("Scorers", models), ("Benchmarks", benchmarks)):
        parts.append(f"## {title}")
        for path, cards in entries(registry).items():
            parts += [ENTRY.format(path=path), f"Used by {names(cards)}."]
    parts.append(SERVICES)
    parts += [ENTRY.format(path=f"backends.services.{part}") for part in SERVICE_PARTS]
    return "\n\n".join(parts) + "\n"


def entries(registry: Any) -> dict[str, list[Card]]:
    """Return the cards of a registry by the path of their class in the repository."""
    by_path: dict[str, list[Card]] = {}
    for card in shipped(registry):
        path = f"{card.module.removeprefix('t2v_eval.')}.{card.entry}"
        by_path.setdefault(path, []).append(card)
    return by_path
