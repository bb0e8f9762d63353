"""What requests cost, counted by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from t2v_eval.remote.cost import MAX_TOKENS, Price, Usage, tokens

PRICE = Price(2.0, 10.0, 0.5)  # US dollars for a million tokens
DOLLARS = pytest.approx


def test_cached_tokens_are_part_of_the_input_at_their_own_price():
    assert PRICE.cost(1_000_000, 0) == 2
    assert PRICE.cost(1_000_000, 100_000, 400_000) == DOLLARS(0.6 * 2 + 0.4 * 0.5 + 0.1 * 10)
    assert Price(2.0, 10.0).cost(1_000_000, 0, 400_000) == 2, "at the price of others"


def test_a_batch_costs_half():
    half = Price(2.0, 10.0, 0.5, "2026-01-01").halved()
    assert half == (1.0, 5.0, 0.25, "2026-01-01")
    assert half.cost(3000, 70, 500) == DOLLARS(PRICE.cost(3000, 70, 500) / 2)
    assert Price(2.0, 10.0).halved().cached is None


def test_usage_is_summed():
    usage = Usage()
    usage.add(PRICE, 1000, 10)
    usage.add(PRICE, 3000, 30, 2000)
    assert usage.total == Counter(
        requests=2, input_tokens=4000, output_tokens=40, cached_tokens=2000
    )
    assert usage.cost == DOLLARS((2000 * 2 + 2000 * 0.5 + 40 * 10) / 1e6)
    assert usage.highest_cost == DOLLARS((1000 * 2 + 2000 * 0.5 + 30 * 10) / 1e6)


def test_an_answer_without_usage_costs_as_much_as_the_dearest_before():
    usage = Usage()
    usage.add(PRICE, 3000, 0)
    usage.add(PRICE, 1000, 0)
    usage.add(PRICE, None, None)
    assert usage.cost == DOLLARS((3000 + 1000 + 3000) * 2 / 1e6)


@pytest.mark.parametrize("count", [1, 3])
def test_answers_before_the_first_usage_cost_as_much_as_that(count):
    usage = Usage()
    for _ in range(count):
        usage.add(PRICE, None, None)
    assert usage.cost == 0 and usage.unreported == count
    usage.add(PRICE, 1000, 0)
    assert usage.cost == DOLLARS((count + 1) * 1000 * 2 / 1e6)
    usage.add(PRICE, 1000, 0)
    assert usage.cost == DOLLARS((count + 2) * 1000 * 2 / 1e6), "they are not counted again"


@pytest.mark.parametrize("value", [-1, 2.0, True, "300", None, MAX_TOKENS + 1])
def test_what_is_no_count_of_tokens_is_none(value):
    assert tokens(value) is None
    usage = Usage()
    usage.add(PRICE, value, 5)
    assert usage.total["input_tokens"] == 0 and usage.reported == 0


def test_cached_tokens_are_no_more_than_the_input():
    usage = Usage()
    usage.add(PRICE, 1000, 0, 10**6)
    assert usage.cost == DOLLARS(1000 * 0.5 / 1e6)


def test_usage_since_a_moment():
    usage = Usage()
    usage.add(PRICE, 1000, 10)
    before = Counter(usage.total), usage.cost
    assert usage.since(*before, PRICE) == {}
    usage.add(PRICE, 2000, 20)
    used = {"requests": 1, "input_tokens": 2000, "output_tokens": 20}
    assert usage.since(*before, PRICE) == used | {"us_dollars": DOLLARS(0.0042)}
    assert usage.since(*before, None) == used
