"""Scorers whose model is behind an API: one question a cell, answers as they come.

The author of a backend writes how a picture is packed and how one question is asked; how many are
open at once, what is asked again and when to stop is in `t2v_eval.remote.request_pool`.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar

import numpy as np
import torch

from t2v_eval.errors import (
    InputError,
    MediaError,
    ScoringError,
    ServiceError,
    T2VError,
    UnsupportedError,
)
from t2v_eval.inputs.decode_budget import BUDGET
from t2v_eval.inputs.image_file import decoding
from t2v_eval.inputs.media import Media
from t2v_eval.inputs.urls import AllowUrls
from t2v_eval.registry import Card
from t2v_eval.remote.cost import Estimate, Price, Usage
from t2v_eval.remote.request_pool import GO_ON, Limits, NoMoreError, Pool, RetryError
from t2v_eval.scoring.plan import Block, Cells, Plan, Text, caption_text
from t2v_eval.scoring.results import Progress, ScoreChunk, ScoringResult
from t2v_eval.scoring.scorer import ImageMode, OnError, Scorer
from t2v_eval.store import Store, text_key

UNTOLD = 3  # answers with impossible counts of tokens before a limit on cost cannot be kept
Packed = TypeVar("Packed")
Found = TypeVar("Found")

# Of the question that is being asked: says that what it costs is known, and counts a request more.
_answered: ContextVar[Callable[[], None] | None] = ContextVar("answered", default=None)
_another: ContextVar[Callable[[], None] | None] = ContextVar("another", default=None)


class Answer(NamedTuple):
    """The score of a cell, and what else is known of it, as JSON for the store."""

    value: float
    detail: str | None = None


class ApiOptions(TypedDict, total=False):
    """What every scorer behind an API takes; a backend hands them on as ``**options``."""

    card: Card | None
    concurrency: int
    timeout: float
    retries: int
    patience: float
    backoff: float
    max_seconds: float | None
    max_requests: int | None
    max_cost: float | None
    device: Any
    cache_dir: Any
    batch_size: int | None
    store: str | Path | Store | None
    image_mode: ImageMode
    on_error: OnError
    allow_urls: AllowUrls
    question_template: str | None
    answer_template: str | None
    template: str | None


class ApiScorer(Scorer, Generic[Packed]):
    """A model that is asked over the network.

    Args:
        concurrency: requests open at once, at most; it starts low, grows while answers come and is
            halved when the service says that it is too many.
        timeout: seconds for one request.
        retries, patience, backoff: how often (and how many seconds) a question that failed is asked
            again, and the first wait between two tries, which doubles.
        max_seconds, max_requests, max_cost: when to stop asking in one run (US dollars, where the
            price is known); what is answered by then stays.
        device, cache_dir, batch_size: for scripts that set them for every model; nothing runs here.
        options: see `Scorer`.
    """

    # Backends set these: what decides the numbers, the price, where it is known, and how many
    # requests a cell needs.
    identity_facts: Mapping[str, str] = {}
    price: Price | None = None
    requests_for_a_cell = 1

    def __init__(
        self,
        *,
        concurrency: int = 64,
        timeout: float = 60.0,
        retries: int = 6,
        patience: float = 600.0,
        backoff: float = 0.5,
        max_seconds: float | None = None,
        max_requests: int | None = None,
        max_cost: float | None = None,
        device: Any = None,
        cache_dir: Any = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        for what, value, least in (
            ("concurrency", concurrency, 1),
            ("timeout", timeout, 0.001),
            ("retries", retries, 0),
            ("patience", patience, 0),
            ("backoff", backoff, 0),
            ("max_seconds", 0.001 if max_seconds is None else max_seconds, 0.001),
            ("max_cost", 0 if max_cost is None else max_cost, 0),
            ("max_requests", 0 if max_requests is None else max_requests, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= least:
                raise InputError(f"{what}={value!r}; pass a number that is {least} or more")
        self.timeout, self.max_cost = timeout, max_cost
        self.usage = Usage()
        self.limits = Limits(
            int(concurrency), int(retries), patience, backoff, max_seconds, max_requests
        )

    def identity(self) -> dict[str, str]:
        return {**self.identity_facts, **super().identity()}

    @abstractmethod
    def pack(self, media: Media) -> Packed:
        """A picture as it is sent, made once a picture in a thread; `load_image` decodes it.

        Raises:
            MediaError: it cannot be decoded.
        """

    @abstractmethod
    async def score_cell(self, image: Packed, text: str) -> Answer:
        """Ask for the score of one cell, once.

        Raises:
            RetryError: it may be asked again.
            ScoringError: this cell has no score; the message says why.
            ServiceError, UnsupportedError: no cell will have one.
        """

    def redacted(self, words: str) -> str:
        """What a service said, as it may be kept: a backend takes out its key."""
        return words

    async def complete(self, image: Packed, prompt: str, max_new_tokens: int) -> str:
        """Ask for a text about a picture, once; raises as `score_cell`."""
        raise UnsupportedError(f"{self.name!r} cannot generate text")

    def generate_texts(
        self, images: Sequence[Media], prompts: Sequence[str], max_new_tokens: int
    ) -> list[str]:
        async def ask(packed: Packed, number: int) -> str:
            return await self.complete(packed, prompts[number], max_new_tokens)

        written: dict[int, str] = {}
        for came in self.pool(images, ask).run():
            for number, found in came:
                if isinstance(found, MediaError):
                    raise found
                if isinstance(found, T2VError):
                    where = f"{images[number].name} with {prompts[number]!r}"
                    raise ScoringError(f"{self.name!r}: {where}: {found}")
                written[number] = found
        return [written[number] for number in range(len(images))]

    def expected_tokens(self, media: Media, text: str) -> tuple[int, int] | None:
        """About how many tokens go in and come out for a cell; None where nobody can tell."""
        return None

    def note_usage(
        self, input_tokens: object, output_tokens: object, cached_tokens: object = 0
    ) -> None:
        """A backend tells what the service says that an answer used, whatever that is.

        Raises:
            ServiceError: nothing, or nothing that can be, though there is a limit to keep.
        """
        self.usage.add(self.price, input_tokens, output_tokens, cached_tokens)
        silent = not input_tokens or self.usage.untold >= UNTOLD
        if self.max_cost is not None and silent and not self.usage.told:
            raise ServiceError(
                "the service does not say what an answer used, so max_cost= cannot be kept; use "
                "max_requests= instead"
            )
        if answered := _answered.get():
            answered()

    def another_request(self) -> None:
        """A backend tells that a question needs one more request than the first.

        Raises:
            NoMoreError: it may not be sent; what was limited stays so.
        """
        if another := _another.get():
            another()

    def estimate(self, blocks: Sequence[Block]) -> Estimate:
        """What scoring these would ask and cost; asks nothing. See `Block`."""
        plan = Plan.of(blocks, skip_errors=self.on_error == "skip", allow_urls=self.allow_urls)
        cells = [(plan.images[i], caption_text(plan.texts[j])) for i, j in plan.cells.tolist()]
        known = set[tuple[str, str]]()
        if self.store is not None:
            keys = [(media.key, text_key(text)) for media, text in cells]
            known = set(self.store.get_cells(self.id, keys))
        todo = [pair for pair in cells if (pair[0].key, text_key(pair[1])) not in known]
        tokens = []
        for pair in todo:
            try:
                tokens.append(self.expected_tokens(*pair))
            except MediaError:
                if self.on_error == "raise":
                    raise
        requests = len(tokens) * self.requests_for_a_cell
        counts = Estimate(len(cells), len(cells) - len(todo), requests)
        if self.price is None:
            counts = replace(counts, known="not known: pass price=[in, out]")
        if not all(tokens):
            return counts
        going, coming = (sum(pair[k] for pair in tokens if pair) for k in (0, 1))
        counts = replace(counts, input_tokens=going, output_tokens=coming)
        if self.price is None:
            return counts
        return replace(counts, us_dollars=self.price.of(going, coming), known=self.price.known)

    def evaluate_blocks(
        self, blocks: Sequence[Block], progress: Progress | None = None
    ) -> ScoringResult:
        with self._lock:
            before = Counter(self.usage.total), self.usage.cost, self.price
            outcome = super().evaluate_blocks(blocks, progress)
            return replace(outcome, usage=self.usage.since(*before))

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """What is held open during a run, such as connections."""
        yield

    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        rows, columns = cells[:, 0].tolist(), cells[:, 1].tolist()
        failure: tuple[int, T2VError] | None = None

        async def ask(packed: Packed, number: int) -> Answer:
            return await self.score_cell(packed, caption_text(texts[columns[number]]))

        pool = self.pool([images[row] for row in rows], ask)
        for came in pool.run():
            answers = {n: found for n, found in came if isinstance(found, Answer)}
            if answers:
                values, details = zip(*answers.values(), strict=True)
                scores = torch.tensor(values, dtype=torch.float32)
                yield ScoreChunk(np.array([*answers]), scores, details=details)
            reasons = defaultdict[str, dict[int, str | None]](dict)
            for n, found in came:
                if isinstance(found, Answer):
                    continue
                if self.on_error == "skip":
                    reasons[str(found)][n] = getattr(found, "detail", None)
                elif failure is None:
                    # What was answered besides is stored before the error is raised.
                    failure = n, found
                    pool.stop()
            for reason, told in reasons.items():
                yield ScoreChunk(np.array([*told]), None, reason, [*told.values()])
        if failure is not None:
            number, error = failure
            if isinstance(error, MediaError):
                raise error
            where = f"{images[rows[number]].name} with {caption_text(texts[columns[number]])!r}"
            yield ScoreChunk(np.array([number]), None, f"{where}: {error}")

    def kept(self, found: Found) -> Found:
        """What came of a question, as it may be kept."""
        if isinstance(found, Answer) and found.detail is not None:
            return found._replace(detail=self.redacted(found.detail))
        return self.redacted(found) if isinstance(found, str) else found  # type: ignore[return-value]

    def redact(self, error: Exception) -> None:
        """Take what may not be kept out of an error, and of what it came from."""
        detail = getattr(error, "detail", None)
        if isinstance(detail, str):
            error.detail = self.redacted(detail)  # type: ignore[attr-defined]
        message = self.redacted(str(error))
        if message != str(error):
            error.args = (message,)
            error.__cause__ = error.__context__ = None

    def packed(self, media: Media) -> Packed:
        """As `pack`, whatever goes wrong being a `MediaError`."""
        with BUDGET.lease(), decoding(media.name, "cannot be prepared for sending"):
            return self.pack(media)

    def pool(
        self, media: Sequence[Media], ask: Callable[[Packed, int], Awaitable[Found]]
    ) -> Pool[Found]:
        """Questions about pictures, one for each of `media`, which name a picture repeatedly."""
        packed = _Packed(self.packed, 2 * self.limits.concurrency)
        before = self.usage.cost

        asking = set[int]()

        async def one(number: int) -> Found:
            asking.add(number)
            _answered.set(lambda: asking.discard(number))
            _another.set(lambda: another(number))
            try:
                image = await packed.get(media[number])
                with one_answer():
                    return self.kept(await asyncio.wait_for(ask(image, number), self.timeout))
            except TimeoutError:
                raise RetryError(f"no answer within {self.timeout:g} s") from None
            except (T2VError, RetryError) as error:
                self.redact(error)
                raise
            finally:
                asking.discard(number)

        def another(number: int) -> None:
            pool.count_request()
            asking.add(number)

        def spent() -> str:
            # What is open is reckoned with too, each request as the dearest so far.
            most, reserved = self.max_cost, (len(asking) + 1) * self.usage.dearest
            if most is None or (most > 0 and self.usage.cost - before + reserved <= most):
                return ""
            return f"not asked: the limit of {most:g} US dollars was reached; {GO_ON}"

        pool: Pool[Found] = Pool(len(media), one, self.connected, self.limits, spent)
        return pool


def estimate(scorer: Scorer, blocks: Sequence[Block]) -> Estimate:
    """What scoring these would ask of a service and cost; asks nothing.

    Raises:
        UnsupportedError: the scorer asks no service.
    """
    if not isinstance(scorer, ApiScorer):
        raise UnsupportedError(f"{scorer.name!r} runs here: it asks no service and costs nothing")
    return scorer.estimate(blocks)


@contextmanager
def one_answer(said: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Within it, whatever goes wrong while an answer is read is a matter of this answer alone.

    Args:
        said: what the service says instead, for the reason.
    """
    try:
        yield
    except (T2VError, RetryError, NoMoreError, TimeoutError, Warning):
        raise
    except Exception as error:
        why = said() or type(error).__name__
        raise RetryError(f"the service's answer cannot be read ({why})") from None


class _Packed(Generic[Packed]):
    """The pictures packed last, so that one is packed once for all its texts."""

    def __init__(self, pack: Callable[[Media], Packed], most: int) -> None:
        self._pack, self._most = pack, most
        self._made: dict[str, asyncio.Future[Packed]] = {}

    async def get(self, media: Media) -> Packed:
        if media.key not in self._made:
            self._made[media.key] = asyncio.ensure_future(asyncio.to_thread(self._pack, media))
            while len(self._made) > self._most:
                del self._made[next(iter(self._made))]
        # Shielded: one question that is let go of must not take the picture from the others.
        return await asyncio.shield(self._made[media.key])
