"""Bound the memory of decoding over all threads.

A small file may hold a huge image, and every decoding thread could have one at the same time. So
a thread reserves bytes before it decodes, and waits while others have reserved too many.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from t2v_eval.errors import InputError, MediaError

VARIABLE = "T2V_EVAL_DECODE_MIB"
DEFAULT_MIB = 2048
LARGEST = 4  # budgets that one image or video may take alone; a larger one is refused
SPARE_SHARE = 4  # the budget is so many times the bytes that may lie in memory for later


def budget_bytes() -> int:
    """Return the budget in bytes, from the environment or the default.

    Raises:
        InputError: the variable is not a whole number above 0.

    >>> budget_bytes() > 0
    True
    """
    value = os.environ.get(VARIABLE, "").strip() or str(DEFAULT_MIB)
    if not value.isascii() or not value.isdecimal() or not 0 < int(value) < 2**40:
        raise InputError(f"{VARIABLE}={value!r}: use a whole number of MiB, such as {DEFAULT_MIB}")
    return int(value) << 20


def spare_bytes() -> int:
    """Return how many bytes may lie in memory for later; see `Budget.spare`.

    Raises:
        InputError: as `budget_bytes`.

    >>> 0 < spare_bytes() < budget_bytes()
    True
    """
    return budget_bytes() // SPARE_SHARE


def check_size(name: str, size: int, what: str, remedy: str) -> None:
    """Refuse an image or video that takes more memory than is allowed even alone.

    Args:
        name: its name in messages.
        size: bytes that decoding takes.
        what: its dimensions, for the message.
        remedy: what the user may do, for the message.

    Raises:
        MediaError: the message names the limit and how to raise it.

    >>> check_size("a.png", 48 * 48 * 16, "an image of 48 x 48 pixels", "make it smaller")
    """
    limit = LARGEST * budget_bytes()
    if size > limit:
        raise MediaError(
            f"{name}: {what} would take {size >> 20} MiB to decode, more than {LARGEST} times the "
            f"{limit // LARGEST >> 20} MiB that decoding may take; {remedy}, or set the "
            f"environment variable {VARIABLE} to more"
        )


class SpareBytes:
    """Bytes that lie in memory for later and can be read again; see `Budget.spare`.

    Attributes:
        content: the bytes; None once they were dropped.

    >>> SpareBytes(b"a file").content
    b'a file'
    """

    def __init__(self, content: bytes | None) -> None:
        self.content = content

    def __reduce__(self) -> tuple[type[SpareBytes], tuple[None]]:
        # Another process reads the file itself, which costs less than sending the bytes.
        return SpareBytes, (None,)


class Budget:
    """Bytes that threads share; see `reserve` and `lease`.

    A thread that needs more than the whole budget runs alone. Threads that hold a part and wait for
    more cannot deadlock: when all holders wait, the first one goes on beyond the budget. Spare
    bytes fill a part of what nobody has reserved, and are dropped for a thread that reserves it.

    >>> budget = Budget()
    >>> with budget.lease():
    ...     budget.reserve(100)
    ...     budget.used
    100
    >>> budget.used
    0
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: dict[int, int] = {}  # by thread
        self._waiting: list[int] = []  # threads in the order in which they came
        self._leases = threading.local()
        self._spare: dict[int, tuple[weakref.ref[SpareBytes], int]] = {}  # oldest first, with sizes
        self._spare_size = 0

    @property
    def used(self) -> int:
        """The bytes that are reserved now."""
        with self._changed:
            return sum(self._held.values())

    @property
    def spare_size(self) -> int:
        """The spare bytes that lie in memory now, which `used` does not count."""
        with self._changed:
            return self._spare_size

    def spare(self, content: bytes) -> SpareBytes:
        """Leave bytes in memory while the result exists, as long as there is room for them.

        The oldest bytes are dropped for new ones, and for a thread that reserves their room.

        Args:
            content: bytes that can be read again.

        Returns:
            An object that holds them until they are dropped.

        >>> budget = Budget()
        >>> file = budget.spare(b"a file")
        >>> budget.spare_size
        6
        >>> del file
        >>> budget.spare_size
        0
        """
        spare, total = SpareBytes(content), budget_bytes()
        number, size = id(spare), len(content)
        with self._changed:
            room = min(spare_bytes(), total - sum(self._held.values()))
            if size > room:
                spare.content = None
            else:
                self._drop_spare(room - size)
                self._spare[number] = weakref.ref(spare, lambda _: self._forget(number)), size
                self._spare_size += size
        return spare

    def _forget(self, number: int) -> None:
        # May be called by this thread in the middle of a method below: the lock is reentrant.
        with self._changed:
            _, size = self._spare.pop(number, (None, 0))
            self._spare_size -= size

    def _drop_spare(self, room: int) -> None:
        while self._spare_size > room:
            number = next(iter(self._spare))
            spare = self._spare[number][0]()
            if spare is not None:
                spare.content = None
            self._forget(number)

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Hold what this thread reserves until its outermost lease ends."""
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
        """Reserve bytes for this thread, and wait for others; only within a `lease`."""
        if not getattr(self._leases, "depth", 0):
            raise RuntimeError("reserve() outside of a lease would never be given back")
        thread, total = threading.get_ident(), budget_bytes()
        with self._changed:
            self._waiting.append(thread)
            self._changed.notify_all()  # this may be the last holder to wait
            try:
                self._changed.wait_for(lambda: self._may_go_on(thread, size, total))
                self._held[thread] = self._held.get(thread, 0) + size
                self._drop_spare(max(0, total - sum(self._held.values())))
            finally:
                self._waiting.remove(thread)
                self._changed.notify_all()

    def _may_go_on(self, thread: int, size: int, total: int) -> bool:
        fits = sum(self._held.values()) + size <= total
        if thread in self._held:
            holders = [other for other in self._waiting if other in self._held]
            return fits or (holders[0] == thread and len(holders) == len(self._held))
        # First come, first served, or a large image would wait for ever.
        first = next(other for other in self._waiting if other not in self._held)
        return first == thread and (fits or not self._held)


BUDGET = Budget()
