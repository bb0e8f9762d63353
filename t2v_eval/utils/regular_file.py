"""Reading regular files, and knowing when one was replaced.

A pipe, a socket or a device is refused before a byte is read: it could block for ever, or never
end.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from t2v_eval.errors import MediaError

BLOCK = 1 << 20  # bytes
_KINDS = (
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True, slots=True)
class File:
    """The state of a file when its content was hashed.

    Size and modification time alone do not change where `cp -p` replaces the content.
    """

    path: Path
    size: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> File:
        """Look at a regular file.

        Raises:
            OSError: it does not exist, or is no regular file.
        """
        status = path.stat()
        _check_regular(status.st_mode, path)
        return cls(path, *identity(status))

    def check(self, name: str) -> None:
        """Raise MediaError where the file was replaced, changed or deleted since."""
        try:
            same = File.of(self.path) == self
        except OSError:
            same = False
        if not same:
            raise changed(name)


def changed(name: str) -> MediaError:
    """The error for a file whose content is no longer that of its key."""
    return MediaError(f"{name}: changed while it was being scored; run again")


def identity(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """Size, times, device and inode: what differs after a file was replaced or written."""
    return (
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_dev,
        status.st_ino,
    )


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading bytes; never wait for another process.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    # Before it is opened, since opening a device may already do something.
    _check_regular(path.stat().st_mode, path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    try:
        _check_regular(os.fstat(handle).st_mode, path)  # of what was opened
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: Path) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: as `open_regular`.
    """
    with open_regular(path) as stream:
        return stream.read()


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a regular file, line ends as "\\n".

    Raises:
        OSError: as `open_regular`.
        UnicodeDecodeError: it has another encoding.
    """
    text = read_bytes(path).decode(encoding)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def digest(*parts: bytes) -> str:
    """A key of some content."""
    content = hashlib.blake2b(digest_size=16)
    for part in parts:
        content.update(part)
    return content.hexdigest()


def digest_of(path: Path) -> str:
    """A key of the content of a regular file, the same as `digest` of it."""
    content = hashlib.blake2b(digest_size=16)
    with open_regular(path) as stream:
        while part := stream.read(BLOCK):
            content.update(part)
    return content.hexdigest()


def _check_regular(mode: int, path: Path) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    kind = next((name for test, name in _KINDS if test(mode)), "of an unknown type")
    raise OSError(errno.EINVAL, f"is {kind}, not a regular file; save its content as a file")
