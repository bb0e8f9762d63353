"""How long a question waits because a service asks for it, and whom else that holds up.

Nothing here waits: what would take a day ends at once, or the test does not.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import nullcontext

import pytest
from helpers.services.ask_server import SERVICES, Spoken, draw_images, texts
from helpers.services.loopback import Server
from helpers.services.openai_server import error as chat_error

from t2v_eval.errors import ScoringError
from t2v_eval.remote.request_pool import (
    AdaptiveConcurrency,
    Limits,
    Pool,
    RetryError,
    seconds_to_wait,
)
from t2v_eval.scoring.plan import Block

DAY = 86400.0
FAR = "Fri, 31 Dec 9999 23:59:59 GMT"


@pytest.fixture(params=SERVICES)
def spoken(request):
    return Spoken(request.param)


def run_pool(jobs, ask, **limits):
    pool = Pool(jobs, ask, lambda: nullcontext(), Limits(**limits))
    return dict(pair for finished in pool.run() for pair in finished)


@pytest.mark.parametrize("after", [DAY, math.inf, math.nan, 1e300])
@pytest.mark.parametrize("too_many", [True, False])
@pytest.mark.parametrize("which", [0, 57, 199])
def test_one_that_would_wait_for_too_long_gives_up_and_holds_up_no_other(after, too_many, which):
    tries = []

    async def ask(number):
        if number == which:
            tries.append(number)
            raise RetryError("come back tomorrow", retry_after=after, rate_limited=too_many)
        return number

    result = run_pool(200, ask, patience=600.0)
    assert isinstance(result[which], ScoringError)
    assert str(result[which]) == "come back tomorrow (tried 1 times)"
    assert tries == [which]
    assert [result[n] for n in range(200) if n != which] == [n for n in range(200) if n != which]


@pytest.mark.parametrize(
    "after", ["86400", "1e400", "inf", "Infinity", "9" * 400, FAR, "Mon, 01 Jan 2125 00:00:00 GMT"]
)
def test_so_for_whatever_a_service_writes(after, spoken):
    def behave(request):
        late = request.number == 20
        return spoken.error(429, "slow", retry_after=after) if late else spoken.right(request)

    with Server(behave) as server:
        scorer = spoken.load(server, on_error="skip", timeout=60.0)
        outcome = scorer.evaluate_blocks([Block(draw_images(4), texts(10))])
        assert outcome.counts.computed == 39
        assert outcome.errors == {"the service answers 429: slow (tried 1 times)": 1}
        assert len(server.requests) == 40


@pytest.mark.parametrize("name", ["retry-after-ms", "retryDelay"])
def test_so_for_what_one_service_alone_writes(name):
    spoken = Spoken("gemini" if name == "retryDelay" else "openai")
    if name == "retryDelay":
        pytest.importorskip("google.genai")
        from helpers.services.gemini_server import error

        refused = error(429, "slow", details=[{"retryDelay": "86400s"}])
    else:
        refused = chat_error(429, "slow", retry_after_ms="86400000")
    with Server(lambda r: refused if r.number == 20 else spoken.right(r)) as server:
        scorer = spoken.load(server, on_error="skip", timeout=60.0)
        outcome = scorer.evaluate_blocks([Block(draw_images(4), texts(10))])
        assert outcome.errors == {"the service answers 429: slow (tried 1 times)": 1}


@pytest.mark.parametrize("after", ["-5", "nan", "soon", "", "0x10", "5, 10", "Mon, 99 Foo", "-inf"])
def test_what_says_nothing_is_asked_again_soon(after, spoken):
    def behave(request):
        early = request.number == 3
        return spoken.error(429, "slow", retry_after=after) if early else spoken.right(request)

    with Server(behave) as server:
        scores = spoken.load(server, timeout=60.0)(draw_images(2), texts(3))
        assert not scores.isnan().any()
        assert len(server.requests) == 7


def test_what_is_written_as_seconds_to_wait():
    assert seconds_to_wait("1.5") == 1.5
    assert seconds_to_wait("-1") == 0 == seconds_to_wait("Thu, 01 Jan 1970 00:00:00 GMT")
    assert seconds_to_wait("1e400") == math.inf == seconds_to_wait("9" * 400)
    assert seconds_to_wait(FAR) > 7000 * 365 * DAY
    for nothing in ("nan", "soon", "", None, "Fri, 31 Dec 99999 23:59:59 GMT", "1 2 3"):
        assert seconds_to_wait(nothing) is None, nothing


def test_a_pause_of_all_holds_a_question_no_longer_than_it_may_wait():
    async def waits():
        loop = asyncio.get_running_loop()
        limiter = AdaptiveConcurrency(4)
        limiter.reduce(entered=0.0, now=loop.time(), retry_after=DAY)
        began = time.monotonic()
        until = loop.time() + 0.01
        assert await asyncio.wait_for(limiter.acquire(1, until), 30) >= until
        assert time.monotonic() - began < 30

    asyncio.run(waits())
