"""What all scorers of videos share: which frames are read, how they are resized, and the texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, TypeVar, Unpack

from PIL import Image
from torch import Tensor
from typing_extensions import override

from t2v_eval.errors import InputError, MediaError
from t2v_eval.inputs.animation import animation
from t2v_eval.inputs.media import Media, Video
from t2v_eval.inputs.video import Clip, Sampling, clip, sampling_of
from t2v_eval.local.base import Failed, LocalScorer, Options
from t2v_eval.scoring.call_options import FrameReader

from .frames import RESIZES, clean_text, normalise, resize_square

State = TypeVar("State")
SETTINGS = ("frames", "resize", "clean_texts")


class VideoScorer(FrameReader, LocalScorer):
    """A scorer whose model reads the frames of a video together, or one picture.

    An image, and a video of which one frame is read, is a picture. Subclasses set `image_size`
    and, where they resize in another way, write `fit`.

    Args:
        convention: whose frames and texts: a name of `conventions`; by default the first.
        conventions: settings by name, from the card: `frames`, `resize` and `clean_texts`.
        frames: which frames of a video: a number, or arguments of `Sampling`.
        resize: how frames are resized, see `frames.resize_square`.
        clean_texts: whether texts are cleaned as by `frames.clean_text`.
        **options: options of `LocalScorer`.

    Attributes:
        image_size: side of the square that frames are resized to, in pixels.
        resizes: the ways to resize frames that `resize` may name; the first is the default.
        fixed_count: whether the model reads the same number of frames of every video.

    Raises:
        InputError: an unknown convention or value.

    >>> VideoScorer.__abstractmethods__ >= {"preprocess"}
    False
    """

    image_size: int
    resizes: ClassVar[Sequence[str]] = RESIZES
    fixed_count: ClassVar[bool] = True

    def __init__(
        self,
        *,
        convention: str | None = None,
        conventions: Mapping[str, Mapping[str, Any]] | None = None,
        frames: int | Mapping[str, Any] | None = None,
        resize: str | None = None,
        clean_texts: bool | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        chosen = {"frames": frames, "resize": resize, "clean_texts": clean_texts}
        settings = _settings(convention, conventions or {}, chosen, self.resizes)
        self.sampling = sampling_of(settings.get("frames", 8))
        if self.fixed_count and self.sampling.fps is not None:
            raise InputError(
                f"`frames={settings['frames']!r}`: {self.name!r} reads a fixed number of frames; "
                "use `count` instead of fps"
            )
        self.resize: str = settings.get("resize", self.resizes[0])
        self.clean_texts: bool = settings.get("clean_texts", False)
        self.identity_facts = {
            "frames": _described(self.sampling),
            "resize": self.resize,
            "clean_texts": str(self.clean_texts),
        }

    @property
    def num_frames(self) -> int:
        """The number of frames that the model reads of a video."""
        return self.sampling.count

    @property
    @override
    def frame_sampling(self) -> Sampling:
        return self.sampling

    @override
    def read_frames(self, sampling: Sampling) -> None:
        if self.fixed_count:
            option = f"fps={sampling.fps}" if sampling.fps else f"num_frames={sampling.count}"
            raise InputError(
                f"`{option}`: {self.name!r} reads {self.num_frames} frames of every video, as it "
                "was loaded"
            )
        self.sampling = sampling
        self.identity_facts = {**self.identity_facts, "frames": _described(sampling)}

    @override
    def state_key(self, media: Media) -> str:
        return f"{media.key} {self.sampling}"

    def fit(self, frame: Image.Image) -> Image.Image:
        """Resize an RGB frame to what the model reads, in 256 levels."""
        return resize_square(frame, self.image_size, self.resize)

    @override
    def load(self, media: Media) -> Image.Image | Clip:
        video = media if isinstance(media, Video) else animation(media)
        if video is None:
            return self.load_image(media)
        chosen = clip(video, self.sampling, self.load_image, lambda frame, _: self._fit_rgb(frame))
        if self.fixed_count and len(chosen.frames) not in (1, self.num_frames):
            raise MediaError(
                f"{media.name}: has {chosen.total} frames, and the model reads {self.num_frames}; "
                f"`frames={{'count': {self.num_frames}, 'fill': 2}}` repeats the last frame"
            )
        return chosen

    @override
    def preprocess(self, image: Image.Image | Clip) -> Tensor:
        """Return the frames (T, 3, H, W) of a video, or an image as one."""
        frames = image.frames if isinstance(image, Clip) else [self._fit_rgb(image)]
        return normalise(frames)

    def _fit_rgb(self, frame: Image.Image) -> Image.Image:
        return self.fit(frame.convert("RGB"))

    def as_read(self, text: str) -> str:
        """Return a text as the model reads it: cleaned, where the convention does so."""
        return clean_text(text) if self.clean_texts else text

    @override
    def _encode_in_batches(
        self, media: Sequence[Media], encode: Callable[[Sequence[Any]], Iterable[State]]
    ) -> Iterator[tuple[dict[int, State], Failed]]:
        return super()._encode_in_batches(media, lambda batch: by_shape(batch, encode))


def _described(sampling: Sampling) -> str:
    """Return what decides the frames, without fields that are at their defaults.

    So that a field that `Sampling` gets one day changes no id.
    """
    fields = asdict(sampling)
    defaults = asdict(Sampling(sampling.count))
    return repr(
        {key: value for key, value in fields.items() if value != defaults[key]}
        | {"count": sampling.count}
    )


def same_shape(tensors: Sequence[Tensor]) -> list[list[int]]:
    """Return the numbers of tensors that can be stacked, a list for each shape.

    >>> import torch
    >>> same_shape([torch.zeros(2), torch.zeros(1), torch.ones(2)])
    [[0, 2], [1]]
    """
    numbers: dict[tuple[int, ...], list[int]] = {}
    for n, tensor in enumerate(tensors):
        numbers.setdefault(tuple(tensor.shape), []).append(n)
    return list(numbers.values())


def by_shape(
    inputs: Sequence[Tensor], encode: Callable[[Sequence[Tensor]], Iterable[State]]
) -> list[State]:
    """Encode inputs of equal shape together: pictures and videos do not stack.

    Args:
        inputs: B tensors.
        encode: returns a state for each of several tensors of one shape.

    Returns:
        The B states in the order of `inputs`.

    >>> import torch
    >>> rows = [torch.zeros(2), torch.zeros(1), torch.ones(2)]
    >>> by_shape(rows, lambda part: torch.stack(list(part)).sum(1))
    [tensor(0.), tensor(0.), tensor(2.)]
    """
    states: dict[int, State] = {}
    for numbers in same_shape(inputs):
        states.update(zip(numbers, encode([inputs[n] for n in numbers]), strict=True))
    return [states[n] for n in range(len(inputs))]


def _settings(
    convention: str | None,
    conventions: Mapping[str, Mapping[str, Any]],
    chosen: Mapping[str, Any],
    resizes: Sequence[str],
) -> dict[str, Any]:
    """Return the settings of a convention, replaced by those that the caller chose."""
    for key, table in conventions.items():
        if not isinstance(table, Mapping) or table.keys() - set(SETTINGS):
            raise InputError(
                f"`conventions={conventions!r}`: {key!r} is a table of {', '.join(SETTINGS)}"
            )
    name = next(iter(conventions), None) if convention is None else convention
    if name is not None and name not in conventions:
        names = " or ".join(map(repr, conventions)) or "none: the model has no named conventions"
        raise InputError(f"`convention={convention!r}`: use {names}")
    settings = dict(conventions[name]) if name is not None else {}
    settings |= {key: value for key, value in chosen.items() if value is not None}
    if settings.get("resize", resizes[0]) not in resizes:
        options = " or ".join(map(repr, resizes))
        raise InputError(f"`resize={settings['resize']!r}`: use {options}")
    if type(settings.get("clean_texts", False)) is not bool:
        raise InputError(f"`clean_texts={settings['clean_texts']!r}`: use True or False")
    return settings
