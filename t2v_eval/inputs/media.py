"""Open images and videos as `Media`: a content key, a name for messages, and a function to load.

The key is a hash of the content, so that an image passed as a path, as bytes, or twice in one call
is decoded and encoded once. Loading is deferred to threads beside the model. `inputs.video` chooses
which frames of a `Video` a model reads.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, Union
from urllib.parse import urlsplit

from numpy.typing import NDArray
from PIL import Image

from t2v_eval.errors import InputError, MediaError
from t2v_eval.inputs.addresses import is_address, read_address
from t2v_eval.inputs.decode_budget import BUDGET, SpareBytes, check_size, spare_bytes
from t2v_eval.inputs.image_file import (
    FORMATS,
    decoding,
    has_16_bits,
    open_image,
    orientation_of,
    reserve_pixels,
    to_upright_rgb,
    video_kind,
)
from t2v_eval.inputs.open_file import content_of, is_open, name_of_open
from t2v_eval.inputs.pixel_arrays import array_to_pil
from t2v_eval.inputs.urls import AllowUrls, download
from t2v_eval.utils.printable import redact_userinfo
from t2v_eval.utils.regular_file import KEYS, File, changed, digest, digest_of, read_bytes

if TYPE_CHECKING:
    import torch

    from t2v_eval.inputs.fast_jpeg import Resizing

MediaLike: TypeAlias = Union[
    str,
    "os.PathLike[str]",
    bytes,
    BinaryIO,
    Image.Image,
    "NDArray[Any]",
    "torch.Tensor",
    "Media",
    "Edit",
]

VIDEOS = tuple(
    ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .flv .ts .m2ts .3gp .ogv .h264 .h265".split()
)

_BROKEN = "broken:"  # how the key of what could not be opened begins

Roles: TypeAlias = tuple[str, ...]  # of images that are one input; empty for a single image
PAIR: Roles = ("first", "second")
EDIT: Roles = ("source", "result")
EDIT_PAIR: Roles = ("source", *PAIR)  # two edits of an image
SCORERS = {  # of inputs with these roles
    PAIR: "scorers of pairs have `prefer(image_a, image_b, text)`",
    EDIT: "scorers of kind 'edit' take it (`t2v-eval list models --kind edit`)",
}


@dataclass(frozen=True, slots=True)
class Media:
    """An image.

    Attributes:
        key: hash of its content.
        name: its name in messages.
        load: opens or decodes it; a function of a module with its arguments bound, so that another
            process can be sent a `Media`, and reads the file of a path itself.
        shared: whether `load` returns an object of the caller, which must not be changed.

    >>> media = open_media(Image.new("RGB", (4, 2)))
    >>> media.name, media.load().size, len(media.key)
    ('image (4x2 PIL image)', (4, 2), 32)
    """

    key: str
    name: str
    load: Callable[[], Image.Image] = field(compare=False)
    shared: bool = field(default=False, compare=False, kw_only=True)

    @classmethod
    def broken(cls, name: str, error: MediaError) -> Media:
        """Return an image that could not be opened; loading it raises `error`."""
        return cls(f"{_BROKEN}{error}", name, partial(_raise, error))

    @property
    def is_broken(self) -> bool:
        """Whether it could not be opened, so that loading it raises."""
        return self.key.startswith(_BROKEN)

    def crop(self, left: int, top: int, right: int, bottom: int) -> Media:
        """Return the part inside a box of pixels, in RGB."""
        box = left, top, right, bottom
        name = f"{self.name}, box {box}"
        load = partial(_load_crop, self, box, name)
        return Media(digest(f"{self.key} {box}".encode()), name, load)


@dataclass(frozen=True, slots=True)
class Video(Media):
    """A video: one input of a model that reads several frames together.

    Loading it as an image raises; scorers of images score `video.frames` of it.

    Attributes:
        source: a file, its content, or frames in order.
        fps: frames per second of frames; a file has its own.

    >>> video = Video.of([Image.new("RGB", (4, 4), c) for c in ("red", "blue")], fps=2)
    >>> video.name, video.fps
    ('frames (a video of 2)', 2)
    """

    source: File | bytes | tuple[Media, ...] = field(compare=False)
    fps: float | None = None

    @classmethod
    def of(cls, frames: Iterable[MediaLike], fps: float = 1.0, name: str = "frames") -> Video:
        """Make a video of images in order, `fps` of which make a second.

        Raises:
            InputError: there is no frame, or a wrong `fps`.
            MediaError: a frame cannot be opened.
        """
        if type(fps) not in (int, float) or not 0 < fps < float("inf"):
            raise InputError(f"`fps={fps!r}`: use a number of frames per second above 0")
        opened = tuple(open_media(f, f"{name}[{n}]") for n, f in enumerate(as_list(frames, name)))
        if videos := [frame.name for frame in opened if isinstance(frame, Video)]:
            raise InputError(
                f"{videos[0]} is a video itself: Video.of takes images; pass the file as it is"
            )
        content = f"{fps!r} {' '.join(frame.key for frame in opened)}"
        return cls._new(digest(content.encode()), f"{name} (a video of {len(opened)})", opened, fps)

    @classmethod
    def _new(
        cls,
        content: str,
        name: str,
        source: File | bytes | tuple[Media, ...],
        fps: float | None = None,
    ) -> Video:
        load = partial(_refuse_video, name)
        # Not the key of the same file as an image, of which there may be scores too.
        return cls(digest(f"video {content}".encode()), name, load, source, fps)


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit, which scorers of edits take in the place of an image; the text says what to edit.

    Attributes:
        source: the image before the edit, of any type that `open_media` accepts.
        result: the image after it.

    >>> red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    >>> open_media(Edit(red, blue)).roles
    ('source', 'result')
    """

    source: MediaLike
    result: MediaLike


