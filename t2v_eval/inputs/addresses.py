"""Files of object stores and other file systems, by addresses that fsspec reads: s3://, gs:// ...

They are read with the user's credentials. So an image at an address, which may stand in a table of
anyone's, is read only where the user allows it (``allow_urls="any"``). A table or a folder is read
where the user names it. http and https are for `inputs.urls`.
"""

from __future__ import annotations

import re
import shutil
import uuid
from pathlib import Path
from typing import Any

from t2v_eval.errors import (
    InputError,
    MediaError,
    MissingPackageError,
    OutputError,
    T2VError,
    TableError,
)
from t2v_eval.inputs.urls import MAX_BYTES, MAX_SECONDS, AllowUrls, Deadline, within
from t2v_eval.utils.arguments import check_path
from t2v_eval.utils.printable import redact_userinfo

MAX_TABLE_BYTES = 2**30
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # C:\ is a drive
_GLOB = set("*?[")


def is_address(text: str) -> bool:
    """Return whether a text is an address with a scheme, a URL among them, and no path.

    >>> [is_address(text) for text in ("s3://bucket/a.png", "https://a.org/b.png", "C:/a.png")]
    [True, True, False]
    """
    return _ADDRESS.match(text) is not None


def read_address(address: str, name: str, allow: AllowUrls) -> bytes:
    """Return the content of an image at an address that is no http(s) URL.

    Args:
        address: such as ``s3://bucket/a.png``.
        name: its name in messages.
        allow: only "any" allows it.

    Raises:
        MissingPackageError: the package for its scheme is not installed.
        MediaError: it is not allowed, cannot be read in 30 seconds, or has more than 50 MiB.

    >>> try:
    ...     read_address("s3://bucket/a.png", "images[0]", False)
    ... except MediaError as error:
    ...     print(str(error)[:43])
    images[0]: is on a file system that is read
    """
    if allow != "any":
        raise MediaError(
            f"{name}: is on a file system that is read with your credentials: where you trust "
            "every address, pass `allow_urls='any'`"
        )

    try:
        content: bytes = within(lambda: _content(address, MAX_BYTES), Deadline(MAX_SECONDS))
    except TimeoutError:
        raise MediaError(f"{name}: not read within {MAX_SECONDS:g} s; copy it here") from None
    except T2VError:
        raise
    except Exception as error:  # each file system raises its own
        raise MediaError(f"{name}: cannot be read: {_words(error)}") from error
    if len(content) > MAX_BYTES:
        raise MediaError(f"{name}: larger than {MAX_BYTES >> 20} MiB; copy it here")
    return content


def path_or_address(argument: str, value: Any) -> Path | str:
    """Return the path that an argument holds, or the address as it is.

    Args:
        argument: its name in messages.
        value: a path, or an address as a text.

    Raises:
        InputError: as `check_path`.

    >>> path_or_address("file", "s3://bucket/a.csv"), path_or_address("file", "a.csv").name
    ('s3://bucket/a.csv', 'a.csv')
    """
    if isinstance(value, str) and is_address(value):
        return value
    return check_path(argument, value)


def folder_of(file: Path | str) -> Path | str:
    """Return the folder of a path, or of an address.

    >>> folder_of("s3://bucket/tables/a.csv"), folder_of(Path("tables/a.csv")).name
    ('s3://bucket/tables', 'tables')
    """
    return file.parent if isinstance(file, Path) else file.rpartition("/")[0]


def within_folder(folder: Path | str, name: str) -> str:
    """Return the path or address of a file that is named relative to a folder.

    Args:
        folder: a path or an address.
        name: a relative path in it; an address or an absolute path is itself.

    >>> within_folder("s3://bucket/tables", "a.png"), within_folder("s3://bucket", "gs://b/a.png")
    ('s3://bucket/tables/a.png', 'gs://b/a.png')
    """
    if is_address(name):
        return name
    if isinstance(folder, Path):
        return str(folder / name)
    return name if Path(name).is_absolute() else f"{folder}/{name}"


class TableAddress(str):
    """The address of a table that is read once, for the first reader, and kept for others.

    >>> import fsspec
    >>> files = fsspec.filesystem("memory")
    >>> files.pipe("/bucket/once.csv", b"image,rating")
    >>> address = TableAddress("memory://bucket/once.csv")
    >>> first = read_table_bytes(address)
    >>> files.rm("/bucket/once.csv")
    >>> read_table_bytes(address) == first
    True
    """

    content: bytes | None = None


def read_table_bytes(address: str) -> bytes:
    """Return the content of a table at an address that the user names.

    Args:
        address: such as ``s3://bucket/rated.csv``.

    Raises:
        MissingPackageError: the package for its scheme is not installed.
        TableError: it is an http(s) URL, cannot be read, or has more than 1 GiB.

    >>> import fsspec
    >>> _ = fsspec.filesystem("memory").pipe("/bucket/rated.csv", b"image,rating")
    >>> read_table_bytes("memory://bucket/rated.csv")
    b'image,rating'
    """
    if isinstance(address, TableAddress) and address.content is not None:
        return address.content
    redacted = redact_userinfo(address)
    if _is_url(address):
        raise TableError(f"{redacted}: a table is not downloaded from a URL: save it as a file")
    try:
        content = _content(address, MAX_TABLE_BYTES)
    except T2VError:
        raise
    except Exception as error:
        raise TableError(f"{redacted}: cannot be read: {_words(error)}") from error
    if len(content) > MAX_TABLE_BYTES:
        raise TableError(f"{redacted}: larger than {MAX_TABLE_BYTES >> 20} MiB; copy it here")
    if isinstance(address, TableAddress):
        address.content = content
    return content


