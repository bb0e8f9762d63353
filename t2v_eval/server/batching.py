"""Score the requests of all clients together: a bounded queue and a thread for each scorer.

While a batch is scored, further requests arrive; those with the same templates are scored in the
next one, by one plan, so that images and texts that requests share are encoded once.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import ScoringError, T2VError
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.scorer import Scorer

LOG = logging.getLogger(__name__)


class QueueFullError(Exception):
    """Raised where as many requests wait for a scorer as may.

    >>> raise QueueFullError("256 requests wait")
    Traceback (most recent call last):
    ...
    t2v_eval.server.batching.QueueFullError: 256 requests wait
    """


@dataclass(frozen=True, slots=True)
class JobResult:
    """The scores of a request.

    Attributes:
        scorer_id: the id of the scorer, with the templates of the request.
        scores: one (M, N) float32 array for each block; NaN where a cell failed.
        failures: the reason by (block, row, column).

    >>> JobResult("mine", [np.array([[0.5]], np.float32)]).failures
    {}
    """

    scorer_id: str
    scores: Sequence[NDArray[np.float32]]
    failures: Mapping[tuple[int, int, int], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Job:
    """The blocks of a request; `until` is when its client stops waiting."""

    blocks: Sequence[Block]
    templates: tuple[tuple[str, str], ...]
    until: float
    future: Future[JobResult]

    @property
    def cells(self) -> int:
        return sum(len(block.images) * len(block.texts) for block in self.blocks)


class ScoringQueue:
    """Score requests with one scorer, in a thread of its own.

    Args:
        scorer: the scorer; errors of cells are skipped, so that no request disturbs another.
        waiting: requests that may wait; further ones are refused.
        max_cells: cells up to which requests are scored together.
        observe: called with the number of requests of each batch and its results, before the
            futures have them.

    >>> import t2v_eval
    >>> from PIL import Image
    >>> queue = ScoringQueue(t2v_eval.load("tiny-clip", device="cpu"))
    >>> job = queue.submit([Block.of(Image.new("RGB", (48, 48)), ["a cat", "a dog"])])
    >>> job.result().scores[0].shape
    (1, 2)
    >>> queue.close()
    """

    def __init__(
        self,
        scorer: Scorer,
        waiting: int = 256,
        max_cells: int = 4096,
        observe: Callable[[int, Sequence[JobResult]], None] = lambda requests, results: None,
    ) -> None:
        scorer.on_error = "skip"
        self.scorer, self.waiting, self.max_cells = scorer, waiting, max_cells
        self.default_id = scorer.id
        self._observe = observe
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(
            target=self._work, name=f"t2v-eval-{scorer.name}", daemon=True
        )
        self._thread.start()

    def __len__(self) -> int:
        with self._changed:
            return sum(not job.future.cancelled() for job in self._jobs)

    def submit(
        self,
        blocks: Sequence[Block],
        templates: Mapping[str, str] | None = None,
        until: float = math.inf,
    ) -> Future[JobResult]:
        """Add a request to the queue.

        Args:
            blocks: what to score.
            templates: as for `Scorer.with_template`.
            until: the time of `time.monotonic` after which the request is not scored any more.

        Returns:
            The future of its scores. Its exception is a `T2VError` where no cell can be scored, and
            a TimeoutError where `until` passed before its turn.

        Raises:
            QueueFullError: too many requests wait, or the queue is closed.
        """
        job = _Job(blocks, tuple(sorted((templates or {}).items())), until, Future())
        with self._changed:
            if self._closed:
                raise QueueFullError(f"{self.scorer.name!r} is stopping")
            # Requests whose clients have gone take no place.
            self._jobs = deque(job for job in self._jobs if not job.future.cancelled())
            if len(self._jobs) >= self.waiting:
                raise QueueFullError(f"{self.waiting} requests wait for {self.scorer.name!r}")
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Score what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while jobs := self._next_jobs():
            self._score(jobs)

    def _next_jobs(self) -> list[_Job]:
        """Wait for requests, and return the first one and those that go with it; [] at the end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if not self._jobs:
                    return []
                if jobs := self._take():
                    return jobs

    def _take(self) -> list[_Job]:
        """Take the first request and all with its templates, as far as cells fit together."""
        now, batch, waiting, cells = time.monotonic(), list[_Job](), list[_Job](), 0
        for job in self._jobs:
            fits = not batch or (
                job.templates == batch[0].templates and cells + job.cells <= self.max_cells
            )
            if not fits and job.until >= now:
                waiting.append(job)
            elif job.future.set_running_or_notify_cancel():  # else its client is gone
                if job.until < now:
                    job.future.set_exception(TimeoutError())
                else:
                    batch.append(job)
                    cells += job.cells
        self._jobs = deque(waiting)
        return batch

    def _score(self, jobs: Sequence[_Job]) -> None:
        """Score requests together; where that raises, one by one."""
        try:
            results = self._score_together(jobs)
        except BaseException as error:  # of code of users and libraries, such as SystemExit
            if len(jobs) > 1:
                for job in jobs:
                    self._score([job])
                return
            if not isinstance(error, T2VError):
                LOG.exception("%r failed", self.scorer.name)
                error = ScoringError(f"{self.scorer.name!r} failed ({type(error).__name__})")
            self._observe(1, [])
            jobs[0].future.set_exception(error)
            return
        # Before the clients have their answers, so that they find them counted.
        self._observe(len(jobs), results)
        for job, result in zip(jobs, results, strict=True):
            job.future.set_result(result)

    def _score_together(self, jobs: Sequence[_Job]) -> list[JobResult]:
        scorer, scorer_id = self.scorer, self.default_id
        if jobs[0].templates:
            scorer = self.scorer.with_template(**dict(jobs[0].templates))
            scorer_id = scorer.id
        outcome = scorer.evaluate_blocks([b for job in jobs for b in job.blocks], progress=False)
        owners = [(n, k) for n, job in enumerate(jobs) for k in range(len(job.blocks))]
        scores: list[list[NDArray[np.float32]]] = [[] for _ in jobs]
        failures: list[dict[tuple[int, int, int], str]] = [{} for _ in jobs]
        for (n, _), block in zip(owners, outcome.scores, strict=True):
            scores[n].append(block)
        for (block_number, row, column), reason in outcome.failures.items():
            n, k = owners[block_number]
            failures[n][k, row, column] = reason
        return [JobResult(scorer_id, s, f) for s, f in zip(scores, failures, strict=True)]
