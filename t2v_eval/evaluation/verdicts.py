"""What cards of benchmarks say of how often a scorer came to people's verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from t2v_eval.cards import BenchmarkCard
from t2v_eval.errors import InputError
from t2v_eval.registry import benchmarks
from t2v_eval.stats.decisions import DecisionCounts


@dataclass(frozen=True, slots=True)
class VerdictFacts:
    """How often the verdicts of a scorer matched people's, on a benchmark with human ratings.

    Attributes:
        benchmark: the name of the benchmark.
        of: what was judged: "generators", two by the mean of their images, or "images", two of one
            prompt.
        share: the share of pairs on which scorer and people came to the same verdict, 0 to 1.
        count: the number of pairs of generators; 0 of images.
        decisions: of generators, how many pairs came to each outcome.
        note: what else is to be said of it.
        source: where it was published, or how it was computed.

    >>> VerdictFacts("tifa160", "generators", share=0.5, count=10).count
    10
    """

    benchmark: str
    of: str
    share: float
    count: int = 0
    decisions: DecisionCounts | None = None
    note: str = ""
    source: str = ""


def named_in(table: Mapping[str, object], names: Sequence[str]) -> str:
    """Return the first of a scorer's names that a table of published figures has; "" for none.

    Args:
        table: figures by scorer, and their `source`.
        names: see `ModelCard.known_as`.

    >>> named_in({"source": "a paper", "HPSv3": 0.6}, ["hpsv3", "HPSv3"])
    'HPSv3'
    """
    return next((name for name in names if name in table and name != "source"), "")


def verdicts_of(*names: str) -> list[VerdictFacts]:
    """Return how often the verdicts of a scorer matched people's, as cards of benchmarks say.

    Args:
        names: its name and its aliases.

    >>> [(verdict.benchmark, verdict.of) for verdict in verdicts_of("clipscore")][:1]
    [('tifa160', 'generators')]
    """
    facts = []
    for card in benchmarks.cards.values():
        if scorer := named_in(card.verdicts, names):
            counts, source = decision_counts(card, scorer), card.verdicts.get("source", "")
            share = counts.matched / counts.pairs
            arguments = card.name, "generators", share, counts.pairs, counts
            facts.append(VerdictFacts(*arguments, source=source))
        figures = card.published.get(card.orders_pairs, {})
        if scorer := named_in(figures, names):
            source = figures.get("source", "")
            facts.append(VerdictFacts(card.name, "images", figures[scorer], source=source))
    return sorted(facts, key=lambda verdict: verdict.of != "generators")


def decision_counts(card: BenchmarkCard, scorer: str) -> DecisionCounts:
    """Return how many pairs of generators came to each outcome, as the card of a benchmark says.

    Raises:
        InputError: the card has other keys than outcomes, values that are no counts, or no pair.

    >>> decision_counts(benchmarks.card("tifa160"), "clipscore").matched
    5
    """
    table, field_names = card.verdicts[scorer], {f.name for f in fields(DecisionCounts)}
    whole = isinstance(table, Mapping) and all(type(n) is int and n >= 0 for n in table.values())
    if not whole or not set(table) <= field_names or not DecisionCounts(**table).pairs:
        raise InputError(
            f"{card.file}: `verdicts` of {card.name!r} has {scorer!r} = {table!r}: write how many "
            f"pairs came to each of {', '.join(f.name for f in fields(DecisionCounts))}"
        )
    return DecisionCounts(**table)
