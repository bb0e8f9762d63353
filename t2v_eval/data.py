"""The files of benchmarks: fetching them from the Hugging Face hub and unpacking them.

Cards say where files are: `hub` is a data set there and `files` those of its files that are needed,
archives among them. What is gated, moved or elsewhere is not fetched; a card's `page` and `obtain`
say what to do by hand.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from t2v_eval.errors import BenchmarkDataError, OutputError
from t2v_eval.files import check_folder
from t2v_eval.registry import Card

# Pictures are compressed already: an archive that grows more than this is none of pictures.
MOST_GROWTH = 20
_ALWAYS_FINE = 1 << 26

Download = Callable[[str, str, Path], Path]


def fetch(card: Card, root: str | Path, download: Download | None = None) -> list[Path]:
    """Bring the card's files into `root`, and unpack its archives there.

    Args:
        download: called with the data set, the file and the folder; default: the hub.

    Raises:
        BenchmarkDataError: the card names no data set, or the hub does not give a file; the
            message has the page and what to do there.
        OutputError: nothing can be written to `root`.
    """
    if not card.hub:
        raise BenchmarkDataError(f"{card.name} cannot be fetched: {card.obtain} ({card.page})")
    folder = check_folder(root)
    bring = download or _from_hub
    found = []
    for name in card.files:
        try:
            path = bring(card.hub, name, folder)
        except Exception as error:
            raise BenchmarkDataError(
                f"{name} of {card.hub} cannot be fetched: {error}. By hand: {card.obtain} "
                f"({card.page}), into {folder}"
            ) from error
        found.append(path)
        if path.suffix == ".zip":
            unpack(path, folder)
    return found


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpack a zip file below `folder`; files that are there with their size are kept.

    Nothing is unpacked unless all of it can be: no path may lead out of `folder`, none may be a
    link, and the content may not be more than 20 times the archive.

    Raises:
        BenchmarkDataError: not a zip file, or one that is not safe.
        OutputError: a file cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            members = [one for one in content.infolist() if not one.is_dir()]
            _check(archive, members)
            return [_write(content, one, folder) for one in members]
    except zipfile.BadZipFile as error:
        raise BenchmarkDataError(f"{archive} is not a zip file: {error}") from error
    except OSError as error:
        if isinstance(error, (BenchmarkDataError, OutputError)):
            raise
        raise OutputError(f"{archive} cannot be unpacked to {folder}: {error}") from error


def _check(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    for one in members:
        path = PurePosixPath(one.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise BenchmarkDataError(f"{archive} holds {one.filename!r}, which leads out of it")
        if stat.S_ISLNK(one.external_attr >> 16):
            raise BenchmarkDataError(f"{archive} holds {one.filename!r}, which is a link")
    size = archive.stat().st_size
    packed = sum(one.compress_size for one in members)
    whole = sum(one.file_size for one in members)
    # Archives that repeat one stretch of data for many files claim more than they have.
    if packed > size or whole > max(_ALWAYS_FINE, MOST_GROWTH * size):
        raise BenchmarkDataError(
            f"{archive} has {size} bytes and would grow to {whole}: more than pictures do, so "
            "it is not unpacked"
        )


def _write(content: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> Path:
    path = folder / PurePosixPath(member.filename.replace("\\", "/"))
    if path.is_file() and path.stat().st_size == member.file_size:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with content.open(member) as source, part.open("wb") as target:
        shutil.copyfileobj(source, target)
    part.replace(path)
    return path


def _from_hub(hub: str, name: str, folder: Path) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(hub, name, repo_type="dataset", local_dir=folder))
