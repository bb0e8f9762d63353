"""Handle Ctrl-C and SIGTERM so that finished results are stored.

`remote.request_pool.Pool.run` ends a run over a service with this. A later run resumes, since
`scoring.execution` skips the cells of the store, and `backends.services.batches.pending` collects
the batches that were submitted.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM, which schedulers and `kill` send; handlers of KeyboardInterrupt catch it too."""


def stop_of(error: KeyboardInterrupt) -> tuple[str, int]:
    """Return what stopped a command, in a word, and the exit code that shells expect.

    >>> stop_of(KeyboardInterrupt()), stop_of(Terminated())
    (('interrupted', 130), ('terminated', 143))
    """
    if isinstance(error, Terminated):
        return "terminated", 128 + signal.SIGTERM
    return "interrupted", 128 + signal.SIGINT


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Make SIGTERM raise `Terminated` within the block, as Ctrl-C raises KeyboardInterrupt.

    It has no effect where a program handles SIGTERM already, or outside the main thread.
    """
    with _handling(signal.SIGTERM, signal.SIG_DFL, _terminate):
        yield


@contextmanager
def stops_call(stop: Callable[[type[KeyboardInterrupt]], None]) -> Iterator[None]:
    """Make the first Ctrl-C or SIGTERM call `stop` within the block instead of raising.

    So finished, paid answers are stored; a second signal raises as usual. It has no effect outside
    the main thread, and SIGTERM needs `sigterm_raises` around it; otherwise it ends the process.

    Args:
        stop: called with the class of the error that the signal would have raised.
    """
    with ExitStack() as both:
        for number, ordinary, error in (
            (signal.SIGINT, signal.default_int_handler, KeyboardInterrupt),
            (signal.SIGTERM, _terminate, Terminated),
        ):
            both.enter_context(_handling(number, ordinary, _once(ordinary, stop, error)))
        yield


def _once(
    ordinary: Any,
    stop: Callable[[type[KeyboardInterrupt]], None],
    error: type[KeyboardInterrupt],
) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(number, ordinary)
        stop(error)

    return handle


@contextmanager
def _handling(number: signal.Signals, ordinary: Any, handle: Any) -> Iterator[None]:
    """Handle a signal with `handle` within the block, if its handler is `ordinary` now."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(number) is not ordinary:
        yield
        return
    signal.signal(number, handle)
    try:
        yield
    finally:
        signal.signal(number, ordinary)
