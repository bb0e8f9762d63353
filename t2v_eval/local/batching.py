"""Feeding a model: decode beside it, fill batches, and halve them when memory runs out."""

from __future__ import annotations

import gc
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

from t2v_eval.errors import InputError, MediaError, ScoringError, T2VError
from t2v_eval.inputs.image_file import in_words
from t2v_eval.utils.torch_internals import out_of_memory

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Failure:
    """An item alone has no result: `error` is what was raised, None where memory ran out."""

    error: Exception | None


class BatchSize:
    """A batch size that is found, not asked for: it starts large and halves on out-of-memory.

    What worked is kept for the rest of the scorer's life.

    Raises:
        InputError: `start` is no whole number of 1 or more.
    """

    def __init__(self, start: int) -> None:
        if not isinstance(start, int) or isinstance(start, bool) or start < 1:
            raise InputError(f"batch_size={start!r}: use a whole number of 1 or more")
        self.value = start

    def batches(
        self, items: Sequence[A], run: Callable[[Sequence[A]], B]
    ) -> Iterator[tuple[slice, B]]:
        """Yield (slice of `items`, result) in order, each as soon as it is there.

        Raises:
            torch.OutOfMemoryError: not even one item fits.
            Exception: whatever `run` raises of an item alone.
        """
        for part, result in self.run_adaptive(items, run):
            if isinstance(result, Failure):
                raise result.error or torch.OutOfMemoryError(
                    "not even one item fits into the memory"
                )
            yield part, result

    def run_adaptive(
        self,
        items: Sequence[A],
        run: Callable[[Sequence[A]], B],
        make_room: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[slice, B | Failure]]:
        """As `batches`; an item that fails alone is yielded alone, with its failure.

        Where a batch fails otherwise than by memory, its items are tried one by one.

        Args:
            make_room: frees what can be freed; whether there was anything, and trying again helps.
        """
        start = alone = 0  # items before `alone` are tried one by one
        while start < len(items):
            size = 1 if start < alone else self.value
            part = slice(start, min(start + size, len(items)))
            result = try_run(run, items[part])
            if isinstance(result, Failure):
                memory, several = result.error is None, part.stop - part.start > 1
                if memory:
                    freed = make_room()
                    forget_unused()
                    if freed:
                        continue
                    if several:
                        self.value = (part.stop - part.start) // 2
                        continue
                elif several:
                    del result  # the error holds the tensors of the batch
                    alone = part.stop
                    continue
            yield part, result
            del result  # or it would be there beside the next
            start = part.stop


def try_run(run: Callable[[A], B], item: A) -> B | Failure:
    """What `run` makes of it, or why it makes nothing.

    Raises:
        T2VError: what concerns every item, such as a package that is missing.
        ScoringError: the device failed, so that nothing more can be computed on it.
    """
    try:
        return run(item)
    except Exception as error:
        if out_of_memory(error):
            return Failure(None)
        if isinstance(error, _DEVICE_ERROR):
            raise ScoringError(
                f"the device failed: {in_words(error)}; start again, with the same store what is "
                "finished stays, and with CUDA_LAUNCH_BLOCKING=1 the place is named"
            ) from error
        if isinstance(error, T2VError) and not isinstance(error, (MediaError, ScoringError)):
            raise
        return Failure(error)


# After one, every use of the device fails. Older versions of PyTorch raise RuntimeError.
_DEVICE_ERROR: type[Exception] | tuple[()] = getattr(torch, "AcceleratorError", ())


def forget_unused() -> None:
    """Give memory back; outside handlers, where the tensors of a failed batch are still held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def ahead(items: Sequence[A], work: Callable[[A], B], depth: int) -> Iterator[B]:
    """`map(work, items)` in threads, in order, never more than `depth` results ahead.

    An exception of `work` is raised when its item is reached. Decoding releases the interpreter
    lock, so it runs truly beside the model.
    """
    if len(items) == 1:  # threads would cost more than they save
        yield work(items[0])
        return
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers, thread_name_prefix="t2v-decode") as pool:
        waiting: deque[Future[B]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > max(depth, workers):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
