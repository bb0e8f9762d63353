"""What a service can do wrong: what the user sees, what is stored, and that nothing is lost."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from helpers.processes import Forked
from helpers.services.ask_server import SERVICES, Spoken, draw_images, scorer_of, texts
from helpers.services.loopback import Server, wanted
from helpers.services.openai_server import FAULTS, error, right
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.errors import ScoringError, ServiceError, T2VWarning
from t2v_eval.remote.request_pool import (
    RESUME_HINT,
    AdaptiveConcurrency,
    Limits,
    Pool,
    RetryError,
    seconds_to_wait,
)
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.results import CellCounts

QUICK = [name for name in FAULTS if name not in ("hang", "slow")]
OFTEN = 4 * QUICK + ["hang", "slow"]
AGAIN = [name for name in FAULTS if name not in ("no logprobs",)]
SAYS = {
    "429": "the service answers 429: R",
    "429 after": "the service answers 429: ",
    "408": "the service answers 408: ",
    "409": "the service answers 409: ",
    "500": "the service answers 500: ",
    "503": "the service answers 503: ",
    "hang": "no answer within 60 s",
    "slow": "no answer within 60 s",
    "cut": "no connection to http://127.0.0.1:",
    "malformed": "the service's answer is not ",
    "not a completion": "the service's answer is not ",
}


@pytest.fixture(params=SERVICES)
def spoken(request):
    """Every service that can be asked, by the protocol that it speaks."""
    return Spoken(request.param)


def right_answers(server):
    """What `server` must have answered to what it was asked, in order of size."""
    return torch.tensor(sorted({r.cell: wanted(r) for r in server.requests}.values()))


def check(server, scores):
    """All scores are there, and they are the right ones."""
    result = torch.as_tensor(scores).flatten().sort().values
    assert not result.isnan().any()
    torch.testing.assert_close(result, right_answers(server), atol=1e-6, rtol=0)


@pytest.fixture
def received(monkeypatch):
    """A list with an entry for each answer that a client has received."""
    answers, grow = [], AdaptiveConcurrency.grow

    def record(limiter):
        answers.append(limiter)
        grow(limiter)

    monkeypatch.setattr(AdaptiveConcurrency, "grow", record)
    return answers


def only_for(text, reply, well=right):
    """Behave well for every text but one."""
    return lambda request: reply() if f'"{text}"' in request.question else well(request)


@pytest.mark.parametrize("fault", AGAIN)
def test_what_passes_is_asked_again(fault, spoken):
    def behave(request):
        return spoken.FAULTS[fault]() if request.tries <= 2 else spoken.right(request)

    with Server(behave) as server:
        scorer = spoken.time_out_where_stuck(spoken.load(server), server)
        check(server, scorer(draw_images(2), texts(2)))
        assert Counter(r.tries for r in server.requests) == {1: 4, 2: 4, 3: 4}


@pytest.mark.parametrize("fault", AGAIN)
def test_what_does_not_pass_is_missing_with_its_reason(fault, spoken, tmp_path):
    store = t2v_eval.Store(tmp_path / "s.db")
    with Server(only_for("1 cats", spoken.FAULTS[fault], spoken.right)) as server:
        # A "too many" is no failure of a question, so that patience alone ends it.
        patience = 3.0 if fault.startswith("429") else 600.0
        options = {"retries": 1, "patience": patience, "store": store}

        def load(**more):
            return spoken.time_out_where_stuck(spoken.load(server, **options, **more), server)

        outcome = load(on_error="skip").evaluate_blocks([Block(draw_images(2), texts(3))])
        assert outcome.counts == CellCounts(cells=6, computed=4, failed=2)
        assert {key[1:] for key in outcome.failures} == {(0, 1), (1, 1)}
        assert all(SAYS[fault] in reason and "tried " in reason for reason in outcome.errors)
        if not fault.startswith("429"):  # which is no failure of the question
            assert sum('"1 cats"' in r.question for r in server.requests) == 2 * 2
        stored = [(row.text, row.value, row.error) for row in store.rows()]
        assert len(stored) == 6
        for text, value, reason in stored:
            assert (value is None) == (text == "1 cats") == (reason is not None)
        with pytest.raises(ScoringError, match=r"images\[\d\] .* with '1 cats': "):
            load()(draw_images(2), texts(3))
        server.behave = spoken.right
        before = len(server.requests)
        check(server, load()(draw_images(2), texts(3)))
        assert len(server.requests) == before + 2, "only what was missing is asked again"


def test_an_answer_without_log_probabilities_among_others_that_have_them(spoken):
    with Server(only_for("1 cats", spoken.FAULTS["no logprobs"], spoken.right)) as server:
        scorer = spoken.load(server, on_error="skip", retries=2)
        outcome = scorer.evaluate_blocks([Block(draw_images(2), texts(3))])
        assert outcome.errors == {"the answer came without log-probabilities (tried 3 times)": 2}


def test_a_refused_image_is_missing_and_is_not_asked_again(spoken):
    policy = spoken.error(400, "Your input image may contain content that is not allowed")
    with Server(only_for("1 cats", lambda: policy, spoken.right)) as server:
        outcome = spoken.load(server, on_error="skip").evaluate_blocks(
            [Block(draw_images(2), texts(3))]
        )
        assert outcome.errors == {
            "the service refuses it (status 400): Your input image may contain content that is "
            "not allowed": 2
        }
        assert len(server.requests) == 6


def test_a_question_that_is_flagged_costs_itself_alone_whatever_the_status(spoken):
    flagged = spoken.error(403, "Your input was flagged by the provider's moderation")
    with Server(only_for("1 cats", lambda: flagged, spoken.right)) as server:
        outcome = spoken.load(server, on_error="skip").evaluate_blocks(
            [Block(draw_images(2), texts(3))]
        )
    reason = "the service refuses it (status 403): Your input was flagged by the provider's"
    assert [error.startswith(reason) for error in outcome.errors] == [True]
    assert sum(outcome.errors.values()) == 2


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((401, "bad key"), r"refuses the key \(status 401\); check `api_key="),
        ((402, "Insufficient credits"), r"account at http.* is used up: Insufficient credits"),
        ((403, "not yours"), r"refuses the key \(status 403\)"),
        ((404, "The model m does not exist"), "does not know the model 'm' .*does not exist"),
        ((307, "elsewhere"), "points to another address, which is not followed"),
    ],
)
def test_what_holds_for_every_question_stops_the_run(refusal, message, on_error, spoken, tmp_path):
    def behave(request):
        return spoken.right(request) if request.number <= 20 else spoken.error(*refusal)

    def hold(request):
        """Answer what was asked before only after the refusal."""
        return 10 < request.number <= 20 and len(server.released) < 11

    store = t2v_eval.Store(tmp_path / "s.db")
    with Server(behave, hold=hold) as server:
        with pytest.raises(ServiceError, match=message):
            spoken.load(server, on_error=on_error, store=store)(draw_images(10), texts(20))
        assert len(server.requests) < 20 + 64
    rows = [row for row in store.rows() if row.value is not None]
    assert len(rows) == 20, "answers to requests that were open are kept"
    assert all(row.error is None for row in rows)


def test_where_no_server_is_the_run_stops_at_once(spoken):
    with Server(spoken.right) as server:
        address = server.address
    few = pytest.raises(ServiceError, match=r"no connection to http://127.*\(tried 3 times\)")
    with few:  # and not as often as a server that is busy
        spoken.load(address, on_error="skip", retries=6)(draw_images(10), texts(10))


def test_where_nobody_answers_the_run_stops_after_three_questions(spoken):
    with Server(lambda request: spoken.FAULTS["cut"]()) as server:
        with pytest.raises(ServiceError, match=r"no connection to http.*3 questions in a row"):
            spoken.load(server, on_error="skip", retries=1)(draw_images(10), texts(10))
        assert len(server.requests) >= 6


def test_a_person_who_waits_is_told_why(spoken, monkeypatch):
    monkeypatch.setattr("t2v_eval.remote.request_pool.STALL_WARNING_AFTER", 0.1)

    def behave(request):
        loading = spoken.error(503, "Loading model sk-0123456789")
        return loading if request.number <= 5 else spoken.right(request)

    with Server(behave) as server:
        with pytest.warns(T2VWarning) as reported:
            check(
                server,
                spoken.load(server, backoff=0.1, api_key="sk-0123456789")(draw_image(1), texts(2)),
            )
        message = [str(item.message) for item in reported]
        assert message == ["waiting: the service answers 503: Loading model [key]; asking again"]


def test_where_nobody_answers_any_more_the_run_stops_and_keeps_what_it_has(
    spoken, tmp_path, received
):
    def behave(request):
        return spoken.right(request) if request.number <= 50 else spoken.FAULTS["500"]()

    def hold(request):
        """Fail no request before the client has all 50 answers."""
        return request.number > 50 and len(received) < 50

    store = t2v_eval.Store(tmp_path / "s.db")
    with Server(behave, hold=hold) as server:
        scorer = spoken.load(server, on_error="skip", retries=1, store=store)
        with pytest.raises(ServiceError, match="8 questions in a row"):
            scorer(draw_images(10), texts(20))
    assert sum(row.value is not None for row in store.rows()) == 50


def test_with_an_error_what_is_open_is_awaited_and_stored_first(tmp_path, monkeypatch):
    store, stopped, stop = t2v_eval.Store(tmp_path / "s.db"), threading.Event(), Pool.stop

    def stop_and_say(pool):
        stop(pool)
        stopped.set()

    def hold(request):
        """Refuse one while all others are open, and answer these after the client stopped."""
        if request.number == 1 or '"3 cats"' in request.question:
            return request.number > 1 and len(server.requests) < 9
        return not stopped.is_set()

    monkeypatch.setattr(Pool, "stop", stop_and_say)
    with Server(only_for("3 cats", lambda: error(400, "not allowed")), hold=hold) as server:
        with pytest.raises(ScoringError, match="with '3 cats': the service refuses it"):
            scorer_of(server, store=store)(draw_images(1), texts(30))
        assert len(server.requests) < 30
    rows = [row for row in store.rows() if row.value is not None]
    assert len(rows) == len(server.requests) - 1 >= 8, "all but the refused question"


def test_with_an_error_what_is_finished_is_stored_first(tmp_path, received, monkeypatch):
    monkeypatch.setattr("t2v_eval.remote.request_pool.SECONDS_TO_END", 0.1)
    store = t2v_eval.Store(tmp_path / "s.db")
    policy = error(400, "not allowed")
    unanswered = {f'"{text}"' for text in texts(60)[40:]}

    def hold(request):
        """Answer 39, then refuse one while 20 are open."""
        if '"30 cats"' in request.question:
            return len(received) < 39 or len(server.requests) < 60
        return any(text in request.question for text in unanswered)

    with Server(only_for("30 cats", lambda: policy), hold=hold) as server:
        scorer = scorer_of(server, store=store)
        with pytest.raises(ScoringError, match="with '30 cats': the service refuses it"):
            scorer(draw_images(1), texts(60))
        assert sum(row.value is not None for row in store.rows()) == 39
        assert len({r.question for r in server.requests}) == len(server.requests) == 60
        server.behave = right
        unanswered.clear()
        check(server, scorer(draw_images(1), texts(60)))
        assert len(server.requests) == 60 + 21, "only what was not finished is asked again"


def test_retry_after_is_honoured_by_all(spoken, monkeypatch):
    starts, pauses = [], []  # by the client's clock
    acquire, reduce = AdaptiveConcurrency.acquire, AdaptiveConcurrency.reduce

    async def record_start(limiter, *arguments):
        starts.append(await acquire(limiter, *arguments))
        return starts[-1]

    def record_pause(limiter, entered, now, retry_after):
        pauses.append((now, retry_after))
        reduce(limiter, entered, now, retry_after)

    monkeypatch.setattr(AdaptiveConcurrency, "acquire", record_start)
    monkeypatch.setattr(AdaptiveConcurrency, "reduce", record_pause)

    def behave(request):
        slow = spoken.error(429, "slow down", retry_after="0.4")
        return slow if request.number == 30 else spoken.right(request)

    with Server(behave) as server:
        check(server, spoken.load(server)(draw_images(3), texts(30)))
        refused = server.requests[29]
        again = next(r for r in server.requests if r.cell == refused.cell and r.tries == 2)
        assert again.at - refused.at >= 0.4
    ((now, pause),) = pauses
    assert pause == 0.4
    assert sum(start >= now for start in starts) > 0
    assert not [start for start in starts if now <= start < now + pause], "no request starts then"


def test_nobody_waits_for_longer_than_was_allowed(spoken):
    def behave(request):
        later = spoken.error(429, "x", retry_after="90")
        return later if request.number > 3 else spoken.right(request)

    with Server(behave) as server:
        scorer = spoken.load(server, on_error="skip", patience=1.0)
        outcome = scorer.evaluate_blocks([Block(draw_images(1), texts(5))])
        assert outcome.errors == {"the service answers 429: x (tried 1 times)": 2}


@pytest.mark.parametrize("concurrency", [1, 24, 64])
def test_concurrency_grows_while_it_goes_well_and_stays_within_its_bound(concurrency, spoken):
    cells, arrivals = 2 * (concurrency + 8), []

    def behave(request):
        arrivals.append((server.answered, server.open, server.allowed(concurrency)))
        return spoken.right(request)

    # No request is answered before all are open that may be.
    with Server(behave, hold=lambda _: server.awaits_more(cells, concurrency)) as server:
        scorer = spoken.load(server, concurrency=concurrency, timeout=60.0)
        check(server, scorer(draw_images(2), texts(cells // 2)))
    assert server.most_open == concurrency
    assert all(num_open <= allowed for _, num_open, allowed in arrivals)
    assert [answered for answered, _, _ in arrivals[:2]] == [0, 1], "the first goes alone"


def test_concurrency_is_halved_when_there_is_too_much(received):
    capacity, maximum, cells = 10, [], 8 * 60

    def behave(request):
        maximum.append(server.open)
        return FAULTS["429"]() if server.open > capacity else right(request)

    def hold(request):
        """Reply when the client has as many requests open as it allows itself."""
        limit = int(received[-1].limit) if received else 1
        return server.open < min(limit, cells - len(received))

    with Server(behave, hold=hold) as server:
        check(server, scorer_of(server, retries=0)(draw_images(8), texts(60)))
        refused = sum(n > capacity for n in maximum)
        late = maximum[len(maximum) // 2 :]
        assert refused < len(maximum) / 4, "and few are refused"
        assert max(late) <= 2 * capacity


def test_pace_as_it_is_described():
    concurrency = AdaptiveConcurrency(64)
    assert concurrency.limit == 1
    concurrency.grow()
    assert concurrency.limit == 8
    for _ in range(100):
        concurrency.grow()
    assert concurrency.limit == 64
    concurrency.reduce(entered=1.0, now=2.0, retry_after=None)
    assert concurrency.limit == 32
    concurrency.reduce(entered=1.5, now=2.1, retry_after=None)
    assert concurrency.limit == 32, "a request sent before the cut says nothing new"
    concurrency.reduce(entered=2.2, now=3.0, retry_after=None)
    assert concurrency.limit == 16
    for _ in range(16):
        concurrency.grow()
    assert 16.9 < concurrency.limit < 17.1, "one more for a round of answers"


def test_requests_for_one_image_go_out_together():
    with Server(right, hold=lambda _: server.awaits_more(6 * 40, 8)) as server:
        scorer_of(server, concurrency=8)(draw_images(6), texts(40))
        requests = [r.images[0] for r in server.requests]
    for url in set(requests):
        first, last = requests.index(url), len(requests) - requests[::-1].index(url)
        assert last - first <= 40 + 2 * 8


def test_the_limits_of_a_run(monkeypatch):
    with Server(right) as server:
        few = scorer_of(server, on_error="skip", max_requests=17)
        outcome = few.evaluate_blocks([Block(draw_images(4), texts(20))])
        assert len(server.requests) == 17
        assert outcome.counts == CellCounts(cells=80, computed=17, failed=63)
        assert outcome.errors == {
            f"not asked: the limit of 17 requests was reached; {RESUME_HINT}": 63
        }
        with pytest.raises(ScoringError, match="not asked: the limit of 17 requests"):
            scorer_of(server, max_requests=17)(draw_images(4), texts(20))
    with Server(lambda r: right(r) if r.number <= 5 else FAULTS["hang"]()) as server:

        async def wait_until_stuck(work, seconds):
            """Let the time of the run be over once five answers are there and nothing moves."""
            assert seconds == 1.0
            task = asyncio.ensure_future(work)
            while sum(server.stuck.values()) < 12:  # 8 + 5 - 1 that are open after five answers
                await asyncio.wait([task], timeout=0.002)
            task.cancel()
            await asyncio.wait([task])
            raise TimeoutError

        clock = SimpleNamespace(**vars(asyncio) | {"wait_for": wait_until_stuck})
        monkeypatch.setattr("t2v_eval.remote.request_pool.asyncio", clock)
        soon = scorer_of(server, on_error="skip", max_seconds=1.0)
        outcome = soon.evaluate_blocks([Block(draw_images(4), texts(20))])
        assert outcome.counts.computed == 5
        (reason,) = outcome.errors
        assert reason == f"not asked: the run's limit of 1 s was over; {RESUME_HINT}"
        assert sum(outcome.errors.values()) + outcome.counts.computed == 80


def test_when_to_ask_again_may_be_a_date():
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    assert 25 < seconds_to_wait(later) <= 31
    assert seconds_to_wait("Thu, 01 Jan 1970 00:00:00 GMT") == 0


def test_a_mistake_of_ours_is_not_taken_for_an_answer():
    async def wrong(number):
        raise ZeroDivisionError

    from contextlib import nullcontext

    pool = Pool(3, wrong, lambda: nullcontext(), Limits())
    with pytest.raises(ZeroDivisionError):
        list(pool.run())


def test_a_pool_that_nobody_reads_on_stops():
    from contextlib import asynccontextmanager

    closed = threading.Event()

    @asynccontextmanager
    async def session():
        try:
            yield
        finally:
            closed.set()

    async def ask(number):
        if number > 3:
            raise RetryError("later", retry_after=100)
        return number

    results = Pool(10, ask, session, Limits()).run()
    next(results)
    results.close()
    assert closed.is_set()
    assert not [t for t in threading.enumerate() if t.name == "t2v-eval-pool"]


def faulty(request, spoken, faults=OFTEN):
    """One request in five goes wrong, in any way; which ones depends on what is asked."""
    seed = hashlib.blake2b(f"{request.cell} {request.tries}".encode())
    number = int.from_bytes(seed.digest()[:4], "big")
    if number % 5 == 0 and request.tries < 6:
        return spoken.FAULTS[faults[number // 5 % len(faults)]]()
    return spoken.right(request)


def check_store(server, path, cells):
    """All right answers, and exactly one a cell."""
    rows = list(t2v_eval.Store(path).rows())
    assert len(rows) == cells and all(row.error is None for row in rows)
    check(server, [row.value for row in rows])


def test_600_cells_with_faults_in_a_fifth_of_all_requests(spoken, tmp_path):
    path = tmp_path / "s.db"
    with Server(lambda request: faulty(request, spoken)) as server:
        scorer = spoken.load(server, store=path, retries=20)
        spoken.time_out_where_stuck(scorer, server)
        check(server, scorer(draw_images(20), texts(30)))
        assert len(server.requests) > 690
    check_store(server, path, 600)


def start(spoken, server, store, *rest):
    code = "from helpers.services.ask_server import main; main()"
    return Forked(code, [spoken.name, server.address, store, *rest])


def wait_for(server, requests, client):
    """Wait until the server has had so many requests of a client that goes on."""
    while len(server.requests) < requests:
        assert client.poll() is None, client.communicate()
        time.sleep(0.002)


def test_killed_twice_it_goes_on_and_asks_little_twice(spoken, tmp_path):
    path, concurrency, cells = tmp_path / "s.db", 8, 200
    stop_at, lost = 0, 0
    right_replies = Counter()
    released_before_kill = {}  # numbers of requests, by client

    def behave(request):
        reply = faulty(request, spoken, QUICK)
        right_replies[request.cell] += is_right(request, reply)
        return reply

    def is_right(request, reply):
        return reply.body == spoken.right(request).body

    # From `stop_at` requests on none is answered, so that the client cannot end before the kill.
    with Server(behave, hold=lambda _: 0 < stop_at <= len(server.requests)) as server:
        stored = 0
        for name in ("first", "second"):
            stop_at = len(server.requests) + (60 if stored else 50)
            client = start(spoken, server, path, 10, 20, concurrency, name)
            wait_for(server, stop_at, client)
            # Every answer is stored as it arrives, while others are open.
            released = [pair for pair in [*server.released] if client_of(pair[0]) == name]
            stored += sum(is_right(*pair) for pair in released)
            while count_values(path) < stored:
                assert client.poll() is None, client.communicate()
            client.send_signal(signal.SIGKILL)
            client.communicate()
            assert count_values(path) == stored
            released_before_kill[name] = {request.number for request, _ in released}
        stop_at = 0
        scorer = spoken.load(server, store=path, retries=20, concurrency=concurrency)
        assert not scorer(draw_images(10), texts(20)).isnan().any()
        lost = [
            request
            for request in server.requests
            if request.number not in released_before_kill.get(client_of(request), {request.number})
        ]
    assert len(right_replies) == cells
    assert len(lost) <= 2 * concurrency
    asked_twice = sum(is_right(request, faulty(request, spoken, QUICK)) for request in lost)
    assert sum(right_replies.values()) - cells == asked_twice, "what was open, and nothing else"
    check_store(server, path, cells)


def client_of(request):
    """The name of the client that sent a request, which is its key."""
    headers = request.headers
    return headers.get("x-goog-api-key") or headers["authorization"].removeprefix("Bearer ")


def count_values(path):
    if not path.exists():
        return 0
    return sum(row.value is not None for row in t2v_eval.Store(path).rows())


def test_an_interrupt_loses_nothing_that_is_finished(spoken, tmp_path):
    path, interrupted = tmp_path / "s.db", threading.Event()

    def hold(_):
        """From 100 requests on none is answered, and Ctrl-C is pressed once."""
        if len(server.requests) < 100:
            return False
        if not interrupted.is_set():
            interrupted.set()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return True

    with Server(spoken.right, hold=hold) as server:
        scorer = spoken.load(server, store=path, concurrency=8, on_error="skip")
        with pytest.raises(KeyboardInterrupt):
            scorer(draw_images(10), texts(20))
        requests = len(server.requests)
    rows = list(t2v_eval.Store(path).rows())
    assert all(row.error is None for row in rows)
    assert requests - 8 <= len(rows) <= requests, "all but what was open"


def test_a_scorer_in_another_thread_than_the_main_one():
    result = []
    with Server(right) as server:
        scorer = scorer_of(server)
        thread = threading.Thread(target=lambda: result.append(scorer(draw_image(1), texts(5))))
        thread.start()
        thread.join(30)
        check(server, result[0])
