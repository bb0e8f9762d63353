"""Checkpoints in the layouts of their authors.

Where transformers has the same network, a layout says what it calls the network, its tensors and
what prepares its pictures, and no code that lies beside the weights is run. Others come with code
of their own (`remote_code.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import AutoTokenizer

from t2v_eval.errors import CheckpointError
from t2v_eval.local.checkpoint_files import first_lines
from t2v_eval.local.weights import check_keys

from ...common.pretrained import untrusted_code_error

Flat: TypeAlias = dict[str, Any]
Fetch: TypeAlias = Callable[[str], Path]


class Layout(ABC):
    """A checkpoint of one layout.

    Args:
        folder: where it is.
        flat: its config.json.
        fetch: finds the folder of a part that is published elsewhere.
        trusted: whether Python code in the folder may be run.

    Raises:
        CheckpointError: it is of this layout, but of another network.
    """

    config: Any
    files: list[Path]  # that decide the numbers and lie elsewhere
    seeing: Path  # the folder that says how pictures are prepared

    def __init__(self, folder: Path, flat: Flat, fetch: Fetch, trusted: bool) -> None:
        self.folder, self.flat, self.trusted = folder, flat, trusted
        self.files, self.seeing = [], folder
        self.read(fetch)

    @classmethod
    @abstractmethod
    def fits(cls, flat: Flat) -> bool:
        """Whether a config.json is of this layout."""

    @abstractmethod
    def read(self, fetch: Fetch) -> None:
        """Set `config`, `files` and `seeing`."""

    @abstractmethod
    def build(self, device: torch.device, dtype: torch.dtype, attention: str) -> Any:
        """The network with its weights."""

    def words(self, text: Any) -> Any:
        """The tokenizer, beside a language model with the configuration `text`.

        Raises:
            CheckpointError: its code lies beside the weights and may not be run, or it has none.
        """
        try:
            auto: Any = AutoTokenizer  # which has no types
            return auto.from_pretrained(self.folder, config=text, trust_remote_code=self.trusted)
        except Exception as error:  # whatever transformers makes of other files
            if "trust_remote_code" in str(error):
                raise untrusted_code_error(self.folder) from error
            raise CheckpointError(
                f"{self.folder} has no tokenizer: {first_lines(error)}"
            ) from error


class Translated(Layout):
    """A layout of a network that transformers has too."""

    network: Any  # the class of transformers

    @abstractmethod
    def tensors(self, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        """All weights, named as those of `network`."""

    def processor(self) -> Any:
        """The processor of transformers that prepares what the authors' code prepares.

        Raises:
            CheckpointError: there is none; `LlavaPromptBuilder` prepares what it reads by itself.
        """
        raise CheckpointError(
            f"{self.folder} is in its authors' layout, which has no chat template; load it by a "
            "name of its family, such as 'llava-v1.5-7b', with checkpoint="
        )

    def build(self, device: torch.device, dtype: torch.dtype, attention: str) -> Any:
        """The network with its weights."""
        network, told = self.network.from_pretrained(
            None,
            config=self.config,
            state_dict=self.tensors(device, dtype),
            dtype=dtype,
            attn_implementation=attention,
            output_loading_info=True,
        )
        check_keys(self.folder, sorted(told["missing_keys"]), sorted(told["unexpected_keys"]))
        return network.to(device).eval().requires_grad_(False)


def numbers(tokenizer: Any, tokens: Sequence[str], folder: Path) -> list[int]:
    """The numbers of tokens that stand for pictures.

    Raises:
        CheckpointError: the tokenizer has not got one of them, so that it is of another model.
    """
    known = tokenizer.get_vocab()
    if lacking := [token for token in tokens if token not in known]:
        raise CheckpointError(
            f"the tokenizer of {folder} ({type(tokenizer).__name__}, {len(tokenizer)} tokens) is "
            f"not that of this model: it lacks {', '.join(lacking)}; put the tokenizer of this "
            "checkpoint there"
        )
    return [known[token] for token in tokens]


def fact(flat: Flat, name: str, folder: Path) -> Any:
    """A value that config.json must have."""
    try:
        return flat[name]
    except KeyError:
        raise CheckpointError(f"{folder}: its config.json lacks {name!r}") from None


def known(config: type, given: Flat) -> Flat:
    """What a class of configurations takes of `given`, which may hold much besides."""
    names = {*signature(config).parameters, "rope_theta", "rope_scaling"}
    return {name: given[name] for name in names - {"model_type"} if name in given}
