"""Progress on stderr: bars in a terminal, and else a line from time to time, as for `nohup`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from t2v_eval.cli import console

if TYPE_CHECKING:
    from t2v_eval.scoring.results import CellCounts

EVERY_SECONDS = 10.0
EVERY_SHARE = 0.05
LEAST_SECONDS = 1.0  # between two lines, so that a fast run does not print twenty at once


class Bars:
    """Progress of runs: a bar each in a terminal, lines of text elsewhere, nothing with --quiet.

    Both show what runs, the number of scores done and in all, those computed per second, the
    time left, and how many were reused from the store or failed.

    Args:
        clock: returns the time in seconds; another one in tests.
        what: what is counted.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, what: str = "scores") -> None:
        terminal = console.console(stderr=True)
        self._clock, self._what = clock, what
        self._prints_lines = not (terminal.is_terminal or console.is_quiet())
        self._lines: list[Lines] = []
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="t2v-eval-progress", daemon=True)
        self._progress = _TwoLines(
            BarColumn(bar_width=12),
            TextColumn(f"{{task.completed:.0f}}/{{task.total:.0f}} {what}"),
            TimeRemainingColumn(),
            TextColumn("left", style="dim"),
            TextColumn("{task.fields[rate]}{task.fields[more]}", style="dim"),
            console=terminal,
            disable=console.is_quiet() or not terminal.is_terminal,
        )

    def __enter__(self) -> Bars:
        if self._prints_lines:
            self._ticker.start()
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._prints_lines:
            self._ticker.join()
        if not self._progress.disable:  # older versions of rich would print an empty line
            self._progress.stop()

    def add(self, label: str) -> Callable[[CellCounts], None]:
        """Add a run; return a function that takes its `CellCounts` as they grow."""
        if not self._prints_lines:
            return self._add_bar(label)
        for earlier in self._lines:
            earlier.end()
        self._lines.append(Lines(label, self._clock, self._what))
        return self._lines[-1].update

    def _tick(self) -> None:
        """Print lines while a model computes its next scores, which may take long."""
        while not self._ended.wait(EVERY_SECONDS):
            for lines in list(self._lines):
                lines.tick()

    def _add_bar(self, label: str) -> Callable[[CellCounts], None]:
        task = self._progress.add_task(label, total=0, rate="", more="")

        def update(counts: CellCounts) -> None:
            elapsed = self._progress.tasks[task].elapsed or 0
            self._progress.update(
                task,
                total=counts.cells,
                completed=_done(counts),
                rate=f"{counts.computed / elapsed:.1f}/s" if elapsed else "",
                more=_more(counts),
            )

        return update


class Lines:
    """Lines of progress of one run.

    From the tenth second on, a line is printed after each 10 seconds, and after each 5 % unless the
    last line is younger than a second. So a run of less than 10 seconds prints none.

    Args:
        label: what runs.
        clock: returns the time in seconds.
        what: what is counted.
    """

    def __init__(
        self, label: str, clock: Callable[[], float] = time.monotonic, what: str = "scores"
    ) -> None:
        self.label, self._what = label, what
        self._clock = clock
        self._started = self._last = clock()
        self._share = 0.0
        self._counts: CellCounts | None = None
        self._open = True
        self._lock = threading.Lock()  # the ticker is a thread of its own

    def update(self, counts: CellCounts) -> None:
        """Take the counts, and print a line where one is due."""
        with self._lock:
            self._counts = counts
            share = _done(counts) / counts.cells if counts.cells else 1.0
            waited = self._clock() - self._last
            stepped = int(share / EVERY_SHARE + 1e-9) > int(self._share / EVERY_SHARE + 1e-9)
            long = self._clock() - self._started >= EVERY_SECONDS
            if long and (waited >= EVERY_SECONDS or (stepped and waited >= LEAST_SECONDS)):
                self._print(share)
            self._open = share < 1

    def tick(self) -> None:
        """Print a line where 10 seconds went by without one."""
        with self._lock:
            if not self._open or self._clock() - self._last < EVERY_SECONDS:
                return
            counts = self._counts
            self._print(_done(counts) / counts.cells if counts and counts.cells else 0.0)

    def end(self) -> None:
        """Print no further line: the next run has begun."""
        with self._lock:
            self._open = False

    def _print(self, share: float) -> None:
        self._last, self._share = self._clock(), share
        console.say(f"{self.label}: {self._status(share)}")

    def _status(self, share: float) -> str:
        counts, elapsed = self._counts, self._clock() - self._started
        if counts is None:
            return f"no {self._what} yet, {duration(elapsed)}"
        parts = [
            f"{_done(counts)}/{counts.cells} {self._what} ({100 * share:.0f} %){_more(counts)}"
        ]
        rate = counts.computed / elapsed if elapsed else 0.0
        if rate:
            parts.append(f"{rate:.1f}/s")
            parts.append(f"{duration((counts.cells - _done(counts)) / rate)} left")
        return ", ".join(parts)


class _TwoLines(Progress):
    """Progress with each description on a line of its own, so that numbers fit into 80 columns."""

    def get_renderables(self) -> Iterator[RenderableType]:
        for task in self.tasks:
            yield console.text_of(task.description)
            yield self.make_tasks_table([task])


def duration(seconds: float) -> str:
    """Return a time for people, of two units at most.

    >>> duration(7.2), duration(95), duration(7320)
    ('7 s', '1 min 35 s', '2 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _done(counts: CellCounts) -> int:
    return counts.computed + counts.reused + counts.failed


def _more(counts: CellCounts) -> str:
    more = f", {counts.reused} reused" if counts.reused else ""
    return more + (f", {counts.failed} failed" if counts.failed else "")
