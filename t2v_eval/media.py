"""Anything that looks like a picture -> `Media`: a content key, a name for messages, a way to load.

The key is a hash of the content, so that a picture given as a path, as bytes, or twice in one call
is decoded and encoded once. Loading is deferred: it runs in a thread beside the model. A `Video` is
one too; which of its frames a model is shown is said in `t2v_eval.video`.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from t2v_eval.errors import InputError, MediaError

if TYPE_CHECKING:
    import torch

MediaLike: TypeAlias = Union[
    str, "os.PathLike[str]", bytes, Image.Image, "NDArray[Any]", "torch.Tensor", "Media"
]

VIDEOS = tuple(
    ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .flv .ts .m2ts .3gp .ogv .h264 .h265".split()
)
URL_MAX_BYTES = 50 * 2**20
URL_MAX_SECONDS = 30.0
PILLOW_RAISES = OSError, SyntaxError, ValueError, EOFError, RuntimeError  # RuntimeError: AVIF
SIXTEEN_BITS = ("PNG", "PPM")  # formats whose pictures of mode "I" have 16 bits


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was when its content was hashed."""

    path: Path
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> File:
        found = path.stat()
        return cls(path, found.st_size, found.st_mtime_ns)

    def check(self, name: str) -> None:
        """Raise MediaError where it was written anew, or is gone: its key is another's now."""
        try:
            same = File.of(self.path) == self
        except OSError:
            same = False
        if not same:
            raise MediaError(f"{name}: changed while it was being scored; run again")


@dataclass(frozen=True, slots=True)
class Media:
    """One picture: `key` is its content hash, `name` is what messages call it."""

    key: str
    name: str
    load: Callable[[], Image.Image] = field(compare=False)

    @classmethod
    def broken(cls, name: str, error: MediaError) -> Media:
        """A picture that could not be opened; loading it raises what opening it raised."""

        def load() -> Image.Image:
            raise error

        return cls(f"broken:{error}", name, load)

    def cut(self, left: int, top: int, right: int, bottom: int) -> Media:
        """What is inside a box of pixels, in RGB."""
        box = left, top, right, bottom
        return Media(
            digest(f"{self.key} {box}".encode()),
            f"{self.name}, box {box}",
            lambda: self.load().convert("RGB").crop(box),
        )


@dataclass(frozen=True, slots=True)
class Video(Media):
    """A video, which is one input: a model that reads several frames together is shown some of it.

    `source` is a file, its content, or frames in their order, `fps` of which make a second; a file
    knows that itself. For scorers of pictures, loading it raises: see `t2v_eval.video.frames`.
    """

    source: File | bytes | tuple[Media, ...] = field(compare=False)
    fps: float | None = None

    @classmethod
    def of(cls, frames: Iterable[MediaLike], fps: float = 1.0, name: str = "frames") -> Video:
        """A video whose frames are pictures, in their order.

        Raises:
            InputError, MediaError: there are none, or one that cannot be opened.
        """
        if type(fps) not in (int, float) or not 0 < fps < float("inf"):
            raise InputError(f"fps={fps!r}: how many frames make a second is a number above 0")
        opened = tuple(open_media(f, f"{name}[{n}]") for n, f in enumerate(as_list(frames, name)))
        if films := [one.name for one in opened if isinstance(one, Video)]:
            raise InputError(
                f"{films[0]} is a video itself: Video.of takes pictures; pass the file as it is"
            )
        told = f"{fps!r} {' '.join(one.key for one in opened)}"
        return cls._new(digest(told.encode()), f"{name} (a video of {len(opened)})", opened, fps)

    @classmethod
    def _new(
        cls,
        content: str,
        name: str,
        source: File | bytes | tuple[Media, ...],
        fps: float | None = None,
    ) -> Video:
        def load() -> Image.Image:
            raise MediaError(
                f"{name}: is a video, and this scorer looks at one picture at a time: score frames "
                "of it, `from t2v_eval.video import frames; frames(path, 16)`, and take the mean"
            )

        # Not the key of the same file as a picture, of which there may be scores too.
        return cls(digest(f"video {content}".encode()), name, load, source, fps)


def as_list(images: MediaLike | Iterable[MediaLike], what: str = "images") -> list[MediaLike]:
    """One picture, a sequence of pictures, or a 4-D batch -> a list.

    Raises:
        InputError: for an empty list or something that is no picture.
    """
    if isinstance(images, (str, os.PathLike, bytes, bytearray, Image.Image, Media)):
        return [images]
    ndim = getattr(images, "ndim", None)
    if isinstance(ndim, int):
        if ndim in (2, 3):
            return [images]  # type: ignore[list-item]
        if ndim != 4:
            raise InputError(
                f"{what}: an array of {ndim} dimensions is neither a picture (2 or 3) "
                "nor a batch of pictures (4)"
            )
    try:
        listed = list(images)
    except TypeError:
        raise InputError(
            f"{what}: {type(images).__name__} is not a picture or a list of pictures; "
            "pass paths, bytes, PIL images, arrays or tensors"
        ) from None
    if not listed:
        raise InputError(f"{what} is empty; pass at least one")
    return listed


