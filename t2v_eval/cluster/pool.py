"""Hand tasks to workers, replace workers that die, and yield what they finish.

What runs the workers is a `Workers`: `ray_workers` starts them with Ray.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from t2v_eval.cluster.worker import LoadedScorer, Recipe, Task, TaskChunk
from t2v_eval.errors import CheckpointError, ScoringError, T2VError

AHEAD = 2  # tasks that a worker has, so that it does not wait for the next
MOST_DEATHS_OF_IMAGE = 3  # before an image is given up
MOST_DEATHS_LOADING = 3  # in a row, before the run ends
MOST_DEATHS = 12  # in a row without a finished task


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a worker's process.

    >>> Death("killed by signal 9").reason
    'killed by signal 9'
    """

    reason: str


class Event(NamedTuple):
    """What a worker reports.

    Attributes:
        worker: its number, from 0.
        content: a scorer that it has loaded, finished cells of the first task that it has, None
            where that task is finished, an error that ends the run, or its death.

    >>> Event(0, None).content is None
    True
    """

    worker: int
    content: LoadedScorer | TaskChunk | T2VError | Death | None


class Workers(Protocol):
    """Processes that each do in order what they are told.

    >>> class NoWorkers:
    ...     count = 0
    ...     def load(self, worker, recipe): ...
    ...     def score(self, worker, task): ...
    ...     def wait(self): raise ScoringError("there are no workers")
    ...     def stop(self, worker): ...
    >>> Pool(NoWorkers()).count
    0
    """

    @property
    def count(self) -> int:
        """Return the number of workers."""

    def load(self, worker: int, recipe: Recipe) -> None:
        """Let a worker load a scorer; start its process where there is none."""

    def score(self, worker: int, task: Task) -> None:
        """Let a worker score a task with the scorer that it loaded last."""

    def wait(self) -> Event:
        """Wait for what a worker reports next; of one worker, reports come in order."""

    def stop(self, worker: int) -> None:
        """End the process of a worker, if it has one; nothing that it was told is reported."""


@dataclass(slots=True)
class _Assigned:
    """A task, the cells of the caller's that its cells are, and what is known of it."""

    task: Task
    cells: NDArray[np.int64]
    deaths: int = 0  # of workers that scored it
    missing: NDArray[np.bool_] = field(init=False)  # cells without a result, shape (C,)

    def __post_init__(self) -> None:
        self.missing = np.ones(len(self.cells), bool)

    def images_alone(self) -> Iterator[_Assigned]:
        """Yield a task for each image that lacks cells, after a worker died over this one."""
        todo = np.flatnonzero(self.missing)
        for image in np.unique(self.task.cells[todo, 0]):
            positions = todo[self.task.cells[todo, 0] == image]
            yield _Assigned(self.task.of_cells(positions), self.cells[positions], self.deaths + 1)


