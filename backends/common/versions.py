"""The newest versions of libraries that the tests are run with, and what is done with newer ones.

Fast paths rely on internals of these libraries, which may change with any version. So with a newer
version each is compared with the plain path when a scorer is loaded, and not used where it fails or
gives other numbers. With tested versions nothing is compared.
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
    """The library, and torch below it, where newer than the newest tested, with their versions;
    "" where neither is.
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
    close: float,
) -> bool:
    """Switch a fast path on, and with untested versions off again where it changes anything.

    Args:
        library: the package whose internals it relies on.
        path: what it is called in the warning.
        switch: turns it on (True) or off (False), and says whether it is on; it may fail.
        probe: what the network makes of a small input.
        close: how far that may be from what it makes of it without the fast path, relative to its
            length.

    Returns:
        Whether it is on.
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
            apart = (probe().float() - expected).norm()
        if bool(apart <= close * expected.norm()):
            return True
        reason = "it gives other numbers"
    except Exception as error:  # whatever becomes of internals that have changed
        reason = f"{type(error).__name__}: {error}"
    with suppress(Exception):  # where not even the places of a path are there, it was never on
        switch(False)
    warn_of_plain(newer, path, reason)
    return False


def close_in(dtype: torch.dtype) -> float:
    """How far states in a precision may be apart by rounding, relative to their length."""
    return 1e-3 if dtype is torch.float32 else 0.1


def warn_of_plain(newer: str, path: str, reason: str) -> None:
    """Say that a fast path is not used, and what that means for scores."""
    warnings.warn(
        f"{newer}: not used with it is {path} ({reason}). Scores stay right, but take longer; "
        "install the tested version, or a newer t2v-eval, to be as fast as before",
        T2VWarning,
        stacklevel=3,
    )


def _installed(name: str) -> str:
    module = sys.modules.get(MODULES.get(name, name))
    return str(getattr(module, "__version__", None) or version(name))


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version, without what marks a build: "2.14.1+cu130" is (2, 14, 1)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()
