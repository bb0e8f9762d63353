"""Choose frames of videos and decode them with PyAV.

    from t2v_eval.inputs.video import frames
    score = scorer(images=frames("clip.mp4", 16), texts="a dog runs").mean(0)

A scorer of images has no score of its own for a video: published figures average the scores of its
frames, of all or of the first ones, as the benchmark says. The mean ignores the order of frames.
A model that reads several frames together gets a `Clip`, whose frames a `Sampling` chooses.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from t2v_eval.errors import InputError, MediaError, MissingPackageError
from t2v_eval.inputs.decode_budget import BUDGET, check_size
from t2v_eval.inputs.image_file import decoding, error_message, open_image
from t2v_eval.inputs.media import Media, Video, decode
from t2v_eval.utils.regular_file import File, digest, digest_of, open_regular

CACHE_BYTES = 1 << 29  # bytes of decoded pixels that wait to be loaded
FRAME_BYTES = 12  # bytes a pixel while a frame is decoded: the codec's copy, RGB, and a rotated one
# Containers that hold their own content. Playlists (HLS, DASH, concat) name other files and URLs,
# which FFmpeg would open.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,live_flv,ogg,mpeg,mpegts,mpegvideo,m4v,h264,"
    "hevc,vvc,av1,obu,ivf,gif,apng,mjpeg,mxf,nut,rm,dv,yuv4mpegpipe,webp_anim"
)
REMEDY = "fetch it again, or encode it again with ffmpeg"
CHOICES = tuple(
    "uniform nearest repeated middle middle-frame centre start steps floor first".split()
)
SECONDS, ROUNDED = "seconds", "rounded"  # with frames per second alone


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video a model reads.

    The fields are options of cards and users (`frames={...}`), and appear in scorers' ids.

    Args:
        count: number of frames; all of a video that has fewer.
        fps: frames per second, instead of `count`; then at least `least` and at most `most` of
            them, rounded down to a multiple of `multiple` if the video has that many.
        choose: see `indices`. Or "seconds", as mPLUG-Owl3: every n-th frame, where n frames last
            about 1 / `fps` seconds, and of more than `most` such frames the middles of equal
            segments; `least` and `multiple` are ignored. Or "rounded", as VideoReward: "nearest" of
            a number that is rounded to the nearest multiple, half to the even one.
        fill: a video of this many frames or more, but fewer than `count`, is filled up to `count`
            with its last frame; 0 fills none.

    Raises:
        InputError: a value out of range.

    >>> Sampling(count=4).indices(total=16, fps=8.0)
    [0, 5, 10, 15]
    >>> Sampling(count=4, fill=2).indices(total=3, fps=8.0)
    [0, 1, 2, 2]
    >>> Sampling(fps=2.0, multiple=2, choose="rounded").indices(total=90, fps=32.0)
    [0, 18, 36, 53, 71, 89]
    """

    count: int = 16
    fps: float | None = None
    least: int = 1
    most: int = 768
    multiple: int = 1
    choose: str = "uniform"
    fill: int = 0

    def __post_init__(self) -> None:
        numbers = self.count, self.least, self.most, self.multiple
        counts_ok = all(type(n) is int and n > 0 for n in numbers)
        fps_ok = self.fps is None or (type(self.fps) in (int, float) and self.fps > 0)
        choices = CHOICES if self.fps is None else (*CHOICES, SECONDS, ROUNDED)
        if not (counts_ok and fps_ok and self.choose in choices):
            raise InputError(
                f"{self}: use whole numbers of 1 or more, fps above 0, and for choose "
                f"{' or '.join(map(repr, CHOICES))}, or with fps {SECONDS!r} or {ROUNDED!r}"
            )
        if type(self.fill) is not int or self.fill < 0 or (self.fill and self.fps is not None):
            raise InputError(f"{self}: fill is a whole number of 0 or more, and 0 with fps")

    def with_count(self, count: int) -> Sampling:
        """Return the same with a number of frames of any video.

        >>> Sampling(fps=1.0, choose="seconds").with_count(8).choose  # the middles of segments
        'middle'
        """
        choose = {SECONDS: "middle", ROUNDED: "nearest"}.get(self.choose, self.choose)
        return replace(self, count=count, fps=None, choose=choose)

    def with_rate(self, fps: float) -> Sampling:
        """Return the same with a number of frames per second.

        >>> Sampling(count=4, fill=2).with_rate(2.0).fill
        0
        """
        return replace(self, fps=fps, fill=0)

    def indices(self, total: int, fps: float) -> list[int]:
        """Return the indices of the chosen frames of a video.

        Args:
            total: number of frames of the video.
            fps: its frames per second.

        >>> Sampling(fps=2.0, multiple=2).indices(90, 30.0)
        [0, 17, 35, 53, 71, 89]
        """
        if self.fps is None:
            chosen = indices(total, self.count, self.choose)
            missing = self.count - len(chosen) if 0 < self.fill <= total else 0
            return chosen + missing * chosen[-1:]
        if self.choose == SECONDS:
            candidates = range(0, total, max(1, round(fps / self.fps)))
            gap = max(1.0, len(candidates) / self.most)
            number = min(len(candidates), self.most)
            return [candidates[int(k * gap + gap / 2)] for k in range(number)]
        upper = min(self.most, total) // self.multiple * self.multiple
        lower = -(-self.least // self.multiple) * self.multiple
        frames = min(max(total / fps * self.fps, lower), upper)
        rounded = self.choose == ROUNDED
        parts = round(frames / self.multiple) if rounded else int(frames) // self.multiple
        choose = "nearest" if rounded else self.choose
        return indices(total, max(1, parts * self.multiple), choose)


def sampling_of(frames: int | Mapping[str, Any] | None) -> Sampling:
    """Convert the `frames` option of a card or user to a `Sampling`.

    >>> sampling_of(8).count, sampling_of({"fps": 2.0}).fps
    (8, 2.0)

    Raises:
        InputError: neither a number nor a table of fields of `Sampling`.
    """
    if isinstance(frames, bool) or not (frames is None or isinstance(frames, (int, Mapping))):
        raise InputError(
            f"`frames={frames!r}`: use a whole number, or a table such as "
            '{"fps": 2.0, "most": 64}'
        )
    settings = {"count": frames} if isinstance(frames, int) else dict(frames or {})
    names = [field.name for field in fields(Sampling)]
    if unknown := settings.keys() - set(names):
        raise InputError(
            f"`frames={frames!r}`: no {', '.join(sorted(map(str, unknown)))}; use "
            f"{', '.join(names)}"
        )
    return Sampling(**settings)


class Clip(NamedTuple):
    """Some frames of a video.

    Attributes:
        frames: the frames in order.
        places: their indices in the video.
        total: number of frames of the video.
        fps: its frames per second.

    >>> Clip([Image.new("RGB", (4, 4))], places=[6], total=12, fps=4.0).times
    [1.5]
    """

    frames: list[Image.Image]
    places: list[int]
    total: int
    fps: float

    @property
    def times(self) -> list[float]:
        """The time of each frame in seconds, as if all frames lasted equally long."""
        return [n / self.fps for n in self.places]

    @property
    def seconds(self) -> float:
        """The duration of the video."""
        return self.total / self.fps


def clip(
    video: Video,
    sampling: Sampling,
    load: Callable[[Media], Image.Image] = decode,
    fit: Callable[[Image.Image, int], Image.Image] = lambda frame, _: frame,
) -> Clip:
    """Decode the frames of a video that a model reads.

    Args:
        video: the video.
        sampling: which frames.
        load: decodes frames that are images of their own (`Video.of`).
        fit: resizes a frame, given the number of frames, as soon as it is decoded: hundreds of
            frames of full size would fill the memory.

    Raises:
        MissingPackageError, MediaError: as `frames`.

    >>> from t2v_eval.inputs.media import Video
    >>> video = Video.of([Image.new("RGB", (4, 4), c) for c in ("red", "blue")])
    >>> clip(video, Sampling(count=1)).total
    2
    """
    source = video.source
    with BUDGET.lease(), decoding(video.name, remedy=REMEDY):
        if isinstance(source, tuple):
            total, fps = len(source), video.fps or 1.0
            chosen = sampling.indices(total, fps)
            images = [fit(load(source[n]), len(chosen)) for n in chosen]
        else:
            total, fps, pixels = _count(source, video.name)
            chosen = sampling.indices(total, fps)
            BUDGET.reserve(FRAME_BYTES * pixels)
            decoded = _decode(
                source,
                video.name,
                chosen,
                lambda frame: fit(frame, len(chosen)),
                reserve=BUDGET.reserve,
            )
            images = [decoded[n] for n in chosen]
    return Clip(images, chosen, total, fps)


def frames(
    path: str | Path, num_frames: int, strategy: str = "uniform", *, jpeg: bool = False
) -> list[Media]:
    """Return frames of a video as images, which are decoded together when the first is loaded.

    Args:
        path: a video file.
        num_frames: how many; all of a video that has fewer.
        strategy: which ones, see `indices`.
        jpeg: re-encode each frame as JPEG of Pillow's default quality, for figures that were
            measured on such files.

    Raises:
        MissingPackageError: PyAV is not installed.
        MediaError: not a video, or a truncated one; damage inside is raised when it is decoded.

    >>> frames("clip.mp4", 16)  # doctest: +SKIP
    [Media(...), ...]
    """
    path = Path(path)
    try:
        with File.opened(path) as (file, stream):
            content_key = digest_of(stream)
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or error_message(error)
        raise MediaError(f"{path}: the video cannot be read: {words}") from error
    total, _, pixels = _count(file, str(path))
    chosen = indices(total, num_frames, strategy)
    video = _FrameCache(file, chosen, pixels)
    form = b"jpeg" if jpeg else b""
    return [
        Media(digest(f"{content_key} {n}".encode(), form), f"{path}, frame {n}", partial(load, n))
        for n in chosen
        for load in (video.jpeg if jpeg else video.frame,)
    ]


def strip(path: str | Path, count: int = 8, gap: int = 10) -> Media:
    """Return a video as one image: frames side by side, with black gaps.

    The input that t2v_metrics 3.0 gives to scorers of images, such as CLIP-FlanT5. Unlike there,
    frames are not re-encoded as JPEG, stand in order, and cover the whole video.

    Args:
        path: a video file.
        count: number of frames, at the starts of segments of equal length; all of a shorter video.
        gap: pixels between two frames.

    Raises:
        MissingPackageError, MediaError: as `frames`.

    >>> strip("clip.mp4").load()  # doctest: +SKIP
    <PIL.Image.Image ...>
    """
    video = frames(path, count, "start")
    key = digest(f"strip {gap} {' '.join(frame.key for frame in video)}".encode())
    load = partial(_side_by_side, video, gap)
    return Media(key, f"{path}, a strip of {len(video)} frames", load)


def _side_by_side(video: Sequence[Media], gap: int) -> Image.Image:
    with BUDGET.lease():
        images = [frame.load() for frame in video]
        width = sum(image.width for image in images) + gap * (len(images) - 1)
        canvas = Image.new("RGB", (width, max(image.height for image in images)))
        x = 0
        for image in images:
            canvas.paste(image, (x, 0))
            x += image.width + gap
        return canvas


def indices(total: int, num_frames: int, strategy: str = "uniform") -> list[int]:
    """Choose `num_frames` of `total` frames, or all that there are; return their indices in order.

    uniform: the first, the last and evenly spaced ones between, rounded down; a single one is the
        middle one. As `numpy.linspace`.
    repeated: the same, but a single one is the first, and of a video that has fewer frames, they
        are repeated in their places. As LanguageBind.
    nearest: as uniform, rounded to the nearest; a single one is the first. As qwen_vl_utils.
    middle: the middles of segments of equal length. As InternVL.
    middle-frame: the middle frames of segments that begin and end with a whole frame; of two, the
        earlier. As UMT and InternVideo2.
    centre: the frames at the centres of segments of equal length, repeated where there are fewer.
        As X-CLIP.
    start: the starts of segments of equal length. As Molmo 2.
    floor: the same, computed in floating point, which may miss a whole number by one frame. As
        VideoScore.
    steps: the same, with the length rounded down. As t2v_metrics for services.
    first: the first frames.

    Raises:
        InputError: no frame, or an unknown strategy.

    >>> indices(10, 4), indices(10, 4, "first"), indices(3, 4), indices(9, 1)
    ([0, 3, 6, 9], [0, 1, 2, 3], [0, 1, 2], [4])
    >>> indices(12, 4, "nearest"), indices(10, 4, "middle"), indices(10, 4, "start")
    ([0, 4, 7, 11], [1, 3, 5, 8], [0, 2, 5, 7])
    >>> indices(3, 4, "repeated"), indices(3, 4, "centre")
    ([0, 0, 1, 2], [0, 1, 1, 2])
    """
    if num_frames < 1 or strategy not in CHOICES:
        raise InputError(
            f"{num_frames} frames by {strategy!r}: use 1 or more, by "
            f"{' or '.join(map(repr, CHOICES))}"
        )
    if strategy == "repeated" and total > 0:
        return [int(n) for n in np.linspace(0, total - 1, num_frames, dtype=int)]
    if strategy == "centre" and total > 0:
        length = total / num_frames
        return [int(k * length + length / 2) for k in range(num_frames)]
    if strategy == "first" or total <= num_frames:
        return list(range(min(total, num_frames)))
    last = total - 1
    if strategy == "middle":
        segment = last / num_frames
        return [int(segment / 2 + np.round(segment * k)) for k in range(num_frames)]
    if strategy == "middle-frame":
        ends = np.linspace(0, total, num_frames + 1).astype(int).tolist()
        return [(start + end - 1) // 2 for start, end in pairwise(ends)]
    if strategy == "start":
        return [k * total // num_frames for k in range(num_frames)]
    if strategy == "floor":
        return [int(k * (total / num_frames)) for k in range(num_frames)]
    if strategy == "steps":
        return [k * (total // num_frames) for k in range(num_frames)]
    if strategy == "nearest":
        return [round(k * last / max(1, num_frames - 1)) for k in range(num_frames)]
    if num_frames == 1:
        return [last // 2]
    return [k * last // (num_frames - 1) for k in range(num_frames)]


class _FrameCache:
    """The chosen frames of one video. Each is handed out once; later it is decoded again.

    If not all frames fit into `CACHE_BYTES`, those from the first missing one on are decoded.
    """

    def __init__(self, file: File, chosen: Sequence[int], pixels: int) -> None:
        self.file, self.chosen = file, chosen
        self._lock = Lock()
        self.decoded: dict[int, Image.Image] = {}
        self.pixels = pixels
        self._error: MediaError | None = None
        self._bytes = 4 * pixels * len(chosen)

    def __reduce__(self) -> tuple[type[_FrameCache], tuple[File, Sequence[int], int]]:
        # Another process decodes the file itself.
        return _FrameCache, (self.file, self.chosen, self.pixels)

    def frame(self, n: int) -> Image.Image:
        with BUDGET.lease():
            # Reserve before taking the lock, so that a thread that has it never waits for memory.
            if n not in self.decoded and not self._error:
                BUDGET.reserve(min(CACHE_BYTES, self._bytes) + FRAME_BYTES * self.pixels)
            with self._lock:
                return self._frame(n)

    def _frame(self, n: int) -> Image.Image:
        if self._error:
            raise self._error
        decoded = self.decoded
        if n not in decoded:
            fits = self._bytes <= CACHE_BYTES
            chosen = self.chosen if fits else self.chosen[self.chosen.index(n) :]
            limit = None if fits else CACHE_BYTES
            try:
                decoded = _decode(self.file, str(self.file.path), chosen, _same, limit)
            except MediaError as error:
                self._error = error
                raise
            self.decoded = decoded
            self.pixels = decoded[n].width * decoded[n].height
            _remember(self)
        return decoded.pop(n)

    def size(self) -> int:
        """Return the bytes of the decoded frames, roughly: another thread may be taking one."""
        return 3 * len(self.decoded) * self.pixels

    def jpeg(self, n: int) -> Image.Image:
        stream = io.BytesIO()
        self.frame(n).save(stream, "JPEG")
        return open_image(stream.getvalue(), f"{self.file.path}, frame {n}")


_caches: deque[_FrameCache] = deque()
_caches_lock = Lock()


def _remember(video: _FrameCache) -> None:
    """Drop the frames of earlier videos where there are too many, so that memory is bounded.

    Threads that decode beside a model load the frames of a few videos in turn.
    """
    with _caches_lock:
        _caches.append(video)
        while len(_caches) > 1 and sum(cache.size() for cache in _caches) > CACHE_BYTES:
            _caches.popleft().decoded = {}
        while _caches and not _caches[0].decoded:
            _caches.popleft()


def _count(source: File | bytes, name: str) -> tuple[int, float, int]:
    """Return a video's number of frames, frames per second and pixels per frame, undecoded."""
    packets, total, end = 0, 0, 0.0
    with _opened(source, name) as (container, stream):
        width, height = stream.codec_context.width, stream.codec_context.height
        _check_frame(name, width, height, 0)
        for packet in container.demux():
            if packet.pts is not None and packet.size:
                last = (packet.pts + (packet.duration or 0)) * packet.time_base
                end = max(end, float(last))
            if packet.stream_index == stream.index and packet.size:
                packets, total = packets + 1, total + (not packet.is_discard)
        rate = float(stream.average_rate or stream.guessed_rate or 1)
        seconds = (container.duration or 0) / 1e6  # in millionths, as FFmpeg has it
        missing = seconds - (end - (container.start_time or 0) / 1e6)
    # An edit leaves out packets that a container still counts; a truncated file also ends early.
    few = packets < stream.frames and (not seconds or missing > 1.5 / rate)
    if few or (not stream.frames and missing > max(0.5, 0.05 * seconds)):
        raise MediaError(
            f"{name}: the video is cut: it has {packets} of {stream.frames or 'more'} frames; "
            "fetch it again"
        )
    if not total:
        raise MediaError(f"{name}: the video has no frames; fetch it again")
    return total, rate, width * height


def _same(frame: Image.Image) -> Image.Image:
    return frame


def _decode(
    source: File | bytes,
    name: str,
    chosen: Sequence[int],
    fit: Callable[[Image.Image], Image.Image] = _same,
    max_bytes: int | None = None,
    reserve: Callable[[int], None] = lambda _: None,
) -> dict[int, Image.Image]:
    """Decode the chosen frames, and fit each as soon as it is decoded.

    Args:
        source: a video file or its content.
        name: its name in messages.
        chosen: indices of the frames.
        fit: called with each frame; its result is kept.
        max_bytes: bytes of pixels after which decoding stops, with at least one frame.
        reserve: called with the bytes of each frame.
    """
    decoded: dict[int, Image.Image] = {}
    last, size, places = -1, 0, frozenset(chosen)
    with _opened(source, name) as (container, stream):
        for last, frame in enumerate(container.decode(stream)):
            if frame.is_corrupt:
                raise MediaError(f"{name}: frame {last} of the video is broken; fetch it again")
            _check_frame(name, frame.width, frame.height, size)
            if last in places:
                image = frame.to_image()
                upright = image.rotate(frame.rotation, expand=True) if frame.rotation else image
                fitted = decoded[last] = fit(upright)
                size += 4 * fitted.width * fitted.height
                reserve(4 * fitted.width * fitted.height)
            if len(decoded) == len(places) or (max_bytes is not None and size >= max_bytes):
                return decoded
    raise MediaError(f"{name}: only {last + 1} frames of the video can be decoded; fetch it again")


def _check_frame(name: str, width: int, height: int, decoded_bytes: int) -> None:
    """Refuse a video whose frames, with those decoded before, would fill the memory."""
    pixels, limit = width * height, Image.MAX_IMAGE_PIXELS
    what = f"a video of {width} x {height} pixels"
    if limit is not None and pixels > 2 * limit:  # as Pillow does for images
        raise MediaError(
            f"{name}: {what} exceeds the limit of {2 * limit} pixels per frame. If you trust the "
            "file, raise PIL.Image.MAX_IMAGE_PIXELS"
        )
    remedy = "take fewer frames (`frames=`) or make it smaller"
    check_size(name, decoded_bytes + FRAME_BYTES * pixels, what, remedy)


@contextmanager
def _opened(source: File | bytes, name: str) -> Iterator[tuple[Any, Any]]:
    """Open a container and its first video stream; exceptions inside become `MediaError`.

    So does a file that changed since its content was hashed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingPackageError(
            f"{name}: videos need the package 'av': pip install 't2v-eval[video]'"
        ) from error
    with decoding(name, "not a video that can be decoded", REMEDY), _stream(source, name) as file:
        try:
            with av.open(
                file, metadata_errors="replace", options={"format_whitelist": CONTAINERS}
            ) as container:
                if not container.streams.video:
                    types = " and ".join(sorted({s.type for s in container.streams})) or "nothing"
                    raise MediaError(
                        f"{name}: no video can be found in it, but {types}: pass a file with "
                        "pictures, or fetch it again"
                    )
                yield container, container.streams.video[0]
        except av.error.FFmpegError as error:
            raise MediaError(
                f"{name}: not a video that can be decoded: {error.strerror}; {REMEDY}"
            ) from error


@contextmanager
def _stream(source: File | bytes, name: str) -> Iterator[BinaryIO]:
    """Open the content, and check before and after that the file has not changed."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    source.check(name)
    with open_regular(source.path) as stream:
        source.check(name)
        yield stream
        source.check(name)
