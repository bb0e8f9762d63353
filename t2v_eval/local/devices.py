"""Devices, precisions and free memory."""

from __future__ import annotations

import os

import torch

from t2v_eval.errors import InputError


def pick_device(device: str | torch.device | None) -> torch.device:
    """Return the requested device, or by default CUDA, then MPS, then the CPU.

    Args:
        device: such as "cuda:0"; None for the default.

    Raises:
        InputError: no such device on this machine.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen, dtype=torch.float32)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).splitlines()[0].partition(". ")[0]
        why = "no such kind of device" if why.startswith("Expected one of") else why
        raise InputError(
            f"`device={str(device)!r}` is not available here ({why}): use 'cpu', or leave it out "
            "to take the best one available"
        ) from None
    return chosen


def pick_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """Return the dtype of a name or dtype; None stays None.

    >>> pick_dtype("bfloat16"), pick_dtype(None)
    (torch.bfloat16, None)

    Raises:
        InputError: not a floating-point dtype.
    """
    named = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype is None or (isinstance(named, torch.dtype) and named.is_floating_point):
        return named
    raise InputError(f"`dtype={str(dtype)!r}` is unknown: use 'float32', 'bfloat16' or 'float16'")


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a device in bytes; 1 GiB if it is unknown.

    >>> free_bytes(torch.device("cpu")) > 0
    True
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows and macOS have no such value
        return 2**30
