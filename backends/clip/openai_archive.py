"""Read CLIP weights in OpenAI's layout, which LongCLIP and SPECS share, and infer the network.

The published files are TorchScript archives, whose code runs when PyTorch loads them. Here only
their tensors are read, and no code in them runs.
"""

from __future__ import annotations

import collections
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from t2v_eval.errors import CheckpointError
from t2v_eval.local.weights import check_keys

HEAD_WIDTH = 64  # channels of an attention head, in every tower of OpenAI's
# Numbers that lie among the weights.
SETTINGS = ("input_resolution", "context_length", "vocab_size")
DTYPES = {
    "Bool": torch.bool,
    "Int": torch.int32,
    "Long": torch.int64,
    "Half": torch.float16,
    "Float": torch.float32,
    "Double": torch.float64,
}
TEXT_KEYS = ("text_projection", "positional_embedding", "token_embedding.weight", "ln_final.weight")


class ArchivedModule:
    """Stand in for any module of an archive; hold its weights and submodules by name.

    >>> module = ArchivedModule()
    >>> module.__setstate__({"weight": torch.ones(2), "training": False})
    >>> module.tensors("visual.")
    {'visual.weight': tensor([1., 1.])}
    """

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.parts = dict(state)

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """Return the weights below this module, by dotted names that begin with `prefix`."""
        tensors: dict[str, Tensor] = {}
        for name, part in self.parts.items():
            if isinstance(part, ArchivedModule):
                tensors.update(part.tensors(f"{prefix}{name}."))
            elif isinstance(part, Tensor):
                tensors[prefix + name] = part
        return tensors


class ArchiveUnpickler(pickle.Unpickler):
    """Unpickle tensors and modules without importing the latter; refuse everything else.

    Args:
        archive: the opened TorchScript archive.
        root: the folder within the archive, with a slash at its end.

    Raises:
        pickle.UnpicklingError: on `load`, for a class that is neither.

    >>> import io
    >>> file = io.BytesIO()
    >>> with zipfile.ZipFile(file, "w") as archive:
    ...     archive.writestr("model/data.pkl", pickle.dumps(Path("weights.pt")))
    >>> ArchiveUnpickler(zipfile.ZipFile(file), "model/").load()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    _pickle.UnpicklingError: it holds pathlib...
    """

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(archive.open(f"{root}data.pkl"))
        self.archive, self.root = archive, root

    @override
    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return ArchivedModule
        if module == "torch" and name.endswith("Storage"):
            return DTYPES[name.removesuffix("Storage")]
        allowed = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        }
        if module == "torch.jit._pickle":  # lists of numbers, and values with their types
            return lambda value, *_: value
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it holds {module}.{name}")
        return allowed[module, name]

    @override
    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, count = pid
        if not count:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(
            bytearray(self.archive.read(f"{self.root}data/{key}")), dtype=dtype, count=count
        )


def _tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)


def is_archive(file: Path) -> bool:
    """Return whether a file is a TorchScript archive.

    >>> is_archive(Path(__file__))
    False
    """
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_archive(file: Path) -> dict[str, Tensor]:
    """Read the weights of a TorchScript archive without running its code.

    Returns:
        The weights by name, without the numbers in `SETTINGS`.

    Raises:
        CheckpointError: the file is damaged, or not the archive of a module.

    >>> read_archive(Path("weights.pt"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    t2v_eval.errors.CheckpointError: weights.pt is not a readable TorchScript archive: ...
    """
    try:
        with zipfile.ZipFile(file) as archive:
            root = next(n for n in archive.namelist() if n.endswith("/constants.pkl"))
            module = ArchiveUnpickler(archive, root.removesuffix("constants.pkl")).load()
            tensors: dict[str, Tensor] = module.tensors()
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        AttributeError,
        IndexError,
        KeyError,
        RuntimeError,
        TypeError,
        ValueError,
        EOFError,
        OSError,
    ) as error:
        raise CheckpointError(f"{file} is not a readable TorchScript archive: {error}") from error
    return {name: value for name, value in tensors.items() if name not in SETTINGS}


def infer_architecture(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Any]:
    """Infer the architecture from the shapes of the weights, in OpenCLIP's configuration format.

    As `build_model` of OpenAI's clip/model.py; `file` is named in messages.

    Raises:
        CheckpointError: the weights are not of a CLIP in OpenAI's layout.

    >>> shapes = {"visual.proj": (64, 32), "visual.conv1.weight": (64, 3, 8, 8),
    ...           "visual.positional_embedding": (5, 64), "text_projection": (64, 32),
    ...           "positional_embedding": (77, 64), "token_embedding.weight": (300, 64),
    ...           "ln_final.weight": (64,)}
    >>> tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    >>> infer_architecture(tensors, Path("weights.pt"))["vision_cfg"]
    {'width': 64, 'head_width': 64, 'layers': 0, 'patch_size': 8, 'image_size': 16}
    """
    is_vit = "visual.proj" in tensors
    first, positions = (
        ("visual.conv1.weight", "visual.positional_embedding")
        if is_vit
        else ("visual.layer1.0.conv1.weight", "visual.attnpool.positional_embedding")
    )
    check_keys(file, [name for name in (first, positions, *TEXT_KEYS) if name not in tensors])
    width, *_, patch = tensors[first].shape
    side = round((len(tensors[positions]) - 1) ** 0.5)

    def count(prefix: str) -> int:
        depth = prefix.count(".")
        return len({name.split(".")[depth] for name in tensors if name.startswith(prefix)})

    vision: dict[str, Any] = {"width": width, "head_width": HEAD_WIDTH}
    if is_vit:
        layers = count("visual.transformer.resblocks.")
        vision |= {"layers": layers, "patch_size": patch, "image_size": patch * side}
    else:
        vision["layers"] = [count(f"visual.layer{stage}.") for stage in (1, 2, 3, 4)]
        vision["image_size"] = 32 * side
    context, text_width = tensors["positional_embedding"].shape
    return {
        "embed_dim": tensors["text_projection"].shape[1],
        "quick_gelu": True,
        "vision_cfg": vision,
        "text_cfg": {
            "context_length": context,
            "vocab_size": len(tensors["token_embedding.weight"]),
            "width": text_width,
            "heads": text_width // HEAD_WIDTH,
            "layers": count("transformer.resblocks."),
        },
    }
