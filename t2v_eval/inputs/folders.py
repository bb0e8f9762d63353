"""List the files of a folder: regular files only, without those of operating systems."""

from __future__ import annotations

import contextlib
import unicodedata
from pathlib import Path

IMAGES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif")
"""File name endings of images, in lower case, that are looked for in folders."""

GLOB = frozenset("*?[")
"""Characters that make a path a glob."""


def files_in(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the regular files of a folder that match a glob, sorted by path.

    Folders, pipes, broken links and hidden files (such as macOS's ``._a.png``) are left out,
    whatever their name.

    Args:
        folder: the folder; there are no files in one that does not exist.
        pattern: a glob relative to it, which may name sub-folders.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "b.png").mkdir()
    ...     for name in ("a.png", "._a.png"):
    ...         _ = (Path(folder) / name).write_bytes(b"")
    ...     [path.name for path in files_in(Path(folder), "*.png")]
    ['a.png']
    """
    paths = sorted(folder.glob(pattern))
    return [path for path in paths if not path.name.startswith(".") and path.is_file()]


def path_on_disk(folder: Path, name: str) -> Path:
    """Return the path of a file, whose accents may be composed otherwise on disk (NFC or NFD).

    Args:
        folder: where the file is.
        name: as a table has it; without such a file, it stays as it is.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / ("cafe" + chr(0x301))).write_bytes(b"")
    ...     len(path_on_disk(Path(folder), "caf" + chr(0xE9)).name)
    5
    """
    with contextlib.suppress(OSError):  # of a name that no file can have
        if not name.isascii() and not (folder / name).exists():
            for form in ("NFC", "NFD"):
                if (path := folder / unicodedata.normalize(form, name)).exists():
                    return path
    return folder / name
