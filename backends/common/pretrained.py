"""Load a network of transformers: its configuration, and its weights onto their devices."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, BitsAndBytesConfig

from t2v_eval.errors import CheckpointError, InputError, MissingPackageError
from t2v_eval.local.checkpoint_files import first_lines
from t2v_eval.local.weights import check_keys, locate

HUB_OPTIONS = ("cache_dir", "local_files_only", "revision")
# The files of a processor, without weights.
PROCESSOR_PATTERNS = ("*.json", "*.jinja", "*.txt", "*.model")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the weights lie and how they are quantised, by the names of transformers.

    Args:
        attn_implementation: the attention implementation: "sdpa", "eager", ...; "" leaves the
            choice to transformers, which may differ between the parts of a network.
        device_map: "auto", or a device for each module; None puts all on the scorer's device.
        load_in_8bit: quantise the weights to 8 bits with bitsandbytes.
        load_in_4bit: quantise the weights to 4 bits with bitsandbytes.

    Raises:
        InputError: both load_in_8bit and load_in_4bit are set.
        MissingPackageError: one of them is set and bitsandbytes is not installed.

    >>> Placement(device_map="auto").facts, Placement().plain
    ({'attention': 'sdpa'}, True)
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
        """The bits of a quantised weight; None where weights are not quantised."""
        return 8 if self.load_in_8bit else 4 if self.load_in_4bit else None

    @property
    def plain(self) -> bool:
        """Whether all weights are on one device and not quantised."""
        return self.device_map is None and self.bits is None

    @property
    def facts(self) -> dict[str, str]:
        """The settings that change scores, for the scorer's identity."""
        attention = self.attn_implementation
        return ({"attention": attention} if attention else {}) | (
            {"bits": str(self.bits)} if self.bits else {}
        )

    def options(
        self, device: torch.device, dtype: torch.dtype, skip: Sequence[str]
    ) -> dict[str, Any]:
        """Build the arguments of `from_pretrained`.

        Args:
            device: the scorer's device.
            dtype: dtype of the weights; with quantised weights, that of the computation.
            skip: names of modules that are not quantised.

        >>> Placement().options(torch.device("cpu"), torch.float32, [])
        {'dtype': torch.float32, 'attn_implementation': 'sdpa'}
        """
        options: dict[str, Any] = {"dtype": dtype}
        if self.attn_implementation:
            options["attn_implementation"] = self.attn_implementation
        if self.bits:
            quantization_config: Any = BitsAndBytesConfig  # which has no types
            options["quantization_config"] = quantization_config(
                **{f"load_in_{self.bits}bit": True},
                bnb_4bit_compute_dtype=dtype,
                llm_int8_skip_modules=list(skip),
            )
        if not self.plain:
            options["device_map"] = self.device_map or {"": device}
        return options


def is_transformers_checkpoint(
    checkpoint: str | os.PathLike[str], options: Mapping[str, Any]
) -> bool:
    """Return whether a folder or hub repository is in the layout of transformers (config.json).

    Args:
        checkpoint: a folder or hub id.
        options: the options of the scorer; those of the hub's cache are used.

    Raises:
        CheckpointError: the folder or repository does not exist.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "config.json").write_text("{}")
    ...     is_transformers_checkpoint(folder, {})
    True
    """
    hub = {key: options[key] for key in HUB_OPTIONS if key in options}
    return (locate(checkpoint, ("config.json",), **hub) / "config.json").exists()


def load_pretrained(auto_class: Any, folder: Path, model: str) -> Any:
    """Load a configuration, tokenizer or model of transformers from a local folder.

    Args:
        auto_class: the class, such as `AutoConfig` or `Blip2Config`.
        folder: holds its files.
        model: name of the expected model, for the message.

    Raises:
        CheckpointError: it cannot be loaded.

    >>> import t2v_eval
    >>> folder = t2v_eval.load("tiny-clip", device="cpu").files[0].parent
    >>> load_pretrained(AutoConfig, folder, "CLIP").model_type
    'clip'
    """
    try:
        return auto_class.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # any error of transformers given files of another kind
        raise CheckpointError(
            f"{folder} is no {model} of transformers: {first_lines(error)}"
        ) from error


def read_config(folder: Path, trusted: bool) -> Any:
    """Read config.json.

    Args:
        folder: holds it.
        trusted: whether Python code in the folder may run.

    Raises:
        CheckpointError: it is missing, describes no model, or needs code that is not trusted.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "config.json").write_text('{"model_type": "clip"}')
    ...     type(read_config(Path(folder), trusted=False)).__name__
    'CLIPConfig'
    """
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=trusted)
    except Exception as error:  # transformers raises many kinds for other files
        if "trust_remote_code" in str(error):
            raise untrusted_code_error(folder) from error
        raise CheckpointError(
            f"{folder}: its config.json describes no model: {first_lines(error)}"
        ) from error


def build_network(
    model_class: Any,
    folder: Path,
    placement: Placement,
    device: torch.device,
    dtype: torch.dtype,
    skip: Sequence[str] = ("lm_head",),
    **options: Any,
) -> Any:
    """Build the network `model_class` with its weights, on the device or as `placement` says.

    Args:
        model_class: a model or auto class of transformers.
        folder: holds configuration and weights.
        placement: where weights lie, and whether they are quantised.
        device: the scorer's device.
        dtype: dtype of the weights.
        skip: names of modules that are not quantised.
        **options: passed to `from_pretrained`.

    Returns:
        The network, in evaluation mode and without gradients to its weights.

    Raises:
        CheckpointError: it cannot be loaded, or weights are missing.

    >>> from tempfile import TemporaryDirectory
    >>> from transformers import T5Config, T5EncoderModel
    >>> config = T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    >>> cpu = torch.device("cpu")
    >>> with TemporaryDirectory() as folder:
    ...     T5EncoderModel(config).save_pretrained(folder)
    ...     network = build_network(T5EncoderModel, Path(folder), Placement(), cpu, torch.float32)
    >>> network.training, network.shared.weight.requires_grad
    (False, False)
    """
    try:
        loaded: Any = model_class.from_pretrained(
            folder, output_loading_info=True, **placement.options(device, dtype, skip), **options
        )
    except Exception as error:  # transformers raises many kinds for other files
        raise CheckpointError(f"{folder} cannot be loaded: {first_lines(error, 1000)}") from error
    network, loading_info = loaded
    check_keys(folder, sorted(loading_info["missing_keys"]))
    if placement.plain:
        network.to(device)
    return network.eval().requires_grad_(False)


def untrusted_code_error(folder: Path) -> CheckpointError:
    """Return the error of a checkpoint whose own code may not run without `trust_remote_code`.

    >>> str(untrusted_code_error(Path("/models/own")))[:61]
    '/models/own is a model whose code lies beside its weights and'
    """
    return CheckpointError(
        f"{folder} is a model whose code lies beside its weights and would run here. "
        "Read that code, and pass `trust_remote_code=True` if you trust it."
    )
