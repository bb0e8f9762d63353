"""The tables of README.md are made from the cards.

    python tests/helpers/readme_tables.py

writes them; tests/contract/test_readme.py checks them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from t2v_eval.registry import Card, Registry, benchmarks, models

README = Path(__file__).parents[2] / "README.md"
SHOWN = 4  # names of one family that say the same, but for their size
SIZE = re.compile(r", \d+ billion (parameters|of them at a time)")


def shipped(registry: Registry[Any, Card]) -> list[Card]:
    """The cards that come with the library, without what tests have registered."""
    return [card for card in registry.cards.values() if card.module.startswith(registry.package)]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def names(cards: Sequence[Card]) -> str:
    shown = ", ".join(f"`{card.name}`" for card in cards[:SHOWN])
    return shown + (f" ... ({len(cards)} names)" if len(cards) > SHOWN else "")


def model_table() -> str:
    alike: dict[tuple[str, ...], list[Card]] = {}
    for card in shipped(models):
        gradient = "yes" if card.differentiable else ""
        summary = SIZE.sub("", card.summary)
        key = (
            card.kind,
            summary,
            card.range,
            gradient,
            card.license,
            card.verified,
            card.follows.removeprefix("t2v-"),
        )
        alike.setdefault(key, []).append(card)
    order = sorted(alike.items(), key=lambda item: item[0][0])
    return table(
        (
            "name",
            "kind",
            "what it is",
            "range",
            "gradient",
            "licence",
            "verified against",
            "asked as by t2v_metrics",
        ),
        ((names(cards), *key) for key, cards in order),
    )


def benchmark_table() -> str:
    return table(
        ("name", "what it judges", "size", "licence of the data", "run on"),
        ((f"`{c.name}`", c.summary, c.size, c.license, c.verified) for c in shipped(benchmarks)),
    )


def filled(text: str) -> str:
    """README's text with both tables made anew."""
    for name, content in (("models", model_table()), ("benchmarks", benchmark_table())):
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"README.md lacks {begin} ... {end}")
        text = pattern.sub(lambda _: f"{begin}\n{content}\n{end}", text)  # noqa: B023
    return text


if __name__ == "__main__":
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
