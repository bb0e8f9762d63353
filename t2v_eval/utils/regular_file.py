"""Read regular files, and detect when one was replaced.

Pipes, sockets and devices are refused before a byte is read, since reading them could block forever
or never end.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from t2v_eval.errors import MediaError

BLOCK = 1 << 20  # bytes
SETTLED_NS = 2 * 10**9  # 2 s, as coarse as FAT keeps times
MAX_KEYS = 1 << 19  # take about 100 MB
_CREATION_TIMES = os.name == "nt"
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

    Attributes:
        path: the file.
        size: its size in bytes.
        mtime_ns: when its content was written last, in nanoseconds.
        ctime_ns: when its content or metadata changed last, in nanoseconds.
        device: the file system.
        inode: its number there.
    """

    path: Path
    size: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _on_this_machine, astuple(self)

    @classmethod
    def snapshot(cls, path: Path) -> File:
        """Record the state of a regular file.

        Raises:
            OSError: it does not exist, or is not a regular file.
        """
        status = path.stat()
        _check_regular(status.st_mode, path)
        return cls(path, *identity(status))

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator[tuple[File, BinaryIO]]:
        """Open a regular file for reading bytes, and record the state of what was opened.

        A link or a folder on the way may lead to another file than a moment before.

        Raises:
            OSError: as `open_regular`.
        """
        with open_regular(path) as stream:
            yield cls(path, *identity(os.fstat(stream.fileno()))), stream

    def check(self, name: str) -> None:
        """Raise MediaError if the file was replaced, changed or deleted since."""
        if not self.is_unchanged():
            raise changed(name)

    def is_unchanged(self) -> bool:
        """Return whether the file is still there in the same state."""
        try:
            return File.snapshot(self.path) == self
        except OSError:
            return False


class KnownKeys:
    """The keys of files that were hashed, so that the next scorer need not read them again.

    A file keeps its key while it is in the same state. One that was written less than `SETTLED_NS`
    ago has none here, since its times may stay the same when it is written once more. Nor has one
    whose replacement may have all that is known of it: on a file system that numbers no files, and
    on Windows, whose `st_ctime` is when a file was created. Beyond `MAX_KEYS` files, no other is
    remembered.

    >>> import tempfile
    >>> keys = KnownKeys()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (path := Path(folder) / "a.bin").write_bytes(b"content")
    ...     file = File.snapshot(path)
    >>> keys.remember(file, "key", file.ctime_ns)
    >>> keys.get(file)
    >>> keys.remember(file, "key", file.ctime_ns + SETTLED_NS)
    >>> keys.get(file)
    'key'
    """

    def __init__(self) -> None:
        self._keys: dict[bytes, str] = {}

    def get(self, file: File) -> str | None:
        """Return the key of a file in this state; None if it is not known."""
        return self._keys.get(_state(file))

    def remember(self, file: File, key: str, since_ns: int) -> None:
        """Remember the key of a file that was hashed.

        Args:
            file: the state of what was read (`File.opened`), before it was.
            key: the hash of its content.
            since_ns: a time before that state was recorded, in nanoseconds.
        """
        settled = max(file.mtime_ns, file.ctime_ns) <= since_ns - SETTLED_NS
        told_apart = file.inode and not _CREATION_TIMES
        if settled and told_apart and len(self._keys) < MAX_KEYS:
            self._keys[_state(file)] = key

    def forget(self, file: File) -> None:
        """Forget the key of a file whose content turned out to be another."""
        self._keys.pop(_state(file), None)


KEYS = KnownKeys()


def _state(file: File) -> bytes:
    # Half a million files take a fifth of the memory that their paths would.
    times = f"{file.size} {file.mtime_ns} {file.ctime_ns} {file.device} {file.inode}"
    return hashlib.blake2b(os.fsencode(f"{file.path} {times}"), digest_size=16).digest()


def _on_this_machine(path: Path, size: int, mtime_ns: int, *state: int) -> File:
    """Return the state of a file that another process recorded, perhaps on another machine.

    There, a shared file system has another device number.
    """
    recorded = File(path, size, mtime_ns, *state)
    try:
        here = File.snapshot(path)
    except OSError:
        return recorded  # `check` says so
    return here if (here.size, here.mtime_ns) == (size, mtime_ns) else recorded


def changed(name: str) -> MediaError:
    """Return the error for a file whose content no longer matches its key."""
    return MediaError(f"{name}: changed while it was being scored; run again")


def identity(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """Return size, times, device and inode, which differ after a file was replaced or written."""
    return (
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_dev,
        status.st_ino,
    )


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading bytes, without ever waiting for another process.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    # Check before opening, since opening a device may already have an effect.
    _check_regular(path.stat().st_mode, path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    try:
        _check_regular(os.fstat(handle).st_mode, path)  # the file that was really opened
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def is_file(path: str | Path) -> bool:
    """Return whether a path is a file; a name that no file can have is none.

    >>> is_file("a" * 5000), is_file("null" + chr(0))
    (False, False)
    """
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def read_bytes(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: as `open_regular`.
    """
    with open_regular(path) as stream:
        return stream.read()


def digest(*parts: bytes) -> str:
    """Return a hash of some content as a key: 32 hexadecimal digits (BLAKE2b).

    >>> digest(b"a", b"b") == digest(b"ab") != digest(b"a")
    True
    """
    content = hashlib.blake2b(digest_size=16)
    for part in parts:
        content.update(part)
    return content.hexdigest()


def digest_of(stream: BinaryIO) -> str:
    """Return `digest` of the rest of an open file, read in blocks."""
    content = hashlib.blake2b(digest_size=16)
    while part := stream.read(BLOCK):
        content.update(part)
    return content.hexdigest()


def _check_regular(mode: int, path: Path) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    kind = next((name for test, name in _KINDS if test(mode)), "of an unknown type")
    what = f"is {kind}, not a regular file; save its content as a file"
    raise OSError(errno.EINVAL, what, str(path))
