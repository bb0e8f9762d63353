"""Guard fast paths that rely on internals of libraries against versions newer than those tested.

Internals may change with any version. With an untested version, each fast path is compared with the
plain path when a scorer is loaded, and not used where it fails or gives other numbers. With tested
versions nothing is compared.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version

import torch
from torch import Tensor

from t2v_eval.errors import T2VWarning

from .tested_versions import MODULES, NEWEST_TESTED


def newer_than_tested(library: str) -> str:
    """Name which of `library` and torch are newer than the newest tested version, for messages.

    Returns:
        For example "transformers 6.1.0 (tested up to 5.24.0)"; "" where neither is newer.

    >>> from unittest.mock import patch
    >>> with patch.dict(NEWEST_TESTED, torch="0.1", transformers="9999"):
    ...     newer_than_tested("transformers").endswith("(tested up to 0.1)")
    True
    """
    newer = [
        f"{name} {installed} (tested up to {NEWEST_TESTED[name]})"
        for name in (library, "torch")
        if _numbers(installed := _installed(name)) > _numbers(NEWEST_TESTED[name])
    ]
    return " and ".join(newer)


def use_where_equal(
    library: str,
    path: str,
    switch: Callable[[bool], bool],
    probe: Callable[[], Tensor],
    tolerance: float,
) -> bool:
    """Switch a fast path on; with untested versions, off again where it changes the numbers.

    Args:
        library: the package whose internals it relies on.
        path: the name of the fast path in the warning.
        switch: turns it on (True) or off (False) and returns whether it is on; may raise.
        probe: returns the network's output for a small input.
        tolerance: how far the outputs with and without the fast path may differ, as a fraction of
            the norm of the latter.

    Returns:
        Whether the fast path is on.

    >>> use_where_equal("transformers", "example", lambda on: on, lambda: torch.ones(1), 1e-3)
    True
    """
    newer = newer_than_tested(library)
    if not newer:
        return switch(True)
    try:
        with torch.inference_mode():
            if not switch(True):
                return False
            switch(False)
            expected = probe().float()
            switch(True)
            difference = (probe().float() - expected).norm()
        if bool(difference <= tolerance * expected.norm()):
            return True
        reason = "it gives other numbers"
    except Exception as error:  # internals that have changed may raise anything
        reason = f"{type(error).__name__}: {error}"
    with suppress(Exception):  # where not even the places of a path are there, it was never on
        switch(False)
    warn_unoptimised(newer, path, reason)
    return False


def tolerance_for(dtype: torch.dtype) -> float:
    """Return how far hidden states may differ by rounding alone, as a fraction of their norm.

    >>> tolerance_for(torch.float32), tolerance_for(torch.bfloat16)
    (0.001, 0.1)
    """
    return 1e-3 if dtype is torch.float32 else 0.1


def warn_unoptimised(newer: str, path: str, reason: str) -> None:
    """Warn that a fast path is not used, and what that means for scores.

    Args:
        newer: the result of `newer_than_tested`.
        path: the name of the fast path.
        reason: why it is not used.

    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_unoptimised("torch 99.0 (tested up to 2.14)", "example", "it gives other numbers")
    >>> str(caught[0].message).partition("(it")[0]
    'torch 99.0 (tested up to 2.14): the fast path "example" is switched off '
    """
    warnings.warn(
        f'{newer}: the fast path "{path}" is switched off ({reason}). Scores stay right but take '
        "longer; "
        "install the tested version, or a newer t2v-eval, for full speed",
        T2VWarning,
        stacklevel=3,
    )


def _installed(name: str) -> str:
    module = sys.modules.get(MODULES.get(name, name))
    return str(getattr(module, "__version__", None) or version(name))


def _numbers(version: str) -> tuple[int, ...]:
    """Return the release numbers of a version without its build: "2.14.1+cu130" -> (2, 14, 1)."""
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, release[0].split("."))) if release else ()
