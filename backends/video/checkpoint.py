"""Files of video-text models in their authors' layout: weights, sizes, and a BERT vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from t2v_eval.errors import CheckpointError
from t2v_eval.local.checkpoint_files import read_json
from t2v_eval.local.weights import check_keys, fill, read_tensors, weight_files

from ..common.transformers_internals import empty_weights

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
PATTERNS = ("*.json", "*.txt", "*.model", "*.gz", *(f"*{suffix}" for suffix in SUFFIXES))
LORA_A, LORA_B = ".lora_A.default.weight", ".lora_B.default.weight"
Network = TypeVar("Network", bound=nn.Module)


def find_weights(location: Path, named: str | None = None) -> Path:
    """Return the one weight file of a checkpoint.

    Args:
        location: the file, or a folder with one.
        named: its name in the folder, where a config.json has it.

    Raises:
        CheckpointError: a folder has none or several.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "umt.pth").write_bytes(b"weights")
    ...     find_weights(Path(folder)).name
    'umt.pth'
    """
    if location.is_file():
        return weight_files(location)[0]
    if named is not None:
        return weight_files(_inside(location, named))[0]
    files = [f for f in sorted(location.iterdir()) if f.suffix in SUFFIXES and f.is_file()]
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise CheckpointError(
            f"{location}: expected one file of weights ({', '.join(SUFFIXES)}) and found {names}; "
            "pass the file itself as `checkpoint`"
        )
    return weight_files(files[0])[0]


def _inside(folder: Path, named: Any) -> Path:
    """Return a file that a config.json names by its path beside it."""
    if not isinstance(named, str) or Path(named).is_absolute() or ".." in Path(named).parts:
        raise CheckpointError(
            f"{folder / 'config.json'} names the file {named!r}, which is not beside it"
        )
    if not (folder / named).is_file():
        raise CheckpointError(f"{folder / 'config.json'} names {named}, which is not there")
    return folder / named


class Sizes:
    """Sizes of a network that its weights do not tell: of a config.json, or else of the card.

    Args:
        location: the checkpoint; a config.json in its folder, in the authors' layout, comes first.
        defaults: sizes by name, from the card.

    Raises:
        CheckpointError: the config.json is damaged.

    >>> sizes = Sizes(Path("umt.pth"), {"heads": 12})
    >>> sizes.number("heads", "model", "vision_encoder", "encoder_num_heads")
    12
    """

    def __init__(self, location: Path, defaults: Mapping[str, int]) -> None:
        self.folder = location if location.is_dir() else location.parent
        file = self.folder / "config.json"
        self.files = [file] if file.is_file() else []
        self.config = read_json(file) if self.files else {}
        self.defaults = defaults

    def value(self, *keys: str) -> Any:
        """Return a value of config.json by its keys from the outermost; None where it has none."""
        value: Any = self.config
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def number(self, name: str, *keys: str) -> int:
        """Return a size: that of config.json, or the card's.

        Args:
            name: its name among the card's.
            *keys: its keys in config.json.

        Raises:
            CheckpointError: neither has it, or it is no whole number of 1 or more.
        """
        value = self.value(*keys)
        return self._checked(value, self.folder / "config.json", name, ".".join(keys))

    def number_in(self, name: str, file: Any, *keys: str) -> int:
        """Return a size of another JSON file, which config.json names; or the card's.

        Args:
            name: its name among the card's.
            file: path of the JSON file beside config.json; None where config.json names none.
            *keys: its keys in that file.

        Raises:
            CheckpointError: as `number`, or the file is missing or damaged.
        """
        if file is None:
            return self._checked(None, self.folder, name, name)
        value: Any = self.read(file)
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return self._checked(value, self.folder / file, name, ".".join(keys))

    def read(self, file: Any) -> dict[str, Any]:
        """Read another JSON file, which config.json names by its path beside it.

        Raises:
            CheckpointError: it is missing, damaged or elsewhere.
        """
        path = _inside(self.folder, file)
        self.files = [*dict.fromkeys([*self.files, path])]
        return read_json(path)

    def _checked(self, value: Any, file: Path, name: str, key: str) -> int:
        value = self.defaults.get(name) if value is None else value
        if type(value) is not int or value < 1:
            raise CheckpointError(f"{file}: {key} is {value!r}; it is a whole number of 1 or more")
        return value


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read the weights of a file in float32.

    Raises:
        CheckpointError: the file is damaged, or holds no tensors.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "umt.pth")
    ...     torch.save({"model": {"itm_head.bias": torch.zeros(2, dtype=torch.float16)}}, file)
    ...     read_weights(file)
    {'itm_head.bias': tensor([0., 0.])}
    """
    tensors = read_tensors(file)
    if not tensors:
        raise CheckpointError(f"{file} holds no tensors")
    return {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}


