"""Send many requests to one service: adaptive concurrency, retries with backoff, and limits.

`Pool.run` works in an event loop in a thread of its own and yields each answer as it arrives. The
number of open requests starts at one, grows while answers arrive, and is halved when the service
reports a rate limit (additive increase, multiplicative decrease, as TCP does it).
`backends/services/protocol.py` decides which responses are retried.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import queue
import random
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from t2v_eval.errors import MediaError, ScoringError, ServiceError, T2VError, T2VWarning
from t2v_eval.utils.interrupts import stops_call

T = TypeVar("T")

INITIAL_CONCURRENCY = 8  # open requests after the first answer
MAX_BACKOFF = 30.0  # seconds between two attempts, unless the service says how long to wait
MAX_FAILURES_BEFORE_FIRST_ANSWER = 3  # questions given up without any answer; then the run stops
RESUME_HINT = "run it again, with a store, to go on"
MAX_CONNECT_ATTEMPTS = 3  # before the first connection; a wrong address is permanent
STALL_WARNING_AFTER = 5.0  # seconds without an answer until a warning says why
SECONDS_TO_END = 60.0  # that open requests have for their answers once no further one is sent
MAX_CONSECUTIVE_FAILURES = 8  # questions given up in a row; then the run stops


class RetryError(Exception):
    """Raised by a request that failed for now and may be sent again.

    Args:
        reason: the message to show where the score stays missing.
        retry_after: seconds that the service asks to wait.
        rate_limited: whether the service reports too many requests.
        unreachable: whether no connection could be made at all.

    >>> RetryError("busy", retry_after=2.0).retry_after
    2.0
    """

    def __init__(
        self,
        reason: str,
        retry_after: float | None = None,
        rate_limited: bool = False,
        unreachable: bool = False,
    ) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.rate_limited = rate_limited
        self.unreachable = unreachable


class BudgetExhaustedError(Exception):
    """Raised where a question needs another request but a limit of the run is reached.

    >>> from contextlib import nullcontext
    >>> async def ask(number):
    ...     pool.count_request()  # for a second request of this question
    >>> pool = Pool(1, ask, session=nullcontext, limits=Limits(max_requests=1))
    >>> [error for finished in pool.run() for _, error in finished]
    [ScoringError('not asked: the limit of 1 requests was reached; run it again, with a store, \
to go on')]
    """


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a run.

    Attributes:
        concurrency: maximum of open requests.
        retries: maximum of retries per question. A rate limit is not a failure.
        patience: seconds after the first attempt within which a question is retried.
        backoff: seconds before the second attempt; doubled for each further one.
        max_seconds: seconds after which the run stops.
        max_requests: number of requests after which the run stops.

    >>> Limits(retries=2).patience
    600.0
    """

    concurrency: int = 64
    retries: int = 6
    patience: float = 600.0
    backoff: float = 0.5
    max_seconds: float | None = None
    max_requests: int | None = None