@dataclass(frozen=True, slots=True)
class ImageGroup(Media):
    """Several images that are one input of a scorer, in order.

    Loading it as an image raises: only scorers whose `image_roles` are its roles take it.

    Attributes:
        images: the images.
        roles: the role of each, such as "source" and "result".

    >>> red, blue = (open_media(Image.new("RGB", (4, 4), name)) for name in ("red", "blue"))
    >>> pair = ImageGroup.of(first=red, second=blue)
    >>> pair.key == f"{red.key}+{blue.key}", pair.roles == PAIR
    (True, True)
    """

    images: tuple[Media, ...] = field(compare=False)
    roles: Roles

    @classmethod
    def of(cls, **images: Media) -> ImageGroup:
        """Make a group of images by their roles, in order; its key is made of theirs."""
        media, roles = tuple(images.values()), tuple(images)
        keys = "+".join(image.key for image in media)
        name = " and ".join(image.name for image in media)
        # The order alone tells the images of a pair apart.
        key = keys if roles == PAIR else f"{' '.join(roles)} {keys}"
        return cls(key, name, partial(_refuse_group, name, roles), media, roles)

    @property
    def is_broken(self) -> bool:
        """Whether one of its images could not be opened."""
        return any(image.is_broken for image in self.images)


def roles_of(media: Media) -> Roles:
    """Return the roles of images that are one input; empty for a single image or video.

    >>> roles_of(open_media(Image.new("RGB", (4, 2))))
    ()
    """
    return media.roles if isinstance(media, ImageGroup) else ()


def _raise(error: MediaError) -> Image.Image:
    raise error


def _load_file(file: File, spare: SpareBytes | None, key: str, name: str) -> Image.Image:
    with BUDGET.lease():
        BUDGET.reserve(file.size)
        content = spare.content if spare is not None and file.is_unchanged() else None
        if content is None:
            content = read_bytes(file.path)
            if digest(content) != key:
                KEYS.forget(file)  # or to run again would find it again
                raise changed(name)
        return open_image(content, name)


def _load_address(
    address: str, allow: AllowUrls, spare: SpareBytes, key: str, name: str
) -> Image.Image:
    content = spare.content
    if content is None:
        content = read_address(address, name, allow)
        if digest(content) != key:
            raise changed(name)
    return open_image(content, name)


