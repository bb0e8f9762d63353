"""Score cells with a provider's batch API: half the price, results within 24 h."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol

import numpy as np
import torch

from t2v_eval.errors import InputError, MediaError, ServiceError
from t2v_eval.inputs.media import Media
from t2v_eval.remote.request_pool import Limits, RetryError
from t2v_eval.remote.scorer import CellScore
from t2v_eval.scoring.plan import Cells, Text, caption_text
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import OnError
from t2v_eval.store import Store, text_key

from ..json_fields import parse_inner_error
from ..messages import ErrorInfo
from .batch import Answers, BatchRunner
from .client import BatchClient, LineError, as_answer_error
from .pending import PendingBatches, question_id


class BatchScorer(Protocol):
    """The part of a scorer behind a service that `batch_cells` uses.

    >>> from t2v_eval.backends.services.grade import Grade
    >>> from t2v_eval.backends.services.openai_protocol import CompatibleProtocol
    >>> from t2v_eval.backends.services.scorer import ServiceScorer
    >>> protocol = CompatibleProtocol("my-model", base_url="http://localhost:8000/v1")
    >>> scorer: BatchScorer = ServiceScorer(protocol, Grade(max_tokens=8), poll=60.0)
    >>> scorer.poll
    60.0
    """

    on_error: OnError
    poll: float
    limits: Limits

    @property
    def base_url(self) -> str:
        """The address of the service."""

    @property
    def id(self) -> str:
        """The scorer's id."""

    @property
    def store(self) -> Store | None:
        """The store of scores."""

    def elapsed(self) -> float:
        """The seconds of `limits.max_seconds` that earlier calls with shared limits have taken."""

    def batch_client(self) -> AbstractContextManager[BatchClient]:
        """Open the provider's batch API."""

    def pack_safely(self, media: Media) -> Any:
        """Prepare an image for a question."""

    def build_question(self, image: Any, text: str) -> Any:
        """Return the question of a cell."""

    def read_score(self, content: Any, text: str) -> CellScore:
        """Parse the answer of a cell."""

    def without_rejected(self, body: Any) -> Any:
        """Return a question without the sampling parameters that the service has rejected."""

    def learn_rejected(self, info: ErrorInfo, request: Any) -> bool:
        """Remember the sampling parameters that an error rejects; return whether there are any."""

    def parse_usage(self, content: Any) -> tuple[object, object, object]:
        """Return the token counts of an answer."""

    def note_usage(
        self, input_tokens: object, output_tokens: object, cached_tokens: object = 0
    ) -> None:
        """Add token counts to the usage of the run."""

    def redact_result(self, result: CellScore) -> CellScore:
        """Redact an answer before it is stored."""

    def redact_error(self, error: Exception) -> None:
        """Redact the message of an error."""

    def redact_text(self, text: str) -> str:
        """Redact text of the service that is stored."""

    def redact_message(self, message: str) -> str:
        """Redact a message."""

    def classify_exception(self, error: Exception) -> Exception:
        """Return what an exception of the client means."""


