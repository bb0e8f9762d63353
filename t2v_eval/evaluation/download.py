"""The files of benchmarks: where they belong, fetching them, checking them and unpacking them.

Cards say where files are: `hub` is a data set of the Hugging Face hub, or `url` a folder of the
web, and `files` those of its files that are needed, archives among them; `sha256` says what is in
those whose content is known. What is gated, moved or elsewhere is not fetched; a card's `page` and
`obtain` say what to do by hand.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
import tempfile
import unicodedata
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from t2v_eval.errors import BenchmarkDataError, OutputError
from t2v_eval.registry import Card
from t2v_eval.utils.files import check_folder, replacing

# Pictures are compressed already: an archive that grows more than this is none of pictures.
MOST_GROWTH = 20
_ALWAYS_FINE = 1 << 26
_SECONDS = 60.0

Download = Callable[[Card, str, Path], Path]


def default_root(name: str) -> Path:
    """Where the files of a benchmark are looked for and put if no folder is named."""
    from platformdirs import user_cache_path

    return user_cache_path("t2v-eval") / "data" / name


def fetch(card: Card, root: str | Path) -> list[Path]:
    """Bring the card's files into `root`, and unpack its archives where they lie.

    A file that is there with the content that the card knows is not fetched again, and the hub's
    files go on where an earlier download stopped.

    Raises:
        BenchmarkDataError: the card names no source, or it does not give a file, or another one;
            the message has the page and what to do there.
        OutputError: nothing can be written to `root`.
    """
    if not (card.hub or card.url):
        raise BenchmarkDataError(f"{card.name} cannot be fetched: {_by_hand(card, root)}")
    folder = check_folder(root)
    bring = _from_hub if card.hub else _from_web
    found = []
    for name in card.files:
        path = folder / name
        if not (path.is_file() and card.sha256.get(name) == sha256(path)):
            path = bring(card, name, folder)
            try:
                _compare(path, card.sha256.get(name, ""))
            except BenchmarkDataError as error:
                path.unlink()  # it would be taken for the file that it is not
                raise BenchmarkDataError(f"{error}; {_by_hand(card, folder)}") from None
        found.append(path)
        if path.suffix == ".zip":
            unpack(path, path.parent)
    return found


def check_known(card: Card, root: str | Path) -> list[str]:
    """The files of `root` whose content the card knows and that hold it.

    Raises:
        BenchmarkDataError: one holds something else.
    """
    found = []
    for name, digest in card.sha256.items():
        for path in (Path(root) / name, Path(root) / Path(name).name):
            if path.is_file():
                _compare(path, digest)
                found.append(name)
                break
    return found


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpack a zip file below `folder`; files that are there with their size are kept.

    Nothing is unpacked unless all of it can be: no path may lead out of `folder`, none may be a
    link or go through one that is there, all are files of names of their own, the content may not
    be more than 20 times the archive, and all of it must come out of the archive before any of it
    is put into its place.

    Raises:
        BenchmarkDataError: not a zip file, or one that is not safe.
        OutputError: a file cannot be written.
    """
    try:
        with (
            zipfile.ZipFile(archive) as content,
            tempfile.TemporaryDirectory(prefix=".unpacking-", dir=check_folder(folder)) as made,
        ):
            members = [one for one in content.infolist() if not one.is_dir()]
            _check(archive, members)
            places = [folder / _inside(one) for one in members]
            for place in places:
                _check_way(archive, folder, place)
            fresh = [
                (_extract(content, one, Path(made) / str(n)), place)
                for n, (one, place) in enumerate(zip(members, places, strict=True))
                if not (place.is_file() and place.stat().st_size == one.file_size)
            ]
            for made_file, place in fresh:
                place.parent.mkdir(parents=True, exist_ok=True)
                _check_way(archive, folder, place)  # it may have been changed meanwhile
                made_file.replace(place)
            return places
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BenchmarkDataError(
            f"{archive} is not a zip file, or not all of one: {error}"
        ) from error
    except (RuntimeError, NotImplementedError) as error:  # a password, a way of compressing
        raise BenchmarkDataError(f"{archive} cannot be unpacked: {error}") from error
    except OSError as error:
        if isinstance(error, (BenchmarkDataError, OutputError)):
            raise
        raise OutputError(f"{archive} cannot be unpacked to {folder}: {error}") from error