def _load_crop(media: Media, box: tuple[int, int, int, int], name: str) -> Image.Image:
    with BUDGET.lease():
        image = media.load()
        reserve_pixels(image, name)
        return image.convert("RGB").crop(box)


def _load_shared(image: Image.Image) -> Image.Image:
    return image


def _refuse_video(name: str) -> Image.Image:
    raise MediaError(
        f"{name}: is a video, and this scorer looks at one image at a time: score frames "
        "of it, `t2v_eval.inputs.video.frames(path, 16)`, and take the mean"
    )


def _refuse_group(name: str, roles: Roles) -> Image.Image:
    remedy = SCORERS.get(roles, "load each of its `images`")
    raise MediaError(f"{name}: are {len(roles)} images ({', '.join(roles)}), not one: {remedy}")


def _no_image() -> Image.Image:
    raise MediaError("there is no image: the prompt is about a text alone")


NO_IMAGE = Media("no image", "no image", _no_image)
"""In place of an image, for a prompt to a model that writes about a text alone."""


def as_list(images: MediaLike | Iterable[MediaLike], what: str = "images") -> list[MediaLike]:
    """Convert one image, a sequence of images or a 4-D batch to a list.

    >>> as_list("a.png"), as_list(["a.png", "b.png"])
    (['a.png'], ['a.png', 'b.png'])

    Raises:
        InputError: an empty list, or not an image.
    """
    if isinstance(
        images, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, Media, Edit)
    ):
        return [images]  # type: ignore[list-item]
    if is_open(images):  # before it is taken for a sequence of lines
        return [images]  # type: ignore[list-item]
    ndim = getattr(images, "ndim", None)
    if isinstance(ndim, int):
        if ndim in (2, 3):
            return [images]  # type: ignore[list-item]
        if ndim != 4:
            raise InputError(
                f"{what}: an array of {ndim} dimensions is neither an image (2 or 3) "
                "nor a batch of images (4)"
            )
    try:
        listed = list(images)
    except TypeError:
        raise InputError(
            f"{what}: {type(images).__name__} is not an image or a list of images; "
            "pass paths, bytes, PIL images, arrays or tensors"
        ) from None
    if not listed:
        raise InputError(f"{what} is empty; pass at least one")
    return listed


def parts_of(source: MediaLike) -> tuple[MediaLike, ...]:
    """Return the images that an input consists of: those of an edit, or itself.

    >>> parts_of(Edit("before.png", "after.png")), parts_of("a.png")
    (('before.png', 'after.png'), ('a.png',))
    """
    return (source.source, source.result) if isinstance(source, Edit) else (source,)


def name_of(source: MediaLike) -> str:
    """Return the path or URL of an image, or the name of an open file; "" for others.

    >>> name_of("https://user:secret@example.com/cat.png")
    'https://***@example.com/cat.png'
    """
    if isinstance(source, Media):
        return source.name
    if isinstance(source, Edit):
        return " -> ".join(filter(None, (name_of(source.source), name_of(source.result))))
    if isinstance(source, (str, os.PathLike)):
        return redact_userinfo(os.fsdecode(source))
    return name_of_open(source) if is_open(source) else ""


def open_media(source: MediaLike, position: str = "image", allow_urls: AllowUrls = False) -> Media:
    """Hash an image or video and return its `Media`; `load()` decodes it later.

    Args:
        source: path, URL or address of another file system (only with `allow_urls`), bytes of an
            image or video file, a file that is open for reading bytes (read from its start), PIL
            image, numpy array (H, W), (H, W, C)
            or torch tensor (C, H, W), with C in 1, 3, 4; integers 0-255 or floats in [0, 1]; a
            `Media` is returned unchanged, and an `Edit` becomes an `ImageGroup`. A path or URL with
            the suffix of a video (.mp4, .mov, .avi, .mkv, .webm ...) becomes a `Video`, and so do
            bytes of one.
        position: its name in messages, for example ``images[3]``.
        allow_urls: whether URLs are downloaded: from public addresses, or with "private" from
            those of this machine and its networks too; with "any", addresses of other file systems
            are read as well, such as ``s3://bucket/a.png``.

    Raises:
        MediaError: missing, not a regular file, empty, of an unknown type, NaN or out of range.

    >>> image = Image.new("L", (4, 2))
    >>> open_media(image).key == open_media(image.copy()).key
    True
    """
    if isinstance(source, Media):
        return source
    with decoding(position, "cannot be read", "pass a path, bytes or a PIL image"):
        return _open(source, position, allow_urls)


