"""What Ctrl-C and SIGTERM do: what is finished is stored, and the rest is let go of."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM, which schedulers and `kill` send; what looks out for Ctrl-C gets it too."""


def stop_of(error: KeyboardInterrupt) -> tuple[str, int]:
    """What stopped a command, in a word, and the exit code that shells expect of it."""
    if isinstance(error, Terminated):
        return "terminated", 128 + signal.SIGTERM
    return "interrupted", 128 + signal.SIGINT


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Within it, SIGTERM raises `Terminated`, as Ctrl-C raises KeyboardInterrupt.

    Nothing changes where a program handles SIGTERM already, or outside the main thread.
    """
    with _handling(signal.SIGTERM, signal.SIG_DFL, _terminate):
        yield


@contextmanager
def stops_call(stop: Callable[[type[KeyboardInterrupt]], None]) -> Iterator[None]:
    """Within it, Ctrl-C and SIGTERM call `stop` instead of striking anywhere, so that no answer
    that was paid for is lost; a second one strikes as ever. Other threads than the main one are
    not asked, and a SIGTERM that `sigterm_raises` does not handle ends the process.
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
    """Within it, a signal is handled otherwise, if it is handled in the ordinary way now."""
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(number) is not ordinary:
        yield
        return
    signal.signal(number, handle)
    try:
        yield
    finally:
        signal.signal(number, ordinary)
