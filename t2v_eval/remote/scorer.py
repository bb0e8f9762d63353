"""Scorers whose model is behind an API: one question a cell, scores stored as they arrive.

A backend writes how an image is packed (`ApiScorer.pack`) and how one question is asked
(`ApiScorer.score_cell`); concurrency, retries and limits are in `t2v_eval.remote.request_pool`.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from time import monotonic
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar

import numpy as np
import torch
from typing_extensions import override

from t2v_eval.cards import ModelCard
from t2v_eval.errors import (
    InputError,
    MediaError,
    ScoringError,
    ServiceError,
    T2VError,
    T2VWarning,
    UnsupportedError,
)
from t2v_eval.inputs.decode_budget import BUDGET
from t2v_eval.inputs.image_file import decoding
from t2v_eval.inputs.media import Media
from t2v_eval.inputs.urls import AllowUrls
from t2v_eval.remote.cost import Estimate, Price, Usage
from t2v_eval.remote.packed_images import PackedImages
from t2v_eval.remote.request_pool import RESUME_HINT, BudgetExhaustedError, Limits, Pool, RetryError
from t2v_eval.scoring.generation import excerpt
from t2v_eval.scoring.plan import Block, Cells, Plan, Text, by_image, caption_text
from t2v_eval.scoring.results import Progress, ScoreChunk, ScoringResult
from t2v_eval.scoring.scorer import ImageMode, OnError, Scorer
from t2v_eval.store import Store, text_key
from t2v_eval.utils.printable import redact_userinfo

MAX_UNREPORTED_USAGE = 3  # answers without valid token counts before `max_cost` cannot be kept
PackedT = TypeVar("PackedT")
ResultT = TypeVar("ResultT")

# Callbacks of the question that the current task asks. `max_cost` reserves the highest cost so far
# for each open request: release that once the cost is known, or reserve a further request.
_Callback = Callable[[], None]
_release_reservation: ContextVar[_Callback | None] = ContextVar("release", default=None)
_reserve_request: ContextVar[_Callback | None] = ContextVar("reserve", default=None)


class CellScore(NamedTuple):
    """The score of a cell, and details of the answer as JSON for the store.

    >>> CellScore(0.5).detail is None
    True
    """

    value: float
    detail: str | None = None


class ApiOptions(TypedDict, total=False):
    """Options of every scorer behind an API; a backend passes them on as ``**options``.

    >>> options: ApiOptions = {"concurrency": 8, "max_cost": 5.0, "on_error": "skip"}
    """

    card: ModelCard | None
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


class ApiScorer(Scorer, Generic[PackedT]):
    """Score with a model behind an API.

    Args:
        concurrency: maximum of open requests; the number starts low, grows while answers arrive and
            is halved when the service reports a rate limit.
        timeout: seconds for one request.
        retries: maximum of retries per question.
        patience: seconds after the first attempt within which a question is retried.
        backoff: seconds before the second attempt; doubled for each further one.
        max_seconds: time of one run; scores up to then stay.
        max_requests: number of requests of one run.
        max_cost: cost of one run in US dollars, where the price is known.
        device: ignored; accepted so that scripts may pass it to every model.
        cache_dir: ignored too.
        batch_size: ignored too.
        options: see `Scorer`.

    Raises:
        InputError: a number is not valid.

    >>> class LengthOfText(ApiScorer[str]):
    ...     version = "1"
    ...
    ...     def pack(self, media):
    ...         return media.key
    ...
    ...     async def score_cell(self, image, text):
    ...         return CellScore(len(text) / 10)
    >>> from PIL import Image
    >>> LengthOfText()(Image.new("RGB", (4, 4)), ["cat", "two dogs"]).tolist()
    [[0.30000001192092896, 0.800000011920929]]
    """

    # Set by backends: the settings that decide the scores, the price where it is known, and the
    # number of requests for a cell.
    identity_facts: Mapping[str, str] = {}
    price: Price | None = None
    requests_for_a_cell = 1
    texts_per_question = 1  # of one image, that `score_texts` scores together

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
        for name, value, minimum in (
            ("concurrency", concurrency, 1),
            ("timeout", timeout, 0.001),
            ("retries", retries, 0),
            ("patience", patience, 0),
            ("backoff", backoff, 0),
            ("max_seconds", 0.001 if max_seconds is None else max_seconds, 0.001),
            ("max_cost", 0 if max_cost is None else max_cost, 0),
            ("max_requests", 1 if max_requests is None else max_requests, 1),
        ):
            if (
                isinstance(value, bool)
                or not isinstance(value, (int, float))
                or not value >= minimum
            ):
                raise InputError(f"`{name}={value!r}`; pass a number that is {minimum} or more")
        self.timeout, self.max_cost = timeout, max_cost
        self.usage = Usage()
        self._requests_before: Callable[[], int] | None = None  # of the calls that share limits
        self._cost_before = 0.0
        self._shared_since: float | None = None
        self.limits = Limits(
            int(concurrency), int(retries), patience, backoff, max_seconds, max_requests
        )

    @override
    def identity(self) -> dict[str, str]:
        return {**self.identity_facts, **super().identity()}

    @abstractmethod
    def pack(self, media: Media) -> PackedT:
        """Prepare an image for sending, in a thread and once an image; `load_image` decodes it.

        Args:
            media: the image.

        Raises:
            MediaError: it cannot be decoded.
        """

    @abstractmethod
    async def score_cell(self, image: PackedT, text: str) -> CellScore:
        """Ask for the score of one cell, once.

        Args:
            image: what `pack` returned.
            text: the text of the cell.

        Raises:
            RetryError: the question may be retried.
            ScoringError: this cell has no score; the message says why.
            ServiceError, UnsupportedError: no cell will have a score.
        """

    async def score_texts(
        self, image: PackedT, texts: Sequence[Text]
    ) -> list[CellScore | ScoringError]:
        """Ask for the scores of one image with up to `texts_per_question` texts, once.

        Args:
            image: what `pack` returned.
            texts: the texts, with their references where the scorer uses them.

        Returns:
            A score for each text, or why it has none.

        Raises:
            RetryError, ScoringError, ServiceError, UnsupportedError: as `score_cell`.
        """
        return [await self.score_cell(image, caption_text(text)) for text in texts]

    def redact_text(self, text: str) -> str:
        """Remove secrets from text of a service before it is stored; a backend removes its key."""
        return text

    async def complete(self, image: PackedT, prompt: str, max_new_tokens: int) -> str:
        """Generate a text about an image with one request.

        Args:
            image: what `pack` returned.
            prompt: the question.
            max_new_tokens: maximum length of the text.

        Raises:
            RetryError, ScoringError, ServiceError, UnsupportedError: as `score_cell`.
        """
        raise UnsupportedError(f"{self.name!r} cannot generate text")

    @override
    def generate_texts(
        self, images: Sequence[Media], prompts: Sequence[str], max_new_tokens: int
    ) -> list[str | None]:
        """Ask for a text about each image; see `Scorer.generate`.

        Returns:
            B texts. With ``on_error="skip"``, None for each that failed, also where the service
            stopped to answer after the first of them; one warning has their number and a reason.

        Raises:
            ScoringError: a text failed, with ``on_error="raise"``; `detail` has the others as JSON.
            MediaError: an image failed, with ``on_error="raise"``.
            ServiceError, UnsupportedError: no text can be generated.
        """

        async def ask(packed: PackedT, number: int) -> str:
            return await self.complete(packed, prompts[number], max_new_tokens)

        texts: list[str | None] = [None] * len(images)
        failures: dict[int, T2VError] = {}
        pool = self.pool(images, ask)
        reason = ""
        try:
            for finished in pool.run():
                for number, result in finished:
                    if isinstance(result, str):
                        texts[number] = result
                    else:
                        failures[number] = result
                if failures and self.on_error == "raise":
                    pool.stop()  # texts that have arrived are handed out first
        except T2VError as error:
            if self.on_error == "raise" or not any(text is not None for text in texts):
                raise
            reason = str(error)
        if failures:
            number, failure = next(iter(failures.items()))
            reason = reason or f"{images[number].name} with {prompts[number]!r}: {failure}"
            if self.on_error == "raise":
                raise self._generation_error(failure, reason, texts)
        if reason:
            count = sum(text is None for text in texts)
            warnings.warn(
                f"{self.name!r}: {count} of {len(texts)} texts are missing; the first reason: "
                f"{reason}",
                T2VWarning,
                stacklevel=3,
            )
        return texts

    def _generation_error(
        self, failure: T2VError, reason: str, texts: Sequence[str | None]
    ) -> T2VError:
        """Return the error for a text that failed, which keeps the others."""
        if isinstance(failure, MediaError):
            return failure
        error = ScoringError(f"{self.name!r}: {reason}")
        error.detail = json.dumps(texts)
        return error

    def expected_tokens(self, media: Media, text: str) -> tuple[int, int] | None:
        """Estimate input and output tokens of a cell; None where that is not known.

        Args:
            media: the image.
            text: the text.
        """
        return None

    def note_usage(
        self, input_tokens: object, output_tokens: object, cached_tokens: object = 0
    ) -> None:
        """Add the usage that the service reports for an answer, whatever values these are.

        Args:
            input_tokens: the reported number of tokens of the question.
            output_tokens: the reported number of tokens of the answer.
            cached_tokens: how many of `input_tokens` the service had in a cache.

        Raises:
            ServiceError: there is no valid usage, so `max_cost` cannot be kept.
        """
        self.usage.add(self.price, input_tokens, output_tokens, cached_tokens)
        silent = not input_tokens or self.usage.unreported >= MAX_UNREPORTED_USAGE
        if self.max_cost is not None and silent and not self.usage.reported:
            raise ServiceError(
                "the service does not say what an answer used, so `max_cost=` cannot be kept; use "
                "`max_requests=` instead"
            )
        if release := _release_reservation.get():
            release()

    def reserve_request(self) -> None:
        """Count a further request of the question that is being asked, before it is sent.

        Raises:
            BudgetExhaustedError: a limit of the run is reached; do not send it.
        """
        if reserve := _reserve_request.get():
            reserve()

    def estimate(self, blocks: Sequence[Block]) -> Estimate:
        """Estimate requests and cost of scoring; send nothing.

        Args:
            blocks: the images and texts to score.

        Raises:
            MediaError: an image cannot be read, with ``on_error="raise"``.
        """
        plan = Plan.of(blocks, skip_errors=self.on_error == "skip", allow_urls=self.allow_urls)
        cells = [(plan.images[i], caption_text(plan.texts[j])) for i, j in plan.cells.tolist()]
        stored_keys = set[tuple[str, str]]()
        if self.store is not None:
            keys = [(media.key, text_key(text)) for media, text in cells]
            stored_keys = set(self.store.get_cells(self.id, keys))
        missing = [cell for cell in cells if (cell[0].key, text_key(cell[1])) not in stored_keys]
        counts, texts_of = [], Counter[str]()
        for cell in missing:
            try:
                counts.append(self.expected_tokens(*cell))
                texts_of[cell[0].key] += 1
            except MediaError:
                if self.on_error == "raise":
                    raise
        questions = sum(-(-count // self.texts_per_question) for count in texts_of.values())
        requests = questions * self.requests_for_a_cell
        estimated = Estimate(len(cells), len(cells) - len(missing), requests)
        if self.price is None:
            estimated = replace(estimated, as_of="none: `price=[in,out]`")
        if not all(counts):
            return estimated
        input_tokens, output_tokens = (sum(cell[k] for cell in counts if cell) for k in (0, 1))
        estimated = replace(estimated, input_tokens=input_tokens, output_tokens=output_tokens)
        if self.price is None:
            return estimated
        dollars = self.price.cost(input_tokens, output_tokens)
        return replace(estimated, us_dollars=dollars, as_of=self.price.as_of)

    @override
    def evaluate_blocks(
        self, blocks: Sequence[Block], progress: Progress | bool | None = None
    ) -> ScoringResult:
        with self._lock:
            before = Counter(self.usage.total), self.usage.cost, self.price
            outcome = super().evaluate_blocks(blocks, progress)
            return replace(outcome, usage=self.usage.since(*before))

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Open the resources of a run, such as connections."""
        yield

    @override
    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        rows, columns = cells[:, 0].tolist(), cells[:, 1].tolist()
        size = self.texts_per_question
        questions = [
            span[start : start + size].tolist()
            for span in by_image(cells)[1]
            for start in range(0, len(span), size)
        ]
        failure: tuple[int, T2VError] | None = None

        async def ask(packed: PackedT, number: int) -> list[CellScore | ScoringError]:
            return await self.score_texts(packed, [texts[columns[n]] for n in questions[number]])

        pool = self.pool([images[rows[question[0]]] for question in questions], ask)
        for answered in pool.run():
            finished = [
                (n, result)
                for number, results in answered
                for n, result in zip(
                    questions[number],
                    results if isinstance(results, list) else repeat(results),
                    strict=False,
                )
            ]
            answers = {n: result for n, result in finished if isinstance(result, CellScore)}
            if answers:
                values, details = zip(*answers.values(), strict=True)
                scores = torch.tensor(values, dtype=torch.float32)
                yield ScoreChunk(np.array([*answers]), scores, details=details)
            reasons = defaultdict[str, dict[int, str | None]](dict)
            for n, result in finished:
                if isinstance(result, CellScore):
                    continue
                if self.on_error == "skip":
                    reasons[str(result)][n] = getattr(result, "detail", None)
                elif failure is None:
                    # Answers that arrived with it are stored before the error is raised.
                    failure = n, result
                    pool.stop()
            for reason, failed in reasons.items():
                yield ScoreChunk(np.array([*failed]), None, reason, [*failed.values()])
        if failure is not None:
            number, error = failure
            if isinstance(error, MediaError):
                raise error
            text = excerpt(caption_text(texts[columns[number]]))
            where = f"{images[rows[number]].name} with {text!r}"
            yield ScoreChunk(np.array([number]), None, f"{where}: {error}")

    def redact_result(self, result: ResultT) -> ResultT:
        """Remove secrets from the result of a question before it is stored."""
        if isinstance(result, list):
            return [self.redact_result(part) for part in result]  # type: ignore[return-value]
        if isinstance(result, ScoringError):
            self.redact_error(result)
        if isinstance(result, CellScore) and result.detail is not None:
            return result._replace(detail=self.redact_text(result.detail))
        return self.redact_text(result) if isinstance(result, str) else result  # type: ignore[return-value]

    def redact_error(self, error: Exception) -> None:
        """Remove secrets from the message of an error; drop the cause if it held one."""
        detail = getattr(error, "detail", None)
        if isinstance(detail, str):
            error.detail = self.redact_text(detail)  # type: ignore[attr-defined]
        message = redact_userinfo(self.redact_text(str(error)))
        if message != str(error):
            error.args = (message,)
            error.__cause__ = error.__context__ = None

    def pack_safely(self, media: Media) -> PackedT:
        """Call `pack` within the memory budget; any failure becomes a `MediaError`."""
        with BUDGET.lease(), decoding(media.name, "cannot be prepared for sending"):
            return self.pack(media)

    def pool(
        self, media: Sequence[Media], ask: Callable[[PackedT, int], Awaitable[ResultT]]
    ) -> Pool[ResultT]:
        """Return a pool that asks one question for each image.

        Args:
            media: the image of each question; an image may be repeated, and is packed once.
            ask: asks a question, from the packed image and the number of the question.
        """
        packed = PackedImages(self.pack_safely, 2 * self.limits.concurrency)
        shared = self._requests_before
        before = self.usage.cost if shared is None else self._cost_before

        asking = set[int]()

        async def ask_one(number: int) -> ResultT:
            asking.add(number)
            _release_reservation.set(lambda: asking.discard(number))
            _reserve_request.set(lambda: reserve(number))
            try:
                image = await packed.get(media[number])
                with isolate_answer_errors():
                    result = await asyncio.wait_for(ask(image, number), self.timeout)
                    return self.redact_result(result)
            except TimeoutError:
                raise RetryError(f"no answer within {self.timeout:g} s") from None
            except (T2VError, RetryError) as error:
                self.redact_error(error)
                raise
            finally:
                asking.discard(number)

        def reserve(number: int) -> None:
            pool.count_request()
            asking.add(number)

        def stop_reason() -> str:
            # Open requests count too, each with the highest cost so far.
            limit, reserved = self.max_cost, (len(asking) + 1) * self.usage.highest_cost
            if limit is None or (limit > 0 and self.usage.cost - before + reserved <= limit):
                return ""
            return f"not asked: the limit of {limit:g} US dollars was reached; {RESUME_HINT}"

        pool: Pool[ResultT] = Pool(len(media), ask_one, self.connected, self.limits, stop_reason)
        if shared is not None:
            pool.sent, pool.elapsed = shared(), self.elapsed()
            self._requests_before = lambda: pool.sent
        return pool

    @contextmanager
    def shared_limits(self) -> Iterator[None]:
        """Let `max_seconds`, `max_requests` and `max_cost` hold for all calls in this context."""
        with self._lock:
            self._requests_before, self._cost_before = lambda: 0, self.usage.cost
            self._shared_since = monotonic()
            try:
                yield
            finally:
                self._requests_before = self._shared_since = None

    def elapsed(self) -> float:
        """Return the seconds of `max_seconds` that calls with shared limits have taken."""
        return 0.0 if self._shared_since is None else monotonic() - self._shared_since