def _open(source: Any, position: str, allow_urls: AllowUrls) -> Media:
    if isinstance(source, Edit):
        sources = {role: getattr(source, role) for role in EDIT}
        return ImageGroup.of(
            **{r: open_media(s, f"{position}.{r}", allow_urls) for r, s in sources.items()}
        )
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        name = f"{position} ({_short(str(path))})"
        if isinstance(path, str) and path.startswith(("http://", "https://")):
            content = download(path, name, allow_urls)
            if urlsplit(path).path.lower().endswith(VIDEOS):
                return Video._new(digest(content), name, content)
            return _from_bytes(content, name)
        if isinstance(path, str) and is_address(path):
            return _from_address(path, name, allow_urls)
        return _from_path(Path(path), name)
    if isinstance(source, (bytes, bytearray, memoryview)):
        content = bytes(source)
        return _from_bytes(content, f"{position} ({len(content)} bytes)")
    if isinstance(source, Image.Image):
        return _from_pil(source, f"{position} ({source.size[0]}x{source.size[1]} PIL image)")
    if is_open(source):
        return _from_open_file(source, position)
    if hasattr(source, "__array__") or hasattr(source, "detach"):
        name = f"{position} ({type(source).__name__} of shape {tuple(source.shape)})"
        return _from_pil(array_to_pil(source, name), name)
    raise MediaError(
        f"{position}: {type(source).__name__} is not an image; "
        "pass a path, bytes, a file open for reading bytes, a PIL image, a numpy array or a torch "
        "tensor"
    )


def embedded(content: bytes, name: str) -> Media:
    """Open an image embedded in a table, named by its path there, or its row.

    If it cannot be opened, loading it raises.

    >>> embedded(b"", "row 3").is_broken
    True
    """
    try:
        return _from_bytes(content, name)
    except MediaError as error:
        return Media.broken(name, error)


def open_list(
    sources: Sequence[MediaLike], allow_urls: AllowUrls = False, skip_errors: bool = False
) -> list[Media]:
    """Open each source with `open_media`; messages name them images[0], images[1] and so on.

    Args:
        sources: the images.
        allow_urls: as for `open_media`.
        skip_errors: whether an image that cannot be opened raises only when it is loaded.

    >>> [media.name for media in open_list([Image.new("RGB", (4, 2))])]
    ['images[0] (4x2 PIL image)']
    """
    media = []
    for n, source in enumerate(sources):
        try:
            media.append(open_media(source, f"images[{n}]", allow_urls))
        except MediaError as error:
            if not skip_errors:
                raise
            media.append(Media.broken(f"images[{n}]", error))
    return media


def decode(media: Media, mode: str = "seen", resizing: Resizing | None = None) -> Image.Image:
    """Decode an image; in mode "original" as it is stored, in the others to upright RGB.

    Args:
        media: the image.
        mode: "seen"; "original"; or "fast", which also resizes large JPEG files; see `fast_jpeg`.
        resizing: with "fast", how.

    Raises:
        MediaError: not an image, truncated, or too large to decode safely.

    >>> decode(open_media(Image.new("L", (4, 2)))).mode
    'RGB'
    """
    with BUDGET.lease(), decoding(media.name):
        image = media.load()
        reserve_pixels(image, media.name)
        if mode == "fast" and resizing is not None and not media.shared:
            from t2v_eval.inputs.fast_jpeg import resized_jpeg

            if (small := resized_jpeg(image, resizing)) is not None:
                return small
        image.load()
        if mode == "original":
            return image
        rgb = to_upright_rgb(image)
        return image.copy() if rgb is image and media.shared else rgb


