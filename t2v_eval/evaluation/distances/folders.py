"""Features of folders of images: extracted once, kept in a file, and reused while files stay.

The file of a folder and an extractor is an `.npz` that `read_features` reads, too, with the size,
times and inode of each image beside its row. Rows of images that are as they were are reused;
others are extracted. Until a run has ended, each batch is a file of its own beside it, so that a
run that was killed goes on behind its last batch.
"""

from __future__ import annotations

import json
import mimetypes
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from t2v_eval.errors import InputError, MediaError, T2VWarning
from t2v_eval.evaluation.distances.feature_set import FeatureSet
from t2v_eval.extractors.extractor import Extractor
from t2v_eval.inputs.folders import IMAGES, files_in
from t2v_eval.inputs.image_file import orientation_of
from t2v_eval.inputs.media import Media, open_media
from t2v_eval.scoring.shard import Shard
from t2v_eval.utils.files import check_folder, replacing
from t2v_eval.utils.regular_file import File, digest

GRAYSCALE, ROTATED, TRANSPARENT = 1, 2, 4  # flags of an image file
_NOTES = {"grayscale": GRAYSCALE, "rotated": ROTATED, "transparent": TRANSPARENT}


@dataclass
class _Rows:
    """What is known of the images of a folder, by their name."""

    features: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    logits: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    states: dict[str, tuple[int, ...]] = field(default_factory=dict)
    traits: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # width, height, flags
    reused: int = 0  # how many were in files

    def arrays(self, names: Sequence[str]) -> dict[str, Any]:
        arrays: dict[str, Any] = {
            "features": np.stack([self.features[name] for name in names]),
            "names": np.array(names),
            "states": np.array([self.states[name] for name in names], np.int64),
            "looks": np.array([self.traits[name] for name in names], np.int64),
        }
        if names and names[0] in self.logits:
            arrays["logits"] = np.stack([self.logits[name] for name in names])
        return arrays


class ShardCounts(NamedTuple):
    """The images of a shard of a folder.

    Attributes:
        images: how many.
        extracted: the number whose features were extracted now.
        reused: the number whose features were in the cache.
        unreadable: why others have none, by name.

    >>> ShardCounts(images=3, extracted=2, reused=0, unreadable={"b.png": "damaged"}).images
    3
    """

    images: int
    extracted: int
    reused: int
    unreadable: dict[str, str]