def name_of(source: MediaLike) -> str:
    """What a picture is called: its path, or the name of what is open; nothing for others."""
    if isinstance(source, Media):
        return source.name
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else ""


def open_media(source: MediaLike, position: str = "image", allow_urls: bool = False) -> Media:
    """Hash `source` and return its `Media`; decoding waits until `load()`.

    Args:
        source: path, URL (only with `allow_urls`), bytes of an image file, PIL image, numpy array
            (H, W), (H, W, C) or torch tensor (C, H, W), with C in 1, 3, 4; integers 0-255 or
            floats in [0, 1]; what is open already is returned as it is. A path or URL with a
            video's ending (.mp4, .mov, .avi, .mkv, .webm ...) becomes a `Video`.
        position: what a message calls it, for example ``images[3]``.

    Raises:
        MediaError: missing, a directory, empty, of an unknown type, NaN or out of range.
    """
    if isinstance(source, Media):
        return source
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        name = f"{position} ({_short(str(path))})"
        if isinstance(path, str) and path.startswith(("http://", "https://")):
            content = _fetch(path, name, allow_urls)
            if urlsplit(path).path.lower().endswith(VIDEOS):
                return Video._new(digest(content), name, content)
            return _from_bytes(content, name)
        return _from_path(Path(path), name)
    if isinstance(source, (bytes, bytearray)):
        return _from_bytes(bytes(source), f"{position} ({len(source)} bytes)")
    if isinstance(source, Image.Image):
        return _from_pil(source, f"{position} ({source.size[0]}x{source.size[1]} PIL image)")
    if hasattr(source, "__array__") or hasattr(source, "detach"):
        name = f"{position} ({type(source).__name__} of shape {tuple(source.shape)})"
        return _from_pil(_array_to_pil(source, name), name)
    raise MediaError(
        f"{position}: {type(source).__name__} is not a picture; "
        "pass a path, bytes, a PIL image, a numpy array or a torch tensor"
    )


def open_list(sources: Sequence[MediaLike], allow_urls: bool = False) -> list[Media]:
    """`open_media` of each, which messages call by its place: images[0], images[1] and so on."""
    return [open_media(one, f"images[{i}]", allow_urls) for i, one in enumerate(sources)]


def decode(media: Media, mode: str = "seen") -> Image.Image:
    """Load `media`; in mode "seen" as a person sees it (RGB), in mode "original" as it is stored.

    Raises:
        MediaError: what was opened is not an image, is truncated, or is too large to decode safely.
    """
    try:
        image = media.load()
        image.load()
        return as_seen(image) if mode == "seen" else image
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(
            f"{media.name}: {error}. If you trust the file, raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from None
    except UnidentifiedImageError:
        raise MediaError(f"{media.name}: not an image that Pillow can read") from None
    except PILLOW_RAISES as error:
        raise MediaError(f"{media.name}: cannot be decoded: {error}") from error


def as_seen(image: Image.Image) -> Image.Image:
    """RGB as a person sees it: EXIF orientation applied, alpha over white, 16 bits scaled to 8."""
    sixteen = _of_sixteen_bits(image)  # known before the file's format is forgotten
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_scale_to_uint8(np.asarray(image), sixteen)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _of_sixteen_bits(image: Image.Image) -> bool:
    """Whether whole numbers of up to 65535 are told by the file; else the content has to tell."""
    return image.mode == "I" and image.format in SIXTEEN_BITS


def _scale_to_uint8(values: NDArray[Any], sixteen: bool) -> NDArray[np.uint8]:
    if not np.isfinite(values).all():
        raise MediaError("the picture has pixels that are NaN or infinite")
    high = float(values.max(initial=0))
    if values.dtype.kind == "f":
        scale = 255.0 if high <= 1.0 else 1.0
    else:
        scale = 1 / 257 if sixteen or high > 255 or values.dtype == np.uint16 else 1.0
    return np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)