class Pool:
    """Workers, the scorer that each has loaded, and the tasks that each has.

    A worker that dies is replaced, and the images of its task that lack scores are tried one by
    one, so that only an image that ends workers fails. Finished cells are never sent again.

    Args:
        workers: the processes.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._recipe: Recipe | None = None
        self._loaded: LoadedScorer | None = None
        self._loading = dict.fromkeys(range(workers.count), 0)  # scorers that each is to load
        self._has: dict[int, deque[_Assigned]] = {n: deque() for n in self._loading}
        self._waiting: deque[_Assigned] = deque()
        self._deaths = self._deaths_loading = 0

    @property
    def count(self) -> int:
        """The number of workers."""
        return self._workers.count

    def load(self, recipe: Recipe) -> LoadedScorer:
        """Let all workers load a scorer, and wait for the first.

        Raises:
            T2VError: it cannot be loaded.
            ScoringError: workers die while they load it.
        """
        if recipe != self._recipe:
            self._recipe, self._loaded = recipe, None
            self._deaths = self._deaths_loading = 0
            for worker in self._loading:
                self._load(worker)
        try:
            while self._loaded is None:
                self._handle(self._workers.wait())
        except BaseException:
            self.stop()
            raise
        return self._loaded

    def run(
        self, recipe: Recipe, tasks: Iterable[tuple[Task, NDArray[np.int64]]]
    ) -> Iterator[tuple[NDArray[np.int64], TaskChunk]]:
        """Score tasks.

        Args:
            recipe: the scorer.
            tasks: tasks, each with the numbers (C,) of its cells; read as workers become free.

        Yields:
            Numbers of cells, and their scores or the reason why there are none.

        Raises:
            T2VError: a worker says that the run cannot go on, or workers die again and again.
        """
        self.load(recipe)
        source = (_Assigned(task, cells) for task, cells in tasks)
        finished = False
        try:
            while True:
                self._assign(source)
                if not self._waiting and not any(self._has.values()):
                    break
                yield from self._handle(self._workers.wait())
            finished = True
        finally:
            if not finished:  # what workers still do is of no use
                self.stop()

    def stop(self) -> None:
        """End all workers; the next `load` starts others."""
        for worker in self._loading:
            self._workers.stop(worker)
            self._loading[worker] = 0
            self._has[worker].clear()
        self._waiting.clear()
        self._recipe = self._loaded = None

    def _load(self, worker: int) -> None:
        assert self._recipe is not None
        self._workers.load(worker, self._recipe)
        self._loading[worker] += 1

    def _assign(self, source: Iterator[_Assigned]) -> None:
        """Give tasks to workers that have loaded the scorer, those with the fewest first."""
        while True:
            free = [n for n, has in self._has.items() if not self._loading[n] and len(has) < AHEAD]
            if not free:
                return
            assigned = self._waiting.popleft() if self._waiting else next(source, None)
            if assigned is None:
                return
            worker = min(free, key=lambda n: len(self._has[n]))
            self._has[worker].append(assigned)
            self._workers.score(worker, assigned.task)

    def _handle(self, event: Event) -> Iterator[tuple[NDArray[np.int64], TaskChunk]]:
        """Take in an event, and return the scores that it brings."""
        worker, content = event
        if isinstance(content, T2VError):
            raise content
        if isinstance(content, LoadedScorer):
            self._take_loaded(worker, content)
        elif isinstance(content, Death):
            return iter(list(self._replace(worker, content)))
        elif content is None:
            self._has[worker].popleft()
            self._deaths = 0
        else:
            assigned = self._has[worker][0]
            assigned.missing[content.positions] = False
            return iter([(assigned.cells[content.positions], content)])
        return iter(())

    def _take_loaded(self, worker: int, loaded: LoadedScorer) -> None:
        self._loading[worker] -= 1
        if self._loading[worker]:
            return  # of a scorer that was replaced before it was used
        self._deaths_loading = 0
        if self._loaded is None:
            self._loaded = loaded
        elif loaded.encoder_id != self._loaded.encoder_id:
            raise CheckpointError(
                "the workers have loaded different scorers, since weights, versions of packages or "
                f"devices differ between them: {self._loaded.encoder_id!r} and "
                f"{loaded.encoder_id!r}; make them the same"
            )

    def _replace(self, worker: int, death: Death) -> Iterator[tuple[NDArray[np.int64], TaskChunk]]:
        """Start another worker; its tasks wait again, the one that it died over image by image."""
        self._deaths += 1
        if self._loading[worker]:
            self._deaths_loading += 1
            if self._deaths_loading == MOST_DEATHS_LOADING:
                raise ScoringError(
                    f"{MOST_DEATHS_LOADING} workers in a row ended while they loaded the scorer "
                    f"({death.reason}): it may not fit into their memory; try fewer workers or a "
                    "smaller `dtype=`"
                )
        if self._deaths == MOST_DEATHS:
            raise ScoringError(
                f"{MOST_DEATHS} workers in a row ended before they finished a task "
                f"({death.reason}); finished scores are stored"
            )
        tasks, self._has[worker] = self._has[worker], deque()
        if tasks:
            for assigned in tasks.popleft().images_alone():
                if assigned.deaths < MOST_DEATHS_OF_IMAGE:
                    self._waiting.append(assigned)
                else:
                    (image,) = assigned.task.images
                    reason = f"{image.name}: {assigned.deaths} workers ended over it"
                    yield (
                        assigned.cells,
                        TaskChunk(
                            np.arange(len(assigned.cells)), None, f"{reason} ({death.reason})"
                        ),
                    )
        self._waiting.extendleft(reversed(tasks))
        self._loading[worker] = 0
        self._load(worker)