def extract_folder(
    folder: str | os.PathLike[str],
    extractor: Extractor,
    *,
    cache: str | os.PathLike[str] | None = None,
    only: Collection[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> FeatureSet:
    """Return the features of the images of a folder and its sub-folders.

    Images that cannot be read are left out, and `extractor["files"]["unreadable"]` says why.

    Args:
        folder: the folder.
        extractor: turns images into features.
        cache: the folder of files that keep features between runs; None keeps none.
        only: the names of the images that are wanted, relative to the folder; None for all.
        progress: called with a line from time to time.

    Raises:
        InputError: it is no folder, holds no images, or none that can be read.
        OutputError: nothing can be written to the cache.

    >>> import tempfile
    >>> from t2v_eval.extractors.names import load_extractor
    >>> with tempfile.TemporaryDirectory() as name:
    ...     for number in range(3):
    ...         Image.new("RGB", (48, 48)).save(Path(name) / f"{number}.png")
    ...     extract_folder(name, load_extractor("tiny-clip", device="cpu")).names
    ('0.png', '1.png', '2.png')
    """
    path = Path(folder).expanduser()
    names = [name for name in images_of(path) if only is None or name in only]
    facts = extractor.facts()
    file = None if cache is None else _file_of(check_folder(cache, "cache"), path, facts)
    rows = _Rows()
    unreadable, batches = _extract(path, names, extractor, file, rows, progress)
    # The file has the rows of the whole folder; those of a part stay in the files of batches.
    if file is not None and batches and only is None:
        _write(file, rows, list(rows.features), facts)
        for batch in batches:
            batch.unlink(missing_ok=True)
    readable = [name for name in names if name in rows.features]
    if not readable:
        raise InputError(
            f"{path}: none of {len(names)} images can be read; {next(iter(unreadable.values()))}"
        )
    arrays = rows.arrays(readable)
    described = {**facts, "files": _notes(rows, readable, unreadable) | _skipped(path)}
    return FeatureSet(
        str(folder),
        arrays["features"],
        arrays.get("logits"),
        names=tuple(readable),
        extractor=described,
        folder=path,
    )


def extract_shard(
    folder: str | os.PathLike[str],
    extractor: Extractor,
    shard: Shard,
    *,
    cache: str | os.PathLike[str],
    progress: Callable[[str], None] | None = None,
) -> ShardCounts:
    """Extract the features of one shard of a folder's images into a cache.

    Several workers may do so at once with one cache. `extract_folder` finds what they extracted.

    Args:
        folder: the folder.
        extractor: turns images into features.
        shard: which images.
        cache: the folder of files that keep features, which all workers share.
        progress: called with a line from time to time.

    Raises:
        InputError: it is no folder, or holds no images.
        OutputError: nothing can be written to the cache.

    >>> import tempfile
    >>> from t2v_eval.extractors.names import load_extractor
    >>> with tempfile.TemporaryDirectory() as name:
    ...     Image.new("RGB", (48, 48)).save(Path(name) / "a.png")
    ...     network = load_extractor("tiny-clip", device="cpu")
    ...     extract_shard(name, network, Shard(1, 1), cache=Path(name) / "cache")
    ShardCounts(images=1, extracted=1, reused=0, unreadable={})
    """
    path = Path(folder).expanduser()
    names = [name for name in images_of(path) if shard.holds(path / name)]
    file = _file_of(check_folder(cache, "cache"), path, extractor.facts())
    rows = _Rows()
    unreadable, _ = _extract(path, names, extractor, file, rows, progress)
    extracted = len(rows.features) - rows.reused
    return ShardCounts(len(names), extracted, rows.reused, unreadable)


def _extract(
    folder: Path,
    names: Sequence[str],
    extractor: Extractor,
    file: Path | None,
    rows: _Rows,
    progress: Callable[[str], None] | None,
) -> tuple[dict[str, str], list[Path]]:
    """Add the rows of images, those in a file and its batches without extracting them again.

    Returns:
        Why images cannot be read, by name, and the files of batches.
    """
    batches: list[Path] = []
    if file is not None:
        batches = sorted(file.parent.glob(f"{file.stem}.batch-*.npz"))
        _reuse([file, *batches], folder, names, rows)
        rows.reused = len(rows.features)
    todo = [name for name in names if name not in rows.features]
    unreadable: dict[str, str] = {}
    facts = extractor.facts()
    for extracted, reasons in _extracted(folder, todo, extractor, rows):
        unreadable |= reasons
        if file is not None and extracted:
            batches.append(file.with_name(f"{file.stem}.batch-{uuid4().hex}.npz"))
            _write(batches[-1], rows, extracted, facts)
        if progress is not None:
            done = len(rows.features) + len(unreadable)
            progress(f"{folder.name}: {done} of {len(names)} images")
    return unreadable, batches


def images_of(folder: Path) -> list[str]:
    """Return the names of the images of a folder and its sub-folders, relative to it.

    Args:
        folder: the folder.

    Raises:
        InputError: it is no folder, or holds no images.

    >>> images_of(Path("no-such-folder"))
    Traceback (most recent call last):
    t2v_eval.errors.InputError: no-such-folder: no such folder of images or .npz file of features
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images or .npz file of features")
    paths = [path for path in files_in(folder, "**/*") if path.suffix.lower() in IMAGES]
    if not paths:
        raise InputError(f"{folder} holds no images (endings: {' '.join(IMAGES)})")
    return [path.relative_to(folder).as_posix() for path in paths]


def _file_of(cache: Path, folder: Path, facts: dict[str, Any]) -> Path:
    """Return the file of a folder and an extractor."""
    key = digest(json.dumps(facts, sort_keys=True).encode(), os.fsencode(folder.resolve()))
    return cache / f"features-{key[:24]}.npz"


def _reuse(files: Sequence[Path], folder: Path, names: Sequence[str], rows: _Rows) -> None:
    """Add the kept rows of images that are as they were."""
    states = {name: _state(folder / name) for name in names}
    for file in files:
        if not file.exists():
            continue
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive if name != "extractor"}
            features, logits = arrays["features"], arrays.get("logits")
            kept = list(
                zip(
                    map(str, arrays["names"]),
                    map(tuple, arrays["states"].tolist()),
                    map(tuple, arrays["looks"].tolist()),
                    strict=True,
                )
            )
        except Exception as error:  # whatever NumPy's parsers raise over damaged content
            warnings.warn(
                f"{file} is damaged and is written anew: {error or type(error).__name__}",
                T2VWarning,
                stacklevel=2,
            )
            continue
        for row, (name, state, traits) in enumerate(kept):
            if states.get(name) != state:
                continue
            rows.features[name], rows.states[name] = features[row], state
            rows.traits[name] = traits
            if logits is not None:
                rows.logits[name] = logits[row]


def _state(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is written or replaced; nothing where it cannot be read."""
    try:
        state = File.snapshot(path)
    except OSError:
        return ()
    return (state.size, state.mtime_ns, state.ctime_ns, state.device, state.inode)


def _extracted(
    folder: Path, names: Sequence[str], extractor: Extractor, rows: _Rows
) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Extract images, add their rows, and yield the names of each batch, and reasons of others."""
    media, opened = [], []
    unopened: dict[str, str] = {}
    for name in names:
        state = _state(folder / name)
        try:
            item = open_media(folder / name, name)
        except MediaError as error:
            unopened[name] = str(error)
            continue
        rows.states[name] = state
        media.append(_observed(item, name, rows))
        opened.append(name)
    yield [], unopened
    for part in extractor.extract(media):
        for place, number in enumerate(part.numbers):
            name = opened[number]
            rows.features[name] = part.features[place]
            rows.traits.setdefault(name, (0, 0, 0))
            if part.logits is not None:
                rows.logits[name] = part.logits[place]
        reasons = {opened[number]: reason for number, reason in part.failed.items()}
        yield [opened[number] for number in part.numbers], reasons


def _observed(media: Media, name: str, rows: _Rows) -> Media:
    """Return an image that notes its size and kind when it is opened."""

    def load() -> Image.Image:
        image = media.load()
        flags = GRAYSCALE * (image.mode in ("1", "L", "LA", "I", "F") or "I;" in image.mode)
        flags |= ROTATED * (orientation_of(image) not in (None, 1))
        has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
        rows.traits[name] = (*image.size, flags | TRANSPARENT * has_alpha)
        return image

    return Media(media.key, media.name, load, shared=media.shared)


def _write(file: Path, rows: _Rows, names: Sequence[str], facts: dict[str, Any]) -> None:
    with replacing(file, "wb") as stream:
        np.savez(stream, **rows.arrays(names), extractor=np.array(json.dumps(facts)))


def _notes(rows: _Rows, names: Sequence[str], unreadable: dict[str, str]) -> dict[str, Any]:
    """Return what the image files were like, in numbers."""
    traits = [rows.traits[name] for name in names]
    sizes = sorted({entry[:2] for entry in traits})
    notes: dict[str, Any] = {"count": len(names), "unreadable": dict(sorted(unreadable.items()))}
    notes |= {note: sum(bool(entry[2] & flag) for entry in traits) for note, flag in _NOTES.items()}
    return {**notes, "sizes": [list(size) for size in sizes[:20]]}


def _skipped(folder: Path) -> dict[str, Any]:
    """Return what a folder holds that may have been meant as images, and is not looked at."""
    links = [path for path in folder.glob("**/*") if path.is_symlink()]
    formats: dict[str, int] = {}
    for path in files_in(folder, "**/*"):
        suffix = path.suffix.lower()
        kind = mimetypes.guess_type(path.name)[0] or ""
        if suffix not in IMAGES and kind.startswith("image/"):
            formats[suffix] = formats.get(suffix, 0) + 1
    return {
        "broken_links": sum(not path.exists() for path in links),
        "linked_folders": sum(path.is_dir() for path in links),
        "other_formats": formats,
    }
