"""Download, verify and unpack the files of benchmarks.

A card names the source: `hub`, a data set of the Hugging Face hub, or `url`, a folder on the web;
`files`, the files that are needed, archives among them; and `sha256`, the digests of files whose
content is known. Files that are gated or moved are not fetched; the card's `page` and `obtain` say
how to get them by hand.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
import tempfile
import unicodedata
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from t2v_eval.cards import BenchmarkCard
from t2v_eval.errors import BenchmarkDataError, OutputError
from t2v_eval.utils.files import check_folder, replacing

MAX_EXPANSION = 20
"""Unpacked size / archive size; images are compressed already, so more is not an image archive."""
_MIN_LIMIT = 1 << 26  # bytes that any archive may expand to
_TIMEOUT = 60.0  # seconds


def default_root(name: str) -> Path:
    """Return the default folder of a benchmark's files.

    >>> default_root("mine").parts[-2:]
    ('data', 'mine')
    """
    from platformdirs import user_cache_path

    return user_cache_path("t2v-eval") / "data" / name


def fetch(card: BenchmarkCard, root: str | Path) -> list[Path]:
    """Download the card's files into `root`, and unpack archives beside themselves.

    A file with the known digest is not downloaded again, and downloads from the hub continue where
    an earlier one stopped.

    Args:
        card: the card of the benchmark.
        root: the folder to download to; it is created if it does not exist.

    Returns:
        The paths of the files.

    Raises:
        BenchmarkDataError: the card names no source, or a file cannot be downloaded or is not the
            published one; the message has the page and what to do there.
        OutputError: nothing can be written to `root`.

    >>> card = BenchmarkCard("mine", "Mine", "mine", obtain="ask me", page="my.org")
    >>> fetch(card, "data")
    Traceback (most recent call last):
    ...
    t2v_eval.errors.BenchmarkDataError: mine cannot be fetched: by hand, ask me (my.org), into data
    """
    if not (card.hub or card.url):
        raise BenchmarkDataError(f"{card.name} cannot be fetched: {_by_hand(card, root)}")
    folder = check_folder(root)
    download = _from_hub if card.hub else _from_web
    paths = []
    for name in card.files:
        path = folder / name
        if not (path.is_file() and card.sha256.get(name) == sha256(path)):
            path = download(card, name, folder)
            try:
                _verify(path, card.sha256.get(name, ""))
            except BenchmarkDataError as error:
                path.unlink()  # otherwise the next run would use the wrong file
                raise BenchmarkDataError(f"{error}; {_by_hand(card, folder)}") from None
        paths.append(path)
        if path.suffix == ".zip":
            unpack(path, path.parent)
    return paths


def check_known(card: BenchmarkCard, root: str | Path) -> list[str]:
    """Verify the files in `root` whose digest the card knows; return their names.

    Raises:
        BenchmarkDataError: a file has another content.

    >>> check_known(BenchmarkCard("mine", "Mine", "mine"), "data")
    []
    """
    verified = []
    for name, digest in card.sha256.items():
        for path in (Path(root) / name, Path(root) / Path(name).name):
            if path.is_file():
                _verify(path, digest)
                verified.append(name)
                break
    return verified


def sha256(path: Path) -> str:
    """Return the SHA-256 digest of a file, in hexadecimal.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.txt"
    ...     _ = path.write_bytes(b"abc")
    ...     sha256(path)[:16]
    'ba7816bf8f01cfea'
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpack a zip file below `folder`; existing files of the right size stay.

    All or nothing is unpacked. No path may lead out of `folder` or go through a link, members must
    be regular files with distinct names, the content may be at most `MAX_EXPANSION` times the
    archive, and everything is extracted to a temporary folder before any file is moved into place.

    Returns:
        The paths of the members.

    Raises:
        BenchmarkDataError: the archive is not a zip file, is incomplete, or is not safe.
        OutputError: a file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     archive = Path(folder) / "a.zip"
    ...     with zipfile.ZipFile(archive, "w") as content:
    ...         content.writestr("images/a.txt", "abc")
    ...     [path.name for path in unpack(archive, Path(folder) / "unpacked")]
    ['a.txt']
    """
    with (
        _archive_errors(archive, folder),
        zipfile.ZipFile(archive) as content,
        tempfile.TemporaryDirectory(prefix=".unpacking-", dir=check_folder(folder)) as scratch,
    ):
        members = [member for member in content.infolist() if not member.is_dir()]
        _check_members(archive, members)
        targets = [folder / _member_path(member) for member in members]
        for target in targets:
            _check_no_links(archive, folder, target)
        extracted = [
            (_extract(content, member, Path(scratch) / str(n)), target)
            for n, (member, target) in enumerate(zip(members, targets, strict=True))
            if not (target.is_file() and target.stat().st_size == member.file_size)
        ]
        for file, target in extracted:
            target.parent.mkdir(parents=True, exist_ok=True)
            _check_no_links(
                archive, folder, target
            )  # a link may have appeared since the first check
            file.replace(target)
    return targets


@contextmanager
def _archive_errors(archive: Path, folder: Path) -> Iterator[None]:
    """Convert what reading an archive or writing its files raises to errors of this library."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BenchmarkDataError(
            f"{archive} is not a zip file, or an incomplete one: {error}"
        ) from error
    except (RuntimeError, NotImplementedError) as error:  # password or compression method
        raise BenchmarkDataError(f"{archive} cannot be unpacked: {error}") from error
    except OSError as error:
        if isinstance(error, (BenchmarkDataError, OutputError)):
            raise
        raise OutputError(f"{archive} cannot be unpacked to {folder}: {error}") from error