class AdaptiveConcurrency:
    """Bound the number of open requests, as TCP's congestion control does.

    The limit grows by one with each answer until the service first reports a rate limit, from then
    on by one with each round of answers. Lower `priority` goes first, so that new questions do not
    hold up retries.

    >>> limiter = AdaptiveConcurrency(64)
    >>> limiter.grow()
    >>> limiter.limit
    8
    >>> limiter.reduce(entered=1.0, now=2.0, retry_after=None)
    >>> limiter.limit
    4.0
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.limit = 1.0
        self.num_open = 0
        self._threshold = float(maximum)
        self._last_cut = -1.0
        self._paused_until = 0.0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    async def acquire(self, priority: int, until: float = math.inf) -> float:
        """Wait for a slot, and for the end of a pause of all requests, though not beyond `until`.

        Returns:
            The time of the event loop at which the request may start; pass it to `reduce`.
        """
        loop = asyncio.get_running_loop()
        slot: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (priority, slot))
        self._admit()
        try:
            await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled():
                self.release()
            raise
        while (wait := min(self._paused_until, until) - loop.time()) > 0:
            try:
                await asyncio.sleep(wait)
            except asyncio.CancelledError:
                self.release()
                raise
        return loop.time()

    def release(self) -> None:
        """Give back a slot."""
        self.num_open -= 1
        self._admit()

    def grow(self) -> None:
        """Raise the limit after an answer."""
        step = 1.0 if self.limit < self._threshold else 1.0 / self.limit
        initial = (
            min(INITIAL_CONCURRENCY, self._threshold)
            if self.limit <= 1 and self._last_cut < 0
            else 0.0
        )
        self.limit = min(float(self.maximum), max(initial, self.limit + step))
        self._admit()

    def reduce(self, entered: float, now: float, retry_after: float | None) -> None:
        """Halve the limit after a rate limit, once a round, and pause for `retry_after` seconds.

        Args:
            entered: when the refused request started; one from before the last cut is ignored.
            now: the time of the event loop.
            retry_after: seconds for which the service asks to wait.
        """
        if entered > self._last_cut:
            self._last_cut = now
            self.limit = max(1.0, self.limit / 2)
            self._threshold = self.limit
        if retry_after is not None:
            self._paused_until = max(self._paused_until, now + retry_after)

    def _admit(self) -> None:
        while self._waiting and self.num_open < int(self.limit):
            _, slot = heapq.heappop(self._waiting)
            if not slot.done():
                self.num_open += 1
                slot.set_result(None)


@dataclass(slots=True)
class _History:
    """The attempts at one question; rate limits count as attempts, not as failures."""

    started: float
    attempts: int = 0
    failures: int = 0


class Pool(Generic[T]):
    """Ask `num_jobs` questions concurrently.

    Args:
        num_jobs: number of questions.
        ask: asks question number n; raises `RetryError` (ask again), `ScoringError` or
            `MediaError` (this question has no answer), or another `T2VError` (stop the run).
        session: opens what is needed during the run, such as connections.
        limits: limits of the run.
        stop_reason: returns why the run must stop, or ""; called before each request.
        resume_hint: how a later run goes on, for messages.

    >>> from contextlib import nullcontext
    >>> async def ask(number):
    ...     return number * number
    >>> pool = Pool(3, ask, session=nullcontext, limits=Limits())
    >>> sorted(pair for finished in pool.run() for pair in finished)
    [(0, 0), (1, 1), (2, 4)]
    """

    def __init__(
        self,
        num_jobs: int,
        ask: Callable[[int], Awaitable[T]],
        session: Callable[[], AbstractAsyncContextManager[Any]],
        limits: Limits,
        stop_reason: Callable[[], str] = lambda: "",
        resume_hint: str = RESUME_HINT,
    ) -> None:
        self.num_jobs, self.limits, self._resume_hint = num_jobs, limits, resume_hint
        self._ask, self._session, self._stop_reason = ask, session, stop_reason
        self.concurrency = AdaptiveConcurrency(limits.concurrency)
        self.sent = 0  # with those of earlier pools that share the limits, as `elapsed`
        self.elapsed = 0.0
        self._num_answered = self._failures_in_a_row = 0
        self._service_reached = False  # whether the service responded, even with an error
        self._last_problem = ""  # the reason of the last retry
        self._stall_reported = False
        self._finished: queue.SimpleQueue[tuple[int, T | T2VError] | None] = queue.SimpleQueue()
        self._unfinished = set(range(num_jobs))
        self._error: BaseException | None = None
        self._limit_message = ""  # the limit that was reached, if any
        self._stopped = False  # no further request is sent
        self._dropped = False  # open requests are cancelled, too
        self._end_requested = False  # of `_main`
        self._interrupt: type[KeyboardInterrupt] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._open = set[asyncio.Task[None]]()  # questions with an open request

    def run(self) -> Iterator[list[tuple[int, T | T2VError]]]:
        """Yield lists of (number, answer or error), as they arrive.

        First Ctrl-C cancels the open requests and yields finished answers before it is raised; a
        second one raises KeyboardInterrupt at once.

        Raises:
            T2VError: the error of `ask` that holds for every question; answers to requests that
                were open then, and may be paid for, are yielded before it.
            ServiceError: the service has stopped answering.
        """
        thread = threading.Thread(target=self._thread, name="t2v-eval-pool", daemon=True)
        with stops_call(self._interrupted):
            thread.start()
            try:
                done = False
                while not done:
                    finished = [self._next()]
                    while not self._finished.empty():
                        finished.append(self._finished.get())
                    done = finished[-1] is None
                    ready = [item for item in finished if item is not None]
                    self._unfinished.difference_update(number for number, _ in ready)
                    if ready:
                        yield ready
            finally:
                self._drop()
                thread.join()
        if self._interrupt is not None:
            raise self._interrupt
        if self._error is not None:
            raise self._error
        if self._limit_message and self._unfinished:
            yield [
                (number, ScoringError(self._limit_message)) for number in sorted(self._unfinished)
            ]

    def _next(self) -> tuple[int, T | T2VError] | None:
        """Return the next finished question; warn once if that takes long."""
        while not self._stall_reported:
            try:
                return self._finished.get(timeout=STALL_WARNING_AFTER)
            except queue.Empty:
                if self._last_problem:
                    self._stall_reported = True
                    warnings.warn(f"waiting: {self._last_problem}; asking again", T2VWarning, 4)
        return self._finished.get()

    def stop(self) -> None:
        """Send no further request; what open ones answer within `SECONDS_TO_END` is yielded."""
        self._stopped = True
        if self._loop is not None and self._main is not None and not self._main.done():
            with suppress(RuntimeError):  # the loop ended meanwhile, in its own thread
                self._loop.call_soon_threadsafe(self._end)

    def _drop(self) -> None:
        """Cancel the open requests; finished answers are still yielded."""
        self._dropped = True
        self.stop()

    def _end(self) -> None:
        if self._main is not None and (self._dropped or not self._end_requested):
            self._main.cancel()
        self._end_requested = True

    def _interrupted(self, error: type[KeyboardInterrupt]) -> None:
        self._interrupt = error
        self._drop()

    def _thread(self) -> None:
        try:
            asyncio.run(self._work())
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self._error = self._error or error
        finally:
            self._finished.put(None)

    async def _work(self) -> None:
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        if self._stopped:
            return
        seconds = self.limits.max_seconds
        async with self._session():
            try:
                await asyncio.wait_for(
                    self._ask_all(), None if seconds is None else seconds - self.elapsed
                )
            except TimeoutError:
                self._limit_message = (
                    f"not asked: the run's limit of {seconds:g} s was over; {self._resume_hint}"
                )

    async def _ask_all(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        try:
            for number in range(self.num_jobs):
                # Questions that wait for a retry hold no slot, but their number is bounded too.
                while len(tasks) >= 2 * self.limits.concurrency:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                entered = await self.concurrency.acquire(number)
                if self._limit_message:
                    self.concurrency.release()
                    break
                task = asyncio.create_task(self._ask_until_answered(number, entered))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            while tasks:
                await asyncio.wait(tasks)
        finally:
            try:
                if self._open and self._stopped and not self._dropped:
                    await asyncio.wait({*self._open}, timeout=SECONDS_TO_END)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_until_answered(self, number: int, entered: float) -> None:
        history = _History(entered)
        while (retry := await self._attempt(number)) is not None and not self._stopped:
            history.attempts += 1
            history.failures += not retry.rate_limited
            wait = self._wait_before_retry(number, retry, entered, history)
            if wait is None:
                return
            await asyncio.sleep(wait)
            deadline = history.started + self.limits.patience
            entered = await self.concurrency.acquire(number, deadline)
            if entered >= deadline:  # another rate limit has prolonged the pause
                self.concurrency.release()
                self._give_up(number, f"{retry} (tried {history.attempts} times)")
                return

    async def _attempt(self, number: int) -> RetryError | None:
        """Ask once and record the result; return the error if the question may be retried."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._open.add(task)
        try:
            self.count_request()
            answer = await self._ask(number)
        except BudgetExhaustedError:
            return None
        except RetryError as problem:
            self._service_reached |= not problem.unreachable
            self._last_problem = str(problem)
            return problem
        except (ScoringError, MediaError) as error:
            self._service_reached |= isinstance(error, ScoringError)
            self._finished.put((number, error))
        except Exception as error:  # holds for all questions, or is a bug
            self._error = self._error or error
            self._stopped = True
            self._end()
        else:
            self._num_answered += 1
            self._failures_in_a_row, self._service_reached = 0, True
            self._finished.put((number, answer))
            self.concurrency.grow()
        finally:
            self._open.discard(task)
            self.concurrency.release()
        return None

    def _wait_before_retry(
        self, number: int, retry: RetryError, entered: float, history: _History
    ) -> float | None:
        """Return the seconds until the next attempt; None for no further attempt."""
        now, attempts = asyncio.get_running_loop().time(), history.attempts
        backoff = min(MAX_BACKOFF, self.limits.backoff * 2.0 ** min(attempts - 1, 20))
        wait = (retry.retry_after or 0.0) + random.uniform(0.5, 1.0) * backoff
        # False for a wait of NaN too.
        within_patience = now + wait - history.started <= self.limits.patience
        if retry.rate_limited:
            # All requests pause, unless the service asks for longer than `patience`.
            pause = retry.retry_after if within_patience else None
            self.concurrency.reduce(entered, now, pause)
        max_attempts = min(MAX_CONNECT_ATTEMPTS, self.limits.retries + 1)
        if not self._service_reached and attempts >= max_attempts:
            self._fail(ServiceError(f"{retry} (tried {attempts} times); is it running there?"))
            return None
        if history.failures > self.limits.retries or not within_patience:
            self._give_up(number, f"{retry} (tried {attempts} times)")
            return None
        return wait

    def count_request(self) -> None:
        """Count a request before it is sent; a question with several counts each of them.

        Raises:
            BudgetExhaustedError: a limit of the run is reached, or the run was stopped.
        """
        maximum = self.limits.max_requests
        if not self._limit_message and maximum is not None and self.sent >= maximum:
            self._limit_message = (
                f"not asked: the limit of {maximum} requests was reached; {self._resume_hint}"
            )
        self._limit_message = self._limit_message or self._stop_reason()
        if self._limit_message or self._stopped:
            raise BudgetExhaustedError
        self.sent += 1

    def _give_up(self, number: int, reason: str) -> None:
        self._failures_in_a_row += 1
        self._finished.put((number, ScoringError(reason)))
        if self._failures_in_a_row >= (
            MAX_CONSECUTIVE_FAILURES if self._num_answered else MAX_FAILURES_BEFORE_FIRST_ANSWER
        ):
            self._fail(
                ServiceError(
                    f"{reason}; {self._failures_in_a_row} questions in a row were given up, so the "
                    f"run stops; {self._resume_hint}"
                )
            )

    def _fail(self, error: Exception) -> None:
        """End the run for a service that does not answer, whose open requests wait for nothing."""
        self._error = self._error or error
        self._stopped = self._dropped = True
        self._end()


def seconds_to_wait(retry_after: str | None) -> float | None:
    """Parse the header ``retry-after``, seconds or a date; None where it is not valid.

    >>> seconds_to_wait("2"), seconds_to_wait("-3"), seconds_to_wait("1e400")
    (2.0, 0.0, inf)
    >>> seconds_to_wait("soon"), seconds_to_wait("nan"), seconds_to_wait(None)
    (None, None, None)
    """
    from email.utils import parsedate_to_datetime

    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (TypeError, ValueError, IndexError, OverflowError, OSError):
            return None
    return None if math.isnan(seconds) else max(0.0, seconds)
