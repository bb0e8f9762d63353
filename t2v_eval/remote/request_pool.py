"""Many questions to one service at once: how many, how fast, how often again, and when to stop.

`Pool.run` works in an event loop in a thread of its own and hands out every answer as it comes.
The number of open requests starts at one, grows while answers come, and is halved when the service
says that it is too many.
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
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from t2v_eval.errors import MediaError, ScoringError, ServiceError, T2VError, T2VWarning
from t2v_eval.utils.interrupts import stops_call

Answer = TypeVar("Answer")

FIRST = 8  # open requests after the first answer
LONGEST_WAIT = 30.0  # seconds between two tries where the service does not say how long
DEAD = 3  # questions given up before any answer came: nobody is there
GO_ON = "run it again, with a store, to go on"
TRIES_AT_A_DOOR = 3  # where no connection was ever made: a wrong address does not get better
SILENCE = 5.0  # seconds without an answer until a person is told why
DOWN = 8  # questions given up one after the other, none answered between: nobody is there any more


class RetryError(Exception):
    """What a question raises that may be asked again.

    Args:
        reason: for the person who reads why a score is missing.
        after: seconds that the service asks to wait.
        too_many: whether it says that it is asked too often.
        absent: whether no connection could be made at all.
    """

    def __init__(
        self,
        reason: str,
        after: float | None = None,
        too_many: bool = False,
        absent: bool = False,
    ) -> None:
        super().__init__(reason)
        self.after = after
        self.too_many = too_many
        self.absent = absent


class NoMoreError(Exception):
    """What a question raises that needs another request when no more may be sent."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How a service may be asked.

    `concurrency` bounds the open requests, `retries` how often a question that failed is asked
    again and `patience` (seconds) how long; being asked to slow down counts as no failure.
    `backoff` is the first wait, doubled each time. After `max_seconds`, or with `max_requests`
    sent, nothing more is asked.
    """

    concurrency: int = 64
    retries: int = 6
    patience: float = 600.0
    backoff: float = 0.5
    max_seconds: float | None = None
    max_requests: int | None = None


class Pace:
    """How many requests may be open, as TCP does it: one more for each answer until the first
    "too many", from then on one more for each round of answers.

    Lower `priority` goes first, so that what is asked again is not kept waiting by what is new.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = 1.0
        self.open = 0
        self._threshold = float(most)
        self._cut_at = -1.0
        self._paused_until = 0.0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    async def enter(self, priority: int, until: float = math.inf) -> float:
        """Wait for a place, and while all pause, but for that not beyond `until`; returns when that
        was over, which `cut` wants to know."""
        loop = asyncio.get_running_loop()
        place: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (priority, place))
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave()
            raise
        while (wait := min(self._paused_until, until) - loop.time()) > 0:
            try:
                await asyncio.sleep(wait)
            except asyncio.CancelledError:
                self.leave()
                raise
        return loop.time()

    def leave(self) -> None:
        """Give the place back."""
        self.open -= 1
        self._admit()

    def grow(self) -> None:
        """An answer came."""
        step = 1.0 if self.limit < self._threshold else 1.0 / self.limit
        first = min(FIRST, self._threshold) if self.limit <= 1 and self._cut_at < 0 else 0.0
        self.limit = min(float(self.most), max(first, self.limit + step))
        self._admit()

    def cut(self, entered: float, now: float, after: float | None) -> None:
        """The service says "too many" to a request of `entered`: halve, once a round."""
        if entered > self._cut_at:
            self._cut_at = now
            self.limit = max(1.0, self.limit / 2)
            self._threshold = self.limit
        if after is not None:
            self._paused_until = max(self._paused_until, now + after)

    def _admit(self) -> None:
        while self._waiting and self.open < int(self.limit):
            _, place = heapq.heappop(self._waiting)
            if not place.done():
                self.open += 1
                place.set_result(None)


