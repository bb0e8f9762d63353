"""Loading a network of transformers: its description, and its weights where they shall be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, BitsAndBytesConfig

from t2v_eval.errors import CheckpointError, InputError, MissingPackageError
from t2v_eval.local.checkpoint_files import first_lines
from t2v_eval.local.weights import check_keys


@dataclass(frozen=True, slots=True)
class Placement:
    """Where weights are and how they are used, by the names of transformers.

    Raises:
        InputError: 8 and 4 bits at once.
        MissingPackageError: either, without bitsandbytes.
    """

    attn_implementation: str = "sdpa"
    device_map: str | Mapping[str, Any] | None = None
    load_in_8bit: bool = False
    load_in_4bit: bool = False

    def __post_init__(self) -> None:
        if self.load_in_8bit and self.load_in_4bit:
            raise InputError("load_in_8bit and load_in_4bit: pass one of them")
        if self.bits and find_spec("bitsandbytes") is None:
            raise MissingPackageError(
                f"load_in_{self.bits}bit needs the package 'bitsandbytes': pip install bitsandbytes"
            )

    @property
    def bits(self) -> int | None:
        return 8 if self.load_in_8bit else 4 if self.load_in_4bit else None

    @property
    def plain(self) -> bool:
        """Whether all weights are on one device as they are."""
        return self.device_map is None and self.bits is None

    @property
    def facts(self) -> dict[str, str]:
        """What of it decides the numbers."""
        return {"attention": self.attn_implementation} | (
            {"bits": str(self.bits)} if self.bits else {}
        )

    def options(
        self, device: torch.device, dtype: torch.dtype, skip: Sequence[str]
    ) -> dict[str, Any]:
        """What `from_pretrained` takes; modules in `skip` are not quantised."""
        made: dict[str, Any] = {"attn_implementation": self.attn_implementation, "dtype": dtype}
        if self.bits:
            quantised: Any = BitsAndBytesConfig  # which has no types
            made["quantization_config"] = quantised(
                **{f"load_in_{self.bits}bit": True},
                bnb_4bit_compute_dtype=dtype,
                llm_int8_skip_modules=list(skip),
            )
        if not self.plain:
            made["device_map"] = self.device_map or {"": device}
        return made


def read_config(folder: Path, trusted: bool) -> Any:
    """What config.json says.

    Raises:
        CheckpointError: there is none, or it needs code that is not trusted.
    """
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=trusted)
    except Exception as error:  # whatever transformers makes of what a file says
        if "trust_remote_code" in str(error):
            raise untrusted(folder) from error
        raise CheckpointError(
            f"{folder}: its config.json describes no model: {first_lines(error)}"
        ) from error


def build_network(
    kind: Any,
    folder: Path,
    placement: Placement,
    device: torch.device,
    dtype: torch.dtype,
    skip: Sequence[str] = ("lm_head",),
    **options: Any,
) -> Any:
    """The network of a class with its weights, on the device or where its placement says.

    Raises:
        CheckpointError: it cannot be loaded, or weights are missing.
    """
    try:
        loaded: Any = kind.from_pretrained(
            folder, output_loading_info=True, **placement.options(device, dtype, skip), **options
        )
    except Exception as error:  # whatever transformers makes of files that do not fit
        raise CheckpointError(f"{folder} cannot be loaded: {first_lines(error, 1000)}") from error
    network, found = loaded
    check_keys(folder, sorted(found["missing_keys"]))
    if placement.plain:
        network.to(device)
    return network.eval().requires_grad_(False)


def untrusted(folder: Path) -> CheckpointError:
    """What is said of code that nobody has said may be run."""
    return CheckpointError(
        f"{folder} is a model whose code lies beside its weights and would run here. "
        "Read that code, and pass trust_remote_code=True if you trust it (on the command line, "
        "--option trust_remote_code=true)."
    )
