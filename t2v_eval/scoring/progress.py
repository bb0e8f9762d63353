"""Progress bars of calls in Python, where a person watches: in a terminal or a notebook."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from t2v_eval.scoring.results import CellCounts, Progress

DELAY = 2.0  # seconds; a call that ends before shows no bar


@contextmanager
def reporting(progress: Progress | bool | None, label: str) -> Iterator[Progress]:
    """Yield a function that takes the counts of a call as they grow.

    Args:
        progress: that function; or whether to show a bar, by default where a person watches.
        label: what the bar is of.

    >>> with reporting(False, "mine on scenes") as progress:
    ...     progress(CellCounts(cells=4, computed=3))
    """
    if callable(progress):
        yield progress
    elif progress or (progress is None and is_watched()):
        bar = _bar(label)
        try:
            yield lambda counts: _update(bar, counts)
        finally:
            bar.close()
    else:
        yield lambda counts: None


def is_watched() -> bool:
    """Return whether standard error is a terminal or the output of a notebook.

    >>> isinstance(is_watched(), bool)
    True
    """
    # Only a program that runs in IPython has imported it.
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    if "IPKernelApp" in getattr(get_shell(), "config", ()):
        return True
    return bool(sys.stderr and sys.stderr.isatty())


def _bar(label: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without widgets gets a bar of text
        from tqdm.auto import tqdm
    return tqdm(desc=label, unit=" scores", delay=DELAY, dynamic_ncols=True)


def _update(bar: Any, counts: CellCounts) -> None:
    if bar.total is None:
        # Stored scores take no time, so they do not count for the rate.
        bar.initial = bar.n = counts.reused
        bar.total = counts.cells
    notes = {"reused": counts.reused, "failed": counts.failed}
    bar.set_postfix({name: count for name, count in notes.items() if count}, refresh=False)
    bar.update(counts.computed + counts.reused + counts.failed - bar.n)