def _check_members(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    """Raise BenchmarkDataError unless all members are safe to unpack."""
    for member in members:
        name, path = member.filename, _member_path(member)
        if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise BenchmarkDataError(f"{archive} holds {name!r}, whose path leads out of it")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            what = "a link" if stat.S_ISLNK(kind) else "not a regular file"
            raise BenchmarkDataError(f"{archive} holds {name!r}, which is {what}")
    _check_distinct(archive, members)
    size = archive.stat().st_size
    packed = sum(member.compress_size for member in members)
    unpacked = sum(member.file_size for member in members)
    # A zip bomb may use one stretch of data for many members, which then claim more than its size.
    if packed > size or unpacked > max(_MIN_LIMIT, MAX_EXPANSION * size):
        raise BenchmarkDataError(
            f"{archive} has {size} bytes and would grow to {unpacked}, more than images do: it is "
            "not unpacked"
        )


def _check_distinct(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    """Refuse members that would be one file on a case-insensitive file system."""
    names: dict[str, str] = {}
    for member in members:
        key = unicodedata.normalize("NFC", str(_member_path(member))).casefold()
        if key in names:
            raise BenchmarkDataError(
                f"{archive} holds {names[key]!r} and {member.filename!r}, which may be one file"
            )
        names[key] = member.filename
    for key, name in names.items():
        for parent in PurePosixPath(key).parents:
            if str(parent) in names:
                raise BenchmarkDataError(
                    f"{archive} holds {names[str(parent)]!r} as a file and {name!r} below it"
                )


def _check_no_links(archive: Path, folder: Path, target: Path) -> None:
    """Refuse to write through a link inside `folder`; the folder itself may be a link."""
    for parent in target.parents:
        if parent == folder:
            return
        if parent.is_symlink():
            raise BenchmarkDataError(
                f"{archive} would be unpacked through {parent}, which is a link to "
                f"{parent.readlink()}: move the link away, or unpack the archive by hand"
            )


def _member_path(member: zipfile.ZipInfo) -> PurePosixPath:
    return PurePosixPath(member.filename.replace("\\", "/"))


def _extract(content: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Path:
    with content.open(member) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
    return path


def _verify(path: Path, digest: str) -> None:
    if digest and (actual := sha256(path)) != digest:
        raise BenchmarkDataError(
            f"{path} is not the published file: its SHA-256 is {actual}, not {digest}"
        )


def _by_hand(card: BenchmarkCard, folder: str | Path) -> str:
    return f"by hand, {card.obtain} ({card.page}), into {folder}"


def _from_hub(card: BenchmarkCard, name: str, folder: Path) -> Path:
    from huggingface_hub import constants, errors, hf_hub_download

    try:
        return Path(hf_hub_download(card.hub, name, repo_type="dataset", local_dir=folder))
    except errors.GatedRepoError:
        why = "is gated: accept its conditions on its page, run `hf auth login`, and try again"
    except errors.RepositoryNotFoundError:
        why = "is no longer on the Hugging Face hub, or is private (then run `hf auth login`)"
    except errors.EntryNotFoundError as error:
        unreachable = isinstance(error, errors.LocalEntryNotFoundError)
        offline = " while HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""
        why = f"cannot be reached{offline}" if unreachable else f"no longer has {name}"
    except Exception as error:  # the client's transport raises its own classes
        why = f"failed to send it: {str(error).strip().partition(chr(10))[0]}"
    raise BenchmarkDataError(
        f"{name} cannot be fetched: the data set {card.hub} {why}; {_by_hand(card, folder)}"
    )


def _from_web(card: BenchmarkCard, name: str, folder: Path) -> Path:
    url = f"{card.url.rstrip('/')}/{name}"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            urllib.request.urlopen(url, timeout=_TIMEOUT) as response,
            replacing(path, "wb") as file,
        ):
            shutil.copyfileobj(response, file)
            if response.length:  # announced by the server but not sent
                raise HTTPException(f"{response.length} bytes are missing")
    except (OSError, HTTPException) as error:
        if isinstance(error, OutputError):
            raise
        raise BenchmarkDataError(
            f"{url} cannot be fetched: {error}; {_by_hand(card, folder)}"
        ) from error
    return path