class _BatchedCells:
    """Score cells by way of batches; see `batch_cells`."""

    def __init__(
        self, scorer: BatchScorer, store: Store, pairs: Sequence[tuple[Media, str]]
    ) -> None:
        self.scorer, self.store, self.pairs = scorer, store, pairs
        self.keys = [(media.key, text_key(text)) for media, text in pairs]
        self.ids = [question_id(scorer.id, *key) for key in self.keys]
        self.numbers = {request_id: n for n, request_id in enumerate(self.ids)}
        self.scored = set[int]()
        self.failed: dict[int, tuple[str, str | None]] = {}  # reason, detail
        self.problem: Exception | None = None  # ends the run
        self.to_repeat = list[int]()  # rejected for a parameter that a question can omit
        self._packed: tuple[str, Any] = "", None
        self._example: Any = None  # a question of this round, whose parameters are those of all

    def run(self) -> Iterator[ScoreChunk]:
        scorer = self.scorer
        seconds = (scorer.limits.max_seconds or float("inf")) - scorer.elapsed()
        deadline = time.monotonic() + seconds
        with scorer.batch_client() as client:
            pending = PendingBatches(self.store.path)
            runner = BatchRunner(client, pending, scorer.base_url, scorer.poll, scorer.redact_text)
            submitted = runner.submitted()
            # Another process may have collected answers since the store was read.
            stored = self.store.get_cells(scorer.id, self.keys)
            if numbers := [n for n, key in enumerate(self.keys) if key in stored]:
                values = [stored[self.keys[n]] for n in numbers]
                yield ScoreChunk(np.array(numbers), torch.tensor(values, dtype=torch.float32))
            missing = [n for n, key in enumerate(self.keys) if key not in stored]
            while missing and self.problem is None:
                yield from self._ask(runner, missing, submitted, deadline)
                missing, self.to_repeat, submitted = self.to_repeat, [], []
        yield from self.failures()

    def _ask(
        self,
        runner: BatchRunner,
        numbers: Sequence[int],
        submitted: Sequence[dict[str, Any]],
        deadline: float,
    ) -> Iterator[ScoreChunk]:
        """Yield the scores of questions; an error that ends the run is kept as `problem`."""
        self._example = None
        batches = runner.answers(self.ids, numbers, self.body, submitted, deadline)
        while True:
            try:
                answers = next(batches)
            except StopIteration:
                return
            except Exception as error:  # any client's; raised behind the other cells
                self.problem = self.scorer.classify_exception(error)
                return
            if scores := self.read(answers):
                yield _chunk(scores)

    def body(self, n: int) -> Any:
        """Return question `n`, or the error why its image cannot be sent."""
        media, text = self.pairs[n]
        if self._packed[0] != media.key:
            try:
                self._packed = media.key, self.scorer.pack_safely(media)
            except MediaError as error:
                if self.scorer.on_error == "raise":
                    raise
                self._packed = media.key, error
        image = self._packed[1]
        if isinstance(image, MediaError):
            return image
        question = self.scorer.without_rejected(self.scorer.build_question(image, text))
        self._example = self._example or question
        return question

    def read(self, answers: Answers) -> dict[int, CellScore]:
        """Parse answers, each by itself, so that one that cannot be read costs no other."""
        scorer, scores = self.scorer, dict[int, CellScore]()
        for request_id, content in answers:
            n = self.numbers[request_id]
            if n in self.scored:
                continue
            try:
                if self._rejects_params(n, content):
                    self.to_repeat.append(n)
                    continue
                if isinstance(content, Exception):
                    raise content
                with suppress(Exception):  # invalid token counts cost no answer
                    scorer.note_usage(*scorer.parse_usage(content))
                scores[n] = scorer.redact_result(scorer.read_score(content, self.pairs[n][1]))
                self.scored.add(n)
            except Exception as error:  # untrusted JSON; an answer costs its own cell only
                reason = as_answer_error(error)
                scorer.redact_error(reason)
                detail = getattr(reason, "detail", None)
                self.failed[n] = scorer.redact_message(str(reason)), detail
        return scores

    def _rejects_params(self, n: int, content: Any) -> bool:
        """Tell whether an answer rejects sampling parameters that question `n` can omit."""
        info = content.info if isinstance(content, LineError) else parse_inner_error(content)
        if info is None:
            return False
        # A batch of an earlier run was submitted elsewhere, with the same parameters.
        request = self._example if self._example is not None else self.body(n)
        return not isinstance(request, Exception) and self.scorer.learn_rejected(info, request)

    def failures(self) -> Iterator[ScoreChunk]:
        """Yield the cells without a score, or raise; last, as another line may hold the answer."""
        scorer = self.scorer
        failed = {n: why for n, why in self.failed.items() if n not in self.scored}
        if scorer.on_error == "skip":
            for reason in dict.fromkeys(reason for reason, _ in failed.values()):
                alike = {n: detail for n, (other, detail) in failed.items() if other == reason}
                yield ScoreChunk(np.array([*alike]), None, reason, [*alike.values()])
        if (problem := self.problem) is not None:
            scorer.redact_error(problem)
            raise ServiceError(str(problem)) if isinstance(problem, RetryError) else problem
        if failed and scorer.on_error == "raise":
            n, (reason, _) = next(iter(failed.items()))
            where = f"{self.pairs[n][0].name} with {self.pairs[n][1]!r}"
            yield ScoreChunk(np.array([n]), None, f"{where}: {reason}")


def _chunk(scores: Mapping[int, CellScore]) -> ScoreChunk:
    values, details = zip(*scores.values(), strict=True)
    return ScoreChunk(
        np.array([*scores]), torch.tensor(values, dtype=torch.float32), details=details
    )


def batch_cells(
    scorer: BatchScorer, images: Sequence[Media], texts: Sequence[Text], cells: Cells
) -> Iterator[ScoreChunk]:
    """Yield what `score_cells` yields, by way of batches.

    Raises:
        InputError: the scorer has no store.

    >>> from t2v_eval.backends.services.grade import Grade
    >>> from t2v_eval.backends.services.openai_protocol import CompatibleProtocol
    >>> from t2v_eval.backends.services.scorer import ServiceScorer
    >>> protocol = CompatibleProtocol("my-model", base_url="http://localhost:8000/v1")
    >>> scorer = ServiceScorer(protocol, Grade(max_tokens=8))
    >>> next(batch_cells(scorer, [], [], np.zeros((0, 2), int)))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    t2v_eval.errors.InputError: `batch=True` needs `store=`: ...
    """
    if scorer.store is None:
        raise InputError("`batch=True` needs `store=`: submitted batches are recorded beside it")
    pairs = [(images[i], caption_text(texts[j])) for i, j in cells.tolist()]
    yield from _BatchedCells(scorer, scorer.store, pairs).run()
