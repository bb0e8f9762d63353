"""Write files atomically, and check before a long run that they can be written."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from t2v_eval.errors import OutputError
from t2v_eval.utils.arguments import check_path


def check_folder(folder: str | os.PathLike[str], argument: str = "folder") -> Path:
    """Create `folder` if needed, and check that files can be written in it.

    Args:
        folder: the folder; ``~`` stands for the home.
        argument: what the caller calls it, for messages.

    Returns:
        The path, with ``~`` expanded.

    Raises:
        InputError: it is no path.
        OutputError: it is a file, or not writable.
    """
    path = check_path(argument, folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(bytes(4096))  # this fails on a full disk
            return path
    except FileExistsError:
        raise OutputError(f"{path} is a file, not a folder; choose another `{argument}=`") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise OutputError(
            f"nothing can be written to {path}: {why}; choose another `{argument}=`"
        ) from error


def check_file(file: str | Path) -> Path:
    """Check that a file can be written, as `check_folder` does for a folder.

    Args:
        file: the file; ``~`` stands for the home.

    Returns:
        The path, with ``~`` expanded.

    Raises:
        OutputError: it is a folder or a device, has an impossible name, or its folder is not
            writable.
    """
    path = check_path("file", file)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = stat.S_IFREG
    except (OSError, ValueError) as error:
        raise OutputError(f"no file can be called {str(path)!r}: {error}") from error
    if stat.S_ISDIR(mode):
        raise OutputError(f"{path} is a folder; `file=` names a file here")
    if not stat.S_ISREG(mode):  # a device would be replaced by a file
        raise OutputError(f"{path} is no regular file; choose another `file=`")
    check_folder(path.parent)
    return path


@contextmanager
def replacing(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a stream whose content replaces `path` if the block ends without an error.

    Args:
        path: the file; until the block ends, it stays as it was.
        mode: "w" for UTF-8 text, "wb" for bytes.

    Raises:
        OutputError: the file cannot be written.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "scores.txt"
    ...     with replacing(file) as stream:
    ...         _ = stream.write("0.5")
    ...     file.read_text()
    '0.5'
    """
    target = Path(path)
    temporary = None
    try:
        handle, name = tempfile.mkstemp(prefix=".unfinished-", dir=target.parent)
        temporary = Path(name)
        encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
        with os.fdopen(handle, mode, encoding=encoding, newline=newline) as stream:
            yield stream
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, content: str) -> None:
    """Write `content` completely or not at all.

    Args:
        path: the file.
        content: its text, written as UTF-8; half characters become escapes.

    Raises:
        OutputError: the file cannot be written.
    """
    with replacing(path, "wb") as stream:
        stream.write(content.encode("utf-8", "backslashreplace"))  # file names may hold surrogates


def _umask() -> int:
    # Temporary files are private; the mask for ordinary files can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
