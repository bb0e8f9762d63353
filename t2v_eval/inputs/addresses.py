"""Files of object stores and other file systems, by addresses that fsspec reads: s3://, gs:// ...

They are read with the user's credentials. So an address in a table, which may come from anyone, is
read only where the user allows it (``allow_urls="any"``); http and https are for `inputs.urls`.
"""

from __future__ import annotations

import re
import shutil
import uuid
from pathlib import Path
from typing import Any

from t2v_eval.errors import InputError, MediaError, MissingPackageError, OutputError, T2VError
from t2v_eval.inputs.urls import MAX_BYTES, MAX_SECONDS, AllowUrls, Deadline, within
from t2v_eval.utils.printable import redact_userinfo

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

    def read() -> bytes:
        files, path = _file_system(address)
        with files.open(path, "rb") as stream:
            content: bytes = stream.read(MAX_BYTES + 1)
        return content

    try:
        content: bytes = within(read, Deadline(MAX_SECONDS))
    except TimeoutError:
        raise MediaError(f"{name}: not read within {MAX_SECONDS:g} s; copy it here") from None
    except T2VError:
        raise
    except Exception as error:  # each file system raises its own
        raise MediaError(f"{name}: cannot be read: {_words(error)}") from error
    if len(content) > MAX_BYTES:
        raise MediaError(f"{name}: larger than {MAX_BYTES >> 20} MiB; copy it here")
    return content


def files_at(address: str) -> list[str]:
    """Return the addresses that a glob stands for, sorted; an address without one is itself.

    Args:
        address: such as ``s3://bucket/shard-*.sqlite``.

    Raises:
        InputError: nothing matches, or the file system cannot be read.
    """
    if not _GLOB & set(address):
        return [address]
    try:
        files, path = _file_system(address)
        matches = [str(files.unstrip_protocol(match)) for match in sorted(files.glob(path))]
    except T2VError:
        raise
    except Exception as error:
        raise InputError(f"{redact_userinfo(address)}: cannot be read: {_words(error)}") from error
    if not matches:
        raise InputError(f"{redact_userinfo(address)}: no file matches this glob")
    return matches


def download_file(address: str, file: Path) -> None:
    """Copy the file at an address to this machine.

    Args:
        address: such as ``s3://bucket/scores.sqlite``; its size has no limit.
        file: where to.

    Raises:
        MissingPackageError: the package for its scheme is not installed.
        InputError: it cannot be read.
    """
    try:
        files, path = _file_system(address)
        with files.open(path, "rb") as stream, file.open("wb") as copy:
            shutil.copyfileobj(stream, copy)
    except T2VError:
        raise
    except Exception as error:
        raise InputError(f"{redact_userinfo(address)}: cannot be read: {_words(error)}") from error


def upload_file(file: Path, address: str) -> None:
    """Copy a file to an address, under another name first, so that no part of it is there.

    Args:
        file: a file of this machine.
        address: such as ``s3://bucket/scores-1-of-8.sqlite``; a file there is replaced.

    Raises:
        MissingPackageError: the package for its scheme is not installed.
        OutputError: it cannot be written.
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
            f"{redact_userinfo(address)}: cannot be written: {_words(error)}; {file} is complete"
        ) from error


def _file_system(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path there.

    Raises:
        InputError: it has no scheme that fsspec knows, or several.
        MissingPackageError: the package for its scheme is not installed.
    """
    import fsspec

    shown = redact_userinfo(address)
    if "::" in address:
        raise InputError(f"{shown}: an address of several parts (`::`) is not read")
    try:
        files, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise MissingPackageError(f"{shown}: {error} (pip install)") from error
    except ValueError as error:
        raise InputError(f"{shown}: no file system has this address: {error}") from error
    return files, path


def _words(error: Exception) -> str:
    """Return an exception in a line; file systems may repeat an address with a password."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return redact_userinfo(str(error).partition("\n")[0]) or type(error).__name__
