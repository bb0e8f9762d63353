"""Results reach the disk whole or not at all, and whether they can is known before the work."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from t2v_eval.errors import OutputError


def check_folder(folder: str | Path) -> Path:
    """Make `folder` where it is missing and try a file in it.

    Raises:
        OutputError: it is a file, or nothing can be written there.
    """
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(bytes(4096))  # which a full disk does not take
            return path
    except FileExistsError:
        raise OutputError(f"{path} is a file, not a folder; choose another --out") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise OutputError(
            f"nothing can be written to {path}: {why}; choose another --out"
        ) from error


def check_file(file: str | Path) -> Path:
    """As `check_folder`, for a file that is to be written.

    Raises:
        OutputError: it is a folder or a device, no file can have its name, or nothing can be
            written beside it.
    """
    path = Path(file).expanduser()
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = stat.S_IFREG
    except (OSError, ValueError) as error:
        raise OutputError(f"no file can be called {str(path)!r}: {error}") from error
    if stat.S_ISDIR(mode):
        raise OutputError(f"{path} is a folder; --out names a file here")
    if not stat.S_ISREG(mode):  # it would be replaced by a file
        raise OutputError(f"{path} is no regular file; choose another --out")
    check_folder(path.parent)
    return path


@contextmanager
def replacing(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A stream whose content becomes `path` when the block ends well, and nothing otherwise.

    Raises:
        OutputError: the file cannot be written.
    """
    target = Path(path)
    made = None
    try:
        handle, name = tempfile.mkstemp(prefix=".unfinished-", dir=target.parent)
        made = Path(name)
        encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
        with os.fdopen(handle, mode, encoding=encoding, newline=newline) as stream:
            yield stream
        made.chmod(0o666 & ~_umask())
        made.replace(target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        if made is not None:
            made.unlink(missing_ok=True)


def write_text(path: str | Path, content: str) -> None:
    """Write `content`, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    with replacing(path, "wb") as stream:
        stream.write(content.encode("utf-8", "backslashreplace"))  # names of files may be odd


def _umask() -> int:
    # The only way to read the mask is to set it; temporary files would stay private otherwise.
    mask = os.umask(0)
    os.umask(mask)
    return mask