def digest(*parts: bytes) -> str:
    """A key of some content."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(part)
    return found.hexdigest()


def digest_of(path: Path) -> str:
    """A key of what a file holds, the same as `digest` of it."""
    found = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()


def _from_path(path: Path, name: str) -> Media:
    try:
        file = File.of(path)
        key = digest_of(path)
    except FileNotFoundError:
        raise MediaError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise MediaError(f"{name}: is a directory, not an image") from None
    except (OSError, ValueError) as error:
        raise MediaError(f"{name}: cannot be read: {error}") from error
    if key == digest():
        raise MediaError(f"{name}: the file is empty (0 bytes)")
    if path.suffix.lower() in VIDEOS:
        return Video._new(key, name, file)

    def load() -> Image.Image:
        # Read when it is needed: keeping the bytes of every file would fill the memory.
        content = path.read_bytes()
        file.check(name)
        return Image.open(io.BytesIO(content))

    return Media(key, name, load)


def _from_bytes(content: bytes, name: str) -> Media:
    if not content:
        raise MediaError(f"{name}: empty (0 bytes)")
    return Media(digest(content), name, lambda: Image.open(io.BytesIO(content)))


def _from_pil(image: Image.Image, name: str) -> Media:
    try:
        image.load()
    except PILLOW_RAISES as error:
        raise MediaError(f"{name}: cannot be decoded: {error}") from error
    header = f"{image.mode}{image.size}{image.info.get('transparency')}{image.getexif().get(274)}"
    header += " of 16 bits" if _of_sixteen_bits(image) else ""
    palette = image.palette.tobytes() if image.palette else b""
    return Media(digest(header.encode(), palette, image.tobytes()), name, lambda: image)


def _array_to_pil(source: Any, name: str) -> Image.Image:
    channels_first = hasattr(source, "detach")
    array = _to_numpy(source)
    if array.ndim == 3:
        first, last = array.shape[0] in (1, 3, 4), array.shape[-1] in (1, 3, 4)
        if not (first or last):
            raise MediaError(f"{name}: expected 1, 3 or 4 channels, (H, W, C) or (C, H, W)")
        if first and (channels_first or not last):
            array = np.moveaxis(array, 0, -1)
        if array.shape[-1] == 1:
            array = array[..., 0]
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise MediaError(f"{name}: expected (H, W), (H, W, C) or (C, H, W), none of them 0")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.dtype.kind not in "uif":
        raise MediaError(f"{name}: pixels of type {array.dtype} are not numbers")
    if not np.isfinite(array).all():
        raise MediaError(f"{name}: has pixels that are NaN or infinite")
    low, high = float(array.min()), float(array.max())
    top = 1.0 if array.dtype.kind == "f" else 65535.0 if array.dtype == np.uint16 else 255.0
    if low < 0 or high > top:
        raise MediaError(
            f"{name}: values from {low:g} to {high:g}; expected integers in 0-255 or "
            "floats in 0-1 (undo any normalisation first)"
        )
    if array.dtype.kind == "f":
        array = np.rint(array * 255)
    elif array.dtype == np.uint16:
        array = np.rint(array / 257)
    return Image.fromarray(np.ascontiguousarray(array.astype(np.uint8)))


def _to_numpy(source: Any) -> NDArray[Any]:
    if not hasattr(source, "detach"):
        return np.asarray(source)
    # numpy has no bfloat16, so floating tensors are widened before they are handed over.
    tensor = source.detach().cpu()
    return np.asarray(tensor.float() if tensor.is_floating_point() else tensor)


def _fetch(url: str, name: str, allow_urls: bool) -> bytes:
    if not allow_urls:
        raise MediaError(f"{name}: is a URL; pass allow_urls=True to let the scorer download it")
    content = bytearray()
    deadline = time.monotonic() + URL_MAX_SECONDS
    try:
        with urllib.request.urlopen(url, timeout=10.0) as response:
            while chunk := response.read1(2**16):
                content += chunk
                if len(content) > URL_MAX_BYTES:
                    raise MediaError(f"{name}: larger than {URL_MAX_BYTES >> 20} MiB")
                if time.monotonic() > deadline:
                    raise MediaError(f"{name}: not downloaded within {URL_MAX_SECONDS:g} s")
            if response.length:  # what it announced and did not send
                raise http.client.HTTPException(f"{response.length} bytes are missing")
    except MediaError:  # which is a ValueError
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise MediaError(f"{name}: cannot be downloaded: {error}") from error
    return bytes(content)


def _short(name: str, limit: int = 200) -> str:
    name = name.encode(errors="backslashreplace").decode()  # a file's name may be any bytes
    return name if len(name) <= limit else f"{name[: limit // 2]}...{name[-limit // 2 :]}"


def check_texts(texts: str | Iterable[str], what: str = "texts") -> list[str]:
    """One string or a sequence of strings -> a list.

    Raises:
        InputError: for an empty list, or an entry that is no string or that no encoding holds; the
            message says which.
    """
    if isinstance(texts, str):
        _check_characters(texts, what)
        return [texts]
    if not isinstance(texts, Iterable) or isinstance(texts, (bytes, bytearray)):
        raise InputError(f"{what}: {type(texts).__name__} is not a string or a list of strings")
    listed: Sequence[Any] = list(texts)
    if not listed:
        raise InputError(f"{what} is empty; pass at least one")
    for index, text in enumerate(listed):
        if not isinstance(text, str):
            raise InputError(f"{what}[{index}] is {type(text).__name__}, not a string: {text!r}")
        _check_characters(text, f"{what}[{index}]")
    return list(listed)


def _check_characters(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} has {text[error.start]!r} at position {error.start}, half of a character or a "
            "byte that is not UTF-8: no encoding holds it. Read the text anew as what it is"
        ) from None
