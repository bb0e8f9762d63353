"""Workers in this process, which die where a test says so."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

from t2v_eval.cluster.pool import Death, Event
from t2v_eval.cluster.worker import LoadedScorer, Recipe, Task, TaskChunk, Worker
from t2v_eval.errors import T2VError

KILLED = Death("killed by the test")
Content = LoadedScorer | TaskChunk | T2VError | Death | None


class LocalWorkers:
    """`Workers` without processes, which report in turn.

    Args:
        count: the number of workers.
        dies: called before each report with the worker, what it does (a recipe or a task) and how
            many chunks of it are reported; whether the worker dies instead.
        order: chooses which of the workers with something to report does so next.
    """

    def __init__(
        self,
        count: int,
        dies: Callable[[int, Recipe | Task, int], bool] = lambda *_: False,
        order: Callable[[list[int]], int] = min,
    ) -> None:
        self.count, self._dies, self._order = count, dies, order
        self._processes: dict[int, Worker] = {}
        self._told: dict[int, deque[list[Any]]] = {n: deque() for n in range(count)}
        self.started = self.stopped = 0
        self.times: Counter[tuple[str, str]] = Counter()  # that a reported cell was scored

    def load(self, worker: int, recipe: Recipe) -> None:
        if worker not in self._processes:
            self._processes[worker] = Worker(".")
            self.started += 1
        self._told[worker].append([recipe, 0, None])

    def score(self, worker: int, task: Task) -> None:
        self._told[worker].append([task, 0, None])

    def wait(self) -> Event:
        worker = self._order([n for n, told in self._told.items() if told])
        job, reported, reports = self._told[worker][0]
        if self._dies(worker, job, reported):
            self.stop(worker)
            return Event(worker, KILLED)
        if reports is None:
            # Whole, as generators that wait inside `catch_warnings` would mix up their filters.
            reports = self._told[worker][0][2] = iter([*self._reports(worker, job)])
        content: Content = next(reports)
        self._told[worker][0][1] += 1
        if isinstance(content, TaskChunk):
            for i, j in job.cells[content.positions].tolist():
                self.times[job.images[i].key, str(job.texts[j])] += 1
        else:
            self._told[worker].popleft()
        return Event(worker, content)

    def _reports(self, worker: int, job: Recipe | Task) -> Iterator[Content]:
        try:
            if isinstance(job, Recipe):
                yield self._processes[worker].load(job)
            else:
                yield from self._processes[worker].score(job)
                yield None
        except T2VError as error:
            yield error

    def stop(self, worker: int) -> None:
        self.stopped += self._processes.pop(worker, None) is not None
        self._told[worker].clear()
