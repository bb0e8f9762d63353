"""The pool of requests by itself: what is sent, how many are open, what becomes of each question.

No request leaves the process and no back-off takes time: `Limits(backoff=0)`.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from t2v_eval.errors import ScoringError, ServiceError, UnsupportedError
from t2v_eval.remote import request_pool
from t2v_eval.remote.request_pool import (
    AdaptiveConcurrency,
    Limits,
    Pool,
    RetryError,
    seconds_to_wait,
)


def make_pool(jobs, ask, **limits):
    return Pool(jobs, ask, lambda: nullcontext(), Limits(**{"backoff": 0.0, **limits}))


def run(jobs, ask, **limits):
    return dict(pair for part in make_pool(jobs, ask, **limits).run() for pair in part)


class Refusing:
    """Refuses a question some times before it is answered."""

    def __init__(self, times: int, **error):
        self.times, self.error = times, error
        self.tries: dict[int, int] = {}

    async def __call__(self, number):
        self.tries[number] = self.tries.get(number, 0) + 1
        if self.tries[number] <= self.times:
            raise RetryError("refused", **self.error)
        return f"answer {number}"


def test_every_question_has_its_answer():
    result = run(100, Refusing(0))
    assert result == {n: f"answer {n}" for n in range(100)}


@pytest.mark.parametrize(("rate_limited", "answered"), [(False, False), (True, True)])
def test_a_rate_limit_is_no_failure(rate_limited, answered):
    ask = Refusing(5, rate_limited=rate_limited)
    result = run(1, ask, retries=2)
    if answered:
        assert result == {0: "answer 0"} and ask.tries == {0: 6}
    else:
        assert isinstance(result[0], ScoringError) and ask.tries == {0: 3}
        assert str(result[0]) == "refused (tried 3 times)"


@pytest.mark.parametrize("maximum", [0, 1, 7])
def test_no_request_beyond_the_limit_is_sent(maximum):
    ask = Refusing(0)
    pool = make_pool(10, ask, max_requests=maximum)
    result = dict(pair for part in pool.run() for pair in part)
    assert pool.sent == len(ask.tries) == maximum
    assert result.keys() == set(range(10))
    reasons = {str(r) for r in result.values() if isinstance(r, ScoringError)}
    (reason,) = reasons
    assert f"the limit of {maximum} requests was reached" in reason
    assert sum(isinstance(r, str) for r in result.values()) == maximum


def test_retries_count_towards_the_limit():
    pool = make_pool(3, Refusing(1), max_requests=4)
    result = dict(pair for part in pool.run() for pair in part)
    assert pool.sent == 4 and result.keys() == {0, 1, 2}


def test_no_more_requests_are_open_than_allowed_and_all_slots_come_back():
    open_now = most = 0

    async def ask(number):
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0)
        open_now -= 1
        if number % 3 == 0:
            raise ScoringError("no answer")
        return number

    pool = make_pool(200, ask, concurrency=5)
    assert len([pair for part in pool.run() for pair in part]) == 200
    assert most == 5
    assert pool.concurrency.num_open == 0


def test_one_request_is_open_until_the_first_answer():
    open_now, maximum = 0, {}

    async def ask(number):
        nonlocal open_now
        open_now += 1
        maximum[number] = open_now
        await asyncio.sleep(0)
        open_now -= 1
        return number

    run(20, ask)
    assert maximum[0] == 1
    assert max(maximum.values()) > 1


def test_finished_answers_come_before_an_error_that_ends_the_run():
    answered = {}

    async def ask(number):
        if number == 3:
            raise UnsupportedError("the model has no log-probabilities")
        answered[number] = number
        return number

    received = {}
    with pytest.raises(UnsupportedError):
        for part in make_pool(50, ask).run():
            received |= dict(part)
    assert received == answered and received.keys() >= {0, 1, 2}


class Open:
    """Questions that stay open until `answer` is set, but for the first and the fifth."""

    def __init__(self):
        self.asked, self.dropped, self.answer = [], [], asyncio.Event()

    async def __call__(self, number):
        self.asked.append(number)
        if number == 5:
            raise UnsupportedError("it cannot")
        if number:
            try:
                await self.answer.wait()
            except asyncio.CancelledError:
                self.dropped.append(number)
                raise
        return number


def test_what_is_open_is_answered_before_an_error_that_ends_the_run(monkeypatch):
    ask, finished, wait = Open(), [], asyncio.wait

    async def wait_then_answer(*arguments, **options):
        if options.get("timeout") is not None:  # for what is open
            ask.answer.set()
        return await wait(*arguments, **options)

    monkeypatch.setattr(asyncio, "wait", wait_then_answer)
    with pytest.raises(UnsupportedError, match="it cannot"):
        for part in make_pool(100, ask, max_seconds=30).run():
            finished += part
    assert sorted(finished) == [(n, n) for n in ask.asked if n != 5]
    assert len(ask.asked) <= 9 and not ask.dropped


def test_what_is_not_answered_soon_after_an_error_is_dropped(monkeypatch):
    monkeypatch.setattr(request_pool, "SECONDS_TO_END", 0.0)
    ask, finished = Open(), []
    with pytest.raises(UnsupportedError, match="it cannot"):
        for part in make_pool(100, ask, max_seconds=30).run():
            finished += part
    assert finished == [(0, 0)]
    assert sorted(ask.dropped) == [n for n in ask.asked if n not in (0, 5)]


def test_after_a_stop_nothing_is_sent_and_nothing_is_asked_again():
    asked, stopped = [], asyncio.Event()

    async def ask(number):
        asked.append(number)
        if number == 8:  # the last of those that are open after the first answer
            pool.stop()
            stopped.set()
        elif number:
            await stopped.wait()
        if number == 1:
            raise RetryError("busy")
        return number

    pool = make_pool(100, ask, max_seconds=30)
    finished = [pair for part in pool.run() for pair in part]
    assert asked == [*range(9)]
    assert sorted(finished) == [(n, n) for n in asked if n != 1]


def test_who_leaves_the_run_drops_what_is_open():
    ask = Open()
    for _ in make_pool(5, ask).run():
        break
    assert sorted(ask.dropped) == ask.asked[1:]


def test_an_answer_ends_a_series_of_failures(monkeypatch):
    monkeypatch.setattr(request_pool, "MAX_CONSECUTIVE_FAILURES", 3)

    async def ask(number):
        if number % 3:
            raise RetryError("refused")
        return number

    result = run(30, ask, retries=0, concurrency=1)  # two failures after each answer
    assert [n for n, r in result.items() if r == n] == list(range(0, 30, 3))


def test_a_series_of_failures_ends_the_run():
    async def ask(number):
        if number > 4:
            raise RetryError("refused")
        return number

    pool = make_pool(100, ask, retries=0, concurrency=1)
    received = []
    with pytest.raises(ServiceError, match=r"refused .*8 questions in a row"):
        for part in pool.run():
            received += part
    assert len(received) == 5 + 8 and pool.sent == 5 + 8


def test_where_nothing_is_ever_answered_it_ends_sooner():
    pool = make_pool(100, Refusing(99), retries=0, concurrency=1)
    with pytest.raises(ServiceError, match="3 questions in a row"):
        list(pool.run())
    assert pool.sent == 3


def test_a_service_that_was_never_reached_ends_the_run_after_three_attempts():
    ask = Refusing(99, unreachable=True)
    with pytest.raises(ServiceError, match=r"tried 3 times.*is it running there"):
        run(10, ask)
    assert max(ask.tries.values()) == 3


def test_the_limit_grows_by_one_an_answer_and_halves_once_a_round():
    limiter = AdaptiveConcurrency(64)
    limits = []
    for _ in range(4):
        limiter.grow()
        limits.append(limiter.limit)
    assert limits == [8, 9, 10, 11]
    limiter.reduce(entered=1.0, now=2.0, retry_after=None)
    assert limiter.limit == 5.5
    limiter.reduce(entered=1.5, now=2.1, retry_after=None)  # sent before the cut
    assert limiter.limit == 5.5
    limiter.reduce(entered=2.5, now=3.0, retry_after=None)
    assert limiter.limit == 2.75
    limiter.grow()  # from then on by one a round of answers
    assert limiter.limit == pytest.approx(2.75 + 1 / 2.75)
    for _ in range(10_000):
        limiter.grow()
    assert limiter.limit == 64


def test_the_limit_never_falls_below_one():
    limiter = AdaptiveConcurrency(4)
    for now in range(1, 20):
        limiter.reduce(entered=now, now=now + 0.5, retry_after=None)
    assert limiter.limit == 1


@pytest.mark.parametrize("maximum", [1, 3])
def test_it_starts_at_no_more_than_the_maximum(maximum):
    limiter = AdaptiveConcurrency(maximum)
    limiter.grow()
    assert limiter.limit == maximum


def test_retries_go_before_new_questions():
    async def order():
        limiter = AdaptiveConcurrency(1)
        assert await limiter.acquire(0) >= 0
        taken = []

        async def wait(priority):
            await limiter.acquire(priority)
            taken.append(priority)
            limiter.release()

        tasks = [asyncio.create_task(wait(priority)) for priority in (5, 1, 3)]
        await asyncio.sleep(0)
        limiter.release()
        await asyncio.gather(*tasks)
        return taken

    assert asyncio.run(order()) == [1, 3, 5]


def test_a_date_is_so_many_seconds_away(monkeypatch):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(request_pool.time, "time", now.timestamp)
    assert seconds_to_wait(format_datetime(now + timedelta(seconds=30), usegmt=True)) == 30
    assert seconds_to_wait(format_datetime(now - timedelta(days=1), usegmt=True)) == 0
    assert seconds_to_wait("inf") == math.inf


def test_a_time_limit_of_nothing_asks_nothing():
    async def never(number):
        await asyncio.Event().wait()

    result = run(3, never, max_seconds=0.0)
    assert {str(r) for r in result.values()} == {
        f"not asked: the run's limit of 0 s was over; {request_pool.RESUME_HINT}"
    }


def test_a_pool_whose_loop_ends_meanwhile_is_stopped():
    pool, loop = make_pool(1, Refusing(0)), asyncio.new_event_loop()
    pool._main, pool._loop = loop.create_future(), loop
    loop.close()  # after a look at what runs in it, as another thread may
    pool.stop()
    assert list(pool.run()) == [], "nothing is asked any more"
