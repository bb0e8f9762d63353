"""Read open files and file-like objects: uploads, members of archives."""

from __future__ import annotations

import inspect
import io
import os
import stat
from typing import Any

from t2v_eval.errors import MediaError

MAX_BYTES = 1 << 28  # of an open file, which is read as a whole


def is_open(source: object) -> bool:
    """Return whether an object is an open file or is read like one.

    >>> is_open(io.BytesIO()), is_open("a.png")
    (True, False)
    """
    return not isinstance(source, type) and (
        callable(getattr(source, "read", None)) or callable(getattr(source, "read_bytes", None))
    )


def name_of_open(source: Any) -> str:
    """Return the file's name; "" without one, such as a temporary file's, which is a number.

    >>> name_of_open(io.BytesIO())
    ''
    """
    names = (getattr(source, key, None) for key in ("name", "filename"))
    return next((str(name) for name in names if isinstance(name, (str, os.PathLike)) and name), "")


def content_of(source: Any, name: str) -> bytes:
    """Read all bytes of an open file from its start; its position stays.

    Raises:
        MediaError: it is open for text, asynchronous, a device or too large.
        Exception: whatever its methods raise.

    >>> content_of(io.BytesIO(b"abc"), "an upload")
    b'abc'
    """
    if not hasattr(source, "read"):
        return bytes(source.read_bytes())  # such as zipfile.Path
    if inspect.iscoroutinefunction(source.read):
        # The uploads of web frameworks are asynchronous, and hold an ordinary file.
        if not hasattr(getattr(source, "file", None), "read"):
            raise MediaError(f"{name}: is read asynchronously; pass what `await ....read()` gives")
        source = source.file
    _check_handle(source, name)
    seekable = hasattr(source, "seekable") and source.seekable()
    position = source.tell() if seekable else 0
    if seekable:
        source.seek(0)
    try:
        content = _read_at_most(source)
    finally:
        if seekable:
            source.seek(position)
    if isinstance(content, str):
        raise MediaError(f"{name}: is open for reading text; open it with mode 'rb'")
    content = bytes(content)
    if len(content) > MAX_BYTES:
        raise MediaError(f"{name}: an open file of more than {MAX_BYTES >> 20} MiB; pass its path")
    return content


def _read_at_most(source: Any) -> Any:
    if isinstance(source, io.RawIOBase):
        return source.readall()  # `read` may return less than there is
    try:
        return source.read(MAX_BYTES + 1)
    except TypeError:  # one that takes no size
        return source.read()


def _check_handle(source: Any, name: str) -> None:
    """Refuse an open device, which may never end."""
    try:
        mode = os.fstat(source.fileno()).st_mode
    except (AttributeError, OSError, TypeError):
        return  # not a file of the operating system
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise MediaError(f"{name}: is a device, not a file; save its content as a file")