def _check(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    for one in members:
        path = _inside(one)
        if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise BenchmarkDataError(f"{archive} holds {one.filename!r}, which leads out of it")
        kind = stat.S_IFMT(one.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            what = "a link" if stat.S_ISLNK(kind) else "no regular file"
            raise BenchmarkDataError(f"{archive} holds {one.filename!r}, which is {what}")
    _check_names(archive, members)
    size = archive.stat().st_size
    packed = sum(one.compress_size for one in members)
    whole = sum(one.file_size for one in members)
    # Archives that repeat one stretch of data for many files claim more than they have.
    if packed > size or whole > max(_ALWAYS_FINE, MOST_GROWTH * size):
        raise BenchmarkDataError(
            f"{archive} has {size} bytes and would grow to {whole}: more than pictures do, so "
            "it is not unpacked"
        )


def _check_names(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    """Refuse two files that would be one, on file systems to which A and a are alike too."""
    names: dict[str, str] = {}
    for one in members:
        name = unicodedata.normalize("NFC", str(_inside(one))).casefold()
        if name in names:
            raise BenchmarkDataError(
                f"{archive} holds {names[name]!r} and {one.filename!r}, which may be one file"
            )
        names[name] = one.filename
    for name, shown in names.items():
        for parent in PurePosixPath(name).parents:
            if str(parent) in names:
                raise BenchmarkDataError(
                    f"{archive} holds {names[str(parent)]!r} as a file and {shown!r} below it"
                )


def _check_way(archive: Path, folder: Path, place: Path) -> None:
    """Refuse to write through a link that lies in `folder`; the folder itself may be one."""
    for parent in place.parents:
        if parent == folder:
            return
        if parent.is_symlink():
            raise BenchmarkDataError(
                f"{archive} would be unpacked through {parent}, which is a link to "
                f"{parent.readlink()}: move the link away, or unpack the archive by hand"
            )


def _inside(member: zipfile.ZipInfo) -> PurePosixPath:
    return PurePosixPath(member.filename.replace("\\", "/"))


def _extract(content: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Path:
    with content.open(member) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
    return path


def _compare(path: Path, digest: str) -> None:
    if digest and (found := sha256(path)) != digest:
        raise BenchmarkDataError(
            f"{path} is not the published file: its SHA-256 is {found}, not {digest}"
        )


def _by_hand(card: Card, folder: str | Path) -> str:
    return f"by hand, {card.obtain} ({card.page}), into {folder}"


def _from_hub(card: Card, name: str, folder: Path) -> Path:
    from huggingface_hub import constants, errors, hf_hub_download

    try:
        return Path(hf_hub_download(card.hub, name, repo_type="dataset", local_dir=folder))
    except errors.GatedRepoError:
        why = "is behind conditions: accept them on its page, then `hf auth login`, and try again"
    except errors.RepositoryNotFoundError:
        why = "is not on the Hugging Face hub any more, or not for everybody (`hf auth login`)"
    except errors.EntryNotFoundError as error:
        lost = isinstance(error, errors.LocalEntryNotFoundError)
        off = " while HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""
        why = f"cannot be reached{off}" if lost else f"has no {name} any more"
    except Exception as error:  # whatever the client's transport raises
        why = f"does not give it: {str(error).strip().partition(chr(10))[0]}"
    raise BenchmarkDataError(
        f"{name} cannot be fetched: the data set {card.hub} {why}; {_by_hand(card, folder)}"
    )


def _from_web(card: Card, name: str, folder: Path) -> Path:
    url = f"{card.url.rstrip('/')}/{name}"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer, replacing(path, "wb") as file:
            shutil.copyfileobj(answer, file)
            if answer.length:  # what it announced and did not send
                raise HTTPException(f"{answer.length} bytes are missing")
    except (OSError, HTTPException) as error:
        if isinstance(error, OutputError):
            raise
        raise BenchmarkDataError(
            f"{url} cannot be fetched: {error}; {_by_hand(card, folder)}"
        ) from error
    return path
