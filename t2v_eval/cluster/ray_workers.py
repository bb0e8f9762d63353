"""Workers that Ray starts: on this machine, or on those of a cluster."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2v_eval.cluster.pool import Death, Event
from t2v_eval.cluster.worker import LoadedScorer, Recipe, Task, TaskChunk, Worker
from t2v_eval.errors import (
    InputError,
    MissingPackageError,
    ScoringError,
    ServiceError,
    T2VError,
    T2VWarning,
)

LOCAL = "local"  # the address at which Ray starts on this machine
CONNECTION_SECONDS = 10.0
PATIENCE = 60.0  # seconds without a report, after which a wait for free machines is named


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """How many workers there are, and where.

    Attributes:
        workers: their number; default: as many as the GPUs suffice for, without GPUs one for each
            CPU.
        gpus_per_worker: GPUs that each has, or a share of one, such as 0.5; default: 1, or 0 where
            Ray has none.
        ray_address: of a running cluster, such as ``auto`` on one of its machines, or
            ``HOST:6379``; default: RAY_ADDRESS, as Ray sets it for its jobs, else Ray is started
            on this machine.

    Raises:
        InputError: a number is out of range.

    >>> RayOptions(workers=0)
    Traceback (most recent call last):
    ...
    t2v_eval.errors.InputError: `workers=0`: use a whole number of 1 or more
    """

    workers: int | None = None
    gpus_per_worker: float | None = None
    ray_address: str | None = None

    def __post_init__(self) -> None:
        workers, share = self.workers, self.gpus_per_worker
        if workers is not None and (type(workers) is not int or workers < 1):
            raise InputError(f"`workers={workers!r}`: use a whole number of 1 or more")
        # NaN is neither 0 or more nor less.
        if share is not None and not (
            type(share) in (int, float) and 0 <= share < 1000 and (share < 1 or share % 1 == 0)
        ):
            raise InputError(
                f"`gpus_per_worker={share!r}`: use a whole number, or a share from 0 to 1 where "
                "several workers fit on one GPU"
            )
        if self.ray_address is not None and self.ray_address.startswith("ray://"):
            raise InputError(
                f"`ray_address={self.ray_address!r}`: a client of Ray cannot receive scores as "
                "they are computed: run the command on a machine of the cluster, with "
                "`ray_address='auto'`"
            )

    def resolve(self, cpus: float, gpus: float) -> tuple[int, float]:
        """Return how many workers there are, and the GPUs of each.

        Args:
            cpus: those that Ray has in all.
            gpus: those that Ray has in all.

        Raises:
            InputError: Ray has too few.

        >>> RayOptions().resolve(cpus=32, gpus=8), RayOptions(workers=2).resolve(cpus=2, gpus=0)
        ((8, 1), (2, 0))
        >>> RayOptions(workers=3).resolve(cpus=2, gpus=0)
        Traceback (most recent call last):
        ...
        t2v_eval.errors.InputError: `workers=3`: Ray has 2 CPUs, and each worker needs 1: use 2 ...
        """
        share = (1 if gpus >= 1 else 0) if self.gpus_per_worker is None else self.gpus_per_worker
        most = int(cpus) if not share else min(int(cpus), int(gpus / share + 1e-9))
        workers = max(1, most) if self.workers is None else self.workers
        if workers * share > gpus + 1e-9:
            raise InputError(
                f"`gpus_per_worker={share:g}`: {_counted(workers, 'worker')} would need "
                f"{_counted(workers * share, 'GPU')}, and Ray has {gpus:g}: use fewer `workers=`, "
                "or 0 GPUs to score on CPUs"
            )
        if workers > cpus:
            raise InputError(
                f"`workers={workers}`: Ray has {_counted(int(cpus), 'CPU')}, and each worker needs "
                f"1: use {max(int(cpus), 1)} or fewer, or a larger cluster"
            )
        return workers, share


class RayWorkers:
    """Processes of Ray that each hold a scorer; see `pool.Workers`.

    Ray itself would start a worker that dies again and again, and its task with it. Here each
    process is an actor that is started once, and the pool decides what happens to the images that
    it was scoring.

    Args:
        options: how many, and where.

    Raises:
        MissingPackageError: Ray is not installed.
        ServiceError: there is no cluster at the address, or Ray cannot be started.
        InputError: Ray has too few CPUs or GPUs.
    """

    def __init__(self, options: RayOptions) -> None:
        self._ray = _import_ray()
        self._started = not self._ray.is_initialized()
        if self._started:
            address = options.ray_address or os.environ.get("RAY_ADDRESS") or LOCAL
            _connect(self._ray, address)
        try:
            has = self._ray.cluster_resources()
            cpus = has.get("CPU", 0)
            self.count, gpus = options.resolve(cpus, has.get("GPU", 0))
        except BaseException:
            self.close()
            raise
        # Alone on this machine, they share its CPUs; on a cluster, others need some, too.
        alone = self._started and address == LOCAL
        self._needs = {"num_cpus": int(cpus // self.count) if alone else 1, "num_gpus": gpus}
        self._actor = self._ray.remote(
            max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD", **self._needs
        )(RayActor)
        self._handles: dict[int, Any] = {}
        self._streams: dict[int, deque[Any]] = {n: deque() for n in range(self.count)}

    def load(self, worker: int, recipe: Recipe) -> None:
        """See `Workers.load`."""
        if worker not in self._handles:
            self._handles[worker] = self._actor.remote(str(Path.cwd()))
        self._send(worker, "load", recipe)

    def score(self, worker: int, task: Task) -> None:
        """See `Workers.score`."""
        self._send(worker, "score", task)

    def _send(self, worker: int, method: str, argument: object) -> None:
        call = getattr(self._handles[worker], method).options(num_returns="streaming")
        self._streams[worker].append(call.remote(argument))

    def wait(self) -> Event:
        """See `Workers.wait`; warn where no worker has reported for a minute."""
        errors = self._ray.exceptions
        while True:
            first = {streams[0]: n for n, streams in self._streams.items() if streams}
            ready, _ = self._ray.wait(list(first), num_returns=1, timeout=PATIENCE)
            if not ready:
                self._say_waiting()
                continue
            worker = first[ready[0]]
            try:
                return Event(worker, self._ray.get(next(ready[0])))
            except StopIteration:
                self._streams[worker].popleft()
            except errors.RayTaskError as error:
                reason = str(error).strip().rpartition("\n")[2]
                return Event(worker, ScoringError(f"a worker of Ray failed: {reason}"))
            except errors.RayError as error:
                self.stop(worker)
                return Event(worker, Death(_reason(error)))

    def _say_waiting(self) -> None:
        free = self._ray.available_resources()
        if any(free.get(kind, 0) < self._needs[key] for kind, key in _KINDS.items()):
            warnings.warn(
                f"no worker has reported for {PATIENCE:g} s, and Ray has no free CPU or GPU for "
                "another: it may wait for other jobs of the cluster",
                T2VWarning,
                stacklevel=2,
            )

    def stop(self, worker: int) -> None:
        """See `Workers.stop`."""
        self._streams[worker].clear()
        handle = self._handles.pop(worker, None)
        if handle is not None:
            self._ray.kill(handle, no_restart=True)

    def close(self) -> None:
        """End all workers, and Ray where it was started or joined here."""
        for worker in list(getattr(self, "_handles", ())):
            self.stop(worker)
        if self._started:
            self._ray.shutdown()


_KINDS = {"CPU": "num_cpus", "GPU": "num_gpus"}


class RayActor:
    """A worker as Ray runs it: what it reports, errors too, is sent as values.

    Args:
        folder: as for `Worker`.

    >>> from t2v_eval.registry import models
    >>> from t2v_eval.api import ScorerOptions
    >>> options = ScorerOptions(checkpoint="gone", device="cpu")
    >>> [report] = RayActor(".").load(Recipe(models.card("tiny-clip"), options))
    >>> type(report).__name__
    'CheckpointError'
    """

    def __init__(self, folder: str) -> None:
        self._worker = Worker(folder)

    def load(self, recipe: Recipe) -> Iterator[LoadedScorer | T2VError]:
        """Load a scorer; yield what it is, or why it cannot be loaded."""
        try:
            yield self._worker.load(recipe)
        except Exception as error:  # of a file of the user's, or of a library
            yield _as_ours(error)

    def score(self, task: Task) -> Iterator[TaskChunk | T2VError | None]:
        """Score a task; yield its scores, and None at its end, or why the run ends."""
        try:
            yield from self._worker.score(task)
            yield None
        except Exception as error:
            yield _as_ours(error)


def _as_ours(error: Exception) -> T2VError:
    """Return an error that can be sent: its chain may hold tensors."""
    if isinstance(error, T2VError):
        return type(error)(str(error))
    return ScoringError(f"a worker failed: {type(error).__name__}: {error}")


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to Ray's authors
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or Ray warns of its future
    try:
        import ray
    except ImportError:
        raise MissingPackageError(
            "`engine='ray'` needs Ray: pip install 't2v-eval[cluster]'"
        ) from None
    return ray


def _connect(ray: Any, address: str) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:  # no port is open to other machines
        options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        _check_reachable(address)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Ray, about its own future versions
            ray.init(address=address, **options)
    except Exception as error:  # Ray raises anything, also of its processes that end
        ray.shutdown()
        reason = str(error).strip().partition("\n")[0]
        if address == LOCAL:
            raise ServiceError(f"Ray cannot be started on this machine: {reason}") from error
        raise ServiceError(
            f"`ray_address={address!r}`: no cluster of Ray answers there: {reason}; `ray status` "
            "on one of its machines shows its address"
        ) from error


def _check_reachable(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT, for which Ray would wait for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), CONNECTION_SECONDS).close()


def _reason(error: Exception) -> str:
    """Return why a worker died, as far as Ray knows, in a line."""
    text = str(error).strip()
    if "creation task" in text:  # an exception before it could load anything
        return text.rpartition("\n")[2]
    if "memory" in text and "OOM" in text and "killed" in text and "memory monitor" in text:
        return "its machine ran out of memory"
    return "its process was killed or crashed, perhaps for lack of memory"


def _counted(number: float, what: str) -> str:
    return f"{number:g} {what}{'' if number == 1 else 's'}"
