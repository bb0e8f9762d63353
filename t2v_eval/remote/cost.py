"""The cost of asking a service: prices, usage of requests, and the estimate for a run.

`ApiScorer` in `remote/scorer.py` stops a run at its `max_cost`; the prices of models are in
`backends/services/prices.py`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

MILLION = 1_000_000
MAX_TOKENS = 10**8  # of one answer; a larger count is not valid


class Price(NamedTuple):
    """US dollars for a million tokens.

    Attributes:
        input: price of tokens of questions.
        output: price of tokens of answers.
        cached: price of tokens of questions that the service has in a cache; None: as `input`.
        as_of: the date of the price, or "as given" by the user.

    >>> Price(2.5, 10.0).cost(1_000_000, 0)
    2.5
    """

    input: float
    output: float
    cached: float | None = None
    as_of: str = "as given"

    def halved(self) -> Price:
        """Return half the price, as batch APIs charge.

        >>> Price(2.5, 10.0).halved()[:3]
        (1.25, 5.0, None)
        """
        cached = None if self.cached is None else self.cached / 2
        return Price(self.input / 2, self.output / 2, cached, self.as_of)

    def cost(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float:
        """Return the cost in US dollars.

        Args:
            input_tokens: tokens of questions, cached ones among them.
            output_tokens: tokens of answers.
            cached_tokens: tokens of questions that the service had in a cache.

        >>> round(Price(2.5, 10.0, 1.25).cost(1_000_000, 1000, 400_000), 6)
        2.01
        """
        cached = self.input if self.cached is None else self.cached
        dollars = (input_tokens - cached_tokens) * self.input + cached_tokens * cached
        return (dollars + output_tokens * self.output) / MILLION


class Usage:
    """Sum the usage that the service reports.

    Attributes:
        total: counts of requests and tokens.
        cost: US dollars, where the price is known.
        highest_cost: that of the most expensive answer.

    >>> usage = Usage()
    >>> usage.add(Price(2.5, 10.0), input_tokens=1000, output_tokens=100)
    >>> usage.total["requests"], usage.cost
    (1, 0.0035)
    """

    def __init__(self) -> None:
        self.total: Counter[str] = Counter()
        self.cost = self.highest_cost = 0.0
        # Answers with a valid usage, and those without one before the first.
        self.reported = self.unreported = 0

    def add(
        self,
        price: Price | None,
        input_tokens: object,
        output_tokens: object,
        cached_tokens: object = 0,
    ) -> None:
        """Add an answer with the usage that the service reports.

        Where that is missing or not valid, the answer counts with the highest cost so far, so that
        `max_cost` holds; answers before the first valid usage count once that arrives.

        Args:
            price: the price, where it is known.
            input_tokens: the reported number of tokens of the question, unchecked.
            output_tokens: that of the answer.
            cached_tokens: that of tokens that the service had in a cache.
        """
        input_count = tokens(input_tokens)
        output_count = tokens(0 if output_tokens is None else output_tokens)
        is_reported = input_count is not None and input_count > 0 and output_count is not None
        input_count, output_count = input_count or 0, output_count or 0
        cached_count = min(tokens(cached_tokens) or 0, input_count)
        self.total.update(
            requests=1,
            input_tokens=input_count,
            cached_tokens=cached_count,
            output_tokens=output_count,
        )
        self.reported += is_reported
        self.unreported += not self.reported
        if price is None:
            return
        cost = price.cost(input_count, output_count, cached_count)
        if is_reported:
            self.highest_cost = max(self.highest_cost, cost)
            cost += self.unreported * self.highest_cost
            self.unreported = 0
        self.cost += max(cost, 0.0 if is_reported else self.highest_cost)

    def since(self, total: Counter[str], cost: float, price: Price | None) -> dict[str, float]:
        """Return the usage since an earlier state, for a report.

        Args:
            total: counts of the earlier state.
            cost: US dollars of the earlier state.
            price: the price, where it is known.
        """
        used: dict[str, float] = dict(self.total - total)
        if used and price is not None:
            used["us_dollars"] = round(self.cost - cost, 6)
        return used


def tokens(value: object) -> int | None:
    """Return a count of tokens; None where the value is not a valid count.

    >>> tokens(300), tokens(-1), tokens(10**400), tokens("300"), tokens(2.5)
    (300, None, None, None, None)
    """
    is_count = isinstance(value, int) and not isinstance(value, bool)
    return value if is_count and 0 <= value <= MAX_TOKENS else None  # type: ignore[operator, return-value]


def format_dollars(dollars: float) -> str:
    """Format US dollars with two digits, or four below one dollar.

    >>> format_dollars(1234.5), format_dollars(0.0014), format_dollars(0.0)
    ('1,234.50', '0.0014', '0.00')
    """
    return f"{dollars:,.4f}" if 0 < dollars < 1 else f"{dollars:,.2f}"


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimate for a run.

    Attributes:
        cells: number of unique cells.
        stored: how many of them are in the store.
        requests: number of requests for the rest.
        input_tokens: their tokens; None where that is not known.
        output_tokens: tokens of the answers; None where that is not known.
        us_dollars: the cost; None where that is not known.
        as_of: the date of the price.

    >>> Estimate(cells=10, stored=4, requests=6).row()[:3]
    ['10', '4', '6']
    """

    cells: int
    stored: int
    requests: int
    input_tokens: int | None = None
    output_tokens: int | None = None
    us_dollars: float | None = None
    as_of: str = ""

    def row(self) -> list[str]:
        """Return the row of a table, in the order of `COLUMNS`."""
        tokens = ["?" if n is None else f"{n:,}" for n in (self.input_tokens, self.output_tokens)]
        price = "?" if self.us_dollars is None else format_dollars(self.us_dollars)
        return [
            f"{self.cells:,}",
            f"{self.stored:,}",
            f"{self.requests:,}",
            *tokens,
            price,
            self.as_of,
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