def merge_lora(tensors: Mapping[str, Tensor], file: Path, alpha: float) -> dict[str, Tensor]:
    """Add low-rank updates to the weights that they belong to: W + (alpha / rank) B A.

    Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1. Names are
    those of peft, before or since 0.7, which writes `base_layer` into those of W.

    Args:
        tensors: weights, some with updates beside them.
        file: where they are from, for messages.
        alpha: scale of the updates; the rank is that of the weights.

    Returns:
        The weights without updates, by plain names.

    Raises:
        CheckpointError: an update lacks its other half or its weight, or is of another shape.

    >>> halves = {f"q.lora_{half}.default.weight": torch.ones(1, 1) for half in "AB"}
    >>> merge_lora({"q.weight": torch.zeros(1, 1), **halves}, Path("internvl.pth"), alpha=32)
    {'q.weight': tensor([[32.]])}
    """
    plain = {name.replace(".base_layer.", "."): value for name, value in tensors.items()}
    halves = {name for name in plain if name.endswith((LORA_A, LORA_B))}
    merged = {name: value for name, value in plain.items() if name not in halves}
    for stem in sorted({name.replace(LORA_A, "").replace(LORA_B, "") for name in halves}):
        needed = [f"{stem}.weight", stem + LORA_A, stem + LORA_B]
        check_keys(file, [name for name in needed if name not in plain])
        weight, down, up = (plain[name] for name in needed)
        try:
            update = (alpha / len(down)) * (up.float() @ down.float())
            merged[needed[0]] = (weight.float() + update).to(weight.dtype)  # rounded once
        except RuntimeError as error:
            raise CheckpointError(
                f"{file} does not fit this model: the LoRA update of {stem} is of another shape "
                f"than its weight: {error}"
            ) from error
    return merged


def shape_of(tensors: Mapping[str, Tensor], name: str, dims: int, file: Path) -> tuple[int, ...]:
    """Return the shape of a weight.

    Raises:
        CheckpointError: it is missing, or has another number of dimensions.

    >>> shape_of({"proj": torch.zeros(2, 3)}, "proj", 2, Path("umt.pth"))
    (2, 3)
    """
    if name not in tensors:
        raise CheckpointError(f"{file} does not fit this model: it lacks weights {name}")
    if tensors[name].ndim != dims:
        raise CheckpointError(
            f"{file} does not fit this model: {name} is of shape {tuple(tensors[name].shape)} "
            f"instead of {dims} dimensions"
        )
    return tuple(tensors[name].shape)


def count_layers(tensors: Mapping[str, Tensor], prefix: str, file: Path) -> int:
    """Return how many numbered layers there are behind a prefix.

    Raises:
        CheckpointError: there is none.

    >>> count_layers({"blocks.0.bias": torch.ones(1)}, "blocks.", Path("umt.pth"))
    1
    """
    rests = (name.removeprefix(prefix) for name in tensors if name.startswith(prefix))
    numbers = {rest.partition(".")[0] for rest in rests}
    if not numbers:
        raise CheckpointError(f"{file} does not fit this model: it lacks weights {prefix}0")
    return len(numbers)


def check_heads(width: int, heads: int, what: str, file: Path) -> None:
    """Check that a width can be split into heads.

    Raises:
        CheckpointError: it cannot.

    >>> check_heads(768, 12, "vision", Path("umt.pth"))
    """
    if width % heads:
        raise CheckpointError(
            f"{file}: a width of {width} cannot be split into the {heads} heads of the {what} "
            "encoder; put the config.json of these weights beside them"
        )


def build(
    make: Callable[..., Network],
    tensors: dict[str, Tensor],
    file: Path,
    dtype: torch.dtype,
    *args: Any,
) -> Network:
    """Build a network and fill it with weights, of which none may be missing or left over.

    Only weights get the precision: frequencies of rotary positions stay in float32.

    Args:
        make: its class, or a function that returns it.
        tensors: all its weights by name.
        file: where they are from, for messages.
        dtype: precision of the weights.
        *args: arguments of `make`.

    Raises:
        CheckpointError: weights are missing, unexpected or of another shape.

    >>> build(nn.Linear, {"weight": torch.ones(1, 2)}, Path("umt.pth"), torch.float32, 2, 1)
    Traceback (most recent call last):
    t2v_eval.errors.CheckpointError: umt.pth does not fit this model: it lacks weights bias
    """
    with empty_weights():
        network = make(*args)
    fill(network, {name: value.to(dtype) for name, value in tensors.items()}, file)
    return network
