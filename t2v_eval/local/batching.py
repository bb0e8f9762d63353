"""Feed a model: decode in threads, fill batches, and halve them when memory runs out."""

from __future__ import annotations

import gc
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

from t2v_eval.errors import GenerationError, InputError, MediaError, ScoringError, T2VError
from t2v_eval.inputs.image_file import error_message
from t2v_eval.utils.torch_internals import out_of_memory

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Failure:
    """The failure of an item alone.

    Attributes:
        error: the exception; None for out-of-memory.

    >>> Failure(ValueError("no such token")).error
    ValueError('no such token')
    """

    error: Exception | None


class BatchSize:
    """A batch size that starts large, is halved on out-of-memory, and then stays.

    Args:
        start: the first size that is tried.

    Attributes:
        value: the size of the next batch.

    Raises:
        InputError: `start` is not a whole number of 1 or more.

    >>> size = BatchSize(4)
    >>> def run(items):
    ...     if len(items) > 2:
    ...         raise MemoryError
    ...     return sum(items)
    >>> list(size.batches([1, 2, 3, 4, 5], run)), size.value
    ([(slice(0, 2, None), 3), (slice(2, 4, None), 7), (slice(4, 5, None), 5)], 2)
    """

    def __init__(self, start: int) -> None:
        if not isinstance(start, int) or isinstance(start, bool) or start < 1:
            raise InputError(f"`batch_size={start!r}`: use a whole number of 1 or more")
        self.value = start

    def batches(
        self, items: Sequence[A], run: Callable[[Sequence[A]], B]
    ) -> Iterator[tuple[slice, B]]:
        """Run batches in order and yield (slice of `items`, result) of each.

        Args:
            items: the items.
            run: computes a batch.

        >>> list(BatchSize(2).batches([1, 2, 3], sum))
        [(slice(0, 2, None), 3), (slice(2, 3, None), 3)]

        Raises:
            torch.OutOfMemoryError: not even one item fits.
            Exception: any error of `run` for an item alone.
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
        free_memory: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[slice, B | Failure]]:
        """Run batches as `batches` does, and yield the failure of an item that fails alone.

        On out-of-memory, call `free_memory`, then halve the batch. On any other exception, try the
        items of the batch one by one.

        Args:
            items: the items.
            run: computes a batch.
            free_memory: clears caches; returns whether it freed any memory, so that a retry helps.

        Yields:
            A slice of `items`, and the result of `run` or the failure of the slice's only item.

        >>> def invert(items):
        ...     return [1 / item for item in items]
        >>> for part, result in BatchSize(2).run_adaptive([2, 0], invert):
        ...     print(part.start, result)
        0 [0.5]
        1 Failure(error=ZeroDivisionError('division by zero'))
        """
        start = alone = 0  # items before `alone` are tried one by one
        freed_for: slice | None = None  # the batch that memory was freed for, once
        while start < len(items):
            size = 1 if start < alone else self.value
            part = slice(start, min(start + size, len(items)))
            result = try_run(run, items[part])
            if isinstance(result, Failure):
                memory, several = result.error is None, part.stop - part.start > 1
                if memory:
                    freed = free_memory()
                    empty_allocator_cache()
                    if freed and part != freed_for:  # `run` may fill the caches again
                        freed_for = part
                        continue
                    if several:
                        self.value = (part.stop - part.start) // 2
                        continue
                elif several:
                    del result  # the error holds the tensors of the batch
                    alone = part.stop
                    continue
            yield part, result
            del result  # or it would stay in memory beside the next one
            start = part.stop


def try_run(run: Callable[[A], B], item: A) -> B | Failure:
    """Return `run(item)`, or the failure of this item.

    Args:
        run: computes an item or a batch.
        item: its argument.

    Raises:
        T2VError: a failure that concerns every item, such as a missing package.
        ScoringError: the device failed, so that nothing more can be computed on it.

    >>> try_run(len, "abc"), try_run(len, 3)
    (3, Failure(error=TypeError("object of type 'int' has no len()")))
    """
    try:
        return run(item)
    except Exception as error:  # networks raise anything; only its own item fails
        if out_of_memory(error):
            return Failure(None)
        if isinstance(error, _DEVICE_ERROR):
            raise ScoringError(
                f"the device failed: {error_message(error)}; run it again; scores in a store are "
                "kept, and CUDA_LAUNCH_BLOCKING=1 shows which operation fails"
            ) from error
        if isinstance(error, T2VError) and not isinstance(error, _OF_ONE_ITEM):
            raise
        return Failure(error)


_OF_ONE_ITEM = (MediaError, ScoringError, GenerationError)
# After one, every use of the device fails. Older versions of PyTorch raise RuntimeError.
_DEVICE_ERROR: type[Exception] | tuple[()] = getattr(torch, "AcceleratorError", ())


def empty_allocator_cache() -> None:
    """Return unused memory to the device.

    Call it outside of exception handlers, in which the tensors of a failed batch are still alive.

    >>> empty_allocator_cache()
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def ahead(items: Sequence[A], work: Callable[[A], B], depth: int) -> Iterator[B]:
    """Yield `map(work, items)` in order from threads, at most `depth` results ahead.

    An exception of `work` is raised when its item is reached. Decoding releases the interpreter
    lock, so it runs in parallel with the model.

    Args:
        items: the arguments of `work`.
        work: runs in a thread, such as decoding an image.
        depth: how many results may wait; at least one for each thread.

    >>> list(ahead(["a", "b", "c"], str.upper, depth=2))
    ['A', 'B', 'C']
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
