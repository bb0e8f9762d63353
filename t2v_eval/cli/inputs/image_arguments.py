"""IMAGE arguments: files and URLs, the images of folders, and globs in quotes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from t2v_eval.errors import MediaError
from t2v_eval.inputs.addresses import files_at, is_address
from t2v_eval.inputs.folders import GLOB, IMAGES, files_in


def expand_images(images: Sequence[str], root: Path | None = None) -> list[str]:
    """Return the files that arguments stand for; a file or URL stands for itself.

    Args:
        images: files, URLs, folders (their images and videos, sorted by name) and globs (the files
            that match, sorted; ``**`` stands for any folders); of other file systems, too.
        root: the folder that relative paths start from.

    Raises:
        MediaError: a folder holds no image, or nothing matches a glob.
        InputError: the same of an address.
    """
    return [file for image in images for file in _files(image, root)]


def _files(image: str, root: Path | None) -> list[str]:
    if is_address(image):
        return files_at(image, _endings())
    try:
        path = (root or Path()).expanduser() / Path(image).expanduser()
        is_folder = path.is_dir()
        is_one = not GLOB & set(image) or path.exists()
    except (OSError, ValueError, RuntimeError):  # no file can have such a name; reading it says so
        return [image]
    if is_folder:
        return _in_folder(image, path)
    if is_one:
        return [image if root is None else str(path)]
    start = Path(path.anchor)  # Path.glob takes only relative patterns
    matches = [str(match) for match in files_in(start, str(path.relative_to(start)))]
    if not matches:
        raise MediaError(f"{image}: no file matches this glob")
    return matches


def _endings() -> tuple[str, ...]:
    from t2v_eval.inputs.media import VIDEOS

    return (*IMAGES, *VIDEOS)


def _in_folder(image: str, folder: Path) -> list[str]:
    endings = _endings()
    files = [str(path) for path in files_in(folder) if path.suffix.lower() in endings]
    if files:
        return files
    hint = ""
    for path in files_in(folder, "*/*"):
        if path.suffix.lower() in endings:
            hint = f"; {path.parent} holds some"
            break
    raise MediaError(f"{image}: the folder holds no images{hint} (endings: {' '.join(endings)})")
