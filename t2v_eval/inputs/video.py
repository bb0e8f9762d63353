"""Frames of videos: which ones, and decoding them with PyAV.

    from t2v_eval.inputs.video import frames
    score = scorer(images=frames("clip.mp4", 16), texts="a dog runs").mean(0)

A scorer of pictures has no score of its own for a video: published figures average those of frames,
of all or of the first, as the benchmark says. The mean does not know in which order frames come.
A model that reads several frames together is shown a `Clip`, of the frames that a `Sampling` takes.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from t2v_eval.errors import InputError, MediaError, MissingPackageError
from t2v_eval.inputs.decode_budget import BUDGET, check_size
from t2v_eval.inputs.image_file import decoding, in_words, open_image
from t2v_eval.inputs.media import Media, Video, decode
from t2v_eval.utils.regular_file import File, digest, digest_of, open_regular

HELD = 1 << 29  # bytes of pixels that are kept until they are asked for
FRAME_BYTES = 12  # a pixel of a frame that is being decoded: as the codec has it, RGB, turned
# Containers that hold their content themselves. Playlists (HLS, DASH, concat) name other files and
# addresses, which FFmpeg would open.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,live_flv,ogg,mpeg,mpegts,mpegvideo,m4v,h264,"
    "hevc,vvc,av1,obu,ivf,gif,apng,mjpeg,mxf,nut,rm,dv,yuv4mpegpipe,webp_anim"
)
REMEDY = "fetch it again, or make it anew with ffmpeg"
CHOICES = ("uniform", "nearest", "middle", "start", "steps", "first")
SECONDS = "seconds"


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video a model is shown.

    Args:
        count: how many; a video that has fewer gives all it has.
        fps: how many of a second, in the place of `count`; then at least `least` and at most `most`
            of them, rounded down to a multiple of `multiple` where there are so many.
        choose: see `indices`. Or "seconds", as mPLUG-Owl3: every n-th frame, where n of them
            are nearly 1 / `fps` seconds, and of more than `most` such frames the middles of equal
            parts; `least` and `multiple` are not heeded.
    """

    count: int = 16
    fps: float | None = None
    least: int = 1
    most: int = 768
    multiple: int = 1
    choose: str = "uniform"

    def __post_init__(self) -> None:
        numbers = self.count, self.least, self.most, self.multiple
        whole = all(type(n) is int and n > 0 for n in numbers)
        rate = self.fps is None or (type(self.fps) in (int, float) and self.fps > 0)
        known = CHOICES if self.fps is None else (*CHOICES, SECONDS)
        if not (whole and rate and self.choose in known):
            raise InputError(
                f"{self}: use whole numbers of 1 or more, fps above 0, and for choose "
                f"{' or '.join(map(repr, CHOICES))}, or with fps {SECONDS!r}"
            )

    def indices(self, total: int, fps: float) -> list[int]:
        """Which of `total` frames, `fps` of which make a second.

        >>> Sampling(fps=2.0, multiple=2).indices(90, 30.0)
        [0, 17, 35, 53, 71, 89]
        """
        if self.fps is None:
            return indices(total, self.count, self.choose)
        if self.choose == SECONDS:
            found = range(0, total, max(1, round(fps / self.fps)))
            gap = max(1.0, len(found) / self.most)
            return [found[int(k * gap + gap / 2)] for k in range(min(len(found), self.most))]
        most = min(self.most, total) // self.multiple * self.multiple
        least = -(-self.least // self.multiple) * self.multiple
        wanted = min(max(total / fps * self.fps, least), most)
        return indices(total, max(1, int(wanted // self.multiple * self.multiple)), self.choose)


def sampling_of(frames: int | Mapping[str, Any] | None) -> Sampling:
    """Which frames are taken, as a card or a user says it.

    Raises:
        InputError: it says something else.
    """
    if isinstance(frames, bool) or not (frames is None or isinstance(frames, (int, Mapping))):
        raise InputError(
            f'frames={frames!r}: use a whole number, or a table such as {{"fps": 2.0, "most": 64}}'
        )
    told = {"count": frames} if isinstance(frames, int) else dict(frames or {})
    if unknown := told.keys() - {f.name for f in fields(Sampling)}:
        known = ", ".join(f.name for f in fields(Sampling))
        raise InputError(
            f"frames={frames!r}: no {', '.join(sorted(map(str, unknown)))}; use {known}"
        )
    return Sampling(**told)


class Clip(NamedTuple):
    """Frames of a video in their order, where they were in it, and how long it was."""

    frames: list[Image.Image]
    places: list[int]
    total: int
    fps: float

    @property
    def times(self) -> list[float]:
        """When each frame is seen, in seconds from the start, as if all lasted as long."""
        return [n / self.fps for n in self.places]

    @property
    def seconds(self) -> float:
        return self.total / self.fps


def clip(
    video: Video,
    sampling: Sampling,
    load: Callable[[Media], Image.Image] = decode,
    fit: Callable[[Image.Image, int], Image.Image] = lambda frame, _: frame,
) -> Clip:
    """What a model is shown of a video.

    Args:
        load: how frames that are pictures of their own are opened.
        fit: makes a frame smaller, one of so many, as soon as it is decoded: hundreds of whole ones
            would fill the memory.

    Raises:
        MissingPackageError, MediaError: as `frames`.
    """
    source = video.source
    with BUDGET.lease(), decoding(video.name, remedy=REMEDY):
        if isinstance(source, tuple):
            total, fps = len(source), video.fps or 1.0
            wanted = sampling.indices(total, fps)
            shown = [fit(load(source[n]), len(wanted)) for n in wanted]
        else:
            total, fps, pixels = _count(source, video.name)
            wanted = sampling.indices(total, fps)
            BUDGET.reserve(FRAME_BYTES * pixels)
            decoded = _decode(
                source,
                video.name,
                wanted,
                lambda frame: fit(frame, len(wanted)),
                keep=BUDGET.reserve,
            )
            shown = [decoded[n] for n in wanted]
    return Clip(shown, wanted, total, fps)


def frames(
    path: str | Path, most: int, choose: str = "uniform", *, jpeg: bool = False
) -> list[Media]:
    """Frames of a video as pictures, which are decoded together when the first one is needed.

    Args:
        most: how many; a video that has fewer gives all it has.
        choose: which, see `indices`.
        jpeg: round each as a JPEG file of Pillow's default quality does, for figures that were
            made from such files.

    Raises:
        MissingPackageError: PyAV is not installed.
        MediaError: not a video, or one that is cut; what is broken inside is found when it is
            decoded, and raised then.
    """
    path = Path(path)
    try:
        file = File.of(path)
        whole = digest_of(path)
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or in_words(error)
        raise MediaError(f"{path}: the video cannot be read: {words}") from error
    total, _, pixels = _count(file, str(path))
    wanted = indices(total, most, choose)
    video = _Held(file, wanted, pixels)
    form = b"jpeg" if jpeg else b""
    return [
        Media(digest(f"{whole} {n}".encode(), form), f"{path}, frame {n}", partial(load, n))
        for n in wanted
        for load in (video.jpeg if jpeg else video.frame,)
    ]


def strip(path: str | Path, count: int = 8, gap: int = 10) -> Media:
    """A video as one picture: frames side by side, with black between them.

    What t2v_metrics 3.0 shows scorers of pictures, such as CLIP-FlanT5. Its frames are rounded as
    JPEG files, stand in whatever order a folder lists them, and leave out what remains after equal
    steps; here they do not.

    Args:
        count: how many frames, at the starts of parts of equal length; all of a shorter video.
        gap: how many pixels are between two.

    Raises:
        MissingPackageError, MediaError: as `frames`.
    """
    video = frames(path, count, "start")

    def load() -> Image.Image:
        with BUDGET.lease():
            return side_by_side()

    def side_by_side() -> Image.Image:
        shown = [frame.load() for frame in video]
        width = sum(one.width for one in shown) + gap * (len(shown) - 1)
        whole = Image.new("RGB", (width, max(one.height for one in shown)))
        left = 0
        for one in shown:
            whole.paste(one, (left, 0))
            left += one.width + gap
        return whole

    key = digest(f"strip {gap} {' '.join(one.key for one in video)}".encode())
    return Media(key, f"{path}, a strip of {len(video)} frames", load)


def indices(total: int, most: int, choose: str = "uniform") -> list[int]:
    """Which frames, from 0, of a video of `total`: at most `most`, in their order.

    uniform: the first, the last and what is evenly between, rounded down; a single one is that in
        the middle. As `numpy.linspace`.
    nearest: the same, rounded to the nearest, and a single one is the first. As qwen_vl_utils.
    middle: the middles of parts of equal length. As InternVL.
    start: the starts of parts of equal length. As Molmo 2.
    steps: the same, the length rounded down. As t2v_metrics asks services.
    first: from the start.

    >>> indices(10, 4), indices(10, 4, "first"), indices(3, 4), indices(9, 1)
    ([0, 3, 6, 9], [0, 1, 2, 3], [0, 1, 2], [4])
    >>> indices(12, 4, "nearest"), indices(10, 4, "middle"), indices(10, 4, "start")
    ([0, 4, 7, 11], [1, 3, 5, 8], [0, 2, 5, 7])
    """
    if most < 1 or choose not in CHOICES:
        raise InputError(
            f"{most} frames by {choose!r}: use 1 or more, by {' or '.join(map(repr, CHOICES))}"
        )
    if choose == "first" or total <= most:
        return list(range(min(total, most)))
    last = total - 1
    if choose == "middle":
        part = last / most
        return [int(part / 2 + np.round(part * k)) for k in range(most)]
    if choose == "start":
        return [k * total // most for k in range(most)]
    if choose == "steps":
        return [k * (total // most) for k in range(most)]
    if choose == "nearest":
        return [round(k * last / max(1, most - 1)) for k in range(most)]
    if most == 1:
        return [last // 2]
    return [k * last // (most - 1) for k in range(most)]


class _Held:
    """The frames that are wanted of one video. Each is given away once: then it is decoded anew.

    Where not all of them may be held at once, those from the first that is missing are.
    """

    def __init__(self, file: File, wanted: Sequence[int], pixels: int) -> None:
        self.file, self.wanted = file, wanted
        self._lock = Lock()
        self.held: dict[int, Image.Image] = {}
        self.pixels = pixels
        self._broken: MediaError | None = None
        self._bytes = 4 * pixels * len(wanted)

    def frame(self, n: int) -> Image.Image:
        with BUDGET.lease():
            # Before the lock, so that whoever holds it never waits for memory.
            if n not in self.held and not self._broken:
                BUDGET.reserve(min(HELD, self._bytes) + FRAME_BYTES * self.pixels)
            with self._lock:
                return self._frame(n)

    def _frame(self, n: int) -> Image.Image:
        if self._broken:
            raise self._broken
        held = self.held
        if n not in held:
            fits = self._bytes <= HELD
            wanted = self.wanted if fits else self.wanted[self.wanted.index(n) :]
            most = None if fits else HELD
            try:
                held = self.held = _decode(self.file, str(self.file.path), wanted, _same, most)
            except MediaError as error:
                self._broken = error
                raise
            self.pixels = held[n].width * held[n].height
            _hold(self)
        return held.pop(n)

    def size(self) -> int:
        """Bytes of the frames that are held, roughly: another thread may be taking one."""
        return 3 * len(self.held) * self.pixels

    def jpeg(self, n: int) -> Image.Image:
        stream = io.BytesIO()
        self.frame(n).save(stream, "JPEG")
        return open_image(stream.getvalue(), f"{self.file.path}, frame {n}")


_held: deque[_Held] = deque()
_holding = Lock()


def _hold(video: _Held) -> None:
    """Let go of the frames of earlier videos where there are too many, so that memory is bounded.

    Threads that decode beside a model ask for the frames of a few videos in turn.
    """
    with _holding:
        _held.append(video)
        while len(_held) > 1 and sum(one.size() for one in _held) > HELD:
            _held.popleft().held = {}
        while _held and not _held[0].held:
            _held.popleft()


def _count(source: File | bytes, name: str) -> tuple[int, float, int]:
    """How many frames a video shows, how many in a second and of how many pixels; decodes none."""
    sizes, shown, end = 0, 0, 0.0
    with _opened(source, name) as (container, stream):
        width, height = stream.codec_context.width, stream.codec_context.height
        _check_frame(name, width, height, 0)
        for packet in container.demux():
            if packet.pts is not None and packet.size:
                last = (packet.pts + (packet.duration or 0)) * packet.time_base
                end = max(end, float(last))
            if packet.stream_index == stream.index and packet.size:
                sizes, shown = sizes + 1, shown + (not packet.is_discard)
        rate = float(stream.average_rate or stream.guessed_rate or 1)
        seconds = (container.duration or 0) / 1e6  # in millionths, as FFmpeg has it
        missing = seconds - (end - (container.start_time or 0) / 1e6)
    # An edit leaves out packets that a container still counts: what is cut ends too early as well.
    few = sizes < stream.frames and (not seconds or missing > 1.5 / rate)
    if few or (not stream.frames and missing > max(0.5, 0.05 * seconds)):
        raise MediaError(
            f"{name}: the video is cut: it has {sizes} of {stream.frames or 'more'} frames; "
            "fetch it again"
        )
    if not shown:
        raise MediaError(f"{name}: the video has no frames; fetch it again")
    return shown, rate, width * height


def _same(frame: Image.Image) -> Image.Image:
    return frame


def _decode(
    source: File | bytes,
    name: str,
    wanted: Sequence[int],
    fit: Callable[[Image.Image], Image.Image] = _same,
    most: int | None = None,
    keep: Callable[[int], None] = lambda _: None,
) -> dict[int, Image.Image]:
    """The frames that are wanted, each fitted as soon as it is decoded.

    Args:
        most: bytes of pixels after which decoding stops, with at least one frame.
        keep: is told how many bytes a frame takes that is kept.
    """
    decoded: dict[int, Image.Image] = {}
    last, size, places = -1, 0, frozenset(wanted)
    with _opened(source, name) as (container, stream):
        for last, frame in enumerate(container.decode(stream)):
            if frame.is_corrupt:
                raise MediaError(f"{name}: frame {last} of the video is broken; fetch it again")
            _check_frame(name, frame.width, frame.height, size)
            if last in places:
                image = frame.to_image()
                turned = image.rotate(frame.rotation, expand=True) if frame.rotation else image
                fitted = decoded[last] = fit(turned)
                size += 4 * fitted.width * fitted.height
                keep(4 * fitted.width * fitted.height)
            if len(decoded) == len(wanted) or (most is not None and size >= most):
                return decoded
    raise MediaError(f"{name}: only {last + 1} frames of the video can be decoded; fetch it again")


def _check_frame(name: str, width: int, height: int, kept: int) -> None:
    """Refuse a video whose frames, with the bytes that are kept of it, would fill the memory."""
    pixels, limit = width * height, Image.MAX_IMAGE_PIXELS
    what = f"a video of {width} x {height} pixels"
    if limit is not None and pixels > 2 * limit:  # as Pillow does with pictures
        raise MediaError(
            f"{name}: {what} exceeds the limit of {2 * limit} pixels a frame. If you trust the "
            "file, raise PIL.Image.MAX_IMAGE_PIXELS"
        )
    remedy = "take fewer frames (frames=) or make it smaller"
    check_size(name, kept + FRAME_BYTES * pixels, what, remedy)


@contextmanager
def _opened(source: File | bytes, name: str) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream; whatever is raised inside is a MediaError.

    So is a file that is no more the one whose content was hashed, before or after.
    """
    try:
        import av
    except ImportError as error:
        raise MissingPackageError(
            f"{name}: videos need the package 'av': pip install 't2v-eval[video]'"
        ) from error
    with decoding(name, "not a video that can be decoded", REMEDY), _stream(source, name) as opened:
        try:
            with av.open(
                opened, metadata_errors="replace", options={"format_whitelist": CONTAINERS}
            ) as container:
                if not container.streams.video:
                    raise MediaError(f"{name}: no video can be found in it; fetch it again")
                yield container, container.streams.video[0]
        except av.error.FFmpegError as error:
            raise MediaError(
                f"{name}: not a video that can be decoded: {error.strerror}; {REMEDY}"
            ) from error


@contextmanager
def _stream(source: File | bytes, name: str) -> Iterator[BinaryIO]:
    """The content, which is that whose key is known, before and after it is read."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    source.check(name)
    with open_regular(source.path) as stream:
        source.check(name)
        yield stream
        source.check(name)