def estimate(scorer: Scorer, blocks: Sequence[Block]) -> Estimate:
    """Estimate the requests and the cost of scoring; send nothing.

    Args:
        scorer: a scorer behind an API.
        blocks: the images and texts to score.

    Raises:
        UnsupportedError: the scorer runs locally.

    >>> import t2v_eval
    >>> from PIL import Image
    >>> scorer = t2v_eval.load("gpt-4o", base_url="http://localhost:8000/v1")
    >>> block = Block([Image.new("RGB", (300, 200))], ["a cat", "a dog"])
    >>> estimate(scorer, [block]).requests
    2
    """
    if not hasattr(scorer, "estimate"):  # of a scorer that asks another one, too
        raise UnsupportedError(f"{scorer.name!r} runs locally: it sends no requests")
    estimated: Estimate = scorer.estimate(blocks)
    return estimated


def shared_limits(scorer: Scorer) -> AbstractContextManager[None]:
    """Let limits of time, requests and cost hold for all calls of a scorer in this context.

    Args:
        scorer: any scorer; one that runs here has no such limits.

    >>> import t2v_eval
    >>> with shared_limits(t2v_eval.load("tiny-clip", device="cpu")):
    ...     pass
    """
    return scorer.shared_limits() if isinstance(scorer, ApiScorer) else nullcontext()


@contextmanager
def isolate_answer_errors(reported: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Turn unexpected errors while an answer is parsed into `RetryError`, so that no run ends.

    Args:
        reported: returns the service's own message, for the reason.

    >>> try:
    ...     with isolate_answer_errors():
    ...         {}["choices"]
    ... except RetryError as error:
    ...     print(error)
    the service's answer cannot be read (KeyError)
    """
    try:
        yield
    except (T2VError, RetryError, BudgetExhaustedError, TimeoutError, Warning):
        raise
    except Exception as error:  # parsing untrusted JSON may raise anything
        why = reported() or type(error).__name__
        raise RetryError(f"the service's answer cannot be read ({why})") from None
