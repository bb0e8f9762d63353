"""A bound on the memory that decoding takes, over all threads together.

A small file may hold a huge picture, and every decoding thread could meet one at the same time. So
a thread reserves bytes before it decodes, and waits where others hold too many.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from t2v_eval.errors import InputError, MediaError

VARIABLE = "T2V_EVAL_DECODE_MIB"
DEFAULT_MIB = 2048
LARGEST = 4  # one picture or video may take so many times the budget, alone; then it is refused


def budget_bytes() -> int:
    """The budget in bytes, from the environment or the default.

    Raises:
        InputError: the variable holds no whole number above 0.
    """
    value = os.environ.get(VARIABLE, "").strip() or str(DEFAULT_MIB)
    if not value.isascii() or not value.isdecimal() or not 0 < int(value) < 2**40:
        raise InputError(f"{VARIABLE}={value!r}: use a whole number of MiB, such as {DEFAULT_MIB}")
    return int(value) << 20


def check_size(name: str, size: int, what: str, remedy: str) -> None:
    """Refuse a picture or video that takes more memory than is allowed even alone.

    Args:
        size: bytes that decoding it takes.
        what: its dimensions, for the message.

    Raises:
        MediaError: the message names the limit and how to raise it.
    """
    limit = LARGEST * budget_bytes()
    if size > limit:
        raise MediaError(
            f"{name}: {what} would take {size >> 20} MiB to decode, more than {LARGEST} times the "
            f"{limit // LARGEST >> 20} MiB that decoding may take; {remedy}, or set the "
            f"environment variable {VARIABLE} to more"
        )


class Budget:
    """Bytes that threads share; see `reserve` and `lease`.

    Whoever needs more than the whole runs alone. Threads that already hold a part and wait for
    more cannot block each other: where all holders wait, the first goes on beyond the budget.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: dict[int, int] = {}  # by thread
        self._waiting: list[int] = []  # threads in the order in which they came
        self._leases = threading.local()

    @property
    def used(self) -> int:
        """Bytes that are reserved at present."""
        with self._changed:
            return sum(self._held.values())

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Keep what this thread reserves within, until the outermost lease ends."""
        depth = getattr(self._leases, "depth", 0)
        self._leases.depth = depth + 1
        try:
            yield
        finally:
            self._leases.depth = depth
            if depth == 0:
                with self._changed:
                    self._held.pop(threading.get_ident(), None)
                    self._changed.notify_all()

    def reserve(self, size: int) -> None:
        """Reserve bytes for this thread, waiting for others; only within a `lease`."""
        if not getattr(self._leases, "depth", 0):
            raise RuntimeError("reserve() outside of a lease would never be given back")
        own, total = threading.get_ident(), budget_bytes()
        with self._changed:
            self._waiting.append(own)
            self._changed.notify_all()  # this may be the last holder to wait
            try:
                self._changed.wait_for(lambda: self._may_go_on(own, size, total))
                self._held[own] = self._held.get(own, 0) + size
            finally:
                self._waiting.remove(own)
                self._changed.notify_all()

    def _may_go_on(self, own: int, size: int, total: int) -> bool:
        fits = sum(self._held.values()) + size <= total
        if own in self._held:
            holders = [thread for thread in self._waiting if thread in self._held]
            return fits or (holders[0] == own and len(holders) == len(self._held))
        # In the order in which they came, or a large picture would wait for ever.
        first = next(thread for thread in self._waiting if thread not in self._held)
        return first == own and (fits or not self._held)


BUDGET = Budget()