def files_at(address: str, endings: tuple[str, ...] = ()) -> list[str]:
    """Return the addresses that a glob or a folder stands for, sorted; others are themselves.

    Args:
        address: such as ``s3://bucket/shard-*.sqlite``, or a folder.
        endings: of the files of a folder, in lower case; an address with one of them is taken for
            a file. Without endings no folder is listed.

    Raises:
        InputError: nothing matches, a folder has no such file, or the file system cannot be read.

    >>> import fsspec
    >>> _ = fsspec.filesystem("memory").pipe({"/shards/1.sqlite": b"", "/shards/2.sqlite": b""})
    >>> files_at("memory://shards/*.sqlite")
    ['memory:///shards/1.sqlite', 'memory:///shards/2.sqlite']
    """
    is_glob = bool(_GLOB & set(address))
    is_file = not endings or address.lower().endswith(endings)
    if _is_url(address) or (is_file and not is_glob):
        return [address]
    redacted = redact_userinfo(address)
    try:
        files, path = _file_system(address)
        if not is_glob and not files.isdir(path):
            return [address]
        paths = files.glob(path) if is_glob else _in_folder(files, path, endings)
        matches = [str(files.unstrip_protocol(match)) for match in sorted(paths)]
    except T2VError:
        raise
    except Exception as error:
        raise InputError(f"{redacted}: cannot be read: {_words(error)}") from error
    if not matches and not is_glob:
        raise InputError(f"{redacted}: the folder holds no images (endings: {' '.join(endings)})")
    if not matches:
        raise InputError(f"{redacted}: no file matches this glob")
    return matches


def _in_folder(files: Any, folder: str, endings: tuple[str, ...]) -> list[str]:
    listed = [entry["name"] for entry in files.ls(folder, detail=True) if entry["type"] == "file"]
    named = ((path, path.rpartition("/")[2]) for path in listed)
    return [p for p, name in named if name.lower().endswith(endings) and not name.startswith(".")]


def download_file(address: str, file: Path) -> None:
    """Copy the file at an address to this machine.

    Args:
        address: such as ``s3://bucket/scores.sqlite``; its size has no limit.
        file: where to.

    Raises:
        MissingPackageError: the package for its scheme is not installed.
        InputError: it cannot be read.

    >>> import fsspec, tempfile
    >>> _ = fsspec.filesystem("memory").pipe("/bucket/scores.sqlite", b"content")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     download_file("memory://bucket/scores.sqlite", Path(folder) / "scores.sqlite")
    ...     (Path(folder) / "scores.sqlite").read_bytes()
    b'content'
    """
    try:
        files, path = _file_system(address)
        with files.open(path, "rb") as stream, file.open("wb") as copy:
            shutil.copyfileobj(stream, copy)
    except T2VError:
        raise
    except Exception as error:
        raise InputError(f"{redact_userinfo(address)}: cannot be read: {_words(error)}") from error


def size_at(address: str) -> int:
    """Return the number of bytes of the file at an address; 0 where none is seen.

    Object stores refuse to say of a file that is not there that it is not, where listing is not
    allowed.

    >>> import fsspec
    >>> _ = fsspec.filesystem("memory").pipe("/bucket/scores.sqlite", b"content")
    >>> size_at("memory://bucket/scores.sqlite"), size_at("memory://bucket/gone.sqlite")
    (7, 0)
    """
    try:
        files, path = _file_system(address)
        return int(files.size(path) or 0)
    except Exception:  # of any file system
        return 0


def upload_file(file: Path, address: str) -> None:
    """Copy a file to an address, under another name first, so that no part of it is there.

    Args:
        file: a file of this machine.
        address: such as ``s3://bucket/scores-1-of-8.sqlite``; a file there is replaced.

    Raises:
        MissingPackageError: the package for its scheme is not installed.
        OutputError: it cannot be written.

    >>> import fsspec, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "scores.sqlite").write_bytes(b"content")
    ...     upload_file(Path(folder) / "scores.sqlite", "memory://results/scores.sqlite")
    >>> fsspec.filesystem("memory").cat("/results/scores.sqlite")
    b'content'
    """
    try:
        files, path = _file_system(address)
        partial = f"{path}.{uuid.uuid4().hex[:8]}.part"
        files.makedirs(path.rpartition("/")[0] or "/", exist_ok=True)
        try:
            with file.open("rb") as stream, files.open(partial, "wb") as copy:
                shutil.copyfileobj(stream, copy)
            files.mv(partial, path)
        except BaseException:
            if files.exists(partial):
                files.rm(partial)
            raise
    except T2VError:
        raise
    except Exception as error:
        raise OutputError(
            f"{redact_userinfo(address)}: cannot be written: {_words(error)}"
        ) from error


def _content(address: str, limit: int) -> bytes:
    """Return the content of a file, of which one byte more than the limit is read."""
    files, path = _file_system(address)
    with files.open(path, "rb") as stream:
        content: bytes = stream.read(limit + 1)
    return content


def _is_url(address: str) -> bool:
    return address.lower().startswith(("http://", "https://"))


def _file_system(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path there.

    Raises:
        InputError: it has no scheme that fsspec knows, or several.
        MissingPackageError: the package for its scheme is not installed.
    """
    import fsspec

    redacted = redact_userinfo(address)
    if "::" in address:
        raise InputError(f"{redacted}: an address of several parts (`::`) is not read")
    try:
        files, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise MissingPackageError(f"{redacted}: {error} (pip install)") from error
    except ValueError as error:
        raise InputError(f"{redacted}: no file system has this address: {error}") from error
    return files, path


def _words(error: Exception) -> str:
    """Return an exception in a line; file systems may repeat an address with a password."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return redact_userinfo(str(error).partition("\n")[0]) or type(error).__name__
