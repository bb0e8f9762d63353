"""What asking a service costs: prices, what was used, and what a run would use."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

MILLION = 1_000_000
MOST_TOKENS = 10**8  # that one answer can have used


class Price(NamedTuple):
    """US dollars for a million tokens, and since when that is known (a date, or who said so)."""

    input: float
    output: float
    cached: float | None = None
    known: str = "as given"

    def half(self) -> Price:
        """Half of it, as for what may take its time."""
        cached = None if self.cached is None else self.cached / 2
        return Price(self.input / 2, self.output / 2, cached, self.known)

    def of(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float:
        """What so many tokens cost; cached ones are among those that go in.

        >>> round(Price(2.5, 10.0, 1.25).of(1_000_000, 1000, 400_000), 6)
        2.01
        """
        cached = self.input if self.cached is None else self.cached
        dollars = (input_tokens - cached_tokens) * self.input + cached_tokens * cached
        return (dollars + output_tokens * self.output) / MILLION


class Usage:
    """What requests used, as the service counts it, added up; `cost` where the price is known."""

    def __init__(self) -> None:
        self.total: Counter[str] = Counter()
        self.cost = self.dearest = 0.0
        self.told = self.untold = 0  # answers that said what they used; those before that did not

    def add(
        self,
        price: Price | None,
        input_tokens: object,
        output_tokens: object,
        cached_tokens: object = 0,
    ) -> None:
        """One answer, and what the service says that it used.

        Where that is missing or cannot be, the answer counts as the dearest so far, so that no
        limit on the cost is passed unseen; those before the first that tells count once it does.
        """
        going = tokens(input_tokens)
        coming = tokens(0 if output_tokens is None else output_tokens)
        tells = going is not None and going > 0 and coming is not None
        going, coming = going or 0, coming or 0
        cached = min(tokens(cached_tokens) or 0, going)
        self.total.update(
            requests=1, input_tokens=going, cached_tokens=cached, output_tokens=coming
        )
        self.told += tells
        self.untold += not self.told
        if price is None:
            return
        cost = price.of(going, coming, cached)
        if tells:
            self.dearest = max(self.dearest, cost)
            cost += self.untold * self.dearest
            self.untold = 0
        self.cost += max(cost, 0.0 if tells else self.dearest)

    def since(self, total: Counter[str], cost: float, price: Price | None) -> dict[str, float]:
        """What was added since then, for a report."""
        found: dict[str, float] = dict(self.total - total)
        if found and price is not None:
            found["us_dollars"] = round(self.cost - cost, 6)
        return found


def tokens(value: object) -> int | None:
    """How many tokens a service counted; None where that is no count.

    >>> tokens(300), tokens(-1), tokens(10**400), tokens("300"), tokens(2.5)
    (300, None, None, None, None)
    """
    counted = isinstance(value, int) and not isinstance(value, bool)
    return value if counted and 0 <= value <= MOST_TOKENS else None  # type: ignore[operator, return-value]


def shown_dollars(dollars: float) -> str:
    """With as many digits as say something.

    >>> shown_dollars(1234.5), shown_dollars(0.0014), shown_dollars(0.0)
    ('1,234.50', '0.0014', '0.00')
    """
    return f"{dollars:,.4f}" if 0 < dollars < 1 else f"{dollars:,.2f}"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would ask: unique cells, those in the store, and requests for the rest.

    Tokens and US dollars are None where nobody can tell; `known` says since when the price is.
    """

    cells: int
    stored: int
    requests: int
    input_tokens: int | None = None
    output_tokens: int | None = None
    us_dollars: float | None = None
    known: str = ""

    def row(self) -> list[str]:
        """For a table, in the order of `COLUMNS`."""
        tokens = ["?" if n is None else f"{n:,}" for n in (self.input_tokens, self.output_tokens)]
        price = "?" if self.us_dollars is None else shown_dollars(self.us_dollars)
        return [
            f"{self.cells:,}",
            f"{self.stored:,}",
            f"{self.requests:,}",
            *tokens,
            price,
            self.known,
        ]


COLUMNS = [
    "scores",
    "in the store",
    "requests",
    "tokens in",
    "tokens out",
    "US dollars",
    "prices of",
]