class Pool(Generic[Answer]):
    """Asks `jobs` questions.

    Args:
        ask: asks one, by its number; raises `RetryError`, `ScoringError` or `MediaError` (this one
            has no answer), or another `T2VError` (none will have one).
        session: what is held open while questions are asked.
        spent: why no more may be asked, if so; called before each request.
    """

    def __init__(
        self,
        jobs: int,
        ask: Callable[[int], Awaitable[Answer]],
        session: Callable[[], AbstractAsyncContextManager[Any]],
        limits: Limits,
        spent: Callable[[], str] = lambda: "",
    ) -> None:
        self.jobs, self.limits = jobs, limits
        self._ask, self._session, self._spent = ask, session, spent
        self.pace = Pace(limits.concurrency)
        self.sent = 0
        self._answered = self._given_up = 0
        self._reached = False  # the service said something, be it an error
        self._problem = ""  # the last one of a question that is asked again
        self._told = False  # that nothing comes
        self._finished: queue.SimpleQueue[tuple[int, Answer | T2VError] | None] = (
            queue.SimpleQueue()
        )
        self._left = set(range(jobs))
        self._error: BaseException | None = None
        self._over = ""  # why the rest is not asked
        self._stopped = False
        self._interrupt: type[KeyboardInterrupt] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None

    def run(self) -> Iterator[list[tuple[int, Answer | T2VError]]]:
        """Yield (number, answer or why there is none) as they come, all that is there at a time.

        An interrupt or an error that stops everything is raised after what was finished.

        Raises:
            T2VError: what `ask` raised that holds for every question.
            ServiceError: nobody answers any more.
        """
        thread = threading.Thread(target=self._thread, name="t2v-eval-pool", daemon=True)
        with stops_call(self._interrupted):
            thread.start()
            try:
                ended = False
                while not ended:
                    came = [self._next()]
                    while not self._finished.empty():
                        came.append(self._finished.get())
                    ended = came[-1] is None
                    ready = [one for one in came if one is not None]
                    self._left.difference_update(number for number, _ in ready)
                    if ready:
                        yield ready
            finally:
                self.stop()
                thread.join()
        if self._interrupt is not None:
            raise self._interrupt
        if self._error is not None:
            raise self._error
        if self._over and self._left:
            yield [(number, ScoringError(self._over)) for number in sorted(self._left)]

    def _next(self) -> tuple[int, Answer | T2VError] | None:
        """What is finished next; where that takes long, says once why."""
        while not self._told:
            try:
                return self._finished.get(timeout=SILENCE)
            except queue.Empty:
                if self._problem:
                    self._told = True
                    warnings.warn(f"waiting: {self._problem}; asking again", T2VWarning, 4)
        return self._finished.get()

    def stop(self) -> None:
        """Let go of what is being asked; what is finished is still handed out."""
        self._stopped = True
        if self._loop is not None and self._main is not None and not self._main.done():
            self._loop.call_soon_threadsafe(self._main.cancel)

    def _interrupted(self, error: type[KeyboardInterrupt]) -> None:
        self._interrupt = error
        self.stop()

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
                await asyncio.wait_for(self._ask_all(), seconds)
            except TimeoutError:
                self._over = f"not asked: the run's limit of {seconds:g} s was over; {GO_ON}"

    async def _ask_all(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        try:
            for number in range(self.jobs):
                # Questions that wait to be asked again hold no place, but are bounded too.
                while len(tasks) >= 2 * self.limits.concurrency:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                entered = await self.pace.enter(number)
                if self._over:
                    self.pace.leave()
                    break
                task = asyncio.create_task(self._one(number, entered))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            while tasks:
                await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, number: int, entered: float) -> None:
        loop = asyncio.get_running_loop()
        began, failures, tries = entered, 0, 0
        while True:
            try:
                self.count_request()
                answer = await self._ask(number)
            except NoMoreError:
                return
            except RetryError as problem:
                retry, tries = problem, tries + 1
                self._reached |= not problem.absent
                self._problem = str(problem)
            except (ScoringError, MediaError) as error:
                self._reached |= isinstance(error, ScoringError)
                self._finished.put((number, error))
                return
            except Exception as error:  # of all questions, or a mistake of ours
                self._fail(error)
                return
            else:
                self._answered, self._given_up, self._reached = self._answered + 1, 0, True
                self._finished.put((number, answer))
                self.pace.grow()
                return
            finally:
                self.pace.leave()
            now = loop.time()
            failures += not retry.too_many
            longest = min(LONGEST_WAIT, self.limits.backoff * 2.0 ** min(tries - 1, 20))
            wait = (retry.after or 0.0) + random.uniform(0.5, 1.0) * longest
            # A wait that is no number is too long as well.
            patient = now + wait - began <= self.limits.patience
            if retry.too_many:
                # All wait with this question, unless the service asks for more than it may wait.
                self.pace.cut(entered, now, retry.after if patient else None)
            if not self._reached and tries >= min(TRIES_AT_A_DOOR, self.limits.retries + 1):
                self._fail(ServiceError(f"{retry} (tried {tries} times); is it running there?"))
                return
            if failures > self.limits.retries or not patient:
                self._give_up(number, f"{retry} (tried {tries} times)")
                return
            await asyncio.sleep(wait)
            until = began + self.limits.patience
            entered = await self.pace.enter(number, until)
            if entered >= until:  # others were asked to wait for longer meanwhile
                self.pace.leave()
                self._give_up(number, f"{retry} (tried {tries} times)")
                return

    def count_request(self) -> None:
        """A request is about to be sent; a question that needs several counts the others itself.

        Raises:
            NoMoreError: it may not be.
        """
        most = self.limits.max_requests
        if not self._over and most is not None and self.sent >= most:
            self._over = f"not asked: the limit of {most} requests was reached; {GO_ON}"
        self._over = self._over or self._spent()
        if self._over:
            raise NoMoreError
        self.sent += 1

    def _give_up(self, number: int, reason: str) -> None:
        self._given_up += 1
        self._finished.put((number, ScoringError(reason)))
        if self._given_up >= (DOWN if self._answered else DEAD):
            self._fail(
                ServiceError(
                    f"{reason}; {self._given_up} questions in a row were given up, so no more are "
                    "asked. What was answered is kept in the store, if there is one: run it again "
                    "to go on"
                )
            )

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        if self._main is not None:
            self._main.cancel()


def seconds_to_wait(retry_after: str | None) -> float | None:
    """The header ``retry-after``: seconds, or a date; None where it says nothing that can be.

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
