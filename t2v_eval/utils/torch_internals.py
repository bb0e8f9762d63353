"""All uses of undocumented PyTorch behaviour in the core.

`tests/unit/utils/test_torch_internals.py` tests each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

AUTOCAST = ("cpu", "cuda", "mps", "xpu")
OUT_OF_MEMORY_MESSAGES = ("out of memory", "can't allocate memory")
"""Parts of RuntimeError messages for which PyTorch has no error class."""


def computes_bfloat16(device: torch.device) -> bool:
    """Return whether a device has bfloat16 instructions; without, it converts back and forth."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return True
    has_avx512_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and has_avx512_bf16 is not None and bool(has_avx512_bf16())


def out_of_memory(error: BaseException) -> bool:
    """Return whether `error` means that memory ran out, on any device.

    >>> out_of_memory(RuntimeError("CUDA out of memory")), out_of_memory(RuntimeError("shapes"))
    (True, False)
    """
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError)
        and any(message in str(error).lower() for message in OUT_OF_MEMORY_MESSAGES)
    )


@contextmanager
def inference() -> Iterator[None]:
    """Compute without gradients, in the precision that a scorer's id names.

    A caller's `torch.autocast` would make other numbers of the same model, to be stored as its own.

    >>> with inference():
    ...     (2 * torch.ones(2, requires_grad=True)).requires_grad
    False
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        for kind in AUTOCAST:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield
