"""Tables of the documentation, made from the cards of scorers and benchmarks and the templates."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from t2v_eval.cards import GEOMETRIES, BenchmarkCard, Card, ModelCard
from t2v_eval.errors import UnknownNameError
from t2v_eval.evaluation.verdicts import decision_counts
from t2v_eval.inputs.template import templates
from t2v_eval.registry import Registry, benchmarks, models
from t2v_eval.stats.decisions import OUTCOMES
from t2v_eval.utils.card_tables import read_refused
from t2v_eval.utils.toml import read_toml

SHOWN = 4  # names that differ only in the size of the model; further ones are counted
SIZE = re.compile(r", \d+ (b|m)illion (parameters|of them at a time)")

# How scorers were verified, by the word before the colon of their cards' `verified`.
STATUSES = ("golden", "architecture", "published", "unverified")
COUNTED = (*STATUSES, "service", "refused")
README_NAMES = Path(__file__).with_name("t2v_metrics_names.toml")


def shipped(registry: Registry[Any, Any]) -> list[Any]:
    """Return the cards that come with the library, without those that tests registered."""
    return [card for card in registry.cards.values() if card.module.startswith(registry.package)]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table without the columns that are empty in every row."""
    lines = [list(row) for row in rows]
    used = [n for n in range(len(head)) if any(line[n] for line in lines)]
    every = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(cell(line[n]) for n in used)} |" for line in every)


def cell(text: str) -> str:
    """Return a text that Markdown reads as one cell: no column marks and no HTML."""
    return " ".join(text.replace("|", "/").replace("<", "&lt;").split())


def names(cards: Sequence[Card]) -> str:
    """Return the first names of alike scorers, and how many there are."""
    names = ", ".join(f"`{card.name}`" for card in cards[:SHOWN])
    return names + (f" and {len(cards) - SHOWN} more" if len(cards) > SHOWN else "")


def status(card: ModelCard) -> str:
    """Return how a scorer was verified: a word of `STATUSES`, "service" or "embedded".

    Raises:
        ValueError: the card's `verified` begins with no word that the documentation explains.
    """
    if card.remote:
        return "service"
    if card.name.startswith("tiny-"):
        return "embedded"
    word = card.verified.partition(":")[0]
    if word not in STATUSES:
        raise ValueError(
            f"{card.name}: verified = {card.verified!r} begins with none of {STATUSES}"
        )
    return word


def grouped(cards: Iterable[ModelCard], key: Callable[[ModelCard], Any]) -> list[list[ModelCard]]:
    """Group cards with the same key, in the order of their first."""
    groups: dict[Any, list[ModelCard]] = {}
    for card in cards:
        groups.setdefault(key(card), []).append(card)
    return list(groups.values())


def scorer_table(kind: str) -> str:
    """Return the scorers of one kind; names that differ only in size share a row."""

    def facts(card: ModelCard) -> tuple[str, ...]:
        return (
            SIZE.sub("", card.summary),
            card.range,
            f"[{card.geometry}](#crop-pad-or-stretch)",
            "yes" if card.differentiable else "",
            card.license,
            f"[{status(card)}](verified.md#{status(card)})",
            card.follows.removeprefix("t2v-"),
        )

    return table(
        ("name", "description", "range", "image", "gradient", "licence", "verified", "t2v_metrics"),
        (
            (names(cards), *facts(cards[0]))
            for cards in grouped((c for c in shipped(models) if c.kind == kind), facts)
        ),
    )


def geometry_table() -> str:
    """Return what each word for the shape of images means, with the first scorer of each card."""

    def first_names(word: str) -> str:
        cards = [c for c in [*shipped(models), *models.families] if c.geometry == word]
        firsts = [alike[0].name for alike in grouped(cards, lambda card: card.file)]
        more = len(cards) - len(firsts)
        return ", ".join(f"`{name}`" for name in firsts) + (f" and {more} more" if more else "")

    return table(
        ("image", "what becomes of one that is no square", "scorers"),
        ((word, meaning, first_names(word)) for word, meaning in GEOMETRIES.items()),
    )


def verified_table(level: str) -> str:
    """Return what the scorers of one status were verified against."""
    cards = (card for card in shipped(models) if status(card) == level)
    return table(
        ("scorers", "verified against"),
        (
            (names(alike), alike[0].verified.removeprefix(f"{level}: "))
            for alike in grouped(cards, lambda c: (c.kind, c.verified))
        ),
    )


def benchmark_table(kind: str) -> str:
    """Return the benchmarks of one kind."""
    cards: list[BenchmarkCard] = [c for c in shipped(benchmarks) if c.kind == kind]
    return table(
        ("name", "what it measures", "size", "licence of the data", "tested on"),
        ((f"`{c.name}`", c.summary, c.size, c.license, c.verified) for c in cards),
    )


def decisions_table() -> str:
    """Return how scorers decide on pairs of generators beside people, as cards say."""
    lines = [
        (card, scorer, decision_counts(card, scorer))
        for card in shipped(benchmarks)
        for scorer in card.verdicts
        if scorer != "source"
    ]
    return table(
        ("benchmark", "scorer", "pairs", *OUTCOMES, "means in the other order"),
        (
            (
                f"`{card.name}`",
                scorer,
                str(counts.pairs),
                *(str(getattr(counts, name)) for name in OUTCOMES),
                str(counts.reordered),
            )
            for card, scorer, counts in lines
        ),
    )


def template_table() -> str:
    """Return every question and answer template."""
    return table(
        ("name", "question or prefix", "answer", "source"),
        (
            (f"`{name}`", quoted(template.question), quoted(template.answer), template.source)
            for name, template in templates().items()
        ),
    )


def quoted(text: str) -> str:
    r"""Return a text as code, its line breaks written as ``\n``; nothing for an empty one."""
    return f"`{text.replace(chr(10), chr(92) + 'n')}`" if text else ""


def kinds(registry: Registry[Any, Any]) -> list[str]:
    """Return the kinds of a registry's cards, in alphabetical order."""
    return sorted({card.kind for card in shipped(registry)})


def t2v_metrics_table() -> str:
    """Count the names in the tables of t2v_metrics' README: verified how, or refused."""
    rows: list[tuple[str, ...]] = []
    statuses: dict[str, str] = {}
    for version, kind, family, listed in t2v_metrics_names():
        statuses |= {name: _status_of(name) for name in listed}
        rows.append((version, kind, family, *_counted(statuses[name] for name in listed)))
    rows.append(("all, each once", "", "", *_counted(statuses.values())))
    return table(("version", "", "family", *COUNTED, "names"), rows)


def t2v_metrics_names() -> Iterator[tuple[str, str, str, list[str]]]:
    """Yield version, kind of score, family and names of the tables of t2v_metrics' README."""
    for version, kinds_of_score in read_toml(README_NAMES).items():
        for kind, families in kinds_of_score.items():
            for family, listed in families.items():
                yield version, kind, family, listed


def _counted(statuses: Iterable[str]) -> tuple[str, ...]:
    counts = Counter(statuses)
    return (*(str(counts[status] or "") for status in COUNTED), str(sum(counts.values())))


def refused_table() -> str:
    """List the names of t2v_metrics that are refused, and why."""
    return table(
        ("name", "why"),
        [(f"`{name}`", f"It {reason}.") for name, reason in read_refused(models.package).items()],
    )


def _status_of(name: str) -> str:
    """Return how the model of a name was verified, or "refused".

    Raises:
        ValueError: it is neither a model nor refused.
    """
    try:
        return status(models.card(name))
    except UnknownNameError as error:
        if name in read_refused(models.package):
            return "refused"
        raise ValueError(f"{name} of t2v_metrics is neither listed nor refused") from error


TABLES: dict[str, Callable[[], str]] = {
    **{f"scorers-{kind}": partial(scorer_table, kind) for kind in kinds(models)},
    **{f"benchmarks-{kind}": partial(benchmark_table, kind) for kind in kinds(benchmarks)},
    **{f"verified-{s}": partial(verified_table, s) for s in (*STATUSES, "service", "embedded")},
    "decisions": decisions_table,
    "geometries": geometry_table,
    "t2v-metrics-names": t2v_metrics_table,
    "t2v-metrics-refused": refused_table,
    "templates": template_table,
}
