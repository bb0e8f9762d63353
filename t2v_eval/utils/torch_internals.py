"""All that the core asks of PyTorch beyond its documented interface.

`tests/unit/utils/test_torch_internals.py` has a test for each thing that is relied on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

AUTOCAST = ("cpu", "cuda", "mps", "xpu")
TOLD = ("out of memory", "can't allocate memory")  # of memory, where no class of errors tells it


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16; without, it converts back and forth."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return True
    tells = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and tells is not None and bool(tells())


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on any device."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(told in str(error).lower() for told in TOLD)
    )


@contextmanager
def inference() -> Iterator[None]:
    """Compute without gradients, in the precision that a scorer's id names.

    A caller's `torch.autocast` would make other numbers of the same model, to be stored as its own.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        for kind in AUTOCAST:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield
