"""Locate weights (hub id, directory or file), read them safely, and fingerprint them."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from platformdirs import user_cache_path
from torch import Tensor, nn

from t2v_eval.errors import CheckpointError
from t2v_eval.local.checkpoint_files import check_content, check_descriptions, located, shards
from t2v_eval.local.dry_loading import Request, dry_reader
from t2v_eval.utils.arguments import check_path
from t2v_eval.utils.regular_file import identity

HUB_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
HTTPS = "https://"
WRAPPERS = ("state_dict", "model", "module")  # names under which a file has its tensors
_HUB_BLOB = re.compile(r"/(models|datasets)--[^/]+/blobs/([0-9a-f]{40}|[0-9a-f]{64})$")


def locate(
    checkpoint: str | os.PathLike[str],
    patterns: Sequence[str] = HUB_FILES,
    *,
    cache_dir: str | None = None,
    local_files_only: bool = False,
    revision: str | None = None,
    argument: str = "checkpoint",
) -> Path:
    """Return the directory or file of `checkpoint`; download it if necessary.

    Args:
        checkpoint: a directory, a file, a hub id such as ``openai/clip-vit-base-patch32``, or the
            https URL of a file.
        patterns: the files to download.
        cache_dir: as in `huggingface_hub.snapshot_download`.
        local_files_only: whether to use only cached files.
        revision: the commit, branch or tag of a repository.
        argument: the option that names the checkpoint, for messages.

    Raises:
        CheckpointError: the checkpoint is not on this machine and cannot be downloaded (the message
            says where to put the files), or one of its JSON files is damaged.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     locate(folder) == Path(folder)
    True
    """
    path = _path_of(argument, checkpoint)
    if not path.exists():
        path = _fetch(checkpoint, patterns, argument, cache_dir, local_files_only, revision)
    check_descriptions(path)
    return located(path)


def _path_of(argument: str, checkpoint: str | os.PathLike[str]) -> Path:
    """Return the path that a checkpoint may have on this machine; a URL has none."""
    is_url = isinstance(checkpoint, str) and checkpoint.startswith(HTTPS)
    return Path(checkpoint) if is_url else check_path(argument, checkpoint)


def _fetch(
    checkpoint: str | os.PathLike[str],
    patterns: Sequence[str],
    argument: str,
    cache_dir: str | None,
    local_files_only: bool,
    revision: str | None,
) -> Path:
    """Return a checkpoint from the hub's cache, or download it."""
    path, hub_id = _path_of(argument, checkpoint), os.fspath(checkpoint)
    is_url = hub_id.startswith(HTTPS)
    invalid = path.is_absolute() or hub_id.startswith(".") or hub_id.count("/") != 1
    if invalid and not is_url:
        raise CheckpointError(
            f"{argument} {hub_id!r}: no such file or directory, and not a hub id (ORG/NAME)"
        )
    if (reader := dry_reader()) is not None:
        return reader.fetch(Request(hub_id, tuple(patterns), revision))
    if is_url:
        return _download(hub_id, cache_dir, local_files_only or _offline(), argument)
    with hub_errors(hub_id, argument):
        return Path(
            snapshot_download(
                hub_id,
                allow_patterns=list(patterns),
                cache_dir=cache_dir,
                local_files_only=local_files_only or _offline(),
                revision=revision,
            )
        )


