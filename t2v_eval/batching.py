"""Feeding a model: decode beside it, fill batches, and halve them when memory runs out."""

from __future__ import annotations

import gc
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from t2v_eval._torch import out_of_memory
from t2v_eval.errors import InputError

A = TypeVar("A")
B = TypeVar("B")


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
        """
        for part, result in self.fitting(items, run):
            if result is None:
                raise torch.OutOfMemoryError("not even one item fits into the memory")
            yield part, result

    def fitting(
        self,
        items: Sequence[A],
        run: Callable[[Sequence[A]], B],
        make_room: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[slice, B | None]]:
        """As `batches`; an item that does not fit alone is yielded alone, without a result.

        Args:
            make_room: frees what can be freed; whether there was anything, and trying again helps.
        """
        start = 0
        while start < len(items):
            part = slice(start, min(start + self.value, len(items)))
            result = attempt(run, items[part])
            if result is None:
                freed = make_room()
                forget_unused()
                if freed:
                    continue
                if part.stop - part.start > 1:
                    self.value = (part.stop - part.start) // 2
                    continue
            yield part, result
            result = None  # or it would be there beside the next
            start = part.stop


def attempt(run: Callable[[A], B], item: A) -> B | None:
    """What `run` makes of it, or None where memory ran out."""
    try:
        return run(item)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    return None


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