def _from_path(path: Path, name: str) -> Media:
    is_video = path.suffix.lower() in VIDEOS
    since = time.time_ns()
    try:
        file = File.snapshot(path)
        if not is_video:
            check_size(name, file.size, f"a file of {file.size} bytes", "make it smaller")
        key, spare = KEYS.get(file), None
        if key is None:
            with File.opened(path) as (file, stream):
                key, spare = _hashed(file, stream, keep=not is_video)
            KEYS.remember(file, key, since)
    except FileNotFoundError:
        raise MediaError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise MediaError(f"{name}: is a directory, not an image") from None
    except OSError as error:
        raise MediaError(f"{name}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise MediaError(f"{name}: cannot be read: {error}") from error
    if key == digest():
        raise MediaError(f"{name}: the file is empty (0 bytes)")
    if is_video:
        return Video._new(key, name, file)
    return Media(key, name, partial(_load_file, file, spare, key, name))


def _from_address(address: str, name: str, allow: AllowUrls) -> Media:
    content = read_address(address, name, allow)
    if video_kind(content) or urlsplit(address).path.lower().endswith(VIDEOS):
        return Video._new(digest(content), name, content)
    key, spare = _from_bytes(content, name).key, BUDGET.spare(content)
    # Where there is no room, read again: millions of images would fill the memory.
    return Media(key, name, partial(_load_address, address, allow, spare, key, name))


def _hashed(file: File, stream: BinaryIO, *, keep: bool) -> tuple[str, SpareBytes | None]:
    """Hash a file; return its key, and its content if that may be kept and fits into memory."""
    if not keep or file.size > spare_bytes():
        return digest_of(stream), None
    with BUDGET.lease():
        BUDGET.reserve(file.size)
        content = stream.read()
        key = digest(content)
    return key, BUDGET.spare(content)


def _from_bytes(content: bytes, name: str) -> Media:
    if not content:
        raise MediaError(f"{name}: empty (0 bytes)")
    if video_kind(content):
        return Video._new(digest(content), name, content)
    return Media(digest(content), name, partial(open_image, content, name))


def _from_open_file(source: Any, position: str) -> Media:
    file_name = name_of_open(source)
    name = f"{position} ({_short(file_name)})" if file_name else position
    with decoding(name, "cannot be read", "open it again for reading bytes, or pass its path"):
        content = content_of(source, name)
    return _from_bytes(content, name if file_name else f"{position} ({len(content)} bytes)")


def _from_pil(image: Image.Image, name: str) -> Media:
    if getattr(image, "tile", None) and image.format and image.format not in FORMATS:
        raise MediaError(
            f"{name}: is a {image.format} file, which is not decoded here: convert it to PNG or "
            "JPEG, or pass it as image.convert('RGB')"
        )
    with BUDGET.lease(), decoding(name):
        reserve_pixels(image, name)
        image.load()
        orientation = orientation_of(image)
        header = f"{image.mode}{image.size}{image.info.get('transparency')}{orientation}"
        header += " of 16 bits" if has_16_bits(image) else ""
        palette = image.palette.tobytes() if image.palette else b""
        key = digest(header.encode(), palette, image.tobytes())
    return Media(key, name, partial(_load_shared, image), shared=True)


def _short(name: str, limit: int = 200) -> str:
    # A file's name may be any bytes, a URL may hold a password.
    name = redact_userinfo(name.encode(errors="backslashreplace").decode())
    return name if len(name) <= limit else f"{name[: limit // 2]}...{name[-limit // 2 :]}"


def check_texts(texts: str | Iterable[str], what: str = "texts") -> list[str]:
    """Convert one string or a sequence of strings to a list.

    >>> check_texts("a cat")
    ['a cat']

    Raises:
        InputError: an empty list, or an entry that is not a string or has lone surrogates.
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
            "byte that is not UTF-8: no encoding holds it. Read the text again in its own encoding"
        ) from None