@contextmanager
def hub_errors(hub_id: str, argument: str = "checkpoint") -> Iterator[None]:
    """Convert exceptions of the Hugging Face hub's client to `CheckpointError`.

    Args:
        hub_id: the repository.
        argument: the option that names it, for messages.

    Raises:
        CheckpointError: the hub was not reached, or has no such repository.

    >>> with hub_errors("org/name"):
    ...     raise HFValidationError("no such repository")
    Traceback (most recent call last):
        ...
    t2v_eval.errors.CheckpointError: checkpoint 'org/name': no such directory here and no such \
repository on the hub.
    """
    remedy = (
        f"Download it where there is a network (`hf download {hub_id} --local-dir DIR`) "
        f"and pass `{argument}='DIR'`, or fill the Hugging Face cache ($HF_HOME or `cache_dir=`)"
    )
    try:
        yield
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise CheckpointError(
            f"the {argument} {hub_id!r} is not on this machine and the Hugging Face hub was not "
            f"reached. {remedy}."
        ) from error
    except GatedRepoError as error:
        raise CheckpointError(
            f"{hub_id!r} is gated: accept its licence at https://huggingface.co/{hub_id} and log "
            "in with `hf auth login`."
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise CheckpointError(
            f"{argument} {hub_id!r}: no such directory here and no such repository on the hub."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise CheckpointError(f"{hub_id!r} cannot be downloaded: {error}. {remedy}.") from error


def _download(url: str, cache_dir: str | None, local_files_only: bool, argument: str) -> Path:
    folder = (
        check_path("cache_dir", cache_dir) if cache_dir else user_cache_path("t2v-eval") / "weights"
    )
    # URLs that end in the same file name get different folders.
    file = (
        folder / hashlib.blake2b(url.encode(), digest_size=4).hexdigest() / url.rpartition("/")[2]
    )
    remedy = f"Download it where there is a network and pass `{argument}='FILE'`."
    if file.exists():
        return file
    if local_files_only:
        raise CheckpointError(f"the {argument} {url} is not on this machine. {remedy}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file))
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{url} cannot be downloaded: {error}. {remedy}") from error
    return file


def _offline() -> bool:
    # The hub's client reads this variable only when it is imported; here it may be set later.
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files of a checkpoint, safetensors before pickles, shards in order.

    Raises:
        CheckpointError: the directory has none, or they cannot be read.

    >>> weight_files(Path("nowhere"))
    Traceback (most recent call last):
        ...
    t2v_eval.errors.CheckpointError: nowhere holds no weights: expected model.safetensors or \
pytorch_model.bin (or their .index.json with shards)
    """
    if folder.is_file():
        check_content(folder)
        return [folder]
    for stem in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{stem}.index.json"
        files = shards(index) if index.exists() else [folder / stem]
        if files[0].exists():
            for file in files:
                check_content(file)
            return files
    raise CheckpointError(
        f"{folder} holds no weights: expected model.safetensors or pytorch_model.bin "
        "(or their .index.json with shards)"
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a weight file or checkpoint directory to the CPU.

    Pickles are read with ``weights_only=True``, since unpickling can run any code.

    Raises:
        CheckpointError: a file is damaged, or a pickle holds more than tensors.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"state_dict": {"proj": torch.ones(2)}}, Path(folder) / "pytorch_model.bin")
    ...     read_tensors(Path(folder))
    {'proj': tensor([1., 1.])}
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(path):
        tensors.update(_read_file(file))
    return tensors


def _read_file(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{file} is not a readable safetensors file: {error}") from error
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, AttributeError) as error:
        raise CheckpointError(
            f"{file} holds more than tensors and unpickling it could run any code, so it is "
            "refused. Convert it to safetensors on a machine where you trust it."
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise CheckpointError(f"{file} is not a readable checkpoint: {error}") from error
    while isinstance(loaded, dict) and (inner := _wrapped(loaded)) is not None:
        loaded = inner
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{file} holds {type(loaded).__name__}, not a dictionary of tensors")
    return {name: value for name, value in loaded.items() if isinstance(value, Tensor)}


def _wrapped(loaded: dict[str, object]) -> dict[str, object] | None:
    """Return the table of tensors that a training library saved among other things."""
    tables = (loaded.get(name) for name in WRAPPERS)
    return next((table for table in tables if isinstance(table, dict)), None)


def check_keys(path: Path, missing: Iterable[str], unexpected: Iterable[str] = ()) -> None:
    """Check that a checkpoint fits its model, since half-loaded weights score at random.

    Args:
        path: the checkpoint, for messages.
        missing: names of weights that the model has and the checkpoint lacks.
        unexpected: names of weights that only the checkpoint has.

    Raises:
        CheckpointError: weights are missing or unexpected; the message names the first few.

    >>> check_keys(Path("model.bin"), ["proj"])
    Traceback (most recent call last):
        ...
    t2v_eval.errors.CheckpointError: model.bin does not fit this model: it lacks weights proj
    """
    for what, keys in (("lacks", list(missing)), ("has the unexpected", list(unexpected))):
        if keys:
            names = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
            raise CheckpointError(f"{path} does not fit this model: it {what} weights {names}")


def fill(module: nn.Module, tensors: Mapping[str, Tensor], source: Path, prefix: str = "") -> None:
    """Assign `tensors` to a module built on the meta device, without a copy.

    Args:
        module: the module, which is put into evaluation mode without gradients.
        tensors: its weights by name.
        source: the checkpoint, for messages.
        prefix: prefix of the module's parameter names in `tensors`.

    Raises:
        CheckpointError: weights are missing, unexpected or of another shape.

    >>> with torch.device("meta"):
    ...     layer = nn.Linear(2, 1, bias=False)
    >>> fill(layer, {"proj.weight": torch.ones(1, 2)}, Path("model.bin"), prefix="proj.")
    >>> layer(torch.ones(1, 2))
    tensor([[2.]])
    """
    shapes = {prefix + name: value.shape for name, value in module.state_dict().items()}
    check_keys(
        source, [n for n in shapes if n not in tensors], [n for n in tensors if n not in shapes]
    )
    for name, value in tensors.items():
        if value.shape != shapes[name]:
            raise CheckpointError(
                f"{source} does not fit this model: {name} is of shape {tuple(value.shape)} "
                f"instead of {tuple(shapes[name])}"
            )
    module.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items()}, assign=True)
    module.eval().requires_grad_(False)


def fingerprint(paths: Iterable[Path]) -> str:
    """Hash the names and contents of files to 16 hex digits.

    Args:
        paths: files, or folders of files; hidden files and READMEs do not count.

    >>> fingerprint([])
    'e4a6a0577479b2b4'
    """
    digest = hashlib.blake2b(digest_size=8)
    for file in _files(paths):
        digest.update(file.name.encode() + _content_hash(file))
    return digest.hexdigest()


class Watched:
    """Files whose fingerprint is computed on first use, if they have not changed until then.

    Args:
        paths: files, or folders of files.

    >>> Watched([]).fingerprint() == fingerprint([])
    True
    """

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self.paths = list(paths)
        self._states = _file_states(self.paths)
        self._fingerprint = ""

    def fingerprint(self) -> str:
        """Return the fingerprint of the files; see `fingerprint`.

        Raises:
            CheckpointError: a file was written, added or removed since this object was made.
        """
        if not self._fingerprint:
            self._check()
            value = fingerprint(self.paths)
            self._check()  # a file may have been written while it was hashed
            self._fingerprint = value
        return self._fingerprint

    def _check(self) -> None:
        if changed := dict(_file_states(self.paths).items() ^ self._states.items()):
            raise CheckpointError(
                f"{', '.join(sorted(map(str, changed)))}: changed since the model was loaded, so "
                "its scores would be stored under the wrong id. Load it again."
            )


def _file_states(paths: Iterable[Path]) -> dict[Path, tuple[int, ...]]:
    """Return what changes in the metadata of each file when it is written or replaced."""
    return {file: identity(file.stat()) for file in _files(paths)}


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not file.name.startswith((".", "README")):
                yield file


def _content_hash(file: Path) -> bytes:
    # The hub's cache names blobs by the hash of their content, so gigabytes need not be read.
    resolved = file.resolve()
    if _HUB_BLOB.search(resolved.as_posix()):
        return resolved.name.encode()
    return _hash_file(resolved, identity(resolved.stat()))


@lru_cache(maxsize=1024)
def _hash_file(file: Path, state: tuple[int, ...]) -> bytes:
    with file.open("rb") as stream:
        digest = hashlib.blake2b(digest_size=16)
        while block := stream.read(2**22):
            digest.update(block)
    return digest.digest()
