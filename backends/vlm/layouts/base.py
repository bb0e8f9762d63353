"""Checkpoints in the layouts of their authors.

Where transformers has the same network, a layout translates its configuration, its tensors and its
image processor, and no code that lies beside the weights is run. Others come with code of their own
(`remote_code.py`).
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
from typing_extensions import override

from t2v_eval.errors import CheckpointError
from t2v_eval.local.checkpoint_files import first_lines
from t2v_eval.local.weights import check_keys

from ...common.pretrained import untrusted_code_error

ConfigJson: TypeAlias = dict[str, Any]
Fetch: TypeAlias = Callable[[str], Path]


class Layout(ABC):
    """A checkpoint of one layout.

    Args:
        folder: the folder of the checkpoint.
        config_json: its config.json.
        fetch: returns the folder of a part that is published elsewhere.
        trusted: whether Python code in the folder may be run.

    Attributes:
        config: the configuration as transformers has it.
        files: files outside the folder that decide the numbers.
        processor_folder: the folder with the settings of the image processor.

    Raises:
        CheckpointError: it is of this layout, but of another network.

    >>> class ExampleLayout(Layout):
    ...     @classmethod
    ...     def matches(cls, config):
    ...         return config.get("architectures") == ["ExampleForCausalLM"]
    ...
    ...     def read(self, fetch):
    ...         self.config = require(self.config_json, "text_config", self.folder)
    ...
    ...     def build(self, device, dtype, attention):
    ...         return torch.nn.Linear(1, 1, device=device, dtype=dtype)
    >>> config_json = {"architectures": ["ExampleForCausalLM"], "text_config": {"vocab_size": 8}}
    >>> ExampleLayout.matches(config_json)
    True
    >>> ExampleLayout(Path("model"), config_json, Path, trusted=False).config
    {'vocab_size': 8}
    """

    config: Any
    files: list[Path]
    processor_folder: Path

    def __init__(self, folder: Path, config_json: ConfigJson, fetch: Fetch, trusted: bool) -> None:
        self.folder, self.config_json, self.trusted = folder, config_json, trusted
        self.files, self.processor_folder = [], folder
        self.read(fetch)

    @classmethod
    @abstractmethod
    def matches(cls, config: ConfigJson) -> bool:
        """Return whether a config.json is of this layout."""

    @abstractmethod
    def read(self, fetch: Fetch) -> None:
        """Set `config`, `files` and `processor_folder`."""

    @abstractmethod
    def build(self, device: torch.device, dtype: torch.dtype, attention: str) -> Any:
        """Return the network with its weights."""

    def load_tokenizer(self, text_config: Any) -> Any:
        """Return the tokenizer beside a language model with that configuration.

        Raises:
            CheckpointError: its code lies beside the weights and may not be run, or it has none.
        """
        try:
            auto: Any = AutoTokenizer  # which has no types
            return auto.from_pretrained(
                self.folder, config=text_config, trust_remote_code=self.trusted
            )
        except Exception as error:  # transformers raises many kinds for files of other models
            if "trust_remote_code" in str(error):
                raise untrusted_code_error(self.folder) from error
            raise CheckpointError(
                f"{self.folder} has no tokenizer: {first_lines(error)}"
            ) from error


class Translated(Layout):
    """A layout of a network that transformers has too; `network` is its class there.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> class ExampleLayout(Translated):
    ...     network = LlamaForCausalLM
    ...
    ...     @classmethod
    ...     def matches(cls, config):
    ...         return "n_embd" in config
    ...
    ...     def read(self, fetch):
    ...         width = self.config_json["n_embd"]
    ...         self.config = LlamaConfig(vocab_size=8, hidden_size=width, intermediate_size=8,
    ...             num_hidden_layers=2, num_attention_heads=2)
    ...
    ...     def tensors(self, device, dtype):
    ...         return LlamaForCausalLM(self.config).state_dict()  # here: from the checkpoint
    >>> layout = ExampleLayout(Path("model"), {"n_embd": 8}, Path, trusted=False)
    >>> network = layout.build(torch.device("cpu"), torch.float32, "sdpa")
    >>> type(network).__name__, network.training
    ('LlamaForCausalLM', False)
    """

    network: Any

    @abstractmethod
    def tensors(self, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        """Return all weights, by their names in `network`."""

    def processor(self) -> Any:
        """Return the processor of transformers that prepares the same as the authors' code.

        Raises:
            CheckpointError: the layout has none; `LlavaPromptBuilder` prepares its images itself.
        """
        raise CheckpointError(
            f"{self.folder} is in its authors' layout, which has no chat template; load it by a "
            "name of its family, such as 'llava-v1.5-7b', with `checkpoint=`"
        )

    @override
    def build(self, device: torch.device, dtype: torch.dtype, attention: str) -> Any:
        """Return the network with its weights.

        Raises:
            CheckpointError: weights are missing, or of another network.
        """
        network, info = self.network.from_pretrained(
            None,
            config=self.config,
            state_dict=self.tensors(device, dtype),
            dtype=dtype,
            attn_implementation=attention,
            output_loading_info=True,
        )
        check_keys(self.folder, sorted(info["missing_keys"]), sorted(info["unexpected_keys"]))
        return network.to(device).eval().requires_grad_(False)


def token_ids(tokenizer: Any, tokens: Sequence[str], folder: Path) -> list[int]:
    """Return the ids of tokens that stand for images.

    Raises:
        CheckpointError: the tokenizer lacks one of them, so that it is of another model.

    >>> from types import SimpleNamespace
    >>> tokenizer = SimpleNamespace(get_vocab=lambda: {"<image>": 5, "<video>": 6})
    >>> token_ids(tokenizer, ["<video>", "<image>"], Path("model"))
    [6, 5]
    """
    vocabulary = tokenizer.get_vocab()
    if lacking := [token for token in tokens if token not in vocabulary]:
        raise CheckpointError(
            f"the tokenizer of {folder} ({type(tokenizer).__name__}, {len(tokenizer)} tokens) is "
            f"not that of this model: it lacks {', '.join(lacking)}; put the tokenizer of this "
            "checkpoint there"
        )
    return [vocabulary[token] for token in tokens]


def require(config: ConfigJson, name: str, folder: Path) -> Any:
    """Return a value that config.json must have.

    Raises:
        CheckpointError: config.json lacks it.

    >>> require({"vocab_size": 8}, "vocab_size", Path("model"))
    8
    """
    try:
        return config[name]
    except KeyError:
        raise CheckpointError(f"{folder}: its config.json lacks {name!r}") from None


def config_arguments(config_class: type, values: ConfigJson) -> ConfigJson:
    """Return those of `values` that a class of configurations takes.

    >>> from transformers import LlamaConfig
    >>> config_arguments(LlamaConfig, {"hidden_size": 8, "mm_vision_tower": "openai/clip"})
    {'hidden_size': 8}
    """
    names = {*signature(config_class).parameters, "rope_theta", "rope_scaling"}
    return {name: values[name] for name in names - {"model_type"} if name in values}
